"""Kernels in a sandbox of bubblewrap, where it is installed and allowed."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import subprocess
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from cellwright.kernels import namespace
from cellwright.kernels.client import KernelConnection
from cellwright.kernels.errors import KernelNotStarted
from cellwright.kernels.execution import Execution, Finished, reattach
from cellwright.kernels.inside.keeping import Keeping
from cellwright.kernels.provisioner import CellwrightProvisioner
from cellwright.kernels.sessions import SessionKernels

from tests.integration.conftest import manager, run


def _works() -> bool:
    bwrap = shutil.which("bwrap")
    tried = [str(bwrap), "--ro-bind", "/", "/", "--unshare-pid", "--proc", "/proc", "--dev", "/dev", "true"]
    return bwrap is not None and subprocess.run(tried, capture_output=True).returncode == 0


pytestmark = pytest.mark.skipif(not _works(), reason="bubblewrap is not installed, or not allowed here")


@pytest.fixture
async def isolated(keeping: Keeping) -> AsyncIterator[SessionKernels]:
    opened = SessionKernels(manager(), replace(keeping, isolation="network"), "cellwright", 1)
    yield opened
    await opened.close()
    CellwrightProvisioner.keeping = None
    assert os.listdir(keeping.folder) == []


@pytest.fixture
async def kernel(isolated: SessionKernels, tmp_path: Path) -> KernelConnection:
    (tmp_path / "work").mkdir()
    (tmp_path / "secret.txt").write_text("sk-of-the-server")
    return await isolated.start("s", None, tmp_path / "work")


async def test_a_kernel_in_a_sandbox(kernel: KernelConnection, tmp_path: Path) -> None:
    """It computes, shows and writes files into its workspace, and sees no other file, process or network."""
    source = (
        "import pandas as pd, matplotlib.pyplot as plt; plt.plot([1, 2]); plt.show(); open('made.txt', 'w').write('x')"
    )
    ended, outputs = await run(kernel, source)
    assert ended.status == "ok", outputs
    assert "image/png" in str(outputs)
    assert (tmp_path / "work" / "made.txt").read_text() == "x"
    source = f"""
import os, socket
hidden = ({str(tmp_path / "secret.txt")!r}, "/etc/shadow", {str(Path.cwd() / "README.md")!r})
assert not any(map(os.path.exists, hidden))
assert os.listdir(os.path.expanduser("~/.ssh")) == [] if os.path.exists(os.path.expanduser("~/.ssh")) else True
assert len([p for p in os.listdir("/proc") if p.isdigit()]) < 5
try: socket.create_connection(("127.0.0.1", 22), 1)
except OSError as error: print(error)
print(socket.if_nameindex())
"""
    ended, outputs = await run(kernel, source)
    assert ended.status == "ok", outputs
    assert "[(1, 'lo')]" in outputs[0]["text"]


async def test_interrupt_and_death(kernel: KernelConnection) -> None:
    """A limit interrupts the cell; a death is told with its code."""
    ended, _ = await run(kernel, "while True: pass", timeout_s=0.5)
    assert ended.status == "timeout"
    assert (await run(kernel, "1"))[0].status == "ok"
    ended, _ = await run(kernel, "import os; os._exit(3)")
    assert (ended.status, ended.cause) == ("kernel_died", "exit code 3")


async def test_spool_and_checkpoint(
    kernel: KernelConnection, isolated: SessionKernels, keeping: Keeping, tmp_path: Path
) -> None:
    """What a cell says is kept for a server that comes back; variables leave the sandbox and come back into another."""
    execution = str(uuid.uuid4())
    async for _ in Execution(kernel, execution, "kept = list(range(50_000)); print('said')").run():
        pass
    told = [event async for event in reattach(kernel, execution, Path(keeping.folder))]
    assert "said" in str(told)
    assert isinstance(told[-1], Finished)
    assert told[-1].status == "ok"
    manifest = await namespace.save(kernel, tmp_path / "out", [], None)
    other = await isolated.start("t", None, tmp_path / "work")
    assert (await namespace.restore(other, tmp_path / "out", manifest))["restored"] == ["kept"]
    assert (await run(other, "assert sum(kept) == 1249975000"))[0].status == "ok"


async def test_nobody_comes_back(keeping: Keeping, tmp_path: Path) -> None:
    """When the grace period ends, the kernel goes with its sandbox, its private folder and all other files."""
    lock = tmp_path / "its.lock"
    handle = os.open(lock, os.O_RDWR | os.O_CREAT)
    fcntl.flock(handle, fcntl.LOCK_EX)
    left = replace(keeping, isolation="files", grace_s=1.0, lock_file=str(lock))
    kernels = SessionKernels(manager(), left, "cellwright")
    try:
        kernel = await kernels.start("s", None, tmp_path)
        await run(kernel, "print(1)")
        assert os.listdir(keeping.folder) != []
        os.close(handle)
        async with asyncio.timeout(20):
            while os.listdir(keeping.folder):
                await asyncio.sleep(0.1)
    finally:
        await kernels.close()
        CellwrightProvisioner.keeping = None


async def test_no_way_around_it(isolated: SessionKernels, tmp_path: Path) -> None:
    """A kernelspec that would not be in a sandbox is refused, and nothing of it stays."""
    with pytest.raises(KernelNotStarted, match="kept apart"):
        await isolated.start("s", "python3", tmp_path)
    assert isolated.manager.list_kernel_ids() == []
