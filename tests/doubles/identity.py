"""An identity provider with named users, and an authorizer under which one of them may only read."""

from __future__ import annotations

from typing import Any

from jupyter_server.auth.authorizer import Authorizer
from jupyter_server.auth.identity import IdentityProvider, User

ARGUMENTS = (
    "--ServerApp.identity_provider_class=tests.doubles.identity.NamedUsers",
    "--ServerApp.authorizer_class=tests.doubles.identity.OneOnlyReads",
)
"""With these, and the project on its path, a server has named users."""

USERS = ("ann", "bob", "eve")
READER = "eve"


class NamedUsers(IdentityProvider):
    """The token `token-ann` is ann's."""

    async def get_user_token(self, handler: Any) -> User | None:
        token = self.get_token(handler) or ""
        name = token.removeprefix("token-")
        return User(username=name) if token.startswith("token-") and name in USERS else None

    @property
    def auth_enabled(self) -> bool:
        return True


class OneOnlyReads(Authorizer):
    """Eve may read, all others may do anything."""

    def is_authorized(self, handler: Any, user: User, action: str, resource: str) -> bool:
        return user.username != READER or action == "read"
