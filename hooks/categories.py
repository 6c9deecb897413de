"""What `routing.yaml` says about a category: its size, what its models must meet, its queue."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from budgets.config import NanoUsd
from budgets.yamlfile import Strict
from hooks.levels import Mode

Fraction = Annotated[float, Field(gt=0, le=1)]
Names = tuple[str, ...]


class QualityFloor(Strict):
    """The least score on a named benchmark. A model without a score there is dropped."""

    benchmark: str
    min: float = Field(ge=0)


class DataPolicy(Strict):
    """Where a request's data may be processed: any of these places; none given allows all."""

    residency: Names = ()


class Constraints(Strict):
    """Hard conditions that a model must meet for a request of the category."""

    quality: QualityFloor | None = None
    cost_nano_usd_max: NanoUsd | None = Field(default=None, alias="cost_usd_max")
    latency_p50_ms_max: int | None = Field(default=None, gt=0)
    context_guard: Fraction = 0.8
    capabilities: Names = ()
    providers: Names | None = None
    data_policy: DataPolicy = DataPolicy()


class Priorities(Strict):
    """Weights for what to prefer among the models that meet the constraints.

    With `order: chain` the chain decides and the weights are only shown; with `order: priorities`
    they decide.
    """

    order: Literal["chain", "priorities"] = "chain"
    quality: float = Field(default=0, ge=0)
    cost: float = Field(default=0, ge=0)
    speed: float = Field(default=0, ge=0)


class Monitoring(Strict):
    """What the task types with this floor may do before it is told (`budgets.drift`)."""

    escalation_rate_max: Fraction | None = None
    tier_mismatch_max: Fraction | None = None
    output_growth_max: float | None = Field(default=None, ge=1, le=100)
    estimate_error_max: Fraction | None = None


class QueueRules(Strict):
    """Lets refused requests of a category wait for budget, where they ask for it.

    The bounds are of what waits or runs at once, in number and in bytes of their bodies.
    """

    requests_max: int = Field(default=200, ge=1, le=10_000)
    bytes_max: int = Field(default=32 * 1024 * 1024, ge=1024)
    body_bytes_max: int = Field(default=1024 * 1024, ge=1024)
    expires_hours: float = Field(default=72, gt=0, le=960)
    answer_hours: float = Field(default=24, gt=0, le=960)
    attempts_max: int = Field(default=5, ge=1, le=100)


class Category(Strict):
    """A size class of requests. `tokens_max` is the largest size in it, None for the last one."""

    tokens_max: int | None = Field(gt=0)
    typical_use: str
    constraints: Constraints = Constraints()
    priorities: Priorities = Priorities()
    output_tokens_max: int = Field(gt=0)
    escalation: str
    monitoring: Monitoring = Monitoring()
    queue: QueueRules | None = None
    mode: Mode | None = None
