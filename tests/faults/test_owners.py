"""Two servers on the same stores: one owner a session, whatever happens to it."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any

from tests.doubles.openai_server import Say
from tests.faults.conftest import (
    LEASE_S,
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

TAKEOVER_S = 15.0


def test_two_servers_one_session(deployment: Deployment) -> None:
    """Questions asked of both at once are done one after the other, in the order in which they were accepted."""
    fault = "two servers, one session"
    one, other = deployment.server(), deployment.server()
    session = one.call("POST", "/sessions", json={})
    deployment.model.script(lambda body: _answer(body))
    turns: list[dict] = []

    def ask(server: JupyterServer, number: int) -> None:
        turns.append(server.call("POST", f"/sessions/{session['id']}/query", json={"query": f"q{number}"}))

    threads = [threading.Thread(target=ask, args=((one, other)[n % 2], n)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for turn in turns:
        (one, other)[turn["n"] % 2].until_ended(turn["turn_id"])
    events = other.events(session["id"])
    check_log(fault, events, [turn["turn_id"] for turn in turns])
    check_ledger(fault, deployment.ledger(session))
    check_history(fault, deployment.model)
    asked = {turn["turn_id"]: turn["n"] for turn in turns}
    started = [asked[event["turn_id"]] for event in events if event["type"] == "turn.started"]
    promise(fault, "queued turns keep their order", started == list(range(1, 9)), started)
    said = {event["query"]: asked[event["turn_id"]] for event in events if event["type"] == "turn.queued"}
    promise(
        fault, "queued turns keep their order", deployment.ledger(session) == sorted(said, key=said.__getitem__), said
    )
    kernels = {event["kernel_id"] for event in events if event["type"] == "cell.started"}
    promise(fault, "one kernel a session", len(kernels) == 1, kernels)


def _answer(body: dict) -> Say:
    """Runs one cell for the question at hand, then answers."""
    last = body["messages"][-1]
    if last["role"] == "tool":
        return Say("done")
    return writes(str(last["content"]).split()[-1])


def test_a_server_that_freezes(deployment: Deployment) -> None:
    """Another takes over what a stopped process holds; when that wakes up, nothing that it does counts any more."""
    fault = "SIGSTOP past the lease"
    one, other = deployment.server(), deployment.server()
    session = one.call("POST", "/sessions", json={})
    deployment.model.script(lambda body: _many(body))
    turn = one.call("POST", f"/sessions/{session['id']}/query", json={"query": "go"})
    until(lambda: len(deployment.ledger(session)) >= 3)
    one, other = _owner_first(deployment, session)
    os.kill(one.pid, signal.SIGSTOP)
    began = time.monotonic()
    try:
        done = len(deployment.ledger(session))
        until(lambda: _taken(other, session), TAKEOVER_S + LEASE_S)
        TIMES["takeover after SIGSTOP"].append(time.monotonic() - began)
        promise(fault, f"takeover within {TAKEOVER_S:.0f} s", time.monotonic() - began < TAKEOVER_S)
        until(lambda: len(deployment.ledger(session)) >= done + 2)
    finally:
        os.kill(one.pid, signal.SIGCONT)
    other.until_ended(turn["turn_id"])
    time.sleep(1)
    ended = len(deployment.ledger(session))
    events = other.events(session["id"])
    check_log(fault, events, [turn["turn_id"]])
    check_ledger(fault, deployment.ledger(session))
    check_history(fault, deployment.model)
    time.sleep(LEASE_S)
    promise(fault, "no cell starts after the end", len(deployment.ledger(session)) == ended)
    ran = {event["purpose"] for event in events if event["type"] == "cell.started"}
    promise(
        fault, "what ran stands in the log", set(deployment.ledger(session)) <= ran, (deployment.ledger(session), ran)
    )
    lost = [event for event in events if event["type"] == "kernel.changed" and event["variables_lost"]]
    promise(fault, "lost variables are announced", len(lost) >= 1)


def _taken(server: JupyterServer, session: dict[str, Any]) -> bool:
    """Whether another server has said what became of the first one's kernel."""
    events = server.events(session["id"])
    return any(event["type"] == "kernel.changed" and event["variables_lost"] for event in events)


def _owner_first(deployment: Deployment, session: dict[str, Any]) -> tuple[JupyterServer, JupyterServer]:
    """The server that runs the session's kernel, and the other: whoever is quicker takes a session that is free."""
    one, other = deployment.servers
    status = one.call("GET", f"/sessions/{session['id']}/kernel")["status"]
    return (other, one) if status == "elsewhere" else (one, other)


def _many(body: dict) -> Say:
    """Twelve cells, one after the other, each under a name of its own."""
    done = sum(1 for message in body["messages"] if message["role"] == "tool")
    return Say("done") if done >= 12 else writes(f"c{done}", "import time; time.sleep(0.3)")


def test_a_server_that_is_killed(deployment: Deployment) -> None:
    """The turn of a server that is gone is finished by another, on a kernel of its own."""
    fault = "SIGKILL of the owner"
    one, other = deployment.server(), deployment.server()
    session = one.call("POST", "/sessions", json={})
    deployment.model.script(lambda body: _many(body))
    turns = [one.call("POST", f"/sessions/{session['id']}/query", json={"query": "go"})]
    until(lambda: len(deployment.ledger(session)) >= 3)
    one, other = _owner_first(deployment, session)
    turns.append(other.call("POST", f"/sessions/{session['id']}/query", json={"query": "again"}))
    one.kill()
    began = time.monotonic()
    until(lambda: _taken(other, session), TAKEOVER_S + LEASE_S)
    TIMES["takeover after SIGKILL"].append(time.monotonic() - began)
    promise(fault, f"takeover within {TAKEOVER_S:.0f} s", time.monotonic() - began < TAKEOVER_S)
    for turn in turns:
        other.until_ended(turn["turn_id"])
    check_log(fault, other.events(session["id"]), [turn["turn_id"] for turn in turns])
    check_ledger(fault, deployment.ledger(session))
    check_history(fault, deployment.model)
