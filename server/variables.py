"""What a session knows of its kernel's variables, and how they changed."""

from __future__ import annotations

from typing import Any

from cellwright.kernels import injected
from cellwright.kernels.client import KernelConnection
from cellwright.kernels.errors import KernelDied, KernelUnreachable
from cellwright.server.domain import Variable
from cellwright.server.events import VariablesChanged


def known(told: dict[str, Any]) -> Variable:
    """A variable as the kernel tells it."""
    return Variable.model_validate({k: v for k, v in told.items() if k != "id"})


async def look_at(connection: KernelConnection, name: str) -> Variable | None:
    """Asks the kernel about one variable; raises KernelUnreachable while it is busy."""
    if not name.isidentifier():
        return None
    told = await connection.evaluate(injected.call("inspect", f"describe({name!r})"))
    return None if told is None else Variable.model_validate(told)


def changes(connection: KernelConnection, now: list[dict[str, Any]]) -> VariablesChanged | None:
    """How the namespace differs from what the kernel last told; remembers what it tells now."""
    before = {told["name"]: told for told in connection.last_variables}
    connection.last_variables = now
    added = [known(told) for told in now if told["name"] not in before]
    changed = [known(told) for told in now if told["name"] in before and told != before[told["name"]]]
    removed = sorted(set(before) - {told["name"] for told in now})
    if not (added or changed or removed):
        return None
    return VariablesChanged(added=added, changed=changed, removed=removed)


async def news(connection: KernelConnection) -> list[VariablesChanged]:
    """What others have changed in the namespace since the kernel last told of it."""
    now = await asked(connection)
    changed = None if now is None else changes(connection, now)
    return [] if changed is None else [changed]


async def asked(connection: KernelConnection) -> list[dict[str, Any]] | None:
    """The variables of a kernel that does not tell them unasked; None where it cannot."""
    try:
        return list(await connection.evaluate(injected.call("inspect", "told()")))
    except (KernelUnreachable, KernelDied):
        return None
