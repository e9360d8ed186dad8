"""The Cellwright kernel: ipykernel that spools, bounds, tells its variables, and refuses a cell it already ran."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import json
import os
import random
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import zmq
from cellwright.kernels.inside import confine, copies, inspect, surroundings
from cellwright.kernels.inside.bounds import BoundedStream
from cellwright.kernels.inside.forking import say
from cellwright.kernels.inside.keeping import Keeping, watch
from cellwright.kernels.inside.spool import Spool
from ipykernel.ipkernel import IPythonKernel
from ipykernel.kernelapp import IPKernelApp
from ipykernel.zmqshell import ZMQInteractiveShell
from IPython.core.formatters import JSONFormatter
from tornado.ioloop import IOLoop
from traitlets import ObjectName, Type, Unicode

NO_INPUT = (
    "input() has nobody to answer it here: the agent works without a keyboard. Put the value into a variable instead."
)


class CellwrightShell(ZMQInteractiveShell):
    """IPython without its second copy of everything that is printed or shown."""

    @contextlib.contextmanager
    def _tee(self, channel: str) -> Iterator[None]:
        yield

    def _showtraceback(self, etype: Any, evalue: Any, stb: list[str]) -> None:
        keeping = CellwrightKernel.keeping
        hit = None if keeping is None else confine.limit_hit(evalue, keeping.limits)
        super()._showtraceback(etype, evalue, stb if hit is None else [*stb, "", hit])


class TableFormatter(JSONFormatter):
    """Tells a shown table's columns, types and first rows beside its HTML."""

    format_type = Unicode("application/vnd.cellwright.table+json")
    print_method = ObjectName("_cellwright_table_")


class CellwrightKernel(IPythonKernel):
    """Runs a cell of ours (`metadata.cellwright`) at most once, and only for the newest owner of the session."""

    shell_class = Type(CellwrightShell)
    keeping: Keeping | None = None
    spool: Spool | None = None

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._generation = 0
        self._ran: set[str] = set()
        self._reply: dict[str, Any] = {}
        allowed = None if self.keeping is None else self.keeping.allowed_imports
        self._gate = confine.ImportGate.installed(self.shell.user_ns)
        if self._gate is None and allowed is not None:
            self._gate = confine.ImportGate(self.shell.user_ns, allowed)
        formatter = TableFormatter(parent=self.shell.display_formatter)
        for module in ("pandas", "pandas.core.frame"):
            formatter.for_type_by_name(module, "DataFrame", inspect.table)
        self.shell.display_formatter.formatters[formatter.format_type] = formatter
        self.shell.display_formatter.active_types = list(self.shell.display_formatter.formatters)
        self.shell_handlers["cellwright_copy_request"] = self.copy_request
        self.shell.events.register("pre_execute", self._begin)

    def _begin(self) -> None:
        """Before the first cell, and not before: a spare kernel gets its environment when it is given away."""
        self.shell.events.unregister("pre_execute", self._begin)
        surroundings.begin()
        if not hasattr(self.shell, "cellwright_context"):
            self.shell.cellwright_context, self.shell.cellwright_of_the_kernel = {}, set(contextvars.copy_context())

    async def execute_request(self, stream: Any, ident: Any, parent: dict[str, Any]) -> None:
        ours = parent.get("metadata", {}).get("cellwright")
        execution_id = parent["header"]["msg_id"]
        if ours is None:
            await super().execute_request(stream, ident, parent)
            return
        refusal = self._refusal(execution_id, ours.get("generation", 0))
        if refusal is not None:
            content = {"status": "aborted", "reason": refusal, "execution_count": self.execution_count}
            self.session.send(stream, "execute_reply", content, parent, ident=ident)
            return
        self._ran.add(execution_id)
        self._gate_imports(ours.get("allowed_imports"))
        BoundedStream.running = execution_id
        if self.spool is not None:
            self.spool.begin(execution_id)
        try:
            await super().execute_request(stream, ident, parent)
        finally:
            BoundedStream.running = ""
            if self.spool is not None:
                spool, reply = self.spool, self._reply
                self.iopub_thread.schedule(lambda: spool.end(reply))

    async def copy_request(self, stream: Any, ident: Any, parent: dict[str, Any]) -> None:
        """Makes a sleeping copy of this process, between two cells; the reply says how that went."""
        loop = asyncio.get_running_loop()
        told: asyncio.Future[dict[str, Any]] = loop.create_future()
        # NumPy's ways to print and to take errors are there: a context's, and not the process's.
        of_the_kernel = getattr(self.shell, "cellwright_of_the_kernel", None)
        if of_the_kernel is not None:
            held = contextvars.copy_context().items()
            self.shell.cellwright_context = {var: value for var, value in held if var not in of_the_kernel}
        path = str(parent["content"]["path"])

        def make() -> None:
            try:
                told.set_result(copies.copy(self.parent.machinery, path))
            except Exception as error:
                told.set_result({"refused": repr(error)[:500]})

        # From the loop itself: a kernel that the copy makes leaves it from there.
        loop.call_soon(make)
        self.session.send(stream, "cellwright_copy_reply", await told, parent, ident=ident)

    def _gate_imports(self, for_this_cell: list[str] | None) -> None:
        if self._gate is None and for_this_cell is not None:
            self._gate = confine.ImportGate(self.shell.user_ns, None)
        if self._gate is not None:
            self._gate.for_this_cell = None if for_this_cell is None else tuple(for_this_cell)

    def remember(self, former: CellwrightKernel) -> None:
        """What it ran in its former life, and for whom, it refuses in this one as well."""
        self._generation, self._ran = former._generation, former._ran

    def _refusal(self, execution_id: str, generation: int) -> str | None:
        if generation < self._generation:
            return "stale generation"
        self._generation = generation
        return "already ran" if execution_id in self._ran else None

    def finish_metadata(self, parent: Any, metadata: Any, reply_content: Any) -> Any:
        metadata = super().finish_metadata(parent, metadata, reply_content)
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, BoundedStream):
                stream.flush()
                left = stream.finish()
                if left is not None:
                    content = {"name": stream.name, "text": left}
                    self.session.send(self.iopub_socket, "stream", content, parent=parent, ident=stream.topic)
        # IPython keeps every shown bundle for `%notebook`: a notebook's worth of pictures, a second time.
        self.shell.history_manager.outputs.clear()
        with contextlib.suppress(Exception):
            metadata["cellwright"] = {"variables": inspect.overview(self.shell)}
        self._reply = {"content": reply_content, "metadata": {"cellwright": metadata.get("cellwright")}}
        return metadata

    def raw_input(self, prompt: str = "") -> str:
        if not self._allow_stdin:
            raise RuntimeError(NO_INPUT)
        return str(super().raw_input(prompt))


class CellwrightKernelApp(IPKernelApp):
    """ipykernel's application with our kernel and streams."""

    kernel_class = Type(CellwrightKernel, klass="ipykernel.kernelbase.Kernel").tag(config=True)
    outstream_class = Unicode("cellwright.kernels.inside.bounds.BoundedStream").tag(config=True)
    machinery: copies.Machinery
    before: dict[int, str]
    resumed = False
    known_as: str | None = None
    """Files of this name are this kernel's, too: those of the one whose place it took."""

    def init_sockets(self) -> None:
        super().init_sockets()
        pack = self.session.pack

        def pack_anyway(content: Any) -> bytes:
            try:
                packed: bytes = pack(content)
                return packed
            except UnicodeEncodeError:  # Half a surrogate pair, in a name or in what was printed.
                return json.dumps(content, ensure_ascii=False, default=str).encode("utf-8", "replace")

        self.session.pack = pack_anyway

    def init_iopub(self, context: Any) -> None:
        # A reader that is slow for a moment misses nothing: by default, what is over 1,000 messages is dropped. What
        # a cell may show is bounded elsewhere, and so is this.
        context.setsockopt(zmq.SNDHWM, 0)
        super().init_iopub(context)
        keeping = CellwrightKernel.keeping = BoundedStream.keeping = Keeping.from_environment()
        if keeping is None:
            return
        spool = CellwrightKernel.spool = Spool(keeping.folder)
        thread = self.iopub_thread
        send = thread._really_send

        def keep_and_send(message: Any, *args: Any, **kwargs: Any) -> None:
            if thread._is_master_process():
                spool.published(message)
            send(message, *args, **kwargs)

        thread._really_send = keep_and_send
        schedule = thread.schedule

        def schedule_or_do(function: Any) -> None:
            # A flush runs in this thread and sends from it. Queued again, the message would leave after the flush
            # has returned, and `print(…, flush=True); os._exit(1)` would lose it.
            if threading.current_thread() is thread.thread:
                function()
            else:
                schedule(function)

        thread.schedule = schedule_or_do
        watch(keeping, self.leave)

    def leave(self) -> None:
        """Nobody came back for this kernel: nothing of it may stay."""
        assert CellwrightKernel.keeping is not None
        own = os.path.basename(self.abs_connection_file).removeprefix("kernel-").removesuffix(".json")
        folder = CellwrightKernel.keeping.folder
        for files in {own, self.known_as or own}:
            for name in os.listdir(folder):
                if files in name or name.startswith(f"{files[:8]}-"):
                    with contextlib.suppress(OSError):
                        os.unlink(os.path.join(folder, name))
        if CellwrightKernel.keeping.apart:
            with contextlib.suppress(OSError), open(os.path.join(folder, "left"), "w"):
                pass
        os._exit(0)

    def parse_command_line(self, argv: list[str] | None = None) -> None:
        """Without the parser for what every server asks: making one takes a third of a forked kernel's start."""
        if argv is not None and len(argv) == 2 and argv[0] == "-f":
            self.connection_file = argv[1]
        else:
            super().parse_command_line(argv)

    def init_gui_pylab(self) -> None:
        if not self.resumed:
            super().init_gui_pylab()

    def init_extensions(self) -> None:
        if not self.resumed:
            super().init_extensions()

    def configure_tornado_logger(self) -> None:
        if not self.resumed:
            super().configure_tornado_logger()

    def init_code(self) -> None:
        """Runs the user's start-up files, once in the life of a namespace."""
        if not self.resumed:
            super().init_code()


def prepare(argv: list[str] | None = None, *, forked: bool = False) -> CellwrightKernelApp:
    """A kernel that has bound its sockets and waits to be run; confined, if a server keeps it.

    One that was `forked` watches over no parent: what the environment said of one was another's.
    """
    before = copies.descriptors() if sys.platform == "linux" else {}
    keeping = Keeping.from_environment()
    if keeping is not None:
        confine.drop_capabilities()
        confine.apply(keeping.limits)
    app: CellwrightKernelApp = CellwrightKernelApp.instance()
    app.before = before
    if forked:
        app.parent_handle = 0
    app.initialize(argv)
    return app


def run(app: CellwrightKernelApp, ready: Callable[[], None] = lambda: None) -> None:
    """Runs a kernel until it is told to end. In a kernel that a sleeping copy makes, goes on as that one."""
    while True:

        def started(app: CellwrightKernelApp = app, ready: Callable[[], None] = ready) -> None:
            if sys.platform == "linux":
                _ = app.iopub_thread._event_pipe  # Made on first use by each thread: ours is to count as ours.
                app.machinery = copies.Machinery(app, app.before)
            ready()

        IOLoop.current().add_callback(started)
        try:
            app.start()
            return
        except copies.Resumed as resumed:
            try:
                app, ready = _resume(app, resumed)
            except BaseException as error:
                say(resumed.server, {"error": repr(error)[:500]})
                os._exit(1)


def _resume(old: CellwrightKernelApp, resumed: copies.Resumed) -> tuple[CellwrightKernelApp, Callable[[], None]]:
    """A new application around the old shell: the namespace, what was shown and counted, the user's hooks."""
    shell = old.shell
    for variable, value in getattr(shell, "cellwright_context", {}).items():
        variable.set(value)  # What handles requests begins in this context.
    before = copies.descriptors()
    CellwrightKernelApp.clear_instance()
    CellwrightKernel.clear_instance()
    asyncio.set_event_loop(asyncio.new_event_loop())
    CellwrightKernelApp.resumed = True
    app = prepare(resumed.spec["argv"], forked=True)
    app.before = before
    app.known_as = resumed.spec["known_as"]
    shell.kernel = shell.parent = app.kernel
    app.kernel.remember(old.kernel)
    shell.configurables = [each for each in shell.configurables if each is not old]
    copies.forget_history(shell)
    for stream, successor in zip(old.machinery.streams, (sys.stdout, sys.stderr), strict=True):
        if isinstance(stream, BoundedStream) and isinstance(successor, BoundedStream):
            stream.successor = successor

    def put_random_back() -> None:
        shell.events.unregister("pre_execute", put_random_back)
        random.setstate(resumed.random_state)

    # As late as can be: the fork reseeds it, and starting a kernel draws from it.
    shell.events.register("pre_execute", put_random_back)

    def ready() -> None:
        say(resumed.server, {"ready": True})
        resumed.server.close()

    return app, ready


def main() -> None:
    """Runs the kernel until it is told to end."""
    run(prepare())
