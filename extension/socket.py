"""A session over a WebSocket: its events out; questions, stops and decisions in."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from typing import Annotated, Any, Literal

import structlog
from cellwright.extension import problems, sse
from cellwright.extension.documents.tabs import Tab, Tabs
from cellwright.extension.endpoint import RESOURCE
from cellwright.extension.handlers.models import Body
from cellwright.extension.handlers.turns import Ask, Decision, ask
from cellwright.extension.identity import allowed, opened, owner, within_rate
from cellwright.server.domain import Who
from cellwright.server.errors import CellwrightError, Forbidden, Invalid, NotFound, Unavailable
from jupyter_core.utils import ensure_async
from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.base.websocket import WebSocketMixin
from jupyter_server.extension.handler import ExtensionHandlerMixin
from pydantic import Field, TypeAdapter
from tornado import web, websocket

MAX_MESSAGE_BYTES = 16 << 20
WAITING = 100
log = structlog.get_logger(__name__)


class _Said(Body):
    id: str = Field("", max_length=200, description="Comes back with the answer")


class SayQuery(_Said, Ask):
    type: Literal["query"]


class SayStop(_Said):
    type: Literal["stop"]
    turn_id: str


class SayApprove(_Said, Decision):
    type: Literal["approve"]
    turn_id: str
    call_id: str


class SayClaim(_Said):
    """A tab has the session's notebook open: `document.joined` says whether it is the one that saves."""

    type: Literal["document.claim"]
    path: str = Field(max_length=4_000)
    tab_id: str = Field(min_length=1, max_length=100)
    revision: int = Field(0, ge=0, le=2**62)
    shared: bool = Field(False, description="The tab shows a document that jupyter-collaboration shares")


class SayLeave(_Said):
    type: Literal["document.leave"]


Said = SayQuery | SayStop | SayApprove | SayClaim | SayLeave
SAID: TypeAdapter[Said] = TypeAdapter(Annotated[Said, Field(discriminator="type")])


class Socket(WebSocketMixin, websocket.WebSocketHandler, ExtensionHandlerMixin, JupyterHandler):
    """`…/ws?after=N`: every event as `{event, id, data}`; answers as `{event: "accepted"|"problem", re, data}`."""

    auth_resource = RESOURCE

    def initialize(self, name: str) -> None:
        super().initialize(name)
        self._tasks: list[asyncio.Task[None]] = []
        self._waiting: asyncio.Queue[str] = asyncio.Queue(WAITING)
        self._tab: Tab | None = None

    @property
    def max_message_size(self) -> int:
        return MAX_MESSAGE_BYTES

    async def get(self, session: str) -> None:
        if self.current_user is None:
            raise web.HTTPError(403, "Log in, or send the server's token.")
        try:
            self._app = await opened(self.settings["cellwright_extension"])
        except Unavailable as error:
            raise web.HTTPError(503, "Cellwright is not running.") from error
        self._who = Who(name=owner(self))
        after = self.get_argument("after", "0")
        if not (after.isascii() and after.isdigit() and len(after) < 19):
            raise web.HTTPError(422, "after is not the number of an event.")
        self._after = int(after)
        await self._authorized("read")
        try:
            self._session = await allowed(self._app, session, self._who, "read")
        except NotFound as error:
            raise web.HTTPError(404, "There is no such session.") from error
        await super().get(session)

    async def _authorized(self, action: str) -> None:
        if not await ensure_async(self.authorizer.is_authorized(self, self.current_user, action, RESOURCE)):
            raise web.HTTPError(403, f"You may not {action} here.")

    def open(self, *args: str, **kwargs: str) -> None:
        super().open(*args, **kwargs)
        self._tasks = [
            asyncio.create_task(self._tell(), name="socket out"),
            asyncio.create_task(self._listen(), name="socket in"),
        ]

    async def _tell(self) -> None:
        """Sends events at the client's pace, until it goes or may no longer see them."""
        try:
            async with contextlib.aclosing(sse.events(self._app, self._session.id, self._after)) as events:
                looked = time.monotonic()
                async for kind, data, number in events:
                    if kind in ("", "session.shared") or time.monotonic() - looked > sse.RECHECK_S:
                        await allowed(self._app, self._session.id, self._who, "read")
                        looked = time.monotonic()
                    # A client that hears nothing for long takes the connection for dead.
                    await self._send({"event": kind or "ping", "id": number, "data": data})
        except (NotFound, Forbidden):
            self.close(4404, "There is no such session.")
        except websocket.WebSocketClosedError:
            pass
        except CellwrightError as error:
            self.close(1013, str(error)[:100])
        except Exception:
            log.exception("socket_failed")
            self.close(1011, "Something failed here: connect again.")

    async def _send(self, message: dict[str, Any]) -> None:
        await self.write_message(json.dumps(message, ensure_ascii=False, default=str))

    async def on_message(self, message: str | bytes) -> None:
        if isinstance(message, bytes):
            self.close(1003, "Send JSON as text.")
            return
        # One after the other, and a client that says more than is done waits.
        await self._waiting.put(message)

    async def _listen(self) -> None:
        while True:
            message = await self._waiting.get()
            said: Any = None
            try:
                said = SAID.validate_json(message)
                await self._authorized("execute")
                await within_rate(self._app, str(self._who.name))
                await self._send({"event": "accepted", "re": said.id, "data": await self._do(said)})
            except websocket.WebSocketClosedError:
                return
            except Exception as error:
                found = problems.problem(error)
                if found.status == 500:
                    log.exception("socket_message_failed")
                told = {"event": "problem", "re": said.id if said is not None else _id(message)}
                with contextlib.suppress(websocket.WebSocketClosedError):
                    await self._send({**told, "data": problems.body(found)})

    async def _claim(self, said: SayClaim) -> dict[str, Any]:
        """Takes what was typed while nobody looked, so that the tab is told of it; then the tab holds the file."""
        session = await allowed(self._app, self._session.id, self._who, "write")
        if said.path != session.notebook_path:
            raise Invalid(f"The session's notebook is {session.notebook_path!r}.")
        await self._app.notebooks.pull(session)
        self._leave()
        self._tab = Tab(said.tab_id, self._send, said.shared)
        await self.settings["cellwright_extension"].tabs.join(session.id, self._tab)
        return {"path": session.notebook_path}

    def _leave(self) -> None:
        tabs: Tabs | None = self.settings["cellwright_extension"].tabs
        if tabs is not None and self._tab is not None:
            tabs.leave(self._session.id, self._tab)
        self._tab = None

    async def _do(self, said: Said) -> dict[str, Any]:
        if isinstance(said, SayClaim):
            return await self._claim(said)
        if isinstance(said, SayLeave):
            self._leave()
            return {}
        session, user = await allowed(self._app, self._session.id, self._who, "write"), str(self._who.name)
        if isinstance(said, SayQuery):
            turn = await ask(self._app, session, said, user)
            return {"turn_id": turn.id, "n": turn.n}
        turn = await self._app.rows.turn(said.turn_id)
        if turn.session_id != session.id:
            raise NotFound("turn", said.turn_id)
        if isinstance(said, SayStop):
            await self._app.turns.stop(turn)
            return {"turn_id": turn.id, "n": turn.n}
        decided = await self._app.turns.decide(turn, said.call_id, said.decision, said.source, said.reason, user)
        return {"turn_id": turn.id, "call_id": decided.call_id, "decision": decided.decision}

    def on_close(self) -> None:
        self._leave()
        for task in self._tasks:
            task.cancel()
        super().on_close()


def _id(message: str) -> str:
    """What a message that does not validate calls itself, if it does."""
    with contextlib.suppress(ValueError, AttributeError, RecursionError):
        return str(json.loads(message).get("id", ""))[:200]
    return ""
