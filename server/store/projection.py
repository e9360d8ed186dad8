"""What each event means for the tables: written in the transaction that appends the event."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from cellwright.notebooks.document import Cell, CellId
from cellwright.notebooks.outputs import references
from cellwright.server import events as e
from cellwright.server.domain import Message, Usage
from cellwright.server.store import postgres, queries

SQL = queries.load("projection")
OBJECTS = queries.load("artifacts")
CHECKPOINTS = queries.load("checkpoints")
PREVIEW_CHARACTERS = 100

Connection = postgres.Connection


async def project(connection: Connection, record: e.Record) -> None:
    """Writes what `record` describes."""
    write = _PROJECTIONS.get(type(record.event))
    if write is not None:
        await write(connection, record, record.event)


async def _session_changed(connection: Connection, record: e.Record, event: e.SessionChanged) -> None:
    await connection.execute(SQL.change_session, record.session_id, event.changes)


async def _title_changed(connection: Connection, record: e.Record, event: e.TitleChanged) -> None:
    await connection.execute(SQL.set_title, record.session_id, event.title, event.by)


async def _turn_queued(connection: Connection, record: e.Record, event: e.TurnQueued) -> None:
    request = event.request.model_dump(mode="json")
    await connection.execute(
        SQL.insert_turn, event.turn_id, record.session_id, event.n, event.query, request, record.at
    )
    await _insert_message(connection, record, event.message)


async def _turn_started(connection: Connection, record: e.Record, event: e.TurnStarted) -> None:
    await connection.execute(SQL.start_turn, event.turn_id, record.at, record.session_id, record.seq)


async def _turn_ended(connection: Connection, record: e.Record, event: e.TurnEnded) -> None:
    status = event.type.removeprefix("turn.")
    usage = event.usage.model_dump()
    told = (event.turn_id, status, event.answer, event.cause, usage, record.at)
    await connection.execute(SQL.end_turn, *told, record.seq)
    await connection.execute(SQL.insert_snapshot, record.session_id, event.turn_id)
    await connection.execute(SQL.rest_session, record.session_id)


async def _message_completed(connection: Connection, record: e.Record, event: e.MessageCompleted) -> None:
    await _insert_message(connection, record, event.message)
    await _add_usage(connection, record, event)


async def _add_usage(connection: Connection, record: e.Record, event: e.MessageCompleted | e.Used) -> None:
    if event.usage.calls:
        before = Usage.model_validate(await connection.fetchval(SQL.read_usage, record.session_id))
        await connection.execute(SQL.add_usage, record.session_id, (before + event.usage).model_dump())


async def _insert_message(connection: Connection, record: e.Record, message: Message) -> None:
    await connection.execute(
        SQL.insert_message,
        message.id,
        record.session_id,
        message.turn_id,
        record.seq,
        message.role,
        message.content,
        message.code,
        message.thoughts,
        [call.model_dump() for call in message.tool_calls],
        message.token_count,
        message.model,
        message.agent,
        message.response_time_ms,
        message.is_error,
        message.metadata,
        record.at,
        " ".join(message.content.split())[:PREVIEW_CHARACTERS],
    )


async def _message_edited(connection: Connection, record: e.Record, event: e.MessageEdited) -> None:
    preview = " ".join(event.content.split())[:PREVIEW_CHARACTERS]
    await connection.execute(SQL.edit_message, event.message_id, event.content, preview)


async def _message_deleted(connection: Connection, record: e.Record, event: e.MessageDeleted) -> None:
    await connection.execute(SQL.delete_message, event.message_id, record.session_id)


async def _context_changed(connection: Connection, record: e.Record, event: e.ContextChanged) -> None:
    if event.context is not None:
        await connection.execute(SQL.set_context, record.session_id, event.context)
    if event.forget_summary:
        await connection.execute(SQL.set_summary, record.session_id, None)
    if event.summary is not None:
        await connection.execute(SQL.set_summary, record.session_id, event.summary.model_dump())


async def _artifact_changed(connection: Connection, record: e.Record, event: e.ArtifactChanged) -> None:
    await connection.execute(SQL.change_artifact, event.artifact_id, event.changes)


async def _artifact_deleted(connection: Connection, record: e.Record, event: e.ArtifactDeleted) -> None:
    await connection.execute(SQL.delete_artifact, event.artifact_id, record.session_id)


async def _tool_completed(connection: Connection, record: e.Record, event: e.ToolCompleted) -> None:
    await connection.execute(SQL.add_tool_result, event.message_id, event.result.model_dump())


async def _cell_started(connection: Connection, record: e.Record, event: e.CellStarted) -> None:
    await connection.execute(
        SQL.insert_run,
        event.execution_id,
        record.session_id,
        event.turn_id,
        event.message_id,
        event.cell_id,
        event.call_id,
        event.source,
        event.purpose,
        event.kernel_id,
        event.kernel_incarnation,
        record.at,
    )
    cell = Cell(CellId(event.cell_id), "code", event.source, metadata=event.metadata)
    await _write_cell(connection, record, cell, after=event.after)


async def _cell_completed(connection: Connection, record: e.Record, event: e.CellCompleted) -> None:
    status, cause = event.status.value, event.cause
    await connection.execute(
        SQL.end_run,
        event.execution_id,
        status,
        cause,
        event.execution_count,
        event.duration_ms,
        record.at,
        event.text,
    )
    if event.message_id is not None:
        entry = {
            "cell_id": event.cell_id,
            "status": status,
            "duration_ms": event.duration_ms,
            "text": event.text[:2_000],
        }
        await connection.execute(SQL.add_execution_log, event.message_id, entry)
    row = await connection.fetchrow(SQL.cell_now, record.session_id, event.cell_id)
    if row is None:  # The user deleted the cell while it ran.
        return
    cell = Cell(
        CellId(event.cell_id), row["kind"], row["source"], tuple(event.outputs), event.execution_count, row["metadata"]
    )
    await _write_cell(connection, record, cell, after=None)


async def _cells_edited(connection: Connection, record: e.Record, event: e.CellsEdited) -> None:
    for edit in event.edits:
        match edit.op:
            case "delete":
                await _close(connection, record, edit.cell_id)
                await connection.execute(SQL.set_revision, record.session_id, record.seq)
            case "move":
                row = await connection.fetchrow(SQL.cell_now, record.session_id, edit.cell_id)
                if row is None:
                    continue
                await _close(connection, record, edit.cell_id)
                place = await connection.fetchval(SQL.place_behind, record.session_id, edit.after)
                await connection.execute(
                    SQL.open_cell, record.session_id, edit.cell_id, row["version"], place, record.seq
                )
                await connection.execute(SQL.set_revision, record.session_id, record.seq)
            case _:
                assert edit.cell is not None
                if edit.op == "replace":
                    held = await connection.fetchrow(SQL.cell_now, record.session_id, edit.cell_id)
                    if held is None:  # Deleted meanwhile: a change of it must not bring it back.
                        continue
                await _write_cell(connection, record, content_cell(edit.cell), after=edit.after)


def content_cell(content: e.CellContent) -> Cell:
    """The notebook's cell for what an event holds of it."""
    return Cell(
        CellId(content.id),
        content.kind,
        content.source,
        tuple(content.outputs),
        content.execution_count,
        content.metadata,
    )


async def _write_cell(connection: Connection, record: e.Record, cell: Cell, *, after: str | None) -> None:
    """Puts a version of a cell in its place: where the cell stands, or behind `after` if it is not there yet."""
    await connection.execute(
        SQL.put_cell,
        record.session_id,
        cell.id,
        cell.version,
        cell.kind,
        cell.source,
        list(cell.outputs),
        cell.execution_count,
        dict(cell.metadata),
        list(references(cell.outputs)),
        after,
        record.seq,
    )


async def _close(connection: Connection, record: e.Record, cell_id: str) -> None:
    await connection.execute(SQL.close_cell, record.session_id, cell_id, record.seq)
    await connection.execute(SQL.drop_empty_intervals, record.session_id, cell_id, record.seq)


async def _artifact_ready(connection: Connection, record: e.Record, event: e.ArtifactReady | e.FileUploaded) -> None:
    artifact = event.artifact
    await connection.execute(OBJECTS.refer, artifact.sha256, record.session_id, f"artifact:{artifact.id}")
    await connection.execute(
        SQL.artifact_is_ready, artifact.id, artifact.sha256, artifact.size_bytes, artifact.metadata, record.seq
    )


async def _kernel_changed(connection: Connection, record: e.Record, event: e.KernelChanged) -> None:
    kernel_id = None if event.status in ("died", "hibernated") else event.kernel_id
    hibernated = event.status == "hibernated"
    await connection.execute(SQL.set_kernel, record.session_id, kernel_id, event.incarnation, hibernated)


async def _checkpoint_created(connection: Connection, record: e.Record, event: e.CheckpointCreated) -> None:
    told = event.model_dump(mode="json", include={"kind", "kept", "skipped", "manifest"})
    await connection.execute(
        CHECKPOINTS.insert_checkpoint,
        event.checkpoint_id,
        record.session_id,
        event.of_turn,
        record.seq,
        event.label,
        told,
        event.size_bytes,
        {"kind": event.kind, "incarnation": event.incarnation},
        record.at,
    )
    objects = list(event.manifest["sizes"])
    await connection.execute(CHECKPOINTS.refer, objects, record.session_id, f"checkpoint:{event.checkpoint_id}")


async def _workspace_saved(connection: Connection, record: e.Record, event: e.WorkspaceSaved) -> None:
    files = [file.model_dump() for file in event.files]
    left_out = [file.model_dump() for file in event.left_out]
    await connection.execute(SQL.insert_workspace, record.session_id, event.version, files, left_out)
    named = [file.sha256 for file in event.files]
    await connection.execute(SQL.refer_all, named, record.session_id, f"workspace:{event.version}")
    await connection.execute(SQL.set_workspace, record.session_id, event.version)


async def _head_moving(connection: Connection, record: e.Record, event: e.HeadMoving) -> None:
    await connection.execute(SQL.set_moving, record.session_id, event.moving.model_dump())


async def _head_stayed(connection: Connection, record: e.Record, event: e.HeadStayed) -> None:
    await connection.execute(SQL.set_moving, record.session_id, None)


async def _head_moved(connection: Connection, record: e.Record, event: e.HeadMoved) -> None:
    await connection.execute(
        SQL.move_head,
        record.session_id,
        event.to_turn_id,
        event.redo,
        event.context,
        None if event.summary is None else event.summary.model_dump(),
        event.workspace_version,
        [list(part) for part in event.line],
        record.seq,
    )
    await connection.execute(SQL.mark_limbs, record.session_id)


_PROJECTIONS: dict[type[Any], Callable[[Connection, e.Record, Any], Awaitable[None]]] = {
    e.SessionChanged: _session_changed,
    e.TitleChanged: _title_changed,
    e.TurnQueued: _turn_queued,
    e.TurnStarted: _turn_started,
    e.TurnCompleted: _turn_ended,
    e.TurnFailed: _turn_ended,
    e.TurnStopped: _turn_ended,
    e.TurnInterrupted: _turn_ended,
    e.MessageCompleted: _message_completed,
    e.Used: _add_usage,
    e.MessageEdited: _message_edited,
    e.MessageDeleted: _message_deleted,
    e.ContextChanged: _context_changed,
    e.ArtifactChanged: _artifact_changed,
    e.ArtifactDeleted: _artifact_deleted,
    e.ToolCompleted: _tool_completed,
    e.CellStarted: _cell_started,
    e.CellCompleted: _cell_completed,
    e.CellsEdited: _cells_edited,
    e.FileUploaded: _artifact_ready,
    e.ArtifactReady: _artifact_ready,
    e.KernelChanged: _kernel_changed,
    e.CheckpointCreated: _checkpoint_created,
    e.WorkspaceSaved: _workspace_saved,
    e.HeadMoving: _head_moving,
    e.HeadStayed: _head_stayed,
    e.HeadMoved: _head_moved,
}
