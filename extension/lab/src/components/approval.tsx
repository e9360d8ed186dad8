/** A cell that waits for the user's word. */

import { Button } from '@jupyterlab/ui-components';
import { useState } from 'react';

import type { Problem } from '../api/client';
import type { SessionModel } from '../model/session';
import type { ApprovalStep, TurnView } from '../model/turn';
import { Note } from './parts';
import { Code } from './rendered';
import { useServices } from './services';

export function ApprovalView(props: { session: SessionModel; turn: TurnView; step: ApprovalStep }): JSX.Element {
  const { step, session, turn } = props;
  const { trans } = useServices();
  const [source, setSource] = useState(step.source);
  const [editing, setEditing] = useState(false);
  const [problem, setProblem] = useState('');
  const [sent, setSent] = useState(false);
  const waits = step.decision === null && turn.status === 'running';
  if (!waits) {
    const said =
      step.decision === 'approve'
        ? trans.__('Approved by %1', step.by ?? '')
        : step.decision === 'reject'
          ? trans.__('Rejected by %1', step.by ?? '')
          : trans.__('Nobody answered');
    return (
      <details className="jp-Cellwright-note" data-level="info">
        <summary>{said}</summary>
        <Code source={step.source} />
      </details>
    );
  }
  const decide = (decision: 'approve' | 'reject') => {
    setSent(true);
    const changed = decision === 'approve' && source !== step.source ? source : undefined;
    session.decide(turn, step.callId, decision, changed).catch((error: Problem) => {
      setSent(false);
      setProblem(error.message);
    });
  };
  return (
    <div className="jp-Cellwright-approval" role="group" aria-label={trans.__('A cell waits for your word')}>
      <strong>{trans.__('May this cell run?')}</strong>
      {step.purpose && <div>{step.purpose}</div>}
      <ul>
        {step.reasons.map(reason => (
          <li key={reason}>{reason}</li>
        ))}
      </ul>
      {editing ? (
        <textarea
          aria-label={trans.__('The code that is to run')}
          value={source}
          rows={Math.min(20, source.split('\n').length + 1)}
          spellCheck={false}
          onChange={event => setSource(event.target.value)}
          onKeyDown={event => event.stopPropagation()}
        />
      ) : (
        <Code source={source} />
      )}
      <div className="jp-Cellwright-choices">
        <Button
          className="jp-mod-styled jp-mod-accept"
          disabled={sent || !session.writable || !source.trim()}
          onClick={() => decide('approve')}
        >
          {source === step.source ? trans.__('Run it') : trans.__('Run what I wrote')}
        </Button>
        <Button
          className="jp-mod-styled jp-mod-reject"
          disabled={sent || !session.writable}
          onClick={() => decide('reject')}
        >
          {trans.__('Reject')}
        </Button>
        {!editing && (
          <Button className="jp-mod-styled" disabled={sent || !session.writable} onClick={() => setEditing(true)}>
            {trans.__('Edit')}
          </Button>
        )}
      </div>
      {problem && (
        <Note level="error" alert>
          {problem}
        </Note>
      )}
    </div>
  );
}
