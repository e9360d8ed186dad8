"""Every setting, from `CELLWRIGHT_*` variables or traitlets, as one frozen value that remembers its sources."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from cellwright.kernels.inside.confine import Limits
from cellwright.server.domain import Frozen
from cellwright.server.errors import Invalid
from pydantic import Field, PrivateAttr, ValidationError, field_validator

PREFIX = "CELLWRIGHT_"
SECRETS = frozenset({"api_key", "database_url", "redis_url", "s3_secret_key"})


def default_data_dir() -> Path:
    """Beside the user's other Jupyter data."""
    from jupyter_core.paths import jupyter_data_dir

    return Path(jupyter_data_dir()) / "cellwright"


class Settings(Frozen):
    """What an operator may decide. Sizes in bytes, times in seconds."""

    data_dir: Path = Field(default_factory=default_data_dir, description="Embedded stores, the lock, and secrets")
    database_url: str | None = Field(None, description="PostgreSQL 15 or newer; unset: the embedded one")
    redis_url: str | None = Field(None, description="Redis 6.2 or newer, or Valkey; unset: in process")
    s3_endpoint: str | None = Field(None, description="host:port of an S3-compatible store; unset: files")
    s3_access_key: str = ""
    s3_secret_key: str = ""
    s3_bucket: str = "cellwright"
    s3_region: str | None = None
    s3_secure: bool = True

    model: str | None = Field(None, description="A LiteLLM model name, or rehearsal:NAME")
    api_base: str | None = Field(None, description="An OpenAI-compatible server's base URL")
    api_key: str | None = None
    tool_calling: Literal["auto", "native", "fenced"] = Field(
        "auto", description="fenced drives a model that has no tool calling through code blocks"
    )
    max_iterations: int = Field(25, ge=1, le=1_000)
    max_turn_tokens: int | None = Field(None, ge=1)
    max_turn_cost: float | None = Field(None, gt=0, description="US dollars")
    max_turn_s: float | None = Field(None, gt=0)
    first_token_s: float = Field(60.0, gt=0)
    between_tokens_s: float = Field(120.0, gt=0)
    context_tokens: int = Field(48_000, ge=2_000, description="Budget for what a model is sent")

    approval: Literal["auto", "ask", "ask-risky"] = Field(
        "auto", description="Which cells of the agent's wait for the user: none, all, or those that look risky"
    )
    kernel_name: str = "cellwright"
    warm_kernels: int = Field(1, ge=0, le=16, description="Kernels started beforehand; 0: none, and no zygote either")
    kernel_grace_s: float = Field(900.0, gt=0, description="How long kernels outlive a server that crashed")
    cell_timeout_s: float | None = Field(None, gt=0)
    memory_limit_bytes: int | None = Field(None, ge=256 << 20, description="Address space of a kernel, and of a child")
    cpu_limit_s: int | None = Field(None, ge=1, description="CPU time of a kernel over its life")
    process_limit: int | None = Field(None, ge=16, description="Of the kernels' user; the system exempts root")
    open_files_limit: int | None = Field(None, ge=64)
    file_limit_bytes: int | None = Field(None, ge=1 << 20, description="The largest file that a kernel may write")
    workspace_limit_bytes: int | None = Field(None, ge=1 << 20, description="A cell that goes over it is interrupted")
    isolation: Literal["none", "files", "network"] = Field(
        "none", description="Kernels in a sandbox of bubblewrap: without others' files; network: without network too"
    )
    kernel_user: str | None = Field(None, description="Kernels of a server that runs as root belong to this user")
    allowed_imports: str | None = Field(None, description="Comma-separated modules that cells may import, or stdlib")
    checkpoint_limit_bytes: int | None = Field(8 << 30, ge=1, description="A variable larger than this is not stored")
    turn_checkpoint_bytes: int = Field(
        1 << 30, ge=0, description="So much of the kernel's variables is stored after every turn, the smallest first"
    )
    live_copies: int = Field(
        2, ge=0, le=8, description="Sleeping copies of a kernel that are kept, for an instant undo"
    )
    snapshot_file_bytes: int = Field(256 << 20, ge=0, description="A larger file is not kept for an undo, and named")
    snapshot_bytes: int = Field(4 << 30, ge=0, description="Of a workspace in all")
    recovery: Literal["ask", "auto"] = Field(
        "ask", description="After a kernel's death its variables come back when asked for, or with the next cell"
    )
    session_max_concurrent: int = Field(1_000, ge=1, description="Live kernels; past it the longest idle hibernates")
    session_max_age_hours: float = Field(24.0, gt=0, description="Idle for so long, a session hibernates")

    session_history_limit: int = Field(100, ge=1, description="Turns in the model's reach; storage keeps all")
    session_retention_days: float | None = Field(None, gt=0, description="Unused for so long, a session is deleted")
    artifact_ttl_days: float = Field(30.0, gt=0, description="Intermediate, debug and context artifacts live so long")
    clean_every_s: float = Field(3_600.0, gt=0)
    lease_s: float = Field(15.0, gt=0)

    output_inline_bytes: int = Field(1 << 20, ge=1_000, description="Text of a cell in the notebook, head and tail")
    output_limit_bytes: int = Field(1 << 30, ge=1_000, description="Text of a cell in its artifact")
    upload_limit_bytes: int = Field(1 << 30, ge=1)
    min_free_bytes: int = Field(64 << 20, ge=0, description="With less room on a disk, no turn begins")
    rate_limit: int = Field(120, ge=0, description="Requests that change or run something, a minute and user; 0: any")
    idle_stop_s: float | None = Field(None, gt=0, description="A server nobody has used for so long stops by itself")
    log_format: Literal["console", "json"] = "console"

    _sources: dict[str, str] = PrivateAttr(default_factory=dict)

    @field_validator("data_dir")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().resolve()

    @classmethod
    def load(cls, traits: Mapping[str, Any] | None = None, environment: Mapping[str, str] | None = None) -> Settings:
        """Settings from the environment, overruled by `traits`; raises Invalid, naming what is wrong."""
        environment = os.environ if environment is None else environment
        values: dict[str, Any] = {}
        sources: dict[str, str] = {}
        for name in cls.model_fields:
            variable = PREFIX + name.upper()
            if environment.get(variable):
                values[name], sources[name] = environment[variable], variable
        for name, value in (traits or {}).items():
            values[name], sources[name] = value, "jupyter_config.py"
        try:
            settings = cls(**values)
        except ValidationError as error:
            wrong = "; ".join(f"{PREFIX}{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors())
            raise Invalid(f"The settings are wrong. {wrong}") from error
        if settings.kernel_user is not None and settings.isolation != "none":
            raise Invalid(f"{PREFIX}KERNEL_USER and {PREFIX}ISOLATION exclude each other: choose one.")
        settings._sources.update(sources)
        return settings

    def described(self) -> list[tuple[str, str, str]]:
        """Name, value with secrets masked, and source of each setting."""
        rows = []
        for name in type(self).model_fields:
            value = getattr(self, name)
            shown = "(not set)" if value in (None, "") else "••••••" if name in SECRETS and value else str(value)
            rows.append((PREFIX + name.upper(), shown, self._sources.get(name, "default")))
        return rows

    @property
    def limits(self) -> Limits:
        """What a kernel's process may use."""
        return Limits(
            self.memory_limit_bytes, self.cpu_limit_s, self.process_limit, self.open_files_limit, self.file_limit_bytes
        )

    @property
    def imports(self) -> tuple[str, ...] | None:
        """Top-level modules that cells may import; None for all."""
        if self.allowed_imports is None:
            return None
        return tuple(name for part in self.allowed_imports.split(",") if (name := part.strip()))

    @property
    def embedded_folder_used(self) -> bool:
        """Whether anything that one process must own is kept in the data folder."""
        return self.database_url is None
