"""Many copies of living kernels, and as many ways back, under load: does one ever hurt the kernel, or fail?

`python -m benchmarks.copies [N]`, N cycles in all (1,000). In each cycle the kernel works, is copied, works on, and is
brought back; every answer is checked. Another session computes all the while, so that both cores are busy.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from cellwright.kernels.client import KernelConnection
from cellwright.kernels.copies import CopyRefused
from cellwright.kernels.errors import KernelError
from cellwright.kernels.execution import Execution, Finished
from cellwright.kernels.inside.keeping import Keeping
from cellwright.kernels.sessions import SessionKernels
from cellwright.server.store.folder import runtime_folder
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager

BLAS = "a = np.random.rand(300, 300); s = float((a @ a).sum()); assert s > 0"
FOREST = (
    "p = np.random.rand(500, 5); q = p[:, 0] > .5\n"
    "assert HistGradientBoostingClassifier(max_iter=3).fit(p, q).score(p, q)"
)
THREADS = (
    "import threading, time, json\nstop = threading.Event()\ndef work():\n"
    "    while not stop.is_set(): json.dumps(list(range(200))); (np.ones((200, 200)) @ np.ones((200, 200))).sum()\n"
    "for _ in range(2): threading.Thread(target=work, daemon=True).start()"
)
LOADS = {
    "nothing": ("", ""),
    "BLAS": ("", BLAS),
    "scikit-learn": ("from sklearn.ensemble import HistGradientBoostingClassifier", FOREST),
    "an event loop's task": (
        "import asyncio\nn = [0]\nasync def tick():\n    while True: n[0] += 1; await asyncio.sleep(.001)\n"
        "task = asyncio.create_task(tick())",
        BLAS,
    ),
    "much printed": ("", "for i in range(300): print('x' * 100)"),
    "1 GB held": ("big = np.ones(134_217_728)", "assert big[-1] == 1"),
    "user's threads": (THREADS, BLAS),
}


@dataclass
class Tally:
    """What happened under one load."""

    copied: int = 0
    back: int = 0
    refused: int = 0
    hurt: list[str] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)
    ways_back: list[float] = field(default_factory=list)


async def cell(kernel: KernelConnection, source: str) -> None:
    """Runs a cell; raises KernelError if it did not end well."""
    async with asyncio.timeout(60):
        async for event in Execution(kernel, str(uuid4()), source).run():
            if isinstance(event, Finished) and event.status != "ok":
                raise KernelError(f"{event.status} {event.cause}")


async def cycles(kernels: SessionKernels, name: str, count: int, folder: Path) -> Tally:
    """Runs `count` cycles under a load."""
    setup, work = LOADS[name]
    tally = Tally()
    kernel = await kernels.start(name, None, folder)
    await cell(kernel, f"import numpy as np\n{setup}\nx = -1")
    for number in range(count):
        try:
            await cell(kernel, f"{work}\nx = {number}")
            try:
                copy = await kernels.copy(name)
            except CopyRefused:
                tally.refused += 1
                await cell(kernel, f"{work}\nassert x == {number}")
                continue
            tally.copied += 1
            tally.pauses.append(copy.pause_ms)
            await cell(kernel, f"{work}\nassert x == {number}; x = 'later'")
            began = time.perf_counter()
            kernel = await kernels.go_back(name, copy)
            await cell(kernel, f"assert x == {number}")
            tally.ways_back.append((time.perf_counter() - began) * 1000)
            tally.back += 1
        except (KernelError, TimeoutError) as error:
            tally.hurt.append(f"cycle {number}: {error!r}")
            with contextlib.suppress(Exception):
                await kernels.end(name)
            kernel = await kernels.start(name, None, folder)
            await cell(kernel, f"import numpy as np\n{setup}\nx = -1")
    await kernels.end(name)
    return tally


async def burn(kernels: SessionKernels, folder: Path) -> None:
    """Keeps another session computing."""
    kernel = await kernels.start("beside", None, folder)
    while True:
        await cell(kernel, f"import numpy as np\nfor _ in range(20): {BLAS}")


async def main() -> None:
    """Prints a line a load."""
    total = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lock = os.open(folder / "owner.lock", os.O_RDWR | os.O_CREAT)
        fcntl.flock(lock, fcntl.LOCK_EX)
        keeping = Keeping(str(runtime_folder(folder)), str(folder / "owner.lock"), 5.0, 20_000, 1 << 24)
        manager = AsyncMappingKernelManager(kernel_spec_manager=KernelSpecManager())
        kernels = SessionKernels(manager, keeping, "cellwright", 1)
        burning = asyncio.create_task(burn(kernels, folder))
        print(
            f"{'load':<22}{'copies':>8}{'back':>6}{'refused':>9}{'hurt':>6}{'pause ms':>10}{'back ms':>9}{'worst':>8}"
        )
        try:
            for load in LOADS:
                tally = await cycles(kernels, load, -(-total // len(LOADS)), folder)
                figures = ""
                if tally.ways_back:
                    pause, way = statistics.median(tally.pauses), statistics.median(tally.ways_back)
                    figures = f"{pause:>10.1f}{way:>9.1f}{max(tally.ways_back):>8.1f}"
                told = f"{tally.copied:>8}{tally.back:>6}{tally.refused:>9}{len(tally.hurt):>6}"
                print(f"{load:<22}{told}{figures}", flush=True)
                for line in tally.hurt[:3]:
                    print(f"    {line}")
        finally:
            burning.cancel()
            await asyncio.gather(burning, return_exceptions=True)
            await kernels.close()
            manager.context.destroy(linger=0)


if __name__ == "__main__":
    asyncio.run(main())
