"""Undo, redo, branches, snapshots and checkpoints over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from tests.doubles.openai_server import OpenAIServer, Say, cell
from tests.jupyter import JupyterServer


@pytest.fixture
def talked(jupyter: JupyterServer, session: str, model: OpenAIServer) -> str:
    """A session of two turns, each with a cell, a variable, a file and an artifact."""
    for number in (1, 2):
        model.script([cell(f"x = {number}; open('f{number}.txt', 'w').write('{number}'); x"), Say(f"answer {number}")])
        turn = jupyter.call("POST", f"/sessions/{session}/query", json={"query": f"question {number}"})
        jupyter.until_ended(turn["turn_id"])
    return session


def seen(jupyter: JupyterServer, session: str) -> dict[str, Any]:
    def get(path: str) -> Any:
        return jupyter.call("GET", f"/sessions/{session}{path}")

    return {
        "messages": [m["content"] for m in get("/messages")["messages"]],
        "history": [entry["content"] for entry in get("/history")["history"]],
        "count": get("")["message_count"],
        "cells": [(c["id"], c["source"], c.get("outputs")) for c in get("/notebook")["cells"]],
        "files": sorted(f["name"] for f in get("/files")["files"]),
        "artifacts": sorted(a["name"] for a in get("/artifacts")["artifacts"]),
        "context": [m["content"] for m in get("/context/rendered")["messages"][1:]],
    }


def value(jupyter: JupyterServer, session: str, name: str) -> str:
    told = jupyter.call("GET", f"/sessions/{session}/variables/{name}")
    return str(told["preview"])


def test_a_diff(jupyter: JupyterServer, talked: str) -> None:
    """What one point has otherwise than another: cells with their outputs, files, variables, artifacts, turns."""
    told = jupyter.call("GET", f"/sessions/{talked}/diff", params={"turn": "1", "other_turn": "2"})
    assert [(c["what"], "x = 2" in c["source"]) for c in told["cells"] if c["kind"] == "code"] == [("added", True)]
    assert told["files"] == {"added": ["f2.txt"], "changed": [], "deleted": []}
    assert told["variables"] == [{"name": "x", "what": "changed", "before": "int 1", "after": "int 2", "how": "1 → 2"}]
    assert told["artifacts"]["added"] == ["f2.txt"]
    assert told["turns"]["added"] == ["2: question 2"]
    back = jupyter.call("GET", f"/sessions/{talked}/diff", params={"turn": "2", "other_turn": "1"})
    assert [c["what"] for c in back["cells"] if c["kind"] == "code"] == ["deleted"]
    assert back["files"]["deleted"] == ["f2.txt"]
    assert jupyter.http.get(f"/sessions/{talked}/diff", params={"turn": "9"}).status_code == 404


def test_undo_and_redo(jupyter: JupyterServer, talked: str) -> None:
    """Everything that the surface tells of a session goes back, and forth again; the answer says how."""
    after = seen(jupyter, talked)
    foretold = jupyter.call("POST", f"/sessions/{talked}/undo", json={"dry_run": True})
    assert (foretold["from_turn"], foretold["to_turn"], foretold["left_turns"]) == (2, 1, [2])
    assert seen(jupyter, talked) == after
    told = jupyter.call("POST", f"/sessions/{talked}/undo", json={})
    assert (told["to_turn"], told["files"]["removed"]) == (1, ["f2.txt"])
    assert told["variables"]["means"] in (["fork"], ["stored"])
    now = seen(jupyter, talked)
    assert (now["messages"], now["files"], now["artifacts"]) == (
        ["question 1", "", "answer 1"],
        ["f1.txt"],
        ["f1.txt"],
    )
    assert now["count"] == 3
    assert value(jupyter, talked, "x") == "1"
    held = jupyter.call("GET", f"/sessions/{talked}")
    assert (held["head_turn"], held["can_redo"], held["turn_count"]) == (1, True, 2)
    jupyter.call("POST", f"/sessions/{talked}/redo")
    assert seen(jupyter, talked) == after
    assert value(jupyter, talked, "x") == "2"
    moved = [event for event in jupyter.events(talked) if event["type"] == "head.moved"]
    assert [(m["why"], m["rewound"]["to_turn"]) for m in moved] == [("undo", 1), ("redo", 2)]


def test_the_log_has_no_limbs(jupyter: JupyterServer, talked: str) -> None:
    """What a page shows of a session's past is what leads to its head; its turns tell of the rest."""
    jupyter.call("POST", f"/sessions/{talked}/undo")
    logged = jupyter.call("GET", f"/sessions/{talked}/log")
    assert [e["data"]["n"] for e in logged["events"] if e["event"] == "turn.queued"] == [1]
    turns = jupyter.call("GET", f"/sessions/{talked}/turns")["turns"]
    assert [(t["n"], t["limb"], t["kind"]) for t in turns] == [(1, False, "ask"), (2, True, "ask")]
    assert turns[1]["parent_id"] == turns[0]["id"]


def test_the_working_copy_goes_back(jupyter: JupyterServer, talked: str) -> None:
    """The notebook's file is the one of then."""
    import nbformat

    jupyter.call("POST", f"/sessions/{talked}/undo")
    path = jupyter.root / jupyter.call("GET", f"/sessions/{talked}")["notebook_path"]
    assert "question 2" not in path.read_text()
    held = nbformat.read(path, as_version=4)
    assert [c.id for c in held.cells] == [c[0] for c in seen(jupyter, talked)["cells"]]


def test_a_branch(jupyter: JupyterServer, talked: str) -> None:
    """A session of its own, which knows where it comes from; deleting either leaves the other whole."""
    jupyter.call("POST", f"/sessions/{talked}/undo")
    first = seen(jupyter, talked)
    jupyter.call("POST", f"/sessions/{talked}/redo")
    made = jupyter.call("POST", f"/sessions/{talked}/branch", json={"from_turn": 1, "key": "other-way"})
    assert (made["parent"], made["head_turn"], made["title"]) == (
        {"session_id": talked, "turn": 1},
        1,
        "API (branch)",
    )
    assert seen(jupyter, "other-way") == first
    grandchild = jupyter.call("POST", "/sessions/other-way/branch", json={"from_turn": 1})
    assert grandchild["title"] == "API (branch 2)"
    jupyter.call("DELETE", f"/sessions/{grandchild['id']}")
    ran = jupyter.call("POST", "/sessions/other-way/execute", json={"source": "x + 10"})
    assert ran["outputs"][0]["data"]["text/plain"] == "11"
    assert jupyter.http.post(f"/sessions/{talked}/branch", json={"key": "other-way"}).status_code == 409
    jupyter.call("DELETE", f"/sessions/{talked}")
    ran = jupyter.call("POST", "/sessions/other-way/execute", json={"source": "open('f1.txt').read()"})
    assert ran["outputs"][0]["data"]["text/plain"] == "'1'"
    jupyter.call("DELETE", "/sessions/other-way")


def test_snapshots(jupyter: JupyterServer, talked: str) -> None:
    """The notebook after every turn, by its revision."""
    rows = jupyter.call("GET", f"/sessions/{talked}/snapshots")["snapshots"]
    assert [row["turn"] for row in rows] == [1, 2]
    first = jupyter.call("GET", f"/sessions/{talked}/snapshots/{rows[0]['revision']}")
    assert "question 2" not in str(first["cells"])
    for wrong in ("999999", "x", "-1"):
        assert jupyter.http.get(f"/sessions/{talked}/snapshots/{wrong}").status_code == 404


def test_checkpoints(jupyter: JupyterServer, talked: str) -> None:
    """A point with a name is listed with its size, and restored; into another session only its facts go."""
    jupyter.call("PATCH", f"/sessions/{talked}/context", json={"context": {"unit": "kg"}})
    made = jupyter.call("POST", f"/sessions/{talked}/checkpoints", json={"label": "good"})
    assert "x" in made["variables"]
    before = seen(jupyter, talked)
    jupyter.call("POST", f"/sessions/{talked}/execute", json={"source": "x = 'bad'"})
    [listed] = jupyter.call("GET", f"/sessions/{talked}/checkpoints")["checkpoints"]
    assert listed == made
    path = f"/checkpoints/{made['id']}/restore"
    assert jupyter.call("POST", path, json={"dry_run": True})["rewound"]["left_turns"] != []
    assert jupyter.call("POST", path, json={})["rewound"]["to_turn"] == made["turn"]
    now = seen(jupyter, talked)
    assert {k: v for k, v in now.items() if k != "context"} == {k: v for k, v in before.items() if k != "context"}
    assert value(jupyter, talked, "x") == "2"
    other = jupyter.call("POST", "/sessions", json={"title": "Other"})["id"]
    assert jupyter.call("POST", path, json={"into": other, "merge": "merge"}) == {"rewound": None}
    assert jupyter.call("GET", f"/sessions/{other}/context")["context"] == {"unit": "kg"}
    assert jupyter.http.post(path, json={"merge": "merge", "keys": ["unit"]}).status_code == 422
    assert jupyter.http.post(f"/checkpoints/{talked}/restore", json={}).status_code == 404


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"to_turn": 9}, 404),
        ({"to_turn": -1}, 404),
        ({"to_turn": "x"}, 422),
        ({"to_turn": "00000000-0000-0000-0000-000000000000"}, 404),
        ({"to_turn": 2**70}, 404),
        ({"rerun": "maybe"}, 422),
        ({"turn": 1}, 422),
    ],
)
def test_bad_moves(jupyter: JupyterServer, talked: str, body: dict[str, Any], status: int) -> None:
    """What is no turn of the session's is refused in words, and nothing moves."""
    answer = jupyter.http.post(f"/sessions/{talked}/undo", json=body)
    assert answer.status_code == status, answer.text
    assert jupyter.call("GET", f"/sessions/{talked}")["head_turn"] == 2


def test_not_while_a_turn_runs(jupyter: JupyterServer, session: str) -> None:
    """While a turn is under way, and before the first, there is nothing to undo."""
    assert jupyter.http.post(f"/sessions/{session}/undo").status_code == 409
    assert jupyter.http.post(f"/sessions/{session}/redo").status_code == 409
    assert jupyter.http.post(f"/sessions/{session}/kernel/recover").status_code == 409
    model_free = {"source": "import time; time.sleep(600)"}
    with jupyter.http.stream(
        "POST", f"/sessions/{session}/execute", json=model_free, headers={"Accept": "text/event-stream"}
    ) as answer:
        turn = next(line for line in answer.iter_lines() if "turn_id" in line)
        for path in ("undo", "branch", "checkpoints"):
            body = {"label": "x"} if path == "checkpoints" else {}
            assert jupyter.http.post(f"/sessions/{session}/{path}", json=body).status_code == 409, path
        turn_id = turn.partition('"turn_id": "')[2][:36]
        jupyter.call("POST", f"/turns/{turn_id}/stop")
        jupyter.until_ended(turn_id)
    assert jupyter.call("POST", f"/sessions/{session}/undo")["to_turn"] == 0


def test_recovery(jupyter: JupyterServer, talked: str) -> None:
    """After a kernel's death its variables come back when asked for."""
    jupyter.call("POST", f"/sessions/{talked}/execute", json={"source": "import os; os._exit(1)"})
    foretold = jupyter.call("POST", f"/sessions/{talked}/kernel/recover", json={"dry_run": True})
    back = jupyter.call("POST", f"/sessions/{talked}/kernel/recover")
    assert back["restored"] == foretold["restored"]
    assert "x" in back["restored"]
    assert [again["verdict"] for again in back["ran_again"]] in ([], ["same"])
    assert value(jupyter, talked, "x") == "2"
    assert jupyter.http.post(f"/sessions/{talked}/kernel/recover").status_code == 409
    left = jupyter.http.get(f"/sessions/{talked}/export", params={"format": "ipynb"}).json()["cells"]
    fatal = [cell for cell in left if "os._exit" in "".join(cell["source"]) and cell["cell_type"] == "code"]
    assert [cell["metadata"]["tags"] for cell in fatal] == [["skip-execution"]]
