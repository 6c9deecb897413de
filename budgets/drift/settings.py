"""What `routing.yaml` says about the watch for drift, in its part `drift`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from budgets.drift.signals import Signal
from budgets.yamlfile import Strict

Share = Annotated[float, Field(gt=0, lt=1)]


class DriftSettings(Strict):
    """What counts as drift of a model, a task type or a caller: see `budgets.drift`.

    In `entries_per_false_alarm` entries at most one alarm comes by chance, over all series
    together. The first `baseline_entries` of a series that has no profile are what later ones are
    held against. `same_models` are names that mean the same model, in pairs or more.
    """

    entries_per_false_alarm: int = Field(default=1_000_000, ge=1_000, le=1_000_000_000)
    baseline_entries: int = Field(default=500, ge=100, le=100_000)
    frontier_share_max: Share = 0.5
    untagged_share_max: Share | None = None
    same_models: tuple[Annotated[tuple[str, ...], Field(min_length=2)], ...] = ()
    unwatched: tuple[Signal, ...] = ()
    simulated: bool = False

    @field_validator("same_models")
    @classmethod
    def _once(cls, value: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
        names = [name for row in value for name in row]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"{twice[0]!r} stands in `same_models` twice; put its names together")
        return value
