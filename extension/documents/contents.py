"""Every save of a session's notebook, from whatever client, is merged with what the log holds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from cellwright.notebooks.errors import InvalidNotebook
from cellwright.server.app import Cellwright
from cellwright.server.errors import CellwrightError
from jupyter_core.utils import ensure_async

log = structlog.get_logger(__name__)


class PlainContents:
    """A contents manager's own ways, as they were before saves were merged."""

    def __init__(self, manager: Any) -> None:
        self.get, self.save, self.exists = manager.get, manager.save, manager.exists


def merge_saves(manager: Any, plain: PlainContents, running: Callable[[], Cellwright | None]) -> None:
    """Has the contents manager's `save` take what a user typed into the log before anything is written.

    A `pre_save_hook` would be the usual place, but it cannot wait for a database. Where we do not run, or cannot take
    it in, the file is written as it came: it is taken in when the session's next turn begins.
    """

    async def save(model: dict[str, Any], path: str = "") -> Any:
        app = running()
        session_id = _session_of(model)
        if app is None or session_id is None:
            return await ensure_async(plain.save(model, path))

        async def write(merged: dict[str, Any]) -> Any:
            return await ensure_async(plain.save(merged, path))

        return await merged(app, session_id, model, path, write)

    manager.save = save


async def merged(
    app: Cellwright,
    session_id: str,
    model: dict[str, Any],
    path: str,
    write: Callable[[dict[str, Any]], Awaitable[Any]],
) -> Any:
    """Writes a notebook as it is when both sides are joined; what the contents manager answered.

    Whatever goes wrong in joining them, what the user saved is written; only where that fails, the save does.
    """
    written: list[Any] = []
    refused: list[Exception] = []

    async def once(joined: dict[str, Any]) -> Any:
        try:
            written.append(await write(joined))
        except Exception as error:
            refused.append(error)
            raise
        return written[0]

    try:
        session = await app.rows.get(session_id)
        if session.notebook_path == path.strip("/"):
            return await app.notebooks.take(session, model, once)
    except (CellwrightError, InvalidNotebook) as error:
        log.warning("save_not_merged", path=path, error=str(error))
    except Exception:
        if refused:
            raise
        log.exception("save_not_merged", path=path)
    return written[0] if written else await write(model)


def _session_of(model: dict[str, Any]) -> str | None:
    """The session that a notebook says it belongs to."""
    content = model.get("content")
    if model.get("type") != "notebook" or not isinstance(content, dict):
        return None
    ours = content.get("metadata", {}).get("cellwright") if isinstance(content.get("metadata"), dict) else None
    found = ours.get("session_id") if isinstance(ours, dict) else None
    return found if isinstance(found, str) else None
