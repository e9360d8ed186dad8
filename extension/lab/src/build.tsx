/** Makes the panel of what JupyterLab offers: the part that is loaded late. */

import { ActiveCellManager } from '@jupyter/chat';
import { Notification } from '@jupyterlab/apputils';
import { NotebookActions } from '@jupyterlab/notebook';
import { Menu } from '@lumino/widgets';
import type { JupyterFrontEnd } from '@jupyterlab/application';

import { Api, Problem } from './api/client';
import type { Services } from './components/services';
import { Commands, EXPORTS } from './commands';
import { CellwrightPanel } from './panel';
import { rewinding } from './rewind';
import type { Sidebar } from './sidebar';
import { VERSION } from './version';

const STATE = 'cellwright:panel';

export async function build(sidebar: Sidebar): Promise<CellwrightPanel> {
  const { app, rendermime, documents, notebooks, themes, state, trans } = sidebar.options;
  const api = new Api(app.serviceManager.serverSettings);
  await check(api, sidebar);
  const services: Services = {
    rendermime,
    trans,
    openNotebook: (session, cell) => panel.openNotebook(session, cell),
    rewind: rewinding({
      services: () => services,
      trans,
      open: session => panel.open(session),
      write: query => panel.write(query),
      unwrite: () => panel.unwrite()
    }),
    insertCode: async source => {
      const shown = notebooks?.currentWidget;
      await shown?.context.ready;
      if (shown?.content.activeCell) {
        NotebookActions.insertBelow(shown.content);
        shown.content.activeCell.model.sharedModel.setSource(source);
      } else {
        Notification.info(trans.__('Open a notebook first: the code goes below its active cell.'), { autoClose: 5000 });
      }
    }
  };
  const panel: CellwrightPanel = new CellwrightPanel({
    api,
    services,
    themes,
    documents,
    notebooks,
    cells: notebooks ? new ActiveCellManager({ tracker: notebooks, shell: app.shell }) : null,
    user: app.serviceManager.user.identity?.username ?? '',
    follow: tracker => sidebar.follow(tracker),
    settings: sidebar.settings,
    menu: () => menu(app)
  });
  panel.shownChanged.connect(() => void state?.save(STATE, { session: panel.session?.id ?? null, view: panel.view }));
  const held = (await state?.fetch(STATE)) as { session?: string; view?: 'chat' } | undefined;
  await panel.restore(sidebar.asked ?? held?.session ?? null, held?.view ?? 'chat');
  return panel;
}

/** Says what is wrong where the server has no Cellwright, another one, or cannot run it. */
async function check(api: Api, sidebar: Sidebar): Promise<void> {
  const { trans } = sidebar.options;
  try {
    const { version } = await api.health();
    if (version !== VERSION) {
      Notification.warning(
        trans.__(
          'This page has Cellwright %1, the server has %2: restart the server, then reload the page.',
          VERSION,
          version
        ),
        { autoClose: false }
      );
    }
  } catch (error) {
    if (error instanceof Problem && error.status === 404) {
      throw new Error(
        trans.__(
          'This Jupyter server does not run Cellwright. Install it there (pip install cellwright) and restart the server.'
        ),
        { cause: error }
      );
    }
    if (error instanceof Problem && error.status !== 503) {
      throw error;
    }
    throw new Error(trans.__('Cellwright does not run: %1', (error as Error).message), { cause: error });
  }
}

/** What can be done with the session that is shown. */
function menu({ commands }: JupyterFrontEnd): Menu {
  const made = new Menu({ commands });
  made.addClass('jp-Cellwright-menu');
  for (const command of [
    Commands.notebook,
    Commands.stop,
    Commands.undo,
    Commands.redo,
    Commands.recover,
    Commands.restart,
    Commands.link
  ]) {
    made.addItem({ command });
  }
  made.addItem({ type: 'separator' });
  for (const format of EXPORTS) {
    made.addItem({ command: Commands.download, args: { format } });
  }
  return made;
}
