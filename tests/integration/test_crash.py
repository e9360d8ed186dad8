"""A server that is killed, and the one that comes back. A ledger file, written by cells, is the truth of what ran."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from cellwright.server.models.rehearsal import RecordedCall, RecordedReply, RecordedTurn, Recording

from tests.jupyter import JupyterServer

LEDGER = """
with open("ledger.txt", "a") as ledger:
    ledger.write("ran\\n")
kept = 11
"""


@pytest.fixture
def jupyter(tmp_path: Path, root: Path, data_dir: Path) -> Iterator[JupyterServer]:
    server = JupyterServer(
        tmp_path,
        root,
        data_dir,
        CELLWRIGHT_MODEL="rehearsal:crash.rehearsal.json",
        CELLWRIGHT_KERNEL_GRACE_S="20",
    )
    yield server
    server.stop()


def rehearse(root: Path, source: str, result: str) -> None:
    """A model that runs `source`, expects `result`, and answers: the same history always gets the same reply."""
    call = RecordedCall(name="run_cell", arguments=json.dumps({"source": source}), result=result)
    replies = [RecordedReply(calls=[call]), RecordedReply(content="Done.")]
    recording = Recording(title="crash", model="none", turns=[RecordedTurn(query="go", replies=replies)])
    (root / "crash.rehearsal.json").write_text(recording.to_json())


POINTS = [
    ("after:turn.queued", 1, "ok"),
    ("after:turn.started", 1, "ok"),
    ("before:message.completed", 1, "ok"),
    ("after:message.completed", 1, "ok"),
    ("before:cell.started", 1, "ok"),
    ("after:cell.started", 0, "outcome_unknown"),
    ("before:cell.completed", 1, "ok"),
    ("after:cell.completed", 1, "ok"),
    ("before:tool.completed", 1, "ok"),
    ("after:tool.completed", 1, "ok"),
    ("before:turn.completed", 1, "ok"),
    ("after:turn.completed", 1, "ok"),
]


@pytest.mark.parametrize(("point", "runs", "status"), POINTS)
def test_a_crash_between_any_two_writes(jupyter: JupyterServer, root: Path, point: str, runs: int, status: str) -> None:
    """The turn reaches one end, the cell ran at most once, and the log has no gap, wherever the server died."""
    unknown = "The server was restarted while the cell ran: whether it finished is not known."
    said = "The cell ran without output." if status == "ok" else unknown
    rehearse(root, LEDGER, f"cell <id>: {status}\n{said}")
    jupyter.start(CELLWRIGHT_TEST_CRASH_AT=point)
    session = jupyter.call("POST", "/sessions", json={"title": "crash"})
    with contextlib.suppress(httpx.TransportError):
        jupyter.http.post(f"/sessions/{session['id']}/query", json={"query": "go"})
    jupyter.wait_dead()
    jupyter.start()
    turn = jupyter.call("GET", f"/sessions/{session['id']}/turns")["turns"][0]
    turn = jupyter.until_ended(turn["id"])
    assert (turn["status"], turn["answer"]) == ("completed", "Done.")
    ledger = root / session["workspace"] / "ledger.txt"
    assert (ledger.read_text().count("ran") if ledger.exists() else 0) == runs
    assert [run["status"] for run in turn["cells"]] == [status]
    events = jupyter.events(session["id"])
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert [event["type"] for event in events].count("turn.completed") == 1
    notebook = jupyter.call("GET", f"/sessions/{session['id']}/notebook")
    assert [c["cell_type"] for c in notebook["cells"]] == ["markdown", "code", "markdown"]
    if runs:
        after = jupyter.call("POST", f"/sessions/{session['id']}/execute", json={"source": "kept"})
        assert after["outputs"][0]["data"]["text/plain"] == "11"


@pytest.mark.parametrize("copies", ["0", "1"])
@pytest.mark.parametrize("point", ["after:head.moving", "before:head.moved", "after:head.moved"])
def test_a_crash_while_the_head_moves(jupyter: JupyterServer, root: Path, point: str, copies: str) -> None:
    """The session is at the one point or the other as a whole, and what the user did meanwhile stays."""
    jupyter.start(CELLWRIGHT_TEST_CRASH_AT=point, CELLWRIGHT_LIVE_COPIES=copies)
    session = jupyter.call("POST", "/sessions", json={"title": "crash"})["id"]
    for number in (1, 2):
        source = f"kept = {number}\nopen('all.txt', 'a').write('{number}')\nopen('{number}.txt', 'w').write('')"
        assert jupyter.call("POST", f"/sessions/{session}/execute", json={"source": source})["status"] == "ok"
    with contextlib.suppress(httpx.TransportError):
        jupyter.http.post(f"/sessions/{session}/undo", json={})
    jupyter.wait_dead()
    folder = root / next(root.glob("cellwright/*"))
    (folder / "mine.txt").write_text("mine")
    jupyter.start()
    head = 1 if point == "after:head.moved" else 2
    source = "(kept, open('all.txt').read(), sorted(p.name for p in __import__('pathlib').Path().glob('*.txt')))"
    after = jupyter.call("POST", f"/sessions/{session}/execute", json={"source": source})
    numbers = range(1, head + 1)
    files = sorted([*(f"{number}.txt" for number in numbers), "all.txt", "mine.txt"])
    assert after["outputs"][0]["data"]["text/plain"] == repr((head, "".join(map(str, numbers)), files))
    told = [event["type"] for event in jupyter.events(session) if event["type"].startswith("head.")]
    assert told == ["head.moving", "head.moved" if head == 1 else "head.stayed"]
    notebook = jupyter.call("GET", f"/sessions/{session}/notebook")
    assert len(notebook["cells"]) == head + 1


def test_variables_and_a_running_cell_survive_a_kill(jupyter: JupyterServer, root: Path) -> None:
    """A cell that ran on while the server was dead is finished, every output once, and its kernel goes on."""
    source = "import time\nbefore = 5\nfor i in range(12): print('tick', i, flush=True); time.sleep(0.25)\nbefore * 2"
    ticks = "\n".join(f"tick {i}" for i in range(12))
    rehearse(root, source, f"cell <id>: ok\n{ticks}\n10")
    jupyter.start()
    session = jupyter.call("POST", "/sessions", json={})
    turn = jupyter.call("POST", f"/sessions/{session['id']}/query", json={"query": "go"})
    kernel = None
    while kernel is None or "cell.started" not in [event["type"] for event in jupyter.events(session["id"])]:
        kernel = jupyter.call("GET", f"/sessions/{session['id']}/kernel")["id"]
    tab = {"path": session["notebook_path"], "name": "", "type": "notebook", "kernel": {"id": kernel}}
    opened = httpx.post(f"{jupyter.url}api/sessions?token=testing", json=tab, trust_env=False).json()
    time.sleep(0.6)
    jupyter.kill()
    jupyter.start()
    assert [k["id"] for k in httpx.get(f"{jupyter.url}api/kernels?token=testing", trust_env=False).json()] == [kernel]
    (found,) = httpx.get(f"{jupyter.url}api/sessions?token=testing", trust_env=False).json()
    assert (found["id"], found["path"]) == (opened["id"], opened["path"])
    assert found["kernel"]["id"] == kernel
    assert found["kernel"]["execution_state"] in ("busy", "idle")
    ended = jupyter.until_ended(turn["turn_id"])
    assert ended["status"] == "completed"
    cells = [event for event in jupyter.events(session["id"]) if event["type"] == "cell.completed"]
    assert len(cells) == 1
    shown = cells[0]["outputs"]
    assert shown[0]["text"] == "".join(f"tick {i}\n" for i in range(12))
    assert shown[1]["data"]["text/plain"] == "10"
    again = jupyter.call("POST", f"/sessions/{session['id']}/execute", json={"source": "before"})
    assert again["outputs"][0]["data"]["text/plain"] == "5"


def test_a_kernel_that_nobody_claims_ends(jupyter: JupyterServer, data_dir: Path) -> None:
    """After the grace period nothing of a crashed server's kernel is left: no process, socket or file."""
    import psutil
    from cellwright.server.store.folder import runtime_folder

    jupyter.start(CELLWRIGHT_KERNEL_GRACE_S="1")
    session = jupyter.call("POST", "/sessions", json={})
    ran = jupyter.call("POST", f"/sessions/{session['id']}/execute", json={"source": "import os\nos.getpid()"})
    pid = int(ran["outputs"][0]["data"]["text/plain"])
    jupyter.kill()
    give_up = time.monotonic() + 20
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" and time.monotonic() < give_up:
        time.sleep(0.1)
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie"
    left = [path.name for path in runtime_folder(data_dir).iterdir() if "PGSQL" not in path.name]
    assert left == []


def test_a_clean_stop_leaves_no_process(jupyter: JupyterServer) -> None:
    """Stopping the server ends its kernels and its Postgres."""
    import psutil

    jupyter.start()
    session = jupyter.call("POST", "/sessions", json={})
    jupyter.call("POST", f"/sessions/{session['id']}/execute", json={"source": "1"})
    children = psutil.Process(jupyter.pid).children(recursive=True)
    assert len(children) > 3
    jupyter.stop()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert [p for p in alive if p.status() != "zombie"] == []


@pytest.mark.parametrize("crashed", [False, True], ids=["started here", "adopted"])
def test_a_restart_in_jupyterlab(jupyter: JupyterServer, crashed: bool) -> None:
    """The user's restart of the kernel is followed: same id, new variables, and the loss is told."""
    jupyter.start()
    session = jupyter.call("POST", "/sessions", json={})["id"]
    jupyter.call("POST", f"/sessions/{session}/execute", json={"source": "kept = 1"})
    if crashed:
        jupyter.kill()
        jupyter.start()
    kernel = jupyter.call("GET", f"/sessions/{session}/kernel")["id"]
    api = f"{jupyter.url}api/kernels/{kernel}"
    assert httpx.post(f"{api}/restart?token=testing", trust_env=False, timeout=60).status_code == 200
    time.sleep(4)  # Jupyter looks every three seconds whether a kernel still lives.
    assert httpx.get(f"{api}?token=testing", trust_env=False).status_code == 200
    lost = jupyter.call("POST", f"/sessions/{session}/execute", json={"source": "kept"})
    assert "NameError" in str(lost["outputs"])
    assert jupyter.call("GET", f"/sessions/{session}/kernel")["id"] == kernel
    (told,) = [e for e in jupyter.events(session) if e["type"] == "kernel.changed" and e["variables_lost"]]
    assert (told["status"], told["kernel_id"]) == ("restarted", kernel)


def test_a_kernel_of_the_launcher(jupyter: JupyterServer) -> None:
    """A kernel that a user started in JupyterLab, without any session of ours, outlives a crash as well."""
    jupyter.start()
    asked = {"path": "own.ipynb", "name": "", "type": "notebook", "kernel": {"name": "cellwright"}}
    made = httpx.post(f"{jupyter.url}api/sessions?token=testing", json=asked, trust_env=False, timeout=60).json()
    jupyter.kill()
    jupyter.start()
    (found,) = httpx.get(f"{jupyter.url}api/sessions?token=testing", trust_env=False).json()
    assert (found["id"], found["kernel"]["id"]) == (made["id"], made["kernel"]["id"])
    ended = httpx.delete(f"{jupyter.url}api/sessions/{found['id']}?token=testing", trust_env=False, timeout=60)
    assert ended.status_code == 204
