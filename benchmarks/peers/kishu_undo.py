"""Kishu, going back to each cell of a notebook: how long that takes, and how much of it is as it was.

Run by the peers' interpreter, with JSON as its argument: the cells, and the source of `fingerprints`. Prints JSON.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

import nbformat
from IPython.core.interactiveshell import InteractiveShell


def main() -> None:
    """Runs the cells under Kishu, then checks each out, the last first."""
    asked = json.loads(sys.argv[1])
    names: dict = {}
    exec(asked["fingerprints"], names)
    look = names["fingerprints"]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HOME"] = folder
        notebook = Path(folder) / "nb.ipynb"
        nbformat.write(nbformat.v4.new_notebook(), notebook)
        from kishu.jupyterint import KishuForJupyter
        from kishu.notebook_id import NotebookId

        shell = InteractiveShell.instance()
        shell.history_manager.enabled = False
        with mock.patch("kishu.jupyterint.enclosing_platform", return_value="local"):
            kishu = KishuForJupyter(notebook_id=NotebookId(key="bench", path=notebook, kernel_id="bench"), ip=shell)
            kishu.save_notebook = lambda: None
            kishu.install_kishu_hooks()
            points, stored = [], 0.0
            for source in asked["cells"]:
                began = time.perf_counter()
                shell.run_cell(source, store_history=True).raise_error()
                stored += time.perf_counter() - began
                points.append((kishu._kishu_graph.head(), look(shell.user_ns)))
            found = []
            for head, before in reversed(points[:-1]):
                began = time.perf_counter()
                try:
                    kishu.checkout(head, skip_notebook=True)
                    failed = None
                except Exception as error:
                    failed = repr(error)[:200]
                took = time.perf_counter() - began
                now = look(shell.user_ns)
                same = sum(now.get(name) == value for name, value in before.items())
                found.append({"seconds": took, "same": same, "all": len(before), "failed": failed})
    print(json.dumps({"run_s": stored, "back": found}))


main()
