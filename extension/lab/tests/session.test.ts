/** A session's row and log, which are fetched beside each other while things happen. */

import { beforeAll, expect, test, vi } from 'vitest';

import type { Api } from '../src/api/client';
import type { Told, Wire } from '../src/api/socket';
import { SessionModel } from '../src/model/session';

const turn = (id: number, n: number, kind = 'ask'): Told[] => [
  { event: 'turn.queued', id, data: { turn_id: `t${n}`, n, query: `q${n}`, request: { kind }, message: {} } },
  { event: 'turn.started', id: id + 1, data: { turn_id: `t${n}`, n } }
];
const moved = (id: number, n: number): Told => ({ event: 'head.moved', id, data: { n, kind: 'undo' } });
const row = (seq: number, head_turn: number, can_redo = false) => ({ id: 's', seq, head_turn, can_redo, usage: {} });
const page = (events: Told[]) => ({ events, first_turn: 1 });

/** A server whose answers are given by hand, in the order in which they were asked for. */
class Server {
  rows: ((row: unknown) => void)[] = [];
  logs: ((page: unknown) => void)[] = [];
  wire = { readyState: 1, send: () => undefined, close: () => undefined } as unknown as Wire;
  api = {
    session: () => new Promise(go => this.rows.push(go)),
    log: () => new Promise(go => this.logs.push(go)),
    socket: () => this.wire,
    artifacts: () => Promise.resolve([]),
    variables: () => Promise.resolve([]),
    change: () => Promise.resolve({})
  } as unknown as Api;

  tell(...events: Told[]): void {
    events.forEach(told => this.wire.onmessage!({ data: JSON.stringify(told) }));
  }

  async answer(place: number, held: unknown, events: Told[]): Promise<void> {
    this.rows[place]!(held);
    this.logs[place]!(page(events));
    await new Promise(go => setTimeout(go));
  }
}

async function opened(events: Told[], held: unknown): Promise<[Server, SessionModel]> {
  const server = new Server();
  const session = new SessionModel(server.api, 's');
  const open = session.open();
  await server.answer(0, held, events);
  await open;
  return [server, session];
}

beforeAll(() => vi.stubGlobal('document', { visibilityState: 'hidden' }));

test('a turn that starts while the page is loaded again is where the session is', async () => {
  const first = [...turn(1, 1), ...turn(3, 2)];
  const [server, session] = await opened(first, row(4, 2));
  server.tell(moved(5, 1), ...turn(6, 3));
  expect(session.row!.head_turn).toBe(3);
  await server.answer(1, row(5, 1, true), turn(1, 1));
  expect(session.row!.head_turn).toBe(3);
  expect(session.row!.can_redo).toBe(false);
  expect(session.turns.map(held => held.id)).toEqual(['t1', 't3']);
});

test('what the log tells behind the row is not missed when the session is opened', async () => {
  const [, session] = await opened([...turn(1, 1), ...turn(3, 2, 'edit')], row(2, 1, true));
  expect(session.row!.head_turn).toBe(2);
  expect(session.row!.can_redo).toBe(true); // What was not asked ends no redo.
});

test('of two moves the later one counts, whichever answer comes first', async () => {
  const [server, session] = await opened([...turn(1, 1), ...turn(3, 2)], row(4, 2));
  server.tell(moved(5, 1), moved(6, 2));
  await server.answer(2, row(6, 2), [...turn(1, 1), ...turn(3, 2)]);
  await server.answer(1, row(5, 1, true), turn(1, 1));
  expect(session.row!.head_turn).toBe(2);
  expect(session.turns.length).toBe(2);
});
