"""The part of `routing.yaml` for choosing models and for forecasts. Nothing is routed by it.

Only the file's shape is here; tables, forecasts and advice are made in `scripts/choosing`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from budgets.config import NanoUsd
from budgets.yamlfile import Strict

Share = Annotated[float, Field(ge=0, le=1)]
Factor = Annotated[float, Field(gt=0, le=100)]


class Blend(Strict):
    """The request that models are compared by. `cached_share` of the input is read from a cache."""

    input_tokens: int = Field(default=3000, ge=0)
    output_tokens: int = Field(default=1000, ge=0)
    cached_share: Share = 0.25

    @model_validator(mode="after")
    def _has_tokens(self) -> Blend:
        if self.input_tokens + self.output_tokens == 0:
            raise ValueError("a blend needs tokens")
        return self


class PerformanceTiers(Strict):
    """The least score of each performance tier; what is below `acceptable` is `budget`."""

    excellent: float = 80
    good: float = 75
    acceptable: float = 60

    @model_validator(mode="after")
    def _falls(self) -> PerformanceTiers:
        if not self.excellent >= self.good >= self.acceptable:
            raise ValueError("performance tiers fall from `excellent` to `acceptable`")
        return self


class SpeedTiers(Strict):
    """The longest likely time to the whole answer of the blend; slower is `batch`."""

    instant_ms_max: int = Field(default=6_000, gt=0)
    fast_ms_max: int = Field(default=10_000, gt=0)
    normal_ms_max: int = Field(default=20_000, gt=0)

    @model_validator(mode="after")
    def _rises(self) -> SpeedTiers:
        if not self.instant_ms_max <= self.fast_ms_max <= self.normal_ms_max:
            raise ValueError("speed tiers rise from `instant_ms_max` to `normal_ms_max`")
        return self


class CostTiers(Strict):
    """The most that the blend costs in each cost tier; what is dearer is `premium`."""

    ultra_low: NanoUsd = Field(default=1_000_000, alias="ultra_low_usd_max")
    low: NanoUsd = Field(default=5_000_000, alias="low_usd_max")
    standard: NanoUsd = Field(default=20_000_000, alias="standard_usd_max")

    @model_validator(mode="after")
    def _rises(self) -> CostTiers:
        if not self.ultra_low <= self.low <= self.standard:
            raise ValueError("cost tiers rise from `ultra_low_usd_max` to `standard_usd_max`")
        return self


class TierCosts(Strict):
    """What a task of each tier typically costs, where nothing better is known."""

    execute: NanoUsd = 1_000_000
    generate: NanoUsd = 10_000_000
    reason: NanoUsd = 100_000_000


class Mix(Strict):
    """The shares of the tiers in a workload; together they are 1."""

    execute: Share = 0.4
    generate: Share = 0.4
    reason: Share = 0.2

    @model_validator(mode="after")
    def _is_whole(self) -> Mix:
        if abs(self.execute + self.generate + self.reason - 1) > 1e-9:
            raise ValueError("the shares of a mix add up to 1")
        return self


class Team(Strict):
    """How a developer works, for forecasts by head count."""

    sessions_per_week: float = Field(default=3, gt=0)
    tasks_per_session: float = Field(default=5, gt=0)
    weeks_per_month: float = Field(default=4, gt=0)


Range = tuple[float, float]


class Strategy(Strict):
    """What is known of a way to route: each a range, from its low to its high end.

    `query_usd` is what finding the route of one request costs, `setup_hours` the work before it
    runs. `use_when` says when it fits.
    """

    accuracy: Range
    latency: str
    query_usd: Range = (0.0, 0.0)
    setup_hours: Range = (0.0, 0.0)
    profiled: bool = False
    use_when: str = ""

    @model_validator(mode="after")
    def _rises(self) -> Strategy:
        for name in ("accuracy", "query_usd", "setup_hours"):
            low, high = getattr(self, name)
            if not 0 <= low <= high:
                raise ValueError(f"`{name}` is a range from its low to its high end")
        if self.accuracy[1] > 1:
            raise ValueError("`accuracy` is a share of 1")
        return self


class Forecasts(Strict):
    """What forecasts assume where nobody says otherwise.

    `tokens_factor` is how far the tokens of a workload that was described, and not measured, may be
    off. `hour_usd` prices the work of setting a strategy up.
    """

    days_per_month: int = Field(default=30, ge=1, le=31)
    mix: Mix = Mix()
    team: Team = Team()
    task_cost_usd: TierCosts = TierCosts()
    tokens_factor: tuple[Factor, Factor] = (0.7, 1.5)
    hour_usd: float = Field(default=100, ge=0)
    profile_prompts: tuple[int, int] = (200, 500)
    strategies: dict[str, Strategy] = Field(default_factory=dict)


class Choosing(Strict):
    """How models are compared, and what forecasts assume."""

    benchmark: str = "swe_bench_verified"
    blend: Blend = Blend()
    performance: PerformanceTiers = PerformanceTiers()
    speed: SpeedTiers = SpeedTiers()
    cost: CostTiers = CostTiers()
    recommended: int = Field(default=6, ge=1, le=50)
    forecasts: Forecasts = Forecasts()
