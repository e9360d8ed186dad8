/** One turn: its steps as they happen, and how it ended. */

import {
  Button,
  addBelowIcon,
  caretRightIcon,
  copyIcon,
  duplicateIcon,
  editIcon,
  notebookIcon,
  refreshIcon,
  stopIcon,
  undoIcon
} from '@jupyterlab/ui-components';
import { Clipboard } from '@jupyterlab/apputils';
import { useState } from 'react';

import type { Pending, SessionModel } from '../model/session';
import {
  answerOf,
  type CellStep,
  type MessageStep,
  type NoteStep,
  type Step,
  type ToolStep,
  type TurnView
} from '../model/turn';
import { ApprovalView } from './approval';
import { ArtifactCard } from './artifacts';
import { Elapsed, IconButton, Note } from './parts';
import { Code, Markdown, Outputs } from './rendered';
import { useServices, useSignal } from './services';
import { money, seconds, tokens } from './words';

export interface TurnProps {
  session: SessionModel;
  turn: TurnView;
}

function useTurn({ session, turn }: TurnProps): void {
  useSignal(session.turnChanged, changed => changed.id === turn.id);
}

/** What can be done with a turn depends on those that are open. */
function useOpen(session: SessionModel): void {
  useSignal(session.turnChanged, turn => turn.status !== 'running' || turn.steps.length === 0);
}

export function TurnSteps(props: TurnProps): JSX.Element {
  useTurn(props);
  const { session, turn } = props;
  const { trans } = useServices();
  const answer = answerOf(turn);
  return (
    <div className="jp-Cellwright-steps" data-turn={turn.n} data-status={turn.status}>
      {turn.steps.map((step, i) => (
        <StepView key={stepKey(step, i)} step={step} session={session} turn={turn} answer={step === answer} />
      ))}
      {turn.status === 'queued' && (
        <div className="jp-Cellwright-status">
          {trans.__('Waiting for the turn before')}
          <IconButton
            icon={stopIcon}
            label={trans.__('Take it back')}
            onClick={() => void session.stopTurn(turn)}
            text
          />
        </div>
      )}
      {turn.status === 'running' && <Doing session={session} turn={turn} />}
    </div>
  );
}

function stepKey(step: Step, place: number): string {
  switch (step.kind) {
    case 'message':
      return step.id;
    case 'cell':
      return step.executionId;
    case 'approval':
      return `${step.messageId}/${step.callId}`;
    default:
      return `${place}`;
  }
}

function StepView({ step, session, turn, answer }: TurnProps & { step: Step; answer: boolean }): JSX.Element | null {
  switch (step.kind) {
    case 'message':
      return <MessageView step={step} answer={answer} />;
    case 'cell':
      return <CellView step={step} session={session} turn={turn} />;
    case 'approval':
      return <ApprovalView step={step} session={session} turn={turn} />;
    case 'tool':
      return <ToolView step={step} />;
    case 'note':
      return <NoteView step={step} />;
  }
}

function MessageView({ step, answer }: { step: MessageStep; answer: boolean }): JSX.Element | null {
  const { trans } = useServices();
  return (
    <>
      {step.thinking && (
        <details className="jp-Cellwright-thinking">
          <summary>{step.done || step.text || step.code ? trans.__('Thoughts') : trans.__('Thinking…')}</summary>
          <Markdown text={step.thinking} />
        </details>
      )}
      {step.text && !answer && <Markdown text={step.text} />}
      {step.code && (
        <div className="jp-Cellwright-cell" data-status="writing">
          <Code source={step.code} />
        </div>
      )}
    </>
  );
}

function CellView({ step, session, turn }: TurnProps & { step: CellStep }): JSX.Element {
  const { trans, openNotebook, insertCode } = useServices();
  const failed = step.status !== 'running' && step.status !== 'ok';
  const [open, setOpen] = useState<boolean | null>(null);
  const outputs = session.whole(turn, step.outputs);
  const shown = open ?? step.status === 'running';
  const name = step.purpose || step.source.trim().split('\n')[0];
  return (
    <section
      className="jp-Cellwright-cell"
      data-status={step.status}
      data-cell={step.cellId}
      aria-label={trans.__('Cell: %1', name)}
    >
      <div className="jp-Cellwright-cell-head">
        <button
          className="jp-Cellwright-fold"
          aria-expanded={shown}
          onClick={() => setOpen(!shown)}
          title={shown ? trans.__('Hide the code') : trans.__('Show the code')}
        >
          <caretRightIcon.react tag="span" width="14px" height="14px" className={shown ? 'jp-mod-open' : ''} />
          <span className="jp-Cellwright-cell-name">{name}</span>
        </button>
        <span className="jp-Cellwright-cell-state">
          {step.status === 'running' ? <Elapsed since={step.startedAt} /> : cellState(step, trans)}
        </span>
        <span className="jp-Cellwright-tools">
          <IconButton
            icon={copyIcon}
            label={trans.__('Copy the code')}
            onClick={() => Clipboard.copyToSystem(step.source)}
          />
          <IconButton
            icon={addBelowIcon}
            label={trans.__('Insert the code into the active notebook')}
            onClick={() => void insertCode(step.source)}
          />
          <IconButton
            icon={notebookIcon}
            label={trans.__('Show it in the notebook')}
            onClick={() => void openNotebook(session, step.cellId)}
          />
        </span>
      </div>
      {shown && <Code source={step.source} />}
      {outputs === null ? (
        <div className="jp-Cellwright-status">{trans.__('Loading the output…')}</div>
      ) : (
        outputs.length > 0 && <Outputs outputs={outputs} />
      )}
      {failed && step.cause && <Note level="error">{step.cause}</Note>}
    </section>
  );
}

function cellState(step: CellStep, trans: { __: (text: string) => string }): string {
  const took = step.durationMs === null ? '' : seconds(step.durationMs);
  const words: Record<string, string> = {
    ok: '',
    error: trans.__('failed'),
    aborted: trans.__('did not run'),
    interrupted: trans.__('interrupted'),
    timeout: trans.__('took too long'),
    kernel_died: trans.__('the kernel died'),
    outcome_unknown: trans.__('nobody knows how it ended')
  };
  return [words[step.status] ?? step.status, took].filter(Boolean).join(' · ');
}

function ToolView({ step }: { step: ToolStep }): JSX.Element {
  const { trans } = useServices();
  const words: Record<string, string> = {
    list_files: trans.__('Looked at the files'),
    read_file: trans.__('Read a file'),
    inspect_variable: trans.__('Looked at a variable'),
    write_markdown: trans.__('Wrote into the notebook'),
    remember: trans.__('Kept something in mind'),
    checkpoint: trans.__('Made a checkpoint'),
    rewind: trans.__('Went back to a checkpoint'),
    recover_variables: trans.__('Brought lost variables back'),
    finish: trans.__('Finished')
  };
  return (
    <details className="jp-Cellwright-tool">
      <summary>
        {words[step.name] ?? step.name}
        {step.isError ? ` · ${trans.__('failed')}` : ''}
      </summary>
      <pre>{step.content}</pre>
    </details>
  );
}

function NoteView({ step }: { step: NoteStep }): JSX.Element {
  return <Note level={step.level}>{step.text}</Note>;
}

/** What a running turn does at this moment. */
function Doing({ session, turn }: TurnProps): JSX.Element | null {
  const { trans } = useServices();
  const last = turn.steps.at(-1);
  if (last?.kind === 'approval' && last.decision === null) {
    return null;
  }
  const words =
    last?.kind === 'cell' && last.status === 'running'
      ? trans.__('Running a cell')
      : last?.kind === 'message' && !last.done && last.code
        ? trans.__('Writing code')
        : last?.kind === 'message' && !last.done && last.text
          ? trans.__('Writing')
          : trans.__('Thinking');
  return (
    <div className="jp-Cellwright-status jp-mod-busy">
      <span className="jp-Cellwright-pulse" aria-hidden="true" />
      {words}
      {turn.iteration > 0 && turn.maxIterations > 0 ? ` · ${trans.__('step %1', turn.iteration + 1)}` : ''}
      {turn.startedAt && <Elapsed since={turn.startedAt} />}
      {session.writable && (
        <span className="jp-Cellwright-tools">
          <IconButton icon={stopIcon} label={trans.__('Stop')} onClick={() => void session.stopTurn(turn)} text />
        </span>
      )}
    </div>
  );
}

/** Under the answer: what the turn made, how it ended, what can be done with it. */
export function TurnEnd(props: TurnProps): JSX.Element | null {
  useTurn(props);
  useOpen(props.session);
  const { session, turn } = props;
  const { trans, rewind } = useServices();
  if (turn.status === 'queued' || turn.status === 'running') {
    return null;
  }
  const cells = turn.steps.filter(step => step.kind === 'cell').length;
  const took = turn.startedAt && turn.endedAt ? Date.parse(turn.endedAt) - Date.parse(turn.startedAt) : null;
  const used = turn.usage ? turn.usage.prompt_tokens + turn.usage.completion_tokens : 0;
  const facts = [
    cells > 0 ? trans._n('%1 cell', '%1 cells', cells) : '',
    took === null ? '' : seconds(took),
    used > 0 ? trans.__('%1 tokens', tokens(used)) : '',
    turn.usage ? money(turn.usage.cost) : ''
  ].filter(Boolean);
  const again = () => void session.ask(turn.query, [], turn.files);
  return (
    <div className="jp-Cellwright-end">
      {turn.artifacts.length > 0 && (
        <div className="jp-Cellwright-cards" role="list" aria-label={trans.__('Artifacts')}>
          {turn.artifacts.map(artifact => (
            <ArtifactCard key={artifact.id} artifact={artifact} session={session} />
          ))}
        </div>
      )}
      <Ending turn={turn} />
      <div className="jp-Cellwright-facts">
        <span>{facts.join(' · ')}</span>
        <span className="jp-Cellwright-tools">
          {turn.answer && (
            <IconButton
              icon={copyIcon}
              label={trans.__('Copy the answer')}
              onClick={() => Clipboard.copyToSystem(turn.answer ?? '')}
            />
          )}
          {turn.does === 'ask' && session.writable && (
            <IconButton
              icon={refreshIcon}
              label={trans.__('Try again')}
              onClick={again}
              text={turn.status !== 'completed'}
            />
          )}
          {session.writable && session.fold.open.length === 0 && (
            <>
              {turn.does === 'ask' && (
                <IconButton
                  icon={editIcon}
                  label={trans.__('Edit and ask again')}
                  onClick={() => void rewind.askAgain(session, turn)}
                />
              )}
              {session.turns.at(-1) !== turn && (
                <IconButton
                  icon={undoIcon}
                  label={trans.__('Rewind to here')}
                  onClick={() => void rewind.to(session, turn)}
                />
              )}
              <IconButton
                icon={duplicateIcon}
                label={trans.__('Branch from here')}
                onClick={() => void rewind.branch(session, turn)}
              />
            </>
          )}
        </span>
      </div>
    </div>
  );
}

function Ending({ turn }: { turn: TurnView }): JSX.Element | null {
  const { trans } = useServices();
  if (turn.status === 'completed') {
    return null;
  }
  const cause = turn.cause ?? '';
  const words: Record<string, string> = {
    failed: trans.__('The turn failed'),
    stopped: trans.__('Stopped'),
    interrupted: trans.__('The server stopped in the middle')
  };
  return (
    <Note level={turn.status === 'failed' ? 'error' : 'info'} alert={turn.status === 'failed'}>
      <strong>{words[turn.status]}</strong>
      {cause && turn.status !== 'stopped' ? ` — ${cause}` : ''}
      {turn.status !== 'failed' && <div>{trans.__('What ran before stays: cells, variables and files.')}</div>}
    </Note>
  );
}

/** Under a question that the server has not taken. */
export function PendingEnd({ pending, session }: { pending: Pending; session: SessionModel }): JSX.Element {
  useSignal(session.changed);
  const { trans } = useServices();
  if (pending.problem === null) {
    return <div className="jp-Cellwright-status">{trans.__('Sending…')}</div>;
  }
  const again = () => void session.send(pending);
  return (
    <Note level="error" alert>
      <strong>{trans.__('This was not sent')}</strong>
      {` — ${pending.problem.message}`}
      <div className="jp-Cellwright-choices">
        <Button className="jp-mod-styled jp-mod-accept" onClick={again}>
          {trans.__('Send again')}
        </Button>
        <Button className="jp-mod-styled" onClick={() => session.forget(pending)}>
          {trans.__('Take it back')}
        </Button>
      </div>
    </Note>
  );
}
