"""Notebooks leave with where they come from, run again elsewhere, and say whether they came out the same."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
import pytest
from httpx_sse import connect_sse
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tests.doubles.openai_server import OpenAIServer, Say, cell
from tests.jupyter import JupyterServer

CSV = "region,sales\nnorth,1.5\nsouth,2.5\n"
DRAW = """import matplotlib.pyplot as plt
plt.plot(df.sales)
plt.show()"""


def notebook(*sources: str, outputs: dict[int, list[Any]] | None = None, **metadata: Any) -> bytes:
    """A notebook of code cells, with what is recorded of some."""
    made = new_notebook(metadata=metadata)
    for place, source in enumerate(sources):
        recorded = (outputs or {}).get(place)
        made.cells.append(new_code_cell(source, outputs=recorded or [], execution_count=place + 1))
    return nbformat.writes(made).encode()


def text(value: str) -> list[Any]:
    return [new_output("stream", name="stdout", text=value)]


def replay(jupyter: JupyterServer, data: bytes, *files: tuple[str, str], **params: Any) -> dict[str, Any]:
    parts = [("notebook", ("n.ipynb", data)), *(("file", (name, held.encode())) for name, held in files)]
    told: dict[str, Any] = jupyter.call("POST", "/replay", files=parts, params=params)
    return told


def verdicts(report: dict[str, Any]) -> list[str]:
    return [found["verdict"] for found in report["cells"]]


def folders(jupyter: JupyterServer) -> list[Path]:
    """Folders of replays that are still there."""
    return list((jupyter.root / "cellwright").glob(".replay-*"))


@pytest.fixture
def worked(jupyter: JupyterServer, session: str, model: OpenAIServer) -> str:
    """A session in which the agent loaded a file, failed once, drew a figure and wrote a file."""
    jupyter.call("POST", f"/sessions/{session}/upload", files={"file": ("sales.csv", CSV.encode())})
    model.script(
        [
            cell("import pandas as pd\ndf = pd.read_csv('sales.csv')\ndf", "load"),
            cell("df.nosuch", "fails"),
            cell(DRAW, "draw"),
            cell("df.to_csv('copy.csv')\nprint(df.sales.mean())", "save"),
            Say("The mean is **2**."),
        ]
    )
    turn = jupyter.call("POST", f"/sessions/{session}/query", json={"query": "What is the mean?"})
    assert jupyter.until_ended(turn["turn_id"])["status"] == "completed"
    return session


def exported(jupyter: JupyterServer, session: str, form: str = "ipynb") -> bytes:
    answer = jupyter.http.get(f"/sessions/{session}/export", params={"format": form})
    assert answer.status_code == 200
    return answer.content


def test_an_export_says_where_it_comes_from(jupyter: JupyterServer, worked: str) -> None:
    """Session, turns with their models, hashes of inputs and artifacts, versions: in the notebook's own metadata."""
    held = json.loads(exported(jupyter, worked))
    nbformat.validate(nbformat.from_dict(held))
    about = held["metadata"]["cellwright"]
    assert about["session_id"] == worked
    assert [(turn["n"], turn["status"], turn["model"]) for turn in about["turns"]] == [
        (1, "completed", "openai/scripted")
    ]
    [given] = about["inputs"]
    assert (given["name"], given["size_bytes"], len(given["sha256"])) == ("sales.csv", len(CSV), 64)
    assert [(made["name"], len(made["sha256"])) for made in about["artifacts"]] == [("copy.csv", 64)]
    assert set(about["packages"]) == {"pandas", "matplotlib"}
    kinds = [(c["cell_type"], c["metadata"].get("cellwright", {}).get("role")) for c in held["cells"]]
    assert kinds == [("markdown", "prompt"), *[("code", None)] * 4, ("markdown", "answer")]
    assert [c["metadata"].get("tags") for c in held["cells"]][2] == ["skip-execution"]
    assert "cellwright.object" not in json.dumps(held["cells"])


def run(*command: str, cwd: Path) -> None:
    done = subprocess.run([sys.executable, "-m", *command], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3_000:]


def test_an_export_runs_without_us(jupyter: JupyterServer, worked: str, tmp_path: Path) -> None:
    """Beside its file it runs with `nbconvert --execute` and with papermill, as it is."""
    (tmp_path / "n.ipynb").write_bytes(exported(jupyter, worked))
    (tmp_path / "sales.csv").write_text(CSV)
    run("nbconvert", "--to", "notebook", "--execute", "--output", "again.ipynb", "n.ipynb", cwd=tmp_path)
    run("papermill", "--no-progress-bar", "n.ipynb", "papermilled.ipynb", cwd=tmp_path)
    for name in ("again.ipynb", "papermilled.ipynb"):
        made = nbformat.read(tmp_path / name, as_version=4)
        assert any("2.0" in str(c.get("outputs")) for c in made.cells)


def test_parameters_stay_parameters(jupyter: JupyterServer, tmp_path: Path) -> None:
    """A notebook with a parameters cell is one after it was a session, too."""
    made = new_notebook(
        cells=[new_code_cell("n = 1", metadata={"tags": ["parameters"]}), new_code_cell("print(n * 7)")]
    )
    parts = {"notebook": ("p.ipynb", nbformat.writes(made).encode())}
    session = jupyter.call("POST", "/import", files=parts)["id"]
    (tmp_path / "p.ipynb").write_bytes(exported(jupyter, session))
    run("papermill", "--no-progress-bar", "-p", "n", "6", "p.ipynb", "out.ipynb", cwd=tmp_path)
    assert "42" in (tmp_path / "out.ipynb").read_text()


def test_a_session_proves_itself(jupyter: JupyterServer, worked: str) -> None:
    """Its export replays the same, with its inputs from the store; a changed input or a missing one is named."""
    data = exported(jupyter, worked)
    report = replay(jupyter, data)
    assert verdicts(report) == ["same", "skipped", "same", "same"]
    assert (report["verdict"], report["inputs"]) == ("same", [{"name": "sales.csv", "status": "same"}])
    assert report["packages"] == []
    changed = replay(jupyter, data, ("sales.csv", CSV.replace("2.5", "4.5")))
    assert verdicts(changed) == ["different", "skipped", "different", "different"]
    assert changed["inputs"] == [{"name": "sales.csv", "status": "changed"}]
    assert "-2.0\n+3.0" in changed["cells"][3]["differences"][0]["text"]
    jupyter.call("DELETE", f"/sessions/{worked}")
    gone = replay(jupyter, data)
    assert verdicts(gone) == ["failed", "skipped", "skipped", "skipped"]
    assert gone["inputs"] == [{"name": "sales.csv", "status": "missing"}]


def test_what_cannot_be_the_same(jupyter: JupyterServer) -> None:
    """Time, chance, other versions and a failure, each by its verdict; what follows a failure runs where asked."""
    data = notebook(
        "print(6 * 7)",
        "import time; print(time.time_ns())",
        "print(0.1 + 0.2)",
        "1 / 0",
        "print('after')",
        outputs={0: text("42\n"), 1: text("1\n"), 2: text("0.3000000000000001\n"), 4: text("after\n")},
        cellwright={"packages": {"nosuchpackage": "1.0", "pip": "0.1"}},
    )
    report = replay(jupyter, data)
    assert verdicts(report) == ["same", "different", "tolerance", "failed", "skipped"]
    assert (report["verdict"], report["counts"]["failed"]) == ("failed", 1)
    assert report["cells"][3]["reason"] == "ZeroDivisionError: division by zero"
    assert {p["name"]: (p["recorded"], p["now"] is None) for p in report["packages"]} == {
        "nosuchpackage": ("1.0", True),
        "pip": ("0.1", False),
    }
    assert verdicts(replay(jupyter, data, keep_going=True))[-1] == "same"


def test_files_come_with_their_folders(jupyter: JupyterServer) -> None:
    """A notebook finds its files by the paths that it knows; one that would lie outside is refused."""
    data = notebook("print(open('data/in.txt').read())", outputs={0: text("hello\n")})
    assert verdicts(replay(jupyter, data, ("data/in.txt", "hello"))) == ["same"]
    for name in ("../out.txt", "/etc/x.txt", "a/../../x"):
        parts = [("notebook", ("n.ipynb", data)), ("file", (name, b"x"))]
        assert jupyter.http.post("/replay", files=parts).status_code == 422, name
    assert folders(jupyter) == []


def test_a_kernel_that_dies(jupyter: JupyterServer) -> None:
    """A cell that ends its kernel fails, and the rest says why it was not run."""
    report = replay(jupyter, notebook("import os; os._exit(3)", "1"), keep_going=True)
    assert verdicts(report) == ["failed", "skipped"]
    assert "exit code 3" in report["cells"][1]["reason"]


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"no notebook", 422),
        (b"{}", 422),
        (notebook("1", kernelspec={"name": "ir", "display_name": "R", "language": "R"}), 422),
        (notebook("1", kernelspec={"name": "conda-env-x-py", "display_name": "x", "language": "python"}), 200),
        (json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {"cellwright": 3}, "cells": []}).encode(), 200),
    ],
)
def test_bad_notebooks(jupyter: JupyterServer, data: bytes, status: int) -> None:
    """What is no notebook, or needs a kernel that is not here, is refused in words; provenance may be anything."""
    answer = jupyter.http.post("/replay", files={"notebook": ("n.ipynb", data)})
    assert answer.status_code == status, answer.text
    assert folders(jupyter) == []


def test_progress_as_it_runs(jupyter: JupyterServer) -> None:
    """The stream tells each cell as it begins and ends, then the whole report; a failure to begin is an event, too."""
    heard: list[tuple[str, Any]] = []
    parts = {"notebook": ("n.ipynb", notebook("print(1)", "2"))}
    with connect_sse(jupyter.http, "POST", "/replay", files=parts) as source:
        heard = [(event.event, event.json()) for event in source.iter_sse()]
    assert [kind for kind, _ in heard] == [
        "replay.started",
        *["cell.started", "cell.replayed"] * 2,
        "replay.completed",
    ]
    assert heard[-1][1]["counts"]["different"] == 2
    missing = {"notebook": ("n.ipynb", notebook("1", kernelspec={"name": "ir", "language": "R", "display_name": "R"}))}
    with connect_sse(jupyter.http, "POST", "/replay", files=missing) as source:
        [(kind, data)] = [(event.event, event.json()) for event in source.iter_sse()]
    assert (kind, data["status"]) == ("replay.failed", 422)


def test_who_leaves_ends_it(jupyter: JupyterServer) -> None:
    """A client that goes away takes its replay's kernel and folder with it."""
    before = jupyter.call("GET", "/health")["kernels"]["live"]
    parts = {"notebook": ("n.ipynb", notebook("import time; time.sleep(600)"))}
    with connect_sse(jupyter.http, "POST", "/replay", files=parts) as source:
        events = source.iter_sse()
        while next(events).event != "cell.started":
            pass
        assert jupyter.call("GET", "/health")["kernels"]["live"] == before + 1
    give_up = time.monotonic() + 20
    while jupyter.call("GET", "/health")["kernels"]["live"] > before or folders(jupyter):
        assert time.monotonic() < give_up
        time.sleep(0.1)


def test_the_page(jupyter: JupyterServer) -> None:
    """As HTML it is one page that shows both sides and holds all that it shows."""
    data = notebook("print(1)", "raise ValueError('<b>bad</b>')", outputs={0: text("2\n")})
    answer = jupyter.http.post("/replay", files={"notebook": ("n.ipynb", data)}, headers={"Accept": "text/html"})
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["content-security-policy"].startswith("sandbox;")
    assert "1 failed" in answer.text
    assert "&lt;b&gt;bad" in answer.text
    assert "http://" not in answer.text.replace("http://www.w3.org", "")
    assert "https://" not in answer.text


def test_a_notebook_becomes_a_session(jupyter: JupyterServer, model: OpenAIServer) -> None:
    """Any notebook, of any version, with its files: cells, outputs and attachments are there, and the agent goes on."""
    made = new_notebook(
        cells=[new_markdown_cell("# Hello"), new_code_cell("x = open('d/x.txt').read()", outputs=text("a"))]
    )
    parts = [("notebook", ("Mine.ipynb", nbformat.writes(made, version=3).encode())), ("file", ("d/x.txt", b"42"))]
    session = jupyter.call("POST", "/import", files=parts, params={"key": "mine"})
    assert (session["title"], session["key"]) == ("Mine", "mine")
    held = jupyter.call("GET", "/sessions/mine/notebook")
    assert [c["source"] for c in held["cells"]] == ["# Hello", "x = open('d/x.txt').read()"]
    assert held["cells"][1]["outputs"][0]["text"] == "a"
    assert (jupyter.root / session["workspace"] / "d" / "x.txt").read_text() == "42"
    assert nbformat.read(jupyter.root / session["notebook_path"], as_version=4).cells[0].source == "# Hello"
    ran = jupyter.call("POST", "/sessions/mine/execute", json={"source": held["cells"][1]["source"] + "\nx"})
    assert ran["outputs"][0]["data"]["text/plain"] == "'42'"
    count = jupyter.call("GET", "/sessions")["total"]
    for bad in (b"no", b"{}"):
        assert jupyter.http.post("/import", files={"notebook": ("n.ipynb", bad)}).status_code == 422
    outside = [("notebook", ("n.ipynb", notebook("1"))), ("file", ("../x", b"1"))]
    assert jupyter.http.post("/import", files=outside).status_code == 422
    assert jupyter.http.post("/import", files=parts, params={"key": "mine"}).status_code == 409
    assert jupyter.call("GET", "/sessions")["total"] == count


def test_the_kernel_of_an_import_is_the_sessions(jupyter: JupyterServer) -> None:
    """An environment that is on no other machine is not asked for by its exports."""
    data = notebook("1", kernelspec={"name": "conda-env-foo-py", "display_name": "foo", "language": "python"})
    session = jupyter.call("POST", "/import", files={"notebook": ("n.ipynb", data)})["id"]
    exported = jupyter.call("GET", f"/sessions/{session}/export", params={"format": "ipynb"})
    assert exported["metadata"]["kernelspec"]["name"] == "python3"


def test_a_notebook_in_another_language(jupyter: JupyterServer) -> None:
    """A session of it would run nothing of it."""
    data = notebook("x <- 1", kernelspec={"name": "ir", "display_name": "R", "language": "R"})
    answer = jupyter.http.post("/import", files={"notebook": ("n.ipynb", data)})
    assert answer.status_code == 422
    assert "written in r" in answer.json()["detail"]


def test_an_input_that_was_written_over(jupyter: JupyterServer) -> None:
    """The replay begins with the file as it was given."""
    session = jupyter.call("POST", "/sessions", json={"title": "Over"})["id"]
    jupyter.call("POST", f"/sessions/{session}/upload", files={"file": ("n.csv", b"a\n1\n")})
    source = "import pandas as pd\nd = pd.read_csv('n.csv')\n(d * 2).to_csv('n.csv', index=False)\nd"
    turn = jupyter.call("POST", f"/sessions/{session}/execute", json={"source": source})
    jupyter.until_ended(turn["turn_id"])
    data = exported(jupyter, session)
    assert [row["name"] for row in json.loads(data)["metadata"]["cellwright"]["inputs"]] == ["n.csv"]
    report = replay(jupyter, data)
    assert (report["verdict"], report["inputs"]) == ("same", [{"name": "n.csv", "status": "same"}])


def test_an_export_comes_back(jupyter: JupyterServer, worked: str) -> None:
    """An exported session imported again has the same cells, and knows where it came from."""
    data = exported(jupyter, worked)
    session = jupyter.call("POST", "/import", files={"notebook": ("n.ipynb", io.BytesIO(data))})["id"]
    before, after = json.loads(data), json.loads(exported(jupyter, session))
    assert [(c["id"], c["source"], c.get("outputs")) for c in after["cells"]] == [
        (c["id"], c["source"], c.get("outputs")) for c in before["cells"]
    ]
    assert after["metadata"]["cellwright"]["session_id"] == session
    assert after["metadata"]["cellwright/imported_from"]["session_id"] == worked
