"""The environment that a kernel gets: an allow-list, so that no key, token or password reaches the user's code."""

from __future__ import annotations

import re
from collections.abc import Mapping

ALLOWED = re.compile(
    r"""^(
        PATH | HOME | USER | LOGNAME | SHELL | LANG | LANGUAGE | LC_\w+ | TZ | TERM | TMPDIR | TEMP | TMP | PWD |
        VIRTUAL_ENV | CONDA_PREFIX | CONDA_DEFAULT_ENV | PYTHON(PATH|HOME|UTF8|HASHSEED|WARNINGS|IOENCODING) |
        LD_LIBRARY_PATH | DYLD_LIBRARY_PATH | XDG_(DATA|CONFIG|CACHE|RUNTIME)_(HOME|DIR|DIRS) |
        (OMP|OPENBLAS|MKL|NUMEXPR|VECLIB|BLIS)_\w+ | MPLBACKEND | MPLCONFIGDIR | MATPLOTLIBRC |
        CUDA_\w+ | NVIDIA_VISIBLE_DEVICES | JUPYTER_(PATH|DATA_DIR|CONFIG_DIR|RUNTIME_DIR) | IPYTHONDIR |
        SSL_CERT_(FILE|DIR) | REQUESTS_CA_BUNDLE | PYDEVD_\w+ | SYSTEMROOT | COMSPEC | PATHEXT | WINDIR
    )$""",
    re.VERBOSE,
)
SECRET = re.compile(r"key|token|secret|passw|credential", re.IGNORECASE)


def kernel_environment(environment: Mapping[str, str], extra: Mapping[str, str]) -> dict[str, str]:
    """What of `environment` a kernel may see, and `extra` on top."""
    passed = {name: value for name, value in environment.items() if ALLOWED.match(name) and not SECRET.search(name)}
    return passed | dict(extra)
