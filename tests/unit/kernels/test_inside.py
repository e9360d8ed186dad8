"""What runs in the kernel's process, tried without one."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from cellwright.kernels.inside import files, inspect, spool
from cellwright.kernels.inside.bounds import Tail
from cellwright.kernels.isolation import kernel_environment


class Hostile:
    def __repr__(self) -> str:
        raise RuntimeError("no")

    def __getattr__(self, name: str) -> object:
        raise RuntimeError(name)

    def __len__(self) -> int:
        time.sleep(60)
        return 1


def overview(**variables: object) -> dict[str, dict]:
    shell = SimpleNamespace(user_ns=variables, user_ns_hidden={})
    return {told["name"]: told for told in inspect.overview(shell)}


def test_variables_are_told_without_their_own_code() -> None:
    """Hostile objects, huge and lazy ones are told by type alone; nothing of theirs is called."""
    huge = np.lib.stride_tricks.as_strided(np.zeros(1), (10**10,), (0,))
    began = time.perf_counter()
    told = overview(h=Hostile(), huge=huge, n=3, s="x" * 10**7, mixed=[Hostile(), 1, "a"], big=10**5000)
    assert time.perf_counter() - began < 5
    assert told["h"]["type"].endswith("Hostile")
    assert told["huge"]["shape"] == [10**10]
    assert told["n"]["preview"] == "3"
    assert told["mixed"]["preview"].startswith("[")
    assert "bits" in told["big"]["preview"]
    assert all(len(v["preview"]) <= 120 for v in told.values())


def test_tables_are_told_by_column() -> None:
    """A DataFrame gives columns, types, missing values and first rows, as plain JSON."""
    frame = pd.DataFrame({"a": [1, None, 3], "t": pd.to_datetime(["2024-01-01"] * 3), "o": [Hostile(), None, "s"]})
    told = inspect.table(frame)
    assert json.loads(json.dumps(told)) == told
    assert [c["nulls"] for c in told["columns"]] == [1, 0, 1]
    assert told["preview"][0] == [1.0, "2024-01-01 00:00:00", "test_inside.Hostile"] or told["preview"][0][2].endswith(
        "Hostile"
    )


def test_rows_that_have_names_are_told_by_them() -> None:
    """Groups, dates and statistics are what their tables are about."""
    frame = pd.DataFrame({"r": ["N", "N", "S"], "p": [1, 2, 1], "v": [1, 2, 3]})
    told = inspect.table(frame.groupby(["r", "p"]).sum())
    assert (told["index"], told["labels"]) == (["r", "p"], [["N", 1], ["N", 2], ["S", 1]])
    assert inspect.table(frame.describe())["labels"][:2] == [["count"], ["mean"]]
    assert "index" not in inspect.table(frame)


def test_a_tail_keeps_the_last() -> None:
    """Whatever the pieces, the tail is the end of all that was added."""
    tail, whole = Tail(100), ""
    for n in range(300):
        piece = f"{n}," * (n % 7)
        whole += piece
        tail.add(piece or "")
    assert tail.text == whole[-100:]


def test_a_half_written_record_waits(tmp_path: Path) -> None:
    """A reader of a spool gets whole records only, and goes on where it stopped."""
    writer = spool.Spool(str(tmp_path))
    writer.begin("e1")
    writer.published([b"t", spool.DELIMITER, b"s", b"h", b'{"msg_id": "e1"}', b"m", b"c1"])
    writer.published([b"t", spool.DELIMITER, b"s", b"h", b'{"msg_id": "other"}', b"m", b"c2"])
    writer.end({"content": {"status": "ok"}})
    path = tmp_path / "e1.spool"
    whole = path.read_bytes()
    records = list(spool.read(path))
    assert records[0][1][-1] == b"c1"
    assert records[1][1][0] == spool.REPLY
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        part = list(spool.read(path))
        assert part == records[: len(part)]
        assert len(part) == sum(1 for place, _ in records if place <= cut)


@pytest.mark.parametrize(
    "name",
    ["CELLWRIGHT_API_KEY", "CELLWRIGHT_DATABASE_URL", "JUPYTER_TOKEN", "OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY",
     "REDIS_URL", "PGPASSWORD", "GITHUB_TOKEN", "OMP_SECRET"],
)  # fmt: skip
def test_secrets_do_not_reach_the_kernel(name: str) -> None:
    """Only what is on the list is passed on."""
    passed = kernel_environment({name: "s3cret", "PATH": "/bin", "LC_ALL": "C", "FOO": "1"}, {"MORE": "2"})
    assert passed == {"PATH": "/bin", "LC_ALL": "C", "MORE": "2"}


@pytest.mark.parametrize("name", ["/etc/hostname", "../x", "a/../../x", "", ".", "a//../b"])
def test_no_path_leads_out_of_a_folder(tmp_path: Path, name: str) -> None:
    """Neither read, written nor removed is what a name means elsewhere."""
    (tmp_path / "x").write_text("outside")
    folder = tmp_path / "inside"
    folder.mkdir()
    absolute = str(tmp_path / "x") if name.startswith("/") else name
    for use in (
        lambda: files.plain_file(folder, absolute),
        lambda: files.replace_file(folder, absolute, b"changed", make=True),
        lambda: files.remove_file(folder, absolute),
    ):
        with pytest.raises(OSError):
            use()
    assert (tmp_path / "x").read_text() == "outside"


def test_a_file_that_is_replaced_is_readable_by_no_more(tmp_path: Path) -> None:
    """A private file stays private."""
    (tmp_path / "secret").write_text("a")
    (tmp_path / "secret").chmod(0o600)
    files.replace_file(tmp_path, "secret", b"b")
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600
