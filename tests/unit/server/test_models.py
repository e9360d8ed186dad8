"""Partial JSON, fenced replies, rehearsals."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
from cellwright.server.domain import ToolCall
from cellwright.server.errors import RehearsalDiffers
from cellwright.server.models.fenced import FencedModel
from cellwright.server.models.partial import partial_string
from cellwright.server.models.protocol import ChatMessage, ModelEvent, ModelRequest, Reply, TextDelta, ToolSchema
from cellwright.server.models.rehearsal import (
    RecordedCall,
    RecordedReply,
    RecordedTurn,
    Recording,
    RehearsedModel,
    normal,
)


def test_code_can_be_read_while_it_is_written() -> None:
    """At every cut, the part of a member that has come is a prefix of the whole."""
    source = 'print("ä\\n\t😀")\n# "quoted" \\ done'
    text = json.dumps({"purpose": "x", "source": source})
    seen = [partial_string(text[:cut], "source") for cut in range(len(text) + 1)]
    assert seen[-1] == source
    assert all(source.startswith(part) for part in seen)
    assert sorted(seen, key=len) == seen


class Echo:
    name, sees = "echo", False

    def __init__(self, said: str) -> None:
        self.said, self.requests = said, []

    def count_tokens(self, text: str) -> int:
        return len(text)

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        self.requests.append(request)
        for char in self.said:
            yield TextDelta("answer", char)
        yield Reply(self.said)


async def everything(model: FencedModel | RehearsedModel, *messages: ChatMessage) -> list[ModelEvent]:
    tools = [ToolSchema("run_cell", "Runs.", {"properties": {"source": {}}})]
    return [event async for event in model.stream(ModelRequest([ChatMessage("system", "s"), *messages], tools))]


async def test_a_code_block_becomes_a_call() -> None:
    """The block's code is run; the text before it is the message, and nothing of the block is told as text."""
    events = await everything(FencedModel(Echo("I look.\n\n```python\nx = 1\nx\n```\n")), ChatMessage("user", "q"))
    reply = events[-1]
    assert isinstance(reply, Reply)
    assert reply.content == "I look."
    assert json.loads(reply.tool_calls[0].arguments) == {"source": "x = 1\nx"}
    told = "".join(event.text for event in events if isinstance(event, TextDelta))
    assert told.strip() == "I look."


async def test_other_tools_by_name_and_plain_answers() -> None:
    """A tool block is that tool's call; text without one is the answer, whole."""
    events = await everything(FencedModel(Echo('```tool:read_file\n{"name": "a"}\n```')), ChatMessage("user", "q"))
    assert events[-1].tool_calls[0].name == "read_file"
    events = await everything(FencedModel(Echo("Use `x`:\n`y`")), ChatMessage("user", "q"))
    assert events[-1].content == "Use `x`:\n`y`"
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == "Use `x`:\n`y`"


async def test_a_fenced_model_is_told_everything_in_text() -> None:
    """Tools are described in the system prompt; calls and results become text."""
    echo = Echo("done")
    call = ToolCall(id="1", name="run_cell", arguments='{"source": "1+1"}')
    await everything(
        FencedModel(echo),
        ChatMessage("user", "q"),
        ChatMessage("assistant", "", tool_calls=[call]),
        ChatMessage("tool", "2", tool_call_id="1"),
    )
    sent = echo.requests[0].messages
    assert "run_cell(source)" in sent[0].content
    assert "```python\n1+1\n```" in sent[2].content
    assert (sent[3].role, sent[3].content) == ("user", "Result:\n2")


RECORDING = Recording(
    title="t",
    model="m",
    turns=[
        RecordedTurn(
            query="How many?",
            replies=[
                RecordedReply(
                    calls=[RecordedCall(name="run_cell", arguments='{"source": "1"}', result="cell <id>: ok\n1.5")]
                ),
                RecordedReply(content="One."),
            ],
        )
    ],
)


async def test_a_rehearsal_plays_in_order_and_checks_what_it_is_sent() -> None:
    """The same results, to a normal form, give the recorded answer; other results stop it with the difference."""
    model = RehearsedModel("rehearsal:t", RECORDING, pause_s=0)
    first = (await everything(model, ChatMessage("user", "how  many?")))[-1]
    call = first.tool_calls[0]
    asked = ChatMessage("user", "How many?"), ChatMessage("assistant", "", tool_calls=[call])
    same = ChatMessage("tool", "cell 0a1b2c3d: ok\n1.50001", tool_call_id=call.id)
    assert (await everything(model, *asked, same))[-1].content == "One."
    with pytest.raises(RehearsalDiffers, match=r"-1\.5"):
        await everything(model, *asked, ChatMessage("tool", "cell 0a1b2c3d: ok\n7", tool_call_id=call.id))


async def test_a_rehearsal_names_the_questions_it_knows() -> None:
    """Another question is refused with those that were recorded."""
    with pytest.raises(RehearsalDiffers, match="How many"):
        await everything(RehearsedModel("rehearsal:t", RECORDING), ChatMessage("user", "Why?"))


def test_normal_form() -> None:
    """Addresses, ids, times, paths and last digits do not count; words and numbers do."""
    assert normal("<A at 0x7f00>  took 1.23 ms") == normal("<A at 0x1234> took 9 ms")
    assert normal("0.123456") == normal("0.1234561")
    assert normal("12 rows") != normal("13 rows")
