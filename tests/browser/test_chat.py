"""The chat in the sidebar: a turn as it happens, and what the user can do about it."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.browser.lab import Lab
from tests.doubles.openai_server import OpenAIServer, Say, cell

FIGURE = """
import matplotlib.pyplot as plt, pandas as pd
frame = pd.DataFrame({'month': range(1, 7), 'sales': [3, 5, 4, 8, 9, 12]})
frame.plot(x='month', y='sales', title='Sales'); plt.show()
frame
"""


def test_a_turn(lab: Lab, model: OpenAIServer) -> None:
    """Question, thoughts, code, figure, table and answer stand in the chat, and are all there after a reload."""
    model.script(
        [
            cell(FIGURE, "Plot the sales", thinking="A line will show it."),
            Say("Sales **tripled** in half a year: $3 \\to 12$.\n\n```python\nframe.sum()\n```", between_s=0.01),
        ]
    )
    lab.open()
    session = lab.new_chat()
    lab.ask("How did sales develop?")
    answer = lab.ended(1)
    for _ in range(2):
        expect(lab.panel.get_by_text("How did sales develop?")).to_be_visible()
        expect(lab.turn(1).locator(".jp-Cellwright-outputs img")).to_be_visible()
        expect(lab.turn(1).locator(".jp-Cellwright-outputs table")).to_be_visible()
        expect(answer.locator(".jp-chat-rendered-message strong")).to_have_text("tripled")
        expect(answer.locator(".jp-chat-rendered-message mjx-container")).to_be_attached()
        expect(answer.locator(".jp-Cellwright-card")).to_have_count(2)
        expect(answer.get_by_text("1 cell")).to_be_visible()
        lab.reload(session)
    assert lab.server.call("GET", f"/sessions/{session}")["turn_count"] == 1
    lab.page.screenshot(path="/tmp/shot.png")
    print("\n".join(lab.logged))
