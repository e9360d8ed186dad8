/** The panel's place in JupyterLab: light, there from the start, and filled when it is first seen. */

import type { JupyterFrontEnd } from '@jupyterlab/application';
import type { IThemeManager } from '@jupyterlab/apputils';
import type { IDocumentManager } from '@jupyterlab/docmanager';
import type { INotebookTracker } from '@jupyterlab/notebook';
import type { IRenderMimeRegistry } from '@jupyterlab/rendermime';
import type { ISettingRegistry } from '@jupyterlab/settingregistry';
import type { IStateDB } from '@jupyterlab/statedb';
import type { TranslationBundle } from '@jupyterlab/translation';
import { Spinner } from '@jupyterlab/apputils';
import { Signal, type ISignal } from '@lumino/signaling';
import { Panel, Widget } from '@lumino/widgets';

import { cellwrightIcon } from './icons';
import type { LiveNotebooks } from './notebook/live';
import type { CellwrightPanel } from './panel';

export interface SidebarOptions {
  app: JupyterFrontEnd;
  rendermime: IRenderMimeRegistry;
  documents: IDocumentManager;
  notebooks: INotebookTracker | null;
  themes: IThemeManager | null;
  state: IStateDB | null;
  trans: TranslationBundle;
  settings: ISettingRegistry.ISettings | null;
}

export class Sidebar extends Panel {
  constructor(readonly options: SidebarOptions) {
    super();
    this.id = 'cellwright-panel';
    this.addClass('jp-Cellwright-sidebar');
    this.title.icon = cellwrightIcon;
    this.title.caption = options.trans.__('Cellwright');
    this.node.style.minWidth = '320px'; // Read by the layout when it is first fitted, before any style sheet is.
    this.node.setAttribute('role', 'region');
    this.node.setAttribute('aria-label', options.trans.__('Cellwright'));
  }

  panel: CellwrightPanel | null = null;
  /** The session that the page's address names: `lab?cellwright=ID`. */
  readonly asked = new URLSearchParams(window.location.search).get('cellwright');

  /** Another session or view is shown, or the session is another. */
  get changed(): ISignal<this, void> {
    return this._changed;
  }

  get settings(): ISettingRegistry.ISettings | null {
    return this.options.settings;
  }

  set settings(settings: ISettingRegistry.ISettings | null) {
    this.options.settings = settings;
  }

  /** The panel, loaded and brought to the front. */
  async reveal(): Promise<CellwrightPanel> {
    this.options.app.shell.activateById(this.id);
    return this.load();
  }

  /** The panel, loaded. */
  load(): Promise<CellwrightPanel> {
    this._loading ??= this._load();
    return this._loading;
  }

  /** Has open notebooks of sessions follow what the agent does. */
  follow(tracker: INotebookTracker): Promise<LiveNotebooks> {
    this._live ??= Promise.all([import('./notebook/live'), import('./api/client')]).then(
      ([{ LiveNotebooks }, { Api }]) => {
        const { serverSettings, contents } = this.options.app.serviceManager;
        return new LiveNotebooks(new Api(serverSettings), contents, tracker);
      }
    );
    return this._live;
  }

  protected onAfterShow(): void {
    this._fill();
  }

  protected onAfterAttach(): void {
    if (this.isVisible) {
      this._fill();
    }
  }

  protected onActivateRequest(): void {
    this._fill(panel => panel.focusInput());
  }

  /** Loads the panel; where that fails, the sidebar says why. */
  private _fill(then: (panel: CellwrightPanel) => void = () => undefined): void {
    this.load().then(then, error => console.error('Cellwright was not loaded:', error));
  }

  private async _load(): Promise<CellwrightPanel> {
    const spinner = new Spinner();
    this._problem?.dispose();
    this._problem = null;
    this.addWidget(spinner);
    try {
      const { build } = await import('./build');
      const panel = await build(this);
      this.panel = panel;
      this.addWidget(panel);
      panel.shownChanged.connect(() => this._changed.emit());
      this._changed.emit();
      return panel;
    } catch (error) {
      this._loading = null;
      const told = (this._problem = new Widget());
      told.addClass('jp-Cellwright-empty');
      told.node.setAttribute('role', 'alert');
      told.node.textContent = String((error as Error).message);
      this.addWidget(told);
      throw error;
    } finally {
      spinner.dispose();
    }
  }

  private _live: Promise<LiveNotebooks> | null = null;
  private _problem: Widget | null = null;
  private _loading: Promise<CellwrightPanel> | null = null;
  private _changed = new Signal<this, void>(this);
}
