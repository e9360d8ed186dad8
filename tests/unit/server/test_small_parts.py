"""Parts that need no store and no kernel."""

from __future__ import annotations

from pathlib import Path

import pytest
from cellwright.extension.handlers.artifacts import _range
from cellwright.extension.multipart import file_name
from cellwright.server.agent.profiles import profile, profiles
from cellwright.server.agent.tools import TOOLS
from cellwright.server.artifacts import disposition, slug
from cellwright.server.errors import Invalid
from cellwright.server.live import heard, joined
from cellwright.server.logs import masked
from cellwright.server.settings import Settings
from cellwright.server.workspace import Workspace


def test_settings_remember_their_source_and_mask_secrets(tmp_path: Path) -> None:
    """Traits overrule the environment; a wrong value is named; secrets are never shown."""
    environment = {"CELLWRIGHT_MODEL": "env", "CELLWRIGHT_API_KEY": "k", "CELLWRIGHT_DATA_DIR": str(tmp_path)}
    settings = Settings.load({"model": "trait"}, environment)
    rows = {name: (value, source) for name, value, source in settings.described()}
    assert rows["CELLWRIGHT_MODEL"] == ("trait", "jupyter_config.py")
    assert rows["CELLWRIGHT_API_KEY"] == ("••••••", "CELLWRIGHT_API_KEY")
    assert rows["CELLWRIGHT_LEASE_S"][1] == "default"
    with pytest.raises(Invalid, match="CELLWRIGHT_LEASE_S"):
        Settings.load({}, {"CELLWRIGHT_LEASE_S": "-1"})
    with pytest.raises(Invalid, match="NOSUCH"):
        Settings.load({"nosuch": 1}, {})


def test_logs_hold_no_secrets() -> None:
    """Masked by name, and as the password of a URL."""
    event = masked(None, "info", {"api_key": "k", "url": "redis://:pw@h/0", "event": "e"})
    assert event == {"api_key": "••••••", "url": "redis://:••••••@h/0", "event": "e"}


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ('form-data; name="f"; filename="a b.csv"', "a b.csv"),
        ('form-data; name="f"; filename="a\\"b.csv"', 'a"b.csv'),
        ("form-data; name=f; filename*=UTF-8''%C3%A4.csv", "ä.csv"),
        ("form-data; name=f; filename=plain.csv", "plain.csv"),
        ('form-data; name="f"', None),
    ],
)
def test_file_names_of_uploads(header: str, name: str | None) -> None:
    """As browsers, curl and httpx write them."""
    assert file_name(header) == name


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "..\\x", "/abs", "a/b", ".hidden", "", "x" * 400 + ".csv", "\x00"]
)
def test_uploads_stay_in_the_workspace(tmp_path: Path, name: str) -> None:
    """Whatever a client calls its file, it lands in the folder itself, visibly."""
    place = Workspace(tmp_path, "n.ipynb").place(name)
    assert place.parent == tmp_path
    assert not place.name.startswith(".")
    assert 0 < len(place.name.encode()) <= 200


def test_names_cannot_break_headers() -> None:
    """Quotes, line breaks and other scripts are encoded."""
    header = disposition('a"\r\nX: 1 ä.csv', inline=False)
    assert "\r" not in header
    assert "\n" not in header
    assert header.count('"') == 2
    assert "%C3%A4" in header
    assert slug("What's in\tthe file?") == "what-s-in-the-file"


@pytest.mark.parametrize(
    ("header", "expected"),
    [("bytes=0-3", (0, 4)), ("bytes=5-", (5, 5)), ("bytes=-4", (6, 4)), ("bytes=8-99", (8, 2)), ("bytes=10-", (10, 0)),
     ("bytes=-", None), ("items=0-1", None), ("bytes=0-1,4-5", None), ("bytes=-99", (0, 10))],
)  # fmt: skip
def test_ranges(header: str, expected: tuple[int, int] | None) -> None:
    """RFC 9110 ranges of ten bytes; what is not understood is not a range."""
    assert _range(header, 10) == expected


def test_profiles_and_tools_fit_together() -> None:
    """Every tool that a profile names exists, and every tool is named by some profile."""
    used = {name for p in profiles().values() for name in p.tools}
    assert used == set(TOOLS)
    assert all(tool.schema.parameters["type"] == "object" for tool in TOOLS.values())
    with pytest.raises(Invalid, match="data_analysis"):
        profile("nosuch")


def test_live_deltas_join_to_what_they_say() -> None:
    """A reader who comes late gets one snapshot that equals all deltas, also after one was a snapshot."""
    deltas = [
        {"type": "message.delta", "turn_id": "t", "message_id": "m", "channel": "answer", "offset": 0, "text": "ab"},
        {"type": "message.snapshot", "turn_id": "t", "message_id": "m", "text": {"answer": "abc"}},
        {"type": "message.delta", "turn_id": "t", "message_id": "m", "channel": "answer", "offset": 3, "text": "d"},
    ]
    assert joined(deltas)["text"] == {"answer": "abcd"}
    output = {"output_type": "stream", "name": "stdout", "text": "x"}
    cell = {"turn_id": "t", "cell_id": "c", "execution_id": "e"}
    deltas = [{"type": "cell.output", **cell, "output": output, "display_id": None} for _ in range(3)]
    assert joined(deltas)["outputs"][0]["text"] == "xxx"
    assert heard({"clear": {"wait": True}}).wait is True
