"""A warm read asks Postgres for nothing, and is never older than the log."""

from __future__ import annotations

import time

from tests.doubles.openai_server import Say, cell
from tests.faults.conftest import Deployment, promise

PATHS = ("", "?messages=true", "/history", "/messages", "/notebook")
READS = 20


def test_warm_reads(deployment: Deployment) -> None:
    """Detail, history, messages and notebook, read again and again: no query but the server's own heartbeat."""
    fault = "warm reads"
    server = deployment.server(CELLWRIGHT_LEASE_S="60")
    deployment.model.script([cell("x = 1\nx"), Say("Done.")])
    session = server.call("POST", "/sessions", json={"key": "warm", "title": "t"})
    turn = server.call("POST", "/sessions/warm/query", json={"query": "go"})
    server.until_ended(turn["turn_id"])
    time.sleep(1)
    asked = 0

    def count(_data: bytes) -> bool:
        nonlocal asked
        asked += 1
        return False

    for path in PATHS:
        server.http.get(f"/sessions/warm{path}")
    deployment.postgres.lose_reply = count
    for name in ("warm", session["id"]):
        for path in PATHS:
            for _ in range(READS):
                assert server.http.get(f"/sessions/{name}{path}").status_code == 200
    deployment.postgres.lose_reply = lambda _data: False
    reads = 2 * READS * len(PATHS)
    promise(fault, "a warm read makes no query", asked < reads / 20, (asked, reads))


def test_warm_reads_are_fresh(deployment: Deployment) -> None:
    """What one server writes, another reads at once; what a server wrote itself, it reads before it answers."""
    fault = "warm reads"
    one, two = deployment.server(), deployment.server()
    session = one.call("POST", "/sessions", json={"title": "0"})["id"]
    for n in range(1, 31):
        two.call("GET", f"/sessions/{session}")
        writer, reader = (one, two) if n % 2 else (two, one)
        writer.call("PATCH", f"/sessions/{session}", json={"title": str(n)})
        own = writer.call("GET", f"/sessions/{session}")["title"]
        promise(fault, "one's own write is read at once", own == str(n), (own, n))
        time.sleep(0.05)
        other = reader.call("GET", f"/sessions/{session}")["title"]
        promise(fault, "another's write is read after 50 ms", other == str(n), (other, n))
