"""What the tests of going back share: what a user sees of a session, and the ways there."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from cellwright.notebooks.render import plain
from cellwright.server.comparison import Comparison
from cellwright.server.domain import Rewound, VariablesBack
from cellwright.server.kernel_life import workspace_of

from tests.conftest import OWNER, Talk
from tests.doubles.openai_server import Say, cell


@dataclass
class Seen:
    """All that a user sees of a session."""

    messages: list[str]
    cells: list[tuple[str, str, str]]
    files: dict[str, str]
    variables: dict[str, str]
    artifacts: list[str]
    facts: dict[str, Any] = field(default_factory=dict)


async def value_of(talk: Talk, name: str) -> str:
    """A variable's value, asked of the kernel outside of all records."""
    kernel = talk.app.kernels.get(talk.session.id)
    assert kernel is not None
    return str(await kernel.evaluate(f"__import__('json').dumps(repr({name}))"))


async def look(talk: Talk) -> Seen:
    session, app = await talk.refresh(), talk.app
    messages, _ = await app.rows.messages(session.id, 500)
    document = await app.cells.document(session.id)
    workspace = workspace_of(app.root, session)
    files = {f.name: (workspace.folder / f.name).read_text() for f in workspace.files()}
    kernel = app.kernels.get(session.id)
    names = [] if kernel is None else [told["name"] for told in kernel.last_variables]
    artifacts, _ = await app.artifacts.page(session.id, limit=100)
    return Seen(
        [m.content for m in messages],
        [(c.id, c.source, plain(str(c.outputs))) for c in document],
        files,
        {name: await value_of(talk, name) for name in sorted(names)},
        sorted(a.name for a in artifacts),
        session.context,
    )


async def go(talk: Talk, why: Any, to: int | str | None = None, again: Any = "safe") -> Rewound:
    generation = await talk.app.turns.owned(talk.session.id)
    return await talk.app.rewind.go(await talk.refresh(), why, to, OWNER, generation, again)


async def foretell(talk: Talk, to: int | None = None) -> Rewound:
    generation = await talk.app.turns.owned(talk.session.id)
    return await talk.app.rewind.preview(await talk.refresh(), "undo", to, "safe", generation)


async def recover(talk: Talk, again: Any = "safe") -> VariablesBack:
    generation = await talk.app.turns.owned(talk.session.id)
    return await talk.app.rewind.recover(await talk.refresh(), again, generation)


async def three_turns(talk: Talk) -> list[Seen]:
    """What was seen before the first turn and after each of three."""
    seen = [await look(talk)]
    for number in (1, 2, 3):
        source = (
            f"x = {number}\nopen('f{number}.txt', 'w').write('{number}')\nopen('all.txt', 'a').write('{number}')\nx"
        )
        await talk.ask(f"turn {number}", cell(source, f"step {number}"), Say(f"answer {number}"))
        await settled(talk)
        seen.append(await look(talk))
    return seen


async def settled(talk: Talk) -> None:
    """Waits until the point of the last turn is kept."""
    async with talk.app.rewind.alone(talk.session.id):
        pass


async def by_hand(talk: Talk, source: str) -> None:
    """What a user does in JupyterLab without the agent: code that another client of the kernel sends."""
    connection = talk.app.kernels.get(talk.session.id)
    assert connection is not None
    heard = connection.runs_of_others
    other = connection.manager.client()
    other.start_channels()
    other.execute(source)
    await other.get_shell_msg(timeout=20)
    other.stop_channels()
    async with asyncio.timeout(20):
        while connection.runs_of_others == heard:
            await asyncio.sleep(0.01)


async def kept_by_itself(talk: Talk) -> None:
    """Waits until what a user ran by hand is stored."""
    connection = talk.app.kernels.get(talk.session.id)
    assert connection is not None
    async with asyncio.timeout(20):
        while talk.app.rewind.points.unkept(connection):
            await asyncio.sleep(0.05)
    await settled(talk)


async def branch(talk: Talk, **more: Any) -> Talk:
    generation = await talk.app.turns.owned(talk.session.id)
    made = await talk.app.branches.make(await talk.refresh(), OWNER, OWNER, generation, **more)
    return Talk(talk.app, made, talk.model)


def same(one: Seen, other: Seen) -> bool:
    """Whether two sessions show the same, the notebook's own cells by what they hold."""
    return (one.messages, one.cells, one.files, one.artifacts, one.facts) == (
        other.messages,
        other.cells,
        other.files,
        other.artifacts,
        other.facts,
    )


def call(name: str, **arguments: Any) -> Say:
    """A model's wish to have a tool run."""
    return Say(calls=[(name, arguments)])


async def compared(one: Talk, n: int, other: Talk, m: int) -> Comparison:
    """What the second of two points, each a session and the number of a turn, has otherwise than the first."""
    app = one.app
    points = [
        (await talk.refresh(), await app.ways.to(talk.session.id, (await app.rewind.turn(talk.session, turn)).id))
        for talk, turn in ((one, n), (other, m))
    ]
    return await app.comparisons.between(points[0], points[1])
