"""An OpenAI-compatible HTTP server that answers by script: LiteLLM's real path runs against it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tornado import httpserver, iostream, netutil, web

CHUNK = 17


@dataclass
class Say:
    """One scripted answer."""

    content: str = ""
    thinking: str = ""
    calls: Sequence[tuple[str, dict[str, Any] | str]] = ()
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    first_token_s: float = 0.0
    between_s: float = 0.0
    cut_after_chunks: int | None = None
    finish: str | None = None
    chunk: int = CHUNK


def cell(source: str, purpose: str = "", content: str = "", thinking: str = "") -> Say:
    """An answer that runs one cell."""
    return Say(content, thinking, [("run_cell", {"source": source, "purpose": purpose})])


Script = Sequence[Say] | Callable[[dict[str, Any]], Say]


class OpenAIServer:
    """Serves `/v1/chat/completions` on loopback; `requests` holds the bodies it was sent."""

    def __init__(self, script: Script = ()) -> None:
        self.requests: list[dict[str, Any]] = []
        self.named: list[dict[str, Any]] = []
        """Requests for a conversation's title, which are answered with `name_with`."""
        self.name_with = Say("A scripted title")
        self.open_streams = 0
        self.closed_early = 0
        self.cut_reply = b""
        """What an answer of the text CUT sends instead, and how many bytes of it."""
        self.cut_at = 0
        self._script: Script = script
        self._said = 0
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.port = 0

    def script(self, script: Script) -> None:
        """From now on answers by this."""
        self._script, self._said = script, 0

    def next(self, body: dict[str, Any]) -> Say:
        if callable(self._script):
            return self._script(body)
        if self._said >= len(self._script):
            return Say(status=400, content="the script is at its end")
        self._said += 1
        return self._script[self._said - 1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def settings(self) -> dict[str, str]:
        """The environment under which a Cellwright server asks this one."""
        return {
            "CELLWRIGHT_MODEL": "openai/scripted",
            "CELLWRIGHT_API_BASE": self.url,
            "CELLWRIGHT_API_KEY": "sk-very-secret",
        }

    def __enter__(self) -> OpenAIServer:
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def _serve(self) -> None:
        async def run() -> None:
            self._loop = asyncio.get_running_loop()
            self._stop = asyncio.Event()
            server = httpserver.HTTPServer(web.Application([(r"/v1/chat/completions", _Completions, {"owner": self})]))
            sockets = netutil.bind_sockets(0, "127.0.0.1")
            self.port = sockets[0].getsockname()[1]
            server.add_sockets(sockets)
            self._ready.set()
            await self._stop.wait()
            server.stop()
            await server.close_all_connections()

        asyncio.run(run())


class _Completions(web.RequestHandler):
    def initialize(self, owner: OpenAIServer) -> None:
        self.owner = owner
        self._gone = asyncio.Event()

    def on_connection_close(self) -> None:
        self._gone.set()

    async def post(self) -> None:
        body = json.loads(self.request.body)
        if str(body["messages"][0]["content"]).startswith("You name conversations"):
            self.owner.named.append(body)  # Asked in the background, beside what the script is about.
            say = self.owner.name_with
        else:
            self.owner.requests.append(body)
            say = self.owner.next(body)
        for name, value in say.headers.items():
            self.set_header(name, value)
        if say.status != 200:
            self.set_status(say.status)
            self.finish({"error": {"message": say.content or "scripted error", "type": "scripted", "code": say.status}})
            return
        self.set_header("Content-Type", "text/event-stream")
        self.owner.open_streams += 1
        try:
            if say.content == "CUT":
                await self._cut()
                return
            await self._stream(say, body)
        except iostream.StreamClosedError:
            self.owner.closed_early += 1
        finally:
            self.owner.open_streams -= 1

    async def _cut(self) -> None:
        reply, at = self.owner.cut_reply, self.owner.cut_at
        self.set_header("Content-Length", str(len(reply)))
        self.write(reply[:at])
        await self.flush()
        self.request.connection.stream.close()  # type: ignore[union-attr]

    async def _stream(self, say: Say, body: dict[str, Any]) -> None:
        chunks = list(_deltas(say))
        await self._wait(say.first_token_s)
        for number, delta in enumerate(chunks):
            if say.cut_after_chunks is not None and number >= say.cut_after_chunks:
                self.request.connection.stream.close()  # type: ignore[union-attr]
                return
            await self._send(body, {"index": 0, "delta": delta, "finish_reason": None})
            await self._wait(say.between_s)
        finish = say.finish or ("tool_calls" if say.calls else "stop")
        await self._send(body, {"index": 0, "delta": {}, "finish_reason": finish})
        usage = {"prompt_tokens": len(str(body["messages"])) // 4, "completion_tokens": len(chunks) * 4}
        usage["total_tokens"] = sum(usage.values())
        await self._write({**_envelope(body), "choices": [], "usage": usage})
        self.write("data: [DONE]\n\n")
        self.finish()

    async def _wait(self, seconds: float) -> None:
        if seconds:
            try:
                await asyncio.wait_for(self._gone.wait(), seconds)
            except TimeoutError:
                return
            raise iostream.StreamClosedError()

    async def _send(self, body: dict[str, Any], choice: dict[str, Any]) -> None:
        await self._write({**_envelope(body), "choices": [choice]})

    async def _write(self, data: dict[str, Any]) -> None:
        self.write(f"data: {json.dumps(data)}\n\n")
        await self.flush()


def _envelope(body: dict[str, Any]) -> dict[str, Any]:
    return {"id": "chatcmpl-scripted", "object": "chat.completion.chunk", "created": 0, "model": body["model"]}


def _deltas(say: Say) -> Any:
    for start in range(0, len(say.thinking), CHUNK):
        yield {"role": "assistant", "reasoning_content": say.thinking[start : start + CHUNK]}
    for start in range(0, len(say.content), say.chunk):
        yield {"role": "assistant", "content": say.content[start : start + say.chunk]}
    for index, (name, arguments) in enumerate(say.calls):
        text = arguments if isinstance(arguments, str) else json.dumps(arguments)
        head = {"index": index, "id": f"call_{index}_{id(say)}", "type": "function"}
        yield {"role": "assistant", "tool_calls": [{**head, "function": {"name": name, "arguments": ""}}]}
        for start in range(0, len(text), CHUNK):
            yield {"tool_calls": [{"index": index, "function": {"arguments": text[start : start + CHUNK]}}]}
