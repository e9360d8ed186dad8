"""A turn as the AI SDK's UI message stream (version 1): what `useChat` of the npm package `ai` reads."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, field
from typing import Any

from cellwright.extension import sse
from cellwright.server.app import Cellwright
from cellwright.server.domain import Session, Turn

HEADER = ("x-vercel-ai-ui-message-stream", "v1")
OURS = {"dynamic": True, "providerExecuted": True}
"""What every part of a tool call says: no tool of the client's, and done already."""


@dataclass
class _Text:
    """One text or reasoning part of a message that is being written."""

    id: str
    kind: str
    sent: str = ""
    open: bool = True


@dataclass
class Translation:
    """Turns a turn's events, in order, into parts of one UI message."""

    session: Session
    turn: Turn
    content_url: str
    _texts: dict[tuple[str, str], _Text] = field(default_factory=dict)
    _parts: int = 0
    _step: bool = False
    _tools: dict[str, str] = field(default_factory=dict)

    def begin(self) -> Iterator[dict[str, Any]]:
        told = {"session_id": self.session.id, "turn_id": self.turn.id, "n": self.turn.n}
        yield {"type": "start", "messageId": self.turn.id, "messageMetadata": told}

    def of(self, kind: str, told: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The parts that one event becomes."""
        match kind:
            case "message.snapshot":
                for channel, text in told["text"].items():
                    yield from self._grow(told["message_id"], channel, 0, text)
            case "message.delta":
                yield from self._grow(told["message_id"], told["channel"], told["offset"], told["text"])
            case "attempt.discarded":
                yield from self._discard(told["message_id"], told["reason"])
            case "message.completed" if told["role"] == "assistant":
                yield from self._message(told)
            case "cell.started":
                yield {
                    "type": "data-cell",
                    "id": told["execution_id"],
                    "data": {"cell_id": told["cell_id"], "source": told["source"], "status": "running"},
                }
            case "cell.output" | "cell.snapshot":
                yield {"type": "data-output", "data": told, "transient": True}
            case "cell.completed":
                yield {
                    "type": "data-cell",
                    "id": told["execution_id"],
                    "data": {name: told[name] for name in ("cell_id", "status", "outputs", "duration_ms")},
                }
            case "tool.completed":
                yield from self._result(told["result"], told["message_id"])
            case "approval.requested" | "approval.decided":
                yield {"type": f"data-{kind.replace('.', '-')}", "id": told["call_id"], "data": told}
            case "artifact.ready" | "file.uploaded":
                yield from self._artifact(told["artifact"])
            case "iteration.completed":
                yield from self._end_step()
            case "turn.completed" | "turn.failed" | "turn.stopped" | "turn.interrupted":
                yield from self._end(kind, told)

    def _begin_step(self) -> Iterator[dict[str, Any]]:
        if not self._step:
            self._step = True
            yield {"type": "start-step"}

    def _end_step(self) -> Iterator[dict[str, Any]]:
        for text in self._texts.values():
            yield from self._close(text)
        if self._step:
            self._step = False
            yield {"type": "finish-step"}

    def _grow(self, message_id: str, channel: str, offset: int, text: str) -> Iterator[dict[str, Any]]:
        """More of a text, given from `offset`; what is not the continuation of what was sent is left to the end."""
        if channel == "code":
            return
        part = self._texts.get((message_id, channel))
        sent = "" if part is None else part.sent
        if offset > len(sent) or len(text) + offset <= len(sent):
            return
        if part is None:
            yield from self._begin_step()
            self._parts += 1
            part = _Text(f"{message_id}-{self._parts}", "reasoning" if channel == "thinking" else "text")
            self._texts[message_id, channel] = part
            yield {"type": f"{part.kind}-start", "id": part.id}
        more = text[len(sent) - offset :]
        part.sent += more
        yield {"type": f"{part.kind}-delta", "id": part.id, "delta": more}

    def _close(self, part: _Text) -> Iterator[dict[str, Any]]:
        if part.open:
            part.open = False
            yield {"type": f"{part.kind}-end", "id": part.id}

    def _discard(self, message_id: str, reason: str) -> Iterator[dict[str, Any]]:
        """The protocol takes nothing back: the parts are closed, and named in a `data-discarded` part."""
        for key in [key for key in self._texts if key[0] == message_id]:
            part = self._texts.pop(key)
            yield from self._close(part)
            yield {"type": "data-discarded", "id": part.id, "data": {"part": part.id, "reason": reason}}

    def _message(self, told: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield from self._begin_step()
        answers = [str(_arguments(call).get("answer", "")) for call in told["tool_calls"] if call["name"] == "finish"]
        whole = {"thinking": told["thoughts"] or "", "answer": told["content"] or "".join(answers)}
        for channel, text in whole.items():
            part = self._texts.get((told["message_id"], channel))
            if part is not None and not text.startswith(part.sent):
                yield from self._discard(told["message_id"], "it is not what the model said in the end")
            yield from self._grow(told["message_id"], channel, 0, text)
            part = self._texts.get((told["message_id"], channel))
            if part is not None:
                yield from self._close(part)
        for call in told["tool_calls"]:
            call_id = f"{told['message_id']}-{call['id']}"
            self._tools[call_id] = call["name"]
            yield {"type": "tool-input-start", "toolCallId": call_id, "toolName": call["name"], **OURS}
            yield {
                "type": "tool-input-available",
                "toolCallId": call_id,
                "toolName": call["name"],
                "input": _arguments(call),
                **OURS,
            }

    def _result(self, result: dict[str, Any], message_id: str) -> Iterator[dict[str, Any]]:
        call_id = f"{message_id}-{result['call_id']}"
        if call_id not in self._tools:
            return
        if result["is_error"]:
            yield {"type": "tool-output-error", "toolCallId": call_id, "errorText": result["content"], **OURS}
        else:
            yield {"type": "tool-output-available", "toolCallId": call_id, "output": result["content"], **OURS}

    def _artifact(self, artifact: dict[str, Any]) -> Iterator[dict[str, Any]]:
        url = f"{self.content_url}/{artifact['id']}/content"
        yield {"type": "file", "url": url, "mediaType": artifact["mime_type"]}
        yield {
            "type": "source-document",
            "sourceId": artifact["id"],
            "mediaType": artifact["mime_type"],
            "title": artifact["description"] or artifact["name"],
            "filename": artifact["name"],
        }

    def _end(self, kind: str, told: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield from self._end_step()
        if kind == "turn.failed":
            yield {"type": "error", "errorText": told["cause"]}
        if kind in ("turn.stopped", "turn.interrupted"):
            yield {"type": "abort"}
            return
        told_of = {name: told[name] for name in ("answer", "artifacts", "usage", "cause")}
        yield {"type": "finish", "messageMetadata": {"status": kind.removeprefix("turn."), **told_of}}


def _arguments(call: dict[str, Any]) -> dict[str, Any]:
    try:
        found = json.loads(call["arguments"])
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"unreadable": call["arguments"]}


async def stream(
    app: Cellwright, session: Session, turn: Turn, after: int, content_url: str
) -> AsyncGenerator[tuple[str, str], None]:
    """Types of events, and the frames that they become, to the turn's end."""
    translation = Translation(session, turn, content_url)
    yield "start", "".join(_frame(part) for part in translation.begin())
    events = sse.events(app, session.id, after, turn.id)
    try:
        async for kind, told, _ in events:
            if not kind:
                yield "", ": still here\n\n"
                continue
            text = "".join(_frame(part) for part in translation.of(kind, told))
            if text:
                yield kind, text
    finally:
        await events.aclose()
    yield "done", "data: [DONE]\n\n"


def _frame(part: dict[str, Any]) -> str:
    return f"data: {json.dumps(part, ensure_ascii=False, default=str)}\n\n"
