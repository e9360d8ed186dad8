"""Sleeping copies of a session's kernel, and the way back to one: milliseconds, however much it holds.

The way back is a new process in the old one's place: same kernel id, same sockets, so that every client stays
connected. The living kernel is ended only after the new one has answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from cellwright.kernels.client import KernelConnection
from cellwright.kernels.errors import KernelNotStarted, KernelUnreachable
from cellwright.kernels.forker import ForkedProcess, Forker
from cellwright.kernels.registry import Registry
from cellwright.kernels.wires import Message, ZmqWire

COPY_S = 10.0
ANSWER_S = 5.0


class CopyRefused(KernelUnreachable):
    """No copy of this kernel can be made now; the text says why. The kernel is as it was."""


@dataclass(frozen=True)
class SleepingCopy:
    """A process that holds a kernel's memory as it was. `pause_ms` is what making it cost the kernel."""

    forker: Forker
    pid: int
    pause_ms: float
    lost: tuple[str, ...]
    """What the copy does not have, in words: asyncio tasks, child processes."""

    bound: tuple[tuple[str, str], ...] = ()
    """Variables that hold on to a file itself, with their types: not to one that is put in its place."""

    def drop(self) -> None:
        """Ends the copy; kernels that it made live on."""
        if self.forker.handle is not None:
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(self.forker.handle, signal.SIGKILL)
        self.forker.close()


async def take(connection: KernelConnection, folder: Path) -> SleepingCopy:
    """Makes a copy of a kernel of ours that is not busy; raises CopyRefused or KernelDied.

    `folder` is where its sockets are. The copy has answered when this returns.
    """
    if not connection.ours or not connection.shares_folders:
        raise CopyRefused("Only Cellwright's own kernels, on this machine and in no sandbox, can be copied.")
    path = folder / f"copy-{uuid4().hex[:8]}"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.setblocking(False)
    try:
        listener.bind(str(path))
        listener.listen(1)
        async with asyncio.timeout(COPY_S):
            told = await connection.ask("cellwright_copy_request", {"path": str(path)})
            if "refused" in told:
                raise CopyRefused(f"The kernel cannot be copied: {told['refused']}.")
            channel, _ = await asyncio.get_running_loop().sock_accept(listener)
            forker = Forker(channel)
            try:
                said = await forker.hear()
                if said is None:
                    raise CopyRefused("The copy of the kernel did not come up.")
                bound = tuple((str(name), str(kind)) for name, kind in told["bound"])
                return SleepingCopy(forker, int(said["pid"]), float(told["pause_ms"]), tuple(told["lost"]), bound)
            except BaseException:
                forker.close()
                raise
    except (KeyError, TypeError, ValueError) as error:
        raise CopyRefused(f"What the kernel says of its copy is not understood: {error!r}") from error
    except TimeoutError:
        raise CopyRefused("The kernel did not answer in time; it may be busy.") from None
    finally:
        listener.close()
        path.unlink(missing_ok=True)


async def wake(copy: SleepingCopy, registry: Registry, files: str, info: dict[str, Any]) -> tuple[ForkedProcess, str]:
    """A kernel made from the copy that has answered, on sockets of its own, and the name of its files.

    `files` and `info` (connection info) are those of the kernel whose place it is to take. Raises KernelNotStarted.
    """
    name = str(uuid4())
    mine = {**info, "ip": str(registry.folder / name[:8])}
    place = registry.connection_file(name)
    place.touch(mode=0o600)
    place.write_text(json.dumps({k: v.decode() if isinstance(v, bytes) else v for k, v in mine.items()}))
    process = None
    try:
        try:
            process = await copy.forker.fork({"argv": ["-f", str(place)], "known_as": files})
        except OSError as error:
            raise KernelNotStarted(f"the copy is gone: {error}") from error
        await _answers(mine)
    except BaseException:
        if process is not None:
            process.discard()
        registry.remove_files(name)
        raise
    return process, name


async def _answers(info: dict[str, Any]) -> None:
    """Returns when a kernel has answered a request; raises KernelNotStarted."""
    wire = ZmqWire(info)
    replied: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

    def heard(message: Message) -> None:
        if not replied.done():
            replied.set_result(message)

    wire.open(lambda _message: None, heard)
    try:
        await wire.send(wire.session.msg("kernel_info_request", {}))
        async with asyncio.timeout(ANSWER_S):
            await replied
    except TimeoutError:
        raise KernelNotStarted("the kernel that the copy made does not answer") from None
    finally:
        await wire.close()


def move_in(registry: Registry, name: str, files: str, info: dict[str, Any]) -> None:
    """Gives a woken kernel's sockets the names of the one it replaces: clients come back to it by themselves."""
    for kind in ("shell", "iopub", "stdin", "control", "hb"):
        port = info[f"{kind}_port"]
        os.replace(registry.folder / f"{name[:8]}-{port}", registry.folder / f"{files[:8]}-{port}")
    registry.connection_file(name).unlink(missing_ok=True)
