"""One connection to one kernel: readiness without waiting, requests and their answers, and news of its death."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import json
import signal
from typing import Any

import structlog
from cellwright.kernels import injected
from cellwright.kernels.errors import KernelDied, KernelNotStarted, KernelUnreachable
from cellwright.kernels.process import Usage, usage
from cellwright.kernels.wires import GatewayWire, Message, Wire, ZmqWire

LOOK_EVERY_S = 0.25
LOOK_FAR_EVERY_S = 2.0
RESTARTS_WITHIN_S = 2.0
ASK_EVERY_S = 0.5
ANSWER_S = 600.0
QUEUED_MESSAGES = 1_000

log = structlog.get_logger(__name__)


class Exchange:
    """What a kernel says about one request of ours."""

    def __init__(self, message_id: str) -> None:
        self.message_id = message_id
        self.published: asyncio.Queue[Message] = asyncio.Queue(QUEUED_MESSAGES)
        self.reply: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self.running = False


class KernelConnection:
    """Messages to and from the kernel of `manager`, a Jupyter kernel manager."""

    def __init__(self, manager: Any, kernel_id: str) -> None:
        self.manager, self.kernel_id = manager, kernel_id
        self.died: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.execution_state = "starting"
        self.last_variables: list[dict[str, Any]] = []
        self.runs_of_others = 0
        """How often another client has run something, since we listen."""
        self.watched = False
        self.shares_disk = True
        self.replaced = False
        """Whether it died because someone restarted it: another process goes by its id now."""
        self._exchanges: dict[str, Exchange] = {}
        self._first_published = asyncio.Event()
        self._wire: Wire | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def remote(self) -> bool:
        """Whether the kernel runs behind a gateway, and shares no process table with us, and perhaps no disk."""
        return hasattr(self.manager, "kernels_url")

    @property
    def ours(self) -> bool:
        """Whether it is a kernel of Cellwright's, which fences, spools, and tells its variables unasked."""
        provisioner = getattr(self.manager, "provisioner", None)
        return getattr(provisioner, "keeping", None) is not None

    @property
    def shares_folders(self) -> bool:
        """Whether the kernel sees the server's folder for objects: neither far away nor kept apart."""
        keeping = getattr(getattr(self.manager, "provisioner", None), "keeping", None)
        return not self.remote and (keeping is None or not keeping.apart)

    def open(self) -> None:
        """Connects and begins to listen."""
        self._wire = GatewayWire(self.kernel_id) if self.remote else ZmqWire(self.manager.get_connection_info())
        self._wire.open(self._heard_published, self._heard_reply)
        self._tasks = [asyncio.create_task(self._watch(), name="death")]

    async def ready(self, timeout_s: float) -> None:
        """Returns when the kernel answers on both channels; raises KernelNotStarted."""
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    exchange = await self.send("kernel_info_request", {})
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(ASK_EVERY_S):
                            await self._or_death(exchange.reply)
                            await self._or_death(self._first_published.wait())
                            return
                    self.forget(exchange)
        except TimeoutError:
            raise KernelNotStarted(f"The kernel did not answer within {timeout_s:.0f} s.") from None
        except KernelDied as error:
            raise KernelNotStarted(f"The kernel ended while it started: {error.cause}.") from error

    async def _or_death(self, awaited: Any) -> Any:
        task = asyncio.ensure_future(awaited)
        try:
            await asyncio.wait([task, self.died], return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise KernelDied(self.died.result())
            return task.result()
        finally:
            task.cancel()

    async def send(
        self,
        kind: str,
        content: dict[str, Any],
        *,
        message_id: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> Exchange:
        """Sends a request on the shell channel, under `message_id` if one is given."""
        assert self._wire is not None
        message = self._wire.session.msg(kind, content, metadata=metadata)
        if message_id is not None:
            message["msg_id"] = message["header"]["msg_id"] = message_id
        exchange = Exchange(message["header"]["msg_id"])
        self._exchanges[exchange.message_id] = exchange
        await self._wire.send(message)
        return exchange

    def forget(self, exchange: Exchange) -> None:
        """Ends an exchange: what the kernel still says about it goes unheard."""
        if self._exchanges.get(exchange.message_id) is exchange:
            del self._exchanges[exchange.message_id]

    async def evaluate(self, expression: str, timeout_s: float = 5.0) -> Any:
        """The value of an expression that gives JSON text, outside history and notebook; raises KernelUnreachable."""
        content = {
            "code": "",
            "silent": True,
            "store_history": False,
            "user_expressions": {"value": expression},
            "allow_stdin": False,
            "stop_on_error": False,
        }
        exchange = await self.send("execute_request", content)
        try:
            async with asyncio.timeout(timeout_s):
                reply = await self._or_death(exchange.reply)
        except TimeoutError:
            raise KernelUnreachable("The kernel is busy.") from None
        finally:
            self.forget(exchange)
        told = reply["content"].get("user_expressions", {}).get("value", {})
        if told.get("status") != "ok":
            raise KernelUnreachable(f"The kernel could not tell: {told.get('evalue', 'no answer')}")
        return json.loads(ast.literal_eval(told["data"]["text/plain"]))

    async def ask(self, kind: str, content: dict[str, Any]) -> dict[str, Any]:
        """The content of the reply to a request of ours; raises KernelDied."""
        exchange = await self.send(kind, content)
        try:
            return dict((await self._or_death(exchange.reply))["content"])
        finally:
            self.forget(exchange)

    async def learn_variables(self) -> None:
        """Asks for the variables now, as soon as the kernel is not busy; raises KernelUnreachable."""
        self.last_variables = await self.evaluate(injected.call("inspect", "told()"), timeout_s=ANSWER_S)

    async def note_begin(self) -> None:
        """Has the kernel note how it begins, if it has not; ours do by themselves. One that cannot works as well."""
        if not self.ours:
            with contextlib.suppress(KernelUnreachable):
                await self.evaluate(injected.call("surroundings", "begun()"))

    def ask_variables(self) -> None:
        """Learns the variables of a kernel that others started, in the background."""

        async def ask() -> None:
            with contextlib.suppress(KernelUnreachable, KernelDied):
                await self.note_begin()
                await self.learn_variables()

        self._tasks.append(asyncio.create_task(ask(), name="variables"))

    def _heard_published(self, message: Message) -> Any:
        self._first_published.set()
        kind = message["header"]["msg_type"]
        if kind == "status":
            self.execution_state = str(message["content"]["execution_state"])
            if self.remote and self.execution_state in ("restarting", "autorestarting", "dead"):
                self._dies("the gateway reports it as dead")
        exchange = self._exchanges.get(message["parent_header"].get("msg_id", ""))
        if exchange is not None:
            if kind == "execute_input":
                exchange.running = True
            return exchange.published.put(message)
        if kind == "execute_input":
            self.runs_of_others += 1
        return None

    def _heard_reply(self, message: Message) -> None:
        exchange = self._exchanges.get(message["parent_header"].get("msg_id", ""))
        if exchange is not None and not exchange.reply.done():
            exchange.running = False
            exchange.reply.set_result(message)

    async def _watch(self) -> None:
        process = self._process_id()
        while not self.died.done():
            if not await self._lives() and not await self._restarts():
                self._dies(await self._cause())
            elif self._process_id() not in (None, process):
                self.replaced = True
                self._dies("it was restarted in Jupyter")
            await asyncio.sleep(LOOK_FAR_EVERY_S if self.remote else LOOK_EVERY_S)

    async def _restarts(self) -> bool:
        """Whether a kernel that does not live is between its end and its start: someone asked for that in Jupyter."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RESTARTS_WITHIN_S):
                while getattr(self.manager, "shutting_down", False) or self._starts():
                    await asyncio.sleep(LOOK_EVERY_S / 4)
                return await self._lives()
        return False

    def _starts(self) -> bool:
        """Whether the manager is starting the kernel's process at this moment."""
        ready = getattr(self.manager, "ready", None)
        return ready is not None and not ready.done()

    def _dies(self, cause: str) -> None:
        if not self.died.done():
            self.died.set_result(cause)

    async def _lives(self) -> bool:
        try:
            return bool(await self.manager.is_alive())
        except Exception as error:
            if not self.remote:
                raise
            log.info("gateway_not_reached", kernel_id=self.kernel_id, error=str(error))
            return True  # Not known to be dead; its WebSocket waits for it, too.

    def usage(self) -> Usage | None:
        """Memory and CPU time of the kernel's process; None where it cannot be known."""
        process = None if self.remote else self._process_id()
        return None if process is None else usage(process)

    def _process_id(self) -> int | None:
        found = getattr(getattr(self.manager, "provisioner", None), "pid", None)
        return found if isinstance(found, int) else None

    async def _cause(self) -> str:
        provisioner = getattr(self.manager, "provisioner", None)
        code = None
        with contextlib.suppress(Exception):
            code = await provisioner.poll() if provisioner is not None and provisioner.has_process else None
        if code is None or code == -255:
            return "it ended, and how is not known"
        if code < 0:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
            hint = " (the system often does that when memory runs out)" if name == "SIGKILL" else ""
            return f"signal {name}{hint}"
        return f"exit code {code}"

    async def interrupt(self) -> None:
        """Interrupts what the kernel runs."""
        await self.manager.interrupt_kernel()

    async def close(self) -> None:
        """Ends the connection; the kernel stays."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._wire is not None:
            await self._wire.close()
        if not self.died.done():
            self.died.cancel()
