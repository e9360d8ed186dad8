"""Errors as `application/problem+json` (RFC 9457): the one table from exceptions to statuses."""

from __future__ import annotations

import errno
from http import HTTPStatus
from typing import Any

from cellwright.kernels.errors import KernelError, KernelNotStarted, KernelUnreachable
from cellwright.notebooks.errors import EditConflict, InvalidNotebook, NotebookError, UnknownCell
from cellwright.server import errors
from pydantic import BaseModel, ValidationError
from tornado.web import HTTPError

STATUSES: dict[type[Exception], int] = {
    errors.NotFound: 404,
    errors.Invalid: 422,
    errors.Forbidden: 403,
    errors.Busy: 409,
    errors.Conflict: 409,
    errors.TooLarge: 413,
    errors.StaleLease: 409,
    errors.TooMany: 429,
    errors.DiskFull: 507,
    errors.Unavailable: 503,
    errors.NoModel: 409,
    errors.RehearsalDiffers: 409,
    errors.ModelError: 502,
    EditConflict: 409,
    UnknownCell: 404,
    InvalidNotebook: 422,
    NotebookError: 422,
    KernelUnreachable: 409,
    KernelNotStarted: 503,
    KernelError: 409,
}


class FieldError(BaseModel):
    """One field that does not validate."""

    path: str
    message: str


class Problem(BaseModel):
    """What went wrong, for programs and people."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[FieldError] | None = None


def problem(error: BaseException | None, status: int = 500) -> Problem:
    """The problem that an exception is to a client; internals stay in the log."""
    fields = None
    match error:
        case ValidationError():
            status = 422
            fields = [
                FieldError(path=".".join(map(str, e["loc"])) or "(body)", message=e["msg"]) for e in error.errors()
            ]
            detail = "; ".join(f"{field.path}: {field.message}" for field in fields[:5])
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            status, detail = 507, "The disk is full: make room, and send it again."
        case HTTPError():
            status = error.status_code
            said = error.log_message % error.args if error.log_message and error.args else error.log_message
            detail = str(said or error.reason or _title(status))
        case _:
            found = next((STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES), None)
            if found is not None:
                status, detail = found, str(error)
            else:
                detail = "Something went wrong in the server. Its log has the details."
    name = type(error).__name__ if error is not None and status != 500 else "InternalError"
    if isinstance(error, (HTTPError, ValidationError, OSError)):
        name = _title(status).replace(" ", "")
    return Problem(
        type=f"urn:cellwright:problem:{name}", title=_title(status), status=status, detail=detail, errors=fields
    )


def is_refusal(error: BaseException) -> bool:
    """Whether an error says for sure that nothing was done: it was refused, for what it asked or for want of room."""
    return problem(error).status < 500 or isinstance(error, (errors.TooManyKernels, errors.DiskFull))


def _title(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def body(found: Problem) -> dict[str, Any]:
    """The JSON of a problem, without what it does not have."""
    return found.model_dump(exclude_none=True)
