"""Servers over stores that break, and the account of what was promised and what was seen."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import own_stores
from tests.doubles.openai_server import OpenAIServer, Say, cell
from tests.faults.proxy import Proxy
from tests.jupyter import JupyterServer
from tests.services import Services

ENDS = ("turn.completed", "turn.failed", "turn.stopped", "turn.interrupted")
LEASE_S = 3.0
RUNS = int(os.environ.get("CHAOS_RUNS", "0"))
"""How often random tests are run; 0 for what fits into every test run. `make chaos` asks for many."""

ACCOUNT: dict[tuple[str, str], list[int]] = collections.defaultdict(lambda: [0, 0])
TIMES: dict[str, list[float]] = collections.defaultdict(list)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """A table of faults and promises: how often each was tried, how often broken."""
    if ACCOUNT:
        terminalreporter.section("faults × promises")
        terminalreporter.write_line(f"{'fault':<34}{'promise':<46}{'runs':>6}{'broken':>8}")
        for (fault, promise), (runs, broken) in sorted(ACCOUNT.items()):
            terminalreporter.write_line(f"{fault:<34}{promise:<46}{runs:>6}{broken:>8}")
    for what, seconds in sorted(TIMES.items()):
        middle = sorted(seconds)[len(seconds) // 2]
        terminalreporter.write_line(f"{what}: median {middle:.2f} s, worst {max(seconds):.2f} s, of {len(seconds)}")


def promise(fault: str, words: str, kept: bool, why: object = "") -> None:
    """Notes that a promise was put to the test under a fault, and asserts that it held."""
    entry = ACCOUNT[fault, words]
    entry[0] += 1
    entry[1] += not kept
    assert kept, f"{fault}: {words}: {why}"


@dataclass
class Deployment:
    """Two servers (or more) on one set of stores, each store behind a proxy."""

    folder: Path
    root: Path
    model: OpenAIServer
    services: Services
    stores: dict[str, object]
    postgres: Proxy
    redis: Proxy
    objects: Proxy
    servers: list[JupyterServer] = field(default_factory=list)

    def server(self, *, wait: bool = True, **more: str) -> JupyterServer:
        """One more server, started; it answers when this returns, unless `wait` is false."""
        number = len(self.servers)
        place = self.folder / f"server{number}"
        place.mkdir()
        database = str(self.stores["database_url"]).replace(
            f":{self.services.postgres.port}/", f":{self.postgres.port}/"
        )
        redis = str(self.stores["redis_url"]).replace(f":{self.services.redis.port}", f":{self.redis.port}")
        environment = {
            "CELLWRIGHT_DATABASE_URL": database,
            "CELLWRIGHT_REDIS_URL": redis,
            "CELLWRIGHT_S3_ENDPOINT": f"127.0.0.1:{self.objects.port}",
            "CELLWRIGHT_S3_ACCESS_KEY": str(self.stores["s3_access_key"]),
            "CELLWRIGHT_S3_SECRET_KEY": str(self.stores["s3_secret_key"]),
            "CELLWRIGHT_S3_BUCKET": str(self.stores["s3_bucket"]),
            "CELLWRIGHT_S3_SECURE": "false",
            **self.model.settings,
            "CELLWRIGHT_LEASE_S": str(LEASE_S),
            "CELLWRIGHT_WARM_KERNELS": "0",
            **more,
        }
        made = JupyterServer(place, self.root, place / "data", **environment)
        self.servers.append(made)
        return made.start() if wait else made.begin()

    def ledger(self, session: dict[str, Any]) -> list[str]:
        """What cells of the session say that they ran: the ground truth."""
        path = self.root / session["workspace"] / "ledger.txt"
        return path.read_text().split() if path.exists() else []


def writes(mark: str, more: str = "") -> Say:
    """A model's answer that runs a cell which says in the ledger that it ran."""
    return cell(f"with open('ledger.txt', 'a') as ledger: ledger.write('{mark}\\n')\n{more}", mark)


def check_log(fault: str, events: list[dict[str, Any]], turns: list[str]) -> None:
    """What holds for every log, whatever happened."""
    numbers = [event["seq"] for event in events]
    promise(fault, "the log has no gap", numbers == list(range(1, len(numbers) + 1)), numbers)
    for turn in turns:
        own = [event["type"] for event in events if event["turn_id"] == turn]
        ends = [kind for kind in own if kind in ENDS]
        promise(fault, "an accepted turn has exactly one end", len(ends) == 1 and own[-1] == ends[0], own)
    asked = {
        (event["message_id"], call["id"])
        for event in events
        if event["type"] == "message.completed"
        for call in event["tool_calls"] or ()
    }
    told = collections.Counter(
        (event["message_id"], event["result"]["call_id"]) for event in events if event["type"] == "tool.completed"
    )
    promise(fault, "no call has two results", all(count == 1 for count in told.values()), told)
    promise(fault, "no result without a call", set(told) <= asked, told)


def check_ledger(fault: str, ledger: list[str]) -> None:
    """No cell ran twice."""
    twice = [mark for mark, count in collections.Counter(ledger).items() if count > 1]
    promise(fault, "a cell runs at most once", not twice, twice)


def well_formed(messages: list[dict[str, Any]]) -> bool:
    """Whether a model was sent a history in which every tool call is followed by its one result."""
    waiting: list[str] = []
    for message in messages:
        if message["role"] == "tool":
            if message["tool_call_id"] not in waiting:
                return False
            waiting.remove(message["tool_call_id"])
            continue
        if waiting:
            return False
        waiting = [call["id"] for call in message.get("tool_calls") or ()]
    return not waiting


def check_history(fault: str, model: OpenAIServer) -> None:
    """Everything that the model was sent was well formed."""
    bad = [request for request in model.requests if not well_formed(request["messages"])]
    promise(fault, "the history sent to a model is well formed", not bad, json.dumps(bad[:1])[:2000])


def until(met: Any, timeout_s: float = 60.0, every_s: float = 0.05) -> Any:
    """Waits for something true."""
    give_up = time.monotonic() + timeout_s
    while time.monotonic() < give_up:
        with contextlib.suppress(httpx.TransportError, AssertionError):
            found = met()
            if found:
                return found
        time.sleep(every_s)
    raise AssertionError("it did not come to that in time")


@pytest.fixture
def deployment(tmp_path: Path, root: Path, model: OpenAIServer, services: Services | None) -> Iterator[Deployment]:
    """Real PostgreSQL, Redis and S3 behind proxies; servers are started by the test."""
    if services is None:
        pytest.skip(f"not installed here: {', '.join(Services.missing())}")
    loop = asyncio.new_event_loop()
    stack = contextlib.AsyncExitStack()
    stores = loop.run_until_complete(stack.enter_async_context(own_stores(services)))
    s3_port = int(str(stores["s3_endpoint"]).rpartition(":")[2])
    proxies = [Proxy(port).start() for port in (services.postgres.port, services.redis.port, s3_port)]
    found = Deployment(tmp_path, root, model, services, stores, *proxies)
    try:
        yield found
    finally:
        for proxy in proxies:
            proxy.set("pass")
        for server in found.servers:
            server.stop()
        for proxy in proxies:
            proxy.stop()
        loop.run_until_complete(stack.aclose())
        loop.close()
