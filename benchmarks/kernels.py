"""Kernels beside their peers, in one run: start, memory, output, saving and bringing back.

`make bench`, or `python -m benchmarks.kernels [--peers PYTHON]` with an interpreter that has the peers installed.
Medians of interleaved rounds; trust the ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import json
import os
import shutil
import statistics
import subprocess
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
from tornado.httpclient import AsyncHTTPClient, HTTPRequest
from tornado.websocket import websocket_connect

from tests.jupyter import JupyterServer

FRAME = "import pandas as pd; pd.DataFrame({'a': range(3)}).describe()"
FIGURE = "import matplotlib.pyplot as plt; plt.plot([1, 2]); plt.show()"
ROUNDS, AT_ONCE, MANY = 7, 20, (50, 200)
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
    await manager.start_kernel(stderr=subprocess.DEVNULL)
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
    await NotebookClient(notebook, kernel_name="python3").async_execute(stderr=subprocess.DEVNULL)


async def over_rest(server: JupyterServer, source: str) -> Callable[[], Awaitable[None]]:
    """jupyter_server as a front end uses it: a kernel by REST, its channels by WebSocket."""
    token = {"Authorization": f"token {server.token}"}
    client = AsyncHTTPClient()
    made = await client.fetch(
        f"{server.url}api/kernels", method="POST", headers=token, body=json.dumps({"name": "python3"})
    )
    kernel = json.loads(made.body)["id"]
    url = f"ws{server.url.removeprefix('http')}api/kernels/{kernel}/channels?session_id={uuid.uuid4().hex}"
    channels = await websocket_connect(HTTPRequest(url, headers=token))
    header = {
        "msg_id": uuid.uuid4().hex,
        "msg_type": "execute_request",
        "version": "5.3",
        "username": "",
        "session": "s",
    }
    content = {"code": source, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False}
    message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
    await channels.write_message(json.dumps({**message, "buffers": []}))
    while True:
        said = json.loads(str(await channels.read_message()))
        if said["channel"] == "shell" and said["parent_header"].get("msg_id") == header["msg_id"]:
            assert said["content"]["status"] == "ok", said
            break

    async def end() -> None:
        channels.close()
        await client.fetch(f"{server.url}api/kernels/{kernel}", method="DELETE", headers=token)

    return end


async def ours(opened: SessionKernels, source: str) -> Callable[[], Awaitable[None]]:
    name = str(uuid.uuid4())
    await run(await opened.start(name, None, Path("/tmp")), source)
    return lambda: opened.end(name)


def peer(python: str, script: str, *arguments: str) -> Any:
    """What a peer's script prints, run by the peers' interpreter."""
    path = Path(__file__).parent / "peers" / script
    environment = {**os.environ, "PATH": f"{Path(python).parent}:{os.environ['PATH']}"}
    ran = subprocess.run([python, str(path), *arguments], capture_output=True, text=True, env=environment)
    if ran.returncode != 0:
        raise RuntimeError(f"{script} failed:\n{ran.stderr[-2_000:]}")
    return json.loads(ran.stdout.splitlines()[-1])


async def starts(python: str | None) -> None:
    """From the request to the first answer."""
    print(f"\nstart to the first answer, ms (median of {ROUNDS})")
    print(f"{'':<24}{'DataFrame':>12}{'ratio':>8}{'figure':>12}{'ratio':>8}")
    times: dict[str, dict[str, list[float]]] = {}
    async with contextlib.AsyncExitStack() as stack:
        forked = await stack.enter_async_context(kernels(1))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = JupyterServer(folder, folder, folder / "data", CELLWRIGHT_WARM_KERNELS="0").start()
        stack.callback(server.stop)

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
                await timed("REST and WebSocket", kind, lambda source=source: over_rest(server, source))
                await settled(forked, 1)
                await timed("ours, a spare", kind, lambda source=source: ours(forked, source))
                assert forked.zygote is not None
                await settled(forked, 1)
                spares, forked.zygote._spares = forked.zygote._spares, []
                await timed("ours, forked on demand", kind, lambda source=source: ours(forked, source))
                forked.zygote._spares.extend(spares)
    if python is not None:
        frames = peer(python, "autogen_executor.py", *[FRAME] * ROUNDS)
        figures = peer(python, "autogen_executor.py", *[FIGURE] * ROUNDS)
        times["AutoGen's executor"] = {"frame": frames, "figure": figures}
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
    """Proportional set size a kernel, after a DataFrame and a figure. Plain ones share nothing: fifty will do."""
    found: dict[tuple[str, int], float] = {}
    for name, warm, many in (("plain", 0, MANY[0]), *(("forked", 1, many) for many in MANY)):
        async with kernels(warm) as opened:
            for _ in range(0, many, 10):
                await asyncio.gather(*(ours(opened, f"{FRAME}\n{FIGURE}") for _ in range(10)))
            pids = [opened.manager.get_kernel(k).provisioner.pid for k in opened.manager.list_kernel_ids()]
            found[name, many] = pss_mib(pids)
    plain_mib = found["plain", MANY[0]]
    print(f"\nkernels after pandas and a figure, PSS each: {MANY[0]} plain {plain_mib:.1f} MiB", end="")
    for many in MANY:
        print(f"; {many} forked {found['forked', many]:.1f} MiB ({plain_mib / found['forked', many]:.1f}×)", end="")
    print()


async def cells() -> None:
    """A cell on a kernel that runs: plain jupyter_client on a plain kernel, and our client on ours."""
    print(f"\n{'a cell, ms':<26}{'plain':>8}{'ours':>8}{'ratio':>8}")
    manager = AsyncKernelManager(kernel_name="python3")
    await manager.start_kernel(stderr=subprocess.DEVNULL)
    client = manager.client()
    client.start_channels()
    await client.wait_for_ready(timeout=60)
    async with kernels(0) as opened:
        kernel = await opened.start("s", None, Path("/tmp"))
        for name, source in (("x = 1", "x = 1"), ("DataFrame", FRAME), ("figure", FIGURE)):
            peers, mine = [], []
            for _ in range(25):
                began = time.perf_counter()
                await client.execute_interactive(source, output_hook=lambda message: None, timeout=60)
                peers.append((time.perf_counter() - began) * 1000)
                began = time.perf_counter()
                await run(kernel, source)
                mine.append((time.perf_counter() - began) * 1000)
            one, other = statistics.median(peers), statistics.median(mine)
            print(f"{name:<26}{one:>8.1f}{other:>8.1f}{other / one:>7.1f}×")
    client.stop_channels()
    await manager.shutdown_kernel(now=True)


PRINTED = {
    "20,000 flushed prints": ("for i in range(20_000): print(i, flush=True)", ROUNDS),
    "1,000,000 printed lines": ("for i in range(1_000_000): print(i)", 3),
    "100 MB at once": ("print('x' * 100_000_000)", 3),
    "50 figures": (f"{FIGURE}\nfor _ in range(49): plt.plot([1]); plt.show()", 3),
}


async def outputs() -> None:
    """Cells that say much: plain jupyter_client, which reads all, and ours, which bounds it in the kernel."""
    print(f"\n{'cells that say much, s':<26}{'plain':>8}{'ours':>8}{'ratio':>8}")
    manager = AsyncKernelManager(kernel_name="python3")
    await manager.start_kernel(stderr=subprocess.DEVNULL)
    client = manager.client()
    client.start_channels()
    await client.wait_for_ready(timeout=60)
    async with kernels(0) as opened:
        kernel = await opened.start("s", None, Path("/tmp"))
        for name, (source, rounds) in PRINTED.items():
            peers, mine = [], []
            for _ in range(rounds):
                began = time.perf_counter()
                await client.execute_interactive(source, output_hook=lambda message: None, timeout=300)
                peers.append(time.perf_counter() - began)
                began = time.perf_counter()
                await run(kernel, source)
                mine.append(time.perf_counter() - began)
            one, other = statistics.median(peers), statistics.median(mine)
            print(f"{name:<26}{one:>8.2f}{other:>8.2f}{one / other:>7.1f}×")
    client.stop_channels()
    await manager.shutdown_kernel(now=True)


async def saving(python: str | None) -> None:
    """A table of one gigabyte: stored, stored again unchanged, brought back; beside making it anew, and Kishu."""
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
        copy = await opened.copy("s")
        ways_back = []
        for _ in range(ROUNDS):
            await run(kernel, "n = -1")
            began = time.perf_counter()
            kernel = await opened.go_back("s", copy)
            await run(kernel, "assert n == 1; big.iloc[0, 0]")
            ways_back.append((time.perf_counter() - began) * 1000)
    print(f"\na table of 1 GB: made in {made:.2f} s; stored in {saved:.2f} s; again after a small change in")
    print(f"  {again:.2f} s, {written:,} bytes written; a new kernel with it after {woken * 1000:.0f} ms")
    print(f"  ({made / woken:.0f}× sooner than making it), and {read:.2f} s for its first use in full")
    way_back = statistics.median(ways_back)
    print(f"  by a sleeping copy: {copy.pause_ms:.0f} ms to make; back, with the next cell's answer, in ", end="")
    print(f"{way_back:.0f} ms ({made * 1000 / way_back:.0f}× sooner than making it)")
    if python is not None:
        theirs = peer(python, "kishu_checkout.py", GIGABYTE)
        print(f"  Kishu: stored in {theirs['stored_s']:.2f} s, again after a small change in ", end="")
        print(f"{theirs['stored_again_s']:.2f} s, back in {theirs['back_s']:.2f} s", end="")
        print(f" ({theirs['back_s'] * 1000 / way_back:.0f}× as long as by a copy)")


async def main() -> None:
    """Everything."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--peers", help="an interpreter that has requirements/peers.txt installed")
    python = parser.parse_args().peers
    await starts(python)
    await at_once()
    await cells()
    await outputs()
    await memory()
    await saving(python)


if __name__ == "__main__":
    asyncio.run(main())
