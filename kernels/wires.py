"""How messages travel to a kernel and back: over ZeroMQ on this machine, over a gateway's WebSocket elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from datetime import datetime
from queue import Empty
from typing import Any, Protocol
from urllib.parse import quote

import structlog
import zmq
import zmq.asyncio
from cellwright.kernels.errors import KernelUnreachable
from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.session import Session

LOOK_AGAIN_S = 1.0
CONNECT_S = 20.0
MAX_MESSAGE_BYTES = 1 << 30
PASSED_ON = (
    *("headers", "auth_username", "auth_password", "validate_cert", "ca_certs", "client_cert", "client_key"),
    "connect_timeout",
)
"""What of the operator's settings for gateways a WebSocket takes."""

RECONNECT_S = (0.1, 0.5, 1.0, 2.0, 5.0)

log = structlog.get_logger(__name__)
Message = dict[str, Any]
Heard = Callable[[Message], Awaitable[None] | None]


class Wire(Protocol):
    """A connection's transport. What comes in is handed to two functions, in order, one message at a time."""

    session: Session

    def open(self, published: Heard, replied: Heard) -> None: ...
    async def send(self, message: Message) -> None: ...
    async def close(self) -> None: ...


async def _hand_over(message: Message, heard: Heard) -> None:
    try:
        result = heard(message)
    except Exception as error:  # Any cell may send what it likes; what is no message is not heard.
        log.warning("kernel_message_not_understood", error=repr(error))
        return
    if result is not None:
        await result


class ZmqWire:
    """Sockets of a context of our own, which drops nothing however slowly it is read."""

    def __init__(self, info: dict[str, Any]) -> None:
        context = zmq.asyncio.Context()
        context.setsockopt(zmq.RCVHWM, 0)
        # A session of its own: two clients that share one share a ZMQ identity, and each other's replies.
        self.session = Session(key=info["key"], signature_scheme=info["signature_scheme"])
        self._client = AsyncKernelClient(context=context, session=self.session)
        self._client.load_connection_info({k: v for k, v in info.items() if k != "key"})
        self._tasks: list[asyncio.Task[None]] = []

    def open(self, published: Heard, replied: Heard) -> None:
        self._client.start_channels(  # noqa: S604 (a channel, no shell)
            shell=True, iopub=True, stdin=False, hb=False, control=False
        )
        self._tasks = [
            asyncio.create_task(self._pump(self._client.iopub_channel, published), name="iopub"),
            asyncio.create_task(self._pump(self._client.shell_channel, replied), name="shell"),
        ]

    async def _pump(self, channel: Any, heard: Heard) -> None:
        while True:
            try:
                message = await channel.get_msg(timeout=LOOK_AGAIN_S)
            except Empty:
                continue
            except ValueError as error:  # A signature that does not match, or a repeated message.
                log.warning("kernel_message_refused", error=str(error))
                continue
            await _hand_over(message, heard)

    async def send(self, message: Message) -> None:
        # Not `channel.send`: it goes around the asyncio socket, and may swallow the signal that a reply has come.
        await self._client.shell_channel.socket.send_multipart(self.session.serialize(message))

    async def close(self) -> None:
        await _ended(self._tasks)
        self._client.stop_channels()
        self._client.context.destroy(linger=0)


class GatewayWire:
    """A WebSocket of a Kernel or Enterprise Gateway, opened again when it breaks.

    Under one session id the gateway keeps what the kernel says meanwhile. jupyter_server's own client of gateways
    waits in a busy loop and blocks on send; this one does neither.
    """

    def __init__(self, kernel_id: str) -> None:
        self.session = Session()
        self._kernel_id = kernel_id
        self._socket: Any = None
        self._connected = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def open(self, published: Heard, replied: Heard) -> None:
        self._tasks = [asyncio.create_task(self._run({"iopub": published, "shell": replied}), name="gateway")]

    async def _run(self, heard: dict[str, Heard]) -> None:
        failures = 0
        while True:
            try:
                self._socket = await self._connect()
                self._connected.set()
                failures = 0
                while (data := await self._socket.read_message()) is not None:
                    message = _decoded(data)
                    listener = heard.get(str(message.get("channel")))
                    if listener is not None:
                        await _hand_over(message, listener)
            except (OSError, ValueError, TimeoutError) as error:
                log.info("gateway_not_reached", kernel_id=self._kernel_id, error=str(error))
            except Exception as error:
                if type(error).__module__.split(".")[0] != "tornado":
                    raise
                log.info("gateway_refuses", kernel_id=self._kernel_id, error=str(error))
            self._connected.clear()
            await asyncio.sleep(RECONNECT_S[min(failures, len(RECONNECT_S) - 1)])
            failures += 1

    async def _connect(self) -> Any:
        from jupyter_server.gateway.gateway_client import GatewayClient
        from tornado.httpclient import HTTPRequest
        from tornado.websocket import websocket_connect

        gateway = GatewayClient.instance()
        arguments = gateway.load_connection_args()
        path = f"{gateway.kernels_endpoint}/{quote(self._kernel_id)}/channels?session_id={self.session.session}"
        url = f"{str(gateway.ws_url).rstrip('/')}{path}"
        request = HTTPRequest(url, **{name: arguments[name] for name in PASSED_ON if name in arguments})
        async with asyncio.timeout(CONNECT_S):
            return await websocket_connect(request, max_message_size=MAX_MESSAGE_BYTES, ping_interval=30)

    async def send(self, message: Message) -> None:
        try:
            async with asyncio.timeout(CONNECT_S):
                await self._connected.wait()
        except TimeoutError:
            raise KernelUnreachable("The gateway does not answer.") from None
        whole = {**message, "channel": "shell", "buffers": []}
        await self._socket.write_message(json.dumps(whole, default=_as_text))

    async def close(self) -> None:
        await _ended(self._tasks)
        if self._socket is not None:
            self._socket.close()


async def _ended(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.gather(*tasks, return_exceptions=True)


def _decoded(data: str | bytes) -> Message:
    if isinstance(data, str):
        return dict(json.loads(data))
    from jupyter_server.services.kernels.connection.base import deserialize_binary_message

    return dict(deserialize_binary_message(data))


def _as_text(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(type(value).__name__)
