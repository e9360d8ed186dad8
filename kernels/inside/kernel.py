"""The Cellwright kernel: ipykernel that spools, bounds, tells its variables, and refuses a cell it already ran."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

from cellwright.kernels.inside import confine, inspect
from cellwright.kernels.inside.bounds import BoundedStream
from cellwright.kernels.inside.keeping import Keeping, watch
from cellwright.kernels.inside.spool import Spool
from ipykernel.ipkernel import IPythonKernel
from ipykernel.kernelapp import IPKernelApp
from ipykernel.zmqshell import ZMQInteractiveShell
from IPython.core.formatters import JSONFormatter
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
        self._gate = None if allowed is None else confine.ImportGate(self.shell.user_ns, allowed)
        formatter = TableFormatter(parent=self.shell.display_formatter)
        for module in ("pandas", "pandas.core.frame"):
            formatter.for_type_by_name(module, "DataFrame", inspect.table)
        self.shell.display_formatter.formatters[formatter.format_type] = formatter
        self.shell.display_formatter.active_types = list(self.shell.display_formatter.formatters)

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

    def _gate_imports(self, for_this_cell: list[str] | None) -> None:
        if self._gate is None and for_this_cell is not None:
            self._gate = confine.ImportGate(self.shell.user_ns, None)
        if self._gate is not None:
            self._gate.for_this_cell = None if for_this_cell is None else tuple(for_this_cell)

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
        watch(keeping, self._leave)

    def _leave(self) -> None:
        """Nobody came back for this kernel: nothing of it may stay."""
        assert CellwrightKernel.keeping is not None
        kernel_id = os.path.basename(self.abs_connection_file).removeprefix("kernel-").removesuffix(".json")
        folder = CellwrightKernel.keeping.folder
        for name in os.listdir(folder):
            if kernel_id in name or name.startswith(f"{kernel_id[:8]}-"):
                with contextlib.suppress(OSError):
                    os.unlink(os.path.join(folder, name))
        os._exit(0)


def prepare(argv: list[str] | None = None) -> CellwrightKernelApp:
    """A kernel that has bound its sockets and waits to be started; confined, if a server keeps it."""
    keeping = Keeping.from_environment()
    if keeping is not None:
        confine.drop_capabilities()
        confine.apply(keeping.limits)
    app: CellwrightKernelApp = CellwrightKernelApp.instance()
    app.initialize(argv)
    return app


def main() -> None:
    """Runs the kernel until it is told to end."""
    prepare().start()
