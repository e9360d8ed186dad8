"""What a session keeps in mind: facts of its own, and the summary that stands for its older turns."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal

from cellwright.server.domain import Message, Session, Summary, Turn
from cellwright.server.errors import Conflict, Invalid, ModelMalformed, NotFound
from cellwright.server.events import ApprovalDecided, ContextChanged, Used
from cellwright.server.models.catalog import Models
from cellwright.server.models.protocol import ChatMessage, ModelRequest, said
from cellwright.server.settings import Settings
from cellwright.server.store import queries
from cellwright.server.store.log import Log
from cellwright.server.store.sessions import SessionRows

SQL = queries.load("sessions")
MAX_FACTS_BYTES = 32_000
TURN_CHARACTERS = 3_000
INSTRUCTION = (
    "You summarise the earlier part of a conversation between a user and an agent that works in a notebook, so that "
    "the agent can go on from your summary alone. Keep every number that was found, every decision and wish of the "
    "user's, every name of a file, figure, table, column and variable, and what failed and why. Write plain text, "
    "in the conversation's language, in at most {words} words. Begin at once; do not address anybody."
)

Mode = Literal["replace", "merge"]


class Memory:
    """Changes a session's context, through its log."""

    def __init__(self, settings: Settings, log: Log, rows: SessionRows, models: Models) -> None:
        self._settings, self._log, self._rows, self._models = settings, log, rows, models

    async def change(self, session: Session, facts: dict[str, Any], mode: Mode, by: str) -> dict[str, Any]:
        """Replaces all facts, or sets those named (null removes one); raises Invalid when they grow too large."""
        async with self._log.transaction(session.id) as connection:
            row = await connection.fetchrow(SQL.lock_session, session.id)
            if row is None:
                raise NotFound("session", session.id)
            now = dict(facts) if mode == "replace" else {**row["context"], **facts}
            now = {name: fact for name, fact in now.items() if fact is not None}
            held = len(json.dumps(now))
            if held > MAX_FACTS_BYTES:
                raise Invalid(f"The session's facts would take {held:,} bytes; {MAX_FACTS_BYTES:,} are allowed.")
            await self._log.append(session.id, [ContextChanged(context=now, by=by)], within=connection)
        return now

    async def inherit(self, session: Session, other: Session, keys: Sequence[str] | None, by: str) -> dict[str, Any]:
        """Takes facts over from another session; raises NotFound for a key that is not there."""
        for key in keys or ():
            if key not in other.context:
                raise NotFound("fact", key)
        taken = {name: fact for name, fact in other.context.items() if keys is None or name in keys}
        return await self.change(session, taken, "merge", by)

    async def compress(self, session: Session, max_tokens: int, by: str, *, keep_last: int = 1) -> Summary:
        """Has the model summarise all turns but the last ones; a bad reply changes nothing.

        Artifacts and decisions stand in the summary by the log's own account, whatever the model wrote. Raises
        Conflict when there is nothing to summarise, ModelError when the model gives no usable summary.
        """
        conversation = await self._rows.conversation(session.id, self._settings.session_history_limit)
        old = [(turn, messages) for turn, messages in conversation if turn.status.ended]
        old = old[: len(old) - keep_last] if keep_last else old
        if not old:
            raise Conflict("There are no older turns to summarise.")
        model = await self._models.get(session.model)
        former = f"Summary so far:\n{session.summary.text}\n\n" if session.summary is not None else ""
        covered = session.summary.through_turn if session.summary is not None else 0
        told = "\n\n".join(_told(turn, messages) for turn, messages in old if turn.n > covered)
        limit = self._settings.context_tokens * 3  # About as many characters as the model can take.
        request = ModelRequest(
            [
                ChatMessage("system", INSTRUCTION.format(words=max(50, max_tokens // 2))),
                ChatMessage("user", (former + told)[-limit:]),
            ]
        )
        reply = await said(model, request, self._settings.first_token_s, self._settings.between_tokens_s)
        await self._log.append(session.id, [Used(what="summary", model=reply.model or model.name, usage=reply.usage)])
        text = reply.content.strip()
        if reply.finish_reason == "length" or model.count_tokens(text) > max_tokens:
            raise ModelMalformed(f"The model's summary is longer than {max_tokens:,} tokens. Nothing was changed.")
        if len(text) < min(80, len(told) // 10) or reply.tool_calls:
            raise ModelMalformed("The model's reply is no summary. Nothing was changed.")
        text = "\n\n".join([text, *await self._kept(session, old[-1][0].n)])
        summary = Summary(text=text, through_turn=old[-1][0].n, tokens=model.count_tokens(text))
        await self._log.append(session.id, [ContextChanged(summary=summary, by=by)])
        return summary

    async def _kept(self, session: Session, through: int) -> list[str]:
        """What must not be lost, in the log's words."""
        parts = []
        names = await self._rows.artifact_names(session.id, through)
        if names:
            parts.append("Artifacts: " + ", ".join(names))
        decisions = await self._log.of_type(session.id, "approval.decided")
        told = [
            f"- the user {'allowed' if d.decision == 'approve' else 'did not allow'} a cell"
            + (f": {d.reason}" if d.reason else "")
            for d in decisions
            if isinstance(d, ApprovalDecided)
        ]
        if told:
            parts.append("Decisions of the user:\n" + "\n".join(dict.fromkeys(told)))
        return parts


def _told(turn: Turn, messages: Sequence[Message]) -> str:
    """A turn in text, its code and results cut to what a summary needs."""
    lines = [f"## Turn {turn.n}"]
    for message in messages:
        if message.role == "user":
            lines.append(f"User: {message.content}")
        elif message.content:
            lines.append(f"Agent: {message.content}")
        if message.role == "assistant" and message.code:
            lines.append(f"Code:\n{message.code}")
        lines += [f"Result: {result.content[:600]}" for result in message.tool_results]
    if turn.answer and any(message.role == "assistant" and not message.content for message in messages[-1:]):
        lines.append(f"Answer: {turn.answer}")
    text = "\n".join(lines)
    return (
        text
        if len(text) <= TURN_CHARACTERS
        else f"{text[: TURN_CHARACTERS // 2]}\n[…]\n{text[-TURN_CHARACTERS // 2 :]}"
    )
