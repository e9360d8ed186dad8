"""A session's model replies recorded to a file, and played back as a model.

Everything else stays real. A rehearsal checks what it is sent: where the tool results no longer match what was
recorded, by a normal form, it stops with the difference instead of reciting.
"""

from __future__ import annotations

import asyncio
import difflib
import json
import re
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from cellwright.server.domain import Frozen, Message, ToolCall, Turn, Usage, new_id
from cellwright.server.errors import Invalid, NotFound, RehearsalDiffers
from cellwright.server.models.protocol import ChatMessage, ModelEvent, ModelRequest, Reply, TextDelta, ToolDelta
from pydantic import ValidationError

PREFIX = "rehearsal:"
SUFFIX = ".rehearsal.json"
CHUNK_CHARACTERS = 24


class RecordedCall(Frozen):
    """A tool call and, in normal form, what it gave."""

    name: str
    arguments: str
    result: str


class RecordedReply(Frozen):
    content: str = ""
    thinking: str = ""
    calls: list[RecordedCall] = []
    usage: Usage = Usage()


class RecordedTurn(Frozen):
    query: str
    replies: list[RecordedReply]


class Recording(Frozen):
    """What a rehearsal file holds."""

    version: int = 1
    title: str
    model: str
    turns: list[RecordedTurn]

    def to_json(self) -> str:
        return json.dumps(self.model_dump(mode="json", exclude_defaults=True), indent=1, ensure_ascii=False) + "\n"


def normal(text: str) -> str:
    """What two runs of the same cell have in common: no addresses, times, ids or last digits."""
    text = re.sub(r"0x[0-9a-fA-F]+", "0x…", text)
    text = re.sub(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "<id>", text)
    text = re.sub(r"\bcell [0-9a-f]{8}\b", "cell <id>", text)
    text = re.sub(r"\b\d+(\.\d+)? ?(ms|µs|us|ns|s|seconds|it/s)\b", "<time>", text)
    text = re.sub(r"-?\d+\.\d+(e[+-]?\d+)?", lambda m: f"{float(m[0]):.4g}", text)
    text = re.sub(r"(/[\w.\-+]+){3,}", "<path>", text)
    lines = (" ".join(line.split()) for line in text.strip().splitlines())
    return "\n".join(line for line in lines if not line.startswith("[artifacts: "))


def record(title: str, model: str, conversation: Sequence[tuple[Turn, Sequence[Message]]]) -> Recording:
    """The recording of a session's turns."""
    turns = []
    for turn, messages in conversation:
        replies = []
        for message in messages:
            if message.role != "assistant":
                continue
            results = {result.call_id: result.content for result in message.tool_results}
            calls = [
                RecordedCall(name=call.name, arguments=call.arguments, result=normal(results.get(call.id, "")))
                for call in message.tool_calls
            ]
            usage = Usage(completion_tokens=message.token_count, calls=1)
            replies.append(
                RecordedReply(content=message.content, thinking=message.thoughts or "", calls=calls, usage=usage)
            )
        turns.append(RecordedTurn(query=turn.query, replies=replies))
    return Recording(title=title, model=model, turns=turns)


def load(path: Path) -> Recording:
    """A recording from a file; raises NotFound or Invalid."""
    try:
        return Recording.model_validate_json(path.read_text("utf-8"))
    except OSError as error:
        raise NotFound("rehearsal", path.name) from error
    except ValidationError as error:
        raise Invalid(f"{path.name} is not a rehearsal: {error.error_count()} fields are wrong.") from error


class RehearsedModel:
    """Plays a recording back. Its place is read off the conversation, so it survives restarts as a model would."""

    sees = False

    def __init__(self, name: str, recording: Recording, pause_s: float = 0.02) -> None:
        self.name, self._recording, self._pause_s = name, recording, pause_s

    def count_tokens(self, text: str) -> int:
        return len(text) // 4

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        reply = self._next(request.messages)
        for channel, text in (("thinking", reply.thinking), ("answer", reply.content)):
            for start in range(0, len(text), CHUNK_CHARACTERS):
                await asyncio.sleep(self._pause_s)
                yield TextDelta(channel, text[start : start + CHUNK_CHARACTERS])  # type: ignore[arg-type]
        calls = []
        for index, call in enumerate(reply.calls):
            for start in range(0, len(call.arguments), CHUNK_CHARACTERS):
                await asyncio.sleep(self._pause_s)
                yield ToolDelta(index, call.name, call.arguments[start : start + CHUNK_CHARACTERS])
            calls.append(ToolCall(id=new_id(), name=call.name, arguments=call.arguments))
        yield Reply(
            reply.content,
            reply.thinking,
            calls,
            reply.usage,
            self.name,
            "tool_calls" if calls else "stop",
        )

    def _next(self, messages: Sequence[ChatMessage]) -> RecordedReply:
        asked = [i for i, message in enumerate(messages) if message.role == "user"]
        if not asked:
            raise RehearsalDiffers("The rehearsal was sent no question.")
        query = messages[asked[-1]].content
        turn = next((t for t in self._recording.turns if _question(query) == _question(t.query)), None)
        if turn is None:
            known = "\n".join(f"  - {t.query}" for t in self._recording.turns)
            raise RehearsalDiffers(
                f"This is a rehearsal: its replies were recorded, and it knows only these questions:\n{known}\n"
                "Set CELLWRIGHT_MODEL to ask a real model anything."
            )
        since = messages[asked[-1] + 1 :]
        said = [message for message in since if message.role == "assistant"]
        if len(said) >= len(turn.replies):
            raise RehearsalDiffers("The rehearsal's recording of this turn is at its end.")
        results = [message.content for message in since if message.role == "tool"]
        recorded = [call.result for reply in turn.replies[: len(said)] for call in reply.calls]
        for got, expected in zip(results, recorded, strict=False):
            if normal(got) != normal(expected):
                raise RehearsalDiffers(
                    "A cell gave another result than when the rehearsal was recorded:\n" + _difference(expected, got)
                )
        return turn.replies[len(said)]


def _question(text: str) -> str:
    return " ".join(text.split()).casefold()


def _difference(expected: str, got: str) -> str:
    lines = difflib.unified_diff(
        normal(expected).splitlines(), normal(got).splitlines(), "recorded", "now", lineterm="", n=1
    )
    return "\n".join(list(lines)[:30])
