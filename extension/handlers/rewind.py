"""Going back and forth, branches, snapshots and named checkpoints."""

from __future__ import annotations

import re
from typing import Literal

from cellwright.extension.endpoint import Call, Route
from cellwright.extension.handlers.models import Body, Page, Query, SessionDetail
from cellwright.extension.handlers.notebook import Notebook
from cellwright.extension.handlers.sessions import KEY, detail
from cellwright.notebooks import codec
from cellwright.server.comparison import Comparison
from cellwright.server.domain import Rewound, Session
from cellwright.server.errors import Invalid, NotFound
from cellwright.server.named import Merge, NamedCheckpoint
from cellwright.server.revival import Again
from cellwright.server.rewind import Before, Why
from cellwright.server.store.ways import Way
from pydantic import BaseModel, Field

TURN = r"^(\d{1,9}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})$"


class Move(Body):
    to_turn: int | str | None = Field(
        None, description="A turn's number or id, 0 for before the first; by default one turn back, or forth"
    )
    before_turn: int | str | None = Field(
        None, description="In place of to_turn: to where this turn was asked, to ask it otherwise"
    )
    dry_run: bool = Field(False, description="Only say what would happen")
    rerun: Again = Field(
        "safe",
        description="Which cells may run again to make what is not stored: safe leaves those out that look as if they "
        "reached outside",
    )


class NewBranch(Body):
    from_turn: int | str | None = Field(None, description="A turn's number or id; by default where the session is now")
    title: str | None = Field(None, min_length=1, max_length=200)
    key: str | None = Field(None, min_length=1, max_length=120, pattern=KEY)


class SnapshotRow(BaseModel):
    """The notebook after a turn."""

    revision: int
    turn_id: str
    turn: int
    limb: bool = Field(description="Whether a rewind left the turn behind")
    created_at: str


class SnapshotList(BaseModel):
    snapshots: list[SnapshotRow]
    total: int
    limit: int
    offset: int


class CheckpointList(BaseModel):
    checkpoints: list[NamedCheckpoint]
    total: int
    limit: int
    offset: int


class Compared(Query):
    turn: str | None = Field(None, description="A turn's number or id; by default where the session is")
    other: str | None = Field(None, description="Another session, by id or key; by default the same one")
    other_turn: str | None = Field(None, description="A turn of that; by default where it is")


class NewCheckpoint(Body):
    label: str = Field(min_length=1, max_length=200)


class Restore(Body):
    merge: Merge = Field(
        "replace", description="What becomes of the session's facts: those of then, joined to those of now, or some"
    )
    keys: list[str] = Field([], max_length=100, description="For selective")
    into: str | None = Field(None, description="Another session, which takes the facts over; nothing else is moved")
    dry_run: bool = False
    rerun: Again = "safe"


class Restored(BaseModel):
    """What a restore did; null where it only took facts over into another session."""

    rewound: Rewound | None


def _named(turn: int | str | None) -> int | str | None:
    if isinstance(turn, str) and not re.fullmatch(TURN, turn):
        raise Invalid(f"{turn[:80]!r} is no turn: give its number or its id.")
    if isinstance(turn, int) and not 0 <= turn < 2**31:
        raise NotFound("turn", str(turn))
    return turn


async def _move(call: Call, why: Why) -> Rewound:
    session, body = await call.session(), call.body
    if body.to_turn is not None and body.before_turn is not None:
        raise Invalid("Give either to_turn or before_turn.")
    before = _named(body.before_turn)
    to = _named(body.to_turn) if before is None else Before(before)
    generation = await call.app.turns.owned(session.id)
    if body.dry_run:
        return await call.app.rewind.preview(session, why, to, body.rerun, generation)
    return await call.app.rewind.go(session, why, to, call.owner, generation, body.rerun)


async def undo(call: Call) -> Rewound:
    return await _move(call, "undo")


async def redo(call: Call) -> Rewound:
    return await _move(call, "redo")


async def branch(call: Call) -> SessionDetail:
    session, body = await call.session(), call.body
    generation = await call.app.turns.owned(session.id)
    made = await call.app.branches.make(
        session,
        call.owner,
        call.owner,
        generation,
        from_turn=_named(body.from_turn),
        title=body.title,
        key=body.key,
    )
    return await detail(call, made)


async def snapshots(call: Call) -> SnapshotList:
    session, asked = await call.session(), call.query
    rows, total = await call.app.rows.snapshots(session.id, asked.limit, asked.offset)
    found = [SnapshotRow(**row) for row in rows]
    return SnapshotList(snapshots=found, total=total, limit=asked.limit, offset=asked.offset)


async def snapshot(call: Call) -> Notebook:
    session, name = await call.session(), call.path["revision"]
    if not name.isdecimal() or not 0 <= int(name) <= session.revision:
        raise NotFound("revision", name)
    return Notebook(**codec.encode(await call.app.notebooks.document(session, int(name))))


async def difference(call: Call) -> Comparison:
    asked: Compared = call.query
    session = await call.session()
    other = session if asked.other is None else await call.may(asked.other, "read")
    for compared in (session, other):
        await call.app.rewind.settled(compared.id)
    points = [(session, asked.turn), (other, asked.other_turn)]
    one, two = [(found, await _point(call, found, turn)) for found, turn in points]
    return await call.app.comparisons.between(one, two)


async def _point(call: Call, session: Session, turn: str | None) -> Way:
    named = _named(int(turn) if turn is not None and turn.isdecimal() else turn)
    if named is None:
        return await call.app.ways.now(session)
    found = None if named == 0 else (await call.app.rewind.turn(session, named)).id
    return await call.app.ways.to(session.id, found)


async def checkpoints(call: Call) -> CheckpointList:
    session, asked = await call.session(), call.query
    found, total = await call.app.points.page(session, asked.limit, asked.offset)
    return CheckpointList(checkpoints=found, total=total, limit=asked.limit, offset=asked.offset)


async def make_checkpoint(call: Call) -> NamedCheckpoint:
    session = await call.session()
    generation = await call.app.turns.owned(session.id)
    return await call.app.points.make(session, call.body.label, call.owner, generation)


async def restore(call: Call) -> Restored:
    body: Restore = call.body
    point, _ = await call.app.points.find(call.path["checkpoint"])
    session = await call.may_within("checkpoint", point.id, point.session_id)
    if body.merge != "selective" and body.keys:
        raise Invalid("Keys are for merge: selective.")
    if body.into is not None:
        other = await call.may(body.into, "write")
        await call.app.points.into(point.id, other, body.merge, body.keys, call.owner)
        return Restored(rewound=None)
    generation = await call.app.turns.owned(session.id)
    return Restored(
        rewound=await call.app.points.restore(
            session,
            point.id,
            body.merge,
            body.keys,
            call.owner,
            generation,
            body.rerun,
            dry_run=body.dry_run,
        )
    )


def _moving(name: Literal["undo", "redo"], summary: str) -> Route:
    call = undo if name == "undo" else redo
    path = f"/sessions/{{session}}/{name}"
    return Route(
        "POST", path, call, summary, None, Move, Rewound, 200, (404, 409), "execute", example={"dry_run": True}
    )


ROUTES = [
    _moving("undo", "Go back: conversation, notebook, files and variables together. Nothing is deleted"),
    _moving("redo", "Go forth again, until a new turn is asked"),
    Route(
        "POST",
        "/sessions/{session}/branch",
        branch,
        "A new session with the conversation, notebook, files and variables as they stood after a turn",
        None,
        NewBranch,
        SessionDetail,
        201,
        (404, 409),
        "execute",
        example={"title": "The same with medians"},
    ),
    Route(
        "GET",
        "/sessions/{session}/snapshots",
        snapshots,
        "The notebook's revisions after every turn",
        Page,
        None,
        SnapshotList,
        errors=(404,),
    ),
    Route(
        "GET",
        "/sessions/{session}/snapshots/{revision}",
        snapshot,
        "The notebook as it was at a revision",
        None,
        None,
        Notebook,
        errors=(404,),
    ),
    Route(
        "GET",
        "/sessions/{session}/diff",
        difference,
        "What a second point has otherwise than a first: turns, cells, outputs, files, variables, artifacts",
        Compared,
        None,
        Comparison,
        errors=(404, 409),
    ),
    Route(
        "GET",
        "/sessions/{session}/checkpoints",
        checkpoints,
        "Named points, newest first",
        Page,
        None,
        CheckpointList,
        errors=(404,),
    ),
    Route(
        "POST",
        "/sessions/{session}/checkpoints",
        make_checkpoint,
        "Name the point where the session is: conversation, notebook, files, variables",
        None,
        NewCheckpoint,
        NamedCheckpoint,
        201,
        (404, 409),
        "execute",
        example={"label": "before cleaning"},
    ),
    Route(
        "POST",
        "/checkpoints/{checkpoint}/restore",
        restore,
        "Go back to a named point, or take its facts over into another session",
        None,
        Restore,
        Restored,
        200,
        (404, 409),
        "execute",
        example={"merge": "replace", "dry_run": True},
    ),
]
