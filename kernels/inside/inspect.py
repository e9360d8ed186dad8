"""What the namespace holds, told in bounded time: never calls a `repr` that is not Python's own."""

from __future__ import annotations

import json
import math
import sys
import types
from typing import Any

MAX_VARIABLES = 200
MAX_COLUMNS = 100
MAX_ROWS = 10
PREVIEW_CHARACTERS = 120
NULLS_UP_TO_CELLS = 5_000_000
"""Nulls of a table are counted up to this many values; above it would take too long."""

SUMMED_UP_VALUES = 20_000
THUMBNAIL = 128
THUMBNAIL_UP_TO_PIXELS = 4_000_000

SCALARS = (bool, int, float, complex, type(None))
CONTAINERS = (list, tuple, set, frozenset, dict)
Description = dict[str, Any]


def user_variables(shell: Any) -> dict[str, Any]:
    """The names that the user's and the agent's cells made, modules and IPython's own left out."""
    hidden = shell.user_ns_hidden
    return {
        name: value
        for name, value in list(shell.user_ns.items())
        if not name.startswith("_")
        and name not in ("In", "Out", "get_ipython", "exit", "quit", "open")
        and not (name in hidden and hidden[name] is value)
        and type(value) is not types.ModuleType
    }


def overview(shell: Any) -> list[Description]:
    """Name, type, shape, size and preview of each variable, and its identity to tell rebinding by."""
    found = []
    for name, value in list(user_variables(shell).items())[:MAX_VARIABLES]:
        try:
            found.append({"name": name, **_brief(value), "id": id(value)})
        except Exception as error:
            found.append({"name": name, "type": _type_name(value), "preview": f"<{type(error).__name__}>"})
    return found


def told() -> str:
    """The overview as JSON, for a server that has just come back."""
    from IPython import get_ipython

    return json.dumps(overview(get_ipython()))


def describe(name: str) -> str:
    """One variable in more detail, as JSON, for `user_expressions`.

    A table's columns, null counts and first rows; an array's summary; an image's thumbnail.
    """
    from IPython import get_ipython

    variables = user_variables(get_ipython())
    if name not in variables:
        return json.dumps(None)
    value = variables[name]
    told = {"name": name, **_brief(value)}
    try:
        if _is_frame(value):
            told |= _table(value)
        elif type(value) in CONTAINERS:
            told["preview"] = _container(value, 2_000)
        elif isinstance(value, str):
            told["preview"] = value[:2_000]
        elif _is_array(value):
            told |= {"summary": _summary(value), "thumbnail": _thumbnail(value)}
        elif type(value).__module__.split(".")[0] == "PIL" and hasattr(value, "mode"):
            told |= {"shape": [value.height, value.width], "preview": value.mode, "thumbnail": _picture(value)}
    except Exception as error:
        told["preview"] += f" <{type(error).__name__} while looking closer>"
    return json.dumps(told, default=str)


def _type_name(value: Any) -> str:
    kind = type(value)
    return str(kind.__name__) if kind.__module__ == "builtins" else f"{kind.__module__.split('.')[0]}.{kind.__name__}"


def _is_frame(value: Any) -> bool:
    return type(value).__name__ == "DataFrame" and type(value).__module__.split(".")[0] in ("pandas", "geopandas")


def _is_array(value: Any) -> bool:
    return type(value).__module__ == "numpy" and type(value).__name__ == "ndarray"


def _summary(array: Any) -> Description | None:
    """Least, greatest and mean of an array of numbers, and how many are none; of a large one, of every n-th value."""
    import numpy as np

    if array.dtype.kind not in "biuf" or not array.size:
        return None
    flat = array.reshape(-1) if array.flags.c_contiguous else array[tuple(slice(0, 100) for _ in array.shape)].ravel()
    step = max(1, flat.size // SUMMED_UP_VALUES)
    values = flat[::step].astype(float)
    nulls = int(np.isnan(values).sum())
    known = values[np.isfinite(values)]
    told = {"values": int(values.size), "nulls": nulls, "every": step}
    if known.size:
        told |= {"min": float(known.min()), "max": float(known.max()), "mean": float(known.mean())}
    return told


def _thumbnail(array: Any) -> str | None:
    """A picture of an array that looks like an image: bytes, in two dimensions or with three or four colours."""
    shape = array.shape
    looks = str(array.dtype) == "uint8" and (len(shape) == 2 or (len(shape) == 3 and shape[2] in (3, 4)))
    if not looks or min(shape[:2]) < 8:
        return None
    from PIL import Image

    step = max(1, max(shape[:2]) // (2 * THUMBNAIL))
    return _picture(Image.fromarray(array[::step, ::step].copy()))


def _picture(image: Any) -> str | None:
    """A PNG of at most THUMBNAIL pixels each way, as a data URL."""
    import base64
    import io

    if image.width * image.height > THUMBNAIL_UP_TO_PIXELS:
        return None
    small = image.copy()
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    data = io.BytesIO()
    (small if small.mode in ("RGB", "RGBA", "L") else small.convert("RGBA")).save(data, "PNG")
    return "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()


def _brief(value: Any) -> Description:
    told: Description = {"type": _type_name(value), "shape": None, "size_bytes": None, "preview": ""}
    package = type(value).__module__.split(".")[0]
    if isinstance(value, SCALARS) and package == "builtins":
        told["preview"] = _scalar(value)
        told["size_bytes"] = sys.getsizeof(value)
    elif type(value) in (str, bytes, bytearray):
        told |= {"shape": [len(value)], "size_bytes": sys.getsizeof(value), "preview": _cut(repr(value[:200]))}
    elif type(value) in CONTAINERS:
        told |= {
            "shape": [len(value)],
            "size_bytes": sys.getsizeof(value),
            "preview": _container(value, PREVIEW_CHARACTERS),
        }
    elif package == "numpy" and hasattr(value, "dtype") and hasattr(value, "nbytes"):
        told |= {"shape": list(value.shape), "size_bytes": int(value.nbytes), "preview": str(value.dtype)}
        if not value.shape:
            told |= {"shape": None, "preview": _cut(str(value.item()) if value.dtype.kind in "biufcSU" else "")}
    elif package in ("pandas", "geopandas") and hasattr(value, "shape"):
        told["shape"] = list(value.shape)
        told["size_bytes"] = _pandas_bytes(value)
        if _is_frame(value):
            told["preview"] = _cut(", ".join(str(c) for c in value.columns[:12]))
        else:
            told["preview"] = _cut(str(getattr(value, "dtype", "")))
    elif isinstance(value, (types.FunctionType, type)):
        told["preview"] = _cut(f"{value.__module__}.{value.__qualname__}")
    elif package in ("torch", "polars", "pyarrow", "scipy", "xarray") and isinstance(
        getattr(value, "shape", None), tuple
    ):
        told["shape"] = [int(n) for n in value.shape if isinstance(n, int)]
    return told


def _pandas_bytes(value: Any) -> int:
    used = value.memory_usage(index=False, deep=False)
    return int(used.sum() if hasattr(used, "sum") else used)


def _scalar(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 400:
        return f"an integer of {value.bit_length():,} bits"
    return _cut(repr(value))


def _container(value: Any, limit: int) -> str:
    """The first members, of types whose text is harmless; others by type."""
    members: list[str] = []
    used = 0
    items = value.items() if isinstance(value, dict) else ((None, member) for member in value)
    for key, member in items:
        shown = _member(member) if key is None else f"{_member(key)}: {_member(member)}"
        used += len(shown) + 2
        if used > limit:
            members.append("…")
            break
        members.append(shown)
    opening, closing = "[]" if type(value) is list else "()" if type(value) is tuple else "{}"
    return opening + ", ".join(members) + closing


def _member(value: Any) -> str:
    if type(value) is str:
        return repr(value[:60])
    if type(value) in SCALARS:
        return _scalar(value)
    if type(value) in CONTAINERS:
        return f"{type(value).__name__} of {len(value)}"
    return _type_name(value)


def _cut(text: str) -> str:
    return text if len(text) <= PREVIEW_CHARACTERS else text[: PREVIEW_CHARACTERS - 1] + "…"


def _table(frame: Any) -> Description:
    columns = list(frame.columns[:MAX_COLUMNS])
    count_nulls = frame.shape[0] * len(columns) <= NULLS_UP_TO_CELLS
    described = [
        {
            "name": str(column),
            "dtype": str(frame.dtypes.iloc[i]),
            "nulls": int(frame.iloc[:, i].isna().sum()) if count_nulls else None,
        }
        for i, column in enumerate(columns)
    ]
    rows = [[_plain(value) for value in row] for row in frame.iloc[:MAX_ROWS, :MAX_COLUMNS].itertuples(index=False)]
    return {"columns": described, "rows": rows}


def table(frame: Any) -> Description:
    """Shape, columns and first rows of a table that is shown; and what its rows are called, where they have names."""
    told = _table(frame)
    shown = {"rows": int(frame.shape[0]), "columns": told["columns"], "preview": told["rows"]}
    index = getattr(frame, "index", None)
    if index is None or (type(index).__name__ == "RangeIndex" and index.start == 0 and index.name is None):
        return shown
    labels = [label if isinstance(label, tuple) else (label,) for label in index[:MAX_ROWS]]
    names = ["" if name is None else str(name) for name in index.names]
    return {**shown, "index": names, "labels": [[_plain(part) for part in label] for label in labels]}


def _plain(value: Any) -> Any:
    if type(value).__module__ == "numpy" and hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or type(value) in (bool, int, float):
        return value
    if type(value) is str:
        return value[:200]
    if type(value).__module__.split(".")[0] in ("pandas", "datetime", "decimal"):
        return _cut(str(value))
    return _type_name(value)
