/** The list of sessions: find, open, rename, delete. */

import { Dialog, showDialog } from '@jupyterlab/apputils';
import { addIcon, deleteIcon, editIcon } from '@jupyterlab/ui-components';
import { useEffect, useRef, useState } from 'react';

import type { SessionRow } from '../api/client';
import { tree, type SessionList } from '../model/sessions';
import { IconButton, Note } from './parts';
import { useServices, useSignal } from './services';
import { ago } from './words';

export interface SessionsProps {
  list: SessionList;
  current: string | null;
  open: (id: string) => void;
  create: () => void;
}

export function Sessions({ list, current, open, create }: SessionsProps): JSX.Element {
  const { trans } = useServices();
  useSignal(list.changed);
  const problem = list.problem ?? list.away;
  const search = useRef<HTMLInputElement>(null);
  useEffect(() => {
    search.current?.focus();
  }, [list]);
  return (
    <div className="jp-Cellwright-view jp-Cellwright-sessions">
      <div className="jp-Cellwright-search">
        <input
          ref={search}
          type="search"
          className="jp-mod-styled"
          placeholder={trans.__('Search titles and messages')}
          aria-label={trans.__('Search sessions')}
          defaultValue={list.search}
          onChange={event => list.find(event.target.value)}
          onKeyDown={event => event.stopPropagation()}
        />
        <IconButton icon={addIcon} label={trans.__('New chat')} onClick={create} text />
      </div>
      {problem && (
        <Note level="error" alert>
          {problem.message}
        </Note>
      )}
      <ul aria-label={trans.__('Sessions')}>
        {tree(list.rows).map(({ row, depth }) => (
          <Row key={row.id} row={row} depth={depth} list={list} current={row.id === current} open={open} />
        ))}
      </ul>
      {list.loaded && list.rows.length === 0 && (
        <div className="jp-Cellwright-empty">
          {list.search
            ? trans.__('Nothing was found.')
            : trans.__('No conversations yet. Begin one: ask about a file of yours.')}
        </div>
      )}
    </div>
  );
}

function Row({
  row,
  depth,
  list,
  current,
  open
}: {
  row: SessionRow;
  depth: number;
  list: SessionList;
  current: boolean;
  open: (id: string) => void;
}): JSX.Element {
  const { trans } = useServices();
  const [renaming, setRenaming] = useState(false);
  const rename = (title: string) => {
    setRenaming(false);
    if (title.trim() && title !== row.title) {
      void list.rename(row, title.trim());
    }
  };
  const remove = async () => {
    const answer = await showDialog({
      title: trans.__('Delete “%1”?', row.title),
      body: trans.__('The conversation, its variables and its artifacts go for good. The files in its folder stay.'),
      buttons: [Dialog.cancelButton({ label: trans.__('Cancel') }), Dialog.warnButton({ label: trans.__('Delete') })]
    });
    if (answer.button.accept) {
      await list.delete(row);
    }
  };
  const state =
    row.kernel_status === 'busy' ? trans.__('at work') : row.status === 'hibernated' ? trans.__('asleep') : '';
  return (
    <li
      data-current={current || undefined}
      data-session={row.id}
      data-depth={depth || undefined}
      style={{ paddingLeft: `${Math.min(depth, 6)}em` }}
    >
      {renaming ? (
        <input
          className="jp-mod-styled"
          aria-label={trans.__('New title')}
          defaultValue={row.title}
          autoFocus
          onBlur={event => rename(event.target.value)}
          onKeyDown={event => {
            event.stopPropagation();
            if (event.key === 'Enter') {
              rename(event.currentTarget.value);
            } else if (event.key === 'Escape') {
              setRenaming(false);
            }
          }}
        />
      ) : (
        <button className="jp-Cellwright-session" aria-current={current || undefined} onClick={() => open(row.id)}>
          <span className="jp-Cellwright-session-title">
            {row.title}
            {row.unread > 0 && (
              <span className="jp-Cellwright-badge" title={trans.__('Answers that you have not seen')}>
                {row.unread}
                <span className="jp-Cellwright-unseen"> {trans.__('unread')}</span>
              </span>
            )}
          </span>
          <span className="jp-Cellwright-session-about">
            {[
              row.parent ? trans.__('from turn %1', row.parent.turn) : '',
              ago(row.last_activity),
              state,
              row.access !== 'own' ? trans.__('shared') : ''
            ]
              .filter(Boolean)
              .join(' · ')}
          </span>
          <span className="jp-Cellwright-session-preview">{row.last_message_preview}</span>
        </button>
      )}
      {row.access === 'own' && !renaming && (
        <span className="jp-Cellwright-tools">
          <IconButton icon={editIcon} label={trans.__('Rename %1', row.title)} onClick={() => setRenaming(true)} />
          <IconButton icon={deleteIcon} label={trans.__('Delete %1', row.title)} onClick={() => void remove()} />
        </span>
      )}
    </li>
  );
}
