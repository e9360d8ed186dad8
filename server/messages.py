"""Messages that users add, edit and delete. What the model is told next follows; the log keeps what was."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

from cellwright.server import events as e
from cellwright.server.domain import Message, MessageId, Session, new_id
from cellwright.server.errors import Conflict
from cellwright.server.store.log import Log
from cellwright.server.store.sessions import SessionRows


class Messages:
    """Changes a conversation without a turn."""

    def __init__(self, log: Log, rows: SessionRows) -> None:
        self._log, self._rows = log, rows

    async def add(
        self,
        session: Session,
        role: Literal["user", "assistant", "system"],
        content: str,
        metadata: dict[str, Any],
    ) -> Message:
        """A message that stands behind the last turn."""
        message = Message(
            id=MessageId(new_id()),
            session_id=session.id,
            role=role,
            content=content,
            metadata=metadata,
            created_at=datetime.now(UTC),
        )
        await self._log.append(session.id, [e.MessageCompleted(message=message)])
        return await self._rows.message(message.id)

    async def edit(self, message: Message, content: str, by: str) -> Message:
        """Gives a message other words; raises Conflict while its turn is under way."""
        summary = await self._at_rest(message, by)
        edited = e.MessageEdited(message_id=message.id, content=content, former=message.content, by=by)
        await self._log.append(message.session_id, [edited, *summary])
        return await self._rows.message(message.id)

    async def delete(self, message: Message, by: str) -> None:
        """Takes a message out of the conversation, with the results of its tool calls; raises Conflict."""
        summary = await self._at_rest(message, by)
        await self._log.append(message.session_id, [e.MessageDeleted(message_id=message.id, by=by), *summary])

    async def _at_rest(self, message: Message, by: str) -> list[e.Event]:
        """Sees that nothing is being made of the message; what to forget with it."""
        turn = await self._rows.turn(message.turn_id) if message.turn_id is not None else None
        if turn is not None and not turn.status.ended:
            raise Conflict("The message belongs to a turn that is under way: stop it first.")
        summary = (await self._rows.get(message.session_id)).summary
        return [] if summary is None else [e.ContextChanged(forget_summary=True, by=by)]
