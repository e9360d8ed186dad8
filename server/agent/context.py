"""What a model is sent: the situation, older turns in short, recent ones in full, within a budget of tokens."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from cellwright.notebooks.document import Document
from cellwright.server.agent.profiles import Profile
from cellwright.server.agent.tools import TOOLS
from cellwright.server.domain import Message, ToolCall, ToolResult, Turn, TurnStatus
from cellwright.server.models.protocol import ChatMessage, Model, ModelRequest, Picture
from cellwright.server.preferences import Preferences
from cellwright.server.workbench import Workbench
from jinja2 import Environment, FileSystemLoader, StrictUndefined

PROMPTS = Path(__file__).parent / "prompts"
NOT_RUN = "This was not run: the turn ended before."
SUMMARY_CHARACTERS = 400
MAX_FILES = 60
MAX_VARIABLES = 80
MAX_OUTLINE = 60
MAX_ARTIFACTS = 400
LEAST_TOKENS = 1_000
"""For the turn under way, however full the rest is."""

OLDER_TOKENS = 800
"""For the older turns, beyond their summary."""

SUMMARY_TOKENS = 2_000


@cache
def _environment() -> Environment:
    return Environment(  # noqa: S701 (prompts are text for a model, not HTML)
        loader=FileSystemLoader([PROMPTS, "/"]), undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True
    )


@dataclass(frozen=True)
class Assembled:
    """A request, and how its tokens are shared out."""

    request: ModelRequest
    tokens: dict[str, int]
    turns_in_full: int
    turns_in_short: int


async def assemble(bench: Workbench, profile: Profile, model: Model) -> ModelRequest:
    """The request for the next reply. The history in it is well formed: every call has exactly one result."""
    return (await assembled(bench, profile, model, compress=True)).request


async def assembled(bench: Workbench, profile: Profile, model: Model, *, compress: bool = False) -> Assembled:
    """The request with its account. `compress` lets the model summarise what no longer fits, if that is preferred."""
    preferences = await bench.preferences()
    system = await _system(bench, profile, preferences)
    conversation: list[tuple[Turn, list[Message]]] = await bench.conversation()
    situation = model.count_tokens(system)
    tools = [TOOLS[name].schema for name in profile.tools]
    of_tools = sum(model.count_tokens(json.dumps(tool.parameters) + tool.description) for tool in tools)
    left = bench.settings.context_tokens - situation - of_tools
    covered = bench.session.summary
    # What stands for older turns has its place, before the newer ones take all that there is.
    budget = max(left - min(left // 3, OLDER_TOKENS + (covered.tokens if covered is not None else 0)), LEAST_TOKENS)
    chosen: list[list[ChatMessage]] = []
    shortened: list[tuple[Turn, list[Message]]] = []
    messages_left = preferences.max_context_messages
    for turn, messages in reversed(conversation):
        current = turn.id == bench.turn.id
        if shortened or (chosen and messages_left < len(messages)):
            shortened.insert(0, (turn, messages))
            continue
        told = [part for message in messages for part in await _told(bench, message, current and model.sees)]
        cost = sum(model.count_tokens(_text(part)) for part in told)
        if current and cost > budget:
            told = _squeezed(told, budget, model)
            cost = sum(model.count_tokens(_text(part)) for part in told)
        if cost <= budget or not chosen:
            chosen.insert(0, told)
            budget -= cost
            messages_left -= len(messages)
        else:
            shortened.insert(0, (turn, messages))
    history = [part for turn in chosen for part in turn]
    of_history = sum(model.count_tokens(_text(part)) for part in history)
    if shortened:
        room = left - of_history
        earlier, whole = _earlier(bench, shortened, room, model)
        summary = max(min(room - OLDER_TOKENS // 2, SUMMARY_TOKENS), OLDER_TOKENS // 2)
        if not whole and compress and preferences.auto_compress_context and await bench.compress(summary):
            earlier, _ = _earlier(bench, shortened, room, model)
        system += f"\n\n## Earlier in this conversation\n\n{earlier}"
    tokens = {
        "situation": situation,
        "earlier_turns": model.count_tokens(system) - situation,
        "conversation": of_history,
        "tools": of_tools,
    }
    if history and history[0].role == "assistant":  # The question was removed; some providers insist on one.
        history.insert(0, ChatMessage("user", "(removed)"))
    request = ModelRequest([ChatMessage("system", system), *history], tools)
    return Assembled(request, {**tokens, "total": sum(tokens.values())}, len(chosen), len(shortened))


def _earlier(bench: Workbench, turns: list[tuple[Turn, list[Message]]], room: int, model: Model) -> tuple[str, bool]:
    """What stands for older turns: the session's summary, and a line each for those that it does not cover.

    Says too whether no turn is left out.
    """
    summary = bench.session.summary
    through = summary.through_turn if summary is not None else 0
    room -= summary.tokens if summary is not None else 0
    lines, whole = _summary([turn for turn in turns if turn[0].n > through], max(room, 100), model)
    return "\n\n".join(part for part in (summary.text if summary is not None else "", lines) if part), whole


def _text(message: ChatMessage) -> str:
    return message.content + "".join(call.arguments for call in message.tool_calls)


async def _told(bench: Workbench, message: Message, with_pictures: bool) -> list[ChatMessage]:
    if message.role != "assistant":
        shown = message.metadata.get("images", []) if with_pictures else []
        pictures = [Picture(i["mime_type"], base64.b64encode(await bench.picture(i["sha256"])).decode()) for i in shown]
        return [ChatMessage(message.role, message.content, pictures=pictures)]
    results = {result.call_id: result for result in message.tool_results}
    told = [ChatMessage("assistant", message.content, tool_calls=[_sound(call) for call in message.tool_calls])]
    pictures = []
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


def _summary(turns: Sequence[tuple[Turn, Sequence[Message]]], budget: int, model: Model) -> tuple[str, bool]:
    """A few lines a turn, newest kept first when there are too many; and whether none was left out."""
    lines: list[str] = []
    whole = True
    for turn, messages in reversed(turns):
        said = " ".join((said_in(turn, messages) or _ended(turn)).split())[:SUMMARY_CHARACTERS]
        asked = " ".join(asked_in(messages).split())[:SUMMARY_CHARACTERS]
        line = f"- Turn {turn.n}. Asked: {asked}\n  Outcome: {said}"
        if model.count_tokens("\n".join([*lines, line])) > budget and lines:
            lines.append(f"- (the turns up to {turn.n} are left out)")
            whole = False
            break
        lines.append(line)
    return "\n".join(reversed(lines)), whole


def asked_in(messages: Sequence[Message]) -> str:
    """What the user said in a turn, as it stands now: they may have edited or removed it."""
    return "\n".join(message.content for message in messages if message.role == "user") or "(removed)"


def said_in(turn: Turn, messages: Sequence[Message]) -> str:
    """What the agent said in a turn, as it stands now."""
    replies = [message for message in messages if message.role == "assistant"]
    return (replies[-1].content or turn.answer or "") if replies else ""


def _ended(turn: Turn) -> str:
    return {TurnStatus.STOPPED: "stopped by the user"}.get(turn.status, f"{turn.status.value}: {turn.cause or ''}")


async def _system(bench: Workbench, profile: Profile, preferences: Preferences) -> str:
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
    variables = await bench.variables()
    artifacts = await bench.artifact_names()
    note = None
    lost = await bench.variables_lost()
    if lost is not None:
        note = f"The kernel was lost since you last spoke ({lost}): variables that are not listed here are gone. "
        note += "recover_variables brings them back."
    shown = {
        "files": files,
        "variables": [variable.model_dump() for variable in variables[:MAX_VARIABLES]],
        "more_variables": [variable.name for variable in variables[MAX_VARIABLES:]],
        "artifacts": artifacts[-MAX_ARTIFACTS:],
        "facts": {name: _in_words(fact) for name, fact in bench.session.context.items()},
        "workflows": preferences.preferred_workflows,
        "outline": _outline(await bench.document()),
        "kernel_note": note,
    }
    return await asyncio.to_thread(lambda: _environment().get_template(profile.prompt).render(shown))


def _in_words(fact: Any) -> str:
    return fact if isinstance(fact, str) else json.dumps(fact, ensure_ascii=False)


def _outline(document: Document) -> list[str]:
    lines = []
    for cell in document.cells[-MAX_OUTLINE:]:
        first = next((line.strip() for line in cell.source.splitlines() if line.strip()), "")
        lines.append(f"{cell.id[:8]} {cell.kind} {cell.source_hash[:8]}: {first[:80]}")
    return lines
