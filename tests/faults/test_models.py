"""Models that fail in every way that models do: what was cut is withdrawn, cells are not run twice, the turn ends."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest

from tests.doubles.openai_server import OpenAIServer, Say, cell
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

QUICK = {"CELLWRIGHT_FIRST_TOKEN_S": "1", "CELLWRIGHT_BETWEEN_TOKENS_S": "1"}


def ask(server: JupyterServer, session: dict[str, Any], timeout_s: float = 60) -> dict[str, Any]:
    turn = server.call("POST", f"/sessions/{session['id']}/query", json={"query": "go"})
    return server.until_ended(turn["turn_id"], timeout_s)


def check(
    fault: str, deployment: Deployment, server: JupyterServer, session: dict[str, Any], turn: dict[str, Any]
) -> None:
    """What holds afterwards, whatever the model did: also that the session can be used."""
    check_log(fault, server.events(session["id"]), [turn["id"]])
    check_ledger(fault, deployment.ledger(session))
    check_history(fault, deployment.model)
    deployment.model.script([Say("fine")])
    after = ask(server, session)
    promise(fault, "the next turn works", (after["status"], after["answer"]) == ("completed", "fine"), after)
    check_history(fault, deployment.model)


PASSING = {
    "429 with Retry-After": [Say(status=429, headers={"Retry-After": "1"})],
    "500, twice": [Say(status=500), Say(status=500)],
    "silence before the first token": [Say("late", first_token_s=30)],
    "silence between tokens": [Say("a long answer that stalls somewhere", between_s=30)],
    "the stream cut": [Say("a long answer that is cut", cut_after_chunks=1)],
    "a call cut": [Say(calls=[("run_cell", {"source": "open('ledger.txt','a').write('cut ')"})], cut_after_chunks=2)],
}
ENDING = {
    "refused for good": ([Say(status=401)] * 3, "failed"),
    "500 for ever": ([Say(status=500)] * 3, "failed"),
    "an endless loop": (lambda _body: cell("1 + 1"), "failed"),
    "the same failure again and again": (lambda _body: cell("1 / 0"), "failed"),
}
ANSWERED = {
    "arguments that do not parse": [Say(calls=[("run_cell", '{"source": ')]), Say("ok")],
    "an unknown tool": [Say(calls=[("no_such_tool", {"a": 1})]), Say("ok")],
    "arguments of another shape": [Say(calls=[("run_cell", {"sauce": 1})]), Say("ok")],
    "an answer of 2 MB": [Say(" ".join(map(str, range(300_000))), chunk=5_000)],
    "stopped for its length": [Say("half an ans", finish="length"), Say("ok")],
    "two calls at once": [Say(calls=[("run_cell", {"source": "a = 1"}), ("run_cell", {"source": "a + 1"})]), Say("ok")],
}


@pytest.fixture
def server(deployment: Deployment) -> JupyterServer:
    started = deployment.server(**QUICK, CELLWRIGHT_MAX_ITERATIONS="6")
    deployment.model.script(lambda _body: Say("warm"))  # The first call of a process takes longer than QUICK allows.
    ask(started, started.call("POST", "/sessions", json={}))
    deployment.model.requests.clear()
    return started


def test_a_model_that_recovers(deployment: Deployment, server: JupyterServer) -> None:
    """A failed attempt is withdrawn and tried again; the turn is completed, and its cell ran once."""
    for name, bad in PASSING.items():
        fault = f"model: {name}"
        session = server.call("POST", "/sessions", json={})
        deployment.model.script([writes("first"), *bad, Say("Done.")])
        turn = ask(server, session)
        promise(fault, "the turn is finished", (turn["status"], turn["answer"]) == ("completed", "Done."), turn)
        promise(fault, "a cut call does not run", deployment.ledger(session) == ["first"], deployment.ledger(session))
        events = server.events(session["id"])
        withdrawn = [event for event in events if event["type"] == "attempt.discarded"]
        promise(fault, "a failed attempt is withdrawn", len(withdrawn) == len(bad), events)
        promise(fault, "a reply is recorded once", _replies(events) == 2, _replies(events))
        check(fault, deployment, server, session, turn)


def _replies(events: list[dict[str, Any]]) -> int:
    return sum(1 for event in events if event["type"] == "message.completed")


def test_a_model_that_does_not(deployment: Deployment, server: JupyterServer) -> None:
    """The turn ends with a sentence that a person understands, naming the limit if it was one."""
    for name, (script, status) in ENDING.items():
        fault = f"model: {name}"
        session = server.call("POST", "/sessions", json={})
        deployment.model.script(script)
        turn = ask(server, session)
        promise(fault, "the turn ends", turn["status"] == status, turn)
        sentence = turn["cause"] or ""
        plain = sentence.endswith((".", "?")) and "Traceback" not in sentence and 15 < len(sentence) < 400
        promise(fault, "the cause is a sentence", plain, sentence)
        check(fault, deployment, server, session, turn)


def test_a_model_that_talks_nonsense(deployment: Deployment, server: JupyterServer) -> None:
    """What cannot be done is told to the model, which goes on."""
    for name, script in ANSWERED.items():
        fault = f"model: {name}"
        session = server.call("POST", "/sessions", json={})
        deployment.model.script(script)
        turn = ask(server, session)
        failed = [event["reason"] for event in server.events(session["id"]) if event["type"] == "attempt.discarded"]
        promise(fault, "the turn is finished", turn["status"] == "completed", (failed, turn))
        check(fault, deployment, server, session, turn)


def test_a_stream_cut_at_every_byte(deployment: Deployment, server: JupyterServer, tmp_path_factory: Any) -> None:
    """Wherever the answer's bytes end: the attempt is withdrawn, or it was whole; a cell that was cut never runs."""
    fault = "model: cut at every byte"
    with OpenAIServer([writes("whole")]) as recorder:
        reply = httpx.post(
            f"{recorder.url}/chat/completions", json={"model": "m", "messages": [{"role": "user", "content": "x"}]},
            trust_env=False,
        ).content  # fmt: skip
    step = 1 if RUNS else max(1, len(reply) // 40)
    places = list(range(0, len(reply), step))
    deployment.model.cut_reply, deployment.model.cut_at = reply, -1
    session = server.call("POST", "/sessions", json={})
    for place in places:
        deployment.model.cut_at = place
        deployment.model.script([Say("CUT"), Say("Done.")])
        before = len(deployment.ledger(session))
        turn = ask(server, session)
        ran = len(deployment.ledger(session)) - before
        whole = b"[DONE]" in reply[:place] or b'"finish_reason": "tool_calls"' in reply[:place]
        promise(fault, "the turn is finished", turn["status"] == "completed", (place, turn))
        promise(fault, "a cut call does not run", ran == (1 if whole else 0), (place, ran, whole))
    check_log(fault, server.events(session["id"]), [])
    check_history(fault, deployment.model)


def test_limits_each_by_itself(deployment: Deployment) -> None:
    """Iterations, tokens, cost and time: each ends a turn that goes on and on, and is named."""
    fault = "loop into a limit"
    for setting, value, word in (
        ("MAX_ITERATIONS", "3", "iterations"),
        ("MAX_TURN_TOKENS", "3000", "tokens"),
        ("MAX_TURN_S", "2", " s."),
    ):
        server = deployment.server(**{f"CELLWRIGHT_{setting}": value})
        session = server.call("POST", "/sessions", json={})
        deployment.model.script(lambda _body: cell("import time; time.sleep(0.2)"))
        turn = ask(server, session)
        promise(fault, "the limit is named", word in (turn["cause"] or ""), (setting, turn))
        check(fault, deployment, server, session, turn)
        server.stop()


def test_polling_that_makes_progress(deployment: Deployment, server: JupyterServer) -> None:
    """The same code with another result each time is no loop."""
    fault = "loop that makes progress"
    session = server.call("POST", "/sessions", json={})
    again = cell("n = globals().get('n', 0) + 1\nprint(n)")
    deployment.model.script([again, again, again, again, Say("Done.")])
    turn = ask(server, session)
    promise(fault, "progress is allowed", turn["status"] == "completed", turn)


STOPS = RUNS or 10


def test_stop_at_any_moment(deployment: Deployment, server: JupyterServer) -> None:
    """Model call and cell are stopped together, variables stay, and the next turn works."""
    import random

    fault = "stop at random"
    dice = random.Random(7)
    session = server.call("POST", "/sessions", json={})
    server.call("POST", f"/sessions/{session['id']}/execute", json={"source": "kept = 41"})
    turns = []
    for number in range(STOPS):
        slow = "import time\nfor i in range(100): time.sleep(0.05)"
        deployment.model.script(
            [Say("thinking " * 20, between_s=0.01, calls=[("run_cell", {"source": slow})]), Say("no")]
        )
        turn = server.call("POST", f"/sessions/{session['id']}/query", json={"query": f"q{number}"})
        time.sleep(dice.uniform(0, 1.2))
        began = time.monotonic()
        server.call("POST", f"/turns/{turn['turn_id']}/stop")
        ended = server.until_ended(turn["turn_id"])
        TIMES["a stopped turn's end"].append(time.monotonic() - began)
        turns.append(turn["turn_id"])
        promise(fault, "stopped within 3 s", time.monotonic() - began < 3, time.monotonic() - began)
        promise(fault, "the turn says so", ended["status"] == "stopped", ended)
        until(lambda: deployment.model.open_streams == 0, 5)
    after = server.call("POST", f"/sessions/{session['id']}/execute", json={"source": "kept + 1"})
    promise(fault, "variables are kept", after["outputs"][0]["data"]["text/plain"] == "42", after)
    check_log(fault, server.events(session["id"]), turns)
    check_history(fault, deployment.model)
    deployment.model.script([Say("fine")])
    promise(fault, "the next turn works", ask(server, session)["answer"] == "fine")
