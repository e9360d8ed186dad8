"""Live text of a turn under way: gathered into about ten messages a second, with offsets and snapshots."""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType
from typing import Any

from cellwright.notebooks.outputs import Change, Clear, OutputArea, Show, Update
from cellwright.server.domain import SessionId, TurnId
from cellwright.server.store.hot import Hot

EVERY_S = 0.1
SNAPSHOT_EVERY = 500
"""Deltas after which the list of them is replaced by one snapshot, so that it stays short."""


class _Live:
    """Sends what was gathered every EVERY_S, from `async with` to its end."""

    def __init__(self, hot: Hot, session_id: SessionId, turn_id: TurnId | None) -> None:
        self._hot, self._session_id, self._turn_id = hot, session_id, turn_id
        self._sent = 0
        self._ending = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Any:
        self._task = asyncio.create_task(self._run(), name="live")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None
        self._ending.set()
        await self._task
        if error is None:
            await self._flush()

    async def _run(self) -> None:
        while not self._ending.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(EVERY_S):
                    await self._ending.wait()
                    return
            await self._flush()

    async def _flush(self) -> None:
        for delta in self._take():
            self._sent += 1
            if self._sent % SNAPSHOT_EVERY == 0:
                await self._hot.replace(self._session_id, self._envelope(self.snapshot()))
            else:
                await self._hot.publish(self._session_id, self._envelope(delta))

    def _envelope(self, delta: dict[str, Any]) -> dict[str, Any]:
        return {"turn_id": self._turn_id, **delta}

    def _take(self) -> list[dict[str, Any]]:
        raise NotImplementedError

    def snapshot(self) -> dict[str, Any]:
        raise NotImplementedError


class LiveMessage(_Live):
    """A message as a model writes it: one text per channel."""

    def __init__(self, hot: Hot, session_id: SessionId, turn_id: TurnId, message_id: str) -> None:
        super().__init__(hot, session_id, turn_id)
        self.message_id = message_id
        self._text: dict[str, str] = {}
        self._told: dict[str, int] = {}

    def add(self, channel: str, text: str) -> None:
        self._text[channel] = self._text.get(channel, "") + text

    def set(self, channel: str, text: str) -> None:
        """The whole text of a channel so far; it only grows."""
        if len(text) > len(self._text.get(channel, "")):
            self._text[channel] = text

    def _take(self) -> list[dict[str, Any]]:
        deltas = []
        for channel, text in self._text.items():
            offset = self._told.get(channel, 0)
            if len(text) > offset:
                deltas.append(
                    {
                        "type": "message.delta",
                        "message_id": self.message_id,
                        "channel": channel,
                        "offset": offset,
                        "text": text[offset:],
                    }
                )
                self._told[channel] = len(text)
        return deltas

    def snapshot(self) -> dict[str, Any]:
        return {"type": "message.snapshot", "message_id": self.message_id, "text": dict(self._text)}


class LiveCell(_Live):
    """A cell's outputs as they come. Console text of one stream is joined until it is sent."""

    def __init__(
        self, hot: Hot, session_id: SessionId, turn_id: TurnId | None, cell_id: str, execution_id: str
    ) -> None:
        super().__init__(hot, session_id, turn_id)
        self._cell_id, self._execution_id = cell_id, execution_id
        self.area = OutputArea()
        self._waiting: list[Change] = []

    def add(self, change: Change) -> None:
        self.area.apply(change)
        last = self._waiting[-1] if self._waiting else None
        if (
            isinstance(change, Show)
            and isinstance(last, Show)
            and change.output["output_type"] == last.output["output_type"] == "stream"
            and change.output["name"] == last.output["name"]
        ):
            joined = {**last.output, "text": last.output["text"] + change.output["text"]}
            self._waiting[-1] = Show(joined)
        else:
            self._waiting.append(change)

    def _take(self) -> list[dict[str, Any]]:
        taken, self._waiting = self._waiting, []
        return [
            {"type": "cell.output", "cell_id": self._cell_id, "execution_id": self._execution_id, **_told(change)}
            for change in taken
        ]

    def snapshot(self) -> dict[str, Any]:
        return {
            "type": "cell.snapshot",
            "cell_id": self._cell_id,
            "execution_id": self._execution_id,
            "outputs": self.area.outputs,
        }


def _told(change: Change) -> dict[str, Any]:
    match change:
        case Show(output, display_id):
            return {"output": output, "display_id": display_id}
        case Update(display_id, data, metadata):
            return {"update": {"data": dict(data), "metadata": dict(metadata)}, "display_id": display_id}
        case Clear(wait):
            return {"clear": {"wait": wait}}


def heard(delta: dict[str, Any]) -> Change:
    """The change that a `cell.output` delta tells."""
    if "clear" in delta:
        return Clear(delta["clear"]["wait"])
    if "update" in delta:
        return Update(delta["display_id"], delta["update"]["data"], delta["update"]["metadata"])
    return Show(delta["output"], delta.get("display_id"))


def joined(deltas: list[dict[str, Any]]) -> dict[str, Any]:
    """One snapshot that says what all `deltas` of a list, at least one, say."""
    if deltas[-1]["type"].startswith("message."):
        text: dict[str, str] = {}
        for delta in deltas:
            if delta["type"] == "message.snapshot":
                text = dict(delta["text"])
            elif delta["type"] == "message.delta":
                text[delta["channel"]] = text.get(delta["channel"], "")[: delta["offset"]] + delta["text"]
        return {
            "type": "message.snapshot",
            "turn_id": deltas[-1]["turn_id"],
            "message_id": deltas[-1]["message_id"],
            "text": text,
        }
    area = OutputArea()
    for delta in deltas:
        if delta["type"] == "cell.snapshot":
            area = OutputArea()
            for output in delta["outputs"]:
                area.apply(Show(output))
        elif delta["type"] == "cell.output":
            area.apply(heard(delta))
    last = deltas[-1]
    return {
        "type": "cell.snapshot",
        "turn_id": last["turn_id"],
        "cell_id": last["cell_id"],
        "execution_id": last["execution_id"],
        "outputs": area.outputs,
    }
