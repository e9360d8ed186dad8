/** A turn as it is shown: what was asked, the steps that followed, and how it ended. */

import type { Artifact } from '../api/client';
import type { Output } from './outputs';

export type TurnStatus = 'queued' | 'running' | 'completed' | 'failed' | 'stopped' | 'interrupted';

export interface MessageStep {
  kind: 'message';
  id: string;
  thinking: string;
  text: string;
  /** A cell that the model is still writing. */
  code: string;
  done: boolean;
}

export interface CellStep {
  kind: 'cell';
  cellId: string;
  executionId: string;
  source: string;
  purpose: string;
  status: string;
  outputs: Output[];
  executionCount: number | null;
  startedAt: string;
  durationMs: number | null;
  cause: string | null;
}

export interface ApprovalStep {
  kind: 'approval';
  callId: string;
  messageId: string;
  source: string;
  purpose: string;
  reasons: string[];
  decision: 'approve' | 'reject' | null;
  by: string | null;
}

export interface ToolStep {
  kind: 'tool';
  name: string;
  content: string;
  isError: boolean;
}

export interface NoteStep {
  kind: 'note';
  level: 'info' | 'warning' | 'error';
  text: string;
}

export type Step = MessageStep | CellStep | ApprovalStep | ToolStep | NoteStep;

export interface TurnView {
  id: string;
  n: number;
  /** execute: a cell that was run without the model. */
  does: 'ask' | 'execute' | 'edit';
  query: string;
  by: string;
  files: string[];
  status: TurnStatus;
  agent: string;
  model: string;
  iteration: number;
  maxIterations: number;
  at: string;
  startedAt: string | null;
  endedAt: string | null;
  cause: string | null;
  answer: string | null;
  usage: { prompt_tokens: number; completion_tokens: number; cost: number; calls: number } | null;
  steps: Step[];
  artifacts: Artifact[];
}

/** The text that stands as a turn's answer now: the last words that no cell followed. */
export function answerOf(turn: TurnView): MessageStep | null {
  const last = turn.steps.at(-1);
  return last?.kind === 'message' && !last.code && last.text ? last : null;
}
