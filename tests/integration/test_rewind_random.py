"""Whatever one does to a session, in whatever order, it is what a simple model says that it must be."""

from __future__ import annotations

import asyncio
import os
import random
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cellwright.server.app import Cellwright, standalone
from cellwright.server.domain import Session
from cellwright.server.errors import Conflict
from cellwright.server.kernel_life import workspace_of
from cellwright.server.settings import Settings

from tests.conftest import OWNER, Talk

SEEDS = int(os.environ.get("REWIND_SEEDS", "2"))
STEPS = 30
BEGIN = """from functools import lru_cache
x, total = [], {"n": 0}
_same = x
def note(value):
    total["n"] += value
    return value
@lru_cache
def cached(value):
    return value
"""
"""Names of one's own, two for one object, a function that changes something, one that no pickle brings back."""


@dataclass(frozen=True)
class State:
    """What must hold after a turn."""

    x: tuple[int, ...] = ()
    files: tuple[tuple[str, str], ...] = ()
    cells: tuple[str, ...] = ()


@dataclass
class Model:
    """A session as a tree of states."""

    states: dict[int, State] = field(default_factory=lambda: {0: State()})
    parents: dict[int, int] = field(default_factory=dict)
    head: int = 0
    redo: list[int] = field(default_factory=list)

    @property
    def state(self) -> State:
        return self.states[self.head]

    def add(self, number: int, state: State) -> None:
        self.states[number], self.parents[number] = state, self.head
        self.head, self.redo = number, []

    def way(self) -> list[int]:
        found, at = [], self.head
        while at:
            found.append(at)
            at = self.parents[at]
        return found[::-1]


class Player:
    """Does things to a session and to its model."""

    def __init__(self, app: Cellwright, session: Session, model: Model, rng: random.Random) -> None:
        self.talk, self.model, self.rng = Talk(app, session, None), model, rng  # type: ignore[arg-type]
        self.log: list[str] = []

    async def settled(self) -> None:
        async with self.talk.app.rewind.alone(self.talk.session.id):
            pass

    async def cell(self) -> None:
        """A cell that changes variables in place, makes one that cannot be stored, and writes files."""
        value, name = self.rng.randrange(1000), self.rng.choice("abc")
        state = self.model.state
        begin = BEGIN if not state.x else ""
        source = f"{begin}x.append(note({value}))\ng = (i for i in x)\nopen('{name}.txt', 'w').write(str(x))"
        if self.rng.random() < 0.2 and state.files:
            source += f"\nimport pathlib; pathlib.Path({state.files[0][0]!r}).write_text('gone')"
        turn = await self.talk.end(await self.talk.app.sessions.execute(self.talk.session, source, OWNER))
        await self.settled()
        x = (*state.x, value)
        files = {**dict(state.files), f"{name}.txt": str(list(x))}
        if source.endswith("write_text('gone')"):
            files[state.files[0][0]] = "gone"
        self.model.add(turn.n, State(x, tuple(sorted(files.items())), (*state.cells, source)))

    async def _go(self, why: str, to: int | None = None) -> None:
        generation = await self.talk.app.turns.owned(self.talk.session.id)
        session = await self.talk.refresh()
        told = await self.talk.app.rewind.go(session, why, to, OWNER, generation, "all")  # type: ignore[arg-type]
        assert told.to_turn == self.model.head
        ran = [(a.turn, a.source, a.verdict, a.reason) for a in told.variables.ran_again]
        assert not told.variables.missing, (told.variables.missing, ran, told.from_turn, told.to_turn, self.log)

    async def undo(self) -> None:
        if self.model.head:
            self.model.redo.append(self.model.head)
            self.model.head = self.model.parents[self.model.head]
            await self._go("undo")
        else:
            with pytest.raises(Conflict):
                await self._go("undo")

    async def redo(self) -> None:
        if self.model.redo:
            self.model.head = self.model.redo.pop()
            await self._go("redo")
        else:
            with pytest.raises(Conflict):
                await self._go("redo")

    async def restore(self) -> None:
        to = self.rng.choice(list(self.model.states))
        way = [0, *self.model.way()]
        if to in way and to != self.model.head:
            self.model.redo.append(self.model.head)
        elif to != self.model.head:
            self.model.redo = []
        self.model.head = to
        await self._go("restore", to)

    async def crash(self) -> None:
        """The kernel is killed; what it held is asked for again."""
        kernel = self.talk.app.kernels.get(self.talk.session.id)
        if kernel is None or not self.model.state.x:
            return
        os.kill(kernel.manager.provisioner.pid, 9)
        await kernel.died
        while (await self.talk.refresh()).kernel_id is not None:
            await asyncio.sleep(0.01)
        if self.rng.random() < 0.5:
            generation = await self.talk.app.turns.owned(self.talk.session.id)
            told = await self.talk.app.rewind.recover(await self.talk.refresh(), "all", generation)
            assert not told.missing, told
        else:
            await self.undo()  # Also from a session whose kernel has died.

    async def hibernate(self) -> None:
        await self.talk.app.life.hibernate(self.talk.session.id)

    async def check(self) -> None:
        session, state = await self.talk.refresh(), self.model.state
        document = await self.talk.app.cells.document(session.id)
        assert tuple(c.source for c in document) == state.cells
        workspace = workspace_of(self.talk.app.root, session)
        files = {f.name: (workspace.folder / f.name).read_text() for f in workspace.files()}
        assert files == dict(state.files)
        messages, _ = await self.talk.app.rows.messages(session.id, 500)
        assert [m.code for m in messages] == list(state.cells)
        kernel = self.talk.app.kernels.get(session.id)
        if kernel is not None and state.x:
            told = await kernel.evaluate("__import__('json').dumps([x, total['n'], _same is x, cached(2)])")
            assert told == [list(state.x), sum(state.x), True, 2]


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_against_a_model(seed: int, data_dir: Path, root: Path) -> None:
    """Cells, undo, redo, restore, branches, deaths and sleep at random: cells, files, messages, variables hold."""
    rng = random.Random(seed)
    copies = rng.choice([0, 2])
    settings = Settings(
        data_dir=data_dir, warm_kernels=1, live_copies=copies, turn_checkpoint_bytes=rng.choice([0, 1 << 30])
    )
    async with standalone(settings, root) as app:
        players = [Player(app, await app.sessions.create(OWNER, title="Random"), Model(), rng)]
        for step in range(STEPS):
            player = rng.choice(players)
            player.log.append(f"{player.model.head} {player.model.redo}")
            done = rng.choices(
                ["cell", "undo", "redo", "restore", "crash", "hibernate", "branch"], [9, 5, 4, 3, 2, 2, 1]
            )[0]
            player.log.append(done)
            if done == "branch":
                if len(players) < 3 and player.model.head:
                    generation = await app.turns.owned(player.talk.session.id)
                    made = await app.branches.make(await player.talk.refresh(), OWNER, OWNER, generation)
                    way = player.model.way()
                    model = Model({0: State()})
                    for number in way:
                        model.add(number, player.model.states[number])
                    players.append(Player(app, made, model, rng))
            else:
                await getattr(player, done)()
            for each in players:
                try:
                    await each.check()
                except AssertionError as error:
                    raise AssertionError(f"seed {seed}, step {step}, {done}") from error
