/** The panel's head: which session this is, how it is, and the ways out of it. */

import { Menu } from '@lumino/widgets';
import { Button, addIcon, caretDownIcon, listIcon, notebookIcon } from '@jupyterlab/ui-components';

import type { SessionModel } from '../model/session';
import { IconButton, Note } from './parts';
import { useServices, useSignal } from './services';
import { money, tokens } from './words';

export type View = 'sessions' | 'chat' | 'variables' | 'artifacts' | 'history';

export interface HeaderProps {
  session: SessionModel | null;
  view: View;
  show: (view: View) => void;
  create: () => void;
  menu: () => Menu;
}

export function Header({ session, view, show, create, menu }: HeaderProps): JSX.Element {
  const { trans, openNotebook } = useServices();
  useSignal(session?.changed);
  const tabs: [View, string][] = [
    ['chat', trans.__('Chat')],
    ['variables', trans.__('Variables')],
    ['artifacts', trans.__('Artifacts')],
    ['history', trans.__('History')]
  ];
  return (
    <div className="jp-Cellwright-header">
      <div className="jp-Cellwright-title">
        {session && (
          <IconButton
            icon={listIcon}
            label={view === 'sessions' ? trans.__('Back to the chat') : trans.__('All sessions')}
            onClick={() => show(view === 'sessions' ? 'chat' : 'sessions')}
          />
        )}
        {session && view !== 'sessions' ? (
          <button
            className="jp-Cellwright-name"
            aria-haspopup="menu"
            title={trans.__('What can be done with this session')}
            onClick={event => {
              const at = event.currentTarget.getBoundingClientRect();
              menu().open(at.left, at.bottom);
            }}
          >
            <span>{session.title}</span>
            <caretDownIcon.react tag="span" width="14px" height="14px" />
          </button>
        ) : (
          <span className="jp-Cellwright-name">{trans.__('Sessions')}</span>
        )}
        <IconButton icon={addIcon} label={trans.__('New chat')} onClick={create} />
        {session && (
          <IconButton
            icon={notebookIcon}
            label={trans.__('Open notebook')}
            onClick={() => void openNotebook(session)}
          />
        )}
      </div>
      {session && view !== 'sessions' && (
        <>
          <Facts session={session} />
          <div className="jp-Cellwright-tabs" role="tablist" aria-label={trans.__('Views of the session')}>
            {tabs.map(([name, label], i) => (
              <Button
                key={name}
                role="tab"
                minimal
                className="jp-Cellwright-tab"
                aria-selected={view === name}
                tabIndex={view === name ? 0 : -1}
                onClick={() => show(name)}
                onKeyDown={event => {
                  const step = event.key === 'ArrowRight' ? 1 : event.key === 'ArrowLeft' ? -1 : 0;
                  if (step) {
                    const next = (i + step + tabs.length) % tabs.length;
                    show(tabs[next]![0]);
                    (event.currentTarget.parentElement?.children[next] as HTMLElement | undefined)?.focus();
                  }
                }}
              >
                {label}
              </Button>
            ))}
          </div>
        </>
      )}
    </div>
  );
}

/** What can be done here, while nothing was. */
export function Welcome({ session }: { session: SessionModel }): JSX.Element | null {
  const { trans } = useServices();
  useSignal(session.changed);
  if (session.turns.length + session.pending.length > 0) {
    return null;
  }
  return (
    <div className="jp-Cellwright-welcome">
      <p>{trans.__('Ask about your data. The agent works in a notebook of its own, on a kernel that stays alive.')}</p>
      <p>
        {trans.__('Drop a file here to bring it along.')} <kbd>@</kbd> {trans.__('names files, variables and cells,')}{' '}
        <kbd>/</kbd> {trans.__('lists commands.')}
      </p>
      <Suggestion session={session} />
    </div>
  );
}

/** At the panel's foot: what whoever made the session offers (`metadata.suggestions`), or that nothing can be asked. */
export function Suggestions({ session }: { session: SessionModel }): JSX.Element | null {
  const { trans } = useServices();
  useSignal(session.changed);
  if (!session.writable) {
    return <Note level="info">{trans.__('You may look at this session, but not ask in it.')}</Note>;
  }
  return session.turns.length === 0 ? null : <Suggestion session={session} />;
}

function Suggestion({ session }: { session: SessionModel }): JSX.Element | null {
  const { trans } = useServices();
  const offered = session.row?.metadata.suggestions;
  if (!Array.isArray(offered) || !session.writable || session.fold.open.length > 0 || session.pending.length > 0) {
    return null;
  }
  const asked = new Set(session.turns.map(turn => turn.query));
  const next = offered.find(question => typeof question === 'string' && !asked.has(question)) as string | undefined;
  return next === undefined ? null : (
    <button className="jp-Cellwright-suggestion" onClick={() => void session.ask(next)}>
      <span>{trans.__('Ask')}</span> {next}
    </button>
  );
}

function Facts({ session }: { session: SessionModel }): JSX.Element {
  const { trans } = useServices();
  const { row, fold, link } = session;
  const model = fold.turns.filter(turn => turn.model).at(-1)?.model ?? row?.model ?? '';
  const used = row?.usage ? row.usage.prompt_tokens + row.usage.completion_tokens : 0;
  const kernel = fold.running ? 'busy' : (fold.kernel?.status ?? row?.kernel_status ?? 'none');
  const words: Record<string, string> = {
    starting: trans.__('kernel starts'),
    idle: trans.__('kernel idle'),
    busy: trans.__('at work'),
    restarted: trans.__('kernel restarted'),
    restored: trans.__('kernel idle'),
    died: trans.__('kernel died'),
    hibernated: trans.__('kernel asleep'),
    none: trans.__('no kernel yet'),
    elsewhere: trans.__('kernel on another server')
  };
  const facts = [
    model.replace(/^.*\//, ''),
    used ? trans.__('%1 tokens', tokens(used)) : '',
    money(row?.usage?.cost ?? 0)
  ].filter(Boolean);
  return (
    <div className="jp-Cellwright-about">
      <span className="jp-Cellwright-kernel" data-status={kernel}>
        <span className="jp-Cellwright-lamp" aria-hidden="true" />
        {link === 'lost' ? trans.__('connection lost, trying again') : (words[kernel] ?? kernel)}
      </span>
      <span title={model}>{facts.join(' · ')}</span>
    </div>
  );
}
