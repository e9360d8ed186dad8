"""Figures for Prometheus: they join Jupyter Server's own on its `/metrics`."""

from __future__ import annotations

from datetime import UTC, datetime

from cellwright.server.domain import Turn
from cellwright.server.events import Event, TurnEnded
from prometheus_client import Counter, Gauge, Histogram

TURNS = Counter("cellwright_turns", "Turns that ended here, by how", ["kind", "status"])
TURN_SECONDS = Histogram(
    "cellwright_turn_seconds",
    "From the question to the turn's end",
    buckets=(0.1, 0.3, 1, 3, 10, 30, 60, 120, 300, 900, 3600),
)
TOKENS = Counter("cellwright_model_tokens", "Tokens of model calls, by direction", ["direction"])
COST = Counter("cellwright_model_cost_dollars", "What model calls cost, by LiteLLM's price list")
CALLS = Counter("cellwright_model_calls", "Model calls that were recorded")
KERNELS = Gauge("cellwright_kernels", "Kernels that live here, by what for", ["state"])


def turn_ended(turn: Turn, end: Event) -> None:
    """Counts one turn and what it used."""
    if not isinstance(end, TurnEnded):
        return
    TURNS.labels(turn.request.kind, end.type.removeprefix("turn.")).inc()
    TURN_SECONDS.observe(max(0.0, (datetime.now(UTC) - turn.created_at).total_seconds()))
    TOKENS.labels("prompt").inc(end.usage.prompt_tokens)
    TOKENS.labels("completion").inc(end.usage.completion_tokens)
    COST.inc(end.usage.cost)
    CALLS.inc(end.usage.calls)
