"""What can go wrong in the server; `extension/problems.py` says which HTTP status each becomes.

CellwrightError
├── NotFound            what was asked for does not exist, or belongs to someone else
├── Invalid             the request cannot be carried out as it stands
├── Forbidden           it is shared with the one who asks, but not for this
├── Conflict            the state of the thing does not allow it now
│   └── Busy            another turn or cell is under way
├── TooLarge            over a limit of size
├── StaleLease          another process owns the session now: this one must stop writing
├── Unavailable         something that is needed does not answer
│   ├── StoreUnavailable
│   ├── DataFolderInUse
│   ├── DiskFull
│   └── TooManyKernels
├── TooMany             more requests than one user may make; `retry_after_s` says when again
└── ModelError          the model gave no usable answer
    ├── NoModel         none is set up
    ├── ModelRefused    the provider refuses, and will again (wrong key, unknown model, bad request)
    ├── ModelOverloaded the provider is overloaded or limits the rate; `retry_after_s` says for how long
    ├── ModelUnreachable  no connection, or an error of the provider's own
    ├── ModelSilent     no token within the time limit
    ├── ModelMalformed  a reply that cannot be understood
    └── RehearsalDiffers  the conversation is not the recorded one any more
"""

from __future__ import annotations


class CellwrightError(Exception):
    """Something went wrong."""

    def __init__(self, detail: str | None = None) -> None:
        self.detail = detail or (self.__doc__ or "").strip().splitlines()[0]
        super().__init__(self.detail)


class NotFound(CellwrightError):
    """There is no such thing."""

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(f"There is no {kind} {name!r}.")
        self.kind, self.name = kind, name


class Invalid(CellwrightError):
    """The request cannot be carried out as it stands."""


class Forbidden(CellwrightError):
    """This is not allowed."""


class Conflict(CellwrightError):
    """The state of the thing does not allow this now."""


class Busy(Conflict):
    """The session is busy."""


class TooLarge(CellwrightError):
    """Larger than what is accepted."""

    def __init__(self, what: str, limit_bytes: int) -> None:
        super().__init__(f"{what} is larger than the limit of {limit_bytes:,} bytes.")
        self.limit_bytes = limit_bytes


class NotebookMoved(Exception):
    """The notebook is at another revision than a change was made for: a signal to make it anew."""


class StaleLease(CellwrightError):
    """Another process owns this session now."""


class Unavailable(CellwrightError):
    """Something that is needed does not answer."""


class StoreUnavailable(Unavailable):
    """A store does not answer."""


class DataFolderInUse(Unavailable):
    """Another server owns the data folder."""


class DiskFull(Unavailable):
    """There is too little room on the disk to begin."""


class TooMany(CellwrightError):
    """More requests than one user may make."""

    def __init__(self, limit: int, retry_after_s: int) -> None:
        super().__init__(f"More than {limit} requests in a minute. Wait {retry_after_s} s.")
        self.retry_after_s = retry_after_s


class TooManyKernels(Unavailable):
    """As many kernels as are allowed are running, and none is idle."""


class ModelError(CellwrightError):
    """The model gave no usable answer."""

    retryable = False


class NoModel(ModelError):
    """No model is set up."""

    ADVICE = (
        "No model is set up. Set CELLWRIGHT_MODEL (for example openai/gpt-5.1 or anthropic/claude-sonnet-4-5)\n"
        "and CELLWRIGHT_API_KEY; for an OpenAI-compatible server of your own, CELLWRIGHT_API_BASE as well."
    )

    def __init__(self) -> None:
        super().__init__(self.ADVICE)


class ModelRefused(ModelError):
    """The model's provider refused the request."""


class ModelOverloaded(ModelError):
    """The model's provider is overloaded or limits the rate."""

    retryable = True

    def __init__(self, detail: str | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class ModelUnreachable(ModelError):
    """The model's provider cannot be reached, or failed."""

    retryable = True


class ModelSilent(ModelError):
    """The model said nothing within the time limit."""

    retryable = True


class ModelMalformed(ModelError):
    """The model's reply cannot be understood."""

    retryable = True


class RehearsalDiffers(ModelError):
    """The conversation differs from the one that was recorded."""
