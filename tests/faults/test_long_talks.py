"""A conversation of two hundred turns: what the model is sent fits, and still names what counts."""

from __future__ import annotations

from typing import Any

from tests.doubles.openai_server import Say
from tests.faults.conftest import Deployment, promise

TURNS = 200
CONTEXT_TOKENS = 9_000
SUMMARY = "The user counts things, turn by turn; each count was found and told, and nothing failed. " * 4


class Script:
    """Every tenth turn makes a variable and a file and keeps a decision; all others only talk."""

    def __init__(self) -> None:
        self.turn, self.summaries = 0, 0

    def __call__(self, body: dict[str, Any]) -> Say:
        messages = body["messages"]
        if messages[0]["content"].startswith("You summarise"):
            self.summaries += 1
            return Say(SUMMARY)
        if messages[-1]["role"] == "tool" or self.turn % 10:
            return Say(f"The count of turn {self.turn} is {self.turn * 7}. " + "It is as it should be. " * 12)
        n = self.turn
        fact = {"name": f"decision{n}", "fact": f"keep outlier {n}"}
        return Say(
            calls=[
                (
                    "run_cell",
                    {"source": f"value_{n} = {n}\nopen('made_{n}.txt', 'w').write('{n}')", "purpose": "count"},
                ),
                ("remember", fact),
            ]
        )


def test_turn_two_hundred(deployment: Deployment) -> None:
    """The context fits its budget and names every live variable, artifact and decision."""
    fault = f"{TURNS} turns"
    server = deployment.server(CELLWRIGHT_CONTEXT_TOKENS=str(CONTEXT_TOKENS))
    script = Script()
    deployment.model.script(script)
    session = server.call("POST", "/sessions", json={"title": "long"})["id"]
    for script.turn in range(1, TURNS + 1):
        question = {"query": f"Count the things of turn {script.turn}. " + "Mind the details. " * 8}
        turn = server.call("POST", f"/sessions/{session}/query", json=question)
        assert server.until_ended(turn["turn_id"])["status"] == "completed"
    rendered = server.call("GET", f"/sessions/{session}/context/rendered")
    promise(fault, "the context fits its budget", rendered["tokens"]["total"] <= CONTEXT_TOKENS, rendered["tokens"])
    told = rendered["messages"][0]["content"]
    made = range(10, TURNS + 1, 10)
    for what in ("value_{}", "made_{}.txt", "decision{}: keep outlier {}"):
        missing = [n for n in made if what.format(n, n) not in told]
        promise(fault, f"it names every {what.split('_')[0].split('{')[0]}", not missing, missing)
    promise(fault, "older turns are summarised by the model", script.summaries > 0 and SUMMARY[:60] in told)
    asked = [m["content"] for m in deployment.model.requests[-1]["messages"] if m["role"] == "user"]
    promise(fault, "the question is there in full", asked[-1].startswith(f"Count the things of turn {TURNS}."), asked)
