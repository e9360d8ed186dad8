"""Sessions whose kernels run on a Jupyter Kernel Gateway, which outlives every server."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import own_stores
from tests.jupyter import JupyterServer, free_port
from tests.services import Services


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[str]:
    """A Kernel Gateway on a private port; its address."""
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "kernel_gateway",
        f"--KernelGatewayApp.port={port}",
        "--KernelGatewayApp.ip=127.0.0.1",
    ]
    (tmp_path / "elsewhere").mkdir()
    with (tmp_path / "gateway.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--KernelGatewayApp.port_retries=0", "--JupyterWebsocketPersonality.list_kernels=True"],
            cwd=tmp_path / "elsewhere",
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        give_up = time.monotonic() + 30
        while True:
            try:
                httpx.get(f"{url}/api", trust_env=False)
                break
            except httpx.TransportError:
                assert process.poll() is None, (tmp_path / "gateway.log").read_text()
                assert time.monotonic() < give_up
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(20)


def text(ran: dict[str, Any]) -> str:
    return "".join(str(o.get("text") or o.get("data", {}).get("text/plain", "")) for o in ran["outputs"])


def run(server: JupyterServer, session: str, source: str) -> dict[str, Any]:
    ran: dict[str, Any] = server.call("POST", f"/sessions/{session}/execute", json={"source": source})
    return ran


@pytest.fixture
def far(tmp_path: Path, data_dir: Path, gateway: str) -> Iterator[JupyterServer]:
    (tmp_path / "root").mkdir()
    server = JupyterServer(tmp_path, tmp_path / "root", data_dir)
    yield server
    server.stop()


def test_a_session_on_a_gateway(far: JupyterServer, gateway: str) -> None:
    """Cells, variables, interruption, hibernation, death; and what such a kernel lacks is told by name."""
    far.start(f"--gateway-url={gateway}")
    session = far.call("POST", "/sessions", json={})["id"]
    ran = run(far, session, "import numpy as np; kept = np.arange(100_000.0); print('far'); kept.sum()")
    assert (ran["status"], text(ran)) == ("ok", "far\nnp.float64(4999950000.0)")
    told = far.call("GET", f"/sessions/{session}/kernel")
    assert "bounded output" in told["missing"]
    variables = {v["name"]: v for v in far.call("GET", f"/sessions/{session}/variables")["variables"]}
    assert variables["kept"]["shape"] == [100_000]
    assert far.call("GET", f"/sessions/{session}/variables/kept")["type"] == "numpy.ndarray"
    with ThreadPoolExecutor(1) as pool:
        endless = pool.submit(run, far, session, "while True: pass")
        time.sleep(1)
        far.call("POST", f"/sessions/{session}/kernel/interrupt")
        assert endless.result(30)["status"] in ("error", "interrupted")
    far.call("POST", f"/sessions/{session}/kernel/hibernate")
    assert httpx.get(f"{gateway}/api/kernels", trust_env=False).json() == []
    assert text(run(far, session, "float(kept.sum())")) == "4999950000.0"
    died = run(far, session, "import os; os._exit(3)")
    assert died["status"] == "kernel_died"
    assert "NameError" in str(run(far, session, "kept")["outputs"])


def test_a_server_that_is_killed_comes_back(far: JupyterServer, gateway: str) -> None:
    """The gateway kept the kernel: variables go on."""
    far.start(f"--gateway-url={gateway}")
    session = far.call("POST", "/sessions", json={})["id"]
    run(far, session, "kept = 41")
    kernel = far.call("GET", f"/sessions/{session}/kernel")["id"]
    far.kill()
    far.start(f"--gateway-url={gateway}")
    assert text(run(far, session, "kept + 1")) == "42"
    assert far.call("GET", f"/sessions/{session}/kernel")["id"] == kernel


@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_another_server_goes_on(tmp_path: Path, gateway: str, services: Services | None, end: str) -> None:
    """Two servers on one gateway and one database: the second takes the kernel with its variables."""
    if services is None:
        pytest.skip(f"not installed here: {', '.join(Services.missing())}")
    (tmp_path / "root").mkdir()
    async with own_stores(services) as stores:
        environment = {f"CELLWRIGHT_{name.upper()}": str(value) for name, value in stores.items()}
        servers = []
        for name in ("one", "two"):
            (tmp_path / name).mkdir(mode=0o700)
            made = JupyterServer(
                tmp_path / name, tmp_path / "root", tmp_path / name / "data", CELLWRIGHT_LEASE_S="2", **environment
            )
            servers.append(made)
        one, two = servers
        try:
            one.start(f"--gateway-url={gateway}")
            session = one.call("POST", "/sessions", json={})["id"]
            run(one, session, "kept = 41")
            kernel = one.call("GET", f"/sessions/{session}/kernel")["id"]
            two.start(f"--gateway-url={gateway}")
            assert two.call("GET", f"/sessions/{session}/kernel")["status"] == "elsewhere"
            one.kill() if end == "kill" else one.stop()
            assert text(run(two, session, "kept + 1")) == "42"
            assert two.call("GET", f"/sessions/{session}/kernel")["id"] == kernel
        finally:
            for server in servers:
                server.stop()
