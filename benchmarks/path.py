"""A cell through the whole path (HTTP → log → kernel → log → SSE) beside raw jupyter_client, in one run.

`make bench`. Prints milliseconds and, what counts, their ratio; and what the extension costs a server's start.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from httpx_sse import connect_sse
from jupyter_client.manager import start_new_async_kernel

from tests.jupyter import JupyterServer

CELLS = {
    "x = 1": "x = 1",
    "DataFrame": "import pandas as pd; pd.DataFrame({'a': range(100)}).describe()",
    "figure": "import matplotlib.pyplot as plt; plt.plot(range(100)); plt.show()",
}
ROUNDS = 25


async def raw() -> dict[str, float]:
    """Medians of plain jupyter_client on a plain kernel: send, then wait for reply and idle."""
    manager, client = await start_new_async_kernel(kernel_name="python3")
    found = {}
    try:
        for name, source in CELLS.items():
            times = []
            for _ in range(ROUNDS + 2):
                began = time.perf_counter()
                message_id = client.execute(source)
                while True:
                    message = await client.get_iopub_msg(timeout=30)
                    ours = message["parent_header"].get("msg_id") == message_id
                    if ours and message["content"].get("execution_state") == "idle":
                        break
                await client.get_shell_msg(timeout=30)
                times.append(time.perf_counter() - began)
            found[name] = statistics.median(times[2:]) * 1000
    finally:
        client.stop_channels()
        await manager.shutdown_kernel(now=True)
    return found


def ours(server: JupyterServer) -> dict[str, float]:
    """Medians from the request to the turn's last event, everything durable in between."""
    session = server.call("POST", "/sessions", json={})["id"]
    found = {}
    for name, source in CELLS.items():
        times = []
        for _ in range(ROUNDS + 2):
            began = time.perf_counter()
            with connect_sse(server.http, "POST", f"/sessions/{session}/execute", json={"source": source}) as events:
                for event in events.iter_sse():
                    if event.event == "cell.completed":
                        times.append(time.perf_counter() - began)
        found[name] = statistics.median(times[2:]) * 1000
    return found


def started(enabled: bool, folder: Path) -> float:
    """Seconds until a server answers, with or without the extension."""
    extensions = {"cellwright.extension": enabled, "jupyterlab": False}
    code = f"""
import time; began = time.perf_counter()
from jupyter_server.serverapp import ServerApp
app = ServerApp()
app.initialize(["--no-browser", "--allow-root", "--ServerApp.port=0", "--ServerApp.ip=127.0.0.1",
                "--ServerApp.root_dir={folder}", "--ServerApp.jpserver_extensions={extensions}"])
print(time.perf_counter() - began)
"""
    environment = {**os.environ, "CELLWRIGHT_DATA_DIR": str(folder.parent / "load")}
    # As where it is installed: compiled once, then read.
    environment["PYTHONPYCACHEPREFIX"] = str(folder.parent / "compiled")
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    return float(run.stdout.split()[-1])


def main() -> None:
    """Runs all, interleaved where order could matter."""
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        (folder / "root").mkdir()
        server = JupyterServer(folder, folder / "root", folder / "data").start()
        stack.callback(server.stop)
        runs: list[tuple[dict[str, float], dict[str, float]]] = []
        for _ in range(2):
            runs.append((asyncio.run(raw()), ours(server)))
        print(f"{'a cell':<12}{'raw ms':>10}{'whole path ms':>16}{'ratio':>8}")
        for cell in CELLS:
            plain = min(run[0][cell] for run in runs)
            whole = min(run[1][cell] for run in runs)
            print(f"{cell:<12}{plain:>10.1f}{whole:>16.1f}{whole / plain:>8.1f}")
        best: Callable[[bool], float] = lambda enabled: min(started(enabled, folder / "root") for _ in range(4))  # noqa: E731
        without, with_it = best(False), best(True)
        print(
            f"\nserver start without the extension {without:.2f} s, with it {with_it:.2f} s ({with_it / without:.2f}×)"
        )


if __name__ == "__main__":
    main()
