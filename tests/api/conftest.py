"""One server for all API tests of a module, with a scripted model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doubles.openai_server import OpenAIServer
from tests.jupyter import JupyterServer

UPLOAD_LIMIT_BYTES = 3_000_000


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory: pytest.TempPathFactory, cluster: Path, _model: OpenAIServer) -> Iterator[JupyterServer]:
    settings = {**_model.settings, "CELLWRIGHT_UPLOAD_LIMIT_BYTES": str(UPLOAD_LIMIT_BYTES)}
    with JupyterServer.fresh(tmp_path_factory.mktemp("api"), cluster, **settings) as server:
        yield server


@pytest.fixture
def session(jupyter: JupyterServer) -> str:
    """A fresh session's id."""
    return str(jupyter.call("POST", "/sessions", json={"title": "API"})["id"])
