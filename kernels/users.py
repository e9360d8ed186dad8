"""Kernels of a root server under another user's name: what that user may not read or write, they cannot either."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from cellwright.kernels import outer as outer_process
from cellwright.kernels.errors import KernelNotStarted
from cellwright.kernels.isolation import kernel_environment
from cellwright.kernels.outer import InnerProcess, private_folder

MODULE = "cellwright.kernels.inside.kernel"
TRIES_S = 60.0
OF_ANOTHER = ("IPYTHONDIR", "MPLCONFIGDIR", "PWD", "SHELL", "TMPDIR", "TEMP", "TMP")


class KernelUserRefused(KernelNotStarted):
    """Kernels cannot run as the user that was asked for; the text says why."""


def look_up(name: str) -> pwd.struct_passwd:
    """The user's entry; raises KernelUserRefused, also when this process may not become another user."""
    if os.geteuid() != 0:
        raise KernelUserRefused("CELLWRIGHT_KERNEL_USER needs a server that runs as root.")
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        raise KernelUserRefused(f"CELLWRIGHT_KERNEL_USER: there is no user {name!r} here.") from None
    if shutil.which("setpriv") is None or shutil.which("setsid") is None:
        raise KernelUserRefused("CELLWRIGHT_KERNEL_USER needs `setpriv` and `setsid` (util-linux) on the path.")
    if found.pw_uid == 0:
        raise KernelUserRefused("CELLWRIGHT_KERNEL_USER must not be root: that is what it is there to avoid.")
    return found


def check(name: str) -> None:
    """Tries whether that user's kernels would find this very interpreter and its packages; raises KernelUserRefused.

    Out of reach, the system may start another Python instead, and say nothing.
    """
    user = look_up(name)
    code = f"import sys, {MODULE}; print(sys.prefix)"
    try:
        tried = subprocess.run(
            [sys.executable, "-s", "-c", code],
            env=environment_of(user, kernel_environment(os.environ, {}), "/"),
            cwd="/",
            user=user.pw_uid,
            group=user.pw_gid,
            extra_groups=[],
            capture_output=True,
            text=True,
            timeout=TRIES_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise KernelUserRefused(f"The user {name} cannot run {sys.executable}: {error}.") from None
    if tried.returncode != 0:
        *_, why = tried.stderr.strip().splitlines() or ["it says nothing"]
        raise KernelUserRefused(f"The user {name} cannot run kernels with {sys.executable}: {why}")
    if tried.stdout.strip() != sys.prefix:
        raise KernelUserRefused(f"The user {name} would run another Python: that of {tried.stdout.strip()}.")


def environment_of(user: pwd.struct_passwd, environment: Mapping[str, str], home: str) -> dict[str, str]:
    """The environment with the user's own name and home (`home` where theirs does not exist)."""
    kept = {
        name: value
        for name, value in environment.items()
        if name not in OF_ANOTHER and not name.startswith(("XDG_", "JUPYTER_"))
    }
    theirs = user.pw_dir if os.path.isdir(user.pw_dir) else home
    return {**kept, "HOME": theirs, "USER": user.pw_name, "LOGNAME": user.pw_name}


def give(folder: Path, name: str) -> None:
    """Makes a session's folder that is still root's the user's; never what a link leads to."""
    user = look_up(name)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(handle).st_uid == 0:
            os.fchown(handle, user.pw_uid, user.pw_gid)
    finally:
        os.close(handle)


def start(
    command: list[str], environment: Mapping[str, str], cwd: str, folder: Path, files: str, name: str
) -> InnerProcess:
    """Starts a kernel as that user, who gets its private folder. Nothing in that may be another's than ours."""
    user = look_up(name)
    private = private_folder(folder, files)
    for path in (*private.iterdir(), private):
        os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)
    become = ["setsid", "setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    said = 'cd "$1" && shift && echo $$ && exec "$@" >/dev/null 2>&1'
    inside = [*become, "/bin/sh", "-c", said, "sh", cwd, *command]
    theirs = environment_of(user, environment, str(private))
    outer = outer_process.start(inside, theirs, folder, files, stdout=subprocess.PIPE)
    assert outer.stdout is not None
    assert outer.stderr is not None
    told = outer.stdout.readline()
    if not told:
        raise KernelNotStarted(f"No kernel as {name}: {outer.stderr.read().decode(errors='replace').strip()}")
    outer.stdout.close()
    outer.stderr.close()
    return InnerProcess(outer, int(told))
