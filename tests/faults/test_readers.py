"""Readers whose connection breaks, stalls or crawls: what they get, joined, is the log; and they hold nothing up."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import time
from typing import Any

import psutil

from tests.doubles.openai_server import Say
from tests.faults.conftest import RUNS, TIMES, Deployment, promise, writes
from tests.jupyter import JupyterServer

CUTS = max(100, RUNS)
SLOW_BYTES, READERS = 1 << 20, 20


class RawReader:
    """Reads a session's event stream from a socket, as many bytes as it is told."""

    def __init__(self, server: JupyterServer, session: str, after: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", server.port))
        self._socket.settimeout(1)
        path = f"/cellwright/api/v1/sessions/{session}/events"
        head = [f"GET {path} HTTP/1.1", "Host: 127.0.0.1", f"Authorization: token {server.token}"]
        self._socket.sendall("\r\n".join([*head, f"Last-Event-ID: {after}", "", ""]).encode())
        self.received = b""

    def read(self, count: int, last: int = 0) -> None:
        """Takes up to `count` more bytes, or the event with the number `last`."""
        while count > 0 and b"\n\n" not in self.received.partition(f"id: {last}\n".encode())[2]:
            data = self._socket.recv(min(count, 1 << 16))
            if not data:
                return
            count -= len(data)
            self.received += data

    def close(self) -> None:
        self._socket.close()

    def whole_events(self) -> list[tuple[int, dict[str, Any]]]:
        """Number and data of the durable events that arrived whole."""
        _, _, body = self.received.partition(b"\r\n\r\n")
        text = b"".join(_chunks(body))
        found = []
        for block in text.split(b"\n\n")[:-1]:
            fields = dict(line.split(b": ", 1) for line in block.split(b"\n") if b": " in line)
            if b"id" in fields:
                found.append((int(fields[b"id"]), json.loads(fields[b"data"])))
        return found


def _chunks(body: bytes) -> list[bytes]:
    """The content of chunked encoding, as far as it goes."""
    found = []
    while b"\r\n" in body:
        size, _, rest = body.partition(b"\r\n")
        length = int(size, 16)
        found.append(rest[:length])
        body = rest[length + 2 :]
    return found


def test_a_reader_that_is_cut(deployment: Deployment) -> None:
    """Cut at any byte and resumed after what arrived whole: every event once, in order."""
    fault = "reader cut at random"
    server = deployment.server()
    session = server.call("POST", "/sessions", json={})["id"]
    for number in range(6):
        deployment.model.script([writes(f"m{number}", "print('x' * 500)"), Say("answer " * 50)])
        server.until_ended(server.call("POST", f"/sessions/{session}/query", json={"query": f"q{number}"})["turn_id"])
    wanted = [(event["seq"], event["at"]) for event in server.events(session)]
    last = wanted[-1][0]
    dice = random.Random(4)
    for _ in range(CUTS):
        got: list[tuple[int, str]] = []
        while not got or got[-1][0] < last:
            reader = RawReader(server, session, got[-1][0] if got else 0)
            began = time.monotonic()
            with contextlib.suppress(TimeoutError):
                reader.read(dice.choice([dice.randrange(300, 3_000), dice.randrange(3_000, 60_000)]), last)
            TIMES["resume of a reader"].append(time.monotonic() - began)
            reader.close()
            got += [(number, told["at"]) for number, told in reader.whole_events()]
        # The last turn's variables may have been stored since.
        promise(fault, "joined, it is the log", got[: len(wanted)] == wanted, (len(got), len(wanted)))


def test_a_reader_that_crawls(deployment: Deployment) -> None:
    """Readers of a few bytes a second hold under a megabyte each, and the turn goes on at its pace."""
    fault = "reader at a crawl"
    server = deployment.server()
    process = psutil.Process(server.pid)
    source = "for i in range(200): print('y' * 2000, flush=True)"

    def work(readers: list[RawReader], session: str) -> int:
        before = process.memory_info().rss
        for _ in range(8):
            server.call("POST", f"/sessions/{session}/execute", json={"source": source})
            for reader in readers:
                reader.read(1)
        return process.memory_info().rss - before

    sessions = [server.call("POST", "/sessions", json={})["id"] for _ in range(3)]
    work([], sessions[0])
    alone = work([], sessions[1])
    server.call("POST", f"/sessions/{sessions[2]}/execute", json={"source": "1"})
    readers = [RawReader(server, sessions[2], 0) for _ in range(READERS)]
    for reader in readers:
        reader.read(20)
    began = time.monotonic()
    grown = (work(readers, sessions[2]) - alone) / READERS
    took = time.monotonic() - began
    for reader in readers:
        reader.close()
    promise(fault, "a slow reader holds under 1 MB", grown < SLOW_BYTES, f"{grown:,.0f} bytes each")
    promise(fault, "a slow reader holds nothing up", took < 60, took)
