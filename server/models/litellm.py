"""Any model that LiteLLM knows, and any OpenAI-compatible server."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Sequence
from typing import Any

import structlog
from cellwright.server.domain import ToolCall, Usage, new_id
from cellwright.server.errors import (
    ModelError,
    ModelMalformed,
    ModelOverloaded,
    ModelRefused,
    ModelUnreachable,
)
from cellwright.server.models.protocol import ChatMessage, ModelEvent, ModelRequest, Reply, TextDelta, ToolDelta

NAMES = re.compile(r"^(?:(?:litellm\.)?\w+(?:Error|Exception)(?: -|:) )+")
"""How LiteLLM begins its messages: the names of exceptions, its own and the provider's."""

SECRET_FROM = 8
"""Shorter than this, a key is a word that may stand anywhere."""

log = structlog.get_logger(__name__)


def library() -> Any:
    """LiteLLM, imported on first use: it takes seconds. It asks the network for nothing by itself."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    os.environ.setdefault("LITELLM_LOG", "ERROR")
    import litellm

    litellm.telemetry = False
    litellm.suppress_debug_info = True
    litellm.drop_params = True
    return litellm


class LiteLLMModel:
    """One model, reached through LiteLLM. Makes a single attempt: who calls decides about another."""

    def __init__(self, name: str, api_base: str | None, api_key: str | None) -> None:
        self.name, self._api_base, self._api_key = name, api_base, api_key

    @property
    def sees(self) -> bool:
        try:
            return bool(library().supports_vision(self.name))
        except Exception:
            return False

    def count_tokens(self, text: str) -> int:
        try:
            return int(library().token_counter(model=self.name, text=text))
        except Exception:
            return len(text) // 4

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        litellm = await asyncio.to_thread(library)
        arguments: dict[str, Any] = {
            "model": self.name,
            "messages": [_message(message) for message in request.messages],
            "stream": True,
            "stream_options": {"include_usage": True},
            "num_retries": 0,
            "max_retries": 0,
            "timeout": 3_600,
        }
        if request.tools:
            arguments["tools"] = [
                {
                    "type": "function",
                    "function": {"name": t.name, "description": t.description, "parameters": t.parameters},
                }
                for t in request.tools
            ]
        if self._api_base:
            arguments["api_base"] = self._api_base
            # A server of one's own often wants no key, but the OpenAI client insists on one.
            arguments["api_key"] = self._api_key or "none"
        elif self._api_key:
            arguments["api_key"] = self._api_key
        gathered = _Gathered()
        response: Any = None
        try:
            response = await litellm.acompletion(**arguments)
            async for chunk in response:
                for event in gathered.add(chunk):
                    yield event
        except ModelError:
            raise
        except asyncio.CancelledError:
            raise
        except Exception as error:
            raise _translated(error, self.name, self._api_key) from error
        finally:
            if response is not None and hasattr(response, "aclose"):
                await response.aclose()
        yield gathered.reply(litellm, self.name, arguments["messages"])


class _Gathered:
    """A streamed reply as it grows."""

    def __init__(self) -> None:
        self._content: list[str] = []
        self._thinking: list[str] = []
        self._calls: dict[int, dict[str, Any]] = {}
        self._finish: str | None = None
        self._usage: Any = None

    def add(self, chunk: Any) -> list[ModelEvent]:
        self._usage = getattr(chunk, "usage", None) or self._usage
        events: list[ModelEvent] = []
        for choice in chunk.choices or ():
            delta = choice.delta
            self._finish = choice.finish_reason or self._finish
            thinking = getattr(delta, "reasoning_content", None)
            if thinking:
                self._thinking.append(thinking)
                events.append(TextDelta("thinking", thinking))
            if delta.content:
                self._content.append(delta.content)
                events.append(TextDelta("answer", delta.content))
            for part in delta.tool_calls or ():
                events.append(self._add_call(part))
        return events

    def _add_call(self, part: Any) -> ToolDelta:
        index = part.index if part.index is not None else len(self._calls)
        call = self._calls.setdefault(index, {"id": None, "name": "", "arguments": []})
        call["id"] = part.id or call["id"]
        call["name"] += part.function.name or ""
        call["arguments"].append(part.function.arguments or "")
        return ToolDelta(index, call["name"], part.function.arguments or "")

    def reply(self, litellm: Any, name: str, messages: Sequence[dict[str, Any]]) -> Reply:
        if self._finish is None:
            raise ModelUnreachable("The model's reply broke off before its end.")
        content = "".join(self._content)
        calls = [
            ToolCall(id=call["id"] or new_id(), name=call["name"], arguments="".join(call["arguments"]) or "{}")
            for _, call in sorted(self._calls.items())
        ]
        if not content and not calls:
            raise ModelMalformed("The model's reply was empty.")
        prompt = int(getattr(self._usage, "prompt_tokens", 0) or 0)
        completion = int(getattr(self._usage, "completion_tokens", 0) or 0)
        if not prompt:
            prompt = sum(len(str(message.get("content") or "")) // 4 for message in messages)
        if not completion:
            completion = (len(content) + sum(len(call.arguments) for call in calls)) // 4
        try:
            prompt_cost, completion_cost = litellm.cost_per_token(
                model=name, prompt_tokens=prompt, completion_tokens=completion
            )
            cost = float(prompt_cost) + float(completion_cost)
        except Exception:  # LiteLLM raises whatever it likes for a model without a price.
            cost = 0.0
        usage = Usage(prompt_tokens=prompt, completion_tokens=completion, cost=cost, calls=1)
        return Reply(content, "".join(self._thinking), calls, usage, name, self._finish)


def _message(message: ChatMessage) -> dict[str, Any]:
    content: Any = message.content
    if message.pictures:
        content = [{"type": "text", "text": message.content}] if message.content else []
        content += [
            {"type": "image_url", "image_url": {"url": f"data:{picture.mime};base64,{picture.data}"}}
            for picture in message.pictures
        ]
    told: dict[str, Any] = {"role": message.role, "content": content}
    if message.tool_calls:
        told["content"] = content or None
        told["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        told["tool_call_id"] = message.tool_call_id
    return told


def _translated(error: Exception, name: str, api_key: str | None) -> ModelError:
    """Our error for LiteLLM's, by its HTTP status, without the keys that providers like to repeat."""
    status = getattr(error, "status_code", None)
    said = NAMES.sub("", str(getattr(error, "message", "") or error).split("\n")[0])
    keys = {api_key, *(value for variable, value in os.environ.items() if variable.endswith(("_KEY", "_TOKEN")))}
    for key in keys:
        if key and len(key) >= SECRET_FROM:
            said = said.replace(key, "••••••")
    said = said[:300].rstrip(". ")
    match status:
        case 429 | 529:
            return ModelOverloaded(f"The model {name} is overloaded: {said}.", _retry_after_s(error))
        case 401 | 403:
            return ModelRefused(f"The model's provider refused the key: check CELLWRIGHT_API_KEY. It said: {said}.")
        case 404:
            return ModelRefused(f"The provider knows no model {name!r}: check CELLWRIGHT_MODEL. It said: {said}.")
        case int() if 400 <= status < 500 and status != 408:
            return ModelRefused(f"The model's provider refused the request: {said}.")
        case 503:
            return ModelOverloaded(f"The model {name} is not available: {said}.", _retry_after_s(error))
    return ModelUnreachable(f"The model {name} could not be reached: {said}.")


def _retry_after_s(error: Exception) -> float | None:
    headers = getattr(getattr(error, "response", None), "headers", None) or getattr(error, "headers", None) or {}
    try:
        return max(0.0, float(headers.get("retry-after", "")))
    except (TypeError, ValueError):
        return None
