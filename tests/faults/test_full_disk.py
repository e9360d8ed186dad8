"""A disk that is full: a clear refusal before work starts, and nothing is lost."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doubles.openai_server import Say
from tests.faults.conftest import Deployment, check_log, promise, writes

FREE = 8 << 20


@pytest.fixture
def small_disk(root: Path) -> Iterator[Path]:
    """The folder that users see, on a disk of 24 MB."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a disk")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(root)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.decode().strip()}")
    yield root
    subprocess.run(["umount", "--lazy", str(root)], check=True)


def test_a_full_disk(small_disk: Path, deployment: Deployment) -> None:
    """A turn is refused with 507 where the disk is full; one under way says what failed; freed, all goes on."""
    fault = "disk full"
    server = deployment.server(CELLWRIGHT_MIN_FREE_BYTES=str(FREE))
    session = server.call("POST", "/sessions", json={"title": "t"})
    fills = "open('big.bin', 'wb').write(b'x' * 40_000_000)"
    deployment.model.script([writes("a", fills), Say("It did not fit.")])
    turn = server.call("POST", f"/sessions/{session['id']}/query", json={"query": "go"})
    ended = server.until_ended(turn["turn_id"])
    promise(fault, "the turn under way is finished", ended["status"] == "completed", ended)
    told = str(deployment.model.requests[-1]["messages"])
    promise(fault, "the model is told why the cell failed", "No space left on device" in told)
    refused = server.http.post(f"/sessions/{session['id']}/query", json={"query": "more"})
    promise(fault, "a turn is refused before it begins", refused.status_code == 507, refused.text)
    promise(fault, "the refusal says how much must be free", f"{FREE:,}" in refused.json()["detail"], refused.text)
    refused = server.http.post(f"/sessions/{session['id']}/upload", files={"file": ("b.bin", b"x" * 30_000_000)})
    promise(fault, "an upload that does not fit is refused", 400 <= refused.status_code < 600, refused.text)
    promise(fault, "and is a clear problem", "Something went wrong" not in refused.text, refused.text)
    (small_disk / session["workspace"] / "big.bin").unlink()
    deployment.model.script([writes("b"), Say("Now it fits.")])
    after = server.call("POST", f"/sessions/{session['id']}/query", json={"query": "again"})
    promise(fault, "the next turn works", server.until_ended(after["turn_id"])["status"] == "completed")
    check_log(fault, server.events(session["id"]), [turn["turn_id"], after["turn_id"]])
