"""Long sessions, and disks without room."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from cellwright.server import events as e
from cellwright.server.app import Cellwright, standalone
from cellwright.server.domain import CellStatus, ExecutionId, Message, MessageId, SessionId, TurnId, TurnRequest, new_id
from cellwright.server.errors import DiskFull
from cellwright.server.settings import Settings

from tests.conftest import OWNER
from tests.faults.conftest import RUNS, Deployment, promise

SMALL, LARGE, CELLS_A_TURN = 100, 10_000 if RUNS else 2_000, 10
"""Ten thousand cells take minutes to make: `make chaos` does."""

NOW = datetime(2026, 11, 21, tzinfo=UTC)


async def grow(app: Cellwright, session: SessionId, first: int, cells: int) -> None:
    """Appends turns of ten cells each, as a long conversation leaves them."""
    after = f"cell-{first - 1}" if first else None
    for start in range(first, cells, CELLS_A_TURN):
        turn, n = TurnId(new_id()), start // CELLS_A_TURN + 1
        asked: dict[str, Any] = {"id": MessageId(new_id()), "session_id": session, "turn_id": turn, "created_at": NOW}
        message = Message(role="user", content=f"question {n}", **asked)
        batch: list[e.Event] = [
            e.TurnQueued(turn_id=turn, n=n, query=f"question {n}", request=TurnRequest(), message=message),
            e.TurnStarted(turn_id=turn, n=n, query="", agent="chat", model="m", max_iterations=1),
        ]
        for number in range(start, start + CELLS_A_TURN):
            cell, execution = f"cell-{number}", ExecutionId(new_id())
            about: dict[str, Any] = {"turn_id": turn, "cell_id": cell, "execution_id": execution}
            started = e.CellStarted(source=f"x = {number}", after=after, kernel_id="k", kernel_incarnation=1, **about)
            outputs = [{"output_type": "stream", "name": "stdout", "text": f"{number}\n" * 20}]
            ended = e.CellCompleted(
                status=CellStatus.OK, outputs=outputs, execution_count=number, duration_ms=1, text="", **about
            )
            batch += [started, ended]
            after = cell
        batch.append(e.TurnCompleted(turn_id=turn, answer="done", artifacts=[]))
        await app.log.append(session, batch)


@asynccontextmanager
async def counted(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[dict[str, int]]:
    """Counts the queries of this process, and the bytes that come back."""
    seen = {"queries": 0, "bytes": 0}
    do = asyncpg.connection.Connection._do_execute

    async def counting(self: Any, query: str, executor: Any, timeout: Any, *more: Any, **named: Any) -> Any:
        result = await do(self, query, executor, timeout, *more, **named)
        seen["queries"] += 1
        rows = result[0] if isinstance(result, tuple) else result
        seen["bytes"] += len(str([tuple(row) for row in rows])) if isinstance(rows, list) else 0
        return result

    monkeypatch.setattr(asyncpg.connection.Connection, "_do_execute", counting)
    yield seen
    monkeypatch.setattr(asyncpg.connection.Connection, "_do_execute", do)


async def test_a_long_session(settings: Settings, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With many cells the next append, page of history and resumed event cost at most twice what they did with a
    hundred: in queries, and in bytes."""
    async with standalone(settings, root) as app:
        session = await app.sessions.create(OWNER)

        async def append() -> None:
            about: dict[str, Any] = {"cell_id": new_id(), "execution_id": ExecutionId(new_id()), "turn_id": None}
            last = await app.tools.cells.last(session.id)
            started = e.CellStarted(source="y", after=last, kernel_id="k", kernel_incarnation=1, **about)
            await app.log.append(session.id, [started])

        async def history() -> None:
            await app.rows.conversation(session.id, 20)

        async def resume() -> None:
            last = await app.log.last_seq(session.id)
            async with contextlib.aclosing(app.log.follow(session.id, last - 5)) as records:
                async for record in records:
                    if record.seq == last:
                        return

        acts: dict[str, Callable[[], Any]] = {"append": append, "history page": history, "event resume": resume}
        cost: dict[int, dict[str, tuple[int, int]]] = {}
        for size, first in ((SMALL, 0), (LARGE, SMALL)):
            await grow(app, session.id, first, size)
            cost[size] = {}
            for name, act in acts.items():
                async with counted(monkeypatch) as seen:
                    began = time.perf_counter()
                    await act()
                    took = (time.perf_counter() - began) * 1000
                cost[size][name] = (seen["queries"], seen["bytes"])
                print(f"{size:>6} cells: {name}: {seen['queries']} queries, {seen['bytes']:,} bytes, {took:.1f} ms")
        for name in acts:
            small, large = cost[SMALL][name], cost[LARGE][name]
            promise(f"{LARGE:,} cells", f"{name}: at most twice the queries", large[0] <= 2 * small[0], cost)
            promise(f"{LARGE:,} cells", f"{name}: at most twice the bytes", large[1] <= 2 * small[1] + 500, cost)


async def test_a_disk_without_room(settings: Settings, root: Path) -> None:
    """Refused before anything is begun, with the disk named; nothing of the turn stays."""
    fault = "disk without room"
    async with standalone(settings.model_copy(update={"min_free_bytes": 1 << 60}), root) as app:
        session = await app.sessions.create(OWNER)
        with pytest.raises(DiskFull, match=str(root)):
            await app.turns.ask(session, "go", TurnRequest())
        turns, _ = await app.rows.turns(session.id)
        promise(fault, "a clear refusal before work starts", turns == [])
        assert await asyncio.to_thread(root.exists)


def test_more_requests_than_allowed(deployment: Deployment) -> None:
    """Over the limit: 429 with the seconds to wait; reading goes on, and without Redis nobody is refused."""
    fault = "too many requests"
    server = deployment.server(CELLWRIGHT_RATE_LIMIT="5")
    answers = [server.http.post("/sessions", json={}) for _ in range(12)]
    statuses = [answer.status_code for answer in answers]
    refused = [answer for answer in answers if answer.status_code == 429]
    promise(fault, "429 over the limit", 2 <= len(refused) <= 7 and set(statuses) == {201, 429}, statuses)
    promise(fault, "Retry-After says when", all(0 < int(a.headers["Retry-After"]) <= 60 for a in refused))
    promise(fault, "reading goes on", server.http.get("/sessions").status_code == 200)
    deployment.redis.set("refuse")
    promise(fault, "without Redis nobody is refused", server.http.post("/sessions", json={}).status_code == 201)
