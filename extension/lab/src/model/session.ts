/** One session as its views see it: what happened, what happens now, and what the user may do about it. */

import { PathExt } from '@jupyterlab/coreutils';
import { UUID } from '@lumino/coreutils';
import { Signal, type ISignal } from '@lumino/signaling';

import { Problem, type Api, type Approval, type LogPage, type SessionDetail, type Variable } from '../api/client';
import { SessionSocket, type Link, type Told } from '../api/socket';
import { SessionFold } from './fold';
import type { TurnView } from './turn';
import { inlined, references, type Output } from './outputs';

const AGAIN_MS = 5_000;

/** A question that was sent and that the log does not hold yet. */
export interface Pending {
  id: string;
  query: string;
  /** Files that go along: of JupyterLab's tree by path, of the session by id. */
  paths: string[];
  fileIds: string[];
  /** Sent again, the question is the same one. */
  key: string;
  problem: Problem | null;
  /** Its turn, once the server took it: until the log tells of that. */
  turnId: string | null;
}

export class SessionModel {
  constructor(
    readonly api: Api,
    readonly id: string
  ) {}

  /** Something that is not of one turn: the row, the kernel, the variables, the connection. */
  get changed(): ISignal<this, void> {
    return this._changed;
  }

  /** A turn was added, or looks different. */
  get turnChanged(): ISignal<this, TurnView> {
    return this._turnChanged;
  }

  /** Turns were put before those that were there, or all are others. */
  get turnsReplaced(): ISignal<this, void> {
    return this._turnsReplaced;
  }

  /** The session is at another point than before, and so are its turns. */
  get moved(): ISignal<this, void> {
    return this._moved;
  }

  /** What is under way with the session as a whole, in words, while it is. */
  get moving(): string | null {
    return this._moving;
  }

  set moving(words: string | null) {
    this._moving = words;
    this._changed.emit();
  }

  /** The user asked something. */
  get asked(): ISignal<this, void> {
    return this._asking;
  }

  /** Every event, after the model took it. */
  get told(): ISignal<this, Told> {
    return this._told;
  }

  get turns(): TurnView[] {
    return this.fold.turns;
  }

  get link(): Link {
    return this._socket?.link ?? 'connecting';
  }

  get title(): string {
    return this.fold.title ?? this.row?.title ?? '';
  }

  /** Whether the one who looks may ask and run. */
  get writable(): boolean {
    return this.row === null || this.row.access !== 'read';
  }

  /** Resolves when what happened before is there; rejects with Problem. */
  async open(): Promise<void> {
    const [row, page] = await Promise.all([this.api.session(this.id), this.api.log(this.id)]);
    if (this._disposed) {
      return;
    }
    this.firstTurn = page.first_turn;
    this._log = page.events as Told[];
    this._refold();
    this._take(row);
    const after = this._log.at(-1)?.id ?? row.seq;
    this._socket = new SessionSocket(from => this.api.socket(row.id, from), after);
    this._socket.told.connect((_, told) => this._hear(told));
    this._socket.linkChanged.connect(() => this._changed.emit());
    this._socket.open();
    this._changed.emit();
    void this.seen();
  }

  /** Loads the turns before those that are there. */
  async earlier(): Promise<void> {
    if (this.firstTurn <= 1 || this._loading) {
      return;
    }
    this._loading = true;
    try {
      const page = await this.api.log(this.id, this.firstTurn);
      this.firstTurn = page.first_turn;
      this._log = [...(page.events as Told[]), ...this._log];
      this._refold();
    } finally {
      this._loading = false;
    }
  }

  /** Asks; what was typed is shown at once, and stays with its problem where the server refuses it. */
  ask(query: string, paths: string[] = [], fileIds: string[] = []): Promise<boolean> {
    const pending: Pending = {
      id: `pending-${(this._asked += 1)}`,
      query,
      paths,
      fileIds,
      key: UUID.uuid4(),
      problem: null,
      turnId: null
    };
    this.pending = [...this.pending, pending];
    this._asking.emit();
    return this.send(pending);
  }

  /** Sends a question, again if need be; whether the server took it. */
  async send(pending: Pending): Promise<boolean> {
    pending.problem = null;
    this._changed.emit();
    try {
      const file_ids = [...pending.fileIds, ...(await this._files(pending.paths))];
      pending.fileIds = file_ids;
      pending.paths = [];
      await this.beforeAsking?.();
      const body = { query: pending.query, file_ids, approval: this.approval?.() };
      const { turn_id } = await this.api.ask(this.id, body, pending.key);
      if (this.fold.turn(turn_id)) {
        this._settle(pending);
      } else {
        pending.turnId = turn_id;
      }
      return true;
    } catch (error) {
      pending.problem = error instanceof Problem ? error : new Problem(0, 'It failed', String(error));
      this._changed.emit();
      return false;
    }
  }

  /** Takes a question back that the server refused. */
  forget(pending: Pending): void {
    this._settle(pending);
  }

  async stop(): Promise<void> {
    // The last first: a queued turn must not begin between two stops.
    for (const turn of [...this.fold.open].reverse()) {
      await this.api.stop(turn.id).catch(ignoreEnded);
    }
  }

  async stopTurn(turn: TurnView): Promise<void> {
    await this.api.stop(turn.id).catch(ignoreEnded);
  }

  decide(
    turn: TurnView,
    call: string,
    decision: 'approve' | 'reject',
    source?: string,
    reason?: string
  ): Promise<unknown> {
    return this.api.decide(turn.id, call, { decision, source, reason });
  }

  /** Says that the user looks at the session. */
  async seen(): Promise<void> {
    if (this._socket && document.visibilityState !== 'hidden') {
      await this.api.change(this.id, { last_seen: this._socket.after }).catch(() => undefined);
    }
  }

  async loadVariables(): Promise<void> {
    const found = await this.api.variables(this.id);
    this.fold.variables = new Map(found.map((variable: Variable) => [variable.name, variable]));
    this._changed.emit();
  }

  async loadArtifacts(): Promise<void> {
    this.fold.artifacts = new Map((await this.api.artifacts(this.id)).map(held => [held.id, held]));
    this._changed.emit();
  }

  /** Outputs with large values in their places, or null while those are on their way. */
  whole(turn: TurnView, outputs: Output[]): Output[] | null {
    const wanted = references(outputs);
    const missing = wanted.filter(name => !this._objects.has(name));
    for (const name of missing) {
      if (!this._fetching.has(name)) {
        this._fetching.add(name);
        this.fetch(name)
          .catch(() => pause(AGAIN_MS))
          .then(() => {
            this._fetching.delete(name);
            this._turnChanged.emit(turn);
          });
      }
    }
    return missing.length ? null : inlined(outputs, this._objects);
  }

  /** A large value, by its name; throws Problem. */
  async fetch(name: string): Promise<ArrayBuffer> {
    const held = this._objects.get(name) ?? (await this.api.bytes(`sessions/${this.id}/objects/${name}`));
    this._objects.set(name, held);
    return held;
  }

  wake(): void {
    this._socket?.wake();
  }

  dispose(): void {
    this._disposed = true;
    this._socket?.close();
    Signal.clearData(this);
  }

  fold = new SessionFold();
  row: SessionDetail | null = null;
  pending: Pending[] = [];
  firstTurn = 1;
  /** Saves what the user typed into the open notebook, so that the agent sees it. */
  beforeAsking: (() => Promise<void>) | null = null;
  /** Which cells wait for the user's word, where the settings say. */
  approval: (() => Approval | undefined) | null = null;
  /** Fetches a file of JupyterLab's tree that is to go to the session. */
  download: ((path: string) => Promise<Blob>) | null = null;

  private async _files(paths: string[]): Promise<string[]> {
    if (paths.length === 0) {
      return [];
    }
    const here = new Map(
      (await this.api.files(this.id)).map(file => [PathExt.join(this.row!.workspace, file.name), file])
    );
    const ids: string[] = [];
    for (const path of paths) {
      const known = here.get(path)?.artifact_id;
      if (known) {
        ids.push(known);
      } else if (this.download) {
        ids.push((await this.api.upload(this.id, await this.download(path), PathExt.basename(path))).artifact_id);
      }
    }
    return ids;
  }

  /** The head is another turn: what leads to it is another past. */
  private async _reload(): Promise<void> {
    const reload = (this._reloads += 1);
    const current = () => !this._disposed && reload === this._reloads; // It may move again meanwhile.
    let found: [SessionDetail, LogPage] | null = null;
    while (current() && found === null) {
      try {
        found = await Promise.all([this.api.session(this.id), this.api.log(this.id)]);
      } catch (error) {
        if (error instanceof Problem && error.status >= 400 && error.status < 500) {
          return; // It is gone, or no longer ours to see: the socket will say so.
        }
        await pause(AGAIN_MS);
      }
    }
    if (!current()) {
      return;
    }
    const [row, page] = found!;
    const last = page.events.at(-1)?.id ?? 0;
    this.firstTurn = page.first_turn;
    this._log = [...(page.events as Told[]), ...this._log.filter(told => told.id! > Math.max(last, row.seq))];
    const known = this.fold.variables !== null;
    this._refold(false);
    this._take(row);
    this._moved.emit();
    await Promise.all([this.loadArtifacts(), known ? this.loadVariables() : null]);
    this._changed.emit();
  }

  /** `carrying` what only the former fold knows. */
  private _refold(carrying = true): void {
    const before = this.fold;
    this.fold = new SessionFold();
    for (const told of this._log) {
      this.fold.take(told);
    }
    if (carrying) {
      this.fold.carry(before);
    }
    this._turnsReplaced.emit();
  }

  private _hear(told: Told): void {
    if (told.id !== null && told.id !== undefined) {
      this._log.push(told);
    }
    const turn = this.fold.take(told);
    if (told.event === 'turn.queued') {
      const { turn_id, query } = told.data;
      const pending =
        this.pending.find(held => held.turnId === turn_id) ??
        this.pending.find(held => held.turnId === null && held.query === query);
      if (pending) {
        this._settle(pending);
      }
    }
    if (told.event === 'head.moved') {
      void this._reload();
    }
    this._follow(told);
    if (told.event.startsWith('turn.')) {
      void this.seen();
    }
    if (turn) {
      this._turnChanged.emit(turn);
    }
    if (!told.event.startsWith('message.') && told.event !== 'cell.output') {
      this._changed.emit();
    }
    this._told.emit(told);
  }

  /** Takes a row, and what the log tells behind it: the two are fetched beside each other. */
  private _take(row: SessionDetail): void {
    this.row = row;
    for (const told of this._log) {
      if (told.id! > row.seq) {
        this._follow(told);
      }
    }
  }

  /** Keeps the row up with an event that the fold has taken. */
  private _follow({ event, data }: Told): void {
    if (this.row === null) {
      return;
    }
    if (event === 'turn.started') {
      const own = this.fold.turn(data.turn_id)?.does === 'edit'; // What was not asked does not end what can be redone.
      this.row = { ...this.row, head_turn: data.n, can_redo: own && this.row.can_redo };
    }
    if (event.startsWith('turn.')) {
      this.row = { ...this.row, usage: addUsage(this.row.usage, data.usage) };
    }
  }

  private _settle(pending: Pending): void {
    this.pending = this.pending.filter(held => held !== pending);
    this._changed.emit();
  }

  private _socket: SessionSocket | null = null;
  private _log: Told[] = [];
  private _asked = 0;
  private _reloads = 0;
  private _loading = false;
  private _disposed = false;
  private _objects = new Map<string, ArrayBuffer>();
  private _fetching = new Set<string>();
  private _changed = new Signal<this, void>(this);
  private _turnChanged = new Signal<this, TurnView>(this);
  private _turnsReplaced = new Signal<this, void>(this);
  private _moved = new Signal<this, void>(this);
  private _moving: string | null = null;
  private _asking = new Signal<this, void>(this);
  private _told = new Signal<this, Told>(this);
}

function pause(ms: number): Promise<void> {
  return new Promise(go => setTimeout(go, ms));
}

function addUsage(held: any, more: any): any {
  if (!more) {
    return held;
  }
  return {
    ...held,
    prompt_tokens: held.prompt_tokens + more.prompt_tokens,
    completion_tokens: held.completion_tokens + more.completion_tokens,
    cost: held.cost + more.cost,
    calls: held.calls + more.calls
  };
}

function ignoreEnded(error: unknown): void {
  // It ended by itself meanwhile.
  if (!(error instanceof Problem && error.status === 409)) {
    throw error;
  }
}
