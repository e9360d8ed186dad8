"""Where Debian keeps the programs the services are made of."""

import os
import shutil
from pathlib import Path

_SYSTEM = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def find(name: str) -> str | None:
    """Return the path of a program in the system's folders or on PATH."""
    return shutil.which(name, path=f"{_SYSTEM}:{os.environ.get('PATH', '')}")


def required(name: str) -> str:
    """Return the path of a program that must be there."""
    path = find(name)
    if path is None:
        raise FileNotFoundError(f"{name} is not installed")
    return path


def postgres_folder() -> Path | None:
    """Return the folder of the newest PostgreSQL server programs, Debian's before those on PATH."""
    debian = Path("/usr/lib/postgresql").glob("[0-9]*/bin")
    newest_first = sorted(debian, key=lambda folder: float(folder.parent.name), reverse=True)
    initdb = find("initdb")
    on_path = [] if initdb is None else [Path(initdb).resolve().parent]
    for folder in [*newest_first, *on_path]:
        if all((folder / name).exists() for name in ("initdb", "postgres", "psql")):
            return folder
    return None
