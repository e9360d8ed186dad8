"""Who owns what a request makes: Jupyter's user, or on a single-user server the operating system's."""

from __future__ import annotations

import getpass
import os
from typing import Any

from jupyter_server.auth.identity import IdentityProvider, PasswordIdentityProvider


def owner(handler: Any) -> str:
    """The owner's name for the authenticated user of this request.

    Under token or password login Jupyter makes up a new anonymous user for each browser: there the owner is who
    runs the server, so that every browser and the command line see the same sessions.
    """
    if type(handler.identity_provider) in (IdentityProvider, PasswordIdentityProvider):
        return f"local:{_system_user()}"
    return str(handler.current_user.username)


def _system_user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # A container may run under a number without a name.
        return str(os.getuid())
