"""Saves a kernel's namespace and brings it back, for any IPython kernel, with or without a disk in common."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from cellwright.kernels import injected
from cellwright.kernels.client import KernelConnection
from cellwright.kernels.errors import KernelUnreachable

Manifest = dict[str, Any]
SAVE_S = 600.0
CHUNK_BYTES = 4 << 20


async def _ask(connection: KernelConnection, do: str, **arguments: Any) -> Any:
    """Has the kernel do it by our own version of the code, whatever is installed where it runs."""
    request = json.dumps({"do": do, **arguments})
    try:
        return await connection.evaluate(injected.call("checkpoint", f"call({request!r})"), SAVE_S)
    except KernelUnreachable:
        if connection.execution_state == "busy":
            await connection.interrupt()
        raise


async def save(
    connection: KernelConnection, folder: Path, known: Collection[str], limit: int | None, budget: int | None = None
) -> Manifest:
    """Writes the objects that are not `known` into `folder`; returns the manifest. Raises KernelUnreachable.

    `limit` is the most that one variable may take, in bytes, `budget` all of them: the largest are then left out.
    """
    asked = {"known": list(known), "limit": limit, "budget": budget}
    if connection.shares_folders:
        return dict(await _ask(connection, "save", folder=str(folder), **asked))
    there = await _ask(connection, "temporary")
    try:
        manifest = dict(await _ask(connection, "save", folder=there, **asked))
        await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True, mode=0o700)
        for name in manifest["written"]:
            for start in range(0, max(1, manifest["sizes"][name]), CHUNK_BYTES):
                told = await _ask(connection, "read", folder=there, name=name, start=start, length=CHUNK_BYTES)
                await asyncio.to_thread(_append, folder / name, base64.b64decode(told))
        return manifest
    finally:
        await _ask(connection, "remove", folder=there)


async def restore(
    connection: KernelConnection, folder: Path, manifest: Manifest, names: Collection[str] | None = None
) -> dict[str, Any]:
    """Puts the variables of a manifest, whose objects lie in `folder`, into the namespace: all, or those named.

    Only the objects that are needed for them have to be there.

    Returns `{"restored": [name], "failed": [{name, reason}]}`; raises KernelUnreachable.
    """
    chosen = None if names is None else list(names)
    if connection.shares_folders:
        return dict(await _ask(connection, "restore", folder=str(folder), manifest=manifest, names=chosen))
    there = await _ask(connection, "temporary")
    try:
        for name in [name for name in manifest["sizes"] if (folder / name).exists()]:
            for start in range(0, max(1, manifest["sizes"][name]), CHUNK_BYTES):
                data = base64.b64encode(await asyncio.to_thread(_read, folder / name, start)).decode()
                await _ask(connection, "write", folder=there, name=name, data=data)
        return dict(await _ask(connection, "restore", folder=there, manifest=manifest, names=chosen))
    finally:
        await _ask(connection, "remove", folder=there)


def _append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def _read(path: Path, start: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(CHUNK_BYTES)
