"""What a cell makes otherwise each time it runs."""

from __future__ import annotations

import pytest
from cellwright.notebooks.chance import drawn


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import time\nbegan = time.time()\nn = 1", {"began": "the clock"}),
        (
            "from datetime import datetime as d\nnow = d.now()\ntext = f'{now}'",
            {"now": "the clock", "text": "the clock"},
        ),
        ("import uuid\nname = str(uuid.uuid4())", {"name": "chance"}),
        ("import secrets\nkey = secrets.token_hex()", {"key": "chance"}),
        ("rng = np.random.default_rng()\nx = rng.normal()\ny = 1", {"rng": "chance", "x": "chance"}),
        ("rng = np.random.default_rng(1)\nx = rng.normal()", {}),
        ("rng = np.random.default_rng(seed=None)", {"rng": "chance"}),
        ("import random\nr = random.Random()\ns = random.Random(3)", {"r": "chance"}),
        ("x = np.random.rand(3)\nx = 1", {}),
        ("x = np.random.rand(3)\nx += 1", {"x": "shared"}),
        ("np.random.seed(0)\nx = np.random.rand(3)", {}),
        ("import random as r\nxs = [1, 2]\nr.shuffle(xs)", {"xs": "shared"}),
        ("few = frame.sample(5)\nsame = frame.sample(5, random_state=0)", {"few": "shared"}),
        ("a, b = train_test_split(x, random_state=0)\nc, d = train_test_split(x)", {"c": "shared", "d": "shared"}),
        ("def draw():\n    return np.random.rand()\nv = draw()", {"v": "shared"}),
        ("class Walk:\n    def step(self):\n        return np.random.rand()", {}),
        ("%time x = np.random.rand()", {"x": "shared"}),
        ("state = np.random.get_state()", {}),
        ("not Python at all", {}),
    ],
)
def test_what_is_drawn(source: str, found: dict[str, str]) -> None:
    """The names that come from the clock or from chance, and those that are made from them in the same cell."""
    assert drawn(source).names == found


def test_what_seeds() -> None:
    """A cell that seeds what is shared says so: what later ones draw is known."""
    assert drawn("import numpy as np\nnp.random.seed(1)").seeds
    assert not drawn("rng = np.random.default_rng(1)").seeds
