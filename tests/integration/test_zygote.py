"""Kernels that are forked: what a fork may break, each as a test, beside the same on a kernel that was not."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import site
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import psutil
import pytest
from cellwright.kernels.client import KernelConnection
from cellwright.kernels.forker import ForkedProcess
from cellwright.kernels.inside.forking import PR_SET_CHILD_SUBREAPER
from cellwright.kernels.inside.keeping import Keeping
from cellwright.kernels.process import WatchedProcess
from cellwright.kernels.provisioner import CellwrightProvisioner
from cellwright.kernels.sessions import SessionKernels
from cellwright.kernels.zygote import Zygote

from tests.integration.conftest import manager, run

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the zygote is for Linux")


@contextlib.asynccontextmanager
async def opened(keeping: Keeping, warm: int) -> AsyncIterator[SessionKernels]:
    kernels = SessionKernels(manager(), keeping, "cellwright", warm)
    try:
        if warm:
            await settled(kernels, warm)
        yield kernels
    finally:
        await kernels.close()
        CellwrightProvisioner.keeping = None
        # A spare whose zygote was killed notices it by itself, and then removes its own.
        async with asyncio.timeout(20):
            while [name for name in os.listdir(keeping.folder) if not name.endswith(("spool", "stdout", "stderr"))]:
                await asyncio.sleep(0.05)


async def settled(kernels: SessionKernels, spares: int) -> Zygote:
    assert kernels.zygote is not None
    async with asyncio.timeout(60):
        while kernels.zygote.spares < spares:
            await asyncio.sleep(0.02)
    return kernels.zygote


@pytest.fixture(params=["plain", "cold", "spare"])
async def kernel(request: pytest.FixtureRequest, keeping: Keeping, tmp_path: Path) -> AsyncIterator[KernelConnection]:
    """A kernel that was started the ordinary way, forked on demand, or forked beforehand."""
    async with opened(keeping, 0 if request.param == "plain" else 1) as kernels:
        if request.param == "cold":
            kept, kernels.zygote._spares = kernels.zygote._spares, []
        (tmp_path / "here").mkdir()
        found = await kernels.start("s", None, tmp_path / "here")
        if request.param == "cold":
            kernels.zygote._spares.extend(kept)
        assert isinstance(found.manager.provisioner.process, ForkedProcess) == (request.param != "plain")
        yield found


RIGHT = {
    "working directory": "import os\nhere = %pwd\nassert here == os.getcwd() and here.endswith('here')",
    "a module beside the notebook": "open('beside.py', 'w').write('V = 7'); import beside; assert beside.V == 7",
    "no path of the zygote's": "import sys; assert sys.path[0] == '' or sys.path[0].endswith('here'), sys.path",
    "threads of BLAS": "import numpy as np; a = np.random.rand(600, 600); assert (a @ a).sum() > 0",
    "Arrow": (
        "import pandas as pd, numpy as np, io; d = pd.DataFrame({'a': np.arange(200_000), 's': 'x'})\n"
        "b = io.BytesIO(); d.to_parquet(b); assert len(pd.read_parquet(b)) == 200_000"
    ),
    "OpenMP": (
        "from sklearn.ensemble import HistGradientBoostingClassifier as H; import numpy as np\n"
        "x = np.random.rand(2000, 5); assert H(max_iter=5).fit(x, x[:, 0] > .5).score(x, x[:, 0] > .5) > .5"
    ),
    "multiprocessing": (
        "import multiprocessing as mp, math\ndef f(x): return x * x\n"
        "with mp.get_context('fork').Pool(2) as p: assert p.map(f, range(3)) == [0, 1, 4]\n"
        "with mp.get_context('spawn').Pool(1) as p: assert p.map(math.sqrt, [4, 9]) == [2.0, 3.0]"
    ),
    "await": "import asyncio; await asyncio.sleep(0.01)",
    "subprocesses": "import subprocess; assert subprocess.run(['sh', '-c', 'exit 3']).returncode == 3",
    "pickles of __main__": "import pickle\nclass A: pass\nassert type(pickle.loads(pickle.dumps(A()))) is A",
    "threads": "from concurrent.futures import ThreadPoolExecutor as T; assert list(T(8).map(abs, [-1, -2])) == [1, 2]",
    "descriptors above 1024": (
        "import os, resource, subprocess; resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))\n"
        "kept = [os.dup(0) for _ in range(1200)]; assert subprocess.check_output(['echo', 'a']) == b'a\\n'"
    ),
    "nothing inherited": (
        "import os\nlinks = [os.readlink(f'/proc/self/fd/{f}') for f in os.listdir('/proc/self/fd')"
        " if os.path.islink(f'/proc/self/fd/{f}')]\nassert not [l for l in links if 'pidfd' in l], links"
    ),
}


@pytest.mark.parametrize("what", RIGHT)
async def test_a_forked_kernel_is_a_kernel(kernel: KernelConnection, what: str) -> None:
    """What works in a plain kernel works in a forked one."""
    ended, outputs = await run(kernel, RIGHT[what])
    assert ended.status == "ok", outputs


async def test_figures_and_output(kernel: KernelConnection) -> None:
    """Figures are pictures, also as SVG; what C and children write to the descriptors is caught."""
    _, outputs = await run(kernel, "import matplotlib.pyplot as plt; plt.plot([1, 2]); plt.show()")
    assert "image/png" in outputs[-1]["data"]
    svg = "%matplotlib inline\n%config InlineBackend.figure_formats = ['svg']\nplt.plot([1, 2]);"
    _, outputs = await run(kernel, svg)
    assert "image/svg+xml" in outputs[-1]["data"]
    source = (
        "import ctypes, os, sys, time\nos.system('echo from a shell'); os.write(1, b'raw\\n')\n"
        "ctypes.CDLL(None).puts(b'from C'); ctypes.CDLL(None).fflush(None); print('python'); time.sleep(0.3)"
    )
    _, outputs = await run(kernel, source)
    text = "".join(output["text"] for output in outputs)
    assert all(words in text for words in ("from a shell", "raw", "from C", "python"))


@pytest.mark.parametrize("source", ["import time; time.sleep(60)", "while True: pass", "!sleep 60"])
async def test_it_can_be_interrupted(kernel: KernelConnection, source: str) -> None:
    """SIGINT reaches the kernel and its children, and nothing else."""
    running = asyncio.create_task(run(kernel, source))
    await asyncio.sleep(0.5)
    await kernel.interrupt()
    await running
    ended, _ = await run(kernel, "1")
    assert ended.status == "ok"


@pytest.mark.parametrize(
    ("source", "cause"), [("import os; os._exit(3)", "exit code 3"), ("import os; os.kill(os.getpid(), 9)", "SIGKILL")]
)
async def test_its_death_is_told(kernel: KernelConnection, source: str, cause: str) -> None:
    """With its cause, and without a zombie."""
    pid = kernel.manager.provisioner.pid
    ended, _ = await run(kernel, source)
    assert ended.status == "kernel_died"
    assert cause in str(ended.cause)
    assert not psutil.pid_exists(pid)


async def test_no_randomness_in_common(keeping: Keeping, tmp_path: Path) -> None:
    """Two forks of one process draw different numbers, whatever they draw them from."""
    source = (
        "import random, uuid, ssl, secrets, tempfile, json, numpy as np\n"
        "print(json.dumps([random.random(), np.random.rand(), np.random.default_rng().random(), str(uuid.uuid4()),"
        " str(uuid.uuid1()), ssl.RAND_bytes(8).hex(), secrets.token_hex(8), tempfile.mktemp()]))"
    )
    async with opened(keeping, 2) as kernels:
        drawn = []
        for name in ("a", "b", "c"):
            _, outputs = await run(await kernels.start(name, None, tmp_path), source)
            drawn.append(json.loads(outputs[0]["text"]))
    assert all(len(set(column)) == 3 for column in zip(*drawn, strict=True))


async def test_libraries_are_set_up_alike(keeping: Keeping, tmp_path: Path) -> None:
    """What libraries decide when they are imported is as in a kernel that imported them itself."""
    source = (
        "import json, warnings, matplotlib, numpy as np, pandas as pd\nimport pandas._config.config as c\n"
        "options = {key: str(pd.get_option(key)).lower() for key in sorted(c._registered_options)}\n"
        "json.dump([options, {k: str(v) for k, v in matplotlib.rcParams.items()}, str(np.get_printoptions()),"
        " [str(f) for f in warnings.filters]], open('told.json', 'w'))"
    )
    told = []
    for warm in (0, 1):
        async with opened(keeping, warm) as kernels:
            await run(await kernels.start("s", None, tmp_path), source)
        told.append(json.loads((tmp_path / "told.json").read_text()))
    plain, forked = told
    assert plain[:3] == forked[:3]
    assert set(plain[3]) <= set(forked[3])


async def test_many_at_once(keeping: Keeping, tmp_path: Path) -> None:
    """Twenty started together are twenty kernels; the spares are made anew."""
    async with opened(keeping, 2) as kernels:
        started = await asyncio.gather(*(kernels.start(str(n), None, tmp_path) for n in range(20)))
        answers = await asyncio.gather(*(run(kernel, f"print({n})") for n, kernel in enumerate(started)))
        assert [outputs[0]["text"] for _, outputs in answers] == [f"{n}\n" for n in range(20)]
        await settled(kernels, 2)


async def test_restart_keeps_the_sockets(keeping: Keeping, tmp_path: Path) -> None:
    """A client of a kernel that was a spare is connected to the one that is started in its place."""
    async with opened(keeping, 1) as kernels:
        kernel = await kernels.start("s", None, tmp_path)
        before = kernel.manager.get_connection_info()
        await run(kernel, "kept = 1")
        await kernels.manager.restart_kernel(kernel.kernel_id)
        assert kernel.manager.get_connection_info() == before
        client = kernel.manager.client()
        client.start_channels()
        await client.wait_for_ready(timeout=30)
        told = await client.execute_interactive("kept", timeout=10, output_hook=lambda message: None)
        assert told["content"]["ename"] == "NameError"
        client.stop_channels()


async def test_the_zygote_is_killed(keeping: Keeping, tmp_path: Path) -> None:
    """Its kernels live on and are told dead when they die; another zygote takes its place."""
    async with opened(keeping, 1) as kernels:
        kernel = await kernels.start("s", None, tmp_path)
        await run(kernel, "kept = 41")
        zygote = await settled(kernels, 1)
        first = zygote.pid
        os.kill(first, signal.SIGKILL)
        ended, outputs = await run(kernel, "kept + 1")
        assert outputs[0]["data"]["text/plain"] == "42"
        other = await kernels.start("other", None, tmp_path)
        assert (await run(other, "1"))[0].status == "ok"
        async with asyncio.timeout(30):
            while zygote.pid in (None, first):
                await asyncio.sleep(0.05)
        ended, _ = await run(kernel, "import os; os._exit(5)")
        assert ended.status == "kernel_died"


async def test_orphans_are_reaped(keeping: Keeping, tmp_path: Path) -> None:
    """What a kernel leaves behind when it ends is reaped by the zygote: no zombie stays, whoever its parent was."""
    async with opened(keeping, 1) as kernels:
        kernel = await kernels.start("s", None, tmp_path)
        source = (
            "import os, time\nread, write = os.pipe()\nif os.fork() == 0:\n    if os.fork() == 0:\n"
            "        os.write(write, str(os.getpid()).encode()); time.sleep(1); os._exit(0)\n    os._exit(0)\n"
            "os.wait(); print(os.read(read, 20).decode())"
        )
        ended, outputs = await run(kernel, source)
        assert ended.status == "ok"
        orphan = psutil.Process(int(outputs[0]["text"]))
        assert kernels.zygote is not None
        assert orphan.ppid() == kernels.zygote.pid
        async with asyncio.timeout(10):
            while psutil.pid_exists(orphan.pid):
                await asyncio.sleep(0.05)


async def test_a_server_that_inherits_kernels(keeping: Keeping, tmp_path: Path) -> None:
    """Where orphans become the server's (it is process 1, or a subreaper), it learns how a kernel ended by itself."""
    become_subreaper = partial(ctypes.CDLL(None).prctl, PR_SET_CHILD_SUBREAPER)
    async with opened(keeping, 1) as kernels:
        kernel = await kernels.start("s", None, tmp_path)
        zygote = await settled(kernels, 1)
        become_subreaper(1, 0, 0, 0)
        try:
            assert zygote.pid is not None
            os.kill(zygote.pid, signal.SIGKILL)
            await asyncio.sleep(0.2)
            other = subprocess.Popen(["true"])  # Nobody but its owner may wait for it.
            ended, _ = await run(kernel, "import os; os._exit(7)")
            assert "exit code 7" in str(ended.cause)
            assert other.wait() == 0
        finally:
            become_subreaper(0, 0, 0, 0)


async def test_what_was_read_at_import_differs(
    keeping: Keeping, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel whose environment the zygote could not have foreseen starts the ordinary way."""
    async with opened(keeping, 1) as kernels:
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        kernel = await kernels.start("s", None, tmp_path)
        assert not isinstance(kernel.manager.provisioner.process, WatchedProcess)
        _, outputs = await run(kernel, "import os; os.environ['OMP_NUM_THREADS']")
        assert outputs[0]["data"]["text/plain"] == "'1'"
        monkeypatch.delenv("OMP_NUM_THREADS")
        (tmp_path / "matplotlibrc").write_text("figure.dpi: 50\n")
        kernel = await kernels.start("t", None, tmp_path)
        _, outputs = await run(kernel, "import matplotlib; matplotlib.rcParams['figure.dpi']")
        assert outputs[0]["data"]["text/plain"] == "50.0"


async def test_a_package_that_comes_later(keeping: Keeping, tmp_path: Path) -> None:
    """When site-packages changes, the zygote and its spares are replaced."""
    async with opened(keeping, 1) as kernels:
        zygote = await settled(kernels, 1)
        first = zygote.pid
        made = Path(site.getsitepackages()[0]) / f"late_{uuid.uuid4().hex[:8]}.py"
        made.write_text("V = 7")
        try:
            kernel = await kernels.start("s", None, tmp_path)
            _, outputs = await run(kernel, f"import {made.stem}; {made.stem}.V")
            assert outputs[0]["data"]["text/plain"] == "7"
            async with asyncio.timeout(30):
                while zygote.pid in (None, first):
                    await asyncio.sleep(0.05)
        finally:
            made.unlink()


async def test_a_spare_that_died(keeping: Keeping, tmp_path: Path) -> None:
    """It is not given away, and nobody waits for it."""
    async with opened(keeping, 1) as kernels:
        zygote = await settled(kernels, 1)
        os.kill(zygote._spares[0].process.pid, signal.SIGKILL)
        kernel = await kernels.start("s", None, tmp_path)
        assert (await run(kernel, "1"))[0].status == "ok"


async def test_a_start_that_fails(keeping: Keeping, tmp_path: Path) -> None:
    """An error in the child's start is told at once, and leaves no process that hangs in its end."""
    async with opened(keeping, 1) as kernels:
        zygote = await settled(kernels, 1)
        before = {child.pid for child in psutil.Process(zygote.pid).children()}
        environment = zygote._environment | keeping.to_environment()
        with pytest.raises(Exception, match="No such file"):
            await zygote.fork(["-f", str(tmp_path / "absent.json")], environment, str(tmp_path / "nowhere"))
        await asyncio.sleep(0.3)
        assert {child.pid for child in psutil.Process(zygote.pid).children()} == before


async def test_no_secret_in_the_zygote(keeping: Keeping, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It starts from the allow-list itself, and `/proc` does not show it."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-server")
    async with opened(keeping, 1) as kernels:
        kernel = await kernels.start("s", None, tmp_path)
        zygote = await settled(kernels, 1)
        source = (
            "import os\nassert 'sk-of-the-server' not in open('/proc/self/environ').read()\n"
            f"try: print(open('/proc/{zygote.pid}/environ').read())\nexcept PermissionError: print('refused')"
        )
        _, outputs = await run(kernel, source)
        assert outputs[0]["text"] == "refused\n"


async def test_a_server_that_is_gone(keeping: Keeping, tmp_path: Path) -> None:
    """Without its server the zygote leaves, with the spares; a kernel in use lives on."""
    async with opened(keeping, 1) as kernels:
        kernel = await kernels.start("s", None, tmp_path)
        zygote = await settled(kernels, 1)
        pids = [zygote.pid, zygote._spares[0].process.pid]
        zygote._task.cancel()
        zygote._spares[0].process._socket.close()
        zygote._forker.close()
        await asyncio.to_thread(zygote._process.wait, 10)
        _gone, alive = await asyncio.to_thread(
            psutil.wait_procs, [psutil.Process(p) for p in pids if psutil.pid_exists(p)], 10
        )
        assert [process for process in alive if process.status() != "zombie"] == []
        assert (await run(kernel, "1"))[0].status == "ok"
