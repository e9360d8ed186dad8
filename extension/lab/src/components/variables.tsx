/** What the kernel holds, and what the last turn changed. */

import { caretRightIcon, refreshIcon } from '@jupyterlab/ui-components';
import { useEffect, useState } from 'react';

import type { Variable } from '../api/client';
import type { SessionModel } from '../model/session';
import { IconButton, Note } from './parts';
import { useServices, useSignal } from './services';
import { bytes, shape } from './words';

export function Variables({ session }: { session: SessionModel }): JSX.Element {
  const { trans } = useServices();
  useSignal(session.changed);
  const [problem, setProblem] = useState('');
  const load = () => {
    session.loadVariables().then(
      () => setProblem(''),
      error => setProblem(error.message)
    );
  };
  useEffect(load, [session]);
  const held = [...(session.fold.variables?.values() ?? [])].sort((a, b) => a.name.localeCompare(b.name));
  return (
    <div className="jp-Cellwright-view" role="tabpanel" aria-label={trans.__('Variables')}>
      {problem && (
        <Note level="error" alert>
          {problem}
        </Note>
      )}
      {held.length > 0 && (
        <div className="jp-Cellwright-facts">
          <span>{trans._n('%1 variable', '%1 variables', held.length)}</span>
          <span className="jp-Cellwright-tools">
            <IconButton icon={refreshIcon} label={trans.__('Look again')} onClick={load} />
          </span>
        </div>
      )}
      {held.length === 0 && !problem ? (
        <div className="jp-Cellwright-empty">
          {trans.__('What the agent and you define in this session is listed here.')}
        </div>
      ) : (
        <table className="jp-Cellwright-variables">
          <thead>
            <tr>
              <th scope="col">{trans.__('Name')}</th>
              <th scope="col">{trans.__('Type')}</th>
              <th scope="col">{trans.__('Shape')}</th>
              <th scope="col">{trans.__('Size')}</th>
            </tr>
          </thead>
          <tbody>
            {held.map(variable => (
              <Row
                key={variable.name}
                variable={variable}
                session={session}
                changed={session.fold.changed.has(variable.name)}
              />
            ))}
          </tbody>
        </table>
      )}
    </div>
  );
}

function Row({
  variable,
  session,
  changed
}: {
  variable: Variable;
  session: SessionModel;
  changed: boolean;
}): JSX.Element {
  const { trans } = useServices();
  const [open, setOpen] = useState(false);
  const [detail, setDetail] = useState<Variable | null>(null);
  const [problem, setProblem] = useState('');
  useEffect(() => {
    if (open) {
      session.api.variable(session.id, variable.name).then(setDetail, error => setProblem(error.message));
    }
  }, [open, variable, session]);
  return (
    <>
      <tr data-name={variable.name} data-changed={changed || undefined}>
        <th scope="row">
          <button className="jp-Cellwright-fold" aria-expanded={open} onClick={() => setOpen(!open)}>
            <caretRightIcon.react tag="span" width="14px" height="14px" className={open ? 'jp-mod-open' : ''} />
            {variable.name}
            {changed && (
              <span className="jp-Cellwright-dot" title={trans.__('Changed in the last turn')}>
                <span className="jp-Cellwright-unseen">{trans.__('changed in the last turn')}</span>
              </span>
            )}
          </button>
        </th>
        <td title={variable.type}>{variable.type.replace(/^.*\./, '')}</td>
        <td>{shape(variable.shape)}</td>
        <td>{bytes(variable.size_bytes)}</td>
      </tr>
      {open && (
        <tr className="jp-Cellwright-detail">
          <td colSpan={4}>
            {problem && <Note level="error">{problem}</Note>}
            <Detail variable={detail ?? variable} />
          </td>
        </tr>
      )}
    </>
  );
}

function Detail({ variable }: { variable: Variable }): JSX.Element {
  const { trans } = useServices();
  if (variable.thumbnail) {
    return <img src={variable.thumbnail} alt={variable.name} />;
  }
  if (variable.columns && variable.rows) {
    return (
      <div className="jp-Cellwright-table" tabIndex={0}>
        <table>
          <thead>
            <tr>
              {variable.columns.map(column => (
                <th key={column.name} title={column.dtype}>
                  {column.name}
                  <small>
                    {column.dtype}
                    {column.nulls ? ` · ${trans.__('%1 empty', column.nulls)}` : ''}
                  </small>
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {variable.rows.map((row, i) => (
              <tr key={i}>
                {row.map((cell, j) => (
                  <td key={j}>{String(cell ?? '')}</td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    );
  }
  return (
    <>
      {variable.summary && (
        <div>
          {Object.entries(variable.summary)
            .map(([name, value]) => `${name} ${Number(value.toPrecision(4))}`)
            .join(' · ')}
        </div>
      )}
      <pre>{variable.preview}</pre>
    </>
  );
}
