"""The surface through HTTP, on a real Jupyter server."""

from __future__ import annotations

import io
import re
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import openapi_spec_validator
import pytest
from cellwright.extension.routes import ROUTES

from tests.api.bodies import body_of
from tests.api.conftest import UPLOAD_LIMIT_BYTES
from tests.doubles.openai_server import OpenAIServer, Say, cell
from tests.jupyter import JupyterServer

ABSENT = "5c7f0a39-8a52-4dd2-a5ee-ff3c62cf6f4b"


def problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("application/problem+json")
    said: dict[str, Any] = answer.json()
    assert said["status"] == status
    assert said["detail"]
    assert "Traceback" not in answer.text
    return said


def filled(path: str) -> str:
    return re.sub(r"\{(\w+)\}", lambda m: "interrupt" if m[1] == "action" else ABSENT, path)


@pytest.mark.parametrize("route", ROUTES, ids=lambda r: f"{r.method} {r.path}")
def test_nobody_gets_in_without_a_token(jupyter: JupyterServer, route: Any) -> None:
    """Every route but signed links refuses an anonymous request, and one with a wrong token, before its body."""
    for headers in ({}, {"Authorization": "token wrong"}):
        url = f"{jupyter.url}cellwright/api/v1{filled(route.path)}"
        answer = httpx.request(route.method, url, headers=headers, trust_env=False)
        if route.public:
            problem(answer, 404)
        else:
            problem(answer, 403)


@pytest.mark.parametrize("route", [r for r in ROUTES if "{" in r.path], ids=lambda r: f"{r.method} {r.path}")
def test_what_is_not_there_is_404(jupyter: JupyterServer, route: Any) -> None:
    """An unknown id, and one that is no id at all, are answered alike."""
    for name in (ABSENT, "nonsense", "%00", "..%2f..", "a" * 3_000):
        path = re.sub(r"\{(\w+)\}", lambda m, name=name: "interrupt" if m[1] == "action" else name, route.path)
        problem(jupyter.http.request(route.method, path, **body_of(route)), 404)


def test_unknown_paths_and_methods(jupyter: JupyterServer) -> None:
    """Anything else under our prefix answers as a problem too."""
    problem(jupyter.http.get("/nosuch"), 404)
    answer = jupyter.http.delete("/sessions")
    problem(answer, 405)
    assert "GET" in answer.headers["allow"]


def test_a_session_from_first_to_last(jupyter: JupyterServer) -> None:
    """Made, found by id and key, listed, searched, changed, deleted."""
    made = jupyter.call(
        "POST", "/sessions", json={"title": "Größe", "key": "my_analysis_001", "metadata": {"team": "a"}}
    )
    assert made["kernel_status"] == "none"
    problem(jupyter.http.post("/sessions", json={"key": "my_analysis_001"}), 409)
    assert jupyter.call("GET", "/sessions/my_analysis_001")["id"] == made["id"]
    for asked in ({"search": "grö"}, {"metadata.team": "a"}, {"status": "idle"}, {"agent": "data_analysis"}):
        listed = jupyter.call("GET", "/sessions", params=asked)
        assert made["id"] in [row["id"] for row in listed["sessions"]], asked
    assert jupyter.call("GET", "/sessions", params={"metadata.team": "b"})["total"] == 0
    changed = jupyter.call(
        "PATCH", "/sessions/my_analysis_001", json={"title": "New", "agent": "coding", "model": None}
    )
    assert (changed["title"], changed["agent"]) == ("New", "coding")
    jupyter.call("DELETE", f"/sessions/{made['id']}")
    problem(jupyter.http.get(f"/sessions/{made['id']}"), 404)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/sessions", {"nosuch": 1}),
        ("POST", "/sessions", {"title": ""}),
        ("POST", "/sessions", {"title": 3}),
        ("POST", "/sessions", {"key": "a b"}),
        ("POST", "/sessions", {"agent": "nosuch"}),
        ("POST", "/sessions", {"kernel": "nosuch"}),
        ("POST", "/sessions", {"model": "rehearsal:../../x"}),
        ("POST", "/sessions", []),
        ("PATCH", "/sessions/{s}", {}),
        ("PATCH", "/sessions/{s}", {"title": None}),
        ("POST", "/sessions/{s}/query", {}),
        ("POST", "/sessions/{s}/query", {"query": "   "}),
        ("POST", "/sessions/{s}/query", {"query": "q", "max_iterations": 0}),
        ("POST", "/sessions/{s}/query", {"query": "q", "when_busy": "never"}),
        ("POST", "/sessions/{s}/query", {"query": "q", "agent": "nosuch"}),
        ("POST", "/sessions/{s}/execute", {"source": ""}),
        ("GET", "/sessions?limit=0", None),
        ("GET", "/sessions?limit=x", None),
        ("GET", "/sessions?offset=99999999999999999999", None),
        ("GET", "/sessions/{s}/export?format=exe", None),
    ],
)
def test_bad_requests_are_explained(jupyter: JupyterServer, session: str, method: str, path: str, body: Any) -> None:
    """What does not validate is 422, with what is wrong, and changes nothing."""
    before = jupyter.call("GET", f"/sessions/{session}")["seq"]
    more = {} if body is None else {"json": body}
    problem(jupyter.http.request(method, path.replace("{s}", session), **more), 422)
    assert jupyter.call("GET", f"/sessions/{session}")["seq"] == before


@pytest.mark.parametrize("body", [b"{", b"\xff\xfe", b"[" * 100_000, b"nonsense", b'{"title": "\xed\xa0\x80"}'])
def test_a_body_that_is_no_json(jupyter: JupyterServer, body: bytes) -> None:
    """A broken body is 400 or 422, never 5xx."""
    answer = jupyter.http.post("/sessions", content=body)
    problem(answer, answer.status_code)
    assert answer.status_code in (400, 422)


def test_strange_text_is_kept_as_well_as_it_can_be(jupyter: JupyterServer) -> None:
    """NUL, control characters and emoji in titles, queries and output break nothing."""
    made = jupyter.call("POST", "/sessions", json={"title": "a\u0000b\u202e😀", "metadata": {"k\u0000": "\u0000"}})
    assert "😀" in made["title"]
    ran = jupyter.call("POST", f"/sessions/{made['id']}/execute", json={"source": "print('\\x00\\ud800')\n'\\x00'"})
    assert ran["status"] == "ok"


def test_a_too_large_body(jupyter: JupyterServer) -> None:
    """A body over its limit is read to its end and answered 413."""
    problem(jupyter.http.post("/sessions", content=b" " * (17 << 20)), 413)


def test_uploads(jupyter: JupyterServer, session: str) -> None:
    """A file opens by its name in the next cell, is described, and can be had by link without a token."""
    data = b"a,b\n1,x\n2,y\n"
    told = jupyter.call("POST", f"/sessions/{session}/upload", files={"file": ("my data.csv", data)})
    assert (told["file_name"], told["file_type"], told["size_bytes"]) == ("my data.csv", "csv", len(data))
    assert told["metadata"]["rows"] == 2
    assert httpx.get(told["presigned_url"], trust_env=False).content == data
    ran = jupyter.call("POST", f"/sessions/{session}/execute", json={"source": "open('my data.csv').read()"})
    assert "1,x" in ran["outputs"][0]["data"]["text/plain"]
    files = jupyter.call("GET", f"/sessions/{session}/files")["files"]
    assert [(f["name"], f["artifact_id"]) for f in files] == [("my data.csv", told["artifact_id"])]
    again = jupyter.call("POST", f"/sessions/{session}/upload", files={"file": ("my data.csv", b"other\n1\n")})
    assert again["file_name"] == "my data (2).csv"


@pytest.mark.parametrize(
    ("name", "data"),
    [("bad.csv", b'a,b\n"1,2\n3'), ("bad.xlsx", b"PK\x03\x04 nonsense"), ("bad.parquet", b"PAR1"), ("bad.json", b"{")],
)
def test_a_file_that_does_not_parse_is_kept_and_said(
    jupyter: JupyterServer, session: str, name: str, data: bytes
) -> None:
    """The upload succeeds; its metadata says in a sentence that it does not read as its type."""
    told = jupyter.call("POST", f"/sessions/{session}/upload", files={"file": (name, data)})
    assert "Traceback" not in told["metadata"]["problem"]
    assert jupyter.http.get(f"/artifacts/{told['artifact_id']}/content").content == data


def test_bad_uploads(jupyter: JupyterServer, session: str) -> None:
    """Too large, empty, no file, no multipart: each is a problem, and nothing is left of it."""
    path = f"/sessions/{session}/upload"
    problem(jupyter.http.post(path, files={"file": ("a.bin", b"x" * (UPLOAD_LIMIT_BYTES + 1))}), 413)
    problem(jupyter.http.post(path, files={"file": ("a.csv", b"")}), 422)
    problem(jupyter.http.post(path, data={"file": "no file"}, files={}), 422)
    problem(jupyter.http.post(path, content=b"x", headers={"Content-Type": "multipart/form-data"}), 422)
    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    problem(jupyter.http.post(path, content=b"--b\r\nnonsense\r\n\r\n\x00", headers=kind), 422)
    assert jupyter.call("GET", f"/sessions/{session}/artifacts")["total"] == 0
    assert jupyter.call("GET", f"/sessions/{session}/files")["files"] == []


def test_an_upload_is_streamed(jupyter: JupyterServer, session: str) -> None:
    """A refused upload of 200 MB grows the server by less than a tenth of it."""
    import psutil

    server = psutil.Process(jupyter.pid)
    before = server.memory_info().rss
    problem(
        jupyter.http.post(f"/sessions/{session}/upload", files={"file": ("a.bin", io.BytesIO(b"x" * 200_000_000))}), 413
    )
    assert server.memory_info().rss - before < 20_000_000


def test_artifact_content(jupyter: JupyterServer, session: str) -> None:
    """Ranges, sandboxing for active content, names that cannot break headers."""
    page = b"<script>alert(1)</script>"
    told = jupyter.call("POST", f"/sessions/{session}/upload", files={"file": ('a"b;ä.html', page)})
    path = f"/artifacts/{told['artifact_id']}/content"
    answer = jupyter.http.get(path)
    assert answer.content == page
    assert "sandbox" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-disposition"].startswith("attachment")
    part = jupyter.http.get(path, headers={"Range": "bytes=1-6"})
    assert (part.status_code, part.content) == (206, page[1:7])
    assert part.headers["content-range"] == f"bytes 1-6/{len(page)}"
    assert jupyter.http.get(path, headers={"Range": "bytes=999-"}).status_code == 416
    assert jupyter.http.head(path).headers["content-length"] == str(len(page))
    link = jupyter.call("GET", f"/artifacts/{told['artifact_id']}/url", params={"expires_hours": 1})
    assert link["expires_in_seconds"] == 3_600
    assert httpx.get(link["url"], trust_env=False).content == page
    problem(httpx.get(link["url"][:-3] + "abc", trust_env=False), 404)


def test_a_turn_as_a_stream(jupyter: JupyterServer, session: str, model: OpenAIServer) -> None:
    """The answer to a query is its events; live text, joined by its offsets, equals what the durable events hold."""
    from httpx_sse import connect_sse

    source = "import time\nfor i in range(10): print('line', i, flush=True); time.sleep(0.1)"
    model.script([
        Say("I run it. " * 8, "Let me think. " * 8, [("run_cell", {"source": source})], between_s=0.02),
        Say("All ten lines. " * 8, between_s=0.02),
    ])  # fmt: skip
    live: dict[tuple[str, str], str] = {}
    printed = ""
    durable = []
    with connect_sse(jupyter.http, "POST", f"/sessions/{session}/query", json={"query": "go"}) as events:
        for event in events.iter_sse():
            data = event.json()
            if event.event == "message.snapshot":
                live |= {(data["message_id"], channel): text for channel, text in data["text"].items()}
            elif event.event == "message.delta":
                key = (data["message_id"], data["channel"])
                assert data["offset"] == len(live.get(key, ""))
                live[key] = live.get(key, "") + data["text"]
            elif event.event == "cell.output":
                printed += data["output"]["text"]
            else:
                durable.append((event.event, data))
    kinds = [kind for kind, _ in durable]
    assert kinds[0] == "turn.queued"
    assert kinds[-1] == "turn.completed"
    messages = [data for kind, data in durable if kind == "message.completed"]
    for message in messages:
        assert live[message["message_id"], "answer"] == message["content"]
    assert live[messages[0]["message_id"], "thinking"] == messages[0]["thoughts"]
    assert live[messages[0]["message_id"], "code"] == source
    cells = [data for kind, data in durable if kind == "cell.completed"]
    assert printed == cells[0]["outputs"][0]["text"]
    phases = {data["phase"] for _, data in durable if data["phase"]}
    assert {"queued", "started", "executing", "iteration_complete", "completed"} <= phases
    assert all(data["message"] and data["at"] for _, data in durable)


def test_resuming_after_any_event(jupyter: JupyterServer, session: str, model: OpenAIServer) -> None:
    """After event n come n+1, n+2, …: all, in order, once, by header or by argument."""
    from httpx_sse import connect_sse

    model.script([cell("1"), Say("done")])
    told = jupyter.call("POST", f"/sessions/{session}/query", json={"query": "go"})
    jupyter.until_ended(told["turn_id"])
    whole = jupyter.events(session)
    last = whole[-1]["seq"]
    for n in range(last):
        for more in ({"headers": {"Last-Event-ID": str(n)}}, {"params": {"after": n}}):
            with connect_sse(jupyter.http, "GET", f"/sessions/{session}/events", **more) as source:
                seen = []
                for event in source.iter_sse():
                    seen.append(int(event.id))
                    if seen[-1] == last:
                        break
            assert seen == list(range(n + 1, last + 1))
    problem(jupyter.http.get(f"/sessions/{session}/events", headers={"Last-Event-ID": "x"}), 422)


def test_a_closed_browser_stops_nothing(jupyter: JupyterServer, session: str, model: OpenAIServer) -> None:
    """The turn belongs to the server: a client that goes away in the middle changes nothing."""
    model.script([cell("import time; time.sleep(1); 'through'"), Say("done")])
    with jupyter.http.stream(
        "POST", f"/sessions/{session}/query", json={"query": "go"}, headers={"Accept": "text/event-stream"}
    ) as answer:
        next(answer.iter_bytes())
    turn = jupyter.call("GET", f"/sessions/{session}/turns")["turns"][0]
    assert jupyter.until_ended(turn["id"])["status"] == "completed"


def test_execute_interrupt_and_restart(jupyter: JupyterServer, session: str) -> None:
    """A cell of the user's runs without the model; it can be interrupted; a restart is said to lose variables."""
    problem(jupyter.http.post(f"/sessions/{session}/kernel/interrupt"), 409)
    ran = jupyter.call(
        "POST",
        f"/sessions/{session}/execute",
        json={"source": "import pandas as pd\ndf = pd.DataFrame({'a': [1]})\ndf"},
    )
    assert (ran["status"], ran["execution_count"]) == ("ok", 1)
    names = {v["name"]: v for v in jupyter.call("GET", f"/sessions/{session}/variables")["variables"]}
    assert names["df"]["shape"] == [1, 1]
    assert jupyter.call("GET", f"/sessions/{session}/variables/df")["columns"][0]["name"] == "a"
    problem(jupyter.http.get(f"/sessions/{session}/variables/nosuch"), 404)

    def interrupt() -> None:
        while jupyter.call("GET", f"/sessions/{session}/kernel")["status"] != "busy":
            time.sleep(0.02)
        time.sleep(0.2)
        problem(jupyter.http.post(f"/sessions/{session}/kernel/restart"), 409)
        jupyter.call("POST", f"/sessions/{session}/kernel/interrupt")

    thread = threading.Thread(target=interrupt)
    thread.start()
    ran = jupyter.call(
        "POST", f"/sessions/{session}/execute", json={"source": "import time\nwhile True: time.sleep(0.05)"}
    )
    thread.join()
    assert ran["outputs"][-1]["ename"] == "KeyboardInterrupt"
    jupyter.call("POST", f"/sessions/{session}/kernel/restart")
    ran = jupyter.call("POST", f"/sessions/{session}/execute", json={"source": "'df' in globals()"})
    assert ran["outputs"][0]["data"]["text/plain"] == "False"
    lost = [event["variables_lost"] for event in jupyter.events(session) if event["type"] == "kernel.changed"]
    assert lost.count(True) == 2


def test_notebook_and_exports(jupyter: JupyterServer, session: str) -> None:
    """The notebook as JSON with its revision, and as a file in each form."""
    import nbformat

    plot = "import matplotlib.pyplot as plt\nplt.plot([1]); plt.show()\n6 * 7"
    told = jupyter.call("POST", f"/sessions/{session}/execute", json={"source": plot})
    jupyter.until_ended(told["turn_id"])
    answer = jupyter.http.get(f"/sessions/{session}/notebook")
    nbformat.validate(nbformat.from_dict(answer.json()))
    assert answer.headers["etag"]
    for form, words in {"ipynb": "6 * 7", "py": "# %%", "md": "42", "html": "<html", "rehearsal": '"turns"'}.items():
        answer = jupyter.http.get(f"/sessions/{session}/export", params={"format": form})
        assert answer.status_code == 200
        assert words in answer.text
        assert answer.headers["content-disposition"].startswith("attachment")
        if form == "html":
            assert "<img" in answer.text
            assert 'src="data:image/png;base64,' in answer.text


def test_messages_and_history(jupyter: JupyterServer, session: str, model: OpenAIServer) -> None:
    """Enough to resume: every message with its code, thoughts and artifacts."""
    source = "import matplotlib.pyplot as plt\nplt.plot([1]); plt.show()"
    model.script([cell(source, "draw", thinking="hm"), Say("drawn")])
    told = jupyter.call("POST", f"/sessions/{session}/query", json={"query": "draw"})
    jupyter.until_ended(told["turn_id"])
    messages = jupyter.call("GET", f"/sessions/{session}/messages")
    assert [m["role"] for m in messages["messages"]] == ["user", "assistant", "assistant"]
    assert messages["messages"][1]["execution_logs"][0]["status"] == "ok"
    history = jupyter.call("GET", f"/sessions/{session}/history")
    assert history["turn_count"] == 1
    drawn = history["history"][1]
    assert (drawn["code"], drawn["thoughts"], len(drawn["artifact_ids"])) == (source, "hm", 1)
    assert jupyter.http.get(f"{jupyter.url.rstrip('/')}{drawn['artifact_urls'][0]}").content.startswith(b"\x89PNG")


def test_the_service_describes_itself(jupyter: JupyterServer) -> None:
    """Health by real round trips; settings without secrets; an OpenAPI document that is valid."""
    health = jupyter.call("GET", "/health")
    assert {name: store["status"] for name, store in health["stores"].items()} == {
        "postgres": "ok", "redis": "ok", "objects": "ok",
    }  # fmt: skip
    assert "sk-very-secret" not in jupyter.http.get("/settings").text
    assert {agent["name"] for agent in jupyter.call("GET", "/agents")["agents"]} >= {"data_analysis", "coding", "chat"}
    document = jupyter.call("GET", "/openapi.json")
    openapi_spec_validator.validate(document)
    assert len(document["paths"]) == len({route.path for route in ROUTES})


def test_secrets_stay_out_of_the_kernel(jupyter: JupyterServer, session: str) -> None:
    """No variable of the kernel's environment holds the model's key or the server's token."""
    ran = jupyter.call("POST", f"/sessions/{session}/execute", json={"source": "import os\nprint(dict(os.environ))"})
    shown = ran["outputs"][0]["text"]
    assert "sk-very-secret" not in shown
    assert jupyter.token not in shown.replace("testing", jupyter.token) or "JUPYTER_TOKEN" not in shown


def test_the_check_uses_every_part(jupyter: JupyterServer, model: OpenAIServer) -> None:
    """Doctor's check runs a cell and asks the model."""
    model.script([Say("ready")])
    checks = {check["name"]: check for check in jupyter.call("POST", "/check")["checks"]}
    assert set(checks) == {"postgres", "redis", "objects", "kernel", "model"}
    assert all(check["ok"] for check in checks.values()), checks
    model.script([Say(status=401)])
    checks = {check["name"]: check for check in jupyter.call("POST", "/check")["checks"]}
    assert not checks["model"]["ok"]


def test_outputs_that_no_notebook_would_hold(jupyter: JupyterServer, session: str) -> None:
    """Forged references, values of the wrong kind and endless errors are told as they can be, and hurt nothing."""
    sources = [
        "display({'text/plain': {'cellwright/object': '0' * 64, 'encoding': 'text'}}, raw=True)",
        "display({'text/plain': 5, 'image/png': 7, 'application/json': {'cellwright/object': 'x'}}, raw=True)",
        "raise ValueError('x' * 5_000_000)",
        "for i in range(2_000): display({'text/plain': 'y' * 20_000}, raw=True)",
        "open('bad\\udcff.txt', 'w').close()",
    ]
    for source in sources:
        ran = jupyter.call("POST", f"/sessions/{session}/execute", json={"source": source})
        assert ran["status"] in ("ok", "error"), (source, ran)
    assert jupyter.call("GET", f"/sessions/{session}/files")["files"]
    assert jupyter.http.get(f"/sessions/{session}/notebook").status_code == 200


@pytest.mark.parametrize(
    "name", ["urn:uuid:" + ABSENT, "0" * 32, ABSENT.upper(), "{" + ABSENT + "}", ABSENT[:-1] + "+"]
)
def test_other_spellings_of_an_id(jupyter: JupyterServer, name: str) -> None:
    """Only the server's own spelling is an id; all others are not there."""
    for path in (f"/sessions/{name}", f"/turns/{name}", f"/artifacts/{name}"):
        problem(jupyter.http.get(path), 404)
    problem(jupyter.http.get("/links/ä.ö"), 404)


def test_deep_bodies_and_numbers_that_are_none(jupyter: JupyterServer, session: str) -> None:
    """Deep nesting is refused; what JSON does not have is not kept."""
    deep = '{"metadata": ' + '{"a": ' * 200 + "1" + "}" * 200 + "}"
    problem(jupyter.http.patch(f"/sessions/{session}", content=deep), 400)
    answer = jupyter.http.patch(f"/sessions/{session}", content='{"metadata": {"a": NaN}}')
    assert answer.status_code in (200, 422)


def test_a_file_where_the_folder_belongs(jupyter: JupyterServer, session: str) -> None:
    """What the user did to the session's folder gets a plain answer; once mended, the session goes on."""
    workspace = jupyter.root / jupyter.call("GET", f"/sessions/{session}")["workspace"]
    workspace.rmdir()
    workspace.write_text("mine")
    upload = {"file": ("a.csv", b"a\n1\n")}
    told = problem(jupyter.http.post(f"/sessions/{session}/upload", files=upload), 409)
    assert "file where the session's folder belongs" in told["detail"]
    turn = jupyter.call("POST", f"/sessions/{session}/execute", json={"source": "1"})["turn_id"]
    ended = jupyter.until_ended(turn)
    assert ended["status"] == "failed"
    assert "file where" in ended["cause"]
    assert workspace.read_text() == "mine"
    workspace.unlink()
    jupyter.call("POST", f"/sessions/{session}/upload", files=upload)
    assert (workspace / "a.csv").exists()


def test_the_folder_deleted_while_a_cell_runs(jupyter: JupyterServer, session: str) -> None:
    """The notebook is saved again where it belongs."""
    told = jupyter.call("GET", f"/sessions/{session}")
    source = "import os, shutil; shutil.rmtree(os.getcwd()); 'gone'"
    turn = jupyter.call("POST", f"/sessions/{session}/execute", json={"source": source})["turn_id"]
    assert jupyter.until_ended(turn)["status"] == "completed"
    assert "rmtree" in (jupyter.root / told["notebook_path"]).read_text()


def test_a_file_that_is_cut_off_is_refused(jupyter: JupyterServer, session: str) -> None:
    """Multipart without its last boundary is no whole file; nothing of it stays."""
    body = b'--X\r\nContent-Disposition: form-data; name="f"; filename="cut.txt"\r\n\r\nabc'
    headers = {"Content-Type": "multipart/form-data; boundary=X"}
    problem(jupyter.http.post(f"/sessions/{session}/upload", content=body, headers=headers), 422)
    assert jupyter.call("GET", f"/sessions/{session}/artifacts")["artifacts"] == []


def test_notes_are_bounded(jupyter: JupyterServer) -> None:
    """A client's own metadata rides in every list of sessions, so it has a limit."""
    problem(jupyter.http.post("/sessions", json={"metadata": {"a": "x" * 70_000}}), 422)


def test_a_notebook_that_cannot_be_saved_is_told(jupyter: JupyterServer, session: str) -> None:
    """What the user put in the notebook's place is not written over, and the log says so once."""
    told = jupyter.call("GET", f"/sessions/{session}")
    path = jupyter.root / told["notebook_path"]
    path.write_text("junk{")
    jupyter.call("POST", f"/sessions/{session}/execute", json={"source": "1"})
    failed = [event for event in jupyter.events(session) if event["type"] == "notebook.failed"]
    assert len(failed) == 1
    assert failed[0]["path"] == told["notebook_path"]
    assert path.read_text() == "junk{"


def test_what_a_kernel_uses(jupyter: JupyterServer, session: str) -> None:
    """Memory, CPU time and age of the session's kernel, and what it cannot do: nothing is missing of ours."""
    assert jupyter.call("GET", f"/sessions/{session}/kernel")["status"] == "none"
    jupyter.call("POST", f"/sessions/{session}/execute", json={"source": "held = bytearray(200_000_000)"})
    told = jupyter.call("GET", f"/sessions/{session}/kernel")
    assert told["memory_bytes"] > 200_000_000
    assert told["cpu_s"] >= 0
    assert told["missing"] == []
    assert abs(datetime.fromisoformat(told["started_at"]).timestamp() - time.time()) < 120


def test_asleep_and_awake(jupyter: JupyterServer, session: str) -> None:
    """A session can be put to sleep and woken by request; the variables are there."""
    problem(jupyter.http.post(f"/sessions/{session}/kernel/hibernate"), 409)
    jupyter.call("POST", f"/sessions/{session}/execute", json={"source": "kept = 41"})
    assert jupyter.call("POST", f"/sessions/{session}/kernel/hibernate")["status"] == "hibernated"
    assert jupyter.call("GET", f"/sessions/{session}")["status"] == "hibernated"
    assert jupyter.call("POST", f"/sessions/{session}/kernel/wake")["status"] in ("idle", "busy")
    assert [v["name"] for v in jupyter.call("GET", f"/sessions/{session}/variables")["variables"]] == ["kept"]
    ran = jupyter.call("POST", f"/sessions/{session}/execute", json={"source": "kept + 1"})
    assert ran["outputs"][0]["data"]["text/plain"] == "42"


def test_every_body_has_an_example_that_validates() -> None:
    """What the API's page shows as an example is one."""
    for route in ROUTES:
        if route.body is not None:
            assert route.example is not None, route.path
            route.body.model_validate(route.example)


def test_one_person_sees_the_same_from_everywhere(jupyter: JupyterServer, session: str) -> None:
    """Under the server's token every browser, an anonymous user to Jupyter, and every program is the same owner."""
    for _ in range(2):
        with httpx.Client(base_url=f"{jupyter.url}cellwright/api/v1", trust_env=False) as browser:
            browser.get("/agents", params={"token": "testing"})  # The login's cookie comes with the answer.
            assert "username" in str(browser.cookies)
            assert browser.get(f"/sessions/{session}").json()["access"] == "own"


def test_as_many_kernels_as_may_live(data_dir: Path, root: Path, tmp_path: Path) -> None:
    """Past the limit the longest idle hibernates; where all are at work, a question is refused, with Retry-After."""
    server = JupyterServer(tmp_path, root, data_dir, CELLWRIGHT_SESSION_MAX_CONCURRENT="1", CELLWRIGHT_WARM_KERNELS="0")
    try:
        server.start()
        one, two = [server.call("POST", "/sessions", json={"title": "t"})["id"] for _ in range(2)]
        server.call("POST", f"/sessions/{one}/execute", json={"source": "x = 42"})
        server.call("POST", f"/sessions/{two}/execute", json={"source": "1"})
        assert server.call("GET", f"/sessions/{one}")["status"] == "hibernated"
        busy = threading.Thread(
            target=server.http.post,
            args=(f"/sessions/{two}/execute",),
            kwargs={"json": {"source": "import time; time.sleep(20)"}},
        )
        busy.start()
        while "sleep" not in (row := server.call("GET", f"/sessions/{two}"))["state"]["last_code"]:
            time.sleep(0.05)
        while row["kernel_status"] != "busy":
            row = server.call("GET", f"/sessions/{two}")
        refused = server.http.post(f"/sessions/{one}/execute", json={"source": "x"})
        assert problem(refused, 503)
        assert refused.headers["retry-after"]
        server.call("POST", f"/sessions/{two}/kernel/interrupt")
        busy.join()
        assert server.call("POST", f"/sessions/{one}/execute", json={"source": "x"})["outputs"][0]["data"] == {
            "text/plain": "42"
        }
    finally:
        server.stop()
