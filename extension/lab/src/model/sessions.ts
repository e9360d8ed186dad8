/** The sessions that a user may see, looked at again while somebody looks at them. */

import { Poll, Throttler } from '@lumino/polling';
import { Signal, type ISignal } from '@lumino/signaling';

import { Problem, type Api, type SessionRow } from '../api/client';

const EVERY_MS = 10_000;

export class SessionList {
  constructor(readonly api: Api) {
    this._poll = new Poll({
      auto: false,
      factory: () => this._load(),
      frequency: { interval: EVERY_MS, backoff: true, max: 6 * EVERY_MS },
      standby: 'when-hidden',
      name: 'cellwright:sessions'
    });
  }

  get changed(): ISignal<this, void> {
    return this._changed;
  }

  rows: SessionRow[] = [];
  search = '';
  loaded = false;
  /** Why what the user wanted did not work. */
  problem: Problem | null = null;
  /** Why the list cannot be had. */
  away: Problem | null = null;

  get unread(): number {
    return this.rows.filter(row => row.unread > 0).length;
  }

  async refresh(): Promise<void> {
    await this._poll.refresh();
    await this._poll.tick;
  }

  find(search: string): void {
    this.search = search;
    void this._soon.invoke();
  }

  async rename(row: SessionRow, title: string): Promise<void> {
    await this._do(() => this.api.change(row.id, { title }));
  }

  async delete(row: SessionRow): Promise<void> {
    if (await this._do(() => this.api.delete(row.id))) {
      this._deleted.emit(row.id);
    }
  }

  /** Sessions that are gone, by id. */
  get deleted(): ISignal<this, string> {
    return this._deleted;
  }

  dispose(): void {
    this._poll.dispose();
    this._soon.dispose();
    Signal.clearData(this);
  }

  /** Says that something that the user wanted did not work. */
  failed(error: unknown): void {
    this.problem = error instanceof Problem ? error : new Problem(0, 'It failed', String(error));
    this._changed.emit();
  }

  private async _do(act: () => Promise<unknown>): Promise<boolean> {
    this.problem = null;
    const done = await act().then(
      () => true,
      error => (this.failed(error), false)
    );
    await this._load().catch(() => undefined);
    return done;
  }

  private async _load(): Promise<void> {
    try {
      this.rows = (await this.api.sessions(this.search)).sessions;
      this.away = null;
      this.loaded = true;
    } catch (error) {
      this.away = error as Problem;
      throw error;
    } finally {
      this._changed.emit();
    }
  }

  private _poll: Poll;
  private _soon = new Throttler(() => this._load().catch(() => undefined), { limit: 250, edge: 'trailing' });
  private _changed = new Signal<this, void>(this);
  private _deleted = new Signal<this, string>(this);
}

/** Sessions with their branches below them, each as deep as it is far from its root. */
export function tree(rows: SessionRow[]): { row: SessionRow; depth: number }[] {
  const known = new Set(rows.map(row => row.id));
  const of = (parent: string | null): SessionRow[] =>
    rows.filter(row => (row.parent && known.has(row.parent.session_id) ? row.parent.session_id : null) === parent);
  const below = (parent: string | null, depth: number): { row: SessionRow; depth: number }[] =>
    of(parent).flatMap(row => [{ row, depth }, ...below(row.id, depth + 1)]);
  return below(null, 0);
}
