"""One connection to one kernel: its own sockets that drop nothing, readiness without waiting, and news of its death."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import json
import signal
from collections.abc import Callable
from queue import Empty
from typing import Any

import structlog
import zmq
import zmq.asyncio
from cellwright.kernels.errors import KernelDied, KernelNotStarted, KernelUnreachable
from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.session import Session

LOOK_EVERY_S = 0.25
ASK_EVERY_S = 0.5
LOOK_AGAIN_S = 1.0
ANSWER_S = 600.0
QUEUED_MESSAGES = 1_000
OVERVIEW = "__import__('cellwright.kernels.inside.inspect', fromlist=['told']).told()"

log = structlog.get_logger(__name__)
Message = dict[str, Any]


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
        self.watched = False
        self._exchanges: dict[str, Exchange] = {}
        self._first_published = asyncio.Event()
        self._client: Any = None
        self._tasks: list[asyncio.Task[None]] = []
        self._sending = asyncio.Lock()

    @property
    def remote(self) -> bool:
        """Whether the kernel runs behind a gateway, and shares neither disk nor process table with us."""
        return hasattr(self.manager, "gateway_client") or not hasattr(self.manager, "get_connection_info")

    def open(self) -> None:
        """Connects and begins to listen."""
        if self.remote:
            self._client = self.manager.client()
        else:
            context = zmq.asyncio.Context()
            context.setsockopt(zmq.RCVHWM, 0)
            info = self.manager.get_connection_info()
            # A session of its own: two clients that share one share a ZMQ identity, and each other's replies.
            session = Session(key=self.manager.session.key, signature_scheme=info["signature_scheme"])
            self._client = AsyncKernelClient(context=context, session=session)
            self._client.load_connection_info({k: v for k, v in info.items() if k != "key"})
        self._client.start_channels(  # noqa: S604 (a channel, no shell)
            shell=True, iopub=True, stdin=False, hb=False, control=False
        )
        self._tasks = [
            asyncio.create_task(self._pump(self._client.iopub_channel, self._heard_published), name="iopub"),
            asyncio.create_task(self._pump(self._client.shell_channel, self._heard_reply), name="shell"),
            asyncio.create_task(self._watch(), name="death"),
        ]

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
        message = self._client.session.msg(kind, content, metadata=metadata)
        if message_id is not None:
            message["msg_id"] = message["header"]["msg_id"] = message_id
        exchange = Exchange(message["header"]["msg_id"])
        self._exchanges[exchange.message_id] = exchange
        channel = self._client.shell_channel
        if isinstance(getattr(channel, "socket", None), zmq.asyncio.Socket):
            # Not `channel.send`: it goes around the asyncio socket, and may swallow the signal that a reply has come.
            await channel.socket.send_multipart(self._client.session.serialize(message))
        else:
            channel.send(message)
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

    async def learn_variables(self) -> None:
        """Asks for the variables now, as soon as the kernel is not busy; raises KernelUnreachable."""
        self.last_variables = await self.evaluate(OVERVIEW, timeout_s=ANSWER_S)

    def ask_variables(self) -> None:
        """Learns the variables of a kernel that others started, in the background."""

        async def ask() -> None:
            with contextlib.suppress(KernelUnreachable, KernelDied):
                await self.learn_variables()

        self._tasks.append(asyncio.create_task(ask(), name="variables"))

    async def _pump(self, channel: Any, heard: Callable[[Message], Any]) -> None:
        while True:
            try:
                message = await channel.get_msg(timeout=LOOK_AGAIN_S)
            except Empty:
                continue
            except ValueError as error:  # A signature that does not match, or a repeated message.
                log.warning("kernel_message_refused", kernel_id=self.kernel_id, error=str(error))
                continue
            try:
                result = heard(message)
            except Exception as error:  # Any cell may send what it likes; what is no message is not heard.
                log.warning("kernel_message_not_understood", kernel_id=self.kernel_id, error=repr(error))
                continue
            if result is not None:
                await result

    def _heard_published(self, message: Message) -> Any:
        self._first_published.set()
        kind = message["header"]["msg_type"]
        if kind == "status":
            self.execution_state = message["content"]["execution_state"]
        exchange = self._exchanges.get(message["parent_header"].get("msg_id", ""))
        if exchange is not None:
            if kind == "execute_input":
                exchange.running = True
            return exchange.published.put(message)
        return None

    def _heard_reply(self, message: Message) -> None:
        exchange = self._exchanges.get(message["parent_header"].get("msg_id", ""))
        if exchange is not None and not exchange.reply.done():
            exchange.running = False
            exchange.reply.set_result(message)

    async def _watch(self) -> None:
        process = self._process_id()
        while True:
            if not await self.manager.is_alive():
                self.died.set_result(await self._cause())
                return
            if self._process_id() not in (None, process):
                self.died.set_result("it was restarted from elsewhere")
                return
            await asyncio.sleep(LOOK_EVERY_S)

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
        if self._client is not None:
            self._client.stop_channels()
            context = getattr(self._client, "context", None)
            if context is not None and not self.remote:
                context.destroy(linger=0)
        if not self.died.done():
            self.died.cancel()
