"""The session's kernel, its variables, and the files around it."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from datetime import UTC, datetime

from cellwright.extension.endpoint import Call, Route
from cellwright.extension.handlers.models import Body
from cellwright.kernels.client import KernelConnection
from cellwright.server.domain import SessionStatus, Variable, VariablesBack
from cellwright.server.errors import NotFound
from cellwright.server.kernel_life import workspace_of
from cellwright.server.revival import Again
from pydantic import BaseModel, Field


class Kernel(BaseModel):
    id: str | None
    name: str
    status: str = Field(description="starting, idle, busy, hibernated, elsewhere (on another server) or none")
    incarnation: int
    memory_bytes: int | None = Field(None, description="Resident memory of the kernel's process")
    cpu_s: float | None = None
    started_at: datetime | None = None
    missing: list[str] = Field([], description="What this kernel cannot do, by name")


class Recover(Body):
    dry_run: bool = Field(False, description="Only say what would happen")
    rerun: Again = Field(
        "safe",
        description="Which cells may run again to make what is not stored: safe leaves those out that look as if they "
        "reached outside",
    )


class VariableList(BaseModel):
    variables: list[Variable]


class FileRow(BaseModel):
    name: str
    size_bytes: int
    modified: datetime
    artifact_id: str | None


class FileList(BaseModel):
    workspace: str
    files: list[FileRow]


async def get(call: Call) -> Kernel:
    session = await call.session()
    connection = call.app.sessions.kernel(session)
    used = await asyncio.to_thread(connection.usage) if connection else None
    absent = "elsewhere" if session.kernel_id else "none"
    if session.status is SessionStatus.HIBERNATED:
        absent = "hibernated"
    return Kernel(
        id=connection.kernel_id if connection else session.kernel_id,
        name=session.kernel_name or call.app.settings.kernel_name,
        status=call.app.sessions.kernel_status(session) or absent,
        incarnation=session.kernel_incarnation,
        missing=lacks(connection) if connection else [],
        **(asdict(used) if used else {}),
    )


def lacks(connection: KernelConnection) -> list[str]:
    """What Cellwright's own kernels have and this one does not."""
    missing = []
    if not connection.ours:
        missing = ["at most once across servers", "output kept while no server listens", "bounded output", "limits"]
    if connection.remote:
        missing.append("adoption after the gateway restarts it")
    if not connection.shares_disk:
        missing.append("the workspace's files")
    return missing


async def act(call: Call) -> Kernel:
    session = await call.session()
    match call.path["action"]:
        case "interrupt":
            await call.app.sessions.interrupt(session)
        case "restart":
            await call.app.sessions.restart(session)
        case "hibernate":
            await call.app.sessions.hibernate(session)
        case "wake":
            await call.app.sessions.wake(session)
        case other:
            raise NotFound("kernel action", other)
    return await get(call)


async def recover(call: Call) -> VariablesBack:
    session, asked = await call.session(), call.body
    if asked.dry_run:
        return await call.app.rewind.recovery(session, asked.rerun)
    return await call.app.rewind.recover(session, asked.rerun, await call.app.turns.owned(session.id))


async def variables(call: Call) -> VariableList:
    return VariableList(variables=await call.app.sessions.variables(await call.session()))


async def variable(call: Call) -> Variable:
    return await call.app.sessions.variable(await call.session(), call.path["name"])


async def files(call: Call) -> FileList:
    session = await call.session()
    found = await asyncio.to_thread(workspace_of(call.app.root, session).files)
    artifacts = await call.app.artifacts.files(session.id)
    rows = [
        FileRow(
            name=file.name,
            size_bytes=file.size_bytes,
            modified=datetime.fromtimestamp(file.modified_ns / 1e9, UTC),
            artifact_id=artifacts[file.name].id if file.name in artifacts else None,
        )
        for file in found
    ]
    return FileList(workspace=session.workspace, files=rows)


ROUTES = [
    Route("GET", "/sessions/{session}/kernel", get, "The session's kernel", None, None, Kernel, errors=(404,)),
    Route(
        "POST",
        "/sessions/{session}/kernel/recover",
        recover,
        "Bring back what a kernel that was lost held: stored variables, and cells that run again, each compared",
        None,
        Recover,
        VariablesBack,
        200,
        (404, 409),
        "execute",
        example={"dry_run": True},
    ),
    Route(
        "POST",
        "/sessions/{session}/kernel/{action}",
        act,
        "interrupt, restart, hibernate or wake",
        None,
        None,
        Kernel,
        200,
        (404, 409),
        "execute",
    ),
    Route(
        "GET",
        "/sessions/{session}/variables",
        variables,
        "Variables in the kernel",
        None,
        None,
        VariableList,
        errors=(404,),
    ),
    Route(
        "GET",
        "/sessions/{session}/variables/{name}",
        variable,
        "One variable: a table's columns, null counts and first rows",
        None,
        None,
        Variable,
        errors=(404, 409),
    ),
    Route("GET", "/sessions/{session}/files", files, "The workspace's files", None, None, FileList, errors=(404,)),
]
