"""Kishu, which stores variables after every cell and checks them out again: what that takes.

Run by the peers' interpreter, with the cell that makes the state as its argument. Prints JSON on its last line.
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
    """Runs the cell bare and under Kishu, then a small change, then goes back to the state before that."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HOME"] = folder
        notebook = Path(folder) / "nb.ipynb"
        nbformat.write(nbformat.v4.new_notebook(), notebook)
        from kishu.jupyterint import KishuForJupyter
        from kishu.notebook_id import NotebookId

        shell = InteractiveShell.instance()
        shell.history_manager.enabled = False

        def cell(source: str) -> float:
            began = time.perf_counter()
            shell.run_cell(source, store_history=True).raise_error()
            return time.perf_counter() - began

        made = cell(sys.argv[1])
        with mock.patch("kishu.jupyterint.enclosing_platform", return_value="local"):
            kishu = KishuForJupyter(notebook_id=NotebookId(key="bench", path=notebook, kernel_id="bench"), ip=shell)
            kishu.save_notebook = lambda: None
            kishu.install_kishu_hooks()
            stored = cell(sys.argv[1]) - made
            head = kishu._kishu_graph.head()
            again = cell("n = 1")
            began = time.perf_counter()
            kishu.checkout(head, skip_notebook=True)
            back = time.perf_counter() - began
        assert "n" not in shell.user_ns
        shell.user_ns["big"].sum()
    print(json.dumps({"stored_s": stored, "stored_again_s": again, "back_s": back}))


main()
