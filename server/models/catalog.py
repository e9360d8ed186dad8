"""Which model a name stands for."""

from __future__ import annotations

import asyncio
from importlib.resources import files
from pathlib import Path

from cellwright.server.errors import Invalid, NoModel
from cellwright.server.models import rehearsal
from cellwright.server.models.fenced import FencedModel
from cellwright.server.models.litellm import LiteLLMModel, library
from cellwright.server.models.protocol import Model
from cellwright.server.settings import Settings


class Models:
    """Makes models from names; rehearsal files are looked for in the package and below `root`."""

    def __init__(self, settings: Settings, root: Path) -> None:
        self._settings, self._root = settings, root

    def default(self) -> str | None:
        return self._settings.model

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
