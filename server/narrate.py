"""An event in a person's words: the phase that a turn is in, and one line."""

from __future__ import annotations

from cellwright.server import events as e

PHASES = {
    "turn.queued": "queued",
    "turn.started": "started",
    "message.delta": "thinking",
    "message.snapshot": "thinking",
    "message.completed": "thinking",
    "attempt.discarded": "thinking",
    "cell.started": "executing",
    "cell.output": "executing",
    "cell.snapshot": "executing",
    "cell.completed": "executing",
    "tool.completed": "executing",
    "iteration.completed": "iteration_complete",
    "turn.completed": "completed",
    "turn.stopped": "stopped",
    "turn.interrupted": "error",
    "turn.failed": "error",
}


def phase(event_type: str, channel: str | None = None) -> str | None:
    """The phase of a turn that an event of this type belongs to."""
    return "generating_code" if channel == "code" else PHASES.get(event_type)


def line(event: e.Event) -> str:
    """One line for people."""
    match event:
        case e.TurnQueued(n=n):
            return f"Turn {n} is queued."
        case e.TurnStarted(n=n):
            return f"Turn {n} has started."
        case e.MessageCompleted(message=message):
            return "The agent wrote code." if message.code else "The agent answered."
        case e.AttemptDiscarded(reason=reason, retry_in_s=None):
            return f"The model failed: {reason}"
        case e.AttemptDiscarded(reason=reason, retry_in_s=seconds):
            return f"The model failed, trying again in {seconds:.0f} s: {reason}"
        case e.CellStarted(purpose=purpose):
            return f"Running: {purpose}" if purpose else "Running a cell."
        case e.CellCompleted(status=status, duration_ms=ms):
            return f"The cell ended: {status.value} ({ms / 1000:.1f} s)."
        case e.KernelChanged(status="died", cause=cause):
            return f"The kernel died: {cause}. Its variables are gone."
        case e.KernelChanged(status=status):
            return f"The kernel is {status}."
        case e.HeadMoving():
            return "The session goes to another point."
        case e.HeadStayed(cause=cause):
            return f"The session is where it was: {cause}"
        case e.HeadMoved(rewound=rewound):
            place = f"after turn {rewound.to_turn}" if rewound.to_turn else "before the first turn"
            return f"The session is {place} now."
        case e.SessionBranched(direction="to", turn=turn):
            return f"A branch was made from turn {turn}."
        case e.SessionBranched(turn=turn):
            return f"This is a branch, from turn {turn}."
        case e.CheckpointCreated(label=str(label)):
            return f"The point {label!r} is kept."
        case e.CheckpointCreated(kept=kept):
            return f"{len(kept)} variables are stored."
        case e.WorkspaceSaved(files=files):
            return f"{len(files)} files are kept."
        case e.FileUploaded(artifact=artifact):
            return f"{artifact.name} was uploaded."
        case e.ArtifactReady(artifact=artifact):
            return f"{artifact.name} is ready."
        case e.ArtifactFailed(name=name, reason=reason):
            return f"{name} could not be kept: {reason}"
        case e.IterationCompleted(iteration=iteration, max_iterations=most):
            return f"Iteration {iteration} of {most}."
        case e.TurnCompleted():
            return "The turn is complete."
        case e.TurnFailed(cause=cause) | e.TurnInterrupted(cause=cause) | e.TurnStopped(cause=cause):
            return cause or "The turn ended."
        case e.TitleChanged(title=title):
            return f"The title is now {title!r}."
        case e.VariablesChanged(added=added, changed=changed, removed=removed):
            return f"Variables: {len(added)} new, {len(changed)} changed, {len(removed)} gone."
        case _:
            return event.type
