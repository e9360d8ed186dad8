"""Under JupyterHub: users are told apart, whoever shares the server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.doubles.hub import Hub
from tests.jupyter import JupyterServer


class SingleUserServer(JupyterServer):
    """Ann's server as JupyterHub starts it."""

    module, base = "jupyterhub.singleuser", "/user/ann/"


@pytest.fixture
def jupyter(data_dir: Path, root: Path, tmp_path: Path) -> Iterator[JupyterServer]:
    with Hub() as hub:
        server = SingleUserServer(tmp_path, root, data_dir, token="token-ann")
        try:
            yield server.start(**hub.settings(server.port))
        finally:
            server.stop()


def test_users_of_a_hub(jupyter: JupyterServer) -> None:
    """Each user of a shared server has sessions of their own; a stranger and a wrong token get nothing."""
    base = f"{jupyter.url}cellwright/api/v1"

    def client(name: str) -> httpx.Client:
        return httpx.Client(base_url=base, headers={"Authorization": f"token token-{name}"}, trust_env=False)

    session = jupyter.call("POST", "/sessions", json={"title": "ann's"})["id"]
    assert jupyter.call("POST", f"/sessions/{session}/execute", json={"source": "1 + 1"})["status"] == "ok"
    with client("bob") as bob, client("stranger") as stranger, client("nobody") as nobody:
        assert bob.get("/sessions").json()["total"] == 0
        assert bob.get(f"/sessions/{session}").status_code == 404
        mine = bob.post("/sessions", json={"title": "bob's"}).json()["id"]
        for other in (stranger, nobody):
            assert other.get("/sessions").status_code == 403
            assert other.post("/sessions", json={}).status_code == 403
        jupyter.call("POST", f"/sessions/{session}/shares", json={"user": "bob"})
        assert bob.get(f"/sessions/{session}").json()["access"] == "read"
    assert [row["title"] for row in jupyter.call("GET", "/sessions")["sessions"]] == ["ann's"]
    assert jupyter.http.get(f"/sessions/{mine}").status_code == 404
