"""Ways through the tree of a session's turns: what led to the end of one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cellwright.server.domain import Session, SessionId, Summary, Turn, TurnId
from cellwright.server.store import postgres, queries
from cellwright.server.store.sessions import turn_of

SQL = queries.load("rewind")
Line = list[tuple[int, int]]
NEVER = 1 << 31
"""An incarnation that no kernel comes to."""


@dataclass(frozen=True)
class Run:
    """A cell that ran to its end, or to an error."""

    execution_id: str
    turn_id: TurnId
    turn: int
    cell_id: str
    source: str
    ok: bool
    duration_ms: int
    incarnation: int
    """The kernel's life in which it ran."""


@dataclass(frozen=True)
class Lives:
    """A kernel's incarnations from the `first` on whose variables count at some point.

    In those `apart`, [from, before], it lacked what it had before: what they stored is not all that there was.
    """

    first: int
    apart: tuple[tuple[int, int], ...]
    lost: bool
    """Whether something was lost, and not brought back."""

    def whole(self, incarnation: int) -> bool:
        """Whether what was stored in that life is all that there was."""
        return not any(start <= incarnation < end for start, end in self.apart)


@dataclass(frozen=True)
class Way:
    """The turns up to a point, the first first, and what there is at it; without turns it is before the first."""

    session_id: SessionId
    turns: tuple[Turn, ...]
    line: Line
    """The ranges of the log that lead there."""

    revision: int
    workspace_version: str | None
    checkpoint: Any = None
    """The row of the checkpoint that was made at this point, if one was."""

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

    async def now(self, session: Session) -> Way:
        """The way to where the session is: also in the middle of a turn, and behind what the user did since."""
        async with postgres.acquired(self._pool) as connection:
            line = await connection.fetchval(SQL.line_now, session.id)
        turns = await self._turns(session.id, session.head_turn_id)
        return Way(session.id, turns, _line(line), session.revision, session.workspace_version)

    async def at(self, row: Any) -> Way:
        """The way to the point at which a checkpoint was made, by its row."""
        turns = await self._turns(row["session_id"], row["turn_id"])
        about = row["metadata"]
        line, files = _line(about["line"]), about["workspace_version"]
        return Way(row["session_id"], turns, line, row["revision"], files, row)

    async def _turns(self, session_id: SessionId, turn_id: TurnId | None) -> tuple[Turn, ...]:
        async with postgres.acquired(self._pool) as connection:
            return tuple(turn_of(row) for row in await connection.fetch(SQL.way, session_id, turn_id))

    async def runs(self, way: Way, lives: Lives) -> list[Run]:
        """Cells that ran on the way, in order, in lives of the kernel that count."""
        async with postgres.acquired(self._pool) as connection:
            rows = await connection.fetch(SQL.runs_of_way, way.ids, way.session_id, [list(part) for part in way.line])
        return [
            Run(
                str(row["execution_id"]),
                TurnId(str(row["turn_id"])),
                row["n"],
                row["cell_id"],
                row["source"],
                row["status"] == "ok",
                row["duration_ms"] or 0,
                row["kernel_incarnation"],
            )
            for row in rows
            if row["kernel_incarnation"] >= lives.first
            and (way.checkpoint is None or row["started_at"] <= way.checkpoint["created_at"])
        ]

    async def outputs(self, runs: Sequence[Run]) -> dict[str, list[dict[str, Any]]]:
        """What these runs showed, by execution id; large values are references."""
        turns, executions = list({run.turn_id for run in runs}), [run.execution_id for run in runs]
        async with postgres.acquired(self._pool) as connection:
            rows = await connection.fetch(SQL.outputs_of_runs, turns, executions)
        return {row["execution_id"]: row["outputs"] for row in rows}

    async def lives(self, way: Way, *, through_death: bool = False) -> Lives:
        """The kernel's lives that count at the end of the way.

        Where the kernel had died by then, none does; `through_death` looks at what there was before the last loss.
        """
        async with postgres.acquired(self._pool) as connection:
            rows = await connection.fetch(SQL.kernel_changes, way.session_id, [list(part) for part in way.line])
        floors: list[tuple[int, bool]] = [(0, False)]
        apart: list[tuple[int, int]] = []
        dead: int | None = None
        lacking: int | None = None  # A life that began without some of what there had been: after sleep, or a recovery.
        asleep = False
        for row in rows:
            if row["status"] == "died":
                dead = row["incarnation"]
            elif row["status"] == "hibernated":
                asleep = True
            elif row["status"] == "restored":
                if asleep and row["lost"] and lacking is None:
                    lacking = row["incarnation"]
                elif row["recovered"]:
                    if lacking is not None:
                        apart.append((lacking, row["incarnation"]))
                    lacking = row["incarnation"] if row["left_out"] else None
                dead, asleep = None, False
                if row["recovered"] and floors[-1][1]:
                    apart.append((floors.pop()[0], row["incarnation"]))
            elif row["status"] == "idle" or (row["status"] == "restarted" and row["lost"]):
                floors.append((row["incarnation"], row["status"] == "restarted"))
                dead, lacking, asleep = None, None, False
        if dead is not None:
            return Lives(floors[-1][0] if through_death else dead + 1, tuple(apart), lost=True)
        if through_death and floors[-1][1]:
            return Lives(floors[-2][0], (*apart, (floors[-1][0], NEVER)), lost=True)
        if through_death and lacking is not None:
            return Lives(floors[-1][0], (*apart, (lacking, NEVER)), lost=True)
        return Lives(floors[-1][0], tuple(apart), lost=floors[-1][1])

    async def checkpoints(self, way: Way, lives: Lives) -> list[tuple[Any, int]]:
        """Rows of checkpoints on the way that hold all there was, the last first, and the numbers of their turns."""
        found = []
        if way.checkpoint is not None and way.checkpoint["metadata"]["incarnation"] >= lives.first:
            found = [(way.checkpoint, way.n)]
        async with postgres.acquired(self._pool) as connection:
            before = way.checkpoint["seq"] if way.checkpoint is not None else None
            line = [list(part) for part in way.line]
            rows = await connection.fetch(SQL.checkpoints_on_way, way.ids, lives.first, before, line, way.session_id)
        return found + [(row, row["n"]) for row in rows if lives.whole(row["incarnation"])]

    async def holds_own_doings(self, way: Way) -> bool:
        """Whether the user had run something at the point, after the way's last turn: that turn's copy lacks it."""
        if way.turn is None:
            return False
        async with postgres.acquired(self._pool) as connection:
            line = [list(part) for part in way.line]
            return bool(await connection.fetchval(SQL.kept_before, way.turn.id, line))

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

    async def sources(self, way: Way) -> list[tuple[int, str]]:
        """Turn numbers and sources of all cells that ran on the way, in order."""
        async with postgres.acquired(self._pool) as connection:
            rows = await connection.fetch(SQL.sources, way.ids)
        return [(row["n"], row["source"]) for row in rows]


def covers(line: Line, seq: int) -> bool:
    """Whether an event is on a line."""
    return any(first <= seq <= last for first, last in line)


def _line(parts: Any) -> Line:
    return [(first, last) for first, last in parts]
