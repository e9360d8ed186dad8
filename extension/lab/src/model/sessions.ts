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
  problem: Problem | null = null;

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
    await this._do(() => this.api.delete(row.id));
    this._deleted.emit(row.id);
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

  private async _do(act: () => Promise<unknown>): Promise<void> {
    try {
      await act();
      this.problem = null;
    } catch (error) {
      this.problem = error as Problem;
    }
    await this._load().catch(() => undefined);
  }

  private async _load(): Promise<void> {
    try {
      this.rows = (await this.api.sessions(this.search)).sessions;
      this.problem = null;
      this.loaded = true;
    } catch (error) {
      this.problem = error as Problem;
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
