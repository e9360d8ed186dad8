import { expect, test } from 'vitest';

import type { Variable } from '../src/api/client';
import type { Told } from '../src/api/socket';
import { SessionFold } from '../src/model/fold';
import { answerOf, type CellStep, type MessageStep, type TurnView } from '../src/model/turn';

const AT = '2026-11-20T10:00:00Z';

/** A turn's events, numbered from `first`; live ones have no number. */
function turn(id: string, ...events: [string, Record<string, unknown>][]): Told[] {
  let number = 0;
  const live = /\.(delta|snapshot|output)$/;
  return [
    ['turn.queued', { n: 1, query: 'Why?', request: {} }] as const,
    ['turn.started', { agent: 'a', model: 'm', max_iterations: 25 }] as const,
    ...events
  ].map(([event, data]) => ({
    event,
    id: live.test(event) ? null : (number += 1),
    data: { turn_id: id, at: AT, ...data }
  }));
}

function folded(events: Told[]): [SessionFold, TurnView] {
  const fold = new SessionFold();
  events.forEach(told => fold.take(told));
  return [fold, fold.turns[0]!];
}

const CELL = { cell_id: 'c', execution_id: 'e', source: '1+1', purpose: 'Add', message_id: 'm1' };
const WROTE = {
  role: 'assistant',
  message_id: 'm1',
  content: 'I add.',
  thoughts: 'hm',
  tool_calls: [{ id: 't', name: 'run_cell', arguments: '{"source": "1+1"}' }]
};
const RAN = {
  ...CELL,
  status: 'ok',
  outputs: [{ output_type: 'stream', name: 'stdout', text: '2\n' }],
  execution_count: 1,
  duration_ms: 5,
  cause: null
};
const SAID = { role: 'assistant', message_id: 'm2', content: 'Two.', thoughts: null, tool_calls: [] };
const ENDED = {
  answer: 'Two.',
  artifacts: [],
  usage: { prompt_tokens: 3, completion_tokens: 2, cost: 0, calls: 2 },
  cause: null
};

test('a whole turn: words, cell, answer', () => {
  const [, view] = folded(
    turn(
      't',
      ['message.completed', WROTE],
      ['cell.started', CELL],
      ['cell.completed', RAN],
      ['message.completed', SAID],
      ['turn.completed', ENDED]
    )
  );
  expect(view.steps.map(step => step.kind)).toEqual(['message', 'cell', 'message']);
  expect(view.status).toBe('completed');
  expect(answerOf(view)?.text).toBe('Two.');
  expect((view.steps[0] as MessageStep).code).toBe('');
  expect((view.steps[1] as CellStep).outputs).toEqual(RAN.outputs);
});

test('live text stands where the durable message will, and is replaced by it', () => {
  const events = turn(
    't',
    ['message.delta', { message_id: 'm2', channel: 'thinking', offset: 0, text: 'Let me' }],
    ['message.delta', { message_id: 'm2', channel: 'answer', offset: 0, text: 'Tw' }],
    ['message.delta', { message_id: 'm2', channel: 'answer', offset: 2, text: 'o' }]
  );
  const [fold, view] = folded(events);
  expect(answerOf(view)).toMatchObject({ thinking: 'Let me', text: 'Two', done: false });
  fold.take({ event: 'message.completed', id: 3, data: { turn_id: 't', at: AT, ...SAID } });
  fold.take({
    event: 'message.delta',
    id: null,
    data: { turn_id: 't', message_id: 'm2', channel: 'answer', offset: 3, text: '!!' }
  });
  expect(view.steps).toHaveLength(1);
  expect(answerOf(view)?.text).toBe('Two.');
});

test('a snapshot says all so far, whatever was missed', () => {
  const [, view] = folded(
    turn(
      't',
      ['message.snapshot', { message_id: 'm1', text: { answer: 'Long text', code: '1+' } }],
      ['message.delta', { message_id: 'm1', channel: 'code', offset: 2, text: '1' }]
    )
  );
  expect(view.steps[0]).toMatchObject({ text: 'Long text', code: '1+1' });
  expect(answerOf(view)).toBeNull();
});

test('what a failed attempt wrote goes, and the reader is told why', () => {
  const [, view] = folded(
    turn(
      't',
      ['message.delta', { message_id: 'm1', channel: 'answer', offset: 0, text: 'Half' }],
      ['attempt.discarded', { message_id: 'm1', reason: 'it was cut', retry_in_s: 1 }]
    )
  );
  expect(view.steps).toMatchObject([{ kind: 'note', level: 'warning' }]);
});

test("a cell's live output is replaced by what it ended with", () => {
  const live = { execution_id: 'e', cell_id: 'c', output: { output_type: 'stream', name: 'stdout', text: 'live' } };
  const [fold, view] = folded(turn('t', ['cell.started', CELL], ['cell.output', live]));
  const cell = view.steps[0] as CellStep;
  expect(cell.outputs[0]!.text).toBe('live');
  fold.take({ event: 'cell.completed', id: 4, data: { turn_id: 't', at: AT, ...RAN } });
  fold.take({ event: 'cell.output', id: null, data: { turn_id: 't', ...live } });
  expect(cell.outputs).toEqual(RAN.outputs);
});

test('a cell that waits is asked for until somebody decides', () => {
  const asked = { call_id: 't', message_id: 'm1', source: 'rm', purpose: '', reasons: ['deletes'] };
  const [fold, view] = folded(turn('t', ['message.completed', WROTE], ['approval.requested', asked]));
  expect(view.steps[1]).toMatchObject({ kind: 'approval', decision: null });
  fold.take({
    event: 'approval.decided',
    id: 5,
    data: { turn_id: 't', at: AT, ...asked, decision: 'reject', by: 'me' }
  });
  expect(view.steps[1]).toMatchObject({ decision: 'reject', by: 'me' });
});

test('variables: what a turn changed is marked until the next begins; a lost kernel has none', () => {
  const x = { name: 'x', type: 'int' };
  const told = turn('t', ['variables.changed', { added: [x], changed: [], removed: ['gone'] }]);
  const [fold] = folded(told);
  expect([...fold.changed]).toEqual(['x']);
  expect(fold.variables).toBeNull(); // What was there before is not known: this is no list of all.
  fold.variables = new Map(['y', 'gone'].map(name => [name, { name } as Variable]));
  fold.take(told.at(-1)!);
  expect([...fold.variables.keys()]).toEqual(['y', 'x']);
  fold.take({ event: 'turn.queued', id: 8, data: { turn_id: 'u', at: AT, n: 2, query: '?', request: {} } });
  fold.take({
    event: 'turn.started',
    id: 9,
    data: { turn_id: 'u', at: AT, agent: 'a', model: 'm', max_iterations: 1 }
  });
  expect([...fold.changed]).toEqual([]);
  fold.take({
    event: 'kernel.changed',
    id: 10,
    data: { at: AT, status: 'died', cause: 'memory', variables_lost: true }
  });
  expect(fold.variables!.size).toBe(0);
});

test('events of turns that were not told before change nothing', () => {
  const fold = new SessionFold();
  expect(fold.take({ event: 'cell.started', id: 3, data: { turn_id: 'unknown', at: AT, ...CELL } })).toBeNull();
  expect(fold.turns).toEqual([]);
});

test('live text that overtakes the cell before it stands behind that cell', () => {
  const [fold, view] = folded(
    turn(
      't',
      ['message.completed', WROTE],
      ['message.delta', { message_id: 'm2', channel: 'answer', offset: 0, text: 'Two.' }]
    )
  );
  fold.take({ event: 'cell.started', id: 4, data: { turn_id: 't', at: AT, ...CELL } });
  fold.take({ event: 'cell.completed', id: 5, data: { turn_id: 't', at: AT, ...RAN } });
  expect(view.steps.map(step => step.kind)).toEqual(['message', 'cell', 'message']);
});
