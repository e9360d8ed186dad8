"""Kernels of a root server that belong to another user."""

from __future__ import annotations

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
from cellwright.server.store.folder import DataFolder

from tests.integration.conftest import manager, run

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
