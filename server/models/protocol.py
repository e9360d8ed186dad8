"""What the agent asks of a model, and what it gets: a stream of deltas that ends with the whole reply."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from cellwright.server.domain import ToolCall, Usage
from cellwright.server.errors import ModelError, ModelSilent


@dataclass(frozen=True)
class Picture:
    """An image for a model that sees: base64 data of a MIME type."""

    mime: str
    data: str


@dataclass(frozen=True)
class ChatMessage:
    """One message of the history that a model is sent."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str
    tool_calls: Sequence[ToolCall] = ()
    tool_call_id: str | None = None
    pictures: Sequence[Picture] = ()


@dataclass(frozen=True)
class ToolSchema:
    """A tool as a model is told of it; `parameters` is a JSON schema."""

    name: str
    description: str
    parameters: dict[str, Any]


@dataclass(frozen=True)
class ModelRequest:
    """Everything that one model call depends on."""

    messages: Sequence[ChatMessage]
    tools: Sequence[ToolSchema] = ()


@dataclass(frozen=True)
class TextDelta:
    """More text of one channel."""

    channel: Literal["thinking", "answer"]
    text: str


@dataclass(frozen=True)
class ToolDelta:
    """More of a tool call's arguments; `name` comes with its first delta."""

    index: int
    name: str
    arguments: str


@dataclass(frozen=True)
class Reply:
    """The whole of what a model said: always the last of a stream."""

    content: str
    thinking: str = ""
    tool_calls: Sequence[ToolCall] = ()
    usage: Usage = field(default_factory=Usage)
    model: str = ""
    finish_reason: str = "stop"


ModelEvent = TextDelta | ToolDelta | Reply


class Model(Protocol):
    """Something that continues a conversation."""

    name: str

    @property
    def sees(self) -> bool:
        """Whether it can be shown pictures."""

    def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        """Deltas, then exactly one Reply; raises ModelError."""

    def count_tokens(self, text: str) -> int:
        """About how many tokens `text` is."""


async def timed(
    events: AsyncIterator[ModelEvent], first_token_s: float, between_tokens_s: float
) -> AsyncGenerator[ModelEvent, None]:
    """The same stream; raises ModelSilent when nothing comes for too long."""
    limit = first_token_s
    iterator = aiter(events)
    try:
        while True:
            try:
                async with asyncio.timeout(limit):
                    event = await anext(iterator)
            except StopAsyncIteration:
                return
            except TimeoutError:
                raise ModelSilent(f"The model said nothing for {limit:.0f} s.") from None
            limit = between_tokens_s
            yield event
    finally:
        close = getattr(iterator, "aclose", None)
        if close is not None:
            await close()


async def said(model: Model, request: ModelRequest, first_token_s: float, between_tokens_s: float) -> Reply:
    """The whole reply to one request, outside any turn; raises ModelError."""
    async with contextlib.aclosing(timed(model.stream(request), first_token_s, between_tokens_s)) as events:
        async for event in events:
            if isinstance(event, Reply):
                return event
    raise ModelError("The model ended its reply without saying so.")
