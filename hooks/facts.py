"""What `routing.yaml` says about models beyond LiteLLM's map: scores, speed, how input is counted.

A score or a speed has its source and date with it, or says that it is assumed.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from budgets.yamlfile import Strict
from hooks.categories import Names
from hooks.levels import Tier


class Benchmark(Strict):
    """A published score. `of` names the model that was measured where it is not this one."""

    score: float = Field(ge=0)
    source: str
    date: str
    of: str | None = None
    note: str = ""


class Speed(Strict):
    """How fast a model answers: time to the first token and tokens a second after it."""

    first_token_p50_ms: int = Field(gt=0)
    output_tokens_per_second: float = Field(gt=0)
    basis: Literal["assumed", "published", "measured"]
    source: str = ""
    date: str = ""


class InputMargin(Strict):
    """How a provider counts input, against Farebox's own count of the same text.

    `estimate_factor` gives the likely count, `bound_factor` one that it does not pass. The extra
    tokens come on top of the bound, those of tools where a request brings tools. With `learn` the
    factors are where learning starts (`budgets.margins`). `cache_writes` says when the provider
    bills tokens as written to its cache: `always` on its own account, `asked` only where a request
    marks what to cache.
    """

    estimate_factor: float = Field(default=1.0, ge=0.5, le=5)
    bound_factor: float = Field(default=1.0, ge=1, le=10)
    bound_extra_tokens: int = Field(default=0, ge=0)
    tools_extra_tokens: int = Field(default=0, ge=0)
    image_tokens_max: int | None = Field(default=None, ge=0)
    learn: bool = True
    cache_writes: Literal["always", "asked"] = "always"

    @model_validator(mode="after")
    def _bound_is_above(self) -> InputMargin:
        if self.bound_factor < self.estimate_factor:
            raise ValueError("`bound_factor` must not be below `estimate_factor`")
        return self


class ModelFacts(Strict):
    """What is known about a group's model beyond LiteLLM's map. None: take LiteLLM's figure."""

    title: str
    vendor: str
    tier: Tier
    pick: str = ""
    benchmarks: dict[str, Benchmark] = Field(default_factory=dict)
    speed: Speed | None = None
    context_tokens: int | None = Field(default=None, gt=0)
    output_tokens_max: int | None = Field(default=None, gt=0)
    capabilities: Names | None = None
    residency: Names = ("global",)
    free: bool = False
    input: InputMargin | None = None


class VendorTiers(Strict):
    """A vendor's models by tier, for choosing; nothing is routed by it."""

    execute: str | None = None
    generate: str | None = None
    reason: str | None = None
