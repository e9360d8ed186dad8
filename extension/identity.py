"""Who asks, and what they may do: the same for requests and for WebSockets."""

from __future__ import annotations

import asyncio
import getpass
import os
from typing import Any

from cellwright.server.app import Cellwright
from cellwright.server.domain import LEVELS, Access, Session, Who
from cellwright.server.errors import Forbidden, TooMany, Unavailable
from jupyter_server.auth.identity import IdentityProvider, PasswordIdentityProvider

RATE_WINDOW_S = 60


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


async def opened(extension: Any) -> Cellwright:
    """Cellwright, once the stores of a server that has just started are open; raises Unavailable when they are not."""
    if extension.opened is not None and not extension.opened.done():
        await asyncio.shield(extension.opened)
    if extension.failed is not None:
        raise Unavailable(f"Cellwright is not running: {extension.failed}")
    app: Cellwright = extension.cellwright
    return app


async def allowed(app: Cellwright, name: str, who: Who, level: Access) -> Session:
    """The session of that id or key, if `who` may do so much with it; raises NotFound or Forbidden."""
    found = await app.rows.find(name, who)
    if LEVELS.index(found.access) < LEVELS.index(level):
        raise Forbidden(f"The session is shared with you to {found.access} it: this needs more.")
    return found


async def within_rate(app: Cellwright, user: str) -> None:
    """Counts one more act that changes or runs something; raises TooMany."""
    limit = app.settings.rate_limit
    if limit:
        made, again_s = await app.hot.count(user, RATE_WINDOW_S)
        if made > limit:
            raise TooMany(limit, again_s)
