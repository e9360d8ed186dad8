/** All turns of a session, with what rewinds left behind: each can be gone to, and branched from; and named points. */

import { caretRightIcon, duplicateIcon, redoIcon, undoIcon } from '@jupyterlab/ui-components';
import { useEffect, useState } from 'react';

import type { NamedPoint, Turn } from '../api/client';
import { flagIcon } from '../icons';
import { graph, type Place } from '../model/history';
import type { SessionModel } from '../model/session';
import { IconButton, Note } from './parts';
import { useServices, useSignal } from './services';
import { ago, seconds } from './words';

/** Px between two lanes, and from a turn's upper edge to its dot. */
const LANE = 14;
const DOT = 16;

export function History({ session }: { session: SessionModel }): JSX.Element {
  const { trans } = useServices();
  useSignal(session.changed);
  const [turns, setTurns] = useState<Turn[] | null>(null);
  const [points, setPoints] = useState<NamedPoint[]>([]);
  const [problem, setProblem] = useState('');
  useEffect(() => {
    let last = 0;
    const load = () => {
      const asked = (last += 1); // An answer that a later one has overtaken is old.
      return Promise.all([session.api.turns(session.id), session.api.points(session.id)]).then(
        ([found, named]) => asked === last && (setTurns(found), setPoints(named), setProblem('')),
        error => asked === last && setProblem(error.message)
      );
    };
    const hear = (_: unknown, told: { event: string }) => {
      if (told.event.startsWith('turn.') || ['head.moved', 'checkpoint.created'].includes(told.event)) {
        void load();
      }
    };
    void load();
    session.told.connect(hear);
    return () => {
      last += 1;
      session.told.disconnect(hear);
    };
  }, [session]);
  const head = session.row?.head_turn ?? 0;
  const places = graph(
    (turns ?? []).filter(turn => turn.status !== 'queued'),
    head
  );
  const lanes = 1 + Math.max(0, ...places.map(place => Math.max(place.lane, ...place.passing, ...place.joins)));
  return (
    <div className="jp-Cellwright-view" role="tabpanel" aria-label={trans.__('History')}>
      {problem && (
        <Note level="error" alert>
          {problem}
        </Note>
      )}
      {turns?.length === 0 && (
        <div className="jp-Cellwright-empty">{trans.__('What is asked and done in this session is listed here.')}</div>
      )}
      <ol className="jp-Cellwright-history" aria-label={trans.__('Turns, the newest first')}>
        {places.map(place => (
          <Row
            key={place.turn.id}
            place={place}
            lanes={lanes}
            session={session}
            head={head}
            points={points.filter(point => point.turn === place.turn.n)}
          />
        ))}
      </ol>
    </div>
  );
}

function Row(props: {
  place: Place;
  lanes: number;
  session: SessionModel;
  head: number;
  points: NamedPoint[];
}): JSX.Element {
  const { place, lanes, session, head, points } = props;
  const { turn, leads } = place;
  const { trans, rewind } = useServices();
  const [open, setOpen] = useState(false);
  const here = turn.n === head;
  const free = session.writable && session.fold.open.length === 0;
  const words: Record<string, string> = {
    running: trans.__('at work'),
    failed: trans.__('failed'),
    stopped: trans.__('stopped'),
    interrupted: trans.__('interrupted')
  };
  const took = turn.started_at && turn.ended_at ? Date.parse(turn.ended_at) - Date.parse(turn.started_at) : null;
  const about = [
    here ? trans.__('you are here') : leads ? '' : trans.__('left behind'),
    turn.kind === 'execute' ? trans.__('a cell') : '',
    words[turn.status] ?? '',
    ago(turn.created_at),
    took === null ? '' : seconds(took)
  ].filter(Boolean);
  const first = turn.query.split('\n').find(line => line.trim()) ?? '';
  return (
    <li data-turn={turn.n} data-left={!leads || undefined} data-current={here || undefined}>
      <Lines place={place} lanes={lanes} here={here} />
      <div className="jp-Cellwright-history-row" style={{ marginLeft: lanes * LANE }}>
        <button
          className="jp-Cellwright-session"
          aria-expanded={open}
          aria-current={here || undefined}
          onClick={() => setOpen(!open)}
        >
          <span className="jp-Cellwright-session-title">
            <span className="jp-Cellwright-history-n">{turn.n}</span>
            {turn.kind === 'execute' ? <code>{first}</code> : first}
          </span>
          <span className="jp-Cellwright-session-about">
            {about.join(' · ')}
            <caretRightIcon.react tag="span" width="12px" height="12px" />
          </span>
        </button>
        {free && (
          <span className="jp-Cellwright-tools">
            {here && (
              <IconButton
                icon={flagIcon}
                label={trans.__('Name this point')}
                onClick={() => void rewind.namePoint(session)}
              />
            )}
            {!here && (
              <IconButton
                icon={leads ? undoIcon : redoIcon}
                label={leads ? trans.__('Rewind to turn %1', turn.n) : trans.__('Come back to turn %1', turn.n)}
                onClick={() => void rewind.to(session, turn, leads)}
              />
            )}
            <IconButton
              icon={duplicateIcon}
              label={trans.__('Branch from turn %1', turn.n)}
              onClick={() => void rewind.branch(session, turn)}
            />
          </span>
        )}
        {points.length > 0 && (
          <ul className="jp-Cellwright-points" aria-label={trans.__('Named points')}>
            {points.map(point => (
              <li key={point.id}>
                <button
                  disabled={!free}
                  title={trans.__('Go to “%1”', point.label)}
                  onClick={() => void rewind.toPoint(session, point)}
                >
                  <flagIcon.react tag="span" width="12px" height="12px" />
                  {point.label}
                </button>
              </li>
            ))}
          </ul>
        )}
        {open && (
          <div className="jp-Cellwright-history-more">
            <p>{turn.query}</p>
            {turn.answer && <p>{turn.answer}</p>}
            {turn.cause && <p>{turn.cause}</p>}
          </div>
        )}
      </div>
    </li>
  );
}

function Lines({ place, lanes, here }: { place: Place; lanes: number; here: boolean }): JSX.Element {
  const x = (lane: number) => LANE * (lane + 0.5);
  const at = x(place.lane);
  const line = (lane: number, from: string | number, to: string | number) => (
    <line key={`${lane}-${from}`} data-lane={lane} x1={x(lane)} x2={x(lane)} y1={from} y2={to} />
  );
  return (
    <svg className="jp-Cellwright-lines" width={lanes * LANE} aria-hidden="true">
      {place.passing.map(lane => line(lane, 0, '100%'))}
      {place.above && line(place.lane, 0, DOT)}
      {place.below && line(place.lane, DOT, '100%')}
      {place.joins.map(lane => (
        <path key={lane} data-lane={lane} d={`M ${x(lane)} 0 Q ${x(lane)} ${DOT} ${at} ${DOT}`} />
      ))}
      <circle cx={at} cy={DOT} r={here ? 5 : 4} />
    </svg>
  );
}
