/** Open notebooks of sessions: the agent's work appears in them, and the tab that is asked to saves. */

import type { DocumentRegistry } from '@jupyterlab/docregistry';
import type { INotebookModel, INotebookTracker, NotebookPanel } from '@jupyterlab/notebook';
import type { Contents } from '@jupyterlab/services';
import { UUID } from '@lumino/coreutils';
import { Debouncer } from '@lumino/polling';

import type { Api } from '../api/client';
import { SessionSocket, type Told } from '../api/socket';
import { NotebookEdits } from './edits';
import { note } from './held';
import { attach, livingKernel, wokenKernel } from './kernel';
import { SharedNotebook } from './shared';
import { keepInView } from './view';

const SAVE_AFTER_MS = 500;
const AGAIN_MS = 3_000;
const WAIT_MS = 5_000;
const KERNEL_KEYS = ['kernelspec', 'language_info'];
const CHANGES = ['cell.started', 'cell.completed', 'cells.edited'];

type Context = DocumentRegistry.IContext<INotebookModel>;

/** What a notebook says of the session that it belongs to. */
export interface Mark {
  session_id?: string;
  revision?: number;
  tab?: string;
}

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
    await Promise.all([...this._open.values()].filter(live => live.session === session).map(live => live.saveTyped()));
  }

  /** Binds a notebook, if it is the one of the session that it names. */
  async bind(panel: NotebookPanel): Promise<void> {
    const { context } = panel;
    const ours = context.model?.getMetadata('cellwright') as Mark | undefined;
    if (!ours?.session_id || this._open.has(context) || this._binding.has(context)) {
      return;
    }
    this._binding.add(context);
    try {
      const row = await this.api.session(ours.session_id).catch(() => null);
      if (row?.notebook_path === context.localPath && row.access !== 'read' && !panel.isDisposed) {
        const { session_id, revision = 0 } = ours;
        const live = context.model.collaborative
          ? new SharedNotebook(this.api, context, session_id, row.seq)
          : new LiveNotebook(this.api, this.contents, panel, session_id, revision);
        this._open.set(context, live);
        keepInView(panel);
      }
    } finally {
      this._binding.delete(context);
    }
  }

  private async _look(panel: NotebookPanel): Promise<void> {
    await panel.context.ready;
    const { context } = panel;
    if (panel.isDisposed || this._seen.has(context)) {
      return;
    }
    this._seen.add(context);
    context.model.metadataChanged.connect((_, { key }) => {
      if (key !== 'cellwright' || this._open.get(context)?.knows(context.model.getMetadata(key))) {
        return;
      }
      // Adopted by a session; or put back to what the file, or a checkpoint of it, held.
      note(context.model);
      this._close(context);
      void this.bind(panel);
    });
    context.disposed.connect(() => this._close(context));
    await this.bind(panel);
  }

  private _close(context: Context): void {
    this._open.get(context)?.dispose();
    this._open.delete(context);
  }

  private _open = new Map<Context, LiveNotebook | SharedNotebook>();
  private _binding = new Set<Context>();
  private _seen = new WeakSet<Context>();
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
    this._context = context;
    this._model = context.model;
    this._edits = new NotebookEdits(this._model, names => this._fetch(names));
    this._debouncer = new Debouncer(() => this._write(), SAVE_AFTER_MS);
    this._plainSave = context.save;
    context.save = () => this._save();
    this._model.metadataChanged.connect(this._onMetadata, this);
    this._mark(revision);
    this._socket = this._follow(revision);
    this._onVisible = () => document.visibilityState === 'visible' && this._socket.wake();
    document.addEventListener('visibilitychange', this._onVisible);
    void attach(context.sessionContext, wokenKernel(api, session));
  }

  readonly tab = UUID.uuid4();

  /** Whether the notebook's mark is this tab's own. */
  knows(mark: Mark | undefined): boolean {
    return mark?.tab === this.tab;
  }

  /** Saves what was typed since the last save, and waits until that is done. */
  async saveTyped(): Promise<void> {
    await Promise.race([this._queue, new Promise(resolve => setTimeout(resolve, WAIT_MS))]);
    await this._saving;
    if (!this._disposed && (this._model.dirty || this._edits.differs)) {
      await this._write();
    }
  }

  dispose(): void {
    this._disposed = true;
    document.removeEventListener('visibilitychange', this._onVisible);
    clearTimeout(this._again);
    this._debouncer.dispose();
    this._socket.close();
    this._context.save = this._plainSave;
    if (!this._model.isDisposed) {
      this._model.metadataChanged.disconnect(this._onMetadata, this);
    }
  }

  private _follow(after: number): SessionSocket {
    const socket = new SessionSocket(from => this.api.socket(this.session, from), after);
    socket.linkChanged.connect((_, link) => {
      this._writer = false;
      if (link === 'open') {
        const path = this._context.localPath;
        socket.say({ type: 'document.claim', id: 'claim', path, tab_id: this.tab, revision: socket.after });
      }
    });
    socket.told.connect((_, told) => {
      this._queue = this._queue.then(async () => {
        if (socket === this._socket && !this._disposed) {
          await this._take(told).catch(error => this._stumble(error));
        }
      });
    });
    socket.open();
    return socket;
  }

  /** An event could not be applied whole: nothing after it is, until it was told again. */
  private _stumble(error: unknown): void {
    console.warn('Cellwright could not follow the session, and tries again:', error);
    this._socket.close();
    this._writer = false;
    this._again = setTimeout(() => {
      if (!this._disposed) {
        this._socket = this._follow(this._followed);
      }
    }, AGAIN_MS);
  }

  private async _take(told: Told): Promise<void> {
    switch (told.event) {
      case 'document.joined':
        this._writer = told.data.writer;
        await this._adopt();
        if (this._writer && this._model.dirty) {
          void this._debouncer.invoke();
        }
        return;
      case 'notebook.saved':
        await this._adopt();
        if (!this._saving && told.data.revision >= this._followed && !this._edits.differs) {
          this._model.dirty = false; // All that stands here is in the file.
        }
        return;
      case 'kernel.changed':
        void attach(this._context.sessionContext, livingKernel(this.api, this.session));
        return;
    }
    const changed = await this._edits.take(told);
    if (told.id !== null && CHANGES.includes(told.event)) {
      this._mark(told.id);
    }
    if (changed && this._writer) {
      void this._debouncer.invoke();
    }
  }

  /** Notes in the notebook up to where it follows the log, and in which tab: saves are merged by that. */
  private _mark(revision: number): void {
    const clean = !this._model.dirty;
    const ours = this._model.getMetadata('cellwright') ?? {};
    this._followed = revision;
    this._model.sharedModel.transact(
      () => this._model.setMetadata('cellwright', { ...ours, revision, tab: this.tab }),
      false
    );
    if (clean) {
      this._model.dirty = false;
    }
  }

  /** JupyterLab notes which kernel the tab has: nothing that is to be saved. */
  private _onMetadata(_: unknown, { key }: { key: string }): void {
    if (KERNEL_KEYS.includes(key) && !this._edits.differs) {
      queueMicrotask(() => {
        if (!this._disposed && !this._edits.differs) {
          this._model.dirty = false;
        }
      });
    }
  }

  private async _write(): Promise<void> {
    if (this._disposed || this._model.readOnly) {
      return;
    }
    await this._context.save().catch(error => console.warn('Cellwright could not save the notebook:', error));
  }

  /** What stands in for the context's `save`, whoever calls it: one at a time, and nothing typed meanwhile is forgotten. */
  private async _save(): Promise<void> {
    while (this._saving) {
      await this._saving.catch(() => undefined);
    }
    const saving = (async () => {
      await this._adopt();
      this._edits.sending();
      const before = this._edits.signature;
      await this._plainSave.call(this._context);
      if (!this._disposed && this._edits.signature !== before) {
        this._model.dirty = true;
      }
    })();
    this._saving = saving;
    try {
      await saving;
    } finally {
      this._saving = null;
    }
  }

  /** Takes the file's new hash as known: all that is in the file is in the log, and comes as events. */
  private async _adopt(): Promise<void> {
    const there = await this.contents.get(this._context.path, { content: false, hash: true }).catch(() => null);
    const held = this._context.contentsModel;
    if (there?.hash && held && there.hash !== held.hash) {
      // The context has no public way to learn of a save that its own server made.
      const { hash, hash_algorithm, last_modified } = there;
      (this._context as any)._contentsModel = { ...held, hash, hash_algorithm, last_modified };
    }
  }

  /** Large values of outputs; fails where one of them cannot be had. */
  private async _fetch(names: string[]): Promise<Map<string, ArrayBuffer>> {
    const found = names.map(
      async name => [name, await this.api.bytes(`sessions/${this.session}/objects/${name}`)] as const
    );
    return new Map(await Promise.all(found));
  }

  private readonly _context: Context;
  private readonly _model: INotebookModel;
  private readonly _edits: NotebookEdits;
  private readonly _debouncer: Debouncer;
  private readonly _plainSave: () => Promise<void>;
  private readonly _onVisible: () => void;
  private _socket: SessionSocket;
  private _queue: Promise<void> = Promise.resolve();
  private _saving: Promise<void> | null = null;
  private _writer = false;
  private _disposed = false;
  /** Up to which event the notebook follows the log. */
  private _followed = 0;
  private _again: ReturnType<typeof setTimeout> | undefined;
}
