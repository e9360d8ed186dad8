"""The server itself: health, agents, models, the API's own description."""

from __future__ import annotations

from typing import Any

from cellwright.extension.endpoint import Call, Route
from cellwright.server.agent.profiles import profiles
from cellwright.server.app import Check
from pydantic import BaseModel


class Health(BaseModel):
    status: str
    version: str
    stores: dict[str, dict[str, Any]]
    kernels: dict[str, int]
    model: str | None
    agents: list[str]


class Agent(BaseModel):
    name: str
    description: str
    tools: list[str]
    max_iterations: int


class AgentList(BaseModel):
    agents: list[Agent]


class Setting(BaseModel):
    name: str
    value: str
    source: str


class SettingList(BaseModel):
    data_dir_in_use_by: dict[str, Any] | None
    root: str
    settings: list[Setting]


async def health(call: Call) -> Health:
    found = Health(**await call.app.health())
    if found.status == "unavailable":
        call.extra["status"] = 503
    return found


async def agents(call: Call) -> AgentList:
    most = call.app.settings.max_iterations
    return AgentList(
        agents=[
            Agent(name=p.name, description=p.description, tools=list(p.tools), max_iterations=p.max_iterations or most)
            for p in profiles().values()
        ]
    )


async def settings(call: Call) -> SettingList:
    rows = [Setting(name=n, value=v, source=s) for n, v, s in call.app.settings.described()]
    return SettingList(data_dir_in_use_by=call.app.folder.owner(), root=str(call.app.root), settings=rows)


class CheckList(BaseModel):
    checks: list[Check]


async def check(call: Call) -> CheckList:
    return CheckList(checks=await call.app.examine())


async def openapi(call: Call) -> dict[str, Any]:
    from cellwright.extension.openapi import document
    from cellwright.extension.routes import ROUTES

    return document(ROUTES, call.handler.settings["base_url"])


ROUTES = [
    Route(
        "GET", "/health", health, "Whether everything answers, by real round trips", None, None, Health, errors=(503,)
    ),
    Route("GET", "/agents", agents, "Agents, their tools and limits", None, None, AgentList),
    Route("GET", "/settings", settings, "Each setting with its source, secrets masked", None, None, SettingList),
    Route(
        "POST",
        "/check",
        check,
        "Examines stores, kernel and model by using each",
        None,
        None,
        CheckList,
        action="execute",
    ),
    Route("GET", "/openapi.json", openapi, "This API, described"),
]
