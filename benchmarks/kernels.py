"""Kernels beside their peers, in one run: start, memory, output, saving and bringing back.

`make bench` or `python -m benchmarks.kernels`. Medians of interleaved rounds; trust the ratios.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import statistics
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import nbformat
import psutil
from cellwright.kernels import namespace
from cellwright.kernels.client import KernelConnection
from cellwright.kernels.execution import Execution, Finished
from cellwright.kernels.inside.keeping import Keeping
from cellwright.kernels.sessions import SessionKernels
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from nbclient import NotebookClient

FRAME = "import pandas as pd; pd.DataFrame({'a': range(3)}).describe()"
FIGURE = "import matplotlib.pyplot as plt; plt.plot([1, 2]); plt.show()"
ROUNDS, AT_ONCE, MANY = 7, 20, 50
GIGABYTE = "import numpy as np, pandas as pd\nbig = pd.DataFrame(np.random.rand(12_500_000, 10))"
SMALL_CHANGE = "n = globals().get('n', 0) + 1"


async def run(kernel: KernelConnection, source: str) -> Finished:
    async for event in Execution(kernel, str(uuid.uuid4()), source).run():
        if isinstance(event, Finished):
            assert event.status == "ok", event
            return event
    raise AssertionError


@contextlib.asynccontextmanager
async def kernels(warm: int) -> AsyncIterator[SessionKernels]:
    """Ours, with a zygote and that many spares; 0 for neither."""
    folder = tempfile.mkdtemp(prefix="cw-")
    lock = os.open(f"{folder}/lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    manager = AsyncMappingKernelManager(kernel_spec_manager=KernelSpecManager())
    opened = SessionKernels(manager, Keeping(folder, f"{folder}/lock", 60.0, 1 << 20, 1 << 30), "cellwright", warm)
    try:
        if warm:
            await settled(opened, warm)
        yield opened
    finally:
        await opened.close()
        manager.context.destroy(linger=0)
        os.close(lock)
        shutil.rmtree(folder)


async def settled(opened: SessionKernels, spares: int) -> None:
    while opened.spares < spares:
        await asyncio.sleep(0.02)
    await asyncio.sleep(0.3)


async def plain(source: str) -> Callable[[], Awaitable[None]]:
    """jupyter_client as its documentation shows it; returns what ends the kernel."""
    manager = AsyncKernelManager(kernel_name="python3")
    await manager.start_kernel()
    client = manager.client()
    client.start_channels()
    await client.wait_for_ready(timeout=60)
    await client.execute_interactive(source, output_hook=lambda message: None)

    async def end() -> None:
        client.stop_channels()
        await manager.shutdown_kernel(now=True)

    return end


async def with_nbclient(source: str) -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    await NotebookClient(notebook, kernel_name="python3").async_execute()


async def ours(opened: SessionKernels, source: str) -> Callable[[], Awaitable[None]]:
    name = str(uuid.uuid4())
    await run(await opened.start(name, None, Path("/tmp")), source)
    return lambda: opened.end(name)


async def starts() -> None:
    """From the request to the first answer."""
    print(f"\nstart to the first answer, ms (median of {ROUNDS})")
    print(f"{'':<24}{'DataFrame':>12}{'ratio':>8}{'figure':>12}{'ratio':>8}")
    times: dict[str, dict[str, list[float]]] = {}
    async with kernels(1) as forked:

        async def timed(name: str, kind: str, begin: Callable[[], Awaitable[Any]]) -> None:
            began = time.perf_counter()
            end = await begin()
            times.setdefault(name, {}).setdefault(kind, []).append((time.perf_counter() - began) * 1000)
            if end is not None:
                await end()

        for _ in range(ROUNDS):
            for kind, source in (("frame", FRAME), ("figure", FIGURE)):
                await timed("plain jupyter_client", kind, lambda source=source: plain(source))
                await timed("nbclient, with its end", kind, lambda source=source: with_nbclient(source))
                await settled(forked, 1)
                await timed("ours, a spare", kind, lambda source=source: ours(forked, source))
                assert forked.zygote is not None
                await settled(forked, 1)
                spares, forked.zygote._spares = forked.zygote._spares, []
                await timed("ours, forked on demand", kind, lambda source=source: ours(forked, source))
                forked.zygote._spares.extend(spares)
    base = {kind: statistics.median(found) for kind, found in times["plain jupyter_client"].items()}
    for name, kinds in times.items():
        shown = ""
        for kind in ("frame", "figure"):
            middle = statistics.median(kinds[kind])
            shown += f"{middle:>12.0f}{base[kind] / middle:>7.1f}×"
        print(f"{name:<24}{shown}")


async def at_once() -> None:
    """Twenty at the same time, each to its first DataFrame."""
    began = time.perf_counter()
    ends = await asyncio.gather(*(plain(FRAME) for _ in range(AT_ONCE)))
    peer = time.perf_counter() - began
    await asyncio.gather(*(end() for end in ends))
    async with kernels(1) as forked:
        began = time.perf_counter()
        await asyncio.gather(*(ours(forked, FRAME) for _ in range(AT_ONCE)))
        mine = time.perf_counter() - began
    print(f"\n{AT_ONCE} at once, to the first DataFrame: plain {peer:.1f} s, ours {mine:.1f} s ({peer / mine:.1f}×)")


def pss_mib(pids: list[int]) -> float:
    return sum(psutil.Process(pid).memory_full_info().pss for pid in pids) / len(pids) / (1 << 20)


async def memory() -> None:
    """Proportional set size a kernel, after a DataFrame and a figure."""
    found = {}
    for name, warm in (("plain start", 0), ("forked", 1)):
        async with kernels(warm) as opened:
            await asyncio.gather(*(ours(opened, f"{FRAME}\n{FIGURE}") for _ in range(MANY)))
            pids = [opened.manager.get_kernel(k).provisioner.pid for k in opened.manager.list_kernel_ids()]
            found[name] = pss_mib(pids)
    ratio = found["plain start"] / found["forked"]
    print(f"\n{MANY} kernels after pandas and a figure, PSS each: ", end="")
    print(f"plain start {found['plain start']:.1f} MiB, forked {found['forked']:.1f} MiB ({ratio:.1f}×)")


async def saving() -> None:
    """A table of one gigabyte: stored, stored again unchanged, brought back; beside making it anew."""
    async with kernels(1) as opened:
        kernel = await opened.start("s", None, Path("/tmp"))
        began = time.perf_counter()
        await run(kernel, GIGABYTE)
        made = time.perf_counter() - began
        folder = Path(tempfile.mkdtemp(dir="/var/tmp"))
        began = time.perf_counter()
        first = await namespace.save(kernel, folder, [], None)
        saved = time.perf_counter() - began
        await run(kernel, SMALL_CHANGE)
        began = time.perf_counter()
        second = await namespace.save(kernel, folder, list(first["sizes"]), None)
        again = time.perf_counter() - began
        written = sum(second["sizes"][name] for name in second["written"])
        await settled(opened, 1)
        began = time.perf_counter()
        other = await opened.start("t", None, Path("/tmp"))
        await namespace.restore(other, folder, second)
        woken = time.perf_counter() - began
        await run(other, "big.shape")
        began = time.perf_counter()
        await run(other, "big.sum()")
        read = time.perf_counter() - began
        shutil.rmtree(folder)
    print(f"\na table of 1 GB: made in {made:.2f} s; stored in {saved:.2f} s; again after a small change in")
    print(f"  {again:.2f} s, {written:,} bytes written; a new kernel with it after {woken * 1000:.0f} ms")
    print(f"  ({made / woken:.0f}× sooner than making it), and {read:.2f} s for its first use in full")


async def main() -> None:
    """Everything."""
    await starts()
    await at_once()
    await memory()
    await saving()


if __name__ == "__main__":
    asyncio.run(main())
