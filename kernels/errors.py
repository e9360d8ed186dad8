"""What can go wrong with a kernel.

KernelError
├── KernelNotStarted   it did not come up
├── KernelDied         it ended while it was needed; `cause` says how
└── KernelUnreachable  it lives but does not answer
"""

from __future__ import annotations


class KernelError(Exception):
    """Something is wrong with a kernel."""


class KernelNotStarted(KernelError):
    """The kernel did not start."""


class KernelDied(KernelError):
    """The kernel died."""

    def __init__(self, cause: str) -> None:
        super().__init__(f"The kernel died: {cause}.")
        self.cause = cause


class KernelUnreachable(KernelError):
    """The kernel does not answer."""
