"""What a session is beside its variables, and cells change: it comes back with them, and is stored nowhere else."""

from __future__ import annotations

import random
from typing import Any

import pytest
from cellwright.server.kernel_life import workspace_of

from tests.conftest import OWNER, Talk
from tests.integration.going_back import branch, compared, go, recover, settled, value_of

SET = """
import decimal, os, sys, time, warnings
import matplotlib, numpy as np, pandas as pd, sklearn
import matplotlib.pyplot as plt
os.environ["REGION"], os.environ["TZ"] = "north", "Asia/Tokyo"
del os.environ["GIT_PAGER"]
time.tzset()
sys.path.insert(0, "lib")
sys.path.append(os.path.abspath("more"))
sys.setrecursionlimit(4321)
decimal.getcontext().prec = 9
np.set_printoptions(suppress=True)
np.seterr(divide="raise")
pd.set_option("display.precision", 2, "display.float_format", lambda value: f"{value:.1f} {UNIT}")
UNIT = "kg"
matplotlib.rcParams["figure.figsize"] = (3, 2)
%config InlineBackend.figure_format = "svg"
%load_ext autoreload
%autoreload 2
%precision 2
%xmode Minimal
get_ipython().__class__.ast_node_interactivity = "all"
os.environ["PATH"] += ":/more"
sklearn.set_config(transform_output="pandas")
warnings.filterwarnings("ignore", message="I know")
"""
OTHERWISE = """
os.environ.update(REGION="south", MORE="yes", TZ="UTC")
time.tzset()
sys.path[:] = [path for path in sys.path if path != "lib"] + ["other"]
sys.setrecursionlimit(5432)
decimal.getcontext().prec = 3
np.set_printoptions(precision=8, suppress=False)
pd.reset_option("display.precision")
pd.set_option("display.max_rows", 4, "display.float_format", None)
matplotlib.rcParams.update({"figure.figsize": (9, 9), "axes.grid": True})
sklearn.set_config(transform_output="default")
warnings.simplefilter("error")
matplotlib.rcParams["font.sans-serif"].insert(0, "SimHei")
sys.path[-2:] = sys.path[:-3:-1]
"""
SETTINGS = """
{
    "environment": [__import__("os").environ.get(name) for name in ("REGION", "TZ", "GIT_PAGER", "MORE")],
    "programs": __import__("os").environ["PATH"].endswith(":/more"),
    "zone": __import__("time").tzname[0],
    "path": [p.removeprefix(__import__("os").getcwd()) for p in sys.path[:1] + sys.path[-1:]] + ["other" in sys.path],
    "limits": [sys.getrecursionlimit(), __import__("decimal").getcontext().prec],
    "numpy": [np.get_printoptions()["precision"], np.get_printoptions()["suppress"], np.geterr()["divide"]],
    "pandas": [pd.get_option("display.precision"), pd.get_option("display.max_rows")],
    "shown": str(pd.Series([1.0])).split()[1:3],
    "matplotlib": [*matplotlib.rcParams["figure.figsize"], matplotlib.rcParams["axes.grid"]],
    "sklearn": sklearn.get_config()["transform_output"],
    "reloads": get_ipython().magics_manager.registry["AutoreloadMagics"]._reloader.check_all,
    "shows": [get_ipython().ast_node_interactivity, get_ipython().InteractiveTB.mode],
    "precision": get_ipython().display_formatter.format(1 / 3)[0]["text/plain"],
    "warned": [(action, said and said.pattern) for action, said, *_ in warnings.filters[:1]],
}
""".replace("\n", " ")


async def settings(talk: Talk) -> dict[str, Any]:
    kernel = talk.app.kernels.get(talk.session.id)
    assert kernel is not None
    return dict(await kernel.evaluate(f"__import__('json').dumps({SETTINGS})"))


WANTED = {
    "environment": ["north", "Asia/Tokyo", None, None],
    "programs": True,
    "zone": "JST",
    "path": ["lib", "/more", False],
    "limits": [4321, 9],
    "numpy": [2, True, "raise"],
    "pandas": [2, 60],
    "shown": ["1.0", "kg"],
    "matplotlib": [3.0, 2.0, False],
    "sklearn": "pandas",
    "reloads": True,
    "shows": ["all", "Minimal"],
    "precision": "0.33",
    "warned": [["ignore", "I know"]],
}


@pytest.mark.parametrize("kernel", [None, "python3"])
async def test_settings_come_back(talk: Talk, kernel: str | None) -> None:
    """Undo, redo, a death, a branch and sleep: by stored variables, in kernels of ours and of ipykernel's."""
    object.__setattr__(talk.app.settings, "live_copies", 0)
    if kernel is not None:
        talk.app.kernels.default_name = kernel
    await talk.run(SET)
    assert await settings(talk) == WANTED
    await talk.run(OTHERWISE)
    other = await settings(talk)
    await settled(talk)
    told = await go(talk, "undo")
    assert told.variables.means == ["stored"]
    assert not told.variables.missing
    assert await settings(talk) == WANTED
    await go(talk, "redo")
    assert await settings(talk) == other
    await go(talk, "undo")
    child = await branch(talk)
    await child.run("1")
    assert await settings(child) == WANTED
    await talk.run("import os; os._exit(1)")
    await recover(talk)
    assert await settings(talk) == WANTED
    await settled(talk)
    assert await talk.app.life.hibernate(talk.session.id)
    await talk.run("plt.plot([1, 2])\nplt.show()")
    assert await settings(talk) == WANTED
    [*_, drawn] = await talk.app.cells.document(talk.session.id)
    assert "image/svg+xml" in str(drawn.outputs)


LOGS = """
import logging
logging.basicConfig(level="INFO", format="{message}!", style="{")
files = logging.FileHandler("all.log")
logging.getLogger("mine").addHandler(files)
logging.getLogger("noisy.part").setLevel("ERROR")
logging.getLogger("mine").info("one")
import logging.handlers
class Run:
    def __init__(self): self.handler = logging.FileHandler("run.log", encoding="utf-16")
run = Run()
apart = logging.getLogger("apart")
apart.addHandler(run.handler)
apart.propagate = False
logging.getLogger("odd").addHandler(logging.handlers.RotatingFileHandler("odd.log"))
"""


@pytest.mark.parametrize("kernel", [None, "python3"])
async def test_logging_comes_back(talk: Talk, kernel: str | None) -> None:
    """Where loggers write, and from which level on; the file is that of the branch's folder."""
    object.__setattr__(talk.app.settings, "live_copies", 0)
    if kernel is not None:
        talk.app.kernels.default_name = kernel
    await talk.run(LOGS)
    await talk.run("logging.disable()\nlogging.getLogger('mine').handlers.clear()\nlogging.basicConfig(force=True)")
    await settled(talk)
    told = await go(talk, "undo")
    assert [lost.name for lost in told.variables.missing] == ["logging's handlers of odd"]
    child = await branch(talk)
    for each in (talk, child):
        await each.run("logging.getLogger('mine').info('two')\nlogging.getLogger('noisy.part').warning('no')")
        [*_, cell] = await each.app.cells.document(each.session.id)
        assert [output["text"] for output in cell.outputs] == ["two!\n"]
        assert (workspace_of(each.app.root, each.session).folder / "all.log").read_text() == "one\ntwo\n"
        assert await value_of(
            each, "[len(logging.root.handlers), apart.handlers == [run.handler], apart.propagate]"
        ) == ("[1, True, False]")


async def test_settings_are_compared(talk: Talk) -> None:
    """What two points have otherwise beside variables; what stands in the environment is not told."""
    await talk.run(SET)
    await talk.run("os.environ['REGION'] = 'south'\npd.set_option('display.max_rows', 4)\nsys.path.remove('lib')")
    await talk.run("n = 1")
    await settled(talk)
    told = await compared(talk, 1, talk, 2)
    assert [tuple(setting.model_dump().values()) for setting in told.settings or []] == [
        ("the environment's REGION", "a value", "another"),
        ("pandas's display.max_rows", "60", "4"),
        ("search path", "['lib', 'more']", "['more']"),
    ]
    assert (await compared(talk, 2, talk, 3)).settings == []
    plain = Talk(talk.app, await talk.app.sessions.create(OWNER), talk.model)
    await plain.run("n = 1")
    await settled(plain)
    names = {setting.name for setting in (await compared(talk, 3, plain, 1)).settings or []}
    assert {"Python's recursion limit", "filters of warnings", "NumPy's print suppress"} < names


async def test_what_cannot_be_stored_is_named(talk: Talk) -> None:
    """A setting that no pickle takes is lost by name; one that was never set is not made up."""
    object.__setattr__(talk.app.settings, "live_copies", 0)
    await talk.run(
        "import threading, functools, pandas as pd\n"
        "pd.set_option('display.float_format', functools.partial(lambda lock, value: 'x', threading.Lock()))"
    )
    await talk.run("n = 1")
    await settled(talk)
    told = await go(talk, "undo")
    [lost] = told.variables.missing
    assert lost.name == "pandas's display.float_format"
    assert "pickle" in lost.reason
    assert await value_of(talk, "pd.get_option('display.float_format')") == "None"
    await go(talk, "undo")
    assert await value_of(talk, "__import__('pandas').get_option('display.float_format')") == "None"


async def test_modules_are_found_and_read_as_they_were(talk: Talk) -> None:
    """The search path is there before them, what they warn of is no error yet, and the folder is the one of then."""
    object.__setattr__(talk.app.settings, "live_copies", 0)
    await talk.run(
        "import os, sys, warnings\nos.makedirs('lib/sub')\n"
        "open('lib/warny.py', 'w').write('import warnings; warnings.warn(chr(65)); X = 5')\n"
        "sys.path.insert(0, os.path.abspath('lib'))\nimport warny\nos.chdir('lib/sub')\nwarnings.simplefilter('error')"
    )
    await talk.run("class Own(UserWarning): pass\nwarnings.filterwarnings('ignore', category=Own)\nbig = [1]")
    await talk.run("stream = (value for value in big)")
    await talk.run("warny = stream = None")
    await settled(talk)
    told = await go(talk, "undo")
    assert told.variables.means == ["stored", "rerun"]
    assert not told.variables.missing
    state = "(warny.X, sys.path[0].endswith('/lib'), os.getcwd().endswith('/lib/sub'), warnings.filters[0][2] is Own)"
    assert await value_of(talk, state) == "(5, True, True, True)"


async def test_cells_run_again_as_they_ran(talk: Talk) -> None:
    """Under the settings, in the folder and with the chance of then; not of the point that is gone back to."""
    object.__setattr__(talk.app.settings, "live_copies", 0)
    await talk.run("import os, random, numpy as np\nos.environ['UNIT'] = 'kg'\nos.mkdir('sub')\nrandom.seed(1)")
    await talk.run(
        "drawn = (value for value in [random.random(), float((np.array([1.0]) / 0)[0]),\n"
        "                             os.environ['UNIT'], os.getcwd()])"
    )
    await talk.run("first = [*drawn]\ndrawn = (value for value in first)")
    await talk.run("del os.environ['UNIT']\nnp.seterr(all='raise')\nos.chdir('sub')\nlater = random.random()")
    await talk.run("drawn = None")
    await settled(talk)
    before = await value_of(talk, "(first, later, random.getstate())")
    told = await go(talk, "undo")
    assert not told.variables.missing
    assert await value_of(talk, "(first, later, random.getstate())") == before
    assert await value_of(talk, "(os.environ.get('UNIT'), np.geterr()['divide'], os.path.basename(os.getcwd()))") == (
        "(None, 'raise', 'sub')"
    )
    await go(talk, "undo", 2)
    assert await value_of(talk, "[*drawn] == first if 'first' in globals() else [*drawn][0]") == str(
        random.Random(1).random()
    )
