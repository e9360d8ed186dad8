"""Maps the top-level folders to `cellwright.*`; everything else about the package is in pyproject.toml."""

from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent
PARTS = ("server", "kernels", "extension", "notebooks")


def packages() -> dict[str, str]:
    """Each folder with an `__init__.py` below the four parts, as package name → folder."""
    found = {}
    for part in PARTS:
        for init in sorted((ROOT / part).rglob("__init__.py")):
            folder = init.parent.relative_to(ROOT)
            if "node_modules" not in folder.parts:
                found["cellwright." + ".".join(folder.parts)] = str(folder)
    return found


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
        "cellwright.notebooks": ["py.typed"],
    },
    data_files=[
        ("etc/jupyter/jupyter_server_config.d", ["etc/jupyter/jupyter_server_config.d/cellwright.json"]),
    ],
)
