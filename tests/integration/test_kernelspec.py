"""The `cellwright` kernelspec through Jupyter's own test suite for kernels, as far as plain ipykernel passes it."""

from __future__ import annotations

from typing import Any, ClassVar

import jupyter_kernel_test
from cellwright.kernels.sessions import kernelspec_folder
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager


class CellwrightKernelTests(jupyter_kernel_test.KernelTests):
    """What Jupyter asks of a kernel."""

    kernel_name = "cellwright"
    language_name = "python"
    file_extension = ".py"
    code_hello_world = "print('hello, world')"
    code_stderr = "import sys; print('test', file=sys.stderr)"
    completion_samples: ClassVar[list[dict[str, Any]]] = [{"text": "zi", "matches": {"zip"}}]
    complete_code_samples: ClassVar[list[str]] = ["1", "print('hello, world')", "def f(x):\n  return x*2\n\n\n"]
    incomplete_code_samples: ClassVar[list[str]] = ["print('''hello", "def f(x):\n  x*2"]
    invalid_code_samples: ClassVar[list[str]] = ["import = 7q"]
    code_page_something = "zip?"
    code_generate_error = "raise ValueError('bad')"
    code_execute_result: ClassVar[list[dict[str, str]]] = [{"code": "1+2+3", "result": "6"}]
    code_display_data: ClassVar[list[dict[str, str]]] = [
        {"code": "from IPython.display import HTML, display; display(HTML('<b>test</b>'))", "mime": "text/html"},
        {"code": "from IPython.display import Math, display; display(Math('\\\\frac{1}{2}'))", "mime": "text/latex"},
    ]
    code_history_pattern = "1?2*"
    supported_history_operations = ("tail", "search")
    code_inspect_sample = "zip"
    code_clear_output = "from IPython.display import clear_output; clear_output()"

    @classmethod
    def setUpClass(cls) -> None:
        specs = KernelSpecManager()
        specs.kernel_dirs = [*specs.kernel_dirs, kernelspec_folder()]
        cls.km = KernelManager(kernel_name=cls.kernel_name, kernel_spec_manager=specs)
        cls.km.start_kernel()
        cls.kc = cls.km.client()
        cls.kc.start_channels()
        cls.kc.wait_for_ready(timeout=60)


class PlainKernelTests(CellwrightKernelTests):
    """The same of plain ipykernel: what it fails, ours may."""

    kernel_name = "python3"
