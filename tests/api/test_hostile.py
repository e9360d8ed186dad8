"""Hostile files, bodies and texts: nothing is executed, nothing leaves its place, nothing grows, no secret is told."""

from __future__ import annotations

import concurrent.futures
import contextlib
import http.server
import io
import os
import shutil
import socket
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import pytest
from cellwright.extension.routes import ROUTES
from playwright.sync_api import Error, Page, sync_playwright

from tests.api.test_http import problem
from tests.doubles.openai_server import OpenAIServer, Say, cell
from tests.jupyter import JupyterServer

MARK = "executed-by-the-page"
SCRIPT = f"document.documentElement.setAttribute('{MARK}', '1')"
PAYLOADS = {
    "page.html": f'<html><body><script>{SCRIPT}</script><img src=x onerror="{SCRIPT}"></body></html>',
    "image.svg": f'<svg xmlns="http://www.w3.org/2000/svg" onload="{SCRIPT}"><script>{SCRIPT}</script></svg>',
    "script.js": SCRIPT,
    "page.xhtml": f'<html xmlns="http://www.w3.org/1999/xhtml"><script>{SCRIPT}</script></html>',
    "data.xml": f'<?xml version="1.0"?><x><s xmlns="http://www.w3.org/1999/xhtml"><script>{SCRIPT}</script></s></x>',
    "text.txt": f"<script>{SCRIPT}</script>",
    "table.csv": f"a\n<script>{SCRIPT}</script>\n",
    "data.json": f'{{"a": "<script>{SCRIPT}</script>"}}',
    "paper.pdf": f"%PDF-1.4\n1 0 obj <</Type/Catalog/OpenAction<</S/JavaScript/JS({SCRIPT})>>>> endobj",
    "book.ipynb": f'{{"cells": [], "metadata": {{"t": "<script>{SCRIPT}</script>"}}, "nbformat": 4}}',
    "picture.png": f"<html><script>{SCRIPT}</script></html>",
    "noending": f"<html><script>{SCRIPT}</script></html>",
    "page.mhtml": f"MIME-Version: 1.0\nContent-Type: text/html\n\n<script>{SCRIPT}</script>",
}


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    """A page in Debian's Chromium."""
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("not installed here: chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--no-proxy-server"])
        yield browser.new_page()
        browser.close()


def seen(page: Page, url: str) -> str:
    """The page's document after it was loaded and its scripts, if any, ran."""
    page.goto("about:blank")
    with contextlib.suppress(Error):  # What is not shown but downloaded ends the navigation.
        page.goto(url, wait_until="load", timeout=15_000)
    return page.content()


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[str]:
    """A server that does nothing against scripts: the control."""
    (tmp_path / "page.html").write_text(PAYLOADS["page.html"])

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    serve = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0),
        lambda *told: Quiet(*told, directory=str(tmp_path)),  # type: ignore[arg-type]
    )
    threading.Thread(target=serve.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{serve.server_port}/page.html"
    serve.shutdown()
    serve.server_close()


def test_the_browser_would_tell(page: Page, plain: str) -> None:
    """The control: served plainly, the payload is executed and seen to be."""
    assert f"{MARK}=" in seen(page, plain)


@pytest.mark.parametrize("name", PAYLOADS)
def test_no_artifact_executes(page: Page, jupyter: JupyterServer, session: str, name: str) -> None:
    """An artifact's own page, by its address and by its link, is sandboxed, not sniffed, or not shown at all."""
    told = jupyter.call("POST", f"/sessions/{session}/upload", files={"file": (name, PAYLOADS[name].encode())})
    answer = jupyter.http.get(f"/artifacts/{told['artifact_id']}/content")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"].startswith("sandbox;")
    address = f"{jupyter.url}cellwright/api/v1/artifacts/{told['artifact_id']}/content?token=testing"
    assert f"{MARK}=" not in seen(page, address)
    assert f"{MARK}=" not in seen(page, told["presigned_url"])


def test_no_text_executes(page: Page, jupyter: JupyterServer, model: OpenAIServer) -> None:
    """Titles, names, messages, outputs and paths: on /docs, in answers, errors and exports nothing is executed."""
    inject = f"</script><script>{SCRIPT}</script><img src=x onerror={SCRIPT}>"
    session = jupyter.call("POST", "/sessions", json={"title": inject, "metadata": {"x": inject}})["id"]
    model.script([cell(f"from IPython.display import HTML; HTML('''{inject}''')", inject[:150]), Say(inject)])
    turn = jupyter.call("POST", f"/sessions/{session}/query", json={"query": inject})
    jupyter.until_ended(turn["turn_id"])
    api = f"{jupyter.url}cellwright/api/v1"
    for path in (
        "/docs",
        "/sessions",
        f"/sessions/{session}?messages=true",
        f"/sessions/{session}/history",
        f"/sessions/{session}/notebook",
        f"/sessions/{session}/export?format=html",
        f"/sessions/{session}/export?format=md",
        f"/sessions/{quote(inject, safe='')}",
        f"/nosuch/{quote(inject, safe='')}",
        f"/sessions?limit={quote(inject, safe='')}",
        f"/search?q={quote(inject, safe='')}",
    ):
        join = "&" if "?" in path else "?"
        assert f"{MARK}=" not in seen(page, f"{api}{path}{join}token=testing"), path


BUNDLES: list[dict[str, Any]] = [
    {"text/html": PAYLOADS["page.html"]},
    {"text/html": f"<iframe srcdoc=\"<script>parent.{SCRIPT}</script>\"></iframe><base href='https://x.test/'>"},
    {"text/html": f"<svg><a href='javascript:{SCRIPT}'><text>x</text></a></svg><img src=https://x.test/a.png>"},
    {"text/html": "<style>@import 'https://x.test/a.css'; body { background: url(https://x.test/b.png) }</style>"},
    {"image/svg+xml": PAYLOADS["image.svg"]},
    {"application/javascript": SCRIPT},
    {"text/markdown": f"<script>{SCRIPT}</script>[a](javascript:{SCRIPT})<img src=x onerror={SCRIPT}>"},
    {"text/latex": f"$\\href{{javascript:{SCRIPT}}}{{x}}$"},
    {"text/latex": f"$\\text{{<script>{SCRIPT}</script>&lt;img src=x onerror={SCRIPT}&gt;}}$"},
    {"text/markdown": f"$\\text{{<img src=x onerror={SCRIPT}>}}$"},
    {"text/plain": f"<script>{SCRIPT}</script>"},
    {"image/png": f'"><script>{SCRIPT}</script>'},
]


def test_no_saved_page_executes(page: Page, jupyter: JupyterServer, tmp_path: Path) -> None:
    """An exported page and a replay's report, opened as files, execute nothing, ask for nothing, and show the rest."""
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output, writes

    inject = f"</pre></script><script>{SCRIPT}</script><img src=x onerror={SCRIPT}>"
    outputs = [new_output("display_data", data=bundle) for bundle in BUNDLES]
    outputs.append(new_output("stream", name="stdout", text=inject))
    outputs.append(new_output("error", ename=inject, evalue=inject, traceback=[inject]))
    held = new_notebook(
        cells=[
            new_markdown_cell(f"# Shown\n{inject}"),
            new_code_cell(f"raise ValueError({inject!r})", outputs=outputs),
        ],
        metadata={"cellwright": {"title": inject, "inputs": [{"name": inject}], "packages": {inject: inject}}},
    )
    files = {"notebook": (inject + ".ipynb", writes(held).encode())}
    session = jupyter.call("POST", "/import", files=files)["id"]
    report = jupyter.http.post("/replay", files=files, headers={"Accept": "text/html"})
    exported = jupyter.http.get(f"/sessions/{session}/export", params={"format": "html"})
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    for name, answer, words in (("report", report, "1 different"), ("export", exported, "Shown")):
        assert answer.status_code == 200
        place = tmp_path / f"{name}.html"
        place.write_bytes(answer.content)
        shown = seen(page, place.as_uri())
        assert f"{MARK}=" not in shown, name
        assert words in page.inner_text("body")
    assert [url for url in asked if not url.startswith(("file:///", "data:", "about:"))] == []


def test_the_docs_page_shows_the_surface(page: Page, jupyter: JupyterServer) -> None:
    """In a browser the page draws every group of routes, from this server alone."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{jupyter.url}cellwright/api/v1/docs?token=testing")
    page.wait_for_selector("#operations-turns-post_sessions_session_query", timeout=20_000)
    assert page.locator(".opblock").count() == len(ROUTES)
    page.locator("#operations-turns-post_sessions_session_query .opblock-control-arrow").click()
    page.get_by_text("Which region grew most?").first.wait_for(timeout=5_000)
    assert [url for url in asked if not url.startswith((jupyter.url, "data:"))] == []


NAMES = [
    "../../escape.txt",
    "..\\..\\escape.txt",
    "/etc/passwd",
    "C:\\Windows\\x.txt",
    ".hidden",
    "..",
    "a/b/c.txt",
    "nul\x00byte.txt",
    "new\nline.txt",
    "cr\r\nSet-Cookie: x=1.txt",
    'quo"te;semi.txt',
    "x" * 300 + ".txt",
    "ü" * 200 + ".csv",
    "\u202egnp.txt",
    " ",
    "CON.txt",
    "-rf.txt",
    "a\tb.txt",
    "%2e%2e%2fx.txt",
    "file.txt/",
    "😀.txt",
]


@pytest.mark.parametrize("name", NAMES)
def test_odd_names(jupyter: JupyterServer, session: str, name: str) -> None:
    """Whatever a file is called, it stands in the workspace alone, and its header is one header."""
    data = b"a\n1\n"
    body = (
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="'
        + name.replace("\\", "\\\\").replace('"', '\\"').replace("\r", "").replace("\n", " ").encode()
        + b'"\r\n\r\n'
        + data
        + b"\r\n--b--\r\n"
    )
    answer = jupyter.http.post(
        f"/sessions/{session}/upload", content=body, headers={"Content-Type": "multipart/form-data; boundary=b"}
    )
    if answer.status_code == 422:
        problem(answer, 422)
        return
    assert answer.status_code == 201, answer.text
    told = answer.json()
    workspace = jupyter.root / jupyter.call("GET", f"/sessions/{session}")["workspace"]
    assert (workspace / told["file_name"]).resolve().parent == workspace.resolve()
    assert (workspace / told["file_name"]).read_bytes() == data
    got = jupyter.http.get(f"/artifacts/{told['artifact_id']}/content")
    assert got.content == data
    assert "set-cookie" not in {header.lower() for header in got.headers if "x=1" in got.headers[header]}
    assert len(got.headers.get_list("content-disposition")) == 1
    assert not (jupyter.root / "escape.txt").exists()
    assert not (jupyter.root.parent / "escape.txt").exists()


def test_a_link_in_the_place_of_an_upload(jupyter: JupyterServer, session: str, tmp_path: Path) -> None:
    """A symbolic link that a cell laid where an upload goes is not written through."""
    workspace = jupyter.root / jupyter.call("GET", f"/sessions/{session}")["workspace"]
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    for name, target in (("there.txt", victim), ("dangling.txt", tmp_path / "nosuch")):
        os.symlink(target, workspace / name)
        told = jupyter.call("POST", f"/sessions/{session}/upload", files={"file": (name, b"new")})
        assert told["file_name"] != name
    assert victim.read_text() == "untouched"
    assert not (tmp_path / "nosuch").exists()


def test_many_at_once(jupyter: JupyterServer, session: str) -> None:
    """Hundreds of uploads at the same time, many of the same name: each is kept, whole, under a name of its own."""
    count = int(os.environ.get("CHAOS_UPLOADS", "200"))
    jupyter.call("POST", f"/sessions/{session}/upload", files={"file": ("a.txt", b"first")})

    def one(n: int) -> dict[str, Any]:
        data = {"file": (f"name{n % 20}.txt", f"content {n}".encode())}
        told: dict[str, Any] = jupyter.call("POST", f"/sessions/{session}/upload", files=data)
        return told

    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        made = list(pool.map(one, range(count)))
    assert len({told["file_name"] for told in made}) == count
    workspace = jupyter.root / jupyter.call("GET", f"/sessions/{session}")["workspace"]
    kept = {(workspace / told["file_name"]).read_text() for told in made}
    assert kept == {f"content {n}" for n in range(count)}
    assert jupyter.call("GET", f"/sessions/{session}/artifacts")["total"] == count + 1


def test_a_bomb_in_a_workbook(jupyter: JupyterServer, session: str) -> None:
    """A workbook that unpacks to gigabytes is kept, and said to be too large or broken; the server does not grow."""
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        for n in range(3):
            with archive.open(f"xl/worksheets/sheet{n}.xml", "w", force_zip64=True) as sheet:
                for _ in range(400):
                    sheet.write(b"<row>" + b" " * 1_000_000)
    server = psutil.Process(jupyter.pid)
    before = server.memory_info().rss
    told = jupyter.call("POST", f"/sessions/{session}/upload", files={"file": ("bomb.xlsx", bomb.getvalue())})
    assert told["metadata"]["problem"]
    assert server.memory_info().rss - before < 50_000_000
    assert jupyter.http.get("/health").status_code == 200


def test_a_lying_type(jupyter: JupyterServer, session: str) -> None:
    """What a client says of a file's type is not believed: its name decides, and the browser is told not to sniff."""
    for name, said in (("x.png", "text/html"), ("x.txt", "text/html"), ("x.csv", "image/svg+xml")):
        files = {"file": (name, b"<script>1</script>", said)}
        told = jupyter.call("POST", f"/sessions/{session}/upload", files=files)
        kind = jupyter.http.get(f"/artifacts/{told['artifact_id']}/content").headers["content-type"]
        assert "html" not in kind
        assert "svg" not in kind


def test_an_anonymous_flood(jupyter: JupyterServer) -> None:
    """300 MB from nobody are refused at the door, by every route that takes a body."""
    server = psutil.Process(jupyter.pid)
    before = server.memory_info().rss
    for path in ("/sessions", "/sessions/x/upload", "/sessions/x/query", "/agent/chat", "/nosuch"):
        sent = 0
        with socket.create_connection(("127.0.0.1", jupyter.port)) as raw:
            raw.settimeout(5)
            head = f"POST /cellwright/api/v1{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 300000000\r\n\r\n"
            raw.sendall(head.encode())
            try:
                for _ in range(300):
                    raw.sendall(b"x" * 1_000_000)
                    sent += 1
            except OSError:
                pass
        assert sent < 300
    assert server.memory_info().rss - before < 20_000_000
    assert jupyter.http.get("/health").status_code == 200


def test_slow_and_broken_bodies(jupyter: JupyterServer, session: str) -> None:
    """Bodies that lie about their length, stop in the middle or are chunked for ever hold nothing up."""
    before = jupyter.call("GET", f"/sessions/{session}")["seq"]
    head = f"POST /cellwright/api/v1/sessions/{session}/execute HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    login = "Authorization: token testing\r\n"
    for rest in (
        "Content-Length: 100\r\n\r\n{",
        'Transfer-Encoding: chunked\r\n\r\n5\r\n{"sou',
        "Transfer-Encoding: chunked\r\n\r\nZZZ\r\n",
        "Content-Length: -1\r\n\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n\r\n{}",
        "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
    ):
        with socket.create_connection(("127.0.0.1", jupyter.port)) as raw:
            raw.sendall((head + login + rest).encode())
            time.sleep(0.1)
    assert jupyter.http.get("/health").status_code == 200
    assert jupyter.call("GET", f"/sessions/{session}")["seq"] == before


def test_secrets_are_masked(jupyter: JupyterServer, session: str, model: OpenAIServer) -> None:
    """The model's key and the server's token stand in no event, error, setting, export or log line of ours."""
    key = "sk-very-secret"
    model.script([Say(status=401, content=f"Incorrect API key provided: {key}.")])
    turn = jupyter.call("POST", f"/sessions/{session}/query", json={"query": "?"})
    assert jupyter.until_ended(turn["turn_id"])["status"] == "failed"
    told = [
        str(jupyter.events(session)),
        jupyter.http.get("/settings").text,
        jupyter.http.get(f"/turns/{turn['turn_id']}").text,
        jupyter.http.get(f"/sessions/{session}/export").text,
        jupyter.http.get("/health").text,
        jupyter.http.post("/check").text,
        jupyter.log.read_text(),
    ]
    assert not [text for text in told if key in text]
    assert not [text for text in told[:-1] if "token testing" in text]
