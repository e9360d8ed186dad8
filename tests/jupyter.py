"""A real Jupyter server with the extension, in a process of its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

import httpx

START_S = 60.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class JupyterServer:
    """Starts, kills and starts again a server on one data folder, root and port."""

    module, base = "jupyter_server", "/"

    def __init__(self, folder: Path, root: Path, data_dir: Path, token: str = "testing", **environment: str) -> None:
        self.root, self.data_dir, self.token = root, data_dir, token
        self.port = free_port()
        self.log = folder / "jupyter.log"
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None
        self.http = httpx.Client(
            base_url=f"{self.url}cellwright/api/v1",
            headers={"Authorization": f"token {token}"},
            timeout=60,
            trust_env=False,
        )

    @classmethod
    def fresh(cls, folder: Path, cluster: Path | None = None, **more: Any) -> Self:
        """A server with a root and data of its own, the latter begun as a copy of `cluster`."""
        (folder / "root").mkdir()
        if cluster is not None:
            shutil.copytree(cluster, folder / "data")
        return cls(folder, folder / "root", folder / "data", **more)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.base}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self, *arguments: str, **environment: str) -> Self:
        """Starts the server, and waits until it answers."""
        self.begin(*arguments, **environment)
        assert self._process is not None
        give_up = time.monotonic() + START_S
        while time.monotonic() < give_up:
            if self._process.poll() is not None:
                raise AssertionError(f"the server ended:\n{self.log.read_text()[-3_000:]}")
            try:
                if self.http.get("/health").status_code == 200:
                    return self
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        raise AssertionError(f"the server did not answer:\n{self.log.read_text()[-3_000:]}")

    def begin(self, *arguments: str, **environment: str) -> Self:
        """Starts the server's process."""
        env = {
            **os.environ,
            "CELLWRIGHT_DATA_DIR": str(self.data_dir),
            "JUPYTER_TOKEN": self.token,
            "CELLWRIGHT_RATE_LIMIT": "0",  # Tests ask faster than people do.
            **self._environment,
            **environment,
        }
        command = [
            *(sys.executable, "-m", self.module, "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1"),
            *(f"--ServerApp.port={self.port}", "--ServerApp.port_retries=0", f"--ServerApp.root_dir={self.root}"),
            *("--ServerApp.jpserver_extensions={'cellwright.extension': True}", *arguments),
        ]
        with self.log.open("ab") as out:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env)
        return self

    def kill(self) -> None:
        """As a power cut would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def wait_dead(self, timeout_s: float = 60.0) -> None:
        assert self._process is not None
        self._process.wait(timeout_s)

    def restart(self) -> None:
        """Stops the server as an operator would, and starts it again."""
        self._end()
        self.start()

    def stop(self) -> None:
        self.http.close()
        self._end()

    def _end(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def call(self, method: str, path: str, **more: Any) -> Any:
        answer = self.http.request(method, path, **more)
        assert answer.status_code < 400, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def events(self, session_id: str) -> list[dict[str, Any]]:
        """The durable events so far, by one pass of the stream."""
        from httpx_sse import connect_sse

        last = self.call("GET", f"/sessions/{session_id}")["seq"]
        found: list[dict[str, Any]] = []
        with connect_sse(self.http, "GET", f"/sessions/{session_id}/events") as source:
            for event in source.iter_sse():
                if not event.event.endswith((".delta", ".snapshot", ".output")):
                    found.append({"type": event.event, "seq": int(event.id), **event.json()})
                    if found[-1]["seq"] >= last:
                        break
        return found

    def until_ended(self, turn_id: str, timeout_s: float = 60.0) -> dict[str, Any]:
        give_up = time.monotonic() + timeout_s
        while time.monotonic() < give_up:
            turn: dict[str, Any] = self.call("GET", f"/turns/{turn_id}")
            if turn["status"] not in ("queued", "running"):
                return turn
            time.sleep(0.05)
        raise AssertionError(f"turn {turn_id} does not end:\n{self.log.read_text()[-3_000:]}")
