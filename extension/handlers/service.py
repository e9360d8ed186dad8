"""The server itself: health, agents, models, the API's own description."""

from __future__ import annotations

from typing import Any

from cellwright.extension.endpoint import Call, Route
from cellwright.extension.handlers.models import Body, Query, Time
from cellwright.server.agent.profiles import profile, profiles
from cellwright.server.app import Check
from cellwright.server.cleaning import Cleaned
from cellwright.server.models.catalog import KnownModel
from cellwright.server.preferences import Preferences
from cellwright.server.usage import By, UsageRow
from pydantic import BaseModel, Field


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


class ModelList(BaseModel):
    models: list[KnownModel]


class UsageQuery(Query):
    since: Time | None = Field(None, alias="from")
    until: Time | None = Field(None, alias="to")
    by: By = "day"


class UsageList(BaseModel):
    usage: list[UsageRow]


class Clean(Body):
    dry_run: bool = False


class CleanList(BaseModel):
    dry_run: bool
    cleaned: list[Cleaned]


async def models(call: Call) -> ModelList:
    return ModelList(models=await call.app.models.known())


async def usage(call: Call) -> UsageList:
    asked: UsageQuery = call.query
    return UsageList(usage=await call.app.used(call.owner, asked.by, asked.since, asked.until))


async def clean(call: Call) -> CleanList:
    return CleanList(dry_run=call.body.dry_run, cleaned=await call.app.cleaner.clean(dry_run=call.body.dry_run))


async def preferences(call: Call) -> Preferences:
    return await call.app.preferences.of(call.owner)


async def change_preferences(call: Call) -> Preferences:
    changes = call.body.model_dump(exclude_unset=True)
    if changes.get("default_agent") is not None:
        profile(changes["default_agent"])
    if changes.get("default_model") is not None:
        await call.app.models.check(changes["default_model"])
    return await call.app.preferences.change(call.owner, changes)


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
    Route("GET", "/models", models, "Models that are set up, and whether they answer", None, None, ModelList),
    Route("GET", "/usage", usage, "What your model calls cost", UsageQuery, None, UsageList),
    Route("GET", "/preferences", preferences, "Your preferences", None, None, Preferences),
    Route(
        "PATCH",
        "/preferences",
        change_preferences,
        "Change some of your preferences",
        None,
        Preferences,
        Preferences,
        action="write",
        example={"max_context_messages": 20, "approval": "ask-risky"},
    ),
    Route(
        "POST",
        "/clean",
        clean,
        "Clean up now what is cleaned every CLEAN_EVERY_S; dry_run only counts",
        None,
        Clean,
        CleanList,
        action="execute",
        example={"dry_run": True},
    ),
]
