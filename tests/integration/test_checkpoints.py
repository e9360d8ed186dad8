"""Variables that go to the object store and come back: hibernation, waking, and what cannot be saved."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cellwright.kernels import injected
from cellwright.kernels.client import KernelConnection
from cellwright.server import events as e
from cellwright.server.domain import SessionStatus
from cellwright.server.errors import TooManyKernels

from tests.conftest import Talk

NAMESPACE = """
import numpy as np, pandas as pd, random, threading, functools
np.random.seed(7); random.seed(7)
number, text, nested = 3, "drei", {"a": [1, (2, {3})]}
frame = pd.DataFrame({"x": np.arange(400_000.0), "name": [f"row {i}" for i in range(400_000)]})
same = frame
holder = {"frame": frame, "part": frame["x"]}
array = np.arange(300_000.0)
base = 10
def add(n): return n + base
def make():
    inner = 5
    def closed(n): return n + inner + base
    return closed
closed = make()
square = lambda n: n * n
class Point:
    def __init__(self, x): self.x = x
    def moved(self): return Point(self.x + base)
point, partial = Point(1), functools.partial(add, 5)
alias = nested
generator = (i for i in range(3))
handle = open("kept.txt", "w")
lock = threading.Lock()
class Unreadable:
    def __reduce__(self): return (int, ("no number",))
unreadable = Unreadable()
expected = np.random.random(), random.random()
np.random.seed(7); random.seed(7)
"""
CHECK = """
assert (number, text, nested) == (3, "drei", {"a": [1, (2, {3})]})
assert same is frame and holder["frame"] is frame and alias is nested
assert frame.shape == (400_000, 2) and frame.name.iloc[-1] == "row 399999"
frame.loc[0, "x"] = -1.0; array[0] = -1.0   # What was mapped can be written.
base = 20
assert add(1) == 21 and closed(1) == 26 and square(3) == 9 and partial() == 25
assert point.moved().x == 21 and isinstance(point, Point)
assert (np.random.random(), random.random()) == expected
"""


def ok(events: list[e.Event]) -> e.CellCompleted:
    (ended,) = [event for event in events if isinstance(event, e.CellCompleted)]
    assert ended.status == "ok", ended.text
    return ended


def connection(talk: Talk) -> KernelConnection:
    found = talk.app.kernels.get(talk.session.id)
    assert found is not None
    return found


async def test_a_session_sleeps_and_wakes(talk: Talk) -> None:
    """All that can be saved comes back as it was, names and all; what cannot is listed by name."""
    ok(await talk.run(NAMESPACE))
    process = connection(talk).manager.provisioner.pid
    assert await talk.app.life.hibernate(talk.session.id)
    assert (await talk.refresh()).status is SessionStatus.HIBERNATED
    assert not Path(f"/proc/{process}").exists()
    created = next(event for event in await talk.events() if isinstance(event, e.CheckpointCreated))
    skipped = {skipped.name: skipped.reason for skipped in created.skipped}
    assert set(skipped) == {"generator", "handle", "lock", "unreadable"}
    assert "read back" in skipped["unreadable"]
    assert {"frame", "closed", "Point", "pd"} <= set(created.kept)
    woken = await talk.run(CHECK)
    ok(woken)
    (restored,) = [event for event in woken if isinstance(event, e.KernelChanged) and event.status == "restored"]
    assert restored.variables_lost
    assert all(name in str(restored.cause) for name in skipped)
    changed = [event for event in woken if isinstance(event, e.VariablesChanged)]
    assert "frame" not in {variable.name for event in changed for variable in event.added}
    assert (await talk.refresh()).status is not SessionStatus.HIBERNATED


async def test_what_did_not_change_is_stored_once(talk: Talk) -> None:
    """Large tables and buffers are objects of their own: the second checkpoint adds next to nothing."""
    object.__setattr__(talk.app.settings, "turn_checkpoint_bytes", 0)
    await talk.run(NAMESPACE)
    created = []
    for source in ("number = 4", "number = 5"):
        ok(await talk.run(source))
        assert await talk.app.life.hibernate(talk.session.id)
        created.append([event for event in await talk.events() if isinstance(event, e.CheckpointCreated)][-1])
    assert created[0].new_bytes > 6_000_000
    assert created[1].new_bytes < 100_000
    objects = await talk.app.artifacts.objects_of(talk.session.id)
    kept = set(created[1].manifest["sizes"])
    assert kept <= set(objects)
    assert not (set(created[0].manifest["sizes"]) - kept) & set(objects)  # The older hibernation's own are gone.
    ok(await talk.run("assert number == 5 and len(frame) == 400_000"))


async def test_a_busy_kernel_does_not_sleep(talk: Talk) -> None:
    """Neither a running turn nor a cell of the user's is cut short."""
    turn = await talk.app.sessions.execute(talk.session, "import time; time.sleep(1.5); done = 1", "tester")
    while talk.app.kernels.get(talk.session.id) is None or connection(talk).execution_state != "busy":
        await asyncio.sleep(0.05)
    assert not await talk.app.life.hibernate(talk.session.id)
    await talk.end(turn)
    ok(await talk.run("done"))


async def test_a_turn_that_comes_while_it_falls_asleep(talk: Talk) -> None:
    """The turn waits for the end of the hibernation, and finds everything."""
    ok(await talk.run("import numpy as np; big = np.ones(20_000_000)"))
    sleeping = asyncio.create_task(talk.app.life.hibernate(talk.session.id))
    await asyncio.sleep(0.05)
    ok(await talk.run("assert big.sum() == 20_000_000"))
    await sleeping


async def test_the_longest_idle_makes_room(talk: Talk) -> None:
    """Past the budget of live kernels the longest idle hibernates; when none is idle, no turn is accepted."""
    app = talk.app
    object.__setattr__(app.settings, "session_max_concurrent", 1)
    ok(await talk.run("mine = 1"))
    other = Talk(app, await app.sessions.create("tester", title="Other"), talk.model)
    ok(await other.run("theirs = 2"))
    assert (await talk.refresh()).status is SessionStatus.HIBERNATED
    turn = await app.sessions.execute(other.session, "import time; time.sleep(60)", "tester")
    while not any(isinstance(event, e.CellStarted) for event in await other.events(turn)):
        await asyncio.sleep(0.01)
    while connection(other).execution_state != "busy":
        await asyncio.sleep(0.01)
    with pytest.raises(TooManyKernels):
        await app.sessions.execute(await talk.refresh(), "mine", "tester")
    await app.turns.stop(turn)
    await other.end(turn)
    ok(await talk.run("assert mine == 1"))


async def test_word_of_rest_that_comes_late(talk: Talk) -> None:
    """A kernel that has answered is at rest, also where that is heard a moment later: it makes room, and sleeps."""
    app = talk.app
    object.__setattr__(app.settings, "session_max_concurrent", 1)
    ok(await talk.run("mine = 1"))
    other = Talk(app, await app.sessions.create("tester", title="Other"), talk.model)
    for asked, woken in ((talk, other), (other, talk)):
        async with app.rewind.alone(asked.session.id):
            kernel = connection(asked)
            asyncio.get_running_loop().call_later(0.3, setattr, kernel, "execution_state", "idle")
            kernel.execution_state = "busy"
        ok(await woken.run("1"))
        assert (await asked.refresh()).status is SessionStatus.HIBERNATED
    kernel = connection(talk)
    asyncio.get_running_loop().call_later(0.3, setattr, kernel, "execution_state", "idle")
    kernel.execution_state = "busy"
    assert await app.life.hibernate(talk.session.id)


async def test_a_kernel_whose_point_is_kept_is_idle(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    """What we do with a kernel behind a turn's end is nothing that users wait for, and they are not shown it."""
    save, told = talk.app._checkpoints.save, []

    async def watched(*arguments: Any, **more: Any) -> Any:
        saved = await save(*arguments, **more)
        connection(talk).execution_state = "busy"
        told.append(talk.app.sessions.kernel_status(talk.session))
        connection(talk).execution_state = "idle"
        return saved

    monkeypatch.setattr(talk.app._checkpoints, "save", watched)
    ok(await talk.run("x = 1"))
    async with talk.app.rewind.alone(talk.session.id):
        assert told == ["idle"]
    connection(talk).execution_state = "busy"
    assert talk.app.sessions.kernel_status(talk.session) == "busy"
    connection(talk).execution_state = "idle"


async def test_an_object_with_another_content_is_refused(talk: Talk) -> None:
    """The kernel runs users' code: bytes that do not have the hash they are called by never enter the store."""
    await talk.run("import numpy as np; array = np.arange(300_000.0)")
    forge = """
import hashlib
class Forged:
    def __init__(self, data): self.real = _sha(data)
    def hexdigest(self): return "0" * 64
_sha, hashlib.sha256 = hashlib.sha256, Forged
"""
    ok(await talk.run(forge))
    assert not await talk.app.life._try_to_hibernate(talk.session.id)
    assert "0" * 64 not in await talk.app.artifacts.objects_of(talk.session.id)
    ok(await talk.run("assert array.size == 300_000"))


def test_the_saver_stands_alone() -> None:
    """What is sent runs where Cellwright is not installed: the standard library, and cloudpickle if it is there."""
    code = (
        "import sys; sys.modules['cloudpickle'] = None\n"
        f"assert {injected.call('checkpoint', 'FORMAT')} == 2\n"
        "assert not [name for name in sys.modules if name.startswith('cellwright')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
