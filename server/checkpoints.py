"""Checkpoints: a kernel's variables in the object store, each buffer once by its content, with a report."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal

import structlog
from cellwright.kernels import injected, namespace
from cellwright.kernels.client import KernelConnection
from cellwright.kernels.errors import KernelUnreachable
from cellwright.server.artifacts import Artifacts
from cellwright.server.domain import Frozen, Session, SessionId, Sha256, Skipped, TurnId, new_id
from cellwright.server.errors import NotFound, StoreUnavailable
from cellwright.server.events import CheckpointCreated
from cellwright.server.store import postgres, queries

SQL = queries.load("checkpoints")
RENEW_S = 120.0
SMALL_BYTES = 4 << 20
"""Variables of so many bytes are compared with what is stored whatever cells seem to touch."""

log = structlog.get_logger(__name__)


class Checkpoint(Frozen):
    """Saved variables: `kept` by name, `skipped` with the reason."""

    id: str
    kind: Literal["hibernated", "named", "turn", "begin"]
    label: str | None
    turn_id: TurnId | None = None
    kept: list[str]
    skipped: list[Skipped]
    size_bytes: int
    manifest: dict[str, Any]


class Restored(Frozen):
    """What was brought back into a kernel, and what was not: not saved, or not readable there."""

    names: list[str]
    missing: list[Skipped]


class Checkpoints:
    """Saves and restores namespaces. `folder` is where kernels and server exchange objects."""

    def __init__(self, pool: postgres.Pool, artifacts: Artifacts, folder: Path, variable_limit: int | None) -> None:
        self._pool, self._artifacts, self._folder, self._limit = pool, artifacts, folder, variable_limit

    def prepare(self) -> None:
        """Removes what a server that crashed left half-done."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    async def save(
        self,
        session: Session,
        connection: KernelConnection,
        kind: Literal["hibernated", "named", "turn", "begin"],
        *,
        label: str | None = None,
        of_turn: TurnId | None = None,
        budget: int | None = None,
    ) -> CheckpointCreated:
        """Stores the namespace, but the largest of it where all would be more than a budget, in bytes.

        The checkpoint is there once the caller has appended the event.

        Raises KernelUnreachable or StoreUnavailable, and then nothing of it is visible.
        """
        async with postgres.acquired(self._pool) as database:
            known = {row["sha256"]: row["size_bytes"] for row in await database.fetch(SQL.known_objects, session.id)}
        folder = self._folder / new_id()
        try:
            manifest = await namespace.save(connection, folder, known, self._limit, budget)
            new_bytes = 0
            for sha256 in manifest["sizes"]:
                if sha256 in known:
                    continue
                # The kernel runs users' code: what it names is looked at before the store calls it by that name.
                size = await asyncio.to_thread(_verified, folder / sha256, sha256)
                await self._artifacts.keep(Sha256(sha256), folder / sha256, size)
                new_bytes += size
        except (KeyError, TypeError, ValueError) as error:
            raise KernelUnreachable(f"The kernel's checkpoint is not one: {error}") from error
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        del manifest["written"]
        return CheckpointCreated(
            of_turn=of_turn,
            checkpoint_id=new_id(),
            kind=kind,
            label=label,
            incarnation=session.kernel_incarnation,
            kept=[kept["name"] for kept in manifest["kept"]] + list(manifest["modules"]),
            skipped=[Skipped.model_validate(skipped) for skipped in manifest["skipped"]],
            size_bytes=sum(manifest["sizes"].values()),
            new_bytes=new_bytes,
            seconds=manifest.pop("seconds"),
            manifest=manifest,
        )

    async def to_wake(self, session: Session) -> Checkpoint | None:
        """What a hibernated session's next kernel starts from."""
        async with postgres.acquired(self._pool) as database:
            row = await database.fetchrow(SQL.to_wake, session.id, session.kernel_incarnation)
        return None if row is None else _checkpoint(row)

    async def get(self, session_id: SessionId, checkpoint_id: str) -> Checkpoint:
        """The checkpoint of that id; raises NotFound."""
        async with postgres.acquired(self._pool) as database:
            row = await database.fetchrow(SQL.checkpoint, session_id, checkpoint_id)
        if row is None:
            raise NotFound("checkpoint", checkpoint_id)
        return _checkpoint(row)

    def of_row(self, row: Any) -> Checkpoint:
        """A checkpoint as its row has it."""
        return _checkpoint(row)

    async def renew(
        self,
        connection: KernelConnection,
        checkpoint: Checkpoint,
        names: Collection[str],
        touched: Collection[str],
        made: Collection[str],
    ) -> dict[str, list[str]]:
        """Brings stored variables back that cells may have changed meanwhile, and lets those be that are as they were.

        Those are looked at that the cells have `touched`, and all that are small. Returns which of the `made` variables
        hold something of others as those are no more. Raises as `restore`.
        """
        chosen = [
            [name for name in group if name in names]
            for group, size in _groups(checkpoint.manifest, names)
            if size <= SMALL_BYTES or not {*touched}.isdisjoint(group)
        ]
        flat = [name for group in chosen for name in group]
        if not flat:
            await self.restore(connection, checkpoint, [])  # Cells drew from chance, and may have changed settings.
            return {}
        await connection.evaluate(injected.call("contrast", f"set_aside({flat!r})"), RENEW_S)
        await self.restore(connection, checkpoint, flat)
        settled = f"settle({chosen!r}, {sorted(made)!r})"
        return dict(await connection.evaluate(injected.call("contrast", settled), RENEW_S))

    async def set_out(self, connection: KernelConnection, checkpoint: Checkpoint | None) -> None:
        """Puts back what is no variable: of a checkpoint, or, of settings alone, as the kernel began.

        Raises as `restore`.
        """
        if checkpoint is not None:
            await self.restore(connection, checkpoint, [])
        else:
            await connection.evaluate(injected.call("surroundings", "begun_again()"))

    async def restore(
        self, connection: KernelConnection, checkpoint: Checkpoint, names: Collection[str] | None = None
    ) -> Restored:
        """Puts the variables, all or those named, into a kernel; raises KernelUnreachable or StoreUnavailable."""
        folder = self._folder / new_id()
        try:
            await asyncio.to_thread(folder.mkdir, mode=0o700)
            for sha256 in _needed(checkpoint.manifest, names):
                try:
                    await self._artifacts.objects.fetch(Sha256(sha256), folder / sha256)
                except KeyError:
                    raise StoreUnavailable(f"The object {sha256[:12]}… of a checkpoint is not in the store.") from None
            told = await namespace.restore(connection, folder, checkpoint.manifest, names)
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        types = {kept["name"]: kept["type"] for kept in checkpoint.manifest["kept"]}
        types |= dict.fromkeys(checkpoint.manifest["modules"], "module")
        failed = [
            Skipped(name=f["name"], type=types.get(f["name"], "setting"), reason=f["reason"]) for f in told["failed"]
        ]
        return Restored(names=told["restored"], missing=[*checkpoint.skipped, *failed])

    async def prune_turns(self, session_id: SessionId, keep: int) -> None:
        """Lets the variables of all turns go but the last `keep` that have some; named ones stay."""
        async with postgres.acquired(self._pool) as database:
            stale = [row["sha256"] for row in await database.fetch(SQL.drop_turns, session_id, keep)]
        await self._artifacts.release([Sha256(sha256) for sha256 in stale])

    async def prune(self, session_id: SessionId) -> None:
        """Lets objects go that only older hibernations referred to."""
        async with postgres.acquired(self._pool) as database:
            stale = [row["sha256"] for row in await database.fetch(SQL.drop_stale, session_id)]
        await self._artifacts.release([Sha256(sha256) for sha256 in stale])


def _checkpoint(row: Any) -> Checkpoint:
    told = row["variables"]
    return Checkpoint(
        id=str(row["id"]),
        kind=told["kind"],
        label=row["label"],
        turn_id=row["turn_id"],
        kept=told["kept"],
        skipped=told["skipped"],
        size_bytes=row["size_bytes"],
        manifest=told["manifest"],
    )


def _groups(manifest: dict[str, Any], names: Collection[str]) -> list[tuple[list[str], int]]:
    """Variables that are stored together, and how many bytes they take."""
    main, sizes = manifest["main"], manifest["sizes"]
    if "groups" not in main:
        return [([*names], 0)]
    ends = [*(group["at"] for group in main["groups"]), main["state"]["at"]][1:]
    found = []
    for group, end in zip(main["groups"], ends, strict=True):
        parts = [manifest["parts"][number] for number in group["parts"]]
        objects = [*group["buffers"], *(o for part in parts for o in (part["pickle"], *part["buffers"]))]
        found.append((group["names"], end - group["at"] + sum(sizes[sha256] for sha256 in objects)))
    return found


def digests(manifest: dict[str, Any]) -> dict[str, str]:
    """What stored variables are known by as long as they hold the same; without those of which it is not known."""
    found = {}
    for group in manifest["main"].get("groups", []):
        alone = group.get("alone", {})
        for name in group["names"]:
            digest = alone[name] if name in alone else group.get("digest")
            if digest is not None:
                found[name] = digest if name in alone else f"{digest} {' '.join(sorted(group['names']))}"
    return found


def _needed(manifest: dict[str, Any], names: Collection[str] | None) -> list[str]:
    """The objects that hold the variables, all or those named; at least what is beside them."""
    main = manifest["main"]
    if names is None or names or "groups" not in main:
        return list(manifest["sizes"])
    return [main["pickle"], *main["state"]["buffers"]]


def _verified(path: Path, sha256: str) -> int:
    """The size of a file that holds what its name says; raises ValueError."""
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
            raise ValueError(f"{sha256[:12]}… holds something else")
        return file.tell()
