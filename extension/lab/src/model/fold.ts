/** What happened in a session, folded from its events into turns that can be shown. Pure: no DOM, no network. */

import type { Artifact, Variable } from '../api/client';
import type { Told } from '../api/socket';
import { OutputArea } from './outputs';
import type { ApprovalStep, CellStep, MessageStep, NoteStep, Step, TurnStatus, TurnView } from './turn';

export interface KernelView {
  status: string;
  cause: string | null;
  variablesLost: boolean;
  /** It goes on after sleep, with what was stored. */
  woken: boolean;
}

/** What a view of a session shows; `take` says which turn an event changed. */
export class SessionFold {
  turns: TurnView[] = [];
  kernel: KernelView | null = null;
  title: string | null = null;
  artifacts = new Map<string, Artifact>();
  /** Names that the last turn made or changed. */
  changed = new Set<string>();
  /** All that the kernel holds; null until somebody asked for it. */
  variables: Map<string, Variable> | null = null;

  /** The turn of this id, if it is among those that were told. */
  turn(id: string | null | undefined): TurnView | undefined {
    return id ? this._byId.get(id) : undefined;
  }

  get running(): TurnView | undefined {
    return this.turns.find(turn => turn.status === 'running');
  }

  get open(): TurnView[] {
    return this.turns.filter(turn => turn.status === 'queued' || turn.status === 'running');
  }

  /** Takes an event; returns the turn that looks different now. */
  take({ event, data }: Told): TurnView | null {
    this._session(event, data);
    if (event === 'turn.queued') {
      return this._queue(data);
    }
    const turn = this.turn(data.turn_id);
    if (turn === undefined) {
      return null;
    }
    this._turn(turn, event, data);
    return turn;
  }

  /** Takes over what only a former fold knows: live text, and what was asked for beside the log. */
  carry(before: SessionFold): void {
    for (const [id, held] of before.artifacts) {
      this.artifacts.set(id, held);
    }
    this.variables = before.variables;
    for (const turn of before.open) {
      const place = this.turns.findIndex(found => found.id === turn.id);
      if (place !== -1) {
        this.turns[place] = turn;
        this._byId.set(turn.id, turn);
      }
    }
    this._areas = before._areas;
  }

  private _queue(data: Record<string, any>): TurnView {
    const known = this.turn(data.turn_id);
    if (known) {
      return known;
    }
    const request = data.request ?? {};
    const turn: TurnView = {
      id: data.turn_id,
      n: data.n,
      does: request.kind ?? 'ask',
      query: data.query,
      by: request.asked_by ?? '',
      files: request.file_ids ?? [],
      status: 'queued',
      agent: '',
      model: '',
      iteration: 0,
      maxIterations: 0,
      at: data.at,
      startedAt: null,
      endedAt: null,
      cause: null,
      answer: null,
      usage: null,
      steps: [],
      artifacts: []
    };
    this.turns.push(turn);
    this._byId.set(turn.id, turn);
    return turn;
  }

  private _session(event: string, data: Record<string, any>): void {
    switch (event) {
      case 'title.changed':
        this.title = data.title;
        break;
      case 'kernel.changed':
        this.kernel = {
          status: data.status,
          cause: data.cause,
          variablesLost: data.variables_lost,
          woken: data.status === 'restored' && this._asleep
        };
        this._asleep = data.status === 'hibernated' || (data.status === 'starting' && this._asleep);
        if (data.variables_lost || data.status === 'restarted') {
          this.variables = new Map();
        }
        break;
      case 'turn.started':
        this.changed = new Set();
        break;
      case 'variables.changed': {
        const told = [...data.added, ...data.changed] as Variable[];
        if (data.turn_id) {
          told.forEach(found => this.changed.add(found.name)); // All others were brought back.
        }
        if (this.variables !== null) {
          const kept = [...this.variables.values()].filter(held => !data.removed.includes(held.name));
          this.variables = new Map([...kept, ...told].map(found => [found.name, found]));
        }
        break;
      }
      case 'artifact.ready':
      case 'file.uploaded':
        this.artifacts.set(data.artifact.id, data.artifact);
        break;
      case 'artifact.changed': {
        const held = this.artifacts.get(data.artifact_id);
        if (held) {
          this.artifacts.set(held.id, { ...held, ...data.changes });
        }
        break;
      }
      case 'artifact.deleted':
        this.artifacts.delete(data.artifact_id);
        break;
    }
  }

  private _turn(turn: TurnView, event: string, data: Record<string, any>): void {
    switch (event) {
      case 'turn.started':
        turn.status = 'running';
        turn.startedAt = data.at;
        turn.agent = data.agent;
        turn.model = data.model;
        turn.maxIterations = data.max_iterations;
        break;
      case 'iteration.completed':
        turn.iteration = data.iteration;
        break;
      case 'message.delta':
      case 'message.snapshot':
        this._write(turn, data);
        break;
      case 'message.completed':
        this._message(turn, data);
        break;
      case 'message.edited': {
        const step = this._messageStep(turn, data.message_id);
        if (step) {
          step.text = data.content;
          turn.answer = turn.answer === data.former ? data.content : turn.answer;
        }
        break;
      }
      case 'attempt.discarded':
        turn.steps = turn.steps.filter(step => !(step.kind === 'message' && step.id === data.message_id));
        if (data.retry_in_s !== null) {
          this._note(turn, 'warning', `The model failed, and is asked again: ${data.reason}`);
        }
        break;
      case 'approval.requested':
        this._quiet(turn, data.message_id);
        this._put(turn, {
          kind: 'approval',
          callId: data.call_id,
          messageId: data.message_id,
          source: data.source,
          purpose: data.purpose,
          reasons: data.reasons,
          decision: null,
          by: null
        });
        break;
      case 'approval.decided': {
        const step = turn.steps.find(
          found => found.kind === 'approval' && found.callId === data.call_id && found.messageId === data.message_id
        ) as ApprovalStep | undefined;
        if (step) {
          step.decision = data.decision;
          step.by = data.by;
        }
        break;
      }
      case 'cell.started':
        this._quiet(turn, data.message_id);
        this._areas.set(data.execution_id, new OutputArea());
        this._put(turn, {
          kind: 'cell',
          cellId: data.cell_id,
          executionId: data.execution_id,
          source: data.source,
          purpose: data.purpose,
          status: 'running',
          outputs: [],
          executionCount: null,
          startedAt: data.at,
          durationMs: null,
          cause: null
        });
        break;
      case 'cell.output':
      case 'cell.snapshot': {
        const step = this._cell(turn, data.execution_id);
        const area = this._areas.get(data.execution_id);
        if (step?.status === 'running' && area) {
          if (event === 'cell.snapshot') {
            area.snapshot(data.outputs);
          } else {
            area.take(data);
          }
          step.outputs = area.outputs;
        }
        break;
      }
      case 'cell.completed': {
        const step = this._cell(turn, data.execution_id);
        if (step) {
          step.status = data.status;
          step.outputs = data.outputs;
          step.executionCount = data.execution_count;
          step.durationMs = data.duration_ms;
          step.cause = data.cause;
          this._areas.delete(data.execution_id);
        }
        break;
      }
      case 'tool.completed':
        if (!data.result.cell_id) {
          this._put(turn, {
            kind: 'tool',
            name: data.result.name,
            content: data.result.content,
            isError: data.result.is_error
          });
        }
        break;
      case 'artifact.ready':
        turn.artifacts = [...turn.artifacts.filter(held => held.id !== data.artifact.id), data.artifact];
        break;
      case 'artifact.deleted':
        turn.artifacts = turn.artifacts.filter(held => held.id !== data.artifact_id);
        break;
      case 'artifact.failed':
        this._note(turn, 'warning', `${data.name} could not be kept: ${data.reason}`);
        break;
      case 'notebook.failed':
        this._note(
          turn,
          'warning',
          `The notebook could not be written (${data.reason}). Nothing is lost: the log has all of it.`
        );
        break;
      case 'kernel.changed':
        if (data.status === 'died' || data.status === 'restored' || data.variables_lost) {
          this._note(turn, data.variables_lost ? 'error' : 'info', kernelNote(data));
        }
        break;
      case 'turn.completed':
      case 'turn.failed':
      case 'turn.stopped':
      case 'turn.interrupted':
        this._end(turn, event.slice('turn.'.length) as TurnStatus, data);
        break;
    }
  }

  private _messageStep(turn: TurnView, id: string): MessageStep | undefined {
    return turn.steps.find(step => step.kind === 'message' && step.id === id) as MessageStep | undefined;
  }

  private _cell(turn: TurnView, execution: string): CellStep | undefined {
    return turn.steps.find(step => step.kind === 'cell' && step.executionId === execution) as CellStep | undefined;
  }

  /** The message step of this id, made at the end where there is none. */
  private _being(turn: TurnView, id: string, done: boolean): MessageStep {
    let step = this._messageStep(turn, id);
    if (!step) {
      step = { kind: 'message', id, thinking: '', text: '', code: '', done };
      this._put(turn, step);
    }
    return step;
  }

  /** Puts a step at the end, but before what is still being written: live text may overtake what led to it. */
  private _put(turn: TurnView, step: Step): void {
    let place = turn.steps.length;
    if (step.kind !== 'message' || step.done) {
      for (let last = turn.steps[place - 1]; last?.kind === 'message' && !last.done; last = turn.steps[place - 1]) {
        place -= 1;
      }
    }
    turn.steps.splice(place, 0, step);
  }

  private _write(turn: TurnView, data: Record<string, any>): void {
    const step = this._being(turn, data.message_id, false);
    if (step.done) {
      return;
    }
    const put = (channel: string, offset: number, text: string) => {
      const name = channel === 'thinking' ? 'thinking' : channel === 'code' ? 'code' : 'text';
      step[name] = step[name].slice(0, offset) + text;
    };
    if (data.text && typeof data.text === 'object') {
      for (const [channel, text] of Object.entries(data.text as Record<string, string>)) {
        put(channel, 0, text);
      }
    } else {
      put(data.channel, data.offset, data.text);
    }
  }

  private _message(turn: TurnView, data: Record<string, any>): void {
    if (data.role !== 'assistant') {
      return;
    }
    const step = this._being(turn, data.message_id, true);
    step.thinking = data.thoughts ?? '';
    step.text = data.content ?? '';
    step.code = '';
    step.done = true;
    // What it wrote as a cell is shown as soon as the cell starts; until then, here.
    const cell = (data.tool_calls ?? []).find((call: any) => call.name === 'run_cell' || call.name === 'edit_cell');
    if (cell) {
      try {
        step.code = JSON.parse(cell.arguments).source ?? '';
      } catch {
        step.code = '';
      }
    }
  }

  /** The code of a message is shown by its cell from now on. */
  private _quiet(turn: TurnView, message: string | null): void {
    const step = message ? this._messageStep(turn, message) : undefined;
    if (step) {
      step.code = '';
    }
  }

  private _note(turn: TurnView, level: NoteStep['level'], text: string): void {
    this._put(turn, { kind: 'note', level, text });
  }

  private _end(turn: TurnView, status: TurnStatus, data: Record<string, any>): void {
    turn.status = status;
    turn.endedAt = data.at;
    turn.cause = data.cause;
    turn.answer = data.answer;
    turn.usage = data.usage;
    for (const step of turn.steps) {
      if (step.kind === 'message') {
        step.done = true;
        step.code = '';
      }
    }
    turn.steps = turn.steps.filter(step => step.kind !== 'message' || step.text || step.thinking);
  }

  private _asleep = false;
  private _byId = new Map<string, TurnView>();
  private _areas = new Map<string, OutputArea>();
}

function kernelNote(data: Record<string, any>): string {
  const cause = data.cause ? `: ${data.cause}` : '';
  if (data.status === 'restored') {
    return `The kernel's variables were brought back${cause}.`;
  }
  return data.variables_lost ? `The kernel ended${cause}. Its variables are gone.` : `The kernel ended${cause}.`;
}
