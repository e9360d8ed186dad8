"""Which model a name stands for."""

from __future__ import annotations

import asyncio
from importlib.resources import files
from pathlib import Path
from typing import Any

from cellwright.server.domain import Frozen
from cellwright.server.errors import Invalid, NoModel
from cellwright.server.models import rehearsal
from cellwright.server.models.fenced import FencedModel
from cellwright.server.models.litellm import LiteLLMModel, library
from cellwright.server.models.protocol import Model
from cellwright.server.settings import Settings
from pydantic import Field

ASK_WITHIN_S = 3.0
MAX_OFFERED = 200


class KnownModel(Frozen):
    """A model that sessions may use, and what LiteLLM knows of it."""

    name: str
    default: bool
    reachable: bool | None = Field(description="Whether its server answered just now; null: it was not asked")
    context_tokens: int | None = None
    tools: bool | None = None
    vision: bool | None = None
    input_cost: float | None = Field(None, description="US dollars a million tokens")
    output_cost: float | None = None


class Models:
    """Makes models from names; rehearsal files are looked for in the package and below `root`."""

    def __init__(self, settings: Settings, root: Path) -> None:
        self._settings, self._root = settings, root

    def default(self) -> str | None:
        return self._settings.model

    async def known(self) -> list[KnownModel]:
        """The default model, those that the server behind `api_base` offers, and the packaged rehearsals."""
        names: dict[str, bool | None] = {}
        if self._settings.model is not None:
            names[self._settings.model] = None
        if self._settings.api_base is not None:
            answers, offered = await self._offered(self._settings.api_base)
            if self._settings.model is not None:
                names[self._settings.model] = answers
            names |= {f"openai/{name}": True for name in offered}
        for entry in files("cellwright.server.demo").iterdir():
            if entry.name.endswith(rehearsal.SUFFIX):
                names[rehearsal.PREFIX + entry.name.removesuffix(rehearsal.SUFFIX)] = True
        return [await asyncio.to_thread(self._described, name, reachable) for name, reachable in names.items()]

    async def _offered(self, api_base: str) -> tuple[bool, list[str]]:
        """Whether an OpenAI-compatible server answers, and the models that it names; not all do."""
        import httpx

        headers = {"Authorization": f"Bearer {self._settings.api_key or 'none'}"}
        try:
            async with httpx.AsyncClient(timeout=ASK_WITHIN_S, headers=headers) as client:
                answer = await client.get(f"{api_base.rstrip('/')}/models")
        except httpx.HTTPError:
            return False, []
        try:
            return True, [str(model["id"]) for model in answer.json()["data"]][:MAX_OFFERED]
        except (ValueError, KeyError, TypeError):
            return True, []

    def _described(self, name: str, reachable: bool | None) -> KnownModel:
        about: dict[str, Any] = {}
        if not name.startswith(rehearsal.PREFIX):
            try:
                about = library().get_model_info(model=name)
            except Exception:  # LiteLLM raises whatever it likes for a model that it does not know.
                about = {}
        costs = [about.get(part) for part in ("input_cost_per_token", "output_cost_per_token")]
        return KnownModel(
            name=name,
            default=name == self._settings.model,
            reachable=reachable,
            context_tokens=about.get("max_input_tokens"),
            tools=about.get("supports_function_calling"),
            vision=about.get("supports_vision"),
            input_cost=None if costs[0] is None else costs[0] * 1e6,
            output_cost=None if costs[1] is None else costs[1] * 1e6,
        )

    async def check(self, name: str | None) -> None:
        """Raises NoModel, NotFound or Invalid where `get` would; takes no time."""
        name = name or self._settings.model
        if not name:
            raise NoModel()
        if name.startswith(rehearsal.PREFIX):
            await self.get(name)

    async def get(self, name: str | None) -> Model:
        """The model of that name, or the default one, ready to be asked; raises NoModel, NotFound or Invalid."""
        name = name or self._settings.model
        if not name:
            raise NoModel()
        if name.startswith(rehearsal.PREFIX):
            path = await asyncio.to_thread(self._rehearsal, name.removeprefix(rehearsal.PREFIX))
            return rehearsal.RehearsedModel(name, await asyncio.to_thread(rehearsal.load, path))
        # The import takes seconds: here it blocks no other request, and no model is charged with it.
        await asyncio.to_thread(library)
        model = LiteLLMModel(name, self._settings.api_base, self._settings.api_key)
        return FencedModel(model) if await asyncio.to_thread(self._is_fenced, name) else model

    def _rehearsal(self, name: str) -> Path:
        packaged = Path(str(files("cellwright.server.demo"))) / f"{name}{rehearsal.SUFFIX}"
        if "/" not in name and packaged.is_file():
            return packaged
        path = (self._root / name).resolve()
        # A user names it: nothing but a rehearsal, and only from the tree that the user sees anyway.
        if not path.is_relative_to(self._root.resolve()) or not path.name.endswith(rehearsal.SUFFIX):
            raise Invalid(f"A rehearsal is a file *{rehearsal.SUFFIX} below the server's root folder.")
        return path

    def _is_fenced(self, name: str) -> bool:
        match self._settings.tool_calling:
            case "native":
                return False
            case "fenced":
                return True
        if name.startswith("openai/") and self._settings.api_base:
            return False
        try:
            litellm = library()
            known = litellm.get_model_info(model=name)
        except Exception:
            return False  # LiteLLM does not know it: most servers take tools today.
        return not known.get("supports_function_calling", False)
