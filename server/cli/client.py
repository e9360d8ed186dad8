"""Finds the server, or starts one, and speaks HTTP to it."""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
import httpx

START_S = 60.0
IDLE_STOP_S = 2 * 3600
API = "cellwright/api/v1"


class ClientError(Exception):
    """What a user is told in one or two lines; `status` is the server's answer, where it gave one."""

    def __init__(self, told: str, status: int | None = None) -> None:
        super().__init__(told)
        self.status = status


class Server:
    """A Jupyter server with Cellwright."""

    def __init__(self, url: str, token: str | None, *, started: bool = False, pid: int | None = None) -> None:
        self.url, self.token, self.started, self.pid = url.rstrip("/") + "/", token, started, pid
        self.process: subprocess.Popen[bytes] | None = None
        headers = {"Authorization": f"token {token}"} if token else {}
        # No proxy stands between us and a server on this machine, whatever the environment says.
        trust = not self.url.startswith(("http://127.", "http://localhost", "http://[::1]"))
        timeout = httpx.Timeout(30.0, read=None)
        self.http = httpx.Client(base_url=f"{self.url}{API}", headers=headers, timeout=timeout, trust_env=trust)

    def call(self, method: str, path: str, **more: Any) -> Any:
        """The answer's JSON; raises ClientError with the problem's own words."""
        try:
            answer = self.http.request(method, path, **more)
        except httpx.HTTPError as error:
            raise ClientError(f"The server at {self.url} does not answer: {error}") from error
        raise_for(answer)
        if not answer.content:
            return None
        if "json" not in answer.headers.get("content-type", ""):
            raise ClientError(f"What answers at {self.url} is not Cellwright: give the server's own address.")
        return answer.json()

    def bytes(self, path: str, **more: Any) -> bytes:
        answer = self.http.get(path, **more)
        raise_for(answer)
        return answer.content

    @contextmanager
    def events(self, method: str, path: str, **more: Any) -> Iterator[Iterator[tuple[str, dict[str, Any], int]]]:
        """The event stream of an answer: type and data of each, and the number of the last durable one."""
        from httpx_sse import EventSource

        headers = {"Accept": "text/event-stream"}
        with self.http.stream(method, path, headers=headers, **more) as answer:
            if answer.status_code >= 400:
                answer.read()
                raise_for(answer)
            source = EventSource(answer).iter_sse()
            yield ((event.event, json.loads(event.data), int(event.id or 0)) for event in source if event.data)


def raise_for(answer: httpx.Response) -> None:
    """Raises ClientError with the problem's own words for a status of 400 and above."""
    if answer.status_code < 400:
        return
    try:
        said = answer.json()
        detail = said.get("detail") or said.get("message") or said.get("title")
    except ValueError:
        detail = None
    if answer.status_code == 403 and detail is None:
        detail = "The server refuses the token: give it with --token."
    raise ClientError(str(detail or f"{answer.status_code} {answer.reason_phrase}"), answer.status_code)


def quoted(name: str) -> str:
    """A name as one segment of a path."""
    if name in ("", ".", ".."):
        raise ClientError(f"There is no session {name!r}.")
    return quote(name, safe="")


def connect(ctx: click.Context, *, start: bool = True) -> Server:
    """The server that `--url` names, that runs, or that is started; raises ClientError."""
    chosen = ctx.find_root().obj
    if chosen["url"]:
        try:
            url = httpx.URL(chosen["url"])
        except httpx.InvalidURL as error:
            raise ClientError(f"{chosen['url']!r} is no address: {error}") from error
        # The address as the browser shows it will do: what comes behind the server's own part is JupyterLab's.
        base = re.split(r"/(?:lab|tree|notebooks|doc)(?:/|$)", url.path)[0]
        server = Server(str(url.copy_with(path=base or "/", query=None)), chosen["token"] or url.params.get("token"))
        server.call("GET", "/health")
        return server
    found = running()
    if found is not None:
        return found
    if not start:
        raise ClientError("No server is running here. Any command that works with sessions starts one.")
    return start_server()


def running() -> Server | None:
    """A server of this user's on this machine that has Cellwright: the data folder's owner before others."""
    owner = _owner()
    servers = sorted(_listed(), key=lambda info: info["pid"] != owner)
    for info in servers:
        if owner is None and os.environ.get("CELLWRIGHT_DATA_DIR"):
            continue  # A folder of one's own was asked for, and nobody serves it.
        if os.environ.get("CELLWRIGHT_DATA_DIR") and info["pid"] != owner:
            continue
        server = Server(info["url"], info.get("token"), pid=info["pid"])
        try:
            server.http.get("/health", timeout=5).raise_for_status()
        except httpx.HTTPError:
            continue
        return server
    return None


def _listed() -> list[dict[str, Any]]:
    """What Jupyter servers of this user's have written about themselves; some may have ended.

    `jupyter_server.serverapp.list_running_servers` reads the same files, but importing it takes longer than all else
    that a command does.
    """
    from jupyter_core.paths import jupyter_runtime_dir

    found = []
    for path in Path(jupyter_runtime_dir()).glob("jpserver-*.json"):
        with suppress(OSError, ValueError):  # Gone, or being written.
            told = json.loads(path.read_text(encoding="utf-8"))
            if "pid" in told and "url" in told:
                found.append(told)
    return found


def _owner() -> int | None:
    from cellwright.server.settings import Settings
    from cellwright.server.store.folder import DataFolder

    folder = DataFolder(Settings.load().data_dir)
    return (folder.owner() or {}).get("pid") if folder.in_use() else None


def start_server(module: str = "jupyter_server") -> Server:
    """Starts a Jupyter server without a browser for this folder.

    It ends by itself when nobody uses it; a `jupyterlab` does not, and belongs to the terminal that it was started in.
    """
    from cellwright.server.settings import Settings
    from cellwright.server.store.folder import private_folder

    folder = private_folder(Settings.load().data_dir)
    log = folder / "server.log"
    token = secrets.token_urlsafe(24)
    environment = dict(os.environ, JUPYTER_TOKEN=token)
    background = module == "jupyter_server"
    if background:
        environment.setdefault("CELLWRIGHT_IDLE_STOP_S", str(IDLE_STOP_S))
    arguments = [
        *(sys.executable, "-m", module, "--no-browser", "--ServerApp.ip=127.0.0.1", "--ServerApp.port=0"),
        *(f"--ServerApp.root_dir={Path.cwd()}", "--ServerApp.jpserver_extensions={'cellwright.extension': True}"),
        "--ServerApp.open_browser=False",
        *(["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []),
    ]
    with log.open("ab") as out:
        process = subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment, start_new_session=background
        )
    give_up = time.monotonic() + START_S
    while time.monotonic() < give_up:
        if process.poll() is not None:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-8:])
            raise ClientError(f"The server did not start:\n{tail}")
        for info in _listed():
            if info["pid"] == process.pid:
                server = Server(info["url"], token, started=True, pid=process.pid)
                server.process = process
                try:
                    server.call("GET", "/health")
                except ClientError as error:
                    if error.status is not None:
                        process.terminate()
                        raise
                else:
                    return server
        time.sleep(0.1)
    process.terminate()
    raise ClientError(f"The server did not answer within {START_S:.0f} s. Its log: {log}")


def stop_server(pid: int) -> None:
    """Asks a server to end, and waits until it has; raises ClientError."""
    os.kill(pid, signal.SIGTERM)
    for _ in range(300):
        try:
            os.kill(pid, 0)
        except OSError:
            return
        time.sleep(0.1)
    raise ClientError(f"Process {pid} does not end.")
