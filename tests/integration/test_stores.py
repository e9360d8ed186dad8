"""The log, leases, the embedded Postgres, the data folder, objects and live text: each against the real thing."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import asyncpg
import psutil
import pytest
from cellwright.notebooks.document import Document
from cellwright.server import events as e
from cellwright.server.app import Cellwright
from cellwright.server.domain import Sha256, Who
from cellwright.server.errors import DataFolderInUse, NotFound, StaleLease, StoreUnavailable
from cellwright.server.live import LiveMessage, joined
from cellwright.server.settings import Settings
from cellwright.server.store import postgres
from cellwright.server.store.folder import DataFolder, runtime_folder
from cellwright.server.store.leases import Leases
from cellwright.server.store.migrate import migrate, migrations
from cellwright.server.store.objects import Spooled, read_all
from cellwright.server.store.recent import Recent
from cellwright.server.store.sessions import SessionRows

from tests.conftest import OWNER, Talk
from tests.services import Services


async def test_numbers_have_no_gap_under_load(app: Cellwright) -> None:
    """Fifty writers to one session: the numbers are 1, 2, 3, …, and a reader who follows sees each once, in order."""
    session = await app.sessions.create(OWNER)
    seen: list[int] = []

    async def follow() -> None:
        async with contextlib.aclosing(app.log.follow(session.id)) as records:
            async for record in records:
                seen.append(record.seq)
                if record.seq == 501:
                    return

    async def write(n: int) -> None:
        for _ in range(10):
            await app.log.append(session.id, [e.SessionChanged(changes={"metadata": {"n": n}}, by="test")])

    reader = asyncio.create_task(follow())
    await asyncio.gather(*(write(n) for n in range(50)))
    async with asyncio.timeout(20):
        await reader
    assert seen == list(range(1, 502))


async def test_a_stale_owner_cannot_write(app: Cellwright) -> None:
    """Once another process holds the lease, writes under the old generation are refused, and leave no gap."""
    session = await app.sessions.create(OWNER)
    ours = Leases(app._pool, "first", 0.2)
    theirs = Leases(app._pool, "second", 30)
    generation = await ours.claim(session.id)
    assert await ours.claim(session.id) == generation
    assert await theirs.claim(session.id) is None
    await asyncio.sleep(0.3)
    taken = await theirs.claim(session.id)
    assert taken is not None
    assert generation is not None
    assert taken > generation
    event = e.SessionChanged(changes={"metadata": {}}, by="test")
    with pytest.raises(StaleLease):
        await app.log.append(session.id, [event], generation=generation)
    assert await ours.renew([session.id]) == {}
    [record] = await app.log.append(session.id, [event], generation=taken)
    assert record.seq == 2


async def test_an_append_is_all_or_nothing(app: Cellwright) -> None:
    """A projection that fails takes its event with it; an unknown session is NotFound."""
    session = await app.sessions.create(OWNER)
    bad = e.CellStarted(cell_id="c", execution_id="no-uuid", source="")
    with pytest.raises(asyncpg.DataError):
        await app.log.append(session.id, [e.SessionChanged(changes={}, by="t"), bad])
    assert await app.log.last_seq(session.id) == 1
    with pytest.raises(NotFound):
        await app.log.append("5c7f0a39-8a52-4dd2-a5ee-ff3c62cf6f4b", [e.SessionChanged(changes={}, by="t")])


async def test_the_schema_is_where_the_migrations_lead(app: Cellwright, services: Services | None) -> None:
    """`schema.sql` and the migrations make the same database; migrating again does nothing."""
    async with postgres.acquired(app._pool) as connection:
        assert await migrate(connection) == []
        migrated = await _described(connection, "public")
        await connection.execute("CREATE SCHEMA fresh")
        schema = (Path(postgres.__file__).parent / "sql" / "schema.sql").read_text()
        async with connection.transaction():
            await connection.execute("SET LOCAL search_path TO fresh")
            await connection.execute(schema)
            fresh = await _described(connection, "fresh")
    del migrated["schema_migrations"]
    assert fresh == migrated
    assert len(migrations()) >= 1


async def _described(connection: postgres.Connection, schema: str) -> dict[str, list[str]]:
    rows = await connection.fetch(
        """SELECT table_name AS t, column_name || ' ' || data_type || ' ' || is_nullable || ' '
                  || coalesce(column_default, '') AS what
           FROM information_schema.columns WHERE table_schema = $1
           UNION ALL SELECT tablename, indexdef FROM pg_indexes WHERE schemaname = $1
           UNION ALL SELECT conrelid::regclass::text, pg_get_constraintdef(oid) FROM pg_constraint
                  WHERE connamespace = $1::regnamespace""",
        schema,
    )
    found: dict[str, list[str]] = {}
    for row in rows:
        table = row["t"].removeprefix(f"{schema}.")
        found.setdefault(table, []).append(row["what"].replace(f"{schema}.", ""))
    return {table: sorted(what) for table, what in found.items()}


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM events WHERE session_id = $1 AND seq > 5 ORDER BY seq LIMIT 200",
        "SELECT * FROM turns WHERE session_id = $1 AND status IN ('queued', 'running') ORDER BY n",
        "SELECT * FROM messages WHERE session_id = $1 ORDER BY seq LIMIT 100",
        "SELECT * FROM notebook_cells WHERE session_id = $1 AND until_revision IS NULL ORDER BY place",
        "SELECT * FROM artifacts WHERE session_id = $1 ORDER BY created_at DESC LIMIT 50",
        "SELECT * FROM sessions WHERE owner = 'me' ORDER BY last_activity DESC, id LIMIT 50",
    ],
)
async def test_hot_queries_use_an_index(app: Cellwright, query: str) -> None:
    """No query of a list reads a whole table as the data grows."""
    session = await app.sessions.create(OWNER)
    async with postgres.acquired(app._pool) as connection, connection.transaction():
        await connection.execute("SET LOCAL enable_seqscan = off")
        arguments = [session.id] if "$1" in query else []
        plan = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN {query}", *arguments))
    assert "Seq Scan" not in plan, plan


async def test_objects(app: Cellwright) -> None:
    """Stored once by content, read whole and in ranges, gone when nothing refers to them."""
    objects = app.artifacts.objects
    data = os.urandom(700_000)
    spooled = Spooled()
    spooled.write(data)
    sha256 = spooled.finish()
    await objects.put(sha256, spooled.path)
    await objects.put(sha256, spooled.path)
    spooled.remove()
    assert await read_all(objects, sha256) == data
    assert b"".join([c async for c in objects.read(sha256, 100, 300_000)]) == data[100:300_100]
    assert b"".join([c async for c in objects.read(sha256, 699_990)]) == data[699_990:]
    assert b"".join([c async for c in objects.read(sha256, 5, 0)]) == b""
    await objects.delete(sha256)
    await objects.delete(sha256)
    with pytest.raises(KeyError):
        await read_all(objects, sha256)
    with pytest.raises(KeyError):
        await read_all(objects, Sha256("0" * 64))


async def test_objects_near_by(app: Cellwright, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is fetched twice is one file, wherever it comes from, so that kernels share it; what is deleted is gone."""
    objects, folder = app.artifacts.objects, app.settings.data_dir / "fetched"
    folder.mkdir()
    names = [Sha256(hashlib.sha256(bytes([n]) * 200_000).hexdigest()) for n in range(3)]
    for n, sha256 in enumerate(names):
        (tmp_path / "source").write_bytes(bytes([n]) * 200_000)
        await objects.put(sha256, tmp_path / "source")
    monkeypatch.setattr("cellwright.server.store.objects.NEAR_BYTES", 450_000)
    for turn in range(2):
        await objects.fetch(names[0], folder / f"first{turn}")
    assert (folder / "first0").samefile(folder / "first1")
    for n in (1, 2):
        await objects.fetch(names[n], folder / f"other{n}")
    await objects.fetch(names[0], folder / "again")
    for n, name in enumerate(("again", "other1", "other2")):
        assert (folder / name).read_bytes() == bytes([n]) * 200_000
    for sha256 in names:
        await objects.delete(sha256)
        with pytest.raises(KeyError):
            await objects.fetch(sha256, folder / "gone")


async def test_shared_objects_live_as_long_as_one_refers(app: Cellwright) -> None:
    """Two artifacts of the same content share one object; it goes with the last of them."""
    session = await app.sessions.create(OWNER)
    one, two = [await app.artifacts.add_bytes(session.id, b"same", f"{n}.txt", created_by="api") for n in (1, 2)]
    assert one.sha256 == two.sha256
    await app.artifacts.delete(one, OWNER)
    assert await read_all(app.artifacts.objects, two.sha256) == b"same"
    await app.artifacts.delete(two, OWNER)
    with pytest.raises(KeyError):
        await read_all(app.artifacts.objects, two.sha256)


async def test_nothing_is_visible_that_was_not_stored(app: Cellwright, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the object store fails, no artifact appears."""
    session = await app.sessions.create(OWNER)

    async def refuse(*_: object) -> None:
        raise StoreUnavailable("full")

    monkeypatch.setattr(app.artifacts.objects, "put", refuse)
    with pytest.raises(StoreUnavailable):
        await app.artifacts.add_bytes(session.id, b"x", "a.txt", created_by="api")
    assert (await app.artifacts.page(session.id))[1] == 0


async def test_live_text_joins_for_whoever_comes_when(talk: Talk) -> None:
    """A reader who joins in the middle gets a snapshot that the later deltas continue exactly, also a long one."""
    hot, session_id = talk.app.hot, talk.session.id
    heard: list[dict] = []

    async def read() -> None:
        with hot.subscribe(session_id) as queue:
            heard.extend(await hot.so_far(session_id))
            last = heard[-1]["number"] if heard else 0
            while True:
                delta = await queue.get()
                if delta["number"] > last:
                    heard.append(delta)

    whole = ""
    async with LiveMessage(hot, session_id, "t", "m") as live:
        for n in range(40):
            if n == 15:
                reader = asyncio.create_task(read())
            live.add("answer", f"{n} ")
            whole += f"{n} "
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.2)
    reader.cancel()
    assert joined(heard)["text"]["answer"] == whole
    await hot.settle(session_id)
    assert await hot.so_far(session_id) == []


async def test_a_notebook_is_read_as_it_was(app: Cellwright) -> None:
    """Cells put, moved, changed and taken at many revisions can each be read again."""
    import random

    from cellwright.notebooks.edits import apply, difference
    from cellwright.server.notebook_files import told_edits

    from tests.unit.notebooks.test_edits import random_document

    rng = random.Random(6)
    session = await app.sessions.create(OWNER)
    document, history = Document(), {}
    for _ in range(25):
        after = random_document(rng, document)
        edits = [told for edit in difference(document, after) for told in told_edits(edit)]
        if not edits:
            continue
        [record] = await app.log.append(session.id, [e.CellsEdited(author="user", edits=edits)])
        assert apply(document, difference(document, after)) == after
        document = after
        history[record.seq] = document
    for revision, expected in history.items():
        found = await app.tools.cells.document(session.id, revision)
        assert [(c.id, c.source) for c in found] == [(c.id, c.source) for c in expected]


def test_the_embedded_cluster_is_private(cluster: Path, data_dir: Path) -> None:
    """Folder, socket and password are the owner's alone, and a wrong password is refused."""
    folder = DataFolder(data_dir)
    folder.open({})
    from cellwright.server.store.embedded import EmbeddedPostgres

    server = EmbeddedPostgres(folder)
    try:
        server.start()
        assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700
        assert stat.S_IMODE((data_dir / "postgres").stat().st_mode) == 0o700
        assert stat.S_IMODE((data_dir / "postgres.secret").stat().st_mode) == 0o600
        assert stat.S_IMODE(runtime_folder(data_dir).stat().st_mode) == 0o700

        async def wrong() -> None:
            await asyncpg.connect(f"postgresql://cellwright:wrong@/postgres?host={runtime_folder(data_dir)}")

        with pytest.raises(asyncpg.InvalidPasswordError):
            asyncio.run(wrong())
    finally:
        server.stop()
        folder.close()


def test_postgres_ends_with_its_owner(data_dir: Path) -> None:
    """After a SIGKILL of the server Postgres stops by itself, and the next server starts it again at once."""
    code = """
        import os, sys
        from pathlib import Path
        from cellwright.server.store.folder import DataFolder
        from cellwright.server.store.embedded import EmbeddedPostgres
        folder = DataFolder(Path(sys.argv[1])); folder.open({})
        postgres = EmbeddedPostgres(folder); postgres.start()
        print(postgres.pid, flush=True)
        os.kill(os.getpid(), 9)
    """
    for _ in range(2):
        run = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code), str(data_dir)], capture_output=True, text=True
        )
        keeper = int(run.stdout)
        give_up = time.monotonic() + 15
        while psutil.pid_exists(keeper) and psutil.Process(keeper).status() != "zombie":
            assert time.monotonic() < give_up
            time.sleep(0.05)


async def test_a_deleted_session_is_gone_at_once(app: Cellwright) -> None:
    """Who deleted a session is told so by the next read, before word of it has come back from Postgres."""
    recent = Recent()
    recent.listening = True  # And hears nothing.
    rows, who = SessionRows(app._pool, recent), Who(name=OWNER)
    session = await app.sessions.create(OWNER, title="Short")
    assert (await rows.find(session.id, who)).title == "Short"
    await rows.delete(session.id)
    with pytest.raises(NotFound):
        await rows.find(session.id, who)


def test_one_folder_one_owner(data_dir: Path) -> None:
    """A second server is told who owns the folder."""
    first, second = DataFolder(data_dir), DataFolder(data_dir)
    first.open({"url": "http://there"})
    try:
        with pytest.raises(DataFolderInUse, match=f"{os.getpid()} at http://there"):
            second.open({})
        assert second.in_use()
    finally:
        first.close()
    second.open({})
    second.close()


async def test_a_store_that_is_away_is_said(data_dir: Path, root: Path) -> None:
    """A Postgres that cannot be reached ends the start with its name, and nothing stays open."""
    from cellwright.server.app import standalone

    settings = Settings(data_dir=data_dir, database_url="postgresql://nobody:x@127.0.0.1:1/none")
    with pytest.raises(StoreUnavailable, match="Postgres"):
        async with standalone(settings, root):
            pass
    assert not DataFolder(data_dir).in_use()


async def test_many_cells_at_one_spot(app: Cellwright) -> None:
    """Hundreds of cells, each put behind the one before and in front of the same one: the order holds at every
    revision, and places stay short."""
    session = await app.sessions.create(OWNER)

    def insert(name: str, after: str | None) -> e.CellsEdited:
        content = e.CellContent(id=name, kind="markdown", source=name)
        return e.CellsEdited(author="user", edits=[e.CellEdit(op="insert", cell_id=name, cell=content, after=after)])

    await app.log.append(session.id, [insert("first", None), insert("last", "first")])
    revisions = {}
    for start in range(0, 350, 50):
        names = [f"c{n}" for n in range(start, start + 50)]
        behind = ["first" if start == 0 else f"c{start - 1}", *names[:-1]]
        records = await app.log.append(session.id, [insert(n, b) for n, b in zip(names, behind, strict=True)])
        revisions[start + 50] = records[-1].seq
    for count, revision in revisions.items():
        found = [cell.id for cell in await app.tools.cells.document(session.id, revision)]
        assert found == ["first", *(f"c{n}" for n in range(count)), "last"]
    longest = await app._pool.fetchval("SELECT max(scale(place)) FROM notebook_cells WHERE session_id = $1", session.id)
    assert longest <= 100
