"""What a model is told of a cell."""

from __future__ import annotations

from cellwright.notebooks.render import CELL_LIMIT, cell_text, images, output_text


def test_a_model_never_gets_megabytes() -> None:
    """Long output keeps head and tail, and says how much is left out."""
    outputs = [{"output_type": "stream", "name": "stdout", "text": f"head\n{'x' * 5_000_000}\ntail"}] * 20
    told = cell_text("ok", outputs)
    assert len(told) < CELL_LIMIT + 200
    assert "head" in told
    assert "tail" in told
    assert "characters left out" in told


def test_figures_are_named_not_dumped() -> None:
    """Base64 never stands in text; the figure itself is offered apart."""
    shown = {"output_type": "display_data", "data": {"image/png": "QUJD" * 100, "text/plain": "<Figure size 1x1>"}}
    assert output_text(shown) == "[shows a PNG image]"
    assert [image.data for image in images([shown])] == ["QUJD" * 100]


def test_errors_keep_name_message_and_line() -> None:
    """An error is told by the line it arose in, without colours."""
    error = {
        "output_type": "error",
        "ename": "KeyError",
        "evalue": "'a'",
        "traceback": ["\x1b[31m---\x1b[39m", "Cell In[1], line 2\n      1 x = {}\n----> \x1b[32m2\x1b[39m x['a']\n"],
    }
    assert output_text(error) == "  ----> 2 x['a']\nKeyError: 'a'"


def test_html_without_text_is_read() -> None:
    """Markup is taken off, scripts with their content."""
    shown = {"output_type": "display_data", "data": {"text/html": "<b>1 &lt; 2</b><script>evil()</script>"}}
    assert output_text(shown) == "1 < 2"


def test_how_it_ended_is_always_said() -> None:
    """A cell without output, and one whose outcome is unknown, say so."""
    assert cell_text("ok", []) == "The cell ran without output."
    assert "not known" in cell_text("outcome_unknown", [])
