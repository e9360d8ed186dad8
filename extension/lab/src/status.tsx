/** The status bar's word on the session that the panel shows. */

import { ReactWidget } from '@jupyterlab/apputils';
import { TextItem } from '@jupyterlab/statusbar';
import type { TranslationBundle } from '@jupyterlab/translation';

import { useSignal } from './components/services';
import { cellwrightIcon } from './icons';
import type { Sidebar } from './sidebar';

export class StatusItem extends ReactWidget {
  constructor(
    private readonly sidebar: Sidebar,
    private readonly trans: TranslationBundle
  ) {
    super();
    this.addClass('jp-mod-highlighted');
  }

  render(): JSX.Element {
    return <Status sidebar={this.sidebar} trans={this.trans} />;
  }
}

function Status({ sidebar, trans }: { sidebar: Sidebar; trans: TranslationBundle }): JSX.Element | null {
  useSignal(sidebar.changed);
  const session = sidebar.panel?.session;
  useSignal(session?.changed);
  if (!session) {
    return null;
  }
  const waits = session.turns.some(
    turn => turn.status === 'running' && turn.steps.some(step => step.kind === 'approval' && step.decision === null)
  );
  const words = waits ? trans.__('waits for you') : session.fold.running ? trans.__('at work') : trans.__('ready');
  return (
    <button className="jp-Cellwright-link" title={session.title} onClick={() => void sidebar.reveal()}>
      <cellwrightIcon.react tag="span" width="14px" height="14px" /> <TextItem source={`Cellwright: ${words}`} />
    </button>
  );
}
