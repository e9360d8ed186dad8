"""Kernels of a root server that belong to another user."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from cellwright.kernels import namespace, users
from cellwright.kernels.inside.keeping import Keeping
from cellwright.kernels.provisioner import CellwrightProvisioner
from cellwright.kernels.sessions import SessionKernels
from cellwright.server.errors import Invalid
from cellwright.server.settings import Settings
from cellwright.server.store.folder import DataFolder, runtime_folder

from tests.integration.conftest import manager, run
from tests.jupyter import JupyterServer

NAME = "nobody"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may start processes of other users")


def _refusal() -> str | None:
    try:
        users.check(NAME)
    except users.KernelUserRefused as error:
        return str(error)
    return None


@pytest.fixture
def folder() -> Iterator[DataFolder]:
    """A data folder where another user may pass."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o711)
        opened = DataFolder(Path(name) / "data")
        opened.open({})
        yield opened
        opened.close()


@pytest.fixture
async def kernels(folder: DataFolder) -> AsyncIterator[SessionKernels]:
    refused = _refusal()
    if refused is not None:
        pytest.skip(refused)
    keeping = Keeping(str(folder.runtime), str(folder.share()), 5.0, 20_000, 1 << 24, user=NAME)
    opened = SessionKernels(manager(), keeping, "cellwright", 1)
    yield opened
    await opened.close()
    CellwrightProvisioner.keeping = None
    assert os.listdir(folder.runtime) == ["owner.lock"]


@as_root
async def test_a_kernel_of_another_user(kernels: SessionKernels, folder: DataFolder) -> None:
    """It computes, writes into its workspace, and reads nothing of root's; its variables can be saved."""
    work = folder.path.parent / "work"
    work.mkdir()
    users.give(work, NAME)
    secret = folder.path / "links.secret"
    folder.secret("links")
    kernel = await kernels.start("s", None, work)
    source = f"""
import os, pandas as pd, matplotlib.pyplot as plt
assert os.getuid() == {users.look_up(NAME).pw_uid} and os.getgroups() in ([], [os.getgid()])
open("made.txt", "w").write("x"); plt.plot([1, 2]); plt.show(); x = 41
for path in ({str(secret)!r}, "/proc/{os.getpid()}/environ", "/etc/shadow"):
    try: open(path).read()
    except PermissionError: continue
    raise AssertionError(path)
print("ok" * 20_000)
"""
    ended, outputs = await run(kernel, source)
    assert ended.status == "ok", outputs
    assert (work / "made.txt").stat().st_uid == users.look_up(NAME).pw_uid
    saved = folder.path / "saved"
    manifest = await namespace.save(kernel, saved, [], None)
    again = await kernels.start("other", None, work)
    told = await namespace.restore(again, saved, manifest)
    assert "x" in told["restored"]
    ended, outputs = await run(again, "assert x == 41")
    assert ended.status == "ok", outputs


@as_root
async def test_nobody_comes_back(folder: DataFolder) -> None:
    """When the grace period ends, the kernel goes with its private folder and all other files."""
    if (refused := _refusal()) is not None:
        pytest.skip(refused)
    work = folder.path.parent / "work"
    work.mkdir()
    users.give(work, NAME)
    folder.share()
    lock = folder.path.parent / "its.lock"
    handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
    fcntl.flock(handle, fcntl.LOCK_EX)
    kernels = SessionKernels(
        manager(), Keeping(str(folder.runtime), str(lock), 1.0, 20_000, 1 << 24, user=NAME), "cellwright"
    )
    try:
        kernel = await kernels.start("s", None, work)
        ended, _ = await run(kernel, "import os; os._exit(3)")
        assert (ended.status, ended.cause) == ("kernel_died", "exit code 3")
        await kernels.end("s")
        kernel = await kernels.start("t", None, work)
        ended, _ = await run(kernel, "while True: pass", timeout_s=0.5)
        assert ended.status == "timeout"
        os.close(handle)
        async with asyncio.timeout(20):
            while os.listdir(folder.runtime) != ["owner.lock"]:
                await asyncio.sleep(0.1)
    finally:
        await kernels.close()
        CellwrightProvisioner.keeping = None


@as_root
def test_a_whole_server(folder: DataFolder) -> None:
    """A session's cells, files, artifacts, notebook and variables, with kernels that belong to another user."""
    if (refused := _refusal()) is not None:
        pytest.skip(refused)
    place = folder.path.parent
    (place / "root").mkdir(mode=0o755)
    more = {"CELLWRIGHT_KERNEL_USER": NAME, "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    server = JupyterServer(place, place / "root", place / "server", **more).start()
    try:
        session = server.call("POST", "/sessions", json={})
        path = f"/sessions/{session['id']}"
        server.call("POST", f"{path}/upload", files={"file": ("a.csv", b"n\n20\n22\n")})
        source = "import os, pandas as pd\nkept = int(pd.read_csv('a.csv').n.sum())\nopen('b.txt', 'w').write('b')"
        ran = server.call("POST", f"{path}/execute", json={"source": source + "\nos.getuid()"})
        assert ran["outputs"][0]["data"]["text/plain"] == str(users.look_up(NAME).pw_uid), ran
        made = server.call("GET", f"/artifacts/{ran['artifacts'][0]}")
        assert made["name"] == "b.txt"
        server.call("POST", f"{path}/kernel/hibernate")
        ran = server.call("POST", f"{path}/execute", json={"source": "kept"})
        assert ran["outputs"][0]["data"]["text/plain"] == "42"
        written = json.loads((place / "root" / session["notebook_path"]).read_text())
        assert [cell["source"] for cell in written["cells"]][-1] == "kept"
        server.call("DELETE", path)
    finally:
        server.stop()
    assert [name for name in os.listdir(runtime_folder(place / "server")) if name != "owner.lock"] == []


@as_root
@pytest.mark.skipif(_refusal() is None, reason="the interpreter is in reach")
def test_refused_by_name() -> None:
    """Where the interpreter is out of the user's reach, the server says so instead of starting another Python."""
    with pytest.raises(users.KernelUserRefused, match=NAME):
        users.check(NAME)


@as_root
def test_nonsense_is_refused() -> None:
    """No such user, and root itself."""
    with pytest.raises(users.KernelUserRefused, match="no user 'nosuchuser'"):
        users.check("nosuchuser")
    with pytest.raises(users.KernelUserRefused, match="must not be root"):
        users.check("root")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may")
def test_only_root_may() -> None:
    """A server of an ordinary user cannot start another user's kernels, and says so."""
    with pytest.raises(users.KernelUserRefused, match="as root"):
        users.check(NAME)


def test_not_together_with_a_sandbox() -> None:
    """One way of keeping kernels apart at a time."""
    with pytest.raises(Invalid, match="KERNEL_USER"):
        Settings.load({"kernel_user": NAME, "isolation": "files"}, {})


def test_links_are_not_followed(tmp_path: Path) -> None:
    """What a kernel wrote is read only if it is a plain file: links may lead to what it may not read itself."""
    from cellwright.kernels.inside.files import plain_file, replace_file

    (tmp_path / "secret").write_text("s")
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "secret").write_text("s")
    (tmp_path / "folder").symlink_to(tmp_path / "there")
    for name in ("link", "pipe", "folder/secret", "../secret", "", "there"):
        with pytest.raises(OSError):
            plain_file(tmp_path, name)
    with plain_file(tmp_path, "there/secret") as file:
        assert file.read() == b"s"
    replace_file(tmp_path, "link", b"new")
    assert (tmp_path / "link").read_bytes() == b"new"
    assert (tmp_path / "secret").read_text() == "s"
    with pytest.raises(OSError):
        replace_file(tmp_path, "folder/secret", b"new")
