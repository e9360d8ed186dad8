"""Drives a model without tool calling: its code blocks become `run_cell` calls, its JSON blocks the other tools'."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator

from cellwright.server.domain import ToolCall, new_id
from cellwright.server.models.protocol import (
    ChatMessage,
    Model,
    ModelEvent,
    ModelRequest,
    Reply,
    TextDelta,
    ToolDelta,
    ToolSchema,
)

BLOCK = re.compile(r"^```[ \t]*(python|py|tool:(?P<tool>\w+))[ \t]*\n(?P<body>.*?)(?:^```[ \t]*$|\Z)", re.M | re.S)
OPENING = re.compile(r"^```[ \t]*(?:python|py|tool:\w+)[ \t]*\n", re.M)

RULES = """
You cannot call tools directly. To run Python, end your message with ONE fenced block and nothing behind it:

```python
...
```

It is run as one notebook cell and you are told what it shows. For the other tools, end your message with:

```tool:NAME
{{"argument": "value"}}
```

Tools: {tools}

When you know the answer, write it as plain text without any such block: that ends your turn.
""".strip()


class FencedModel:
    """`inner`, spoken to in text alone."""

    def __init__(self, inner: Model) -> None:
        self._inner = inner
        self.name = inner.name

    @property
    def sees(self) -> bool:
        return self._inner.sees

    def count_tokens(self, text: str) -> int:
        return self._inner.count_tokens(text)

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        answer = ""
        told = 0
        in_block = False
        async for event in self._inner.stream(ModelRequest(_as_text(request))):
            match event:
                case TextDelta("answer", text):
                    answer += text
                    opening = OPENING.search(answer)
                    end = opening.start() if opening is not None else _safe_end(answer)
                    if end > told:
                        yield TextDelta("answer", answer[told:end])
                        told = end
                    if opening is not None and not in_block:
                        in_block = True
                case Reply():
                    reply = _with_calls(event)
                    if not reply.tool_calls and len(event.content) > told:
                        yield TextDelta("answer", event.content[told:])
                    for index, call in enumerate(reply.tool_calls):
                        yield ToolDelta(index, call.name, call.arguments)
                    yield reply
                case _:
                    yield event


def _safe_end(answer: str) -> int:
    """Holds a last line back that may yet become the opening of a block."""
    start = answer.rfind("\n") + 1
    return start if answer[start:].startswith("`") else len(answer)


def _with_calls(reply: Reply) -> Reply:
    found = BLOCK.search(reply.content)
    if found is None:
        return reply
    tool = found["tool"]
    arguments = found["body"].strip() if tool else json.dumps({"source": found["body"].rstrip("\n")})
    call = ToolCall(id=new_id(), name=tool or "run_cell", arguments=arguments)
    return Reply(
        reply.content[: found.start()].rstrip(), reply.thinking, [call], reply.usage, reply.model, reply.finish_reason
    )


def _as_text(request: ModelRequest) -> list[ChatMessage]:
    rules = RULES.format(tools="\n".join(_described(tool) for tool in request.tools))
    messages: list[ChatMessage] = []
    for message in request.messages:
        if message.role == "system" and not messages:
            messages.append(ChatMessage("system", f"{message.content}\n\n{rules}"))
        elif message.tool_calls:
            blocks = "\n\n".join(_block(call) for call in message.tool_calls)
            messages.append(ChatMessage("assistant", f"{message.content}\n\n{blocks}".strip()))
        elif message.role == "tool":
            messages.append(ChatMessage("user", f"Result:\n{message.content}", pictures=message.pictures))
        else:
            messages.append(message)
    return messages


def _block(call: ToolCall) -> str:
    if call.name == "run_cell":
        try:
            return f"```python\n{json.loads(call.arguments)['source']}\n```"
        except (ValueError, KeyError, TypeError):
            pass
    return f"```tool:{call.name}\n{call.arguments}\n```"


def _described(tool: ToolSchema) -> str:
    names = ", ".join(tool.parameters.get("properties", {}))
    return f"- {tool.name}({names}): {tool.description}"
