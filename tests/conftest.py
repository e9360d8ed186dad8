"""What all tests share: real stores in both columns, a scripted model, and Cellwright over them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest
from cellwright.server.app import Cellwright, standalone
from cellwright.server.domain import Session, Turn, TurnRequest
from cellwright.server.events import Event
from cellwright.server.logs import configure
from cellwright.server.settings import Settings
from cellwright.server.store.embedded import EmbeddedPostgres
from cellwright.server.store.folder import DataFolder, private_folder

from tests.doubles.openai_server import OpenAIServer, Say
from tests.services import Services

OWNER = "tester"


@pytest.fixture(scope="session", autouse=True)
def _environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No setting of the developer's, and no file of theirs, reaches a test."""
    home = tmp_path_factory.mktemp("home")
    kept = dict(os.environ)
    for name in list(os.environ):
        if name.startswith(("CELLWRIGHT_", "JUPYTER_")):
            del os.environ[name]
    os.environ.update(
        HOME=str(home),
        JUPYTER_DATA_DIR=str(home / "jupyter"),
        JUPYTER_CONFIG_DIR=str(home / "config"),
        JUPYTER_RUNTIME_DIR=str(home / "runtime"),
        IPYTHONDIR=str(home / "ipython"),
        MPLCONFIGDIR=str(home / "mpl"),
        LITELLM_LOCAL_MODEL_COST_MAP="True",
    )
    configure("console")
    yield
    os.environ.clear()
    os.environ.update(kept)


@pytest.fixture(scope="session")
def services() -> Iterator[Services | None]:
    """Postgres, Redis and an S3 server where their packages are installed; None elsewhere."""
    if Services.missing():
        yield None
        return
    with Services() as started:
        yield started


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with an embedded Postgres that was made and stopped: copied, it saves each test a second."""
    path = private_folder(tmp_path_factory.mktemp("cluster") / "data")
    folder = DataFolder(path)
    folder.open({})
    postgres = EmbeddedPostgres(folder)
    postgres.start()
    postgres.stop()
    folder.close()
    return path


@pytest.fixture
def data_dir(cluster: Path, tmp_path: Path) -> Path:
    """A data folder of the test's own."""
    shutil.copytree(cluster, tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture(params=["embedded", "served"])
async def settings(
    request: pytest.FixtureRequest, data_dir: Path, services: Services | None, model: OpenAIServer
) -> AsyncIterator[Settings]:
    """Settings for one column of the store table, with a database and a bucket of the test's own."""
    values = {
        "data_dir": data_dir,
        "model": "openai/scripted",
        "api_base": model.url,
        "api_key": "sk-scripted",
        "warm_kernels": 0,
    }
    if request.param == "embedded":
        yield Settings(**values)
        return
    if services is None:
        pytest.skip(f"not installed here: {', '.join(Services.missing())}")
    async with own_stores(services) as stores:
        yield Settings(**values, **stores)


@contextlib.asynccontextmanager
async def own_stores(services: Services) -> AsyncIterator[dict[str, object]]:
    """A fresh database and bucket on the session's servers, as settings."""
    given = services.environ()
    name = f"test_{uuid.uuid4().hex[:12]}"
    base = given["CELLWRIGHT_DATABASE_URL"]
    admin = await asyncpg.connect(base)
    await admin.execute(f"CREATE DATABASE {name}")
    await admin.close()  # A test may stop the database meanwhile.
    try:
        yield {
            "database_url": base.rpartition("/")[0] + f"/{name}",
            "redis_url": given["CELLWRIGHT_REDIS_URL"],
            "s3_endpoint": given["CELLWRIGHT_S3_ENDPOINT"],
            "s3_access_key": given["CELLWRIGHT_S3_ACCESS_KEY"],
            "s3_secret_key": given["CELLWRIGHT_S3_SECRET_KEY"],
            "s3_bucket": name.replace("_", "-"),
            "s3_secure": False,
        }
    finally:
        admin = await asyncpg.connect(base)
        while True:
            try:
                await admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
                break
            except asyncpg.InsufficientPrivilegeError:
                await asyncio.sleep(0.5)  # Postgres itself cleans up in it, and nobody may end that.
        await admin.close()


@pytest.fixture(scope="session")
def _model() -> Iterator[OpenAIServer]:
    with OpenAIServer() as server:
        yield server


@pytest.fixture
def model(_model: OpenAIServer) -> OpenAIServer:
    """The scripted model, without a script."""
    _model.script(())
    _model.requests.clear()
    return _model


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folder that the server's users see."""
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture
async def app(settings: Settings, root: Path) -> AsyncIterator[Cellwright]:
    """Cellwright, open, in each column."""
    async with standalone(settings, root) as opened:
        yield opened


@dataclass
class Talk:
    """A session, and what one does with it."""

    app: Cellwright
    session: Session
    model: OpenAIServer

    async def ask(self, query: str, *script: Say, **request: object) -> Turn:
        """Asks, with the model's answers scripted, and waits for the end."""
        if script:
            self.model.script(script)
        turn = await self.app.turns.ask(self.session, query, TurnRequest(**request))
        return await self.end(turn)

    async def end(self, turn: Turn) -> Turn:
        async with asyncio.timeout(90):
            return await self.app.turns.wait(turn)

    async def run(self, source: str) -> list[Event]:
        """Runs a cell of the user's; returns the turn's events."""
        turn = await self.end(await self.app.sessions.execute(self.session, source, OWNER))
        return await self.events(turn)

    async def events(self, turn: Turn | None = None) -> list[Event]:
        if turn is not None:
            return [record.event for record in await self.app.log.of_turn(turn.id)]
        return [record.event for record in await self.app.log.read(self.session.id, limit=10_000)]

    async def refresh(self) -> Session:
        self.session = await self.app.rows.get(self.session.id)
        return self.session


@pytest.fixture
async def talk(app: Cellwright, model: OpenAIServer) -> Talk:
    """A fresh session."""
    return Talk(app, await app.sessions.create(OWNER, title="Test"), model)
