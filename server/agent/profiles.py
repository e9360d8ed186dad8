"""Profiles: what kind of agent a session talks to. Others come in by entry points, group `cellwright.profiles`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points

from cellwright.server.errors import Invalid

WORKING = (
    *("run_cell", "edit_cell", "write_markdown", "list_files", "read_file", "inspect_variable"),
    *("checkpoint", "rewind", "recover_variables", "remember", "finish"),
)


@dataclass(frozen=True)
class Profile:
    """One kind of agent: `prompt` names a template in `prompts/`, or is a path of its own."""

    name: str
    description: str
    prompt: str
    tools: tuple[str, ...]
    max_iterations: int | None = None
    allowed_imports: tuple[str, ...] | None = None
    """Modules that this agent's cells may import, `stdlib` for all of Python's own; None for any."""


BUILT_IN = (
    Profile(
        "data_analysis", "Answers questions about data files, with tables and figures.", "data_analysis.j2", WORKING
    ),
    Profile("coding", "Writes and tries out Python code.", "coding.j2", WORKING),
    Profile(
        "chat",
        "Talks, looks at files and variables, and runs nothing.",
        "chat.j2",
        ("list_files", "read_file", "inspect_variable", "remember"),
    ),
)
DEFAULT = "data_analysis"


@cache
def profiles() -> dict[str, Profile]:
    """All profiles by name: the built-in ones, and those that installed packages offer."""
    found = {profile.name: profile for profile in BUILT_IN}
    for entry in entry_points(group="cellwright.profiles"):
        profile = entry.load()
        found[profile.name] = profile
    return found


def profile(name: str) -> Profile:
    """The profile of that name; raises Invalid, naming those that there are."""
    try:
        return profiles()[name]
    except KeyError:
        raise Invalid(f"There is no agent {name!r}. There are: {', '.join(profiles())}.") from None
