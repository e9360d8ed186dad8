"""Branches: all that there was, and from there on their own; and what one has otherwise than another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
from cellwright.server.app import Cellwright
from cellwright.server.kernel_life import workspace_of
from nbformat.v4 import new_notebook

from tests.conftest import OWNER, Talk
from tests.doubles.openai_server import Say, cell
from tests.integration.going_back import branch, compared, go, look, same, settled, three_turns, value_of


async def test_a_branch_has_all_that_there_was(talk: Talk) -> None:
    """Conversation, notebook, files, artifacts and variables as after that turn, and a kernel of its own."""
    seen = await three_turns(talk)
    child = await branch(talk, from_turn=2, title="Other")
    there = await look(child)
    assert same(there, seen[2])
    assert (child.session.parent_session_id, child.session.parent_turn) == (talk.session.id, 2)
    ran = await child.run("print(x, __import__('os').getcwd())")
    shown = next(event.outputs[0]["text"] for event in ran if event.type == "cell.completed")
    assert shown.startswith("2 ")
    assert shown.strip().endswith(child.session.workspace)
    assert await look(talk) == seen[3]


async def test_a_branch_of_an_adopted_notebook(app: Cellwright, model: Any) -> None:
    """The files of the folder that its cells name come along; all others are somebody's."""
    folder = app.root / "theirs"
    folder.mkdir()
    (folder / "data.csv").write_text("a\n1\n")
    (folder / "other.txt").write_text("not named")
    (folder / "n.ipynb").write_text(nbformat.writes(new_notebook()))
    session = await app.sessions.create(OWNER, adopt="theirs/n.ipynb")
    parent = Talk(app, session, model)
    await parent.run("rows = open('data.csv').read()")
    child = await branch(parent)
    await child.run("again = open('data.csv').read()")
    assert await value_of(child, "(rows, again)") == repr(("a\n1\n", "a\n1\n"))
    assert not (workspace_of(app.root, await child.refresh()).folder / "other.txt").exists()


async def test_parent_and_branch_change_independently(talk: Talk) -> None:
    """What one does afterwards, the other does not see; each can undo by itself, and be deleted."""
    seen = await three_turns(talk)
    child = await branch(talk)
    await child.ask("mine", cell("x = 'child'\nopen('child.txt', 'w').write('c')", "step 4"), Say("ok"))
    await settled(child)
    assert await look(talk) == seen[3]
    await talk.ask("theirs", cell("x = 'parent'", "step 4"), Say("ok"))
    await settled(talk)
    assert await value_of(child, "x") == "'child'"
    await go(child, "undo", 1)
    assert same(await look(child), seen[1])
    assert await value_of(child, "x") == "1"
    await talk.app.sessions.delete(await talk.refresh())
    await go(child, "redo")
    assert await value_of(child, "x") == "'child'"
    assert (await look(child)).files["child.txt"] == "c"


def memory(talk: Talk) -> int:
    """What a session's kernel holds, in bytes; of pages that it shares, its part."""
    kernel = talk.app.kernels.get(talk.session.id)
    assert kernel is not None
    lines = Path(f"/proc/{kernel.manager.provisioner.pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


async def test_branches_share_what_they_only_read(talk: Talk) -> None:
    """A large table is in memory once for all of them, until one changes it."""
    await talk.run("import numpy as np, pandas as pd\nsmall = 1")
    await settled(talk)
    bare = await branch(talk)
    await bare.run("total = small")
    await talk.run("big = pd.DataFrame(np.random.default_rng(0).random((250_000, 64)))")
    await settled(talk)
    size = 250_000 * 64 * 8
    children = [await branch(talk) for _ in range(4)]
    for child in children:
        await child.run("total = float(big.to_numpy().sum())")
    more = sum(memory(child) - memory(bare) for child in children)
    assert size / 2 < more < 2 * size
    await children[0].run("big *= 2")
    assert sum(memory(child) - memory(bare) for child in children) - more > size / 2
    assert len({await value_of(child, "total") for child in children}) == 1


async def test_a_branch_costs_no_more_tokens(talk: Talk) -> None:
    """What the parent's turns cost is not counted a second time."""
    await talk.ask("q", Say("one"))
    used = await talk.app.used(OWNER, "session", None, None)
    child = await branch(talk)
    assert [(row.prompt_tokens, row.calls) for row in await talk.app.used(OWNER, "session", None, None)] == [
        (row.prompt_tokens, row.calls) for row in used
    ]
    assert child.session.usage.calls == 0


async def test_what_variables_hold_is_compared(talk: Talk) -> None:
    """A change that no description shows is found, and said in words; what came back by an undo is the same."""
    await talk.run(
        "data = list(range(5_000))\nrow = {'a': [1, 2]}\ndef f(x): return x + 1\nsame = {'k': {1, 2}}\nclass A: n = 1"
    )
    await talk.run("data[4_000] = 0\nrow['a'][1] = 3\ndef f(x): return x + 2\ngone = (i for i in range(3))\nA.n = 2")
    await settled(talk)
    told = await compared(talk, 1, talk, 2)
    assert {v.name: (v.what, v.how) for v in told.variables} == {
        "A": ("changed", "the class: 'n': 1 → 2"),
        "data": ("changed", "1 of 5,000 items differ, the first at [4000]: 4000 → 0"),
        "f": ("changed", "its code is another"),
        "gone": ("added", ""),
        "row": ("changed", "'a': 1 of 2 items differ, the first at [1]: 2 → 3"),
    }
    assert told.not_compared == []
    await go(talk, "undo")
    child = await branch(talk)
    await child.run("pass")
    await settled(child)
    assert (await compared(talk, 1, child, 2)).variables == []


async def test_what_cannot_be_compared_is_named(talk: Talk) -> None:
    """Where no variables are stored, and between two users: what looks the same may not be."""
    await talk.run("data = list(range(5_000))\nn = 1")
    await settled(talk)
    other = Talk(talk.app, await talk.app.sessions.create("another", title="Theirs"), talk.model)
    await other.run("data = list(range(5_000))\nn = 2")
    await settled(other)
    found = await compared(talk, 1, other, 1)
    assert ([v.name for v in found.variables], found.not_compared) == (["n"], ["data"])
    object.__setattr__(talk.app.settings, "turn_checkpoint_bytes", 0)
    await talk.run("data[4_000] = 0")
    await settled(talk)
    assert (await compared(talk, 1, talk, 2)).not_compared == ["data"]
