"""Structured logs: one line an event, with session and turn; for people, or as JSON."""

from __future__ import annotations

import logging
import re
import sys
from typing import Any, Literal

import structlog

SECRET = re.compile(r"(?i)(key|token|secret|passw|authorization|dsn)")
URL_PASSWORD = re.compile(r"(://[^:/@\s]*:)[^@/\s]+@")


def masked(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    """No secret in a log: neither by name nor as the password of a URL."""
    for name, value in event.items():
        if SECRET.search(name):
            event[name] = "••••••"
        elif isinstance(value, str) and "://" in value:
            event[name] = URL_PASSWORD.sub(r"\1••••••@", value)
    return event


def configure(form: Literal["console", "json"]) -> None:
    """Sets structlog up for this process."""
    processors: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso"),
        masked,
    ]
    if form == "json":
        processors += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        # Plain: rich's tracebacks hold local variables, which are users' data, and take seconds to print.
        plain = structlog.dev.plain_traceback
        processors.append(structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain))
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
