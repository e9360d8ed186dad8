"""What a kernel cannot see, and what it may not use up."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from cellwright.kernels.inside.confine import Limits, hide_process
from cellwright.kernels.inside.keeping import Keeping
from cellwright.kernels.provisioner import CellwrightProvisioner
from cellwright.kernels.sessions import SessionKernels

from tests.integration.conftest import manager, run

LIMITED = Limits(memory_bytes=3 << 30, cpu_s=3, open_files=128, file_bytes=5 << 20)
SECRETS = {
    "CELLWRIGHT_API_KEY": "sk-of-the-server",
    "OPENAI_API_KEY": "sk-of-the-server",
    "CELLWRIGHT_DATABASE_URL": "postgresql://u:sk-of-the-server@h/d",
    "CELLWRIGHT_REDIS_URL": "redis://:sk-of-the-server@h",
    "CELLWRIGHT_S3_SECRET_KEY": "sk-of-the-server",
    "JUPYTER_TOKEN": "sk-of-the-server",
    "AWS_SECRET_ACCESS_KEY": "sk-of-the-server",
}


@pytest.fixture
async def limited(keeping: Keeping) -> AsyncIterator[SessionKernels]:
    kept = replace(keeping, limits=LIMITED, allowed_imports=("stdlib", "numpy", "pandas"))
    opened = SessionKernels(manager(), kept, "cellwright")
    yield opened
    await opened.close()
    CellwrightProvisioner.keeping = None


@pytest.mark.parametrize(
    ("source", "name", "words"),
    [
        ("import numpy as np; np.ones(1 << 30)", "MemoryError", "limit of memory was hit: 3,221,225,472"),
        ("kept = [open('/dev/null') for _ in range(200)]", "OSError", "limit of open files was hit: 128"),
        ("open('big', 'wb').write(bytes(9 << 20)); 1", "OSError", "limit of file size was hit: 5,242,880"),
        ("while True: pass", "CpuLimitReached", "CELLWRIGHT_CPU_LIMIT_S"),
        ("import matplotlib", "ImportError", "matplotlib may not be imported here. Allowed: stdlib, numpy, pandas"),
        ("def later():\n    from sklearn.svm import SVC\nlater()", "ImportError", "sklearn may not be imported here"),
    ],
)
async def test_what_is_hit_is_named(
    limited: SessionKernels, tmp_path: Path, source: str, name: str, words: str
) -> None:
    """Each limit ends the cell with an error that says which and how much; the kernel goes on."""
    kernel = await limited.start("s", None, tmp_path)
    ended, outputs = await run(kernel, source)
    assert ended.status == "error"
    error = next(output for output in outputs if output["output_type"] == "error")
    assert name in error["ename"]
    assert words in "\n".join(error["traceback"])
    # Past the CPU limit a cell has a second left, in which no slow machine imports pandas.
    more = "" if name == "CpuLimitReached" else "; import json, pandas; pandas.DataFrame({'a': [1]})"
    ended, _ = await run(kernel, f"kept = None{more}")
    assert ended.status == "ok"


async def test_an_agents_own_list_of_imports(kernels: SessionKernels, tmp_path: Path) -> None:
    """A profile's list holds for its cells, and for no others."""
    kernel = await kernels.start("s", None, tmp_path)
    ended, _ = await run(kernel, "import decimal", allowed_imports=("math",))
    assert ended.status == "error"
    for allowed in (("math",), None):
        ended, _ = await run(kernel, "import math" if allowed else "import decimal", allowed_imports=allowed)
        assert ended.status == "ok"


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
async def test_no_secret_within_a_kernels_reach(
    kernels: SessionKernels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not in its environment, not in a descriptor, not in the server's `/proc`, not by any capability."""
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    hide_process()
    kernel = await kernels.start("s", None, tmp_path)
    source = f"""
import os
server = {os.getpid()}
assert "sk-of-the-server" not in str(dict(os.environ))
refused = []
for what in ("environ", "mem", "maps", "fd", "cwd"):
    try:
        path = f"/proc/{{server}}/{{what}}"
        os.readlink(path + "/1") if what == "fd" else os.readlink(path) if what == "cwd" else open(path, "rb").read(1)
    except PermissionError:
        refused.append(what)
print(refused)
print([line.split()[1] for line in open("/proc/self/status") if line.startswith(("CapEff", "CapBnd", "CapPrm"))])
print(sorted(link for fd in os.listdir("/proc/self/fd") if os.path.islink(f"/proc/self/fd/{{fd}}")
             for link in [os.readlink(f"/proc/self/fd/{{fd}}")] if link.startswith("/") and "cellwright" not in link))
!cat /proc/{{server}}/environ
"""
    ended, outputs = await run(kernel, source)
    assert ended.status == "ok", outputs
    text = "".join(output["text"] for output in outputs)
    assert "['environ', 'mem', 'maps', 'fd', 'cwd']" in text
    assert "Permission denied" in text
    assert "sk-of-the-server" not in text
    if os.geteuid() == 0:
        assert "['0000000000000000', '0000000000000000', '0000000000000000']" in text


async def test_files_stay_usable(kernels: SessionKernels, tmp_path: Path) -> None:
    """Without capabilities, what the session's user owns can be read, written and run."""
    kernel = await kernels.start("s", None, tmp_path)
    source = "open('a.txt', 'w').write('x'); import subprocess; print(subprocess.check_output(['cat', 'a.txt']))"
    ended, outputs = await run(kernel, source)
    assert (ended.status, outputs[0]["text"]) == ("ok", "b'x'\n")
