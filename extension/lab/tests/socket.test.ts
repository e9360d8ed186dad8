import { createServer, connect, type AddressInfo, type Server, type Socket } from 'node:net';

import { afterAll, beforeAll, expect, test } from 'vitest';
import { WebSocket, WebSocketServer } from 'ws';

import { SessionSocket, type Told, type Wire } from '../src/api/socket';

const EVENTS = 12;

/** A server that tells durable events after `?after=`, each followed by a live one. */
let server: WebSocketServer;
/** Passes everything on, but ends one connection after so many bytes of the server's. */
let proxy: Server;
let cutAfter = Infinity;
let cuts = 0;

beforeAll(async () => {
  server = new WebSocketServer({ port: 0, host: '127.0.0.1', perMessageDeflate: false });
  server.on('connection', (wire, request) => {
    const after = Number(new URL(request.url!, 'http://x').searchParams.get('after'));
    for (let id = after + 1; id <= EVENTS; id += 1) {
      wire.send(JSON.stringify({ event: 'fact', id, data: { text: 'é'.repeat(id) } }));
      wire.send(JSON.stringify({ event: 'live', id: null, data: { of: id } }));
    }
  });
  proxy = createServer((client: Socket) => {
    const upstream = connect((server.address() as AddressInfo).port, '127.0.0.1');
    let left = cutAfter;
    cutAfter = Infinity;
    client.on('data', data => upstream.write(data));
    upstream.on('data', data => {
      client.write(data.subarray(0, Math.min(left, data.length)));
      left -= data.length;
      if (left <= 0) {
        cuts += 1;
        client.destroySoon();
        upstream.destroy();
      }
    });
    const end = () => {
      client.destroy();
      upstream.destroy();
    };
    for (const side of [client, upstream]) {
      side.on('error', end);
      side.on('close', end);
    }
  });
  await new Promise<void>(resolve => proxy.listen(0, '127.0.0.1', resolve));
});

afterAll(() => {
  proxy.close();
  server.close();
});

function dial(after: number): Wire {
  const wire = new WebSocket(`ws://127.0.0.1:${(proxy.address() as AddressInfo).port}/?after=${after}`);
  wire.on('error', () => undefined); // A browser's tells of its end by `close` alone.
  return wire as unknown as Wire;
}

/** All that is told until the last event. */
function heard(socket: SessionSocket): Promise<Told[]> {
  return new Promise(resolve => {
    const told: Told[] = [];
    socket.told.connect((_, event) => {
      told.push(event);
      if (event.id === EVENTS) {
        resolve(told);
      }
    });
    socket.open();
  });
}

async function wholeLength(): Promise<number> {
  return new Promise(resolve => {
    const probe = connect((server.address() as AddressInfo).port, '127.0.0.1');
    let seen = 0;
    let timer: NodeJS.Timeout;
    probe.on('data', data => {
      seen += data.length;
      clearTimeout(timer);
      timer = setTimeout(() => (probe.destroy(), resolve(seen)), 50);
    });
    probe.write(
      'GET /?after=0 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n'
    );
  });
}

test('cut at every byte, each durable event is told once, in order', async () => {
  const length = await wholeLength();
  expect(length).toBeGreaterThan(500);
  for (let at = 1; at < length; at += 1) {
    cutAfter = at;
    const socket = new SessionSocket(dial, 0, 1);
    const facts = (await heard(socket)).filter(told => told.event === 'fact');
    socket.close();
    expect(
      facts.map(told => told.id),
      `cut after byte ${at}`
    ).toEqual(Array.from({ length: EVENTS }, (_, i) => i + 1));
    expect(facts.every(told => told.data.text.length === told.id)).toBe(true);
  }
  expect(cuts).toBeGreaterThan(length / 2);
}, 60_000);

test('a session that is gone is not asked for again', async () => {
  let dialled = 0;
  const wires: Wire[] = [];
  const socket = new SessionSocket(
    () => {
      dialled += 1;
      wires.push({
        onopen: null,
        onmessage: null,
        onclose: null,
        readyState: 0,
        send: () => undefined,
        close: () => undefined
      });
      return wires.at(-1)!;
    },
    0,
    1
  );
  socket.open();
  wires[0]!.onclose!({ code: 4404 });
  await new Promise(resolve => setTimeout(resolve, 20));
  expect([dialled, socket.link]).toEqual([1, 'gone']);
  expect(socket.say({})).toBe(false);
});
