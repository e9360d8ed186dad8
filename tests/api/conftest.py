"""One server for all API tests of a module, with a scripted model."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doubles.openai_server import OpenAIServer
from tests.jupyter import JupyterServer

UPLOAD_LIMIT_BYTES = 3_000_000


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory: pytest.TempPathFactory, cluster: Path, _model: OpenAIServer) -> Iterator[JupyterServer]:
    folder = tmp_path_factory.mktemp("api")
    shutil.copytree(cluster, folder / "data")
    (folder / "root").mkdir()
    server = JupyterServer(
        folder,
        folder / "root",
        folder / "data",
        CELLWRIGHT_MODEL="openai/scripted",
        CELLWRIGHT_API_BASE=_model.url,
        CELLWRIGHT_API_KEY="sk-very-secret",
        CELLWRIGHT_UPLOAD_LIMIT_BYTES=str(UPLOAD_LIMIT_BYTES),
    )
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture
def session(jupyter: JupyterServer) -> str:
    """A fresh session's id."""
    return str(jupyter.call("POST", "/sessions", json={"title": "API"})["id"])
