/** What a rewind does, and the way back from one. */

import { redoIcon } from '@jupyterlab/ui-components';

import type { Rewound, VariablesBack } from '../api/client';
import type { SessionModel } from '../model/session';
import { IconButton } from './parts';
import { useServices, useSignal } from './services';
import { seconds } from './words';

const SHOWN = 8;

function few(names: string[]): string {
  return names.slice(0, SHOWN).join(', ') + (names.length > SHOWN ? ` +${names.length - SHOWN}` : '');
}

/** In rows: turns, cells, files, variables; then what stays as it is, and why. */
export function RewoundView({ rewound, foretold }: { rewound: Rewound; foretold?: boolean }): JSX.Element {
  const { trans } = useServices();
  const { cells, files, variables } = rewound;
  const means: Record<string, string> = {
    fork: trans.__('from a live copy of the kernel'),
    stored: trans.__('from what is stored'),
    rerun: trans.__('by running cells again')
  };
  const how = variables.means
    .map(name => means[name])
    .filter(Boolean)
    .join(', ');
  const changes = [
    [cells.added, trans.__('%1 back', cells.added.length)],
    [cells.changed, trans.__('%1 as they were', cells.changed.length)],
    [cells.deleted, trans.__('%1 gone', cells.deleted.length)]
  ] as const;
  const rows: [string, string][] = [
    [trans.__('Turns left behind'), rewound.left_turns.join(', ')],
    [trans.__('Turns back again'), rewound.back_turns.join(', ')],
    [
      trans.__('Cells'),
      changes
        .filter(([ids]) => ids.length > 0)
        .map(([, words]) => words)
        .join(', ')
    ],
    [trans.__('Files put back'), few(files.written)],
    [trans.__('Files removed'), few(files.removed)],
    [trans.__('Variables'), how + (variables.seconds && !foretold ? ` · ${seconds(variables.seconds * 1000)}` : '')]
  ];
  const again = variables.ran_again.filter(ran => ran.verdict !== 'skipped');
  const took = seconds(again.reduce((sum, ran) => sum + ran.duration_ms, 0));
  const warnings = [
    ...variables.missing.map(lost => `${lost.name}: ${lost.reason}`),
    ...files.left.map(left => `${left.name}: ${left.reason}`),
    ...rewound.not_rewound
  ];
  return (
    <>
      <dl>
        {rows
          .filter(([, words]) => words)
          .map(([name, words]) => (
            <div key={name}>
              <dt>{name}</dt>
              <dd>{words}</dd>
            </div>
          ))}
      </dl>
      {again.length > 0 && (
        <details>
          <summary>
            {trans._n('%1 cell runs again, which took %2', '%1 cells run again, which took %2', again.length, took)}
          </summary>
          <pre>{again.map(ran => `${firstLine(ran)}  · ${seconds(ran.duration_ms)}`).join('\n')}</pre>
        </details>
      )}
      {warnings.length > 0 && (
        <ul className="jp-Cellwright-warnings" aria-label={trans.__('What stays as it is')}>
          {warnings.map((words, i) => (
            <li key={i}>{words}</li>
          ))}
        </ul>
      )}
      {foretold && (
        <p>{trans.__('Nothing is deleted: what is left behind stays in the log, and you can come back to it.')}</p>
      )}
    </>
  );
}

/** Cells that are not run again unasked, each with the reason. */
export function RiskyCells({ cells }: { cells: VariablesBack['ran_again'] }): JSX.Element {
  const { trans } = useServices();
  return (
    <>
      <ul className="jp-Cellwright-warnings">
        {cells.map(cell => (
          <li key={`${cell.turn}-${cell.cell_id}`}>
            {trans.__('Turn %1', cell.turn)}: {cell.reason}
            <pre>{cell.source}</pre>
          </li>
        ))}
      </ul>
      <p>{trans.__('Left out, what they made stays missing; run again, they do again what they did outside.')}</p>
    </>
  );
}

function firstLine(cell: { source: string }): string {
  return cell.source.trim().split('\n')[0] ?? '';
}

/** At the panel's foot, after a rewind: where the session is, and the way back. */
export function WayBack({ session }: { session: SessionModel }): JSX.Element | null {
  useSignal(session.changed);
  const { trans, rewind } = useServices();
  const row = session.row;
  if (session.moving) {
    return (
      <div className="jp-Cellwright-wayback" role="status">
        <span>{session.moving}</span>
      </div>
    );
  }
  if (!row?.can_redo || !session.writable) {
    return null;
  }
  return (
    <div className="jp-Cellwright-wayback" role="status">
      <span>
        {row.head_turn > 0
          ? trans.__('You went back to turn %1.', row.head_turn)
          : trans.__('You went back to the beginning.')}
      </span>
      <IconButton icon={redoIcon} label={trans.__('Redo')} onClick={() => void rewind.redo(session)} text />
    </div>
  );
}
