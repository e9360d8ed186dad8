"""The loop of one turn: it goes on from whatever the log says was done, and it ends."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from cellwright.server import events as e
from cellwright.server.agent import tools
from cellwright.server.agent.context import assemble
from cellwright.server.agent.profiles import Profile
from cellwright.server.domain import CellStatus, Message, MessageId, ToolResult, Usage, new_id
from cellwright.server.errors import CellwrightError, ModelError, ModelOverloaded
from cellwright.server.live import LiveMessage
from cellwright.server.models.partial import partial_string
from cellwright.server.models.protocol import Model, ModelRequest, Reply, TextDelta, ToolDelta, timed
from cellwright.server.workbench import Stopped, Workbench

ATTEMPTS = 3
SAME_FAILURES = 3
RETRY_S = 1.0
RETRY_AT_MOST_S = 60.0

log = structlog.get_logger(__name__)


class LimitReached(CellwrightError):
    """The turn ran into one of its limits."""


@dataclass
class Limits:
    """What ends a turn that does not end by itself."""

    iterations: int
    tokens: int | None
    cost: float | None
    seconds: float | None

    def check(self, iterations: int, usage: Usage, seconds: float) -> None:
        """Raises LimitReached, naming the limit."""
        if iterations >= self.iterations:
            raise LimitReached(f"The turn reached its limit of {self.iterations} iterations without an answer.")
        if self.tokens is not None and usage.tokens >= self.tokens:
            raise LimitReached(f"The turn reached its limit of {self.tokens:,} tokens.")
        if self.cost is not None and usage.cost >= self.cost:
            raise LimitReached(f"The turn reached its limit of ${self.cost:.2f}.")
        if self.seconds is not None and seconds >= self.seconds:
            raise LimitReached(f"The turn reached its limit of {self.seconds:.0f} s.")


@dataclass(frozen=True)
class Outcome:
    """How a turn's loop ended well."""

    answer: str
    usage: Usage
    artifacts: list[str]


class AgentLoop:
    """Answers one turn."""

    def __init__(self, bench: Workbench, model: Model, profile: Profile, limits: Limits, state: e.TurnState) -> None:
        self._bench, self._model, self._profile, self._limits = bench, model, profile, limits
        self._state = state
        self.usage = state.usage
        self._iterations = state.iterations
        self._failures = self._failures_so_far()

    def _failures_so_far(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for cell in self._state.cells:
            if cell.status is CellStatus.ERROR:
                found[_failure(self._state.sources.get(cell.execution_id, ""), cell.text)] += 1
        return found

    async def run(self) -> Outcome:
        """Loops to the answer; raises ModelError, LimitReached, or Stopped."""
        started = time.monotonic()
        message = self._state.message
        if message is not None:
            outcome = await self._act(message, set(self._state.results))
            if outcome is not None:
                return outcome
        while True:
            self._limits.check(self._iterations, self.usage, time.monotonic() - started - self._bench.waited_s)
            message = await self._ask()
            outcome = await self._act(message, set())
            if outcome is not None:
                return outcome

    async def _act(self, message: Message, done: set[str]) -> Outcome | None:
        """Runs the message's calls that have no result yet; the outcome, if there is nothing to go on with."""
        if not message.tool_calls:
            return Outcome(message.content, self.usage, self._bench.made)
        for call in message.tool_calls:
            if call.id in done:
                if call.name == "finish" and not self._state.results[call.id].is_error:
                    end = tools.Finish.model_validate_json(call.arguments)
                    return Outcome(end.answer, self.usage, await self._named(end.artifacts))
                continue
            ran = self._state.ran.get(call.id)
            result: ToolResult | None
            try:
                if ran is not None:  # It ended before the crash; only its result was not yet written.
                    result = await self._bench.complete(ran, call)
                else:
                    result = await tools.run(self._bench, call, message.id, self._profile.tools)
            except tools.Finished as end:
                await self._record(message, tools.Call(self._bench, call.id, message.id, call.name).result("Done."))
                return Outcome(end.answer, self.usage, await self._named(end.artifacts))
            if result is not None:
                await self._record(message, result)
            self._bench_must_go_on()
            await self._check_failures(message, call.id)
        self._iterations += 1
        await self._bench.record(
            e.IterationCompleted(iteration=self._iterations, max_iterations=self._limits.iterations)
        )
        return None

    def _bench_must_go_on(self) -> None:
        if self._bench.stopping.is_set():
            raise Stopped()

    async def _record(self, message: Message, result: ToolResult) -> None:
        await self._bench.record(e.ToolCompleted(message_id=message.id, result=result))

    async def _named(self, names: list[str]) -> list[str]:
        """Ids of the artifacts that the agent named, and of all that the turn made."""
        files = await self._bench.files()
        named = [files[name].id for name in names if name in files]
        return list(dict.fromkeys([*self._bench.made, *named]))

    async def _check_failures(self, message: Message, call_id: str) -> None:
        call = next(call for call in message.tool_calls if call.id == call_id)
        if call.name not in ("run_cell", "edit_cell"):
            return
        state = e.fold(record.event for record in await self._bench.events())
        ran = state.ran.get(call_id)
        if ran is None or ran.status is not CellStatus.ERROR:
            return
        key = _failure(state.sources.get(ran.execution_id, ""), ran.text)
        self._failures[key] += 1
        if self._failures[key] >= SAME_FAILURES:
            last = ran.text.strip().splitlines()[-1]
            raise LimitReached(f"The same code failed the same way {SAME_FAILURES} times ({last}). How should I go on?")

    async def _ask(self) -> Message:
        """One model call: attempted up to ATTEMPTS times, recorded once."""
        self._bench_must_go_on()
        request = await assemble(self._bench, self._profile, self._model)
        message_id = MessageId(new_id())
        for attempt in range(1, ATTEMPTS + 1):
            started = time.monotonic()
            try:
                reply = await self._bench.unless_stopped(self._attempt(request, message_id))
                break
            except ModelError as error:
                again = error.retryable and attempt < ATTEMPTS
                pause = _pause_s(error, attempt) if again else None
                await self._bench.hot.settle(self._bench.session.id)
                await self._bench.record(
                    e.AttemptDiscarded(
                        message_id=message_id,
                        attempt=attempt,
                        attempts=ATTEMPTS,
                        reason=error.detail,
                        retry_in_s=pause,
                    )
                )
                if pause is None:
                    raise
                log.warning("model_attempt_failed", attempt=attempt, reason=error.detail, retry_in_s=pause)
                await self._bench.unless_stopped(asyncio.sleep(pause))
                message_id = MessageId(new_id())
        self.usage += reply.usage
        message = self._message(message_id, reply, time.monotonic() - started)
        await self._bench.record(e.MessageCompleted(message=message, usage=reply.usage))
        await self._bench.hot.settle(self._bench.session.id)
        return message

    async def _attempt(self, request: ModelRequest, message_id: str) -> Reply:
        settings = self._bench.settings
        arguments: dict[int, str] = {}
        reply: Reply | None = None
        stream = timed(self._model.stream(request), settings.first_token_s, settings.between_tokens_s)
        async with LiveMessage(self._bench.hot, self._bench.session.id, self._bench.turn.id, message_id) as live:
            async for event in stream:
                match event:
                    case TextDelta(channel, text):
                        live.add(channel, text)
                    case ToolDelta(index, name, text):
                        arguments[index] = arguments.get(index, "") + text
                        if name in ("run_cell", "edit_cell"):
                            live.set("code", partial_string(arguments[index], "source"))
                        elif name == "finish":
                            live.set("answer", partial_string(arguments[index], "answer"))
                    case Reply():
                        reply = event
        if reply is None:
            raise ModelError("The model ended its reply without saying so.")
        return reply

    def _message(self, message_id: MessageId, reply: Reply, seconds: float) -> Message:
        return Message(
            id=message_id,
            session_id=self._bench.session.id,
            turn_id=self._bench.turn.id,
            role="assistant",
            content=reply.content,
            code=_code(reply),
            thoughts=reply.thinking or None,
            tool_calls=list(reply.tool_calls),
            token_count=reply.usage.completion_tokens,
            model=reply.model or self._model.name,
            agent=self._profile.name,
            response_time_ms=round(seconds * 1000),
            created_at=datetime.now(UTC),
        )


def _code(reply: Reply) -> str | None:
    """The source of the cells that a reply wants to run."""
    sources = []
    for call in reply.tool_calls:
        if call.name in ("run_cell", "edit_cell"):
            try:
                sources.append(str(json.loads(call.arguments)["source"]))
            except (ValueError, KeyError, TypeError):
                continue
    return "\n\n".join(sources) or None


def _failure(source: str, text: str) -> str:
    last = text.strip().splitlines()[-1] if text.strip() else ""
    return f"{' '.join(source.split())}\n{last}"


def _pause_s(error: ModelError, attempt: int) -> float:
    if isinstance(error, ModelOverloaded) and error.retry_after_s is not None:
        return min(error.retry_after_s, RETRY_AT_MOST_S)
    return min(float(RETRY_S * 2 ** (attempt - 1)) * random.uniform(0.8, 1.2), RETRY_AT_MOST_S)


__all__ = ["AgentLoop", "LimitReached", "Limits", "Outcome"]
