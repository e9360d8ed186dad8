"""Kernels in namespaces of their own, by bubblewrap: no file but the workspace and Python, and, if wanted, no network.

What the kernel finds where the server keeps its sockets is a folder for it alone; it talks to the server through that.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Literal

from cellwright.kernels import outer as outer_process
from cellwright.kernels.errors import KernelNotStarted
from cellwright.kernels.outer import InnerProcess, private_folder

Isolation = Literal["none", "files", "network"]
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt")
ETC = (
    *("alternatives", "ca-certificates", "fonts", "group", "host.conf", "hosts", "ld.so.cache", "ld.so.conf"),
    *("ld.so.conf.d", "localtime", "mime.types", "nsswitch.conf", "passwd", "pki", "protocols", "resolv.conf"),
    *("services", "ssl", "timezone"),
)


def start(
    command: list[str],
    environment: Mapping[str, str],
    cwd: str,
    folder: Path,
    files: str,
    lock_file: str,
    isolation: Isolation,
) -> InnerProcess:
    """Starts a kernel inside; raises KernelNotStarted. Its private folder holds its connection file already."""
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        raise KernelNotStarted("CELLWRIGHT_ISOLATION needs bubblewrap, and there is no `bwrap` on the path.")
    told, tell = os.pipe()
    arguments = [bwrap, "--info-fd", str(tell), *_namespaces(isolation), *_files(folder, files, cwd, lock_file)]
    with os.fdopen(told, "rb", 0) as reader:
        inside = [*arguments, "--chdir", cwd, "--", *command]
        outer = outer_process.start(inside, environment, folder, files, keep=[tell])
        os.close(tell)
        try:
            pid = _told_pid(reader)
        except (ValueError, KeyError):
            _, said = outer.communicate()
            raise KernelNotStarted(f"The sandbox did not start: {said.decode(errors='replace').strip()}") from None
    assert outer.stderr is not None
    outer.stderr.close()
    return InnerProcess(outer, pid)


def _told_pid(reader: IO[bytes]) -> int:
    """What bubblewrap says of the process inside; raises ValueError when it ends without a word."""
    said = b""
    while more := reader.read(4096):
        said += more
        if b"}" in said:
            break
    return int(json.loads(said)["child-pid"])


def _namespaces(isolation: Isolation) -> list[str]:
    alone = ["--unshare-user-try", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    # A session and process group of its own: an interrupt reaches the kernel and what it runs, not the sandbox.
    return [*alone, *(["--unshare-net"] if isolation == "network" else []), "--new-session", "--as-pid-1"]


def _files(folder: Path, files: str, cwd: str, lock_file: str) -> list[str]:
    shown: list[str] = []
    for path in SYSTEM:
        shown += ["--ro-bind-try", path, path]
    for name in ETC:
        shown += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    shown += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--tmpfs", os.path.expanduser("~")]  # noqa: S108
    for path in _python():
        shown += ["--ro-bind", path, path]
    shown += ["--bind", cwd, cwd, "--ro-bind", lock_file, lock_file]
    return [*shown, "--bind", str(private_folder(folder, files)), str(folder)]


def _python() -> Iterable[str]:
    """The folders that this interpreter and its packages live in, and our kernels where they are elsewhere."""
    wanted = [sys.prefix, sys.base_prefix, sys.exec_prefix, *sys.path, str(Path(__file__).parent)]
    paths = sorted({os.path.realpath(path) for path in wanted if path and os.path.isdir(path)} | {sys.prefix})
    home = os.path.realpath(os.path.expanduser("~"))
    return [path for path in paths if path not in ("/", home) and path != os.getcwd()]
