"""The chat in the sidebar: a turn as it happens, and what the user can do about it."""

from __future__ import annotations

import re

from playwright.sync_api import Route, expect

from tests.browser.lab import NOTEBOOK, SLOW_MS, Lab, LabServer
from tests.doubles.hub import Hub
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
        expect(lab.panel.locator(".jp-chat-message", has_text="How did sales develop?")).to_be_visible()
        expect(lab.turn(1).locator(".jp-Cellwright-outputs img")).to_be_visible()
        expect(lab.turn(1).locator(".jp-Cellwright-outputs table")).to_be_visible()
        expect(answer.locator(".jp-chat-rendered-message strong")).to_have_text("tripled")
        expect(answer.locator(".jp-chat-rendered-message mjx-container")).to_be_attached()
        expect(answer.locator(".jp-Cellwright-card")).to_have_count(2)
        expect(answer.get_by_text("1 cell")).to_be_visible()
        lab.reload(session)
    assert lab.server.call("GET", f"/sessions/{session}")["turn_count"] == 1


def test_stop_and_try_again(lab: Lab, model: OpenAIServer) -> None:
    """Stop ends the cell and the turn; what ran stays, and the question can be asked again."""
    model.script([cell("before = 1\nimport time; time.sleep(60)", "Wait"), Say("Done.")])
    lab.open()
    session = lab.new_chat()
    lab.ask("Take your time.")
    expect(lab.turn(1).locator(".jp-Cellwright-cell[data-status='running']")).to_be_visible(timeout=SLOW_MS)
    lab.turn(1).get_by_role("button", name="Stop").click()
    stopped = lab.ended(1, "stopped")
    expect(stopped.get_by_text("What ran before stays")).to_be_visible()
    assert "before" in lab.server.call("GET", f"/sessions/{session}")["variables"]
    model.script([Say("At once.")])
    stopped.get_by_role("button", name="Try again").click()
    expect(lab.ended(2).get_by_text("At once.")).to_be_visible()


def test_an_error_with_its_traceback(lab: Lab, model: OpenAIServer) -> None:
    """A failing cell says what failed in one line; the traceback is folded away."""
    model.script([cell("1 / 0", "Divide"), Say("One cannot divide by zero.")])
    lab.open()
    lab.new_chat()
    lab.ask("Divide.")
    lab.ended(1)
    failure = lab.turn(1).locator(".jp-Cellwright-failure")
    expect(failure).to_contain_text("ZeroDivisionError: division by zero")
    expect(failure.get_by_text("Cell In")).to_have_count(0)
    failure.get_by_text("Traceback").click()
    expect(failure.locator(".jp-RenderedText")).to_contain_text("1 / 0")


def test_a_model_that_fails(lab: Lab, model: OpenAIServer) -> None:
    """The turn says why it failed, and what to do; the chat goes on."""
    model.script([Say(status=401)])
    lab.open()
    lab.new_chat()
    lab.ask("Hello?")
    failed = lab.ended(1, "failed")
    expect(failed.get_by_role("alert")).to_contain_text("key")
    model.script([Say("Here I am.")])
    failed.get_by_role("button", name="Try again").click()
    expect(lab.ended(2).get_by_text("Here I am.")).to_be_visible()


def test_approval(lab: Lab, model: OpenAIServer) -> None:
    """A cell that waits shows its whole code; it survives a reload; what the user wrote in its place is what runs."""
    model.script([cell("import os\nos.remove('nothing.txt')", "Remove a file"), Say("Done.")])
    lab.open()
    session = lab.new_chat()
    lab.server.call("PATCH", f"/sessions/{session}", json={"preferences": {"approval": "ask-risky"}})
    lab.ask("Clean up.")
    box = lab.turn(1).get_by_role("group", name="A cell waits for your word")
    expect(box).to_be_visible(timeout=SLOW_MS)
    lab.reload(session)
    expect(box).to_contain_text("os.remove('nothing.txt')")
    box.get_by_role("button", name="Edit").click()
    box.get_by_role("textbox").fill("'nothing was removed'")
    box.get_by_role("button", name="Run what I wrote").click()
    lab.ended(1)
    expect(lab.turn(1).get_by_text("'nothing was removed'").first).to_be_visible()
    expect(lab.turn(1).get_by_text("Approved by")).to_be_visible()


def test_a_queue_and_what_is_typed(lab: Lab, model: OpenAIServer) -> None:
    """A question that comes while one is answered waits, and can be taken back; a draft outlives a reload."""
    model.script([cell("import time; time.sleep(3)", "Wait"), Say("First."), Say("Second.")])
    lab.open()
    session = lab.new_chat()
    lab.ask("One?")
    expect(lab.turn(1).locator(".jp-Cellwright-cell")).to_be_visible(timeout=SLOW_MS)
    lab.ask("Two?")
    lab.ask("Three?")
    expect(lab.turn(3).get_by_text("Waiting for the turn before")).to_be_visible()
    lab.turn(3).get_by_role("button", name="Take it back").click()
    lab.ended(3, "stopped")
    expect(lab.ended(2).get_by_text("Second.")).to_be_visible(timeout=SLOW_MS)
    lab.input.fill("not sent yet")
    lab.reload(session)
    expect(lab.input).to_have_value("not sent yet")


def test_sessions(lab: Lab, model: OpenAIServer) -> None:
    """Found, renamed, deleted; what was answered elsewhere is marked until it is seen."""
    lab.open()
    one, two = lab.new_chat(), lab.new_chat()
    lab.server.call("PATCH", f"/sessions/{one}", json={"title": "Wandering birds"})
    model.script([Say("An albatross wanders.")])
    lab.server.until_ended(lab.server.call("POST", f"/sessions/{one}/query", json={"query": "Which bird?"})["turn_id"])
    lab.panel.get_by_role("button", name="All sessions").click()
    row = lab.panel.locator(f"li[data-session='{one}']")
    expect(row.locator(".jp-Cellwright-badge")).to_contain_text("1")
    lab.panel.get_by_role("searchbox").fill("albatross")
    expect(lab.panel.locator("li[data-session]")).to_have_count(1)
    row.get_by_role("button", name="Rename Wandering birds").click()
    row.get_by_role("textbox").fill("Birds")
    row.get_by_role("textbox").press("Enter")
    expect(row.locator(".jp-Cellwright-session-title")).to_have_text(re.compile("^Birds"))
    lab.panel.get_by_role("searchbox").fill("")
    lab.choose(one)
    expect(lab.ended(1).get_by_text("An albatross wanders.")).to_be_visible()
    lab.panel.get_by_role("button", name="All sessions").click()
    expect(row.locator(".jp-Cellwright-badge")).to_have_count(0)
    lab.panel.locator(f"li[data-session='{two}']").get_by_role("button", name="Delete").click()
    lab.page.locator(".jp-Dialog .jp-mod-warn").click()
    expect(lab.panel.locator(f"li[data-session='{two}']")).to_have_count(0)
    assert lab.server.http.get(f"/sessions/{two}").status_code == 404


def test_variables_and_artifacts(lab: Lab, model: OpenAIServer) -> None:
    """Variables with shape and rows, those of the last turn marked; artifacts with table, lineage and download."""
    source = "import pandas as pd\nframe = pd.DataFrame({'a': [1, 2, 3]})\nframe.to_csv('out.csv', index=False)\nn = 5"
    model.script([cell(source, "Write a table"), Say("Written."), cell("n = 6", "Raise n"), Say("Raised.")])
    lab.open()
    lab.new_chat()
    for n, question in enumerate(("Write.", "Raise."), 1):
        lab.ask(question)
        lab.ended(n)
    lab.tab("Variables")
    rows = lab.panel.locator(".jp-Cellwright-variables tr[data-name]")
    expect(rows.filter(has_text="frame")).to_contain_text("3 × 1")
    expect(lab.panel.locator("tr[data-changed]")).to_have_count(1)
    expect(lab.panel.locator("tr[data-changed]")).to_contain_text("n")
    rows.filter(has_text="frame").get_by_role("button").click()
    expect(lab.panel.locator(".jp-Cellwright-detail")).to_contain_text("int64")
    lab.tab("Artifacts")
    card = lab.panel.locator(".jp-Cellwright-gallery .jp-Cellwright-card[data-name='out.csv']")
    expect(card).to_contain_text("3 × 1")
    card.get_by_role("button", name="Where it comes from").click()
    expect(card).to_contain_text("Asked: Write.")
    expect(card).to_contain_text("Write a table")
    with lab.page.expect_download() as download:
        card.get_by_role("button", name="Download", exact=True).click()
    assert download.value.path().read_text() == "a\n1\n2\n3\n"


def test_completion_of_names_and_commands(lab: Lab, model: OpenAIServer) -> None:
    """`@` offers variables with type and shape, and files; `/` offers commands, and does them."""
    model.script([cell("measurements = [1.5] * 4", "Measure"), Say("Measured."), Say("It is a list.")])
    lab.open()
    lab.new_chat()
    lab.ask("Measure.")
    lab.ended(1)
    lab.input.press_sequentially("What is @meas")
    offered = lab.page.get_by_role("option").filter(has_text="@measurements")
    expect(offered).to_contain_text("list")
    lab.input.press("Enter")
    expect(lab.input).to_have_value("What is @measurements ")
    lab.input.press_sequentially("?")
    lab.input.press("Enter")
    lab.ended(2)
    assert "`measurements`" in model.requests[-1]["messages"][-1]["content"]
    lab.input.press_sequentially("/var")
    expect(lab.page.get_by_role("option").filter(has_text="/variables")).to_be_visible()
    lab.input.press("Enter")
    lab.input.press("Enter")
    expect(lab.panel.locator(".jp-Cellwright-variables")).to_be_visible()


def test_files_that_are_dropped_and_pasted(lab: Lab, model: OpenAIServer) -> None:
    """A file is brought into the session, goes along with the question, and opens by its name."""
    model.script([Say("Seen.")])
    lab.open()
    session = lab.new_chat()
    expect(lab.input).to_be_visible()
    lab.drop("dropped.csv", "a,b\n1,2\n")
    lab.drop("pasted.csv", "c\n3\n", how="paste")
    lab.ask("What is in these?")
    lab.ended(1)
    assert {"dropped", "pasted"} <= set(lab.server.call("GET", f"/sessions/{session}")["variables"])


def test_questions_about_a_cell(lab: Lab, jupyter: LabServer, model: OpenAIServer) -> None:
    """A cell's menu puts it, its error or its output into a question that the user sends."""
    model.script([cell("1 / 0", "Divide"), Say("It fails.")])
    lab.open()
    lab.new_chat()
    lab.ask("Divide.")
    lab.ended(1)
    lab.open_notebook()
    lab.choose_from_menu(lab.cells.nth(1).locator(".jp-InputArea"), "Fix This Cell")
    expect(lab.input).to_have_value(re.compile(r"1 / 0[\s\S]*ZeroDivisionError: division by zero"))


def test_a_server_that_was_restarted(lab: Lab, jupyter: LabServer, model: OpenAIServer) -> None:
    """The page says that the connection is lost, finds it again, and shows what happened meanwhile."""
    model.script([Say("One."), Say("Two.")])
    lab.open()
    session = lab.new_chat()
    lab.ask("First?")
    lab.ended(1)
    jupyter.kill()
    expect(lab.panel.get_by_text("connection lost")).to_be_visible(timeout=SLOW_MS)
    jupyter.start()
    lab.server.until_ended(lab.server.call("POST", f"/sessions/{session}/query", json={"query": "Second?"})["turn_id"])
    expect(lab.ended(2).get_by_text("Two.")).to_be_visible(timeout=SLOW_MS)


ACTIVE = """
from IPython.display import HTML
HTML('''<div id="drawn">not drawn</div><script>
  const found = [];
  try { parent.document.title = 'taken'; found.push('page') } catch { }
  try { localStorage.length; found.push('storage') } catch { }
  setTimeout(() => location.href = 'http://127.0.0.1:PORT/taken?by=going', 4000);
  fetch('http://127.0.0.1:PORT/taken?by=fetching').then(() => found.push('server')).catch(() => 0).then(() => {
    document.getElementById('drawn').textContent = 'drawn, and reached: ' + (found.join() || 'nothing');
  });
</script>''')
"""


def test_scripts_in_outputs(lab: Lab, model: OpenAIServer) -> None:
    """HTML with scripts is alive, in a frame that reaches neither page, nor storage, nor server."""
    with Hub() as stranger:
        port = stranger.url.rpartition(":")[2]
        model.script([cell(ACTIVE.replace("PORT", port), "Draw"), Say("Drawn.")])
        lab.open()
        lab.new_chat()
        lab.ask("Draw.")
        lab.ended(1)
        frame = lab.turn(1).frame_locator(".jp-Cellwright-page iframe").frame_locator("iframe")
        expect(frame.locator("#drawn")).to_have_text("drawn, and reached: nothing")
        lab.page.wait_for_timeout(5_000)
        assert stranger.asked == []
    assert lab.page.title() != "taken"


def test_an_answer_that_is_lost(lab: Lab, model: OpenAIServer) -> None:
    """Where the server took a question but its answer was lost, the question is not there twice, nor as refused."""
    model.script([Say("Here.")])
    lab.open()
    session = lab.new_chat()

    def lose(route: Route) -> None:
        route.fetch()
        route.abort()

    lab.page.route("**/query?*", lose)
    lab.ask("Are you there?")
    lab.ended(1)
    lab.page.unroute_all()
    expect(lab.panel.get_by_text("This was not sent")).to_have_count(0)
    expect(lab.panel.locator(".jp-chat-message", has_text="Are you there?")).to_have_count(1)
    assert lab.server.call("GET", f"/sessions/{session}")["turn_count"] == 1


def test_a_question_that_is_refused(lab: Lab, model: OpenAIServer) -> None:
    """It stays where it was asked, with why; it can be sent again, and is asked once."""
    model.script([Say("Here.")])
    lab.open()
    session = lab.new_chat()
    lab.page.route("**/query?*", lambda route: route.abort())
    lab.ask("Are you there?")
    expect(lab.panel.get_by_role("alert")).to_contain_text("The server does not answer")
    lab.page.unroute_all()
    lab.panel.get_by_role("button", name="Send again").click()
    lab.ended(1)
    expect(lab.panel.get_by_role("alert")).to_have_count(0)
    assert lab.server.call("GET", f"/sessions/{session}")["turn_count"] == 1


def test_code_goes_into_a_notebook(lab: Lab, model: OpenAIServer) -> None:
    """A step's code is put below the active cell of the notebook in front; without one, it is said what to do."""
    model.script([cell("wanted = 1", "Want"), Say("Wanted.")])
    lab.open()
    lab.new_chat()
    lab.ask("Want.")
    lab.ended(1)
    insert = lab.turn(1).get_by_role("button", name="Insert the code into the active notebook")
    lab.turn(1).locator(".jp-Cellwright-cell").hover()
    insert.click()
    expect(lab.page.get_by_text("Open a notebook first")).to_be_visible()
    lab.command("notebook:create-new", kernelName="python3")
    expect(lab.cells).to_have_count(1)
    lab.page.evaluate(f"{NOTEBOOK}.sessionContext.ready.then(() => 0)")
    lab.turn(1).locator(".jp-Cellwright-cell").hover()
    insert.click()
    expect(lab.cells).to_have_count(2)
    expect(lab.cells.nth(1)).to_contain_text("wanted = 1")


def test_settings(lab: Lab, model: OpenAIServer) -> None:
    """JupyterLab's settings editor has ours, and they hold at once."""
    model.script([Say("Sent.")])
    lab.open()
    lab.new_chat()
    lab.command("settingeditor:open")
    editor = lab.page.locator(".jp-SettingsPanel")
    lab.page.locator(".jp-PluginList-entry", has_text="Cellwright").click()
    stored = 1_500  # The editor gathers changes before it stores them.
    editor.get_by_label("Send with Shift+Enter").check()
    lab.page.wait_for_timeout(stored)
    try:
        lab.input.fill("One line")
        lab.input.press("Enter")
        lab.input.press_sequentially("and another")
        expect(lab.input).to_have_value("One line\nand another")
        lab.input.press("Shift+Enter")
        lab.ended(1)
        editor.locator("select[id$='approval']").select_option(label="ask")
        lab.page.wait_for_timeout(stored)
        model.script([cell("1", "Count"), Say("Counted.")])
        lab.input.fill("Count.")
        lab.input.press("Shift+Enter")
        expect(lab.turn(2).get_by_text("May this cell run?")).to_be_visible(timeout=SLOW_MS)
        lab.turn(2).get_by_role("button", name="Reject").click()
        lab.ended(2)
    finally:
        lab.page.evaluate("window.jupyterapp.serviceManager.settings.save('cellwright:panel', '{}')")


def test_the_file_browsers_menu(lab: Lab, jupyter: LabServer, model: OpenAIServer) -> None:
    """A file's menu puts it into the question, and brings it into the session."""
    (jupyter.root / "menu.csv").write_text("a\n1\n")
    model.script([Say("Seen.")])
    lab.open()
    session = lab.new_chat()
    lab.command("filebrowser:refresh")
    item = lab.page.locator(".jp-DirListing-item", has_text="menu.csv")
    lab.choose_from_menu(item, "Ask Cellwright About This File")
    expect(lab.panel.locator(".jp-chat-attachment", has_text="menu.csv")).to_be_visible()
    lab.ask("What is in it?")
    lab.ended(1)
    assert "menu" in lab.server.call("GET", f"/sessions/{session}")["variables"]


def test_nothing_goes_outside(lab: Lab, model: OpenAIServer) -> None:
    """The page asks nobody but its own server."""
    hosts: set[str] = set()
    lab.page.on("request", lambda request: hosts.add(request.url.split("/")[2]) if "://" in request.url else None)
    model.script([cell(FIGURE, "Plot"), Say("$x^2$ and `code`.")])
    lab.open()
    lab.new_chat()
    lab.ask("Plot.")
    lab.ended(1)
    assert {host for host in hosts if host} == {f"127.0.0.1:{lab.server.port}"}
