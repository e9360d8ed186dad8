"""Going back to every turn of real notebooks by each means; branches of a gigabyte; replays; what is not rewound.

`python -m benchmarks.rewind [--peers PYTHON]`. Variables are compared by what they pickle to, before and after.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import re
import statistics
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog
from cellwright.notebooks.replay import Replay, told
from cellwright.server.app import Cellwright, standalone
from cellwright.server.domain import Rewound, Session
from cellwright.server.settings import Settings

from benchmarks.kernels import peer
from benchmarks.notebooks import FINGERPRINTS, NOTEBOOKS

OWNER = "bench"
BRANCHES = 10
FRAME = "import numpy as np, pandas as pd\nbig = pd.DataFrame(np.random.default_rng(0).random((1_000_000, 125)))"
OUTSIDE = {
    "a database outside the folder": "import sqlite3\nsqlite3.connect('/tmp/outside.db').execute('select 1')",
    "a request": "import http.client\nlink = http.client.HTTPConnection('127.0.0.1', 1)",
    "a process": "import subprocess\nsubprocess.run(['true'])",
    "a file elsewhere": "open('/tmp/cellwright-outside.txt', 'w').write('x')",
    "a file of the folder": "open('inside.txt', 'w').write('x')",
    "a variable": "kept = 1",
}


@dataclass
class Backs:
    """Ways back to each turn of a notebook by one means."""

    seconds: list[float] = field(default_factory=list)
    same: int = 0
    all: int = 0
    otherwise: int = 0
    """Ways back that took another means: no copy could be made of the kernel."""

    def __str__(self) -> str:
        middle, longest = statistics.median(self.seconds) * 1000, max(self.seconds) * 1000
        other = f" ({self.otherwise} otherwise)" if self.otherwise else ""
        return f"{middle:8.0f} ms {longest:8.0f} ms {self.same / self.all:9.1%}{other}"


@asynccontextmanager
async def opened(**settings: Any) -> AsyncIterator[Cellwright]:
    """Cellwright on a folder of its own."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        (Path(folder) / "root").mkdir()
        async with standalone(Settings(data_dir=Path(folder) / "data", **settings), Path(folder) / "root") as app:
            yield app


async def run(app: Cellwright, session: Session, source: str) -> None:
    """A cell, as a turn of the user's, with its point kept."""
    turn = await app.turns.wait(await app.sessions.execute(session, source, OWNER))
    assert all(row["status"] == "ok" for row in await app.rows.runs(turn.id)), source
    async with app.rewind.alone(session.id):
        pass


async def fingerprints(app: Cellwright, session: Session) -> dict[str, str]:
    """A digest of each variable."""
    kernel = app.kernels.get(session.id)
    assert kernel is not None
    told = "__import__('json').dumps(m['fingerprints'](get_ipython().user_ns))"
    return dict(await kernel.evaluate(f"(lambda m: (exec({FINGERPRINTS!r}, m), {told})[1])({{}})", 60))


async def go(app: Cellwright, session: Session, to: int) -> Rewound:
    """To a turn, whatever cells it takes."""
    generation = await app.turns.owned(session.id)
    return await app.rewind.go(await app.rows.get(session.id), "restore", to, OWNER, generation, "all")


async def backs(cells: list[str], means: str) -> Backs:
    """Back to every turn by one means, from the last to the first, and to the end in between."""
    found = Backs()
    settings = {
        "fork": {"live_copies": 8},
        "stored": {"live_copies": 0},
        "all cells again": {"live_copies": 0, "turn_checkpoint_bytes": 0},
    }[means]
    async with opened(warm_kernels=1, **settings) as app:
        session = await app.sessions.create(OWNER, title="Bench")
        before = []
        for source in cells:
            await run(app, session, source)
            before.append(await fingerprints(app, session))
        for turn in range(len(cells) - 1, 0, -1):
            told = await go(app, session, turn)
            found.otherwise += ("fork" in told.variables.means) != (means == "fork")
            now = await fingerprints(app, session)
            found.seconds.append(told.variables.seconds)
            found.same += sum(now.get(name) == value for name, value in before[turn - 1].items())
            found.all += len(before[turn - 1])
    return found


async def every_turn(python: str | None) -> None:
    """Each notebook by each means, beside running its cells again, and Kishu."""
    print("\nback to every turn: median, longest, and the share of variables that are identical")
    for name, cells in NOTEBOOKS.items():
        print(f"\n{name} ({len(cells)} turns)")
        rows = {means: await backs(cells, means) for means in ("fork", "stored", "all cells again")}
        baseline = statistics.median(rows["all cells again"].seconds)
        for means, found in rows.items():
            print(f"  {means:<18}{found}   {baseline / statistics.median(found.seconds):5.1f}×")
        if python is not None:
            theirs = peer(python, "kishu_undo.py", json.dumps({"cells": cells, "fingerprints": FINGERPRINTS}))
            kishu = Backs([b["seconds"] for b in theirs["back"]])
            kishu.same, kishu.all = (sum(b[part] for b in theirs["back"]) for part in ("same", "all"))
            failed = sum(b["failed"] is not None for b in theirs["back"])
            print(f"  {'Kishu':<18}{kishu}   {baseline / statistics.median(kishu.seconds):5.1f}×", end="")
            print(f"   {failed} of {len(theirs['back'])} failed" if failed else "")


def memory(app: Cellwright, sessions: list[Session]) -> int:
    """What the kernels of these sessions hold together, in bytes, each page once."""
    total = 0
    for session in sessions:
        kernel = app.kernels.get(session.id)
        assert kernel is not None
        text = Path(f"/proc/{kernel.manager.provisioner.pid}/smaps_rollup").read_text()
        found = re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)
        assert found is not None
        total += int(found[1]) * 1024
    return total


async def branches() -> None:
    """Ten branches of a session that holds a gigabyte, which they read."""
    async with opened(warm_kernels=0, live_copies=0) as app:
        parent = await app.sessions.create(OWNER, title="Big")
        await run(app, parent, FRAME)
        alone = memory(app, [parent])
        made = []
        generation = await app.turns.owned(parent.id)
        for _ in range(BRANCHES):
            made.append(await app.branches.make(await app.rows.get(parent.id), OWNER, OWNER, generation))
            await run(app, made[-1], "total = float(big.to_numpy().sum())")
        together = memory(app, [parent, *made])
    print(
        f"\na session with a table of 1 GB takes {alone / 1e9:.2f} GB; with {BRANCHES} branches that read all of it ",
        end="",
    )
    print(f"{together / 1e9:.2f} GB together ({(together - alone) / 1e9 / BRANCHES:.2f} GB a branch)")


async def replays() -> None:
    """What a replay says of the notebooks' exports: one of them draws from chance, and says no seed."""
    print("\nreplays")
    async with opened(warm_kernels=1, live_copies=0) as app:
        for name, cells in NOTEBOOKS.items():
            session = await app.sessions.create(OWNER, title=name)
            for source in cells:
                await run(app, session, source)
            document = await app.exports.document(await app.rows.get(session.id))
            folder = await asyncio.to_thread(app.replays.folder)
            async for progress in app.replays.run(document, name, folder):
                if isinstance(progress, Replay):
                    print(f"  {name:<14} {progress.verdict:<10} {told(progress)}")


async def not_rewound() -> None:
    """What an undo says of cells that reach outside."""
    print("\nwhat an undo says of a turn that touched")
    async with opened(warm_kernels=1, live_copies=0) as app:
        for name, source in OUTSIDE.items():
            session = await app.sessions.create(OWNER, title="Outside")
            await run(app, session, "begin = 1")
            await run(app, session, source)
            generation = await app.turns.owned(session.id)
            told = await app.rewind.go(await app.rows.get(session.id), "undo", None, OWNER, generation)
            back = f"taken back: {', '.join(told.files.removed) or 'its variables'}"
            print(f"  {name:<32} {'; '.join(told.not_rewound) or back}")


async def main() -> None:
    """Everything."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--peers", help="an interpreter that has requirements/peers.txt installed")
    python = parser.parse_args().peers
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    await every_turn(python)
    await branches()
    await replays()
    await not_rewound()


if __name__ == "__main__":
    asyncio.run(main())
