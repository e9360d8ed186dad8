"""What must be the same in two places."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

from cellwright.server.version import package_version

from tests.api_types import models

ROOT = Path(__file__).parents[2]
LAB = ROOT / "extension" / "lab"


def test_one_version() -> None:
    """The package, the front end and what the page says of itself carry one version."""
    page = re.search(r"VERSION = '(.+)'", (LAB / "src" / "version.ts").read_text())
    assert page is not None
    assert json.loads((LAB / "package.json").read_text())["version"] == page[1] == package_version()


def test_types_are_those_of_the_api(tmp_path: Path) -> None:
    """The front end's types are what `make types` makes of the routes."""
    document = tmp_path / "openapi.json"
    document.write_text(json.dumps(models()))
    program = LAB / "node_modules" / ".bin" / "openapi-typescript"
    made = subprocess.run([program, document], capture_output=True, text=True, check=True, cwd=LAB)
    assert made.stdout.strip() == (LAB / "src" / "api" / "schema.ts").read_text().strip(), "run `make types`"
