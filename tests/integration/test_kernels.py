"""Kernels without a session: start, run, bound, refuse, die, come back."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from pathlib import Path
from typing import Any

import psutil
import pytest
import zmq
from cellwright.kernels.client import KernelConnection
from cellwright.kernels.errors import KernelNotStarted, KernelUnreachable
from cellwright.kernels.execution import Execution, Finished, reattach
from cellwright.kernels.inside.keeping import Keeping
from cellwright.kernels.provisioner import CellwrightProvisioner
from cellwright.kernels.registry import Registry
from cellwright.kernels.sessions import SessionKernels
from cellwright.notebooks.outputs import OutputArea

from tests.integration.conftest import INLINE_BYTES, manager, run


async def test_a_cell_is_complete_before_it_is_done(kernel: KernelConnection) -> None:
    """Twenty thousand flushed prints are all there, in order, when the cell ends."""
    ended, outputs = await run(kernel, "for i in range(2000): print(i, flush=True)")
    assert ended.status == "ok"
    assert outputs[0]["text"] == "".join(f"{i}\n" for i in range(2000))


async def test_a_slow_reader_misses_nothing(kernel: KernelConnection) -> None:
    """Whoever listens beside us (a JupyterLab tab) gets every message, even if it reads only after the cell."""
    info = kernel.manager.get_connection_info()
    with zmq.Context() as context, context.socket(zmq.SUB) as slow:
        slow.setsockopt(zmq.RCVHWM, 1)
        slow.setsockopt(zmq.RCVTIMEO, 10_000)
        slow.setsockopt(zmq.SUBSCRIBE, b"")
        slow.connect(f"ipc://{info['ip']}-{info['iopub_port']}" if info["transport"] == "ipc" else _tcp(info))
        await asyncio.sleep(0.3)
        await run(kernel, "for i in range(3_000): print(i, flush=True)")
        text = ""
        while not text.endswith("2999\n"):
            parts = slow.recv_multipart()
            message = parts[parts.index(b"<IDS|MSG>") + 2 :]
            if json.loads(message[0])["msg_type"] == "stream":
                text += json.loads(message[3])["text"]
    assert text == "".join(f"{i}\n" for i in range(3_000))


def _tcp(info: dict[str, Any]) -> str:
    return f"tcp://{info['ip']}:{info['iopub_port']}"


async def test_a_restart_in_jupyter_is_no_death(
    kernels: SessionKernels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel that somebody restarts goes on under its id, also where its new process takes a while to come."""
    kernel = await kernels.start("s", None, tmp_path)
    launch = CellwrightProvisioner.launch_kernel

    async def slowly(self: CellwrightProvisioner, *args: Any, **more: Any) -> Any:
        await asyncio.sleep(1.0)
        return await launch(self, *args, **more)

    monkeypatch.setattr(CellwrightProvisioner, "launch_kernel", slowly)
    restarting = asyncio.create_task(kernels.manager.restart_kernel(kernel.kernel_id))
    cause = await asyncio.wait_for(kernel.died, 10)
    await restarting
    assert (cause, kernel.replaced) == ("it was restarted in Jupyter", True)


async def test_what_jupyterlab_would_show(kernel: KernelConnection) -> None:
    """Displays, their updates, cleared output, errors and results come out as a notebook would hold them."""
    _, outputs = await run(
        kernel,
        "from IPython.display import display, clear_output, Markdown\n"
        "print('gone'); clear_output(wait=True); print('here')\n"
        "h = display('one', display_id=True); h.update('two')\n"
        "import sys; print('err', file=sys.stderr)\n"
        "1/0",
    )
    kinds = [(o["output_type"], o.get("name") or o.get("ename") or o["data"].get("text/plain")) for o in outputs]
    assert kinds == [
        ("stream", "stdout"),
        ("display_data", "'two'"),
        ("stream", "stderr"),
        ("error", "ZeroDivisionError"),
    ]
    assert outputs[0]["text"] == "here\n"


async def test_text_is_bounded_in_the_kernel(kernel: KernelConnection, keeping: Keeping) -> None:
    """Head and tail are shown, the whole stands in a file, and the kernel does not grow by what it printed."""
    import psutil

    process = psutil.Process(Registry(Path(keeping.folder)).living()[0].pid)
    before = process.memory_info().rss
    execution_id = str(uuid.uuid4())
    ended, outputs = await run(
        kernel, "print('head')\nfor _ in range(12): print('x' * 1_000_000)\nprint('tail')", execution_id=execution_id
    )
    text = outputs[0]["text"]
    assert ended.status == "ok"
    assert len(text) < INLINE_BYTES + 200
    assert text.startswith("head\n")
    assert text.endswith("tail\n")
    whole = (Path(keeping.folder) / f"{execution_id}.stdout").read_text()
    assert whole == "head\n" + ("x" * 1_000_000 + "\n") * 12 + "tail\n"
    assert process.memory_info().rss - before < 60_000_000


async def test_input_fails_at_once(kernel: KernelConnection) -> None:
    """`input()` says that nobody answers, instead of hanging."""
    ended, outputs = await run(kernel, "input('name?')")
    assert ended.status == "error"
    assert "nobody to answer" in outputs[0]["evalue"]


async def test_a_cell_runs_at_most_once(kernel: KernelConnection) -> None:
    """The same execution sent again, and one of an older owner, are refused by the kernel itself."""
    execution_id = str(uuid.uuid4())
    await run(kernel, "n = globals().get('n', 0) + 1", execution_id=execution_id, generation=5)
    again, _ = await run(kernel, "n = globals().get('n', 0) + 1", execution_id=execution_id, generation=5)
    assert (again.status, again.cause) == ("aborted", "already ran")
    stale, _ = await run(kernel, "n = 100", generation=4)
    assert (stale.status, stale.cause) == ("aborted", "stale generation")
    _, outputs = await run(kernel, "n", generation=5)
    assert outputs[0]["data"]["text/plain"] == "1"


async def test_a_users_failing_cell_does_not_take_ours_with_it(kernel: KernelConnection) -> None:
    """What the kernel dropped because another client's cell failed is sent again: it had not run."""
    other = KernelConnection(kernel.manager, kernel.kernel_id)
    other.open()
    try:
        content = {"code": "import time; time.sleep(0.5); 1/0", "silent": False, "store_history": True,
                   "user_expressions": {}, "allow_stdin": False, "stop_on_error": True}  # fmt: skip
        exchange = await other.send("execute_request", content)
        await asyncio.sleep(0.1)
        ended, outputs = await run(kernel, "'ours'")
        assert ended.status == "ok"
        assert outputs[0]["data"]["text/plain"] == "'ours'"
        assert (await exchange.reply)["content"]["status"] == "error"
    finally:
        await other.close()


async def test_a_cell_over_its_time_is_interrupted_then_killed(
    kernel: KernelConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit counts from the cell's start; one that ignores the interrupt costs the kernel."""
    monkeypatch.setattr("cellwright.kernels.execution.OBEY_WITHIN_S", 1.0)
    ended, _ = await run(kernel, "import time; time.sleep(30)", timeout_s=0.5)
    assert ended.status == "timeout"
    ended, _ = await run(kernel, "1")
    assert ended.status == "ok"
    stubborn = "import time\nwhile True:\n    try: time.sleep(30)\n    except KeyboardInterrupt: pass"
    ended, _ = await run(kernel, stubborn, timeout_s=0.5)
    assert ended.status == "timeout"
    assert kernel.died.done()


@pytest.mark.parametrize(
    ("source", "cause"),
    [("import os; os._exit(3)", "exit code 3"), ("import os, signal; os.kill(os.getpid(), 9)", "SIGKILL"),
     ("import ctypes; ctypes.string_at(0)", "SIGSEGV")],
)  # fmt: skip
async def test_death_is_noticed_with_its_cause(kernel: KernelConnection, source: str, cause: str) -> None:
    """What was printed before is kept; the cause is named; nothing starts in its place."""
    began = time.monotonic()
    ended, outputs = await run(kernel, f"print('last words', flush=True)\n{source}")
    assert ended.status == "kernel_died"
    assert cause in (ended.cause or "")
    assert outputs[0]["text"] == "last words\n"
    assert time.monotonic() - began < 10
    await asyncio.sleep(1)
    assert not await kernel.manager.is_alive()


async def test_another_server_takes_a_kernel_back(kernels: SessionKernels, keeping: Keeping, tmp_path: Path) -> None:
    """Adopted under its id, with variables; a cell that runs on is finished from its spool."""
    kernel = await kernels.start("s", None, tmp_path)
    await run(kernel, "kept = 1")
    execution_id = str(uuid.uuid4())
    source = "import time\nfor i in range(8): print(i, flush=True); time.sleep(0.1)\nkept"
    sending = asyncio.create_task(anext(aiter(Execution(kernel, execution_id, source).run())))
    await asyncio.sleep(0.3)
    sending.cancel()
    await kernels.close(leave=True)

    second = SessionKernels(manager(), keeping, "cellwright")
    adopted = await second.adopt("s", kernel.kernel_id)
    assert adopted is not None
    area = OutputArea()
    async for event in reattach(adopted, execution_id, Path(keeping.folder)):
        if isinstance(event, Finished):
            assert event.status == "ok"
        else:
            area.apply(event)
    assert area.outputs[0]["text"] == "".join(f"{i}\n" for i in range(8))
    assert area.outputs[1]["data"]["text/plain"] == "1"
    _, outputs = await run(adopted, "kept + 1")
    assert outputs[0]["data"]["text/plain"] == "2"
    never = [event async for event in reattach(adopted, str(uuid.uuid4()), Path(keeping.folder))]
    assert never[-1].status == "outcome_unknown"
    await second.close()
    assert Registry(Path(keeping.folder)).living() == []


async def test_by_kernelspec_alone(tmp_path: Path) -> None:
    """Without a server that keeps kernels, the kernelspec starts an ordinary kernel for any manager."""
    CellwrightProvisioner.keeping = None
    mapping = manager()
    ordinary = SessionKernels(mapping, None, "cellwright")
    kernel = await ordinary.start("s", None, tmp_path)
    ended, outputs = await run(kernel, "1 + 1")
    assert outputs[0]["data"]["text/plain"] == "2"
    assert ended.variables == []
    await ordinary.close()


async def test_other_kernelspecs_work_too(kernels: SessionKernels, tmp_path: Path) -> None:
    """Plain ipykernel runs cells; that it does not tell its variables is None, not an error."""
    kernel = await kernels.start("p", "python3", tmp_path)
    ended, outputs = await run(kernel, "1 + 1")
    assert outputs[0]["data"]["text/plain"] == "2"
    assert ended.variables is None
    with pytest.raises(KernelNotStarted, match="nosuch"):
        await kernels.start("q", "nosuch", tmp_path)


async def test_variables_ride_on_the_reply(kernel: KernelConnection) -> None:
    """Each reply names the variables; a closer look asks the kernel, and says when it is busy."""
    ended, _ = await run(kernel, "import pandas as pd\ndf = pd.DataFrame({'a': [1, 2]})\nn = 3\n_hidden = 1")
    assert ended.variables is not None
    assert {v["name"]: v["type"] for v in ended.variables} == {"df": "pandas.DataFrame", "n": "int"}
    look = "__import__('cellwright.kernels.inside.inspect', fromlist=['x']).describe('df')"
    assert (await kernel.evaluate(look))["rows"] == [[1], [2]]
    busy = asyncio.create_task(run(kernel, "import time; time.sleep(1.5)"))
    await asyncio.sleep(0.3)
    with pytest.raises(KernelUnreachable):
        await kernel.evaluate(look, timeout_s=0.3)
    await busy


STRANGE = [
    "globals()['\\ud800'] = 1",
    "print('x', chr(0xd800)); print('second line')",
    "ip = get_ipython(); ip.kernel.session.send(ip.kernel.iopub_socket, 'status', {}, parent=ip.parent_header)",
    "ip = get_ipython(); ip.kernel.session.send(ip.kernel.iopub_socket, 'stream', {}, parent=ip.parent_header)",
    "ip = get_ipython(); ip.kernel.session.send(ip.kernel.iopub_socket, 'error', {'traceback': 5}, "
    "parent=ip.parent_header)",
    "get_ipython().execution_count = 2**40",
    "d = 1\nfor i in range(300): d = {'a': d}\ndisplay({'application/json': d}, raw=True)",
]


@pytest.mark.parametrize("source", STRANGE)
async def test_whatever_a_cell_sends(kernel: KernelConnection, source: str) -> None:
    """A message that is none, half a surrogate pair, JSON without end: the cell ends, and the next one is as ever."""
    ended, outputs = await run(kernel, source)
    assert ended.status == "ok"
    json.dumps(outputs).encode()
    if "second" in source:
        assert "second line" in str(outputs)
    ended, outputs = await run(kernel, "print('as ever')")
    assert (ended.status, outputs[0]["text"]) == ("ok", "as ever\n")


async def test_a_million_lines(kernel: KernelConnection, keeping: Keeping) -> None:
    """All of them are in the text file, head and tail in the outputs, and the count of what was left out is right."""
    execution_id = str(uuid.uuid4())
    ended, outputs = await run(kernel, "for i in range(1_000_000): print(i)", execution_id=execution_id)
    assert ended.status == "ok"
    whole = (Path(keeping.folder) / f"{execution_id}.stdout").read_text()
    assert whole == "".join(f"{i}\n" for i in range(1_000_000))
    shown = "".join(output["text"] for output in outputs)
    assert shown.startswith("0\n1\n2\n")
    assert shown.endswith("999998\n999999\n")
    assert len(shown) < 2 * INLINE_BYTES


async def test_a_gigabyte_is_held_nowhere(kernels: SessionKernels, keeping: Keeping, tmp_path: Path) -> None:
    """Neither the kernel nor the reader grows by what is printed, and the reader stays awake throughout."""
    kernel = await kernels.start("s", None, tmp_path)
    source = (
        "import resource\nbefore = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\nline = 'x' * 999_999 + '\\n'"
    )
    await run(kernel, source)
    process = psutil.Process()
    before, awake = process.memory_info().rss, 0

    async def stay_awake() -> None:
        nonlocal awake
        while True:
            await asyncio.sleep(0.05)
            awake += 1

    watching, began = asyncio.create_task(stay_awake()), time.monotonic()
    ended, _ = await run(kernel, "for _ in range(1_000): print(line, end='')")
    watching.cancel()
    assert ended.status == "ok"
    assert awake >= (time.monotonic() - began) / 0.05 / 10  # A tenth of the ticks that an idle reader has.
    assert process.memory_info().rss - before < 100 << 20
    _, outputs = await run(kernel, "resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before")
    assert int(outputs[0]["data"]["text/plain"]) < 100 << 10


async def test_a_reader_that_stalls(kernel: KernelConnection) -> None:
    """Twenty thousand flushed prints, read only six seconds later, are all there, once and in order."""
    execution = Execution(kernel, str(uuid.uuid4()), "for i in range(20_000): print(i % 10, end='', flush=True)")
    area = OutputArea()
    stalled = False
    async for event in execution.run():
        if isinstance(event, Finished):
            assert event.status == "ok"
            break
        if not stalled:
            stalled = True
            time.sleep(6)
        area.apply(event)
    assert "".join(output["text"] for output in area.outputs) == "0123456789" * 2_000


HARD = {
    "an array of ten gigabytes": "import numpy as np; it = np.zeros(10_000_000_000, dtype='u1')",
    "a repr that hangs": "class A:\n    def __repr__(self): import time; time.sleep(60)\nit = A()",
    "a repr that raises": "class A:\n    def __repr__(self): raise ValueError\nit = A()",
    "a repr that prints": "class A:\n    def __repr__(self): print('seen'); return 'a'\nit = A()",
    "attributes that raise": "class A:\n    def __getattr__(self, name): raise RuntimeError(name)\nit = A()",
    "a class that lies": "class A:\n    __class__ = property(lambda self: 1 / 0)\nit = A()",
    "a length that hangs": "class A(list):\n    def __len__(self): import time; time.sleep(60)\nit = A()",
    "a list of itself": "it = []; it.append(it)",
    "ten million members": "it = list(range(10_000_000))",
    "a wide table": "import pandas as pd, numpy as np; it = pd.DataFrame(np.zeros((3, 20_000)))",
    "a number of a million digits": "it = 10 ** 1_000_000",
}


@pytest.mark.parametrize("what", HARD)
async def test_looking_at_variables_costs_little(kernel: KernelConnection, what: str) -> None:
    """Whatever a variable is, it is told by name and type, no code of its own is called, and nothing takes long."""
    ended, outputs = await run(kernel, HARD[what])
    assert ended.status == "ok"
    assert "seen" not in str(outputs)
    assert ended.variables is not None
    assert "it" in {variable["name"] for variable in ended.variables}
    again, _ = await run(kernel, "1")
    assert again.status == "ok"
    _, told = await run(
        kernel,
        "import time\nfrom cellwright.kernels.inside import inspect\nbegan = time.perf_counter()\n"
        "inspect.overview(get_ipython())\nprint(time.perf_counter() - began)",
    )
    assert float(told[0]["text"]) < 1  # Milliseconds; the bound is for what hangs.


async def test_widgets_and_progress(kernel: KernelConnection) -> None:
    """Carriage returns, comm messages, Plotly, Vega and LaTeX come out as a notebook holds them."""
    source = r"""
import sys, time
from IPython.display import Latex, display
from comm import create_comm
comm = create_comm(target_name="jupyter.widget", data={"state": {}}); comm.send({"a": 1}); comm.close()
for i in range(3): sys.stdout.write(f"\r{i * 50} %"); sys.stdout.flush()
display(Latex(r"$\frac{1}{2}$"))
display({"application/vnd.vega.v5+json": {"marks": []}, "text/plain": "vega"}, raw=True)
import plotly.graph_objects as go
display(go.Figure(go.Scatter(y=[1, 2])))
"""
    ended, outputs = await run(kernel, source)
    assert ended.status == "ok", outputs
    assert outputs[0]["text"].split("\r")[-1] == "100 %"
    kinds = [kind for output in outputs[1:] for kind in output["data"]]
    for kind in ("text/latex", "application/vnd.vega.v5+json", "application/vnd.plotly.v1+json"):
        assert kind in kinds


async def test_an_interrupt_that_comes_to_nothing(kernel: KernelConnection) -> None:
    """A callback may swallow the first one; it is sent once more."""
    execution = Execution(kernel, str(uuid.uuid4()), SWALLOWS)
    ended: object = None
    asked = False
    async for event in execution.run():
        if not asked:
            asked = True
            await execution.interrupt()
        ended = event
    assert isinstance(ended, Finished)
    assert ended.status == "interrupted"


SWALLOWS = """
import time
print("here", flush=True)
try: time.sleep(60)
except KeyboardInterrupt: time.sleep(60)
"""
