"""What a data file holds: columns, types, rows. Runs in a process of its own, with limits, one file a run.

`python -m cellwright.server.describe FILE` prints JSON. A file that a stranger made can be a bomb or nonsense:
neither may cost the server its memory.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from pathlib import Path
from typing import Any

TABULAR = {".csv", ".tsv", ".xlsx", ".xls", ".json", ".jsonl", ".ndjson", ".parquet"}
SAMPLE_ROWS = 1_000
FIRST_ROWS = 5
COUNT_UP_TO_BYTES = 200 << 20
WHOLE_UP_TO_BYTES = 50 << 20
TIMEOUT_S = 30.0
MEMORY_BYTES = 4 << 30


def is_tabular(name: str) -> bool:
    """Whether a file of that name is looked into."""
    return Path(name).suffix.lower() in TABULAR


async def describe(path: Path, name: str) -> dict[str, Any]:
    """`{columns, rows, preview}` of a data file, or `{problem}` in one sentence."""
    try:
        return dict(json.loads(await _apart(str(path), Path(name).suffix.lower())))
    except TimeoutError:
        return {"problem": f"It could not be read within {TIMEOUT_S:.0f} s."}
    except ValueError:
        return {"problem": "It is too large or too broken to look into."}


async def thumbnail(path: Path, size: int) -> bytes | None:
    """A PNG of the image, no larger than `size` pixels each way; None for what is none, or a bomb."""
    try:
        return base64.b64decode(json.loads(await _apart(str(path), "thumbnail", str(size)))["png"])
    except (TimeoutError, ValueError, KeyError):
        return None


async def _apart(*arguments: str) -> bytes:
    """What this module prints, run as a program; raises TimeoutError."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "cellwright.server.describe",
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(TIMEOUT_S):
            out, _ = await process.communicate()
        return out
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def main() -> None:
    """Describes the file that the command line names."""
    import resource
    import warnings

    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    path, suffix = Path(sys.argv[1]), sys.argv[2]
    try:
        told = _thumbnail(path, int(sys.argv[3])) if suffix == "thumbnail" else _read(path, suffix)
    except Exception as error:
        told = {"problem": f"It does not read as {suffix.lstrip('.').upper()}: {str(error).splitlines()[0][:200]}"}
    print(json.dumps(told, default=str))


def _read(path: Path, suffix: str) -> dict[str, Any]:
    import pandas as pd

    size = path.stat().st_size
    rows: int | None = None
    match suffix:
        case ".csv" | ".tsv":
            separator = "\t" if suffix == ".tsv" else ","
            frame = pd.read_csv(path, sep=separator, nrows=SAMPLE_ROWS)
            if size <= COUNT_UP_TO_BYTES:
                rows = _count_rows(path)
        case ".xlsx" | ".xls":
            frame = pd.read_excel(path, nrows=SAMPLE_ROWS)
            rows = len(frame) if len(frame) < SAMPLE_ROWS else None
        case ".parquet":
            import pyarrow.parquet as pq

            file = pq.ParquetFile(path)
            rows = file.metadata.num_rows
            frame = (
                next(file.iter_batches(SAMPLE_ROWS)).to_pandas()
                if rows
                else file.schema_arrow.empty_table().to_pandas()
            )
        case ".jsonl" | ".ndjson":
            frame = pd.read_json(path, lines=True, nrows=SAMPLE_ROWS)
            rows = len(frame) if len(frame) < SAMPLE_ROWS else None
        case _:
            if size > WHOLE_UP_TO_BYTES:
                return {"problem": "It is too large to look into before it is loaded."}
            frame = pd.read_json(path)
            rows = len(frame)
    if not len(frame.columns):
        return {"problem": "It holds no columns."}
    columns = [{"name": str(name), "dtype": str(dtype)} for name, dtype in frame.dtypes.items()]
    preview = json.loads(frame.head(FIRST_ROWS).to_json(orient="values", date_format="iso", default_handler=str))
    return {"columns": columns[:500], "rows": rows, "preview": preview}


def _thumbnail(path: Path, size: int) -> dict[str, Any]:
    import io

    from PIL import Image

    with Image.open(path) as image:
        image.thumbnail((size, size))
        data = io.BytesIO()
        image.convert("RGBA").save(data, "PNG")
    return {"png": base64.b64encode(data.getvalue()).decode()}


def _count_rows(path: Path) -> int:
    import csv

    csv.field_size_limit(1 << 24)
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        return max(0, sum(1 for row in csv.reader(file) if row) - 1)


if __name__ == "__main__":
    main()
