"""What may be otherwise than it was when cells run again."""

from __future__ import annotations

import pytest
from cellwright.notebooks.doubt import Doubt


@pytest.mark.parametrize(
    ("cells", "in_doubt"),
    [
        (["x = 1", "y = x"], set()),
        (["import time\nx = time.time()", "y = x", "z = 1"], {"x", "y"}),
        (["import random\nx = random.random()", "x = 2"], set()),
        (["import random\nrandom.seed(1)", "x = random.random()"], set()),
        (["import random\nx = random.random()", "x = x + 1"], {"x"}),
    ],
)
def test_doubt_goes_along(cells: list[str], in_doubt: set[str]) -> None:
    """From what is drawn anew to what is made from it, until it is made of what is certain."""
    doubt = Doubt()
    for source in cells:
        doubt.ran(source)
    assert set(doubt.names) == in_doubt


def test_what_is_left_out() -> None:
    """What a cell would have made is in doubt, what it would have drawn from is not known any more; the store knows."""
    doubt = Doubt(chance_known=True)
    doubt.left_out("import random\na = b = random.random()", "it was not to run")
    assert doubt.names == {"a": "it was not to run", "b": "it was not to run", "random": "it was not to run"}
    assert doubt.ran("c = random.random()") == "chance"
    doubt.put_back({"a", "random"})
    assert set(doubt.names) == {"b", "c"}
    assert doubt.ran("d = random.random()") == ""


def test_what_comes_out_otherwise() -> None:
    """All that the cell touches, with the reason; names that it makes from them follow."""
    doubt = Doubt()
    assert doubt.ran("x = load()\nx.sort()", wrong="it showed something else") == ""
    doubt.ran("y = x[0]")
    assert doubt.names["x"] == "it showed something else"
    assert "made from x" in doubt.names["y"]
