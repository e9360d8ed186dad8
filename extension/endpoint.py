"""One request: authenticated and authorized before its body is read, the body bounded, the answer typed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import structlog
from cellwright.extension import problems
from cellwright.extension.identity import allowed, opened, owner, within_rate
from cellwright.server.app import Cellwright
from cellwright.server.domain import Access, Session, Who
from cellwright.server.errors import CellwrightError, Forbidden, NotFound, TooLarge, TooMany
from jupyter_core.utils import ensure_async
from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.extension.handler import ExtensionHandlerMixin
from pydantic import BaseModel
from tornado import iostream, web

RESOURCE = "cellwright"
JSON_LIMIT_BYTES = 16 << 20
MAX_DEPTH = 64
DRAINED_BYTES = 1 << 20

log = structlog.get_logger(__name__)
Action = Literal["read", "write", "execute"]


def depth_over(value: Any, limit: int) -> bool:
    """Whether JSON is nested deeper than `limit`; does not recurse itself."""
    level = [value]
    for _ in range(limit + 1):
        level = [
            member
            for outer in level
            if isinstance(outer, (dict, list))
            for member in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return False
    return True


def _plain(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


class Body:
    """Takes a request's body as it comes."""

    limit_bytes = JSON_LIMIT_BYTES
    form: dict[str, Any] = {}
    """What it takes as JSON schema, where that is no JSON."""

    def __init__(self, handler: Endpoint) -> None:
        self._held = bytearray()

    async def receive(self, chunk: bytes) -> None:
        self._held += chunk

    def end(self) -> bytes:
        return bytes(self._held)

    async def digest(self) -> bytes:
        """What tells one body from another."""
        return hashlib.sha256(self._held).digest()

    def discard(self) -> None:
        self._held.clear()


@dataclass(frozen=True)
class Route:
    """One line of the table: what a method on a path takes, does and answers."""

    method: Literal["GET", "POST", "PATCH", "DELETE"]
    path: str
    call: Callable[[Call], Awaitable[Any]]
    summary: str
    query: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    answer: type[Any] | None = None
    status: int = 200
    errors: tuple[int, ...] = ()
    action: Action = "read"
    media: tuple[str, ...] = ("application/json",)
    public: bool = False
    receiver: type[Body] | None = None
    takes: str = "application/json"
    told_once: tuple[str, ...] = ()
    """Fields of the answer that a repeat is not told again."""
    example: dict[str, Any] | None = None
    """A body that validates."""
    needs: Access | None = None
    """What one must be allowed in the session that the path is about; by default what the action says."""
    again: Callable[[Call, Any], Awaitable[Any]] | None = None
    """Answers a repeat of a request, from what the first was answered; by default just that."""

    @property
    def level(self) -> Access:
        return self.needs or ("read" if self.action == "read" else "write")

    @property
    def by_link(self) -> bool:
        """Whether the holder of a share link may come without a login."""
        of_session = re.search(r"\{(session|turn|message|artifact)\}", self.path) is not None
        return self.method == "GET" and self.level == "read" and of_session


@dataclass
class Call:
    """A request that may be carried out: who asks, for what, with which valid arguments."""

    app: Cellwright
    who: Who
    path: Mapping[str, str]
    handler: Endpoint
    query: Any = None
    body: Any = None
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def owner(self) -> str:
        """The user's name; only for requests of users that are logged in."""
        assert self.who.name is not None
        return self.who.name

    async def remember(self, answer: BaseModel) -> None:
        """Notes the answer to a repeat before a stream begins: the connection may break while it runs."""
        if "remember" in self.extra:
            route = self.handler.route
            assert route is not None
            await self.extra["remember"](answer, route.status)
            self.extra["remembered"] = True

    async def session(self) -> Session:
        """The session that the path names, by id or key; raises NotFound, also for another's, or Forbidden."""
        return await self.may(self.path["session"])

    async def may(self, session: str, level: Access | None = None) -> Session:
        """A session in which the one who asks may do what this route does; raises NotFound or Forbidden."""
        route = self.handler.route
        assert route is not None
        return await allowed(self.app, session, self.who, level or route.level)

    async def still(self) -> None:
        """Raises Forbidden if the one who asks may not do any more what they did; that it is gone is no reason."""
        with contextlib.suppress(NotFound):
            session_id = await self._session_of_path()
            if session_id is None:
                return
            try:
                await self.may(session_id)
            except NotFound:
                await self.app.rows.get(session_id)
                raise Forbidden("You may not do this any more.") from None

    async def _session_of_path(self) -> str | None:
        """The session that the path is about, if it is about one; raises NotFound."""
        match self.path:
            case {"session": name}:
                return name
            case {"turn": name}:
                return (await self.app.rows.turn(name)).session_id
            case {"message": name}:
                return (await self.app.rows.message(name)).session_id
            case {"artifact": name}:
                return (await self.app.artifacts.get(name)).session_id
            case {"checkpoint": name}:
                return (await self.app.points.find(name))[0].session_id
        return None

    async def may_within(self, kind: str, name: str, session_id: str, level: Access | None = None) -> Session:
        """The session of a thing that has its own address; raises NotFound in the thing's name."""
        try:
            return await self.may(session_id, level)
        except NotFound:
            raise NotFound(kind, name) from None


class Streamed:
    """What a call returns when it has written its answer itself."""


@web.stream_request_body
class Endpoint(ExtensionHandlerMixin, JupyterHandler):
    """Serves one path of the table."""

    auth_resource = RESOURCE
    SUPPORTED_METHODS = ("GET", "HEAD", "POST", "PATCH", "DELETE", "OPTIONS", "PUT")

    def initialize(self, name: str, routes: dict[str, Route]) -> None:
        super().initialize(name)
        self._routes = routes
        self._body: Body | None = None
        self._received = 0
        self._refused: Exception | None = None
        self._link: str | None = None
        self._by_link = False

    @property
    def app(self) -> Cellwright:
        found: Cellwright = self.settings["cellwright_extension"].cellwright
        return found

    @property
    def route(self) -> Route | None:
        return self._routes.get("GET" if self.request.method == "HEAD" else str(self.request.method))

    async def prepare(self) -> None:
        try:
            await self._admit()
        except Exception as error:
            # Answering before tornado has read the request makes it close the connection, and a client that still
            # sends may lose the answer. That is right for a large body that nobody may send; a small one is read
            # and forgotten, and the answer waits for the method's turn.
            if self._has_large_body and not isinstance(error, CellwrightError):
                self.set_header("Connection", "close")
                raise
            self._refused = error

    @property
    def _has_large_body(self) -> bool:
        headers = self.request.headers
        length = headers.get("Content-Length", "0")
        return "Transfer-Encoding" in headers or not length.isdigit() or int(length) > DRAINED_BYTES

    async def _admit(self) -> None:
        """Lets a request in that is authenticated, authorized and has a route."""
        route = self.route
        self._link = self._share_link()
        if route is not None and route.by_link and self._link is not None:
            user = await ensure_async(self.identity_provider.get_user(self))
            self._by_link = user is None
        if route is None or not (route.public or self._by_link):
            await super().prepare(_redirect_to_login=False)
            if not self.check_origin():
                raise web.HTTPError(403, "This request comes from another site.")
            if self.current_user is None:
                raise web.HTTPError(403, "Log in, or send the server's token.")
            action = route.action if route is not None else "read"
            if not await ensure_async(self.authorizer.is_authorized(self, self.current_user, action, RESOURCE)):
                raise web.HTTPError(403, f"You may not {action} here.")
        if route is None:
            there = (
                f"This address takes {', '.join(self._routes)}."
                if self._routes
                else "There is nothing at this address."
            )
            raise web.HTTPError(405 if self._routes else 404, there)
        await opened(self.settings["cellwright_extension"])
        self._body = (route.receiver or Body)(self)
        self.request.connection.set_max_body_size(1 << 62)

    def _share_link(self) -> str | None:
        """The hash of the token of a share link, from its header or argument.

        The argument's name holds the word that Jupyter Server looks for when it masks addresses in its log.
        """
        token = self.request.headers.get("X-Cellwright-Share") or self.get_argument("share_token", "")
        return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest() if token else None

    async def data_received(self, chunk: bytes) -> None:
        # A refused body is read to its end, keeping nothing: an answer in the middle of it is lost to most clients.
        if self._body is None or self._refused is not None:
            return
        self._received += len(chunk)
        try:
            if self._received > self._body.limit_bytes:
                raise TooLarge("The body", self._body.limit_bytes)
            await self._body.receive(chunk)
        except CellwrightError as error:
            self._refused = error
            self._body.discard()

    async def _serve(self, **path: str) -> None:
        if self._refused is not None:
            raise self._refused
        route = self.route
        assert route is not None
        anonymous = route.public or self._by_link
        who = Who(name=None if anonymous else owner(self), link=self._link)
        call = Call(self.app, who, path, self)
        if route.method != "GET" and not route.public:
            await within_rate(self.app, call.owner)
        if route.query is not None:
            call.query = route.query.model_validate(
                {
                    name: self.get_argument(name)
                    for name, values in self.request.arguments.items()
                    if name not in ("token", "share_token")
                    and not name.startswith(("_", "metadata."))
                    # JupyterLab puts the time behind every address, to pass by caches.
                    and not (name.isdecimal() and values == [b""])
                }
            )
        if route.receiver is not None:
            call.body = self._body
        elif route.body is not None:
            assert self._body is not None
            call.body = self._parsed(route.body, self._body.end())
        key = self.request.headers.get("Idempotency-Key")
        if key is not None and route.method != "GET" and not route.public:
            await self._once(route, call, key)
        else:
            self._answer(await route.call(call), call.extra.get("status", route.status))

    async def _once(self, route: Route, call: Call, key: str) -> None:
        """Carries a request out, or answers as it was answered before."""
        repeats, body = self.app.repeats, self._body
        assert body is not None
        before = await repeats.begin(
            call.owner, key, route.method.encode(), str(self.request.uri).encode(), await body.digest()
        )
        if before is not None:
            await call.still()
            self.set_header("Idempotency-Replayed", "true")
            again = before.answer if route.again is None else await route.again(call, before.answer)
            self._answer(again, before.status)
            return

        async def remember(answer: Any, status: int) -> None:
            plain = answer.model_dump(mode="json") if isinstance(answer, BaseModel) else answer
            if route.told_once:
                plain = {**plain, **dict.fromkeys(route.told_once)}
            await repeats.finish(call.owner, key, status, plain)

        call.extra["remember"] = remember
        try:
            answer = await route.call(call)
        except Exception as error:
            # What was refused did nothing, and may be sent again. What broke may have been done.
            if "remembered" not in call.extra and problems.is_refusal(error):
                await repeats.forget(call.owner, key)
            raise
        status = call.extra.get("status", route.status)
        if not isinstance(answer, Streamed):
            await remember(answer, status)
        self._answer(answer, status)

    def _answer(self, answer: Any, status: int) -> None:
        if isinstance(answer, Streamed):
            return
        self.set_status(status)
        if answer is None:
            self.finish()
            return
        self.set_header("Content-Type", "application/json")
        # Not Pydantic's JSON: a file name may hold what is no UTF-8, and ASCII escapes carry that too.
        plain = answer.model_dump(mode="python") if isinstance(answer, BaseModel) else answer
        self.finish(json.dumps(plain, default=_plain))

    def _parsed(self, model: type[BaseModel], data: bytes) -> BaseModel:
        if not data.strip():
            data = b"{}"
        try:
            too_deep = depth_over(json.loads(data), MAX_DEPTH)
        except (ValueError, RecursionError) as error:
            raise web.HTTPError(400, f"The body is not JSON: {str(error)[:200].replace('%', '%%')}") from error
        if too_deep:
            raise web.HTTPError(400, f"The body is nested more than {MAX_DEPTH} levels deep.")
        return model.model_validate_json(data)

    async def get(self, **path: str) -> None:
        await self._serve(**path)

    async def head(self, **path: str) -> None:
        await self._serve(**path)

    async def post(self, **path: str) -> None:
        await self._serve(**path)

    async def patch(self, **path: str) -> None:
        await self._serve(**path)

    async def put(self, **path: str) -> None:
        await self._serve(**path)

    async def delete(self, **path: str) -> None:
        await self._serve(**path)

    def set_default_headers(self) -> None:
        super().set_default_headers()
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Cache-Control", "no-cache")

    def log_exception(self, kind: Any, error: Any, trace: Any) -> None:
        found = problems.problem(error)
        if found.status == 500 and not isinstance(error, iostream.StreamClosedError):
            log.error("request_failed", path=self.request.path, exc_info=(kind, error, trace))

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = kwargs.get("exc_info", (None, None, None))[1]
        found = problems.problem(error, status_code)
        if self._body is not None:
            self._body.discard()
        self.set_status(found.status)
        if found.status == 503:
            self.set_header("Retry-After", "5")
        if isinstance(error, TooMany):
            self.set_header("Retry-After", str(error.retry_after_s))
        if found.status == 405:
            self.set_header("Allow", ", ".join(self._routes))
        self.set_header("Content-Type", "application/problem+json")
        self.finish(json.dumps(problems.body(found)))

    def on_finish(self) -> None:
        super().on_finish()
        if self._body is not None:
            self._body.discard()

    def send_error(self, status_code: int = 500, **kwargs: Any) -> None:
        # tornado takes the status of unknown exceptions for 500; ours have their own.
        error = kwargs.get("exc_info", (None, None, None))[1]
        super().send_error(problems.problem(error, status_code).status, **kwargs)


class Unknown(Endpoint):
    """Anything else under our prefix."""

    def initialize(self, name: str) -> None:  # type: ignore[override]
        super().initialize(name, {})
