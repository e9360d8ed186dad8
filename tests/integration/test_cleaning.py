"""What goes by itself, and what a crash left in the stores."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cellwright.server import cleaning
from cellwright.server.app import Cellwright
from cellwright.server.domain import Sha256
from cellwright.server.errors import NotFound, StoreUnavailable
from cellwright.server.store import postgres
from cellwright.server.store.objects import read_all

from tests.conftest import OWNER, Talk


async def counts(app: Cellwright, **more: Any) -> dict[str, int]:
    done = await app.cleaner.clean(**more)
    assert [c for c in done if c.problem] == []
    return {c.what: c.count for c in done if c.count}


async def test_the_sweep_finds_both_sides(app: Cellwright, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Objects without rows go, rows without objects are told, uploads cut short go; what belongs together stays."""
    monkeypatch.setattr(cleaning, "CUT_SHORT_S", -5.0)
    session = await app.sessions.create(OWNER)
    kept = await app.artifacts.add_bytes(session.id, b"kept", "kept.txt", created_by="api")
    lost = await app.artifacts.add_bytes(session.id, b"lost", "lost.txt", created_by="api")
    await app.artifacts.objects.delete(lost.sha256)
    (tmp_path / "orphan").write_bytes(b"orphan")
    orphan = Sha256(hashlib.sha256(b"orphan").hexdigest())
    await app.artifacts.objects.put(orphan, tmp_path / "orphan")
    await app.artifacts.keep_bytes(b"never referred to")
    async with postgres.acquired(app._pool) as connection:  # type: ignore[arg-type]
        await connection.execute("UPDATE artifacts SET status = 'pending' WHERE id = $1", lost.id)
    found = {"objects without rows": 1, "rows without objects": 1, "uploads cut short": 1, "unreferenced objects": 1}
    assert await counts(app, dry_run=True) == found
    assert await read_all(app.artifacts.objects, orphan) == b"orphan"
    assert await counts(app) == found
    with pytest.raises(KeyError):
        await read_all(app.artifacts.objects, orphan)
    assert await read_all(app.artifacts.objects, kept.sha256) == b"kept"
    assert (await counts(app)).keys() <= {"rows without objects"}


async def test_what_is_expired_goes(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Artifacts at their time, sessions after their retention, kernels after their idleness: a shared object stays."""
    app, session = talk.app, talk.session
    other = await app.sessions.create(OWNER)
    past = datetime.now(UTC) - timedelta(seconds=1)
    old = await app.artifacts.add_bytes(session.id, b"old", "old.txt", created_by="api", expires_at=past)
    shared = await app.artifacts.share(old.model_copy(update={"expires_at": None}), other.id)
    await talk.run("x = 1")
    settings = app.settings.model_copy(update={"session_max_age_hours": 1e-9, "session_retention_days": 1e-9})
    monkeypatch.setattr(app.life, "_settings", settings)
    found = await counts(app, dry_run=True)
    assert (found["expired artifacts"], found["idle kernels"]) == (1, 1)
    assert await counts(app) == {"expired artifacts": 1, "idle kernels": 1}
    assert await read_all(app.artifacts.objects, shared.sha256) == b"old"
    assert (await talk.refresh()).status == "hibernated"
    monkeypatch.setattr(app.cleaner, "_settings", settings)
    assert (await counts(app))["expired sessions"] == 2
    with pytest.raises(NotFound):
        await talk.refresh()
    with pytest.raises(KeyError):
        await read_all(app.artifacts.objects, shared.sha256)


async def test_one_that_fails_does_not_stop_the_rest(app: Cellwright, monkeypatch: pytest.MonkeyPatch) -> None:
    """An object store that is away costs its own part of the cleaning, and says so."""

    async def away(*_: object, **__: object) -> Any:
        raise StoreUnavailable("The object store does not answer.")

    session = await app.sessions.create(OWNER)
    past = datetime.now(UTC) - timedelta(seconds=1)
    await app.artifacts.add_bytes(session.id, b"old", "old.txt", created_by="api", expires_at=past)
    monkeypatch.setattr(app.life, "hibernate_idle", away)
    done = {c.what: c for c in await app.cleaner.clean()}
    assert done["idle kernels"].problem == "The object store does not answer."
    assert done["expired artifacts"].count == 1
