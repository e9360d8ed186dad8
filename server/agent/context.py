"""What a model is sent: the situation, older turns in short, recent ones in full, within a budget of tokens."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from cellwright.notebooks.document import Document
from cellwright.server.agent.profiles import Profile
from cellwright.server.agent.tools import TOOLS
from cellwright.server.domain import Message, ToolCall, ToolResult, Turn, TurnStatus
from cellwright.server.models.protocol import ChatMessage, Model, ModelRequest, Picture
from cellwright.server.workbench import Workbench
from jinja2 import Environment, FileSystemLoader, StrictUndefined

PROMPTS = Path(__file__).parent / "prompts"
NOT_RUN = "This was not run: the turn ended before."
SUMMARY_CHARACTERS = 400
MAX_FILES = 60
MAX_VARIABLES = 80
MAX_OUTLINE = 60


@cache
def _environment() -> Environment:
    return Environment(  # noqa: S701 (prompts are text for a model, not HTML)
        loader=FileSystemLoader([PROMPTS, "/"]), undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True
    )


async def assemble(bench: Workbench, profile: Profile, model: Model) -> ModelRequest:
    """The request for the next reply. The history in it is well formed: every call has exactly one result."""
    system = await _system(bench, profile)
    conversation: list[tuple[Turn, list[Message]]] = await bench.conversation()
    budget = bench.settings.context_tokens - model.count_tokens(system)
    chosen: list[list[ChatMessage]] = []
    shortened: list[tuple[Turn, list[Message]]] = []
    for turn, messages in reversed(conversation):
        current = turn.id == bench.turn.id
        told = [part for message in messages for part in await _told(bench, message, current and model.sees)]
        cost = sum(model.count_tokens(_text(part)) for part in told)
        if current and cost > budget:
            told = _squeezed(told, budget, model)
            cost = sum(model.count_tokens(_text(part)) for part in told)
        if not shortened and (cost <= budget or not chosen):
            chosen.insert(0, told)
            budget -= cost
        else:
            shortened.insert(0, (turn, messages))
    if shortened:
        system += "\n\n## Earlier in this conversation\n\n" + _summary(shortened, max(budget, 500), model)
    history = [part for turn in chosen for part in turn]
    tools = [TOOLS[name].schema for name in profile.tools]
    return ModelRequest([ChatMessage("system", system), *history], tools)


def _text(message: ChatMessage) -> str:
    return message.content + "".join(call.arguments for call in message.tool_calls)


async def _told(bench: Workbench, message: Message, with_pictures: bool) -> list[ChatMessage]:
    if message.role != "assistant":
        return [ChatMessage(message.role, message.content)]
    results = {result.call_id: result for result in message.tool_results}
    told = [ChatMessage("assistant", message.content, tool_calls=[_sound(call) for call in message.tool_calls])]
    pictures: list[Picture] = []
    for call in message.tool_calls:
        result = results.get(call.id) or ToolResult(call_id=call.id, name=call.name, content=NOT_RUN, is_error=True)
        told.append(ChatMessage("tool", result.content, tool_call_id=call.id))
        if with_pictures:
            for sha256 in result.image_sha256:
                data = base64.b64encode(await bench.picture(sha256)).decode()
                pictures.append(Picture("image/png", data))
    if pictures:
        told.append(ChatMessage("user", "The figures that these cells show:", pictures=pictures))
    return told


def _sound(call: ToolCall) -> ToolCall:
    """The call with arguments that are a JSON object: some providers refuse a history that holds anything else."""
    try:
        sound = isinstance(json.loads(call.arguments), dict)
    except ValueError:
        sound = False
    return call if sound else call.model_copy(update={"arguments": json.dumps({"unreadable": call.arguments[:2_000]})})


def _squeezed(messages: list[ChatMessage], budget: int, model: Model) -> list[ChatMessage]:
    """The turn under way with its oldest results cut to a line, as far as it needs."""
    squeezed = list(messages)
    for i, message in enumerate(messages[:-4]):
        if sum(model.count_tokens(_text(part)) for part in squeezed) <= budget:
            break
        if message.role == "tool" and len(message.content) > 300:
            squeezed[i] = ChatMessage(
                "tool", message.content[:250] + "\n[… cut: older result]", tool_call_id=message.tool_call_id
            )
        elif message.pictures:
            squeezed[i] = ChatMessage("user", "(figures shown earlier)")
    return squeezed


def _summary(turns: Sequence[tuple[Turn, Sequence[Message]]], budget: int, model: Model) -> str:
    """A few lines a turn, newest kept first when there are too many."""
    lines: list[str] = []
    for turn, _ in reversed(turns):
        said = " ".join((turn.answer or _ended(turn)).split())[:SUMMARY_CHARACTERS]
        asked = " ".join(turn.query.split())[:SUMMARY_CHARACTERS]
        line = f"- Turn {turn.n}. Asked: {asked}\n  Outcome: {said}"
        if model.count_tokens("\n".join([*lines, line])) > budget and lines:
            lines.append(f"- (turns 1 to {turn.n} are left out)")
            break
        lines.append(line)
    return "\n".join(reversed(lines))


def _ended(turn: Turn) -> str:
    return {TurnStatus.STOPPED: "stopped by the user"}.get(turn.status, f"{turn.status.value}: {turn.cause or ''}")


async def _system(bench: Workbench, profile: Profile) -> str:
    known = await bench.files()
    files = []
    for file in (await asyncio.to_thread(bench.workspace.files))[:MAX_FILES]:
        artifact = known.get(file.name)
        metadata: dict[str, Any] = artifact.metadata if artifact is not None else {}
        columns = ", ".join(f"{c['name']} ({c['dtype']})" for c in (metadata.get("columns") or [])[:40])
        files.append(
            {
                "name": file.name,
                "size": f"{file.size_bytes:,} bytes",
                "rows": metadata.get("rows"),
                "columns": columns,
                "problem": metadata.get("problem"),
            }
        )
    variables = (await bench.variables())[:MAX_VARIABLES]
    note = None
    lost = await bench.variables_lost()
    if lost is not None:
        note = f"The kernel was lost since you last spoke ({lost}): variables that are not listed here are gone."
    shown = {
        "files": files,
        "variables": [variable.model_dump() for variable in variables],
        "outline": _outline(await bench.document()),
        "kernel_note": note,
    }
    return await asyncio.to_thread(lambda: _environment().get_template(profile.prompt).render(shown))


def _outline(document: Document) -> list[str]:
    lines = []
    for cell in document.cells[-MAX_OUTLINE:]:
        first = next((line.strip() for line in cell.source.splitlines() if line.strip()), "")
        lines.append(f"{cell.id[:8]} {cell.kind} {cell.source_hash[:8]}: {first[:80]}")
    return lines
