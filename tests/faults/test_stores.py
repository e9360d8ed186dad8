"""Stores that break under a turn: it waits, goes on, and what it says at the end is true."""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import redis
from httpx_sse import connect_sse

from tests.doubles.openai_server import Say
from tests.faults.conftest import (
    RUNS,
    TIMES,
    Deployment,
    check_history,
    check_ledger,
    check_log,
    promise,
    until,
    writes,
)
from tests.jupyter import JupyterServer

STEPS = 6
LARGE = "from IPython.display import HTML; HTML('<!-- x -->' + 'y' * 200_000)"


def steps(body: dict[str, Any]) -> Say:
    """Cells one after the other, each under a name of its own, with output large enough for the object store."""
    done = sum(1 for message in body["messages"] if message["role"] == "tool")
    return Say("done") if done >= STEPS else writes(f"c{done}", f"import time; time.sleep(0.2)\n{LARGE}")


def begin(deployment: Deployment, **more: str) -> tuple[JupyterServer, dict[str, Any], dict[str, Any]]:
    """A server, and a turn of STEPS cells that is under way."""
    server = deployment.server(**more)
    deployment.model.script(steps)
    session = server.call("POST", "/sessions", json={})
    turn = server.call("POST", f"/sessions/{session['id']}/query", json={"query": "go"})
    until(lambda: len(deployment.ledger(session)) >= 2)
    return server, session, turn


def check(fault: str, deployment: Deployment, server: JupyterServer, session: dict[str, Any], turns: list[str]) -> None:
    """All that must hold afterwards."""
    events = server.events(session["id"])
    check_log(fault, events, turns)
    check_ledger(fault, deployment.ledger(session))
    check_history(fault, deployment.model)
    for artifact in server.call("GET", f"/sessions/{session['id']}/artifacts")["artifacts"]:
        content = server.http.get(f"/artifacts/{artifact['id']}/content").content
        same = hashlib.sha256(content).hexdigest() == artifact["sha256"]
        promise(fault, "a visible artifact is the bytes of its hash", same, artifact)
    after = server.call("POST", f"/sessions/{session['id']}/execute", json={"source": "1 + 1"})
    promise(fault, "the next turn works", after["outputs"][0]["data"]["text/plain"] == "2", after)


def test_stores_that_start_later(deployment: Deployment) -> None:
    """A server that started before its database says so, and works as soon as that answers."""
    fault = "stores that start later"
    deployment.postgres.set("refuse")
    server = deployment.server(wait=False)
    refused = until(lambda: server.http.get("/sessions"))
    promise(fault, "a store that is away is a clear 503", refused.status_code == 503, refused.text)
    promise(fault, "the answer names the store", "Postgres" in refused.json()["detail"], refused.text)
    deployment.postgres.set("pass")
    until(lambda: server.http.get("/health").status_code == 200, 20)
    session = server.call("POST", "/sessions", json={})
    after = server.call("POST", f"/sessions/{session['id']}/execute", json={"source": "1 + 1"})
    promise(fault, "the next turn works", after["outputs"][0]["data"]["text/plain"] == "2", after)


def test_postgres_crashes(deployment: Deployment) -> None:
    """PostgreSQL stopped at once in the middle of a turn, and started again: the turn is finished."""
    fault = "Postgres stop -m immediate"
    server, session, turn = begin(deployment)
    deployment.services.postgres.stop_immediate()
    answer = server.http.post(f"/sessions/{session['id']}/query", json={"query": "while it is away"})
    promise(fault, "a store that is away is a clear 503", answer.status_code == 503, answer.text)
    time.sleep(1)
    deployment.services.postgres.start()
    began = time.monotonic()
    until(lambda: server.http.get("/health").status_code == 200)
    ended = server.until_ended(turn["turn_id"])
    TIMES["a turn's end after Postgres came back"].append(time.monotonic() - began)
    promise(fault, "the turn is finished", ended["status"] == "completed", ended)
    check(fault, deployment, server, session, [turn["turn_id"]])


@pytest.mark.parametrize("number", range(1, 21) if RUNS else [2, 5, 13])
def test_a_commit_whose_answer_is_lost(deployment: Deployment, number: int) -> None:
    """The n-th COMMIT reaches the database, and its answer does not reach the server."""
    fault = "COMMIT without an answer"
    server = deployment.server()
    deployment.model.script(steps)
    session = server.call("POST", "/sessions", json={})
    seen = 0

    def lose(data: bytes) -> bool:
        nonlocal seen
        if b"COMMIT" in data:
            seen += 1
            return seen == number
        return False

    deployment.postgres.lose_reply = lose
    answer = server.http.post(f"/sessions/{session['id']}/query", json={"query": "go"})
    until(lambda: deployment.postgres.lost, 30)
    deployment.postgres.lose_reply = lambda _data: False
    turns = until(lambda: server.call("GET", f"/sessions/{session['id']}/turns")["turns"])
    promise(fault, "a 2xx means that the turn is committed", answer.status_code in (202, 503), answer.text)
    ended = server.until_ended(turns[0]["id"], 90)
    promise(fault, "the turn is finished", ended["status"] == "completed", ended)
    check(fault, deployment, server, session, [turn["id"] for turn in turns])


def test_a_repeat_after_a_commit_whose_answer_is_lost(deployment: Deployment) -> None:
    """Whether it was done is not known to the server: it says so, and does nothing twice."""
    fault = "COMMIT without an answer"
    server = deployment.server()
    deployment.model.script([Say("done")])
    session = server.call("POST", "/sessions", json={})
    path, key = f"/sessions/{session['id']}/query", {"Idempotency-Key": "once"}
    asked = False

    def lose(data: bytes) -> bool:
        nonlocal asked
        asked = asked or b"turn.queued" in data
        return asked and b"COMMIT" in data and not deployment.postgres.lost

    deployment.postgres.lose_reply = lose
    first = server.http.post(path, json={"query": "go"}, headers=key)
    deployment.postgres.lose_reply = lambda _data: False
    promise(fault, "what is not known is no 2xx", first.status_code == 503, first.text)
    again = until(lambda: server.http.post(path, json={"query": "go"}, headers=key))
    promise(fault, "a repeat is told that it is not known", again.status_code == 409, again.text)
    turns = server.call("GET", f"/sessions/{session['id']}/turns")["turns"]
    promise(fault, "a repeat does nothing twice", len(turns) == 1, turns)
    promise(fault, "the turn is finished", server.until_ended(turns[0]["id"])["status"] == "completed")


@contextlib.contextmanager
def reading(server: JupyterServer, session: dict[str, Any]) -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """Everything that a reader is told, live and durable."""
    heard: list[tuple[str, dict[str, Any]]] = []
    stop = threading.Event()

    def read() -> None:
        with (
            contextlib.suppress(httpx.TransportError),
            httpx.Client(
                headers=server.http.headers, base_url=server.http.base_url, timeout=None, trust_env=False
            ) as http,
            connect_sse(http, "GET", f"/sessions/{session['id']}/events") as source,
        ):
            for event in source.iter_sse():
                heard.append((event.event, event.json()))
                if stop.is_set():
                    return

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    yield heard
    stop.set()


def joined(heard: list[tuple[str, dict[str, Any]]]) -> dict[str, str]:
    """The answer of each message as its live text tells it."""
    text: dict[str, str] = {}
    for kind, told in heard:
        if kind == "message.snapshot":
            text[told["message_id"]] = told["text"].get("answer", "")
        elif kind == "message.delta" and told["channel"] == "answer":
            now = text.get(told["message_id"], "")
            if told["offset"] <= len(now):
                text[told["message_id"]] = now[: told["offset"]] + told["text"]
    return text


def test_redis_is_emptied_all_the_time(deployment: Deployment) -> None:
    """FLUSHALL ten times a second costs nothing that lasts: live text is what the durable event then holds."""
    fault = "Redis FLUSHALL, ten times a second"
    server = deployment.server()
    session = server.call("POST", "/sessions", json={})
    answer = "word " * 400
    done = threading.Event()

    def flush() -> None:
        client = redis.Redis.from_url(deployment.services.redis.url)
        while not done.wait(0.1):
            client.flushall()

    flushing = threading.Thread(target=flush)
    flushing.start()
    try:
        with reading(server, session) as heard:
            for _ in range(3):
                deployment.model.script([writes("a"), Say(answer, between_s=0.01)])
                turn = server.call("POST", f"/sessions/{session['id']}/query", json={"query": "go"})
                promise(fault, "the turn is finished", server.until_ended(turn["turn_id"])["status"] == "completed")
            until(lambda: sum(1 for kind, _ in heard if kind == "turn.completed") == 3)
    finally:
        done.set()
        flushing.join()
    live = joined(heard)
    for kind, told in heard:
        if kind == "message.completed" and told["message_id"] in live:
            same = told["content"].startswith(live[told["message_id"]])
            promise(fault, "live text is what the durable event holds", same, (live[told["message_id"]][-50:], told))
    numbers = [told for kind, told in heard if kind == "turn.completed"]
    promise(fault, "readers are told every end", len(numbers) == 3)
    check_log(fault, server.events(session["id"]), [])


def test_redis_is_away(deployment: Deployment) -> None:
    """Without Redis everything works; only live text is missing. It comes back by itself."""
    fault = "Redis away"
    server, session, turn = begin(deployment)
    deployment.redis.set("refuse")
    ended = server.until_ended(turn["turn_id"])
    promise(fault, "the turn is finished", ended["status"] == "completed", ended)
    health = server.http.get("/health").json()
    promise(fault, "health names the store", health["stores"]["redis"] != "ok", health)
    check(fault, deployment, server, session, [turn["turn_id"]])
    deployment.redis.set("pass")
    deployment.model.script([Say("word " * 100, between_s=0.02)])
    with reading(server, session) as heard:
        time.sleep(1.5)
        turn = server.call("POST", f"/sessions/{session['id']}/query", json={"query": "again"})
        server.until_ended(turn["turn_id"])
        until(lambda: "turn.completed" in [kind for kind, told in heard if told.get("turn_id") == turn["turn_id"]])
    promise(fault, "live text comes back with Redis", any(kind.startswith("message.") for kind, _ in heard))


@pytest.mark.parametrize("how", ["refuse", "hang"])
def test_the_object_store_is_away(deployment: Deployment, how: str) -> None:
    """What a cell showed is kept until the store takes it: no end of a cell before its outputs are stored."""
    fault = f"object store: {how}"
    server, session, turn = begin(deployment)
    deployment.objects.set(how)
    time.sleep(4)
    events = server.events(session["id"])
    shown = [event for event in events if event["type"] == "cell.completed"]
    deployment.objects.set("pass")
    ended = server.until_ended(turn["turn_id"], 120)
    promise(fault, "the turn is finished", ended["status"] == "completed", ended)
    promise(fault, "no cell ends before its outputs are stored", len(shown) < STEPS, len(shown))
    check(fault, deployment, server, session, [turn["turn_id"]])
    outputs = [e["outputs"] for e in server.events(session["id"]) if e["type"] == "cell.completed" and e["outputs"]]
    promise(fault, "every output is kept", len(outputs) >= STEPS, len(outputs))


def test_the_object_store_loses_its_answers(deployment: Deployment) -> None:
    """An object that was stored, and whose answer was lost, is stored once."""
    fault = "object store: answers lost"
    count = 0

    def lose(data: bytes) -> bool:
        nonlocal count
        if data.startswith(b"PUT "):
            count += 1
            return count % 2 == 1
        return False

    deployment.objects.lose_reply = lose
    server, session, turn = begin(deployment)
    ended = server.until_ended(turn["turn_id"], 120)
    deployment.objects.lose_reply = lambda _data: False
    promise(fault, "the turn is finished", ended["status"] == "completed", ended)
    check(fault, deployment, server, session, [turn["turn_id"]])


def test_the_object_store_answers_503(deployment: Deployment) -> None:
    """A store that says that it is overloaded is asked again."""
    fault = "object store: 503"
    served = threading.Event()
    port = _unavailable(served)
    server, session, turn = begin(deployment)
    target, deployment.objects._target = deployment.objects._target, ("127.0.0.1", port)
    deployment.objects.cut()
    until(served.is_set, 30)
    time.sleep(1)
    deployment.objects._target = target
    deployment.objects.cut()
    ended = server.until_ended(turn["turn_id"], 120)
    promise(fault, "the turn is finished", ended["status"] == "completed", ended)
    check(fault, deployment, server, session, [turn["turn_id"]])


def _unavailable(served: threading.Event) -> int:
    """An HTTP server that has no time for anybody."""
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            self.rfile.read(length)
            served.set()
            self.send_response(503)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def __getattr__(self, name: str) -> Any:
            if name.startswith("do_"):
                return self.do_GET
            raise AttributeError(name)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return int(server.server_port)
