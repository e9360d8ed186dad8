/** The plugin: commands and a place in the sidebar. All else is loaded when it is first shown. */

import { ILayoutRestorer, type JupyterFrontEnd, type JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ICommandPalette, IThemeManager } from '@jupyterlab/apputils';
import { IDocumentManager } from '@jupyterlab/docmanager';
import { IFileBrowserFactory } from '@jupyterlab/filebrowser';
import { ILauncher } from '@jupyterlab/launcher';
import { INotebookTracker, type NotebookPanel } from '@jupyterlab/notebook';
import { IRenderMimeRegistry } from '@jupyterlab/rendermime';
import { ISettingRegistry } from '@jupyterlab/settingregistry';
import { IStateDB } from '@jupyterlab/statedb';
import { IStatusBar } from '@jupyterlab/statusbar';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';

import { addCommands, Commands } from './commands';
import { note } from './notebook/held';
import { Sidebar } from './sidebar';
import { StatusItem } from './status';

const ID = 'cellwright:panel';

const plugin: JupyterFrontEndPlugin<void> = {
  id: ID,
  description: 'The agent in the sidebar, and its work alive in the notebook.',
  autoStart: true,
  requires: [IRenderMimeRegistry, IDocumentManager],
  optional: [
    INotebookTracker,
    ITranslator,
    ISettingRegistry,
    IThemeManager,
    ICommandPalette,
    ILauncher,
    ILayoutRestorer,
    IStateDB,
    IStatusBar,
    IFileBrowserFactory
  ],
  activate: async (
    app: JupyterFrontEnd,
    rendermime: IRenderMimeRegistry,
    documents: IDocumentManager,
    notebooks: INotebookTracker | null,
    translator: ITranslator | null,
    registry: ISettingRegistry | null,
    themes: IThemeManager | null,
    palette: ICommandPalette | null,
    launcher: ILauncher | null,
    restorer: ILayoutRestorer | null,
    state: IStateDB | null,
    statusBar: IStatusBar | null,
    files: IFileBrowserFactory | null
  ) => {
    const trans = (translator ?? nullTranslator).load('cellwright');
    const sidebar = new Sidebar({ app, rendermime, documents, notebooks, themes, state, trans, settings: null });
    restorer?.add(sidebar, 'cellwright');
    const settings = registry?.load(ID).catch(error => console.error('Cellwright has no settings:', error));
    const place = (area: string) => app.shell.add(sidebar, area, { rank: 900, type: 'Cellwright' });
    if (settings) {
      void settings.then(loaded => {
        sidebar.settings = loaded ?? null;
        place(String(loaded?.composite.area ?? 'right'));
      });
    } else {
      place('right');
    }
    if (sidebar.asked) {
      void app.restored.then(() => sidebar.reveal());
    }
    if (notebooks) {
      watch(sidebar, notebooks);
    }
    addCommands({ app, sidebar, notebooks, files, trans });
    for (const command of [
      Commands.show,
      Commands.create,
      Commands.notebook,
      Commands.stop,
      Commands.explain,
      Commands.fix,
      Commands.output,
      Commands.adoptCurrent
    ]) {
      palette?.addItem({ command, category: 'Cellwright' });
    }
    launcher?.add({ command: Commands.create, category: trans.__('Other'), rank: 0 });
    statusBar?.registerStatusItem('cellwright:status', {
      item: new StatusItem(sidebar, trans),
      align: 'right',
      rank: 90,
      isActive: () => sidebar.panel?.session !== null && sidebar.panel !== null,
      activeStateChanged: sidebar.changed
    });
  }
};

/** Has the notebooks of sessions follow the agent; that part is loaded with the first of them. */
function watch(sidebar: Sidebar, notebooks: INotebookTracker): void {
  const look = async (_: unknown, panel: NotebookPanel) => {
    await panel.context.ready;
    if (panel.model?.getMetadata('cellwright')) {
      note(panel.model);
      await sidebar.follow(notebooks);
    }
  };
  notebooks.forEach(panel => void look(null, panel));
  notebooks.widgetAdded.connect((sender, panel) => void look(sender, panel));
}

export default plugin;
