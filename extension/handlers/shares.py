"""Letting others into a session."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from cellwright.extension.endpoint import Call, Route
from cellwright.extension.handlers.models import Body
from cellwright.server.domain import Share
from cellwright.server.sharing import LINK_HOURS
from pydantic import BaseModel, Field


class NewShare(Body):
    """With a user, or without one by a link."""

    role: Literal["read", "write"] = Field("read", description="read: see everything, run nothing; write: also ask")
    user: str | None = Field(
        None, min_length=1, max_length=200, description="A user's name; unset: whoever has the link"
    )
    expires_hours: float | None = Field(
        None, gt=0, le=24 * 366, description=f"unset: a user's share never ends, a link after {LINK_HOURS:.0f} hours"
    )


class ShareRow(BaseModel):
    id: str
    role: str
    user: str | None
    created_by: str
    created_at: datetime
    expires_at: datetime | None


class MadeShare(ShareRow):
    token: str | None = Field(description="Of a link; told this once. Send it as X-Cellwright-Share or ?share_token=")
    url: str | None = Field(description="The session through the link")


class ShareList(BaseModel):
    shares: list[ShareRow]


def _fields(share: Share) -> dict[str, object]:
    kept = share.model_dump(include={"id", "role", "created_by", "created_at", "expires_at"})
    return {**kept, "user": share.user_name}


async def list_shares(call: Call) -> ShareList:
    shares = await call.app.sharing.of(await call.session())
    return ShareList(shares=[ShareRow.model_validate(_fields(share)) for share in shares])


async def make(call: Call) -> MadeShare:
    session, body = await call.session(), call.body
    share, token = await call.app.sharing.make(session, call.owner, body.role, body.user, body.expires_hours)
    request = call.handler.request
    base = f"{request.protocol}://{request.host}{call.handler.settings['base_url']}cellwright/api/v1"
    url = None if token is None else f"{base}/sessions/{session.id}?share_token={token}"
    return MadeShare.model_validate({**_fields(share), "token": token, "url": url})


async def revoke(call: Call) -> None:
    share = await call.app.sharing.get(call.path["share"])
    await call.may_within("share", share.id, share.session_id)
    await call.app.sharing.revoke(share, call.owner)


ROUTES = [
    Route(
        "GET",
        "/sessions/{session}/shares",
        list_shares,
        "With whom the session is shared",
        None,
        None,
        ShareList,
        errors=(404,),
        needs="own",
    ),
    Route(
        "POST",
        "/sessions/{session}/shares",
        make,
        "Share the session with a user, or by a link that expires. Without a login a link is for reading only",
        None,
        NewShare,
        MadeShare,
        201,
        (404,),
        "write",
        needs="own",
        told_once=("token", "url"),
        example={"role": "read", "expires_hours": 24},
    ),
    Route(
        "DELETE",
        "/shares/{share}",
        revoke,
        "End a share at once",
        status=204,
        errors=(404,),
        action="write",
        needs="own",
    ),
]
