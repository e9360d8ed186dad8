"""Kernels without a session, for tests of kernels alone."""

from __future__ import annotations

import asyncio
import fcntl
import os
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from cellwright.kernels.client import KernelConnection
from cellwright.kernels.execution import Execution, Finished
from cellwright.kernels.inside.keeping import Keeping
from cellwright.kernels.provisioner import CellwrightProvisioner
from cellwright.kernels.sessions import SessionKernels
from cellwright.notebooks.outputs import OutputArea
from cellwright.server.store.folder import runtime_folder
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager

INLINE_BYTES = 20_000


MANAGERS: list[AsyncMappingKernelManager] = []


def manager() -> AsyncMappingKernelManager:
    MANAGERS.append(AsyncMappingKernelManager(kernel_spec_manager=KernelSpecManager()))
    return MANAGERS[-1]


@pytest.fixture(autouse=True)
def _managers() -> Iterator[None]:
    """Ends the sockets of every manager: left to the garbage collector, they would hold it for ever."""
    yield
    while MANAGERS:
        MANAGERS.pop().context.destroy(linger=0)


@pytest.fixture
def keeping(tmp_path: Path) -> Keeping:
    lock = tmp_path / "owner.lock"
    handle = os.open(lock, os.O_RDWR | os.O_CREAT)
    fcntl.flock(handle, fcntl.LOCK_EX)
    return Keeping(str(runtime_folder(tmp_path)), str(lock), 5.0, INLINE_BYTES, 1 << 24)


@pytest.fixture
async def kernels(keeping: Keeping) -> AsyncIterator[SessionKernels]:
    opened = SessionKernels(manager(), keeping, "cellwright")
    yield opened
    await opened.close()
    assert os.listdir(keeping.folder) == [] or all(n.endswith(("spool", "stdout")) for n in os.listdir(keeping.folder))
    CellwrightProvisioner.keeping = None


@pytest.fixture
async def kernel(kernels: SessionKernels, tmp_path: Path) -> KernelConnection:
    return await kernels.start("s", None, tmp_path)


async def run(kernel: KernelConnection, source: str, **more: object) -> tuple[Finished, list[dict]]:
    area = OutputArea()
    execution_id = more.pop("execution_id", None) or str(uuid.uuid4())
    keeping = CellwrightProvisioner.keeping
    folder = Path(keeping.folder) if keeping is not None else None
    async with asyncio.timeout(60):
        async for event in Execution(kernel, execution_id, source, folder=folder, **more).run():
            if isinstance(event, Finished):
                return event, area.outputs
            area.apply(event)
    raise AssertionError("the execution did not end")
