"""The command line as a newcomer meets it: real processes, a real server."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

from tests.doubles.openai_server import OpenAIServer, Say, cell

BIN = Path(sys.executable).parent / "cellwright"


class Shell:
    """Runs `cellwright` in a folder, with a data folder of its own."""

    def __init__(self, folder: Path, cluster: Path) -> None:
        self.folder = folder / "work"
        self.folder.mkdir()
        shutil.copytree(cluster, folder / "data")
        self.env = {**os.environ, "CELLWRIGHT_DATA_DIR": str(folder / "data"), "COLUMNS": "100"}

    def __call__(self, *arguments: str, check: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
        run = subprocess.run(
            [str(BIN), *arguments],
            cwd=self.folder,
            env={**self.env, **env},
            capture_output=True,
            text=True,
            timeout=120,
            stdin=subprocess.DEVNULL,
        )
        assert "Traceback" not in run.stdout + run.stderr
        assert not check or run.returncode == 0, run.stdout + run.stderr
        return run


@pytest.fixture
def shell(tmp_path: Path, cluster: Path) -> Iterator[Shell]:
    made = Shell(tmp_path, cluster)
    yield made
    made("stop", check=False)


def test_the_demo(shell: Shell) -> None:
    """The demo says that it is a rehearsal, does its three turns, and leaves what it says it leaves."""
    run = shell("demo")
    lines = run.stdout.splitlines()
    assert "rehearsal" in lines[0]
    text = " ".join(run.stdout.split())
    for words in ("Load the file", "KeyError", "body-mass-histogram.png", "flipper_fits.csv", "ran it again without"):
        assert words in text, words
    [path] = shell.folder.glob("cellwright/*/*.ipynb")
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    tags = [c.metadata.get("tags") for c in notebook.cells if c.cell_type == "code"]
    assert tags.count(["skip-execution"]) == 1
    assert (path.parent / "flipper_fits.csv").exists()
    told = json.loads(shell("show", "penguins", "--json").stdout)
    assert told["turn_count"] == 3
    assert sum(a["file_type"] == "png" for a in told["artifacts"]) == 2
    again = shell("demo")
    assert "penguins-2" in again.stdout


def test_ask_and_go_on(shell: Shell, model: OpenAIServer) -> None:
    """A file, a question, another that uses what the first made; then everything else one does with a session."""
    shell.env |= model.settings
    (shell.folder / "sales.csv").write_text("region,sales\nnorth,1\nsouth,2\n")
    model.script([cell("import pandas as pd\ndf = pd.read_csv('sales.csv')\ndf", "load"), Say("Two **regions**.")])
    run = shell("ask", "--session", "mine", "-f", "sales.csv", "What is there?", "--record", "r.rehearsal.json")
    assert "uploaded sales.csv" in run.stdout
    assert "Two regions." in run.stdout
    assert json.loads((shell.folder / "r.rehearsal.json").read_text())["turns"][0]["query"] == "What is there?"
    model.script([cell("df.sales.sum()"), Say("Three.")])
    run = shell("ask", "--session", "mine", "And the sum?", "--json")
    events = [json.loads(line) for line in run.stdout.splitlines()]
    assert events[-1]["type"] == "turn.completed"
    assert events[-1]["answer"] == "Three."
    assert "mine" in shell("sessions").stdout
    assert json.loads(shell("sessions", "--json").stdout)["total"] == 1
    assert "What is there?" in shell("show", "mine").stdout
    (shell.folder / "b.csv").write_text("x\n1\n")
    assert "1 rows, 1 columns" in shell("upload", "mine", "b.csv").stdout
    shell("export", "mine", "--format", "py", "-o", "out.py")
    assert "pd.read_csv" in (shell.folder / "out.py").read_text()
    refused = shell("export", "mine", "-o", "/nonexist/x.ipynb", check=False)
    assert (refused.returncode, "/nonexist/x.ipynb" in refused.stderr) == (1, True)
    model.script([Say("ready")])
    assert "✗" not in shell("doctor").stdout
    shell("rm", "-y", "mine")
    assert "No sessions yet" in shell("sessions").stdout


def test_a_notebook_proves_itself(shell: Shell, model: OpenAIServer) -> None:
    """Exported, replayed with its files from the store or from beside it, with a report; changed, it is found out."""
    shell.env |= model.settings
    (shell.folder / "sales.csv").write_text("region,sales\nnorth,1\nsouth,2\n")
    source = "import pandas as pd\ndf = pd.read_csv('sales.csv')\nprint(df.sales.sum())"
    model.script([cell(source, "load"), Say("Three.")])
    shell("ask", "--session", "mine", "-f", "sales.csv", "The sum?")
    shell("export", "mine", "-o", "out/mine.ipynb", check=False)
    (shell.folder / "out").mkdir()
    shell("export", "mine", "-o", "out/mine.ipynb")
    run = shell("replay", "out/mine.ipynb", "--report", "html")
    assert "1 code cells: 1 same." in run.stdout
    assert "Replay of" in (shell.folder / "out" / "mine.replay.html").read_text()
    (shell.folder / "out" / "sales.csv").write_text("region,sales\nnorth,1\nsouth,5\n")
    run = shell("replay", "out/mine.ipynb", "--report", "json", "-o", "-", check=False)
    assert run.returncode == 2
    assert json.loads(run.stdout)["verdict"] == "different"
    assert "sales.csv is another file" in run.stderr
    assert "+6" in run.stderr
    assert shell("replay", "out/mine.ipynb", "--files", ".").returncode == 0
    made = shell("import", "out/mine.ipynb", "--key", "again").stdout
    assert "cellwright ask --session again" in made
    assert "df.sales.sum" in shell("export", "again", "--format", "py", "-o", "-").stdout
    (shell.folder / "bad.ipynb").write_text("no notebook")
    for command in ("replay", "import"):
        run = shell(command, "bad.ipynb", check=False)
        assert (run.returncode, "not a valid notebook" in run.stderr) == (1, True)


def test_there_and_back(shell: Shell, model: OpenAIServer) -> None:
    """A look, a turn taken back, a branch, the graph of it all, and a named point."""
    shell.env |= model.settings
    for number in (1, 2):
        model.script([cell(f"x = {number}; x", f"step {number}"), Say(f"{number}.")])
        shell("ask", "--session", "mine", f"question {number}")
    assert "Would be after turn 1" in shell("undo", "mine", "--dry-run").stdout
    run = shell("undo", "mine")
    assert "Now after turn 1" in run.stdout
    assert "cellwright redo mine" in run.stdout
    model.script([cell("import sys; sys.setrecursionlimit(4321); x = x * 10; x"), Say("ten.")])
    shell("ask", "--session", "mine", "another way")
    lines = shell("log", "mine").stdout.splitlines()
    assert next(line for line in lines[1:] if "question" in line or "another" in line).startswith("●")
    assert any("← here" in line and "another way" in line for line in lines)
    assert "good stands after turn 3" in shell("checkpoints", "mine", "--add", "good").stdout
    assert json.loads(shell("redo", "mine", "--to", "2", "--json").stdout)["back_turns"] == [2]
    assert "Now after turn 3" in shell("checkpoints", "mine", "--restore", "good").stdout
    assert "good" in shell("checkpoints", "mine").stdout
    made = shell("branch", "mine", "--from", "1", "--key", "other").stdout
    assert "cellwright ask --session other" in made
    assert "a branch of" in shell("log", "other").stdout
    branches = [line for line in shell("log", "mine").stdout.splitlines() if "⑂" in line]
    assert [line.endswith("other") for line in branches] == [True]
    assert "Now after turn 3" in shell("checkpoints", "mine", "--add", "again", "--restore", "good").stdout
    told = shell("diff", "mine@1", "mine@3").stdout
    assert "+ 3: another way" in told
    assert "~ x  1 → " in told
    assert re.search(r"~ Python's recursion limit  \d+ → 4321", told)
    assert "The same." in shell("diff", "mine@1", "other@1").stdout
    assert "question 2" in shell("show", "mine@2").stdout
    assert "left behind by a rewind" in shell("show", "mine@2").stdout
    refused = shell("undo", "mine", "--to", "99", check=False)
    assert (refused.returncode, "no turn '99'" in refused.stderr) == (1, True)


def test_after_a_kernels_death(shell: Shell, model: OpenAIServer) -> None:
    """What would come back, then what came back, with what was left out and how to have that too."""
    shell.env |= model.settings
    model.script([cell("import subprocess"), cell("out = subprocess.Popen(['true'])"), cell("x = 41"), Say("Made.")])
    shell("ask", "--session", "dead", "make x")
    assert "lost nothing" in shell("recover", "dead", check=False).stderr
    model.script([cell("import os; os._exit(1)"), Say("It died.")])
    shell("ask", "--session", "dead", "die", check=False)
    assert "Would be back" in shell("recover", "dead", "--dry-run").stdout
    told = shell("recover", "dead").stdout
    assert "stored variables" in told
    assert "starts processes" in told
    assert "cellwright recover dead --rerun all" in told


def test_ctrl_c_stops_the_turn(shell: Shell, model: OpenAIServer) -> None:
    """An interrupt while watching stops the turn on the server, and says so."""
    shell.env |= model.settings
    model.script([cell("import time\nfor i in range(600): time.sleep(0.1)", "sleep"), Say("never")])
    shell("sessions")
    asking = subprocess.Popen(
        [str(BIN), "ask", "--session", "k", "q", "--json"],
        cwd=shell.folder, env=shell.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # A test run in the background of a shell ignores interrupts, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert asking.stdout is not None
    for line in asking.stdout:
        if json.loads(line)["type"] == "cell.started":
            break
    time.sleep(0.5)
    asking.send_signal(signal.SIGINT)
    out, err = asking.communicate(timeout=30)
    assert json.loads(out.splitlines()[-1])["type"] == "turn.stopped"
    assert "Traceback" not in err
    assert asking.returncode == 2


def test_what_a_newcomer_gets_wrong(shell: Shell) -> None:
    """No model, no such session, no such file, no such command: one or two lines that say what to do."""
    run = shell("ask", "hello", check=False)
    assert run.returncode == 1
    assert "CELLWRIGHT_MODEL" in run.stderr
    assert len(run.stderr.strip().splitlines()) == 2
    run = shell("show", "nosuch", check=False)
    assert "There is no session 'nosuch'" in run.stderr
    assert "does not exist" in shell("ask", "-f", "nosuch.csv", "q", check=False).stderr
    assert "No such command" in shell("nosuch", check=False).stderr
    assert "does not answer" in shell("--url", "http://127.0.0.1:1", "sessions", check=False).stderr


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_completion(shell: Shell, name: str) -> None:
    """Each shell gets its script."""
    assert "_CELLWRIGHT_COMPLETE" in shell("completion", name).stdout


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        (["sessions"], {"CELLWRIGHT_LEASE_S": "abc"}, "CELLWRIGHT_LEASE_S"),
        (["sessions"], {"CELLWRIGHT_DATA_DIR": "/dev/null"}, "/dev/null"),
        (["sessions"], {"CELLWRIGHT_DATA_DIR": "/proc/nope"}, "/proc/nope"),
        (["--url", "http://[::1", "sessions"], {}, "no address"),
        (["--token", "ü", "--url", "http://127.0.0.1:9", "sessions"], {}, "UTF-8"),
        (["ask", "-f", "/dev/zero", "hi"], {}, "no regular file"),
        (["ask", "-f", "empty.csv", "hi"], {}, "empty"),
        (["ask", " "], {}, "the question is empty"),
    ],
)
def test_bad_input_gets_a_line(shell: Shell, arguments: list[str], environment: dict[str, str], words: str) -> None:
    """No traceback, no server started for nothing, exit code 1."""
    (shell.folder / "empty.csv").touch()
    run = shell(*arguments, check=False, **environment)
    assert run.returncode == 1
    assert words in run.stderr


def test_bad_input_to_a_running_server(shell: Shell) -> None:
    """Names are names, whatever they hold; the browser's address will do; what cannot be written is said."""
    shell("ask", "--session", "s", "hello", check=False)
    for name in ("..", "../../x", "a b/ü"):
        run = shell("show", name, check=False)
        assert run.returncode == 1
        assert "no session" in run.stderr
    left = json.loads(shell("sessions", "--json").stdout)["sessions"]
    assert left == []  # What was refused for want of a model left nothing.


def test_a_cell_that_waits(shell: Shell, model: OpenAIServer) -> None:
    """Without a terminal `ask` says how to answer; `approve` shows the cell and answers; `clean` cleans."""
    shell.env |= model.settings
    model.script([cell("import subprocess", "look"), cell("import socket", "reach"), Say("Done.")])
    shell("sessions")
    asking = subprocess.Popen(
        [str(BIN), "ask", "--session", "k", "--approval", "ask-risky", "q"],
        cwd=shell.folder, env=shell.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert asking.stdout is not None
    while "cellwright approve" not in (line := asking.stdout.readline()):
        assert line
    told = shell("approve", "k", "--yes").stdout
    assert "import subprocess" in told
    assert "starts processes" in told
    while (run := shell("approve", "k", "--no", "--reason", "not today", check=False)).returncode:
        time.sleep(0.2)
    assert "It does not run." in run.stdout
    out, _ = asking.communicate(timeout=60)
    assert "not allowed" in out
    assert "not today" in str(model.requests[-1]["messages"])
    assert "did not run" in shell("show", "k").stdout
    assert "No cell of 'k' waits" in shell("approve", "k", check=False).stderr
    assert "unreferenced objects" in shell("clean", "--dry-run").stdout
    assert all(part["problem"] is None for part in json.loads(shell("clean", "--json").stdout)["cleaned"])


def test_the_beginning_of_an_id(shell: Shell, model: OpenAIServer) -> None:
    """A session that has no name goes by what the list shows of it; one that nobody has is not made by that."""
    shell.env |= model.settings
    model.script([Say("Seven.")])
    shell("ask", "How many?")
    heading, row, *_ = shell("sessions", COLUMNS="70").stdout.splitlines()
    assert heading.split()[0] == "session"
    begins = row.split()[0]
    assert len(begins) == 8
    assert "How many?" in shell("show", begins).stdout
    assert shell("show", "0" * 8, check=False).returncode == 1


def test_a_server_without_the_model(shell: Shell) -> None:
    """A server that was started before the model was set says so, and what helps."""
    shell("ask", "anything", check=False)
    refused = shell("ask", "anything", check=False, CELLWRIGHT_MODEL="openai/gpt-5.1")
    assert refused.returncode == 1
    assert "started without your CELLWRIGHT_MODEL" in refused.stderr
    assert "cellwright stop" in refused.stderr
