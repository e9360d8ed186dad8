"""Names for conversations: the model's, or the first words of the first question."""

from __future__ import annotations

import asyncio
import re

import structlog
from cellwright.server.domain import Session, SessionId
from cellwright.server.errors import CellwrightError
from cellwright.server.events import TitleChanged, Used
from cellwright.server.models import rehearsal
from cellwright.server.models.catalog import Models
from cellwright.server.models.protocol import ChatMessage, ModelRequest, said
from cellwright.server.settings import Settings
from cellwright.server.store.log import Log
from cellwright.server.store.sessions import SessionRows

INSTRUCTION = (
    "You name conversations. Answer with a title of three to six words for the conversation that follows, in its own "
    "language, without quotes and without a full stop. Nothing else."
)
MAX_CHARACTERS = 80
TOLD_CHARACTERS = 1_500
WITHIN_S = 30.0

log = structlog.get_logger(__name__)


class Titles:
    """Names sessions that their users did not name."""

    def __init__(self, settings: Settings, events: Log, rows: SessionRows, models: Models) -> None:
        self._settings, self._log, self._rows, self._models = settings, events, rows, models
        self._tasks: set[asyncio.Task[None]] = set()

    def after(self, session_id: SessionId) -> None:
        """Names the session soon, if it still goes by the default title."""
        task = asyncio.create_task(self._name_soon(session_id), name="title")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _name_soon(self, session_id: SessionId) -> None:
        try:
            session = await self._rows.get(session_id)
            if session.title_by == "default":
                await self.generate(session, by_itself=True)
        except CellwrightError as error:
            log.info("not_named", session_id=session_id, why=str(error))
        except Exception:
            log.exception("not_named", session_id=session_id)

    async def generate(self, session: Session, *, by_itself: bool = False) -> str:
        """Names the session by what is said in it, and returns the title; with no usable model, by the first words."""
        conversation = await self._rows.conversation(session.id, 3)
        turns = [turn for turn, _ in conversation if turn.request.kind == "ask"]
        first = turns[0].query if turns else next((m.content for _, ms in conversation for m in ms), "")
        said_so_far = "\n\n".join(f"User: {turn.query}\nAgent: {turn.answer or ''}" for turn in turns)
        title = await self._by_model(session, said_so_far[:TOLD_CHARACTERS]) or first_words(first) or session.title
        if by_itself and (await self._rows.get(session.id)).title_by != "default":
            return session.title  # The user was faster.
        await self._log.append(session.id, [TitleChanged(title=title, by="model")])
        return title

    async def _by_model(self, session: Session, conversation: str) -> str | None:
        name = session.model or self._models.default()
        if not conversation or name is None or name.startswith(rehearsal.PREFIX):
            return None  # A rehearsal knows the conversation alone.
        try:
            model = await self._models.get(name)
            request = ModelRequest([ChatMessage("system", INSTRUCTION), ChatMessage("user", conversation)])
            reply = await said(model, request, min(WITHIN_S, self._settings.first_token_s), WITHIN_S)
        except CellwrightError as error:
            log.info("model_gave_no_title", why=str(error))
            return None
        used = Used(what="title", model=reply.model or model.name, usage=reply.usage)
        await self._log.append(session.id, [used])
        lines = reply.content.strip().strip("#*\"'` .").splitlines()
        return lines[0].strip()[:MAX_CHARACTERS] if lines and lines[0].strip() else None

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def first_words(text: str) -> str:
    """A question's beginning, up to the end of its first sentence or a few words."""
    line = " ".join(re.split(r"(?<=[.?!])\s|\n", text.strip(), maxsplit=1)[0].split()).rstrip(".:")
    return line if len(line) <= 60 else line[:60].rsplit(" ", 1)[0] + " …"
