"""A TCP proxy that passes traffic on until it is told to do worse."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Literal

Mode = Literal["pass", "refuse", "hang"]


class Proxy:
    """Stands between a client and a server on loopback, in a thread of its own.

    `refuse` closes every connection, old and new; `hang` takes what is sent and answers nothing. `lose_reply` is asked
    about each piece that a client sends: where it says yes, the server still gets it, and the client gets a broken
    connection in the place of an answer.
    """

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self._target = (host, port)
        self.port = 0
        self.mode: Mode = "pass"
        self.lose_reply: Callable[[bytes], bool] = lambda _data: False
        self.lost = 0
        self._loop = asyncio.new_event_loop()
        self._writers: set[asyncio.StreamWriter] = set()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="proxy")

    def start(self) -> Proxy:
        self._thread.start()
        self._started.wait(10)
        return self

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def set(self, mode: Mode) -> None:
        """Changes the mode; `refuse` also cuts what is connected."""
        self.mode = mode
        if mode == "refuse":
            self.cut()

    def cut(self) -> None:
        """Breaks every connection there is."""
        self._loop.call_soon_threadsafe(lambda: [writer.transport.abort() for writer in list(self._writers)])

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        self._loop.run_forever()
        server.close()
        while tasks := asyncio.all_tasks(self._loop):  # One more may be accepted while the others end.
            for task in tasks:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.mode == "refuse":
            writer.transport.abort()
            return
        try:
            there, out = await asyncio.open_connection(*self._target)
        except (OSError, asyncio.CancelledError):
            writer.transport.abort()
            return
        self._writers |= {writer, out}
        deaf = asyncio.Event()
        try:
            await asyncio.gather(self._up(reader, out, writer, deaf), self._down(there, writer, deaf))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._writers -= {writer, out}
            for each in (writer, out):
                with contextlib.suppress(Exception):
                    each.transport.abort()

    async def _up(
        self, reader: asyncio.StreamReader, out: asyncio.StreamWriter, client: asyncio.StreamWriter, deaf: asyncio.Event
    ) -> None:
        while data := await reader.read(1 << 16):
            lose = self.lose_reply(data)
            if lose:
                self.lost += 1
                deaf.set()
            while self.mode == "hang":
                await asyncio.sleep(0.02)
            out.write(data)
            await out.drain()
            if lose:
                await asyncio.sleep(0.2)  # The server has done it by then.
                client.transport.abort()
                return
        out.write_eof()

    async def _down(self, there: asyncio.StreamReader, client: asyncio.StreamWriter, deaf: asyncio.Event) -> None:
        while data := await there.read(1 << 16):
            while self.mode == "hang":
                await asyncio.sleep(0.02)
            if not deaf.is_set():
                client.write(data)
                await client.drain()
        client.close()
