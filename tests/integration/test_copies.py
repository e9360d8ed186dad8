"""Sleeping copies: what a kernel is after the way back, what refuses a copy, and that no living kernel suffers."""

from __future__ import annotations

import asyncio
import os
import queue
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
from cellwright.kernels import copies, forker
from cellwright.kernels.client import KernelConnection
from cellwright.kernels.copies import CopyRefused
from cellwright.kernels.errors import KernelNotStarted
from cellwright.kernels.inside.keeping import Keeping
from cellwright.kernels.sessions import SessionKernels
from jupyter_client.asynchronous.client import AsyncKernelClient

from tests.integration.conftest import run
from tests.integration.test_zygote import opened

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="copies are for Linux")


@pytest.fixture
async def kernels(request: pytest.FixtureRequest, keeping: Keeping, tmp_path: Path) -> AsyncIterator[SessionKernels]:
    """A session `s` with a kernel that was started the ordinary way, or came from the zygote."""
    async with opened(keeping, 0 if getattr(request, "param", "plain") == "plain" else 1) as found:
        await found.start("s", None, tmp_path)
        yield found


both = pytest.mark.parametrize("kernels", ["plain", "forked"], indirect=True)


async def ok(kernels: SessionKernels, source: str) -> list[dict]:
    kernel = kernels.get("s")
    assert kernel is not None
    ended, outputs = await run(kernel, source)
    assert ended.status == "ok", outputs
    return outputs


async def back_and_forth(kernels: SessionKernels, before: str, meanwhile: str, after: str) -> None:
    await ok(kernels, before)
    copy = await kernels.copy("s")
    await ok(kernels, meanwhile)
    await kernels.go_back("s", copy)
    await ok(kernels, after)


AS_IT_WAS = {
    "what is a context's": (
        "import contextvars, numpy as np; v = contextvars.ContextVar('v'); v.set(1); np.seterr(divide='raise');"
        "np.set_printoptions(precision=2)",
        "v.set(2); np.seterr(divide='ignore')",
        "assert v.get() == 1 and np.geterr()['divide'] == 'raise' and np.get_printoptions()['precision'] == 2",
    ),
    "generators, locks, lambdas": (
        "import threading; g = (i for i in range(9)); next(g); lock = threading.Lock(); lock.acquire(); f = lambda: g",
        "next(g); lock.release(); f = None",
        "assert next(g) == 1 and lock.locked() and f() is g",
    ),
    "aliases": ("a = [1]; h = {'a': a}", "a.append(2); h = None", "assert a == [1] and h['a'] is a"),
    "random numbers": (
        "import random, numpy as np; random.seed(1); np.random.seed(1)\n"
        "want = random.Random(1).random(), float(np.random.RandomState(1).rand())",
        "random.random(); np.random.rand()",
        "assert (random.random(), float(np.random.rand())) == want",
    ),
    "what was shown and counted": (
        "from IPython.display import display; 41",
        "42",
        "assert _ == 41 and len(In) == 3, (_, In)",
    ),
    "logging to the old stream": (
        "import logging, sys; handler = logging.StreamHandler(sys.stderr); logging.getLogger('x').addHandler(handler)",
        "logging.getLogger('x').removeHandler(handler)",
        "logging.getLogger('x').error('heard')",
    ),
    "BLAS": (
        "import numpy as np; a = np.random.rand(600, 600); (a @ a).sum()",
        "a = None",
        "assert (a @ a).sum() > 0",
    ),
    "Arrow": (
        "import pandas as pd, io; d = pd.DataFrame({'a': range(200_000)}); b = io.BytesIO(); d.to_parquet(b)\n"
        "pd.read_parquet(b).shape",
        "d = None",
        "c = io.BytesIO(); d.to_parquet(c); assert len(pd.read_parquet(c)) == 200_000",
    ),
    "OpenMP": (
        "from sklearn.ensemble import HistGradientBoostingClassifier as H; import numpy as np\n"
        "x = np.random.rand(2000, 5); m = H(max_iter=5).fit(x, x[:, 0] > .5)",
        "m = None",
        "assert m.score(x, x[:, 0] > .5) > .5 and H(max_iter=5).fit(x, x[:, 0] > .5).score(x, x[:, 0] > .5) > .5",
    ),
    "sqlite": (
        "import sqlite3; c = sqlite3.connect('s.db'); c.execute('create table t(a)'); c.commit()",
        "1",
        "c.execute('insert into t values(1)'); c.commit()\n"
        "assert c.execute('select count(*) from t').fetchone() == (1,)",
    ),
    "a figure under way": (
        "import matplotlib.pyplot as plt; fig, ax = plt.subplots(); plt.close(fig); ax.plot([1, 2]);",
        "ax.clear()",
        "assert len(ax.lines) == 1; fig",
    ),
    "large outputs": (
        "import numpy as np, IPython.display as d; large = np.random.default_rng(0).bytes(300_000).hex()\n"
        "d.display(large); (np.ones((600, 600)) @ np.ones((600, 600))).sum()",
        "large = None",
        "for i in range(3): d.display(large)\nassert len(large) == 600_000",
    ),
    "a progress bar's monitor": (
        "from tqdm import tqdm\nfor i in tqdm(range(3)): pass",
        "1",
        "for i in tqdm(range(3)): pass\nassert i == 2",
    ),
    "a pool that was closed": (
        "from concurrent.futures import ThreadPoolExecutor as T\nwith T(2) as e: r = list(e.map(abs, [-1, 2]))",
        "r = None",
        "assert r == [1, 2]\nwith T(2) as e: assert list(e.map(abs, [-1])) == [1]",
    ),
    "processes made anew": (
        "import multiprocessing as mp\nwith mp.get_context('fork').Pool(2) as p: r = p.map(abs, [-1])\np.join()",
        "r = None",
        "with mp.get_context('fork').Pool(2) as p: assert p.map(abs, [-1, -2]) == [1, 2]\np.join()",
    ),
    "open files": (
        "f = open('f.txt', 'w+'); f.write('one'); f.flush()",
        "f2 = open('g.txt', 'w')",
        "f.write('two'); f.flush(); assert open('f.txt').read() == 'onetwo'",
    ),
    "await": (
        "import asyncio; v = await asyncio.sleep(0, 5)",
        "v = 0",
        "assert v == 5 and await asyncio.sleep(0, 6) == 6",
    ),
    "subprocesses": (
        "import subprocess; out = subprocess.run(['echo', 'a'], capture_output=True).stdout",
        "out = None",
        "assert out == b'a\\n' and subprocess.run(['echo', 'b'], capture_output=True).stdout == b'b\\n'",
    ),
}


@pytest.mark.parametrize("case", AS_IT_WAS)
async def test_the_way_back(kernels: SessionKernels, case: str) -> None:
    """Everything in the namespace is as it was when the copy was made; what was done since is undone."""
    await back_and_forth(kernels, *AS_IT_WAS[case])


@both
async def test_open_files_that_have_no_name(kernels: SessionKernels, tmp_path: Path) -> None:
    """What was removed or replaced before the copy was made is not what has its name now."""
    await ok(
        kernels,
        "import os, tempfile\nopen('a.txt', 'w').write('old'); file = open('a.txt'); os.remove('a.txt')\n"
        "open('a.txt', 'w').write('new')\nspare = tempfile.TemporaryFile(dir='.'); spare.write(b'one two')\n"
        "spare.flush(); spare.seek(0); spare.read(0)",
    )
    copy = await kernels.copy("s")
    await ok(kernels, "assert file.read() == 'old' and os.read(spare.fileno(), 4) == b'one '")
    await kernels.go_back("s", copy)
    await ok(kernels, "assert file.read() == 'old' and os.read(spare.fileno(), 4) == b'one '")


@both
async def test_open_files(kernels: SessionKernels, tmp_path: Path) -> None:
    """They stand where they stood, in what has their names now, whatever the living kernel read and wrote meanwhile."""
    await ok(
        kernels,
        "open('in.txt', 'w').write('1\\n2\\n3\\n' * 9000)\n"
        "file = open('in.txt'); raw = open('in.txt', 'rb', buffering=0); out = open('out.txt', 'a')\n"
        "assert file.readline() == '1\\n' and raw.read(2) == b'1\\n'; print('a', file=out, flush=True)",
    )
    copy = await kernels.copy("s")
    await ok(kernels, "rest = file.read(); raw.read(10); print('b', file=out, flush=True); file.close()")
    there = tmp_path / "put-back.txt"
    there.write_text("a\n")
    there.replace(tmp_path / "out.txt")
    await kernels.go_back("s", copy)
    await ok(kernels, "print('c', file=out, flush=True); assert file.readline() == '2\\n' and raw.read(2) == b'2\\n'")
    assert (tmp_path / "out.txt").read_text() == "a\nc\n"


@both
async def test_outputs_after_the_way_back(kernels: SessionKernels) -> None:
    """Console, displays, results, errors and figures come as ever; descriptor-level output too."""
    await ok(kernels, "import os, matplotlib.pyplot as plt")
    await kernels.go_back("s", await kernels.copy("s"))
    outputs = await ok(kernels, "print('a'); os.system('echo b'); plt.plot([1]); plt.show(); 7")
    assert "a\n" in "".join(o.get("text", "") for o in outputs)
    assert [o["output_type"] for o in outputs if o["output_type"] != "stream"] == ["display_data", "execute_result"]
    assert "image/png" in next(o for o in outputs if o["output_type"] == "display_data")["data"]
    kernel = kernels.get("s")
    ended, outputs = await run(kernel, "1 / 0")
    assert ended.status == "error"
    assert outputs[0]["ename"] == "ZeroDivisionError"


@both
async def test_again_and_again(kernels: SessionKernels) -> None:
    """One copy serves many times; generations of copies gain neither descriptors nor stack nor threads."""
    await ok(kernels, "import os, sys, threading; n = 0")
    copy = await kernels.copy("s")
    for _ in range(3):
        await ok(kernels, "n += 1; assert n == 1")
        await kernels.go_back("s", copy)
    measure = "print(len(os.listdir('/proc/self/fd')), len(__import__('inspect').stack()), threading.active_count())"
    seen = []
    for _ in range(8):
        await kernels.go_back("s", await kernels.copy("s"))
        seen.append([int(number) for number in (await ok(kernels, measure))[0]["text"].split()])
    assert len(kernels.copies("s")) == 3
    descriptors, stack, threads = zip(*seen, strict=True)
    # A client's connection more or less, as it comes and goes.
    assert max(descriptors) - min(descriptors) <= 3, descriptors
    assert len(set(stack)) == len(set(threads)) == 1, (stack, threads)


@both
async def test_a_connected_client_stays_connected(kernels: SessionKernels) -> None:
    """Who was connected to the kernel (a tab of JupyterLab) is so afterwards, under the same id."""
    kernel = kernels.get("s")
    assert kernel is not None
    other = AsyncKernelClient(session=kernel.manager.session.clone())
    other.load_connection_info(kernel.manager.get_connection_info())
    other.start_channels(hb=False)

    async def printed(source: str) -> str:
        request = other.execute(source)
        text = ""
        while True:
            try:
                message = await other.get_iopub_msg(timeout=2)
            except queue.Empty:  # What was sent before the connection came back, or the subscription, is lost.
                return text
            if message["parent_header"].get("msg_id") == request:
                text += message["content"].get("text", "")
                if message["content"].get("execution_state") == "idle":
                    return text

    try:
        await printed("x = 1")
        copy = await kernels.copy("s")
        await printed("x = 2")
        again = await kernels.go_back("s", copy)
        assert again.kernel_id == kernel.kernel_id
        # Its connections come back a moment after the kernel did.
        async with asyncio.timeout(20):
            while (text := await printed("print(x)")) == "":
                pass
        assert text == "1\n"
    finally:
        other.stop_channels()


@both
async def test_after_a_death(kernels: SessionKernels) -> None:
    """A kernel that died since is brought back as it was; the next death is reported with its cause."""
    await ok(kernels, "x = 5")
    copy = await kernels.copy("s")
    first = kernels.get("s")
    ended, _ = await run(first, "import os; os._exit(3)")
    assert ended.status == "kernel_died"
    assert kernels.get("s") is None
    second = await kernels.go_back("s", copy)
    await ok(kernels, "assert x == 5")
    ended, _ = await run(second, "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    assert ended.status == "kernel_died"
    assert "SIGSEGV" in await second.died


@both
async def test_an_interrupt_reaches_only_the_living(kernels: SessionKernels) -> None:
    """The kernel that came back obeys an interrupt, and the copy sleeps on."""
    copy = await kernels.copy("s")
    kernel = await kernels.go_back("s", copy)

    async def soon() -> None:
        await asyncio.sleep(0.5)
        await kernel.interrupt()

    task = asyncio.create_task(soon())
    _, outputs = await run(kernel, "import time; time.sleep(30)")
    await task
    assert outputs[0]["ename"] == "KeyboardInterrupt"
    await kernels.go_back("s", copy)
    await ok(kernels, "1")


REFUSED = {
    "a thread": (
        "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True, name='mine').start()",
        "threads run in the session: mine",
    ),
    "a pool of threads": (
        "from concurrent.futures import ThreadPoolExecutor as T; e = T(2); list(e.map(abs, [1]))",
        "ThreadPoolExecutor",
    ),
    "a pool of processes": (
        "import multiprocessing as mp; p = mp.get_context('fork').Pool(1); p.map(abs, [1])",
        "threads run in the session",
    ),
    "native threads": (
        "import ctypes, time\nT = ctypes.c_ulong(); f = ctypes.CDLL(None).pause\n"
        "[ctypes.CDLL(None).pthread_create(ctypes.byref(T), None, f, None) for _ in range(40)]; time.sleep(.2)",
        "native threads",
    ),
    "no memory to spare": (
        "import cellwright.kernels.inside.copies as c; c._free_bytes = lambda: 0",
        "memory for as much again",
    ),
    "a library that was never tried": (
        "import cellwright.kernels.inside.copies as c; c._libraries = lambda: {'/usr/lib/libcuda.so.1'}",
        "libcuda.so is loaded",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_refused(kernels: SessionKernels, case: str) -> None:
    """Where a fork is known to be dangerous there is none, the reason is told, and the kernel is as it was."""
    source, reason = REFUSED[case]
    await ok(kernels, source)
    before = psutil.Process().children(recursive=True)
    with pytest.raises(CopyRefused, match=reason):
        await kernels.copy("s")
    assert {p.pid for p in psutil.Process().children(recursive=True)} <= {p.pid for p in before}
    await ok(kernels, "assert True")


async def test_what_a_copy_will_not_have_is_told(kernels: SessionKernels) -> None:
    """Tasks of the event loop and child processes are not in the copy, and are named."""
    await ok(
        kernels,
        "import asyncio, subprocess\nasync def wait(): await asyncio.sleep(60)\n"
        "task = asyncio.create_task(wait()); p = subprocess.Popen(['sleep', '60'])",
    )
    copy = await kernels.copy("s")
    assert copy.lost == ("asyncio tasks: 1", "child processes: 1")
    await ok(kernels, "task.cancel(); p.kill(); p.wait();")


async def test_a_copy_that_is_gone(kernels: SessionKernels) -> None:
    """A copy that was killed is dropped when it is asked for; the living kernel goes on."""
    copy = await kernels.copy("s")
    await ok(kernels, "y = 1")
    os.kill(copy.pid, signal.SIGKILL)
    with pytest.raises(KernelNotStarted):
        await kernels.go_back("s", copy)
    assert kernels.copies("s") == []
    await ok(kernels, "assert y == 1")


async def test_a_copy_that_hangs(kernels: SessionKernels, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy that does not answer is dropped and never used; the living kernel goes on."""
    monkeypatch.setattr(forker, "LAUNCH_S", 1.0)
    copy = await kernels.copy("s")
    await ok(kernels, "y = 1")
    os.kill(copy.pid, signal.SIGSTOP)
    with pytest.raises(KernelNotStarted):
        await kernels.go_back("s", copy)
    assert kernels.copies("s") == []
    with pytest.raises(CopyRefused):
        await kernels.go_back("s", copy)
    async with asyncio.timeout(5):
        while psutil.pid_exists(copy.pid) and psutil.Process(copy.pid).status() != psutil.STATUS_ZOMBIE:
            await asyncio.sleep(0.05)
    await ok(kernels, "assert y == 1")


async def test_a_woken_kernel_that_does_not_answer(kernels: SessionKernels, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a copy made takes the kernel's place only after it has answered; else it is ended."""
    copy = await kernels.copy("s")
    await ok(kernels, "y = 1")
    made: list[int] = []

    async def stopped(self: forker.Forker, spec: dict) -> forker.ForkedProcess:
        process = await fork(self, spec)
        os.kill(process.pid, signal.SIGSTOP)
        made.append(process.pid)
        return process

    fork = forker.Forker.fork
    monkeypatch.setattr(forker.Forker, "fork", stopped)
    monkeypatch.setattr(copies, "ANSWER_S", 0.5)
    with pytest.raises(KernelNotStarted, match="does not answer"):
        await kernels.go_back("s", copy)
    await ok(kernels, "assert y == 1")
    assert not psutil.pid_exists(made[0]) or psutil.Process(made[0]).status() == psutil.STATUS_ZOMBIE


async def test_a_busy_kernel_is_not_copied(kernels: SessionKernels, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two cells only: one that runs is neither cut short nor copied."""
    monkeypatch.setattr(copies, "COPY_S", 0.5)
    kernel = kernels.get("s")
    assert kernel is not None
    running = asyncio.create_task(run(kernel, "import time; time.sleep(2); z = 1"))
    await asyncio.sleep(0.3)
    with pytest.raises(CopyRefused, match="busy"):
        await kernels.copy("s")
    ended, _ = await running
    assert ended.status == "ok"
    await ok(kernels, "assert z == 1")


@both
async def test_nothing_of_a_copy_stays(kernels: SessionKernels, keeping: Keeping) -> None:
    """With the session's end its copies end; the fixture sees that no file is left."""
    made = [await kernels.copy("s") for _ in range(2)]
    kernel: KernelConnection = await kernels.go_back("s", made[0])
    pids = [copy.pid for copy in made] + [kernel.manager.provisioner.pid]
    await kernels.end("s")
    async with asyncio.timeout(5):
        while any(psutil.pid_exists(p) and psutil.Process(p).status() != psutil.STATUS_ZOMBIE for p in pids):
            await asyncio.sleep(0.05)
