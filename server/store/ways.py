"""Ways through the tree of a session's turns: what led to the end of one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cellwright.server.domain import SessionId, Summary, Turn, TurnId
from cellwright.server.store import postgres, queries
from cellwright.server.store.sessions import turn_of

SQL = queries.load("rewind")
Line = list[tuple[int, int]]


@dataclass(frozen=True)
class Run:
    """A cell that ran well."""

    execution_id: str
    turn_id: TurnId
    turn: int
    cell_id: str
    source: str


@dataclass(frozen=True)
class Way:
    """The turns up to a point, the first first, and what there is at it; without turns it is before the first."""

    session_id: SessionId
    turns: tuple[Turn, ...]
    line: Line
    """The ranges of the log that lead there."""

    revision: int
    workspace_version: str | None

    @property
    def turn(self) -> Turn | None:
        """The last turn before the point."""
        return self.turns[-1] if self.turns else None

    @property
    def n(self) -> int:
        return self.turns[-1].n if self.turns else 0

    @property
    def ids(self) -> list[TurnId]:
        return [turn.id for turn in self.turns]


class Ways:
    """Reads them."""

    def __init__(self, pool: postgres.Pool) -> None:
        self._pool = pool

    async def to(self, session_id: SessionId, turn_id: TurnId | None) -> Way:
        """The way to the end of a turn, if it has ended; None is before everything."""
        turns = await self._turns(session_id, turn_id)
        if not turns:
            return Way(session_id, (), [], 0, None)
        last = turns[-1]
        return Way(session_id, turns, list(last.line or ()), last.revision or 0, last.workspace_version)

    async def before(self, session_id: SessionId, turn_id: TurnId) -> Way:
        """The way to the beginning of a turn: with what the user did since the one before it."""
        *turns, last = await self._turns(session_id, turn_id)
        if last.before is None:  # Of a time when that was not noted.
            return await self.to(session_id, turns[-1].id if turns else None)
        there = last.before
        return Way(session_id, tuple(turns), there.line, there.revision, there.workspace_version)

    async def _turns(self, session_id: SessionId, turn_id: TurnId | None) -> tuple[Turn, ...]:
        async with postgres.acquired(self._pool) as connection:
            return tuple(turn_of(row) for row in await connection.fetch(SQL.way, session_id, turn_id))

    async def runs(self, way: Way, since_incarnation: int) -> list[Run]:
        """Cells that ran well on the way, in order, in kernels whose variables were not lost since."""
        async with postgres.acquired(self._pool) as connection:
            rows = await connection.fetch(SQL.runs_of_way, way.ids)
        return [
            Run(str(row["execution_id"]), TurnId(str(row["turn_id"])), row["n"], row["cell_id"], row["source"])
            for row in rows
            if row["kernel_incarnation"] >= since_incarnation
        ]

    async def outputs(self, runs: Sequence[Run]) -> dict[str, list[dict[str, Any]]]:
        """What these runs showed, by execution id; large values are references."""
        turns, executions = list({run.turn_id for run in runs}), [run.execution_id for run in runs]
        async with postgres.acquired(self._pool) as connection:
            rows = await connection.fetch(SQL.outputs_of_runs, turns, executions)
        return {row["execution_id"]: row["outputs"] for row in rows}

    async def floor(self, way: Way, *, through_death: bool = False) -> int:
        """The first incarnation of the kernel whose variables were there at the end of the way.

        Where the kernel had died by then, that is one that never was; `through_death` looks at what there was before.
        """
        async with postgres.acquired(self._pool) as connection:
            rows = await connection.fetch(SQL.kernel_changes, way.session_id, [list(part) for part in way.line])
        floor, dead = 0, None
        for row in rows:
            if row["status"] == "died":
                dead = row["incarnation"]
            elif row["status"] == "restored":
                dead = None
            elif row["status"] in ("restarted", "idle") and (row["lost"] or row["status"] == "idle"):
                floor, dead = row["incarnation"], None
        return floor if dead is None or through_death else dead + 1

    async def checkpoint(self, way: Way, since_incarnation: int) -> tuple[Any, int] | None:
        """The row of the last checkpoint on the way, and the number of its turn."""
        async with postgres.acquired(self._pool) as connection:
            row = await connection.fetchrow(SQL.checkpoint_on_way, way.ids, since_incarnation)
        return None if row is None else (row, row["n"])

    async def context(self, way: Way) -> tuple[dict[str, Any], Summary | None]:
        """The session's facts and summary at the end of the way."""
        async with postgres.acquired(self._pool) as connection:
            rows = await connection.fetch(SQL.context_on_line, way.session_id, [list(part) for part in way.line])
        facts: dict[str, Any] = {}
        summary: Summary | None = None
        for row in rows:
            told = row["payload"]
            if told.get("context") is not None:
                facts = told["context"]
            if told.get("forget_summary"):
                summary = None
            if told.get("summary") is not None:
                summary = Summary.model_validate(told["summary"])
        return facts, summary

    async def news(self, way: Way) -> list[tuple[str, dict[str, Any]]]:
        """Types and payloads of what the user did by themselves since the end of the way, which leads to the head."""
        after = way.line[-1][1] if way.line else 0
        async with postgres.acquired(self._pool) as connection:
            rows = await connection.fetch(SQL.news, way.session_id, after)
        return [(row["type"], row["payload"]) for row in rows]

    async def left_behind(self, turns: Sequence[Turn]) -> list[tuple[int, str]]:
        """Turn numbers and sources of the cells that ran in these turns."""
        async with postgres.acquired(self._pool) as connection:
            rows = await connection.fetch(SQL.left_behind, [turn.id for turn in turns])
        return [(row["n"], row["source"]) for row in rows]
