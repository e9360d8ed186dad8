"""What may be otherwise than it was when some cells of a notebook run again: by name, with the reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cellwright.notebooks.chance import EMPTY, drawn
from cellwright.notebooks.dependencies import made_from, names
from cellwright.notebooks.reach import Reached


@dataclass
class Doubt:
    """Goes along with the cells, in their order: those that run again, and those that do not."""

    imports: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    """What the notebook's cells import, by the names that they give it."""

    names: dict[str, str] = field(default_factory=dict)
    """Why, by name."""

    chance_known: bool = False
    """Whether the generators of chance that a program shares are as they were when the next cell ran first."""

    def left_out(self, source: str, why: str, reached: Reached | None = None) -> None:
        """A cell that would make what is wanted does not run again."""
        looked = reached.names if reached is not None else names(source)
        self.names.update(dict.fromkeys(looked.touches, why))
        self.chance_known = False

    def ran(
        self, source: str, reached: Reached | None = None, *, whole: bool = True, wrong: str = "", read: str = ""
    ) -> str:
        """A cell ran again, to its end if `whole`; `wrong` says how it came out otherwise.

        `reached` is what it comes to by way of others, `read` a file that it reads and that has changed since it ran
        first. Returns what it drew anew from, chance or the clock, if it did.
        """
        reached = reached or Reached(names(source))
        found = drawn(source, self.imports, reached.code)
        anew = {
            name: "chance" if whence == "shared" else whence
            for name, whence in found.names.items()
            if whence != "shared" or not self.chance_known
        }
        self.chance_known = whole and (self.chance_known or found.seeds)
        looked, made = reached.names, made_from(source, self.names)
        if wrong:
            self.names.update(dict.fromkeys(looked.touches, wrong))
        else:
            # What it made came out the same, and of what is not in doubt: it is not any more.
            for name in set(looked.makes) - set(made):
                self.names.pop(name, None)
        for name, root in made.items():
            self.names.setdefault(name, f"it is made from {root}, and that could not be brought back as it was")
        if read:
            for name in looked.makes:
                self.names.setdefault(name, f"its cell reads {read}, which is another file by now")
        for name, whence in anew.items():
            self.names.setdefault(name, f"it is drawn from {whence}, anew each time that its cell runs")
        return min(anew.values(), default="")

    def put_back(self, known: set[str]) -> None:
        """Names have their values from the store; with them, so have the generators of chance."""
        self.names = {name: why for name, why in self.names.items() if name not in known}
        self.chance_known = bool(known)
