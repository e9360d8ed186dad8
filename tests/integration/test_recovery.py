"""After a kernel's death: variables come back, and what reached outside does not run again unasked."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest
from cellwright.server import events as e
from cellwright.server.errors import Conflict
from cellwright.server.kernel_life import workspace_of
from cellwright.server.store import postgres

from tests.conftest import Talk
from tests.doubles.openai_server import Say, cell
from tests.integration.going_back import by_hand, call, go, kept_by_itself, recover, settled, value_of


@pytest.mark.parametrize("asked", [True, False])
async def test_what_the_user_ran_outlives_the_kernel(talk: Talk, asked: bool) -> None:
    """Once the kernel rests, it is stored: a death before the next question takes nothing of it."""
    if asked:
        await talk.run("x = 1")
        await settled(talk)
    else:
        await talk.app.sessions.wake(talk.session)
    for n in range(3):
        await by_hand(talk, f"mine = {[n]}")
        await kept_by_itself(talk)
    told = [event for event in await talk.events() if isinstance(event, e.VariablesChanged)]
    assert "mine" in {variable.name for event in told for variable in event.added}
    connection = talk.app.kernels.get(talk.session.id)
    assert connection is not None
    await by_hand(talk, "late = 1")
    os.kill(connection.manager.provisioner.pid, 9)
    async with asyncio.timeout(20):
        while not any(isinstance(ev, e.KernelChanged) and ev.status == "died" for ev in await talk.events()):
            await asyncio.sleep(0.05)
    back = await recover(talk)
    assert (back.means, "mine" in back.restored) == (["stored"], True)
    assert await value_of(talk, "mine") == "[2]"
    async with postgres.acquired(talk.app.rewind._pool) as database:
        kept = await database.fetchval("SELECT count(*) FROM checkpoints WHERE metadata ->> 'kind' = 'begin'")
    assert kept == 1


@pytest.mark.parametrize("recovery", ["ask", "auto"])
async def test_after_a_kernels_death(talk: Talk, recovery: str) -> None:
    """What a kernel held that died comes back when asked for, or by itself: stored variables, and the cells since."""
    object.__setattr__(talk.app.settings, "recovery", recovery)
    await talk.run("x = [1, 2, 3]")
    await settled(talk)
    object.__setattr__(talk.app.settings, "turn_checkpoint_bytes", 0)
    await talk.run("y = sum(x)\ny")
    ended = await talk.run("z = 1\nimport os; os._exit(1)")
    assert any(event.type == "kernel.changed" and event.status == "died" for event in await talk.events())
    assert ended[-1].type == "turn.completed"
    await settled(talk)
    if recovery == "ask":
        told = await recover(talk)
        assert told.means == ["stored", "rerun"]
        assert [(again.source, again.verdict) for again in told.ran_again] == [("y = sum(x)\ny", "same")]
    await talk.run("w = (x, y)")
    assert await value_of(talk, "w") == "([1, 2, 3], 6)"
    with pytest.raises(Conflict):
        await recover(talk)


async def test_what_was_deleted_since_is_not_missed(talk: Talk) -> None:
    """A stored variable that a later cell deleted is deleted again, and nobody is told that it could not come back."""
    await talk.run("x, y = 1, 2")
    await settled(talk)
    await talk.ask("q", cell("del x\nz = y + 1", "one"), cell("import os; os._exit(1)", "two"), Say("It died."))
    told = await recover(talk)
    assert told.missing == []
    assert told.restored == ["y", "z"]
    assert await value_of(talk, "('x' in globals(), y, z)") == "(False, 2, 3)"


async def test_an_agent_brings_lost_variables_back(talk: Talk) -> None:
    """It is told of the loss and of the way back, and gets what there was."""
    await talk.run("x = [1, 2]")
    await talk.ask("die", cell("y = x + [3]"), cell("import os; os._exit(1)"), Say("It died."))
    await settled(talk)
    await talk.ask("go on", call("recover_variables"), cell("z = y"), call("recover_variables"), Say("There."))
    events = await talk.events()
    results = [event.result for event in events if isinstance(event, e.ToolCompleted)]
    first, again = (result for result in results if result.name == "recover_variables")
    assert "from what was stored" in first.content
    assert "x" in first.content
    assert again.is_error
    assert await value_of(talk, "z") == "[1, 2, 3]"
    assert any("recover_variables brings them back" in str(body) for body in talk.model.requests)


@pytest.mark.parametrize("recovery", ["ask", "auto"])
async def test_recovery_leaves_out_what_reached_outside(talk: Talk, recovery: str) -> None:
    """Unasked it is not run again; the answer, and the log, name it, and say of each other cell how it compares."""
    object.__setattr__(talk.app.settings, "recovery", recovery)
    object.__setattr__(talk.app.settings, "turn_checkpoint_bytes", 0)
    await talk.run("import subprocess")
    await talk.run("open('count.txt', 'a').write('1')\nout = subprocess.run(['true']).returncode")
    await talk.run("import time\ntime.sleep(0.2)\nx = 1\nx")
    await talk.run("import os; os._exit(1)")
    await settled(talk)
    if recovery == "ask":
        generation = await talk.app.turns.owned(talk.session.id)
        foretold = await talk.app.rewind.recovery(await talk.refresh(), "safe")
        assert [a.verdict for a in foretold.ran_again] == ["planned", "skipped", "planned"]
        assert foretold.ran_again[2].duration_ms >= 200
        told = await recover(talk)
        assert [lost.name for lost in told.missing] == ["out"]
    object.__setattr__(talk.app.settings, "turn_checkpoint_bytes", 1 << 30)
    object.__setattr__(talk.app.settings, "live_copies", 0)
    await talk.run("y = x")
    await settled(talk)
    (back,) = [ev for ev in await talk.events() if isinstance(ev, e.KernelChanged) and ev.status == "restored"]
    assert [a.verdict for a in back.ran_again] == ["same", "skipped", "same"]
    assert (workspace_of(talk.app.root, talk.session).folder / "count.txt").read_text() == "1"
    if recovery == "ask":
        # Those that were left out can be run as well, once one has thought about it.
        assert not (await recover(talk, "all")).missing
        assert await value_of(talk, "[out, y]") == "[0, 1]"
        with pytest.raises(Conflict):
            await recover(talk)
        # The point behind `y = x` was stored without: it is not all that there was.
        await talk.run("z = 1")
        await settled(talk)
        told = (await go(talk, "undo")).variables
        assert "out" in [lost.name for lost in told.missing]
        await talk.run("import os; os._exit(1)")
        await settled(talk)
        generation = await talk.app.turns.owned(talk.session.id)
        assert not (await talk.app.rewind.recover(await talk.refresh(), "all", generation)).missing
        assert await value_of(talk, "out") == "0"


async def test_cells_that_failed_without_their_variables(talk: Talk) -> None:
    """What a new kernel had not is no reason to do it once it is back."""
    await talk.run("base = 10")
    await talk.run("base += 1")
    await talk.run("import os; os._exit(1)")
    await talk.run("base += 100")
    await talk.run("later = 1")
    await settled(talk)
    told = await recover(talk)
    assert [again.source for again in told.ran_again] == ["later = 1"]
    assert await value_of(talk, "[base, later]") == "[11, 1]"


async def test_what_a_module_of_the_folder_reaches(talk: Talk) -> None:
    """Cells are judged by the code of modules beside them, as it was then."""
    object.__setattr__(talk.app.settings, "turn_checkpoint_bytes", 0)
    object.__setattr__(talk.app.settings, "live_copies", 0)
    helper = "import subprocess\ndef run(): return subprocess.run(['touch', '../ran']).returncode"
    await talk.run(f"open('helper.py', 'w').write({helper!r})\nimport helper\nx = 1")
    await talk.run("out = helper.run()")
    await talk.run("import os\nos.remove('helper.py')\ny = 2")
    await settled(talk)
    ran = workspace_of(talk.app.root, talk.session).folder.parent / "ran"
    ran.unlink()
    told = await go(talk, "undo")
    assert [(lost.name, "starts processes" in lost.reason) for lost in told.variables.missing] == [("out", True)]
    assert await value_of(talk, "x") == "1"
    assert not ran.exists()


async def test_recovery_after_others_have_run(talk: Talk) -> None:
    """Asked for later, what was lost comes back together with what was made since."""
    await talk.run("x = 1")
    await talk.run("import os; os._exit(1)")
    await settled(talk)
    await talk.run("y = 2")
    await settled(talk)
    told = await recover(talk)
    assert not told.missing
    assert await value_of(talk, "(x, y)") == "(1, 2)"
    await talk.run("z = x + y")
    await settled(talk)
    await go(talk, "undo")
    assert await value_of(talk, "(x, y)") == "(1, 2)"


@pytest.mark.parametrize("how", ["undo", "recover"])
async def test_who_hears_of_it_finds_it(talk: Talk, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """In the moment in which the log tells that variables are back, they are there."""
    await talk.run("x = 1")
    await settled(talk)
    await talk.run("x = 2" if how == "undo" else "import os; os._exit(1)")
    await settled(talk)
    append, found = talk.app.log.append, []

    async def heard(session_id: Any, events: Any, **more: Any) -> Any:
        appended = await append(session_id, events, **more)
        if any(isinstance(event, e.KernelChanged) and event.status == "restored" for event in events):
            found.extend(await talk.app.sessions.variables(talk.session))
        return appended

    monkeypatch.setattr(talk.app.log, "append", heard)
    await (go(talk, "undo") if how == "undo" else recover(talk))
    assert [(variable.name, variable.preview) for variable in found] == [("x", "1")]
