"""How variables come back: copied, stored, made again; and what is said of those that do not."""

from __future__ import annotations

import os
import struct
from typing import Any

import pytest
from cellwright.server import events as e
from cellwright.server.domain import VariablesBack
from cellwright.server.errors import Conflict
from cellwright.server.kernel_life import workspace_of

from tests.conftest import OWNER, Talk
from tests.doubles.openai_server import Say, cell
from tests.integration.going_back import (
    branch,
    by_hand,
    call,
    compared,
    foretell,
    go,
    kept_by_itself,
    look,
    recover,
    settled,
    value_of,
)


@pytest.mark.parametrize("copies", [0, 2])
async def test_variables_by_each_means(talk: Talk, copies: int) -> None:
    """What a copy holds comes back whatever it is; stored variables bring the rest made again by its cells."""
    talk.app.kernels._most_copies = copies
    object.__setattr__(talk.app.settings, "live_copies", copies)
    await talk.run("n = 3\ndata = [1, 2]")
    await talk.run("lines = (str(i * n) for i in range(n))\nfirst = next(lines)")
    await talk.run("n = 5\nlines = None")
    await settled(talk)
    told = await go(talk, "undo")
    assert told.variables.means == (["fork"] if copies else ["stored", "rerun"])
    assert not told.variables.missing
    assert await value_of(talk, "(n, data, first)") == "(3, [1, 2], '0')"
    assert await value_of(talk, "list(lines)") == "['3', '6']"
    assert [again.verdict for again in told.variables.ran_again] == ([] if copies else ["same"])


async def test_what_the_user_ran_before_a_question(talk: Talk) -> None:
    """Undoing the question leaves the variables that the user had set by then, by whatever means they come."""
    await talk.run("x = 1")
    await settled(talk)
    await by_hand(talk, "k = [x] * 3")
    await talk.run("k = None; x = 2")
    await settled(talk)
    for _ in range(2):
        await go(talk, "undo")
        assert await value_of(talk, "(x, k)") == "(1, [1, 1, 1])"
        await go(talk, "redo")
        assert await value_of(talk, "(x, k)") == "(2, None)"


async def test_what_the_user_ran_before_the_first_question(talk: Talk) -> None:
    """There is no turn yet that it could belong to; undoing the first question leaves it all the same."""
    await talk.app.sessions.wake(talk.session)
    await by_hand(talk, "mine = [1, 2]")
    await talk.run("theirs = sum(mine)")
    await settled(talk)
    for _ in range(2):
        await go(talk, "undo")
        assert await value_of(talk, "mine") == "[1, 2]"
        await go(talk, "redo")
        assert await value_of(talk, "(mine, theirs)") == "([1, 2], 3)"
    child = await branch(talk, from_turn=0)
    await child.run("mine = mine * 2")
    assert await value_of(child, "mine") == "[1, 2, 1, 2]"


async def test_what_was_kept_by_itself_is_a_turn_of_theirs(talk: Talk) -> None:
    """An undo records it first, as it does what was not stored yet."""
    await talk.run("x = 1")
    await settled(talk)
    await by_hand(talk, "x = 2")
    await kept_by_itself(talk)
    told = await go(talk, "undo")
    assert (told.from_turn, told.to_turn, told.left_turns) == (2, 0, [1, 2])
    assert (await talk.app.rows.turns(talk.session.id, 10))[0][-1].query == "(I ran code in the kernel.)"
    await go(talk, "redo")
    assert await value_of(talk, "x") == "2"


@pytest.mark.parametrize("how", ["undo", "recover"])
async def test_files_stay_when_cells_run_again(talk: Talk, how: str) -> None:
    """A cell that runs again for its variables leaves no trace in files; what comes meanwhile stays."""
    object.__setattr__(talk.app.settings, "turn_checkpoint_bytes", 0)
    object.__setattr__(talk.app.settings, "live_copies", 0)
    await talk.run("x = open('log.txt', 'a').write('ran')\nopen('once.txt', 'w').write('a')")
    await talk.run("import os\nos.path.exists('once.txt')" if how == "undo" else "import os; os._exit(1)")
    await settled(talk)
    folder = workspace_of(talk.app.root, talk.session).folder
    into = talk.app.rewind._revival._made

    async def meanwhile(*arguments: Any) -> VariablesBack:
        (folder / "theirs.txt").write_text("theirs")
        return await into(*arguments)

    talk.app.rewind._revival._made = meanwhile  # type: ignore[method-assign]
    if how == "undo":
        told = await go(talk, "undo")
        assert [left.name for left in told.files.left] == ["theirs.txt"]
    else:
        assert (await recover(talk)).appeared == ["theirs.txt"]
    assert await value_of(talk, "x") == "3"
    found = {file.name: file.read_text() for file in folder.iterdir() if file.suffix == ".txt"}
    assert found == {"log.txt": "ran", "once.txt": "a", "theirs.txt": "theirs"}


async def test_asleep_with_nothing_left(talk: Talk) -> None:
    """A session whose only variables were undone while it slept has lost none when it wakes."""
    await talk.ask("hello", Say("hello"))
    await talk.run("x = 1")
    await settled(talk)
    assert await talk.app.life.hibernate(talk.session.id)
    await go(talk, "undo")
    await talk.run("y = 2")
    changes = [event for event in await talk.events() if isinstance(event, e.KernelChanged)]
    assert not any(event.variables_lost for event in changes)
    with pytest.raises(Conflict):
        await recover(talk)


async def test_what_an_agent_took_back_does_not_run_again(talk: Talk) -> None:
    """After the kernel's death only what counted runs again."""
    object.__setattr__(talk.app.settings, "turn_checkpoint_bytes", 0)
    await talk.ask(
        "q",
        cell("x = [1]"),
        call("checkpoint", label="before"),
        cell("x.append(2)"),
        call("rewind", label="before"),
        Say("It was no good."),
    )
    await talk.run("import os; os._exit(1)")
    await settled(talk)
    told = await recover(talk)
    assert await value_of(talk, "x") == "[1]"
    assert "x.append(2)" not in [again.source for again in told.ran_again]


async def test_what_a_live_copy_lacks_is_named(talk: Talk) -> None:
    """A process has no copy of what its child processes and tasks do."""
    await talk.run("import subprocess\np = subprocess.Popen(['sleep', '60'])")
    await settled(talk)
    await talk.run("x = 1")
    await settled(talk)
    told = await go(talk, "undo")
    assert (told.variables.means, [lost.name for lost in told.variables.missing]) == (["fork"], ["child processes: 1"])
    os.kill(int(await value_of(talk, "p.pid")), 9)


async def test_what_holds_on_to_a_file_is_named(talk: Talk) -> None:
    """A live copy has a database's connection; where files were put back, it is to the one that was there."""
    talk.app.kernels._most_copies = 3
    object.__setattr__(talk.app.settings, "live_copies", 3)
    await talk.run("import sqlite3\ncon = sqlite3.connect('x.db')\ncon.execute('create table t (n)')\nother = 1")
    await talk.run("con.execute('insert into t values (1)'); con.commit()")
    await talk.run("other = 2")
    await settled(talk)
    told = await go(talk, "undo")
    assert told.variables.missing == []
    told = await go(talk, "undo")
    assert (told.variables.means, [lost.name for lost in told.variables.missing]) == (["fork"], ["con"])
    assert "con" not in told.variables.restored


async def test_asleep(talk: Talk) -> None:
    """What is undone while the session sleeps does not wake with it."""
    await talk.ask("q", Say("one"))
    await talk.run("x = 1")
    await settled(talk)
    assert await talk.app.life.hibernate(talk.session.id)
    await go(talk, "undo")
    await talk.run("there = 'x' in globals()")
    assert await value_of(talk, "there") == "False"


async def test_a_cell_that_failed_half_way(talk: Talk) -> None:
    """What a cell made before it failed is made again, or named."""
    object.__setattr__(talk.app.settings, "turn_checkpoint_bytes", 0)
    object.__setattr__(talk.app.settings, "live_copies", 0)
    await talk.run("x = [1]")
    await talk.run("x.append(2); y = 5; 1 / 0")
    await talk.run("z = (x, y)")
    await talk.run("x = y = z = None")
    await settled(talk)
    told = await go(talk, "undo")
    assert not told.variables.missing
    assert await value_of(talk, "z") == "([1, 2], 5)"


async def test_what_a_session_fell_asleep_with(talk: Talk) -> None:
    """Where a turn's variables were too many to be kept, an undo and a redo come back to what was stored for sleep."""
    object.__setattr__(talk.app.settings, "turn_checkpoint_bytes", 0)
    object.__setattr__(talk.app.settings, "live_copies", 0)
    await talk.run("x = [open('made.txt', 'x')] and 7")  # Run again, it fails.
    await talk.run("import random\ny = random.random()")
    await settled(talk)
    y = await value_of(talk, "y")
    assert await talk.app.life.hibernate(talk.session.id)
    await go(talk, "undo")
    told = await go(talk, "redo")
    assert told.variables.means == ["stored"]
    assert await value_of(talk, "(x, y)") == f"(7, {y})"


async def test_more_than_is_stored_after_a_turn(talk: Talk) -> None:
    """What is too large is made again by the cells that make and mention it; all the rest comes from the store."""
    object.__setattr__(talk.app.settings, "turn_checkpoint_bytes", 2_000_000)
    object.__setattr__(talk.app.settings, "live_copies", 0)
    await talk.run("import numpy as np, pandas as pd\nsmall = np.random.rand(10)\nother = 5")
    await talk.run("big = np.ones(1_000_000) * other\nframe = pd.DataFrame({'a': big})\nheld = [frame]")
    await talk.run("def spoil(array):\n    array[0] = 7\n    return 1\nresult = spoil(big)\nother = 6")
    await talk.run("unrelated = 1")
    await settled(talk)
    drew = await value_of(talk, "small.tolist()")
    await talk.run("big = frame = held = small = None")
    told = await go(talk, "undo")
    assert told.variables.means == ["stored", "rerun"]
    assert not told.variables.missing
    assert [again.turn for again in told.variables.ran_again] == [1, 2, 3]  # Also what `other` was then.
    assert await value_of(talk, "small.tolist()") == drew
    assert await value_of(talk, "([float(n) for n in big[:2]], other, len(frame), held[0].shape)") == (
        "([7.0, 5.0], 6, 1000000, (1000000, 1))"
    )
    branch = await talk.app.branches.make(
        await talk.refresh(), OWNER, OWNER, await talk.app.turns.owned(talk.session.id)
    )
    there = Talk(talk.app, branch, talk.model)
    woken = await there.run("print(float(big[0]), other)")
    assert "7.0 6" in str(woken)
    assert not [event for event in woken if isinstance(event, e.KernelChanged) and event.variables_lost]


async def test_what_is_drawn_anew_is_named(talk: Talk) -> None:
    """A value that came from chance or the clock is told, also where no output shows that it is another."""
    object.__setattr__(talk.app.settings, "turn_checkpoint_bytes", 0)
    object.__setattr__(talk.app.settings, "live_copies", 0)
    await talk.run("import random, time\nbegan = time.time()\nx = random.random()\nsure = 1")
    await talk.run("y = x + 1\nalso = sure")
    await talk.run("random.seed(2)\nseeded = random.random()")
    await talk.run("last = random.random()")
    await talk.run("gone = 1")
    await settled(talk)
    kept = await value_of(talk, "(seeded, last)")
    foretold = await foretell(talk)
    told = await go(talk, "undo")
    assert foretold.variables.missing == told.variables.missing
    missing = {lost.name: lost.reason for lost in told.variables.missing}
    assert set(missing) == {"began", "x", "y"}
    assert "clock" in missing["began"]
    assert "chance" in missing["x"]
    assert "made from x" in missing["y"]
    assert await value_of(talk, "(seeded, last)") == kept


async def test_what_was_read_from_a_file_that_changed(talk: Talk) -> None:
    """A value that a cell reads again from a file that is another by then is told, before and after."""
    object.__setattr__(talk.app.settings, "turn_checkpoint_bytes", 0)
    object.__setattr__(talk.app.settings, "live_copies", 0)
    await talk.app.sessions.write(talk.session, "n.txt", "1")
    await talk.app.sessions.write(talk.session, "same.txt", "1")
    await talk.run("n = int(open('n.txt').read())\nm = n + 1")
    await talk.run("k = int(open('same.txt').read())")
    await talk.run("written = open('n.txt', 'w').write('7')")
    await talk.run("n = m = k = None")
    await settled(talk)
    foretold = await foretell(talk)
    told = await go(talk, "undo")
    assert foretold.variables.missing == told.variables.missing
    missing = {lost.name: lost.reason for lost in told.variables.missing}
    assert set(missing) == {"n", "m"}
    assert "n.txt" in missing["n"]


async def test_a_database_that_a_cell_opened_again(talk: Talk) -> None:
    """What is put back is the file that the connection holds, and not another in its place."""
    object.__setattr__(talk.app.settings, "live_copies", 0)
    await talk.run("import sqlite3\nn = 1")
    await talk.run(
        "con = sqlite3.connect('s.db')\ncon.execute('drop table if exists t')\ncon.execute('create table t (x)')\n"
        "con.execute('insert into t values (1)')\ncon.commit()"
    )
    await talk.run("con.execute('insert into t values (2)')\ncon.commit()")
    await talk.run("n = 2")
    await settled(talk)
    await go(talk, "undo")
    await talk.run("con.execute('insert into t values (3)')\ncon.commit()")
    rows = "sorted(x for (x,) in sqlite3.connect('s.db').execute('select x from t'))"
    assert await value_of(talk, rows) == "[1, 2, 3]"
    assert await value_of(talk, "con.execute('select count(*) from t').fetchone()") == "(3,)"


async def test_what_is_stored_is_not_in_doubt(talk: Talk) -> None:
    """A value from the store is as it was, and what follows it, whatever was drawn anew to make another."""
    object.__setattr__(talk.app.settings, "turn_checkpoint_bytes", 2_000_000)
    object.__setattr__(talk.app.settings, "live_copies", 0)
    await talk.run("import numpy as np\nsmall = np.random.rand(10)\nbig = np.ones(1_000_000)")
    await settled(talk)
    object.__setattr__(talk.app.settings, "turn_checkpoint_bytes", 0)
    await talk.run("later = float(small.sum())")
    await talk.run("small = big = later = None")
    await settled(talk)
    told = await go(talk, "undo")
    assert [again.turn for again in told.variables.ran_again] == [1, 2]
    assert not told.variables.missing
    assert await value_of(talk, "later == float(small.sum())") == "True"


async def test_one_that_cannot_be_read_takes_no_other_along(talk: Talk) -> None:
    """What is stored and cannot be read in a fresh kernel is made again by its cells; all else comes from the store."""
    object.__setattr__(talk.app.settings, "live_copies", 0)
    await talk.run("import random\ndata = [random.random()]\nalias = data")
    await talk.run("from typing import NewType\nf = NewType('f', int)")  # Pickled by its name, which is not there yet.
    await talk.run(
        "class Late:\n    def __setstate__(self, state):\n        raise OSError('not here')\nlate = [Late(), data]"
    )
    await talk.run("late[0].x = 1\nwith_f = (f, [random.random()])\ndrew = random.random()")
    drew = await value_of(talk, "with_f[1]")
    await talk.run("data = alias = f = late = with_f = None")
    await settled(talk)
    told = await go(talk, "undo")
    assert {"data", "alias", "drew", "late", "f"} <= {*told.variables.restored}
    assert not told.variables.missing
    assert await value_of(talk, "with_f[1]") == drew  # Its cell drew from what chance was then.
    assert await value_of(talk, "(data is alias, late[1] is data, late[0].x, f(1))") == "(True, True, 1, 1)"


async def test_what_cells_change_that_run_again(talk: Talk) -> None:
    """Stored variables are as they were stored, whatever the cells that make others do to them, seen or unseen."""
    object.__setattr__(talk.app.settings, "live_copies", 0)
    await talk.run(
        "import numpy as np\nn, count, rows = 0, {'n': 0}, []\nrng = np.random.default_rng(1)\n"
        "def bump():\n    global n\n    n += 1\n    count['n'] += 1\n    rows.append(n)\n    return rng.random()"
    )
    await talk.run("g = (value for value in [bump()])")
    await talk.run("count['n'] = 7\nheld = [rows]")
    await talk.run("g = None")
    await settled(talk)
    state = "(n, count, rows, held[0] is rows, rng.bit_generator.state['state']['state'])"
    before = await value_of(talk, state)
    told = await go(talk, "undo")
    assert told.variables.means == ["stored", "rerun"]
    assert await value_of(talk, state) == before


async def test_what_is_made_again_holds_what_is_stored(talk: Talk) -> None:
    """An object that cannot be stored holds the stored ones that it held, or is named where those changed behind it."""
    object.__setattr__(talk.app.settings, "live_copies", 0)
    await talk.run("import threading\nnotes, others = {'a': 1}, {}")
    await talk.run("class Service:\n    pass\nservice = Service()")
    await talk.run("service.lock, service.notes = threading.Lock(), notes")
    await talk.run("second = (threading.Lock(), others)")
    await talk.run("import datetime\nhere, zone = [datetime.UTC, ()], (threading.Lock(), datetime.UTC, ())")
    await talk.run("here.append(1)")
    await talk.run("others['b'] = 2")
    await talk.run("service = second = zone = None")
    await settled(talk)
    told = await go(talk, "undo")
    assert await value_of(talk, "(service.notes is notes, notes, others)") == "(True, {'a': 1}, {'b': 2})"
    lost = {found.name: found.reason for found in told.variables.missing}
    assert "service" not in lost
    assert "zone" not in lost  # It is the same one everywhere.
    if await value_of(talk, "second[1] is others") == "False":
        assert "others" in lost["second"]


SHARED = """
import numpy as np
grid = np.arange(120_000.0).reshape(300, 400)
row, turned, back = grid[7], grid.T, grid[::-1]
small = np.zeros((2, 3), order="F")
edge = small[1]
one, other = (lambda large: (large[1], large[2]))(np.ones((1000, 1000)))
def counter():
    n = 0
    def up():
        nonlocal n
        n += 1
        return n if n > 1 else up()
    return up, lambda: n
up, now = counter()
up()
"""


async def test_what_shares_its_memory(talk: Talk) -> None:
    """Views of one array are views again, but for two small ones of a large; functions over one variable share it."""
    object.__setattr__(talk.app.settings, "live_copies", 0)
    await talk.run(SHARED)
    await settled(talk)
    [stored] = [event for event in await talk.events() if isinstance(event, e.CheckpointCreated)]
    assert stored.new_bytes < 2_000_000
    await talk.run("grid = row = turned = back = small = edge = one = other = up = now = None")
    await settled(talk)
    told = await go(talk, "undo")
    assert told.variables.means == ["stored"]
    assert await value_of(talk, "[float(x) for x in (grid[7, 3], turned[3, 7], back[-8, 3])]") == f"{[2803.0] * 3}"
    await talk.run("row[3] = -1\nedge[:] = 5\none[0] = 2\nup()")
    assert await value_of(talk, "[float(x) for x in (grid[7, 3], turned[3, 7], back[-8, 3])]") == f"{[-1.0] * 3}"
    assert await value_of(talk, "(small[1].tolist(), float(other[0]))") == "([5.0, 5.0, 5.0], 1.0)"
    assert await value_of(talk, "(now(), up(), now())") == "(3, 4, 4)"


async def test_storing_changes_nothing(talk: Talk) -> None:
    """Classes that are alive are the same after a turn's variables were stored, with all that they hold."""
    await talk.run(
        "class P:\n    every = []\n    def __init__(self):\n        P.every.append(self)\n"
        "first, every = P(), P.every\nheld = [P()]"
    )
    await settled(talk)
    assert await value_of(talk, "(P.every is every, first in P.every, held[0] in P.every)") == "(True, True, True)"


LOST_ASLEEP = """
import functools
class Gauge:
    @functools.cached_property
    def level(self):
        return 5
gauge, stream = Gauge(), (value for value in [1, 2])
class Base:
    known = []
    def __init_subclass__(cls):
        Base.known.append(cls.__name__)
class Child(Base):
    pass
"""


async def test_what_sleep_lost_comes_back(talk: Talk) -> None:
    """What could not be stored, or not be read, when a session woke is made again when that is asked for."""
    await talk.run(LOST_ASLEEP)
    await settled(talk)
    assert await talk.app.life.hibernate(talk.session.id)
    await talk.run("later = gauge.level")
    assert await value_of(talk, "(later, 'stream' in globals(), 'Child' in globals())") == "(5, False, False)"
    told = await recover(talk)
    assert not told.missing
    assert await value_of(talk, "(later, next(stream), Child.__name__, Base.known)") == "(5, 1, 'Child', ['Child'])"
    with pytest.raises(Conflict, match="lost nothing"):
        await recover(talk)


async def test_a_memory_map_is_one_again(talk: Talk) -> None:
    """It writes into the file that is there then."""
    object.__setattr__(talk.app.settings, "live_copies", 0)
    await talk.run(
        "import numpy as np\nm = np.memmap('big.dat', mode='w+', dtype='f8', shape=(3, 2), order='F')\n"
        "m[:] = 1\nm.flush()"
    )
    await talk.run("m[:] = 2\nm.flush()\nm = None")
    await settled(talk)
    told = await go(talk, "undo")
    assert told.variables.means == ["stored"]
    await talk.run("m[0, 1] = 7\nm.flush()\nread = np.fromfile('big.dat').tolist()")
    assert await value_of(talk, "read") == "[1.0, 1.0, 1.0, 7.0, 1.0, 1.0]"


async def test_a_branch_writes_into_its_own_files(talk: Talk) -> None:
    """Memory maps, log files and the working directory are those of its own folder."""
    await talk.run(
        "import logging, os, numpy as np\nm = np.memmap('big.dat', mode='w+', dtype='f8', shape=2)\n"
        "m[:] = 1\nm.flush()\nfh = logging.FileHandler('a.log')\nlog = logging.getLogger('mine')\nlog.addHandler(fh)\n"
        "log.error('parent')\nos.mkdir('sub')\nos.chdir('sub')\nopen('here.txt', 'w').close()"
    )
    await settled(talk)
    child = await branch(talk)
    await child.run("m[:] = 7\nm.flush()\nlog.error('child')\nlog.removeHandler(fh)\nopen('more.txt', 'w').close()")
    assert await value_of(child, "log.handlers") == "[]"
    for each, wrote, files, log in (
        (talk, 1, {"here.txt"}, "parent\n"),
        (child, 7, {"here.txt", "more.txt"}, "parent\nchild\n"),
    ):
        folder = workspace_of(each.app.root, each.session).folder
        assert struct.unpack("2d", (folder / "big.dat").read_bytes()) == (wrote, wrote)
        assert {file.name for file in (folder / "sub").iterdir()} == files
        assert (folder / "a.log").read_text() == log


async def test_a_branch_reads_maps_of_files_that_are_too_large_for_it(talk: Talk) -> None:
    """They stay where they are, and what the branch writes into the map is its own; two maps are not compared."""
    object.__setattr__(talk.app.settings, "snapshot_file_bytes", 1_000)
    await talk.run(
        "import numpy as np\nm = np.memmap('big.dat', mode='w+', dtype='f8', shape=500)\nm[:] = 1\nm.flush()"
    )
    await settled(talk)
    child = await branch(talk)
    await child.run("m[:] = 7\nm.flush()")
    assert await value_of(child, "m[0]") == await value_of(child, "np.float64(7)")
    assert await value_of(talk, "np.fromfile('big.dat')[0]") == await value_of(talk, "np.float64(1)")
    await settled(child)
    assert (await compared(talk, 1, child, 2)).not_compared == ["m"]


async def test_objects_made_again_are_of_the_stored_class(talk: Talk) -> None:
    """Whether that is as it was or holds something else by now; and so are classes that are made from it."""
    object.__setattr__(talk.app.settings, "live_copies", 0)
    await talk.run(
        "import threading\nclass Base: n = 1\n"
        "class Worker(Base):\n    def __init__(self): self.lock = threading.Lock()\n"
        "class Counted:\n    made = []\n    def __init__(self): self.lock = threading.Lock(); self.made.append(1)\n"
        "class Special(Counted): lock = threading.Lock()\n"
        "import dataclasses\n@dataclasses.dataclass(frozen=True)\nclass Frozen:\n    lock: object\nFrozen.seen = [1]\n"
        "w, c, s, f = Worker(), Counted(), Special(), Frozen(threading.Lock())"
    )
    await talk.run("Counted.made.append(2)\nFrozen.seen.append(2)")
    await talk.run("x = 1")
    await settled(talk)
    await go(talk, "undo")
    told = "[isinstance(w, Worker), isinstance(w, Base), isinstance(c, Counted), isinstance(s, Counted), Counted.made]"
    assert await value_of(talk, told) == "[True, True, True, True, [1, 1, 2]]"
    assert await value_of(talk, "[isinstance(f, Frozen), Frozen.seen]") == "[True, [1, 2]]"


async def test_what_was_deleted_does_not_come_back(talk: Talk) -> None:
    """A cell that runs again for what is not stored makes what a later one has deleted: that goes again."""
    object.__setattr__(talk.app.settings, "live_copies", 0)
    await talk.run("from IPython import get_ipython\nraw = [1, 2]\ntmp = raw * 2\ngen = (i for i in range(5))")
    await talk.run("del tmp")
    await talk.run("clean = 1")
    await talk.run("x = 1")
    await settled(talk)
    await go(talk, "undo")
    assert await value_of(talk, "['tmp' in globals(), list(gen), raw, clean]") == "[False, [0, 1, 2, 3, 4], [1, 2], 1]"
    await talk.run("del raw, gen")
    await settled(talk)
    await talk.run("import os; os._exit(1)")
    await recover(talk)
    assert await value_of(talk, "[*{'tmp', 'raw', 'gen', 'clean'} & {*globals()}]") == "['clean']"


async def test_functions_that_remember(talk: Talk) -> None:
    """They are stored without what they remember, also for sleep."""
    await talk.run("from functools import cache, lru_cache\n@lru_cache(5)\ndef f(x):\n    return x + 1\ng = cache(len)")
    await settled(talk)
    assert await talk.app.life.hibernate(talk.session.id)
    await talk.run("told = f(1), f.cache_parameters()['maxsize'], f.__name__, g('ab')")
    assert await value_of(talk, "told") == "(2, 5, 'f', 2)"


async def test_names_of_ones_own(talk: Talk) -> None:
    """A name that begins with a line below is stored as any other."""
    object.__setattr__(talk.app.settings, "live_copies", 0)
    await talk.run("_settings = {'a': 1}\n_1 = 5\ndef _helper():\n    return _settings['a']\nx = 1")
    await talk.run("_settings = _helper = None")
    await settled(talk)
    await go(talk, "undo")
    assert await value_of(talk, "_helper()") == "1"


async def test_a_file_that_was_removed_stays_so(talk: Talk) -> None:
    """A cell that runs again for its variables does not bring a file back that the move takes out."""
    object.__setattr__(talk.app.settings, "live_copies", 0)
    await talk.run("open('made.txt', 'w').write('1')\nstream = iter(x for x in [1, 2])")
    await talk.run("import os\nos.remove('made.txt')\ny = 1")
    await talk.run("z = 1")
    await settled(talk)
    await go(talk, "undo", 1)
    told = await go(talk, "redo", 2)
    assert told.files.removed == ["made.txt"]
    assert told.files.left == []
    assert (await look(talk)).files == {}


async def test_what_is_as_it_was_is_not_made_again(talk: Talk) -> None:
    """A cell that only looks as if it changed a variable does not make that one's cells run again."""
    object.__setattr__(talk.app.settings, "live_copies", 0)
    await talk.run("import numpy as np\ndata, calls = np.arange(50_000.0), []")
    await talk.run("def fit(x):\n    calls.append(1)\n    return float(x.sum())\nmodel = fit(data)")
    await talk.run("folds = (data[data > edge].sum() for edge in (10, 20))")
    await talk.run("data.sort()\nscore = fit(data)")
    await talk.run("folds = None")
    await settled(talk)
    told = await go(talk, "undo")
    assert not told.variables.missing
    assert [again.turn for again in told.variables.ran_again] == [3]
    assert await value_of(talk, "(len(calls), float(next(folds)) == data[data > 10].sum())") == "(2, np.True_)"
