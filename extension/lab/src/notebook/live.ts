/** Open notebooks of sessions: the agent's work appears in them, and the tab that is asked to saves. */

import type { INotebookTracker, NotebookPanel } from '@jupyterlab/notebook';
import type { NotebookChange } from '@jupyter/ydoc';
import type { Contents } from '@jupyterlab/services';
import { UUID } from '@lumino/coreutils';
import { Debouncer } from '@lumino/polling';

import type { Api } from '../api/client';
import { SessionSocket, type Told } from '../api/socket';
import { NotebookEdits } from './edits';

const SAVE_AFTER_MS = 500;
const OF_KERNEL = ['kernelspec', 'language_info'];
const ATTACHABLE = ['starting', 'idle', 'busy'];

/** Binds every notebook that belongs to a session, for as long as it is open. */
export class LiveNotebooks {
  constructor(
    private readonly api: Api,
    private readonly contents: Contents.IManager,
    tracker: INotebookTracker
  ) {
    tracker.forEach(panel => void this._look(panel));
    tracker.widgetAdded.connect((_, panel) => void this._look(panel));
  }

  /** Saves what the user typed into a session's open notebook, so that the agent sees it. */
  async save(session: string): Promise<void> {
    await Promise.all([...this._open].filter(live => live.session === session).map(live => live.saveTyped()));
  }

  private async _look(panel: NotebookPanel): Promise<void> {
    await panel.context.ready;
    await this.bind(panel);
    // A notebook becomes a session's when it is adopted.
    panel.context.model.metadataChanged.connect((_, { key }) => {
      if (key === 'cellwright') {
        void this.bind(panel);
      }
    });
  }

  /** Binds a notebook, if it is the one of the session that it names. */
  async bind(panel: NotebookPanel): Promise<void> {
    const ours = panel.context.model?.getMetadata('cellwright') as
      { session_id?: string; revision?: number } | undefined;
    const bound = [...this._open].some(live => live.panel.context === panel.context);
    // With a shared document, the server itself puts our cells into it.
    if (!ours?.session_id || bound || panel.context.model.collaborative) {
      return;
    }
    const row = await this.api.session(ours.session_id).catch(() => null);
    if (row?.notebook_path !== panel.context.localPath || row.access === 'read' || panel.isDisposed) {
      return;
    }
    const live = new LiveNotebook(this.api, this.contents, panel, ours.session_id, ours.revision ?? 0);
    this._open.add(live);
    panel.disposed.connect(() => {
      this._open.delete(live);
      live.dispose();
    });
  }

  private _open = new Set<LiveNotebook>();
}

export class LiveNotebook {
  constructor(
    private readonly api: Api,
    private readonly contents: Contents.IManager,
    readonly panel: NotebookPanel,
    readonly session: string,
    revision: number
  ) {
    const { context } = panel;
    this._edits = new NotebookEdits(context.model, names => this._fetch(names));
    this._save = new Debouncer(() => this._write(), SAVE_AFTER_MS);
    this._mark(revision);
    this._users = context.model.dirty;
    context.model.sharedModel.changed.connect(this._onChange, this);
    context.saveState.connect((_, state) => {
      this._saving = state === 'started';
      if (state === 'started') {
        this._users = this._unsaved = false;
      } else if (state === 'failed') {
        this._users = true;
      }
    });
    this._socket = new SessionSocket(after => api.socket(session, after), revision);
    this._socket.linkChanged.connect((_, link) => {
      this._writer = false;
      if (link === 'open') {
        this._socket.say({
          type: 'document.claim',
          id: 'claim',
          path: context.localPath,
          tab_id: this._tab,
          revision: this._socket.after
        });
      }
    });
    this._socket.told.connect((_, told) => {
      this._queue = this._queue.then(() => this._take(told)).catch(error => console.error('Cellwright:', error));
    });
    this._socket.open();
    this._onVisible = () => document.visibilityState === 'visible' && this._socket.wake();
    document.addEventListener('visibilitychange', this._onVisible);
    void this._attach();
  }

  /** Saves what was typed since the last save. */
  async saveTyped(): Promise<void> {
    await this._queue;
    if (this.panel.context.model.dirty) {
      await this._write();
    }
  }

  private _onChange(_: unknown, change: NotebookChange): void {
    if (this._edits.applying || this._marking) {
      return;
    }
    const names = Object.keys(change).filter(name => change[name as keyof NotebookChange] !== undefined);
    if (names.every(name => name === 'stateChange')) {
      return; // Whether it is saved, not what it holds.
    }
    const keys = [...(change.metadataChange?.keys() ?? [])];
    if (names.every(name => name.startsWith('metadata')) && keys.every(key => OF_KERNEL.includes(key))) {
      // JupyterLab notes which kernel the tab has: nothing that is to be saved.
      const { model } = this.panel.context;
      queueMicrotask(() => (model.dirty = model.dirty && (this._users || this._unsaved)));
      return;
    }
    this._users = true;
  }

  dispose(): void {
    this.panel.context.model?.sharedModel?.changed.disconnect(this._onChange, this);
    document.removeEventListener('visibilitychange', this._onVisible);
    this._save.dispose();
    this._socket.close();
  }

  private async _take(told: Told): Promise<void> {
    const { model } = this.panel.context;
    if (this.panel.isDisposed || !model) {
      return;
    }
    if (told.event === 'document.joined') {
      this._writer = told.data.writer;
      await this._adopt();
      if (this._writer && model.dirty) {
        void this._save.invoke();
      }
      return;
    }
    if (told.event === 'notebook.saved') {
      await this._adopt();
      if (!this._users && !this._saving && told.data.revision >= this._followed) {
        this._unsaved = false;
        model.dirty = false; // All that stands here is in the file.
      }
      return;
    }
    if (told.event === 'kernel.changed') {
      void this._attach();
      return;
    }
    const changed = await this._edits.take(told);
    if (told.id !== null && ['cell.started', 'cell.completed', 'cells.edited'].includes(told.event)) {
      this._mark(told.id);
    }
    this._unsaved ||= changed;
    if (changed && this._writer) {
      void this._save.invoke();
    }
  }

  /** Notes in the notebook up to where it follows the log, and in which tab: saves are merged by that. */
  private _mark(revision: number): void {
    const { model } = this.panel.context;
    const clean = !model.dirty;
    const ours = model.getMetadata('cellwright') ?? {};
    this._followed = revision;
    this._marking = true;
    model.sharedModel.transact(() => model.setMetadata('cellwright', { ...ours, revision, tab: this._tab }), false);
    this._marking = false;
    if (clean) {
      model.dirty = false;
    }
  }

  private async _write(): Promise<void> {
    const { context } = this.panel;
    if (this.panel.isDisposed || context.model.readOnly) {
      return;
    }
    if (this._saving) {
      void this._save.invoke();
      return;
    }
    await this._adopt();
    await context.save().catch(error => console.warn('Cellwright could not save the notebook:', error));
  }

  /** Takes the file's new hash as known: all that is in the file is in the log, and comes as events. */
  private async _adopt(): Promise<void> {
    const { context } = this.panel;
    if (this._saving) {
      return;
    }
    const there = await this.contents.get(context.path, { content: false, hash: true }).catch(() => null);
    const held = context.contentsModel;
    if (there && held && there.hash && there.hash !== held.hash && !this._saving) {
      // The context has no public way to learn of a save that its own server made.
      (context as any)._contentsModel = {
        ...held,
        hash: there.hash,
        hash_algorithm: there.hash_algorithm,
        last_modified: there.last_modified
      };
    }
  }

  /** Attaches the tab to the session's kernel, where that lives. */
  private async _attach(): Promise<void> {
    const { sessionContext } = this.panel.context;
    const kernel = await this.api.kernel(this.session).catch(() => null);
    await sessionContext.ready;
    if (
      kernel?.id &&
      ATTACHABLE.includes(kernel.status) &&
      sessionContext.session?.kernel?.id !== kernel.id &&
      !this.panel.isDisposed
    ) {
      await sessionContext.changeKernel({ id: kernel.id }).catch(() => undefined);
    }
  }

  private async _fetch(names: string[]): Promise<Map<string, ArrayBuffer>> {
    const found = names.map(async name => {
      const bytes = await this.api.bytes(`sessions/${this.session}/objects/${name}`).catch(() => new ArrayBuffer(0));
      return [name, bytes] as const;
    });
    return new Map(await Promise.all(found));
  }

  private readonly _tab = UUID.uuid4();
  private readonly _edits: NotebookEdits;
  private readonly _socket: SessionSocket;
  private readonly _save: Debouncer;
  private readonly _onVisible: () => void;
  private _queue: Promise<void> = Promise.resolve();
  private _writer = false;
  private _marking = false;
  /** Up to which event the notebook follows the log. */
  private _followed = 0;
  /** Whether changes of ours are not in the file yet. */
  private _unsaved = false;
  /** Whether the user changed something since the last save. */
  private _users = false;
  private _saving = false;
}
