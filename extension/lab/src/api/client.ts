/** The one place that does HTTP: Cellwright's routes under JupyterLab's own connection settings. */

import { URLExt } from '@jupyterlab/coreutils';
import { ServerConnection } from '@jupyterlab/services';
import { UUID } from '@lumino/coreutils';

import type { components } from './schema';

type Schemas = components['schemas'];
export type SessionRow = Schemas['SessionRow'];
export type SessionDetail = Schemas['SessionDetail'];
export type Artifact = Schemas['Artifact'];
export type Variable = Schemas['Variable'];
export type Kernel = Schemas['Kernel'];
export type Turn = Schemas['TurnSummary'];
export type VariablesBack = Schemas['VariablesBack'];
export type Rewound = Schemas['Rewound'];
export type NamedPoint = Schemas['NamedCheckpoint'];
export type Health = Schemas['Health'];
export type Lineage = Schemas['Lineage'];
export type FileRow = Schemas['FileRow'];
export type LogPage = Schemas['LogPage'];
export type Uploaded = Schemas['Uploaded'];
export type Approval = 'auto' | 'ask' | 'ask-risky';

export const PREFIX = 'cellwright/api/v1';

/** What the server answered in place of what was asked for (RFC 9457), or that it did not answer: status 0. */
export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly title: string,
    readonly detail: string
  ) {
    super(detail || title);
  }

  static async of(response: Response): Promise<Problem> {
    const body = await response.json().catch(() => ({}));
    return new Problem(response.status, body.title ?? response.statusText, body.detail ?? body.message ?? '');
  }
}

export class Api {
  constructor(readonly settings: ServerConnection.ISettings) {}

  /** Where a route is, for links and pictures; the token goes along where the page has one. */
  url(path: string, query: Record<string, string | number | undefined> = {}): string {
    const given = Object.entries(query).filter(([, value]) => value !== undefined);
    const search = URLExt.objectToQueryString(Object.fromEntries(given) as Record<string, string>);
    return URLExt.join(this.settings.baseUrl, PREFIX, path) + (given.length ? search : '');
  }

  /** An address that a browser can follow by itself. */
  link(path: string, query: Record<string, string> = {}): string {
    const { appendToken, token } = this.settings;
    return this.url(path, appendToken && token ? { ...query, token } : query);
  }

  /** The socket of a session, from the event after `after`. */
  socket(session: string, after: number): WebSocket {
    const path = URLExt.join(this.settings.wsUrl, PREFIX, 'sessions', session, 'ws');
    const token =
      this.settings.appendToken && this.settings.token ? `&token=${encodeURIComponent(this.settings.token)}` : '';
    return new this.settings.WebSocket(`${path}?after=${after}${token}`);
  }

  /** An answer's JSON; throws Problem. */
  async call<T>(
    method: string,
    path: string,
    body?: unknown,
    query: Record<string, string | number | undefined> = {},
    key: string = UUID.uuid4()
  ): Promise<T> {
    const init: RequestInit = { method };
    const headers: Record<string, string> = {};
    if (body instanceof FormData) {
      init.body = body;
    } else if (body !== undefined) {
      init.body = JSON.stringify(body);
      headers['Content-Type'] = 'application/json';
    }
    if (method === 'POST') {
      headers['Idempotency-Key'] = key;
    }
    const response = await this.fetch(this.url(path, query), { ...init, headers });
    return (response.status === 204 ? undefined : await response.json()) as T;
  }

  async bytes(path: string): Promise<ArrayBuffer> {
    return (await this.fetch(this.url(path), {})).arrayBuffer();
  }

  private async fetch(url: string, init: RequestInit): Promise<Response> {
    let response: Response;
    try {
      response = await ServerConnection.makeRequest(url, init, this.settings);
    } catch (error) {
      throw new Problem(0, 'No answer', `The server does not answer: ${(error as Error).message}`);
    }
    if (!response.ok) {
      throw await Problem.of(response);
    }
    return response;
  }

  sessions(search = ''): Promise<{ sessions: SessionRow[]; total: number }> {
    return this.call('GET', 'sessions', undefined, { limit: 100, search: search || undefined });
  }

  session(id: string): Promise<SessionDetail> {
    return this.call('GET', `sessions/${id}`);
  }

  create(fields: { title?: string; notebook_path?: string; model?: string } = {}): Promise<SessionDetail> {
    return this.call('POST', 'sessions', fields);
  }

  change(id: string, fields: Record<string, unknown>): Promise<SessionDetail> {
    return this.call('PATCH', `sessions/${id}`, fields);
  }

  delete(id: string): Promise<void> {
    return this.call('DELETE', `sessions/${id}`);
  }

  log(id: string, before?: number): Promise<LogPage> {
    return this.call('GET', `sessions/${id}/log`, undefined, { turns: 20, before });
  }

  /** Asks; a repeat with the same `key` is the same question. */
  ask(
    id: string,
    body: { query: string; file_ids?: string[]; approval?: Approval },
    key: string
  ): Promise<{ turn_id: string; n: number }> {
    return this.call('POST', `sessions/${id}/query`, body, {}, key);
  }

  stop(turn: string): Promise<unknown> {
    return this.call('POST', `turns/${turn}/stop`);
  }

  decide(
    turn: string,
    call: string,
    body: { decision: 'approve' | 'reject'; source?: string; reason?: string }
  ): Promise<unknown> {
    return this.call('POST', `turns/${turn}/approvals/${encodeURIComponent(call)}`, body);
  }

  kernel(id: string): Promise<Kernel> {
    return this.call('GET', `sessions/${id}/kernel`);
  }

  /** All turns of a session, the oldest first. */
  async turns(id: string): Promise<Turn[]> {
    const found: Turn[] = [];
    for (let total = 1; found.length < total;) {
      const page = await this.call<Schemas['TurnList']>('GET', `sessions/${id}/turns`, undefined, {
        limit: 100,
        offset: found.length
      });
      found.push(...page.turns);
      total = page.turns.length ? page.total : 0;
    }
    return found;
  }

  /** Moves the head; with `dry_run` it only says what that would do. */
  move(id: string, way: 'undo' | 'redo', body: Record<string, unknown>): Promise<Rewound> {
    return this.call('POST', `sessions/${id}/${way}`, body);
  }

  branch(id: string, body: { from_turn?: string; title?: string }): Promise<SessionDetail> {
    return this.call('POST', `sessions/${id}/branch`, body);
  }

  /** The session's named points, the newest first. */
  async points(id: string): Promise<NamedPoint[]> {
    const page = { limit: 100 };
    return (await this.call<Schemas['CheckpointList']>('GET', `sessions/${id}/checkpoints`, undefined, page))
      .checkpoints;
  }

  /** Names the point where the session is. */
  namePoint(id: string, label: string): Promise<NamedPoint> {
    return this.call('POST', `sessions/${id}/checkpoints`, { label });
  }

  /** Goes to a named point; with `dry_run` it only says what that would do. */
  async restore(point: string, body: Record<string, unknown>): Promise<Rewound> {
    return (await this.call<{ rewound: Rewound }>('POST', `checkpoints/${point}/restore`, body)).rewound;
  }

  act(id: string, action: 'interrupt' | 'restart' | 'hibernate' | 'wake'): Promise<Kernel> {
    return this.call('POST', `sessions/${id}/kernel/${action}`);
  }

  /** Brings back what a kernel that was lost held; with `dry_run` it only says how. */
  recover(id: string, body: { dry_run?: boolean; rerun?: 'safe' | 'all' }): Promise<VariablesBack> {
    return this.call('POST', `sessions/${id}/kernel/recover`, body);
  }

  async variables(id: string): Promise<Variable[]> {
    return (await this.call<{ variables: Variable[] }>('GET', `sessions/${id}/variables`)).variables;
  }

  variable(id: string, name: string): Promise<Variable> {
    return this.call('GET', `sessions/${id}/variables/${encodeURIComponent(name)}`);
  }

  async files(id: string): Promise<FileRow[]> {
    return (await this.call<{ files: FileRow[] }>('GET', `sessions/${id}/files`)).files;
  }

  async artifacts(id: string): Promise<Artifact[]> {
    return (await this.call<{ artifacts: Artifact[] }>('GET', `sessions/${id}/artifacts`, undefined, { limit: 100 }))
      .artifacts;
  }

  lineage(artifact: string): Promise<Lineage> {
    return this.call('GET', `artifacts/${artifact}/lineage`);
  }

  upload(id: string, file: Blob, name: string): Promise<Uploaded> {
    const form = new FormData();
    form.append('file', file, name);
    return this.call('POST', `sessions/${id}/upload`, form);
  }

  health(): Promise<Health> {
    return this.call('GET', 'health');
  }
}
