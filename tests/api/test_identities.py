"""Who may do what: every method of every route, for every kind of person."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cellwright.extension.routes import PREFIX, ROUTES
from tornado import httpclient, websocket

from tests.api.bodies import body_of
from tests.doubles.identity import ARGUMENTS
from tests.doubles.openai_server import OpenAIServer, Say, cell
from tests.jupyter import JupyterServer

HERE = Path(__file__).parents[2]
FREE_OF_SESSIONS = [route for route in ROUTES if "{" not in route.path]
OF_SESSIONS = [route for route in ROUTES if "{" in route.path and not route.public and "/docs/" not in route.path]


@pytest.fixture(scope="module", params=["strict", "lenient"])
def jupyter(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, cluster: Path, _model: OpenAIServer
) -> Iterator[JupyterServer]:
    """A server with named users; lenient: Jupyter itself would let everybody in."""
    folder = tmp_path_factory.mktemp("identities")
    # Nothing is written behind the end of a turn: what these tests count is what requests do.
    quiet = {"CELLWRIGHT_TURN_CHECKPOINT_BYTES": "0", "CELLWRIGHT_LIVE_COPIES": "0"}
    server = JupyterServer.fresh(folder, cluster, token="token-ann", PYTHONPATH=str(HERE), **quiet, **_model.settings)
    lenient = request.param == "lenient"
    try:
        yield server.start(*ARGUMENTS, f"--ServerApp.allow_unauthenticated_access={lenient}")
    finally:
        server.stop()


def client(jupyter: JupyterServer, token: str | None, **headers: str) -> httpx.Client:
    if token is not None:
        headers["Authorization"] = f"token {token}"
    return httpx.Client(base_url=f"{jupyter.url}{PREFIX}", headers=headers, timeout=60, trust_env=False)


@pytest.fixture(scope="module")
def things(jupyter: JupyterServer, _model: OpenAIServer) -> dict[str, str]:
    """A session of ann's with one of everything, by the name that it has in paths."""
    session = jupyter.call("POST", "/sessions", json={"title": "ann's"})["id"]
    _model.script([cell("x = 1\nopen('a.txt', 'w').write('a')"), Say("Done.")])
    turn = jupyter.call("POST", f"/sessions/{session}/query", json={"query": "secret question"})["turn_id"]
    ended = jupyter.until_ended(turn)
    share = jupyter.call("POST", f"/sessions/{session}/shares", json={"user": "zoe"})["id"]
    message = jupyter.call("GET", f"/sessions/{session}/messages")["messages"][0]["id"]
    checkpoint = jupyter.call("POST", f"/sessions/{session}/checkpoints", json={"label": "ann's"})["id"]
    return {
        "checkpoint": checkpoint,
        "revision": "999999",
        "session": session,
        "turn": turn,
        "artifact": ended["artifacts"][0],
        "sha256": jupyter.call("GET", f"/artifacts/{ended['artifacts'][0]}")["sha256"],
        "message": message,
        "share": share,
        "name": "x",
        "action": "interrupt",
        "call": "nosuch",
        "token": "nosuch",
        "file": "start.js",
    }


def filled(path: str, things: dict[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda match: things[match[1]], path)


def count(jupyter: JupyterServer, things: dict[str, str]) -> int:
    return int(jupyter.call("GET", f"/sessions/{things['session']}")["seq"])


def send(http: httpx.Client, route: Any, things: dict[str, str], **more: Any) -> httpx.Response:
    """Sends a request that would be right from the right person; of a stream only the head is read."""
    with http.stream(route.method, filled(route.path, things), **{**body_of(route), **more}) as answer:
        if "event-stream" not in answer.headers.get("content-type", ""):
            answer.read()
        return answer


@pytest.mark.parametrize("route", ROUTES, ids=lambda r: f"{r.method} {r.path}")
def test_strangers(jupyter: JupyterServer, things: dict[str, str], route: Any) -> None:
    """Nobody, a wrong token, another site, and a cookie without the XSRF token get nothing, whatever Jupyter allows."""
    before = count(jupyter, things)
    if not route.public:
        for http in (
            client(jupyter, None),
            client(jupyter, "wrong"),
            client(jupyter, None, **{"X-Cellwright-Share": "wrong"}),
        ):
            with http:
                answer = send(http, route, things)
                linked = "X-Cellwright-Share" in http.headers and route.by_link
                assert answer.status_code == (404 if linked else 403), answer.text
                assert answer.headers["content-type"].startswith("application/problem+json")
                assert "secret question" not in answer.text
        with client(jupyter, None) as browser:
            browser.get("/agents", params={"token": "token-ann"})
            assert browser.get("/agents").status_code == 200  # The cookie of the login came with the answer.
            browser.headers["Origin"] = "https://evil.example"
            assert send(browser, route, things).status_code in (403, 404)  # Jupyter's own check comes first.
            del browser.headers["Origin"]
            if route.method != "GET":
                # A browser sends the login's cookie by itself; the XSRF token another site does not know.
                assert send(browser, route, things).status_code == 403
    assert count(jupyter, things) == before


@pytest.mark.parametrize("route", OF_SESSIONS, ids=lambda r: f"{r.method} {r.path}")
def test_other_users(jupyter: JupyterServer, things: dict[str, str], route: Any) -> None:
    """What is ann's answers to bob exactly as what does not exist, with any Last-Event-ID too."""
    absent = {**things, **{name: "5c7f0a39-8a52-4dd2-a5ee-ff3c62cf6f4b" for name in things if name != "action"}}
    before = count(jupyter, things)
    with client(jupyter, "token-bob", **{"Last-Event-ID": "1"}) as http:
        theirs, nothing = send(http, route, things), send(http, route, absent)
    assert theirs.status_code == nothing.status_code == 404, (theirs.text, nothing.text)
    told = [
        re.sub("|".join(map(re.escape, [*things.values(), *absent.values()])), "…", answer.json()["detail"])
        for answer in (theirs, nothing)
    ]
    assert told[0] == told[1]
    assert count(jupyter, things) == before


@pytest.mark.parametrize("route", ROUTES, ids=lambda r: f"{r.method} {r.path}")
def test_a_user_who_may_only_read(jupyter: JupyterServer, things: dict[str, str], route: Any) -> None:
    """Where the authorizer says read, nothing is changed or run."""
    with client(jupyter, "token-eve") as http:
        answer = send(http, route, things)
    if route.public:
        return
    if route.action == "read":
        assert answer.status_code in (200, 204, 404), answer.text
    else:
        assert answer.status_code == 403, answer.text


def test_lists_and_search_are_ones_own(jupyter: JupyterServer, things: dict[str, str]) -> None:
    """Bob's lists, search and usage hold nothing of ann's."""
    with client(jupyter, "token-bob") as http:
        assert http.get("/sessions").json()["total"] == 0
        assert http.get("/search", params={"q": "secret"}).json()["results"] == []
        assert http.get("/usage").json()["usage"] == []
        key = http.post("/sessions", json={"key": "mine"}).json()["id"]
        assert http.delete(f"/sessions/{key}").status_code == 204


def test_sharing_with_a_user(jupyter: JupyterServer, things: dict[str, str]) -> None:
    """To read is to see everything and change nothing; to write is also to ask; sharing stays the owner's."""
    path = f"/sessions/{things['session']}"
    share = jupyter.call("POST", f"{path}/shares", json={"user": "bob", "role": "read"})
    with client(jupyter, "token-bob") as bob:
        listed = bob.get("/sessions").json()["sessions"]
        assert [(row["id"], row["access"]) for row in listed] == [(things["session"], "read")]
        assert bob.get("/search", params={"q": "secret"}).json()["total"] == 1
        for route in OF_SESSIONS:
            answer = send(bob, route, things)
            if route.level == "read":
                assert answer.status_code in (200, 204, 404, 422), (route.path, answer.text)
            else:
                assert answer.status_code == 403, (route.method, route.path, answer.text)
        assert bob.patch(path, json={"last_seen": 3}).status_code == 200
        assert bob.patch(path, json={"title": "bob's"}).status_code == 403
        jupyter.call("POST", f"{path}/shares", json={"user": "bob", "role": "write"})
        assert bob.post(f"{path}/execute", json={"source": "x"}).json()["status"] == "ok"
        for route in OF_SESSIONS:
            if route.level == "own":
                assert send(bob, route, things).status_code == 403, route.path
        with bob.stream("GET", f"{path}/events") as stream:
            lines = stream.iter_lines()
            assert next(lines).startswith(":")
            jupyter.call("DELETE", f"/shares/{share['id']}")
            began = time.monotonic()
            for _ in lines:  # The stream ends by itself.
                assert time.monotonic() - began < 10
        assert bob.get(path).status_code == 404
        assert bob.get("/sessions").json()["total"] == 0
        assert bob.get(f"/artifacts/{things['artifact']}/content").status_code == 404


def test_sharing_by_a_link(jupyter: JupyterServer, things: dict[str, str]) -> None:
    """Whoever has the link may look without a login; to run code takes a login as well; revoked, it opens nothing."""
    path = f"/sessions/{things['session']}"
    share = jupyter.call("POST", f"{path}/shares", json={"role": "write", "expires_hours": 1})
    assert share["expires_at"] is not None
    assert httpx.get(share["url"], trust_env=False).json()["access"] == "read"
    assert share["token"] not in json.dumps(jupyter.events(things["session"]))
    for by in ({"headers": {"X-Cellwright-Share": share["token"]}}, {"params": {"share_token": share["token"]}}):
        with client(jupyter, None) as anybody:
            assert anybody.get(path, **by).json()["access"] == "read"
            assert anybody.get(f"/artifacts/{things['artifact']}/content", **by).text == "a"
            assert anybody.get("/sessions", **by).status_code == 403
            assert anybody.post(f"{path}/execute", json={"source": "1"}, **by).status_code == 403
            assert anybody.get(f"{path}/shares", **by).status_code == 403
    with client(jupyter, "token-bob", **{"X-Cellwright-Share": share["token"]}) as bob:
        assert bob.post(f"{path}/execute", json={"source": "1"}).status_code == 200
        assert bob.delete(path).status_code == 403
    jupyter.call("DELETE", f"/shares/{share['id']}")
    with client(jupyter, None, **{"X-Cellwright-Share": share["token"]}) as anybody:
        assert anybody.get(path).status_code == 404
    assert httpx.get(share["url"], trust_env=False).status_code == 404  # Refusals are logged with their address.
    assert share["token"] not in jupyter.log.read_text()
    ended = jupyter.call("POST", f"{path}/shares", json={"expires_hours": 0.0001})
    time.sleep(0.5)
    assert httpx.get(ended["url"], trust_env=False).status_code == 404


async def test_the_socket(jupyter: JupyterServer, things: dict[str, str]) -> None:
    """The WebSocket lets in whom the routes let in, and nobody else."""
    url = f"{jupyter.url.replace('http', 'ws', 1)}{PREFIX}/sessions/{things['session']}/ws"
    for token, origin, status in (
        (None, None, 403),
        ("wrong", None, 403),
        ("token-bob", None, 404),
        ("cookie", "https://evil.example", 403),
    ):
        headers = {} if token is None else {"Authorization": f"token {token}"}
        if origin is not None:
            with client(jupyter, None) as browser:
                browser.get("/agents", params={"token": "token-ann"})
                cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
            headers = {"Cookie": cookie, "Origin": origin}
        with pytest.raises(httpclient.HTTPClientError) as refused:
            await websocket.websocket_connect(httpclient.HTTPRequest(url, headers=headers))
        assert refused.value.code == status, token
    request = httpclient.HTTPRequest(url, headers={"Authorization": "token token-eve"})
    share = jupyter.call("POST", f"/sessions/{things['session']}/shares", json={"user": "eve", "role": "write"})
    reader = await websocket.websocket_connect(request)
    assert json.loads(str(await reader.read_message()))["event"] == "session.created"
    await reader.write_message(json.dumps({"type": "query", "id": "1", "query": "run"}))
    while (told := json.loads(str(await reader.read_message())))["event"] != "problem":
        pass
    assert told["data"]["status"] == 403
    reader.close()
    jupyter.call("DELETE", f"/shares/{share['id']}")


def test_what_ends_with_a_share(jupyter: JupyterServer, things: dict[str, str], model: OpenAIServer) -> None:
    """Revoked, a share gives neither the rest of a turn's stream nor the answer to a repeated request."""
    path = f"/sessions/{things['session']}"
    share = jupyter.call("POST", f"{path}/shares", json={"user": "bob", "role": "write"})["id"]
    model.script([Say("word " * 100, between_s=0.2)])
    key = {"Idempotency-Key": "bob's", "Accept": "text/event-stream"}
    with client(jupyter, "token-bob", **key) as bob:
        with bob.stream("POST", f"{path}/query", json={"query": "go"}) as stream:
            lines = stream.iter_lines()
            while "message.delta" not in next(lines):
                pass
            jupyter.call("DELETE", f"/shares/{share}")
            rest = list(lines)
        assert len(rest) < 60
        assert not any("turn.completed" in line for line in rest)
        assert bob.post(f"{path}/query", json={"query": "go"}).status_code == 403
    turn = jupyter.call("GET", f"{path}/turns")["turns"][-1]
    jupyter.until_ended(turn["id"])
