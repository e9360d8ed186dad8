/** A session's events over a WebSocket: every durable one once, in order, whatever the connection does. */

import { Signal, type ISignal } from '@lumino/signaling';

/** One event as the server tells it; durable ones carry the number that they have in the log. */
export interface Told {
  event: string;
  id: number | null;
  data: Record<string, any>;
}

export type Link = 'connecting' | 'open' | 'lost' | 'gone';

/** What we use of a browser's WebSocket. */
export interface Wire {
  onopen: ((event: any) => void) | null;
  onmessage: ((event: any) => void) | null;
  onclose: ((event: any) => void) | null;
  readyState: number;
  send(text: string): void;
  close(): void;
}

const GONE = 4404;
const FIRST_AGAIN_MS = 250;
const LAST_AGAIN_MS = 15_000;
/** The server says something at least every 15 s. */
const SILENT_MS = 45_000;
const DOUBTFUL_MS = 20_000;

export class SessionSocket {
  /** `dial` opens a connection that tells what comes after an event's number. */
  constructor(
    private readonly dial: (after: number) => Wire,
    private _after: number,
    private readonly firstAgainMs = FIRST_AGAIN_MS
  ) {
    this._againMs = firstAgainMs;
  }

  /** Each event, once. A live event is told only between the durable ones that it stands between. */
  get told(): ISignal<this, Told> {
    return this._told;
  }

  get linkChanged(): ISignal<this, Link> {
    return this._linkChanged;
  }

  get link(): Link {
    return this._link;
  }

  /** The number of the last durable event that was told. */
  get after(): number {
    return this._after;
  }

  open(): void {
    if (this._closed) {
      return;
    }
    const wire = this.dial(this._after);
    this._wire = wire;
    wire.onopen = () => {
      this._againMs = this.firstAgainMs;
      this._heardAt = Date.now();
      this._become('open');
    };
    wire.onmessage = event => {
      if (wire === this._wire && !this._closed) {
        this._heardAt = Date.now();
        this._hear(JSON.parse(event.data));
      }
    };
    wire.onclose = event => {
      if (wire === this._wire && !this._closed) {
        this._lose(event.code === GONE);
      }
    };
    this._watch ??= setInterval(() => this._doubt(SILENT_MS), DOUBTFUL_MS);
  }

  /** Tries again at once where the connection is lost, or may be: the page was hidden or the network was away. */
  wake(): void {
    this._doubt(DOUBTFUL_MS);
    if (this._link === 'lost' && !this._closed) {
      clearTimeout(this._timer);
      this._againMs = this.firstAgainMs;
      this.open();
    }
  }

  /** Says something to the server; false where there is no connection to say it over. */
  say(message: Record<string, unknown>): boolean {
    if (this._link !== 'open' || this._wire === null || this._wire.readyState !== 1) {
      return false;
    }
    this._wire.send(JSON.stringify(message));
    return true;
  }

  close(): void {
    this._closed = true;
    clearInterval(this._watch);
    clearTimeout(this._timer);
    this._wire?.close();
    Signal.clearData(this);
  }

  /** Gives a connection up that has been silent for too long. */
  private _doubt(silentMs: number): void {
    if (this._link === 'open' && Date.now() - this._heardAt > silentMs) {
      const wire = this._wire;
      this._wire = null;
      wire?.close();
      this._lose(false);
    }
  }

  private _lose(gone: boolean): void {
    if (gone) {
      clearInterval(this._watch);
      this._become('gone');
      return;
    }
    this._become('lost');
    this._timer = setTimeout(() => this.open(), this._againMs);
    this._againMs = Math.min(this._againMs * 2, LAST_AGAIN_MS);
  }

  private _hear(told: Told): void {
    if (told.event === 'ping') {
      return;
    }
    if (typeof told.id === 'number') {
      if (told.id <= this._after) {
        return;
      }
      this._after = told.id;
    }
    this._told.emit(told);
  }

  private _become(link: Link): void {
    this._link = link;
    this._linkChanged.emit(link);
  }

  private _wire: Wire | null = null;
  private _link: Link = 'connecting';
  private _closed = false;
  private _againMs: number;
  private _heardAt = 0;
  private _timer: ReturnType<typeof setTimeout> | undefined;
  private _watch: ReturnType<typeof setInterval> | undefined;
  private _told = new Signal<this, Told>(this);
  private _linkChanged = new Signal<this, Link>(this);
}
