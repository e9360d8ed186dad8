"""What a session is beside its variables: environment, search path, options of libraries, filters of warnings.

Only what cells changed is told, by what it was when the kernel began, so that a kernel elsewhere keeps its own. Stands
alone: its source is sent to kernels where Cellwright is not installed.
"""

from __future__ import annotations

import contextlib
import copy
import decimal
import importlib
import json
import logging
import os
import pickle
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

Values = dict[str, Any]
"""Settings of one kind by their keys."""

ABSENT = None
"""The value of what is not there."""

OF_THE_SCREEN = ("backend", "backend_fallback")
"""Matplotlib's settings that say where it draws: the kernel's matter."""

SHOWN = 80
"""Characters of a setting's value that are told."""

PASSWORD = re.compile(r"://[^/@\s'\"]+@")
"""Of an address, who opens it, and by what."""

RELOADING = ("enabled", "check_all", "autoload_obj")
INLINE = ("figure_formats", "print_figure_kwargs", "close_figures", "rc")


def _shell() -> Any:
    from IPython import get_ipython

    return get_ipython()


# -- each kind: read, and written where it is otherwise ---------------------------------------------------------------


def _environment() -> Values:
    return dict(os.environ)


def _write_environment(values: Values) -> None:
    for name, value in values.items():
        if value is ABSENT:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    if "TZ" in values and hasattr(time, "tzset"):
        time.tzset()


def _python() -> Values:
    context = decimal.getcontext()
    names = ("prec", "rounding", "Emin", "Emax", "capitals", "clamp")
    told: Values = {f"decimal.{name}": getattr(context, name) for name in names}
    return {**told, "decimal.traps": dict(context.traps), "recursion limit": sys.getrecursionlimit()}


def _write_python(values: Values) -> None:
    context = decimal.getcontext()
    for name, value in values.items():
        if name == "recursion limit":
            sys.setrecursionlimit(value)
        elif name == "decimal.traps":
            context.traps.update(value)
        else:
            setattr(context, name.removeprefix("decimal."), value)


def _logging() -> Values:
    """Levels of loggers, and of those that are no library's the handlers.

    A plain handler is told as `(where, level, format, format of dates, style, encoding)`, any other as itself.
    """
    loggers = [logger for logger in logging.root.manager.loggerDict.values() if isinstance(logger, logging.Logger)]
    told: Values = {"level of root": logging.root.level, "disabled up to": logging.root.manager.disable}
    told |= {f"level of {logger.name}": logger.level for logger in loggers if logger.level}
    for logger in (logging.root, *loggers):
        if not _is_of_library(logger.name):
            if logger.handlers:
                told[f"handlers of {logger.name}"] = [*map(_handler_told, logger.handlers)]
            if not logger.propagate:
                told[f"propagation of {logger.name}"] = False
    return told


def _is_of_library(logger: str) -> bool:
    """Whether a logger is that of an imported library, which sees to its handlers itself."""
    module = sys.modules.get(logger.partition(".")[0])
    file = getattr(module, "__file__", None)
    return module is not None and file is not None and not file.startswith(_began_in() + os.sep)


def _handler_told(handler: logging.Handler) -> Any:
    form, encoding = handler.formatter, None
    where: Any = None
    if type(handler) is logging.FileHandler:
        where, encoding = portable(handler.baseFilename), handler.encoding
    elif type(handler) is logging.StreamHandler:
        where = next((name for name in ("stdout", "stderr") if handler.stream is getattr(sys, name)), None)
    if where is None or handler.filters or type(form) not in (logging.Formatter, type(None)):
        return handler
    if form is None:
        return where, handler.level, None, None, "%", encoding
    styles: dict[Any, str] = {kind: style for style, (kind, _) in logging._STYLES.items()}
    return where, handler.level, form._fmt, form.datefmt, styles.get(type(form._style), "%"), encoding


def _write_logging(values: Values) -> None:
    for key, value in values.items():
        what, _, name = key.partition(" of ")
        logger = logging.getLogger(name)
        if what == "disabled up to":
            logging.disable(value or logging.NOTSET)
        elif what == "propagation":
            logger.propagate = value is not False
        elif what == "handlers":
            alive = [held() for held in getattr(logging, "_handlerList", ())]  # The library's own list of all of them.
            logger.handlers[:] = [_handler(told, alive) for told in value or ()]
        elif value is not ABSENT or not _is_of_library(name):
            logger.setLevel(value or logging.NOTSET)


def _handler(told: Any, alive: list[Any]) -> logging.Handler:
    """The handler that was told: the one that is there, which a variable may hold, or a new one."""
    if isinstance(told, logging.Handler):
        return told
    for handler in alive:
        if isinstance(handler, logging.Handler) and _handler_told(handler) == told:
            return handler
    where, level, form, dates, style, encoding = told
    handler = logging.StreamHandler(getattr(sys, where)) if where in ("stdout", "stderr") else None
    handler = handler or logging.FileHandler(place(where), encoding=encoding, delay=True)
    handler.setLevel(level)
    if form is not None:
        handler.setFormatter(logging.Formatter(form, dates, style))
    return handler


def _ipython() -> Values:
    return dict.fromkeys(sorted(_shell().extension_manager.loaded), True)


def _write_ipython(values: Values) -> None:
    manager = _shell().extension_manager
    for name, value in values.items():
        (manager.unload_extension if value is ABSENT else manager.load_extension)(name)


def _interactive() -> Values:
    """What magics of IPython's own say, and keep here and there."""
    shell = _shell()
    told = {
        "ast_node_interactivity": shell.ast_node_interactivity,
        "%precision": shell.display_formatter.formatters["text/plain"].float_precision,
        "%xmode": shell.InteractiveTB.mode,
    }
    reloader = getattr(shell.magics_manager.registry.get("AutoreloadMagics"), "_reloader", None)
    if reloader is not None:
        told["%autoreload"] = {name: getattr(reloader, name) for name in RELOADING if hasattr(reloader, name)}
    return told


def _write_interactive(values: Values) -> None:
    shell = _shell()
    for name, value in values.items():
        if name == "ast_node_interactivity":
            shell.ast_node_interactivity = value
        elif name == "%precision":
            shell.display_formatter.formatters["text/plain"].float_precision = value
        elif name == "%xmode":
            shell.InteractiveTB.set_mode(value)
        elif value is not ABSENT:
            vars(shell.magics_manager.registry["AutoreloadMagics"]._reloader).update(value)


def _configured() -> Values:
    """What `%config` said, also of what is not there yet."""
    of_classes = [(name, traits) for name, traits in _shell().config.items() if name[:1].isupper()]
    told = {f"{name}.{trait}": value for name, traits in of_classes for trait, value in dict(traits).items()}
    return {key: value for key, value in told.items() if type(value).__name__ != "LazyConfigValue"}


def _write_configured(values: Values) -> None:
    from traitlets.config import Config

    for key, value in values.items():
        name, trait = key.split(".", 1)
        if value is ABSENT:
            _shell().config[name].pop(trait, None)
            continue
        for configurable in list(_shell().configurables):
            configurable.update_config(Config({name: {trait: value}}))


NUMPY: dict[str, Values] = {
    "print": {
        "edgeitems": 3,
        "threshold": 1000,
        "precision": 8,
        "linewidth": 75,
        "floatmode": "maxprec",
        "sign": "-",
        "suppress": False,
        "nanstr": "nan",
        "infstr": "inf",
        "formatter": None,
        "legacy": False,
        "override_repr": None,
    },
    "error": {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"},
}


def _numpy(numpy: Any) -> Values:
    return _named({"print": numpy.get_printoptions(), "error": numpy.geterr()})


def _write_numpy(values: Values, numpy: Any) -> None:
    for name, value in values.items():
        area, key = name.split(" ", 1)
        (numpy.set_printoptions if area == "print" else numpy.seterr)(**{key: value})


def _named(areas: dict[str, Values]) -> Values:
    return {f"{area} {key}": value for area, values in areas.items() for key, value in values.items()}


def _pandas(pandas: Any) -> Values:
    return {key: pandas.get_option(key) for key in _pandas_at_first(pandas)}


def _write_pandas(values: Values, pandas: Any) -> None:
    for key, value in values.items():
        pandas.set_option(key, value)


def _pandas_at_first(pandas: Any) -> Values:
    config = pandas._config.config
    known = config._registered_options.items()
    return {key: option.defval for key, option in known if key not in config._deprecated_options}


def _matplotlib(matplotlib: Any) -> Values:
    return _but_the_screen(matplotlib.rcParams)


def _write_matplotlib(values: Values, matplotlib: Any) -> None:
    dict.update(matplotlib.rcParams, values)  # They were looked at when they were set first.


def _matplotlib_at_first(matplotlib: Any) -> Values:
    return _but_the_screen(matplotlib.rcParamsOrig)


def _but_the_screen(parameters: Values) -> Values:
    return {key: value for key, value in dict.items(parameters) if key not in OF_THE_SCREEN}


def _inline(config: Any) -> Values:
    if not config.InlineBackend.initialized():
        return {}
    backend = config.InlineBackend.instance()
    return {name: getattr(backend, name) for name in INLINE}


def _write_inline(values: Values, config: Any) -> None:
    backend = config.InlineBackend.instance(parent=_shell())
    for name, value in values.items():
        setattr(backend, name, value)


def _sklearn(sklearn: Any) -> Values:
    return dict(sklearn.get_config())


def _sklearn_at_first(sklearn: Any) -> Values:
    return dict(sklearn._config._global_config)


def _write_sklearn(values: Values, sklearn: Any) -> None:
    sklearn.set_config(**values)


def _plotly(templates: Any) -> Values:
    return {"templates.default": templates.templates.default}


def _write_plotly(values: Values, templates: Any) -> None:
    templates.templates.default = values["templates.default"]


class Kind(NamedTuple):
    """How settings of one kind are read and written, those of a library where that is imported."""

    called: str
    module: str
    read: Callable[..., Values]
    write: Callable[..., None]
    at_first: Callable[[Any], Values] = lambda _module: {}
    """A library's settings when it is imported, as far as is known; it may be so after the kernel's begin."""


KINDS = {
    "environment": Kind("the environment's", "", _environment, _write_environment),
    "python": Kind("Python's", "", _python, _write_python),
    "logging": Kind(
        "logging's", "", _logging, _write_logging, lambda _: {"level of root": logging.WARNING, "disabled up to": 0}
    ),
    "ipython": Kind("IPython's extension", "", _ipython, _write_ipython),
    "interactive": Kind("IPython's", "", _interactive, _write_interactive),
    "config": Kind("IPython's configuration", "", _configured, _write_configured),
    "numpy": Kind("NumPy's", "numpy", _numpy, _write_numpy, lambda _numpy: _named(NUMPY)),
    "pandas": Kind("pandas's", "pandas", _pandas, _write_pandas, _pandas_at_first),
    "matplotlib": Kind("Matplotlib's", "matplotlib", _matplotlib, _write_matplotlib, _matplotlib_at_first),
    "inline": Kind("Matplotlib's inline", "matplotlib_inline.config", _inline, _write_inline),
    "sklearn": Kind("scikit-learn's", "sklearn", _sklearn, _write_sklearn, _sklearn_at_first),
    "plotly": Kind(
        "Plotly's", "plotly.io._templates", _plotly, _write_plotly, lambda _: {"templates.default": "plotly"}
    ),
}
"""In the order in which they are put back. Before them comes where modules are found, behind them what is warned of."""


def called(kind: str, key: str) -> str:
    """What a setting is called to users."""
    return f"{KINDS[kind].called} {key}" if kind in KINDS else key


# -- all of them -------------------------------------------------------------------------------------------------------


class _Begun(NamedTuple):
    cwd: str
    path: list[str]
    warned: list[Any]
    settings: dict[str, Values]


def begin() -> _Begun:
    """Notes how the kernel begins, once in its life."""
    shell = _shell()
    shell.cellwright_place = place  # Stored paths are read by it.
    if getattr(shell, "cellwright_begun", None) is None:
        found = {name: _copied(values) for name, values, _ in _read()}
        shell.cellwright_begun = _Begun(_cwd(), list(sys.path), list(warnings.filters), found)
    begun: _Begun = shell.cellwright_begun
    return begun


def begun() -> str:
    """The same, asked by a server, which wants JSON."""
    begin()
    return "null"


def begun_again() -> str:
    """Makes all settings as they began; asked by a server as well."""
    put({})
    return "null"


def changed() -> dict[str, Values]:
    """What cells changed, by kind and key; nothing where it was not known how the kernel began."""
    began = begin()
    found = {}
    for name, now, module in _read():
        first = _first(began, name, module)
        found[name] = _apart(first, now if module else {**dict.fromkeys(first, ABSENT), **now})
    for name, value in found["environment"].items():
        found["environment"][name] = _around(began.settings["environment"].get(name), value)
    if sys.path != began.path:
        path = [_portable(began, entry) for entry in sys.path if type(entry) is str]
        found["search path"] = {"search path": (len(began.path), path)}
    if warnings.filters != began.warned:
        found["warnings"] = {"filters of warnings": list(warnings.filters)}
    return {name: values for name, values in found.items() if values}


def put_places(told: dict[str, Values]) -> list[dict[str, str]]:
    """Puts back where modules are found and what they are told when they are imported: search path and environment."""
    began = begin()
    of, path = told.get("search path", {}).get("search path", (len(began.path), [*range(len(began.path))]))
    here = of == len(began.path)
    entries = [_entry(began, entry) for entry in path if here or type(entry) is not int]
    wanted = entries if here else entries + began.path  # Another machine's begins elsewhere.
    if sys.path != wanted:
        sys.path[:] = wanted
    return _put(began, "environment", told.get("environment", {}))


def put(told: dict[str, Values]) -> list[dict[str, str]]:
    """Makes all settings as `changed` told them, and all others as they began.

    Returns what could not be, as `{name, reason}`.
    """
    failed = put_places(told)
    began = begin()
    for name in KINDS:
        failed += _put(began, name, told.get(name, {})) if name != "environment" else []
    filters = told.get("warnings", {}).get("filters of warnings", began.warned)
    if filters != warnings.filters:
        warnings.resetwarnings()  # What was warned of already is forgotten as well.
        warnings.filters.extend(filters)  # type: ignore[attr-defined]
    return failed


def set_aside() -> str:
    """Keeps what cells changed, to be compared with what comes next."""
    _shell().cellwright_settings_aside = changed()
    return "null"


def told() -> str:
    """JSON: `[{name, before, after}]` of settings that are not as those set aside; the environment's without values."""
    began, before, after = begin(), _shell().cellwright_settings_aside, changed()
    found = []
    for name in sorted({*before, *after}):
        sides = [values.get(name, {}) for values in (before, after)]
        for key in sorted({*sides[0], *sides[1]}):
            held = [side[key] if key in side else _at_begin(began, name, key) for side in sides]
            if not _same(*held) and not _pickled_alike(*held):
                texts = [_said(name, value) for value in held]
                if texts[0] == texts[1]:
                    texts[1] = "another"
                found.append({"name": called(name, key), "before": texts[0], "after": texts[1]})
    return json.dumps(found)


def _at_begin(began: _Begun, name: str, key: str) -> Any:
    if name == "search path":
        return len(began.path), [*range(len(began.path))]
    if name == "warnings":
        return began.warned
    value = _first(began, name, sys.modules.get(KINDS[name].module)).get(key, ABSENT)
    return _around(value, value) if name == "environment" else value


def _said(name: str, value: Any) -> str:
    """A setting's value in a few words. What stands in the environment may be a secret."""
    if value is ABSENT:
        return "none"
    if name == "environment":
        return "a value"
    try:
        if name == "search path":
            value = [entry[0] if type(entry) is tuple else entry for entry in value[1] if type(entry) is not int]
        elif name == "warnings":
            value = [f"{action} {getattr(about, '__name__', about)}" for action, _, about, *_ in value]
        text = PASSWORD.sub("://…@", repr(value))
    except Exception:  # Whatever was set may say what it likes.
        text = object.__repr__(value)
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def _put(began: _Begun, name: str, wanted: Values) -> list[dict[str, str]]:
    """Makes settings of one kind as wanted, and all others of it as they began."""
    kind, failed = KINDS[name], []
    try:
        module = importlib.import_module(kind.module) if wanted and kind.module else sys.modules.get(kind.module)
        if module is None and kind.module:
            return []
        with _unheard():
            now = kind.read(*_of(module))
        others = {} if module else dict.fromkeys(now, ABSENT)
        target = {**others, **_first(began, name, module), **wanted}
    except Exception as error:  # A library of another version, or none.
        return [_failure(name, key, error) for key in wanted]
    if name == "environment":
        first = began.settings[name]
        target = {key: _whole(first.get(key), value) for key, value in target.items()}
    for key, value in _apart(now, target).items():
        try:
            with _unheard():
                kind.write({key: value}, *_of(module))
        except Exception as error:
            failed.append(_failure(name, key, error))
    return failed


def _failure(name: str, key: str, error: Exception) -> dict[str, str]:
    return {"name": called(name, key), "reason": f"{type(error).__name__}: {error}"[:200]}


def _read() -> Iterator[tuple[str, Values, Any]]:
    for name, kind in KINDS.items():
        module = sys.modules.get(kind.module)
        if module is None and kind.module:
            continue
        try:
            with _unheard():
                now = kind.read(*_of(module))
        except Exception:  # noqa: S112 (a library of another version, or half imported)
            continue
        yield name, now, module


@contextlib.contextmanager
def _unheard() -> Iterator[None]:
    """Without what a library warns of when it is asked."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _of(module: Any) -> list[Any]:
    return [] if module is None else [module]


def _first(began: _Begun, name: str, module: Any) -> Values:
    """Settings as they were when the kernel began, or when their library was imported."""
    if name not in began.settings:
        began.settings[name] = _copied(KINDS[name].at_first(module))
    return began.settings[name]


def _copied(values: Values) -> Values:
    """Apart from what may be changed in place."""
    found = {}
    for key, value in values.items():
        try:
            found[key] = copy.deepcopy(value)
        except Exception:  # Whatever was set may not like it.
            found[key] = value
    return found


def _apart(first: Values, now: Values) -> Values:
    return {key: value for key, value in now.items() if key not in first or not _same(first[key], value)}


def _same(one: Any, other: Any) -> bool:
    try:
        return type(one) is type(other) and bool(one == other)
    except Exception:  # Whatever was set may compare as it likes.
        return False


def _portable(began: _Begun, entry: str) -> Any:
    """An entry of the search path: the number of the same at the begin, a tuple for one in that folder, or itself."""
    return began.path.index(entry) if entry in began.path else portable(entry)


def _entry(began: _Begun, entry: Any) -> str:
    return began.path[entry] if type(entry) is int else place(entry)


def portable(path: str) -> Any:
    """A path as it is told elsewhere: `(relative,)` for one in the folder in which the kernel began, or itself."""
    folder = _began_in()
    below = os.path.normpath(path) == folder or path.startswith(folder + os.sep)
    return (os.path.relpath(path, folder),) if below else path


def place(told: Any) -> str:
    """Where such a path leads to here."""
    return str(told) if isinstance(told, str) else os.path.normpath(os.path.join(_began_in(), told[0]))


def _began_in() -> str:
    began = getattr(_shell(), "cellwright_begun", None)
    return _cwd() if began is None else str(began.cwd)


def _around(first: str | None, value: str | None) -> Any:
    """What was put before and behind a value that there was, as in `PATH`: it may be another elsewhere."""
    if first and value and first in value:
        return tuple(value.split(first, 1))
    return value


def _whole(first: str | None, value: Any) -> Any:
    return (first or "").join(value) if type(value) is tuple else value


def _pickled_alike(one: Any, other: Any) -> bool:
    """Whether values that know no equality are made of the same."""
    try:
        return pickle.dumps(one) == pickle.dumps(other)
    except Exception:  # Whatever was set may not like it.
        return False


def _cwd() -> str:
    try:
        return os.getcwd()
    except OSError:
        return os.sep
