"""The engineers' file, `routing.yaml`, as models: categories, task types, facts about models.

Prices and chains are not here: they are LiteLLM's (`groups`). What money may be spent is not here
either: that is the finance owner's (`budgets/budgets.yaml`). Whether the three files agree is
checked in `policy`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from budgets.config import NanoUsd, Values
from budgets.yamlfile import Strict, YamlFile, read_yaml, validate
from hooks.choosing import Choosing
from hooks.gates.settings import Cascade, Gate, Gates, ShadowCompare
from hooks.router.settings import RouterSettings
from hooks.samples.settings import SampleSettings
from hooks.tasks.settings import SessionSettings, SignalSettings, TaskDetection


class Mode(StrEnum):
    """`shadow` records and changes nothing; `enforce` acts."""

    SHADOW = "shadow"
    ENFORCE = "enforce"


class Tier(StrEnum):
    """The cognitive level that a task type needs, in rising order."""

    EXECUTE = "execute"
    GENERATE = "generate"
    REASON = "reason"

    rank: int
    """The tier's place, from 0."""

    def __init__(self, _: str) -> None:
        self.rank = len(type(self).__members__)


class Consequence(StrEnum):
    """What a wrong answer costs downstream, in rising order."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"

    rank: int
    """The consequence's place, from 0."""

    def __init__(self, _: str) -> None:
        self.rank = len(type(self).__members__)


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
    """When the operation of a category deserves a look."""

    escalation_rate_max: Fraction | None = None
    tier_share_drift_max: Fraction | None = None
    output_growth_max: float | None = Field(default=None, gt=0)
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


def _as_keyword(value: object) -> object:
    return {"phrase": value} if isinstance(value, str) else value


class Keyword(Strict):
    """A phrase that speaks for a task type: `*` ends a word openly, `..` skips up to six words.

    The weight is the number of words unless it is given. Where a phrase that `settles` stands in a
    text, the trained classifier is not asked.
    """

    phrase: str = Field(min_length=2, max_length=100)
    weight: float | None = Field(default=None, gt=0)
    settles: bool = False


Keywords = tuple[Annotated[Keyword, BeforeValidator(_as_keyword)], ...]


def _as_expected(value: object) -> object:
    return {"default": value} if isinstance(value, int) else value


class TaskType(Strict):
    """What kind of work a request is.

    `expected_output_tokens` seeds the estimate, for all groups (`default`) or for one by name.
    With `pinned` no command changes its tier and floor.
    """

    aliases: Names = ()
    tier: Tier
    floor: str
    consequence: Consequence = Consequence.MEDIUM
    signal: str = ""
    escalation: str = ""
    why: str = ""
    pinned: bool = False
    expected_output_tokens: Annotated[
        dict[str, Annotated[int, Field(gt=0)]], BeforeValidator(_as_expected)
    ]
    keywords: Keywords = ()
    gate: Gate | None = None
    cascade: Cascade | None = None
    shadow_compare: ShadowCompare | None = None

    @model_validator(mode="after")
    def _has_default(self) -> TaskType:
        if "default" not in self.expected_output_tokens:
            raise ValueError("`expected_output_tokens` needs a `default`")
        return self


Endpoint = Literal["chat", "completions", "responses", "messages", "embeddings"]


class RuleMatch(Strict):
    """What a task rule looks at: all that is given must hold. `*` stands for any letters."""

    endpoint: tuple[Endpoint, ...] | None = None
    call_type: Values | None = None
    model: Values | None = None
    key: Values | None = None
    team: Values | None = None
    user: Values | None = None
    tag: Values | None = None

    @field_validator("endpoint", mode="before")
    @classmethod
    def _one_or_more(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value


class TaskRule(Strict):
    """Fixes the task type of requests by where they come from, ahead of the classifier."""

    match: RuleMatch
    task_type: str


class DataRule(Strict):
    """Requires where matching requests are processed, on top of what their category requires.

    What a caller claims (tags) can only add a requirement: rules never take one away.
    """

    match: RuleMatch
    residency: Annotated[Names, Field(min_length=1)]
    why: str = ""


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


class Requests(Strict):
    """Which requests are governed, and what they may hold.

    An image counts as `image_tokens_usual` where a request's size is measured for its category; the
    figures of `InputMargin` are for money.
    """

    call_types: Names = (
        "acompletion", "atext_completion", "aembedding", "aresponses", "anthropic_messages",
    )  # fmt: skip
    allow_unbounded: dict[str, bool] = Field(default_factory=dict)
    allow_fields: Names = ()
    body_bytes_max: int = Field(default=32 * 1024 * 1024, ge=1024)
    image_tokens_max: int = Field(default=10_000, ge=0)
    image_tokens_usual: int = Field(default=1_000, ge=0)


class QueueSettings(Strict):
    """How queued requests run, and which webhooks may be told of their end."""

    at_once: int = Field(default=4, ge=1, le=64)
    webhook_origins: Names = ()

    @field_validator("webhook_origins")
    @classmethod
    def _origins(cls, value: Names) -> Names:
        for origin in value:
            if not re.fullmatch(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?", origin):
                raise ValueError(
                    f"{origin!r} is not an origin; write it like https://hooks.example.org, "
                    "in lower case and without a path"
                )
        return value


class Estimates(Strict):
    """How the output length is learned: an exponentially weighted mean of this rate."""

    learning_rate: Fraction = 0.1


class VendorTiers(Strict):
    """A vendor's models by tier, for choosing; nothing is routed by it."""

    execute: str | None = None
    generate: str | None = None
    reason: str | None = None


class RoutingFile(Strict):
    """The whole of `routing.yaml`."""

    version: Literal[1]
    mode: Mode
    shadow_default: str
    categories: dict[str, Category] = Field(min_length=1, max_length=16)
    task_types: dict[str, TaskType] = Field(max_length=200)
    unclassified: TaskType
    task_rules: tuple[TaskRule, ...] = ()
    task_detection: TaskDetection = TaskDetection()
    signals: SignalSettings = SignalSettings()
    sessions: SessionSettings = SessionSettings()
    no_downgrade_from: Consequence | None = Consequence.HIGH
    gates: Gates = Gates()
    data_policy: dict[str, DataRule] = Field(default_factory=dict)
    models: dict[str, ModelFacts] = Field(default_factory=dict)
    providers: dict[str, InputMargin] = Field(default_factory=dict)
    estimates: Estimates = Estimates()
    router: RouterSettings = RouterSettings()
    requests: Requests = Requests()
    queue: QueueSettings = QueueSettings()
    samples: SampleSettings | None = None
    vendor_tiers: dict[str, VendorTiers] = Field(default_factory=dict)
    market: dict[str, ModelFacts] = Field(default_factory=dict)
    choosing: Choosing = Choosing()

    @field_validator("categories")
    @classmethod
    def _rising(cls, value: dict[str, Category]) -> dict[str, Category]:
        sizes = [(name, c.tokens_max) for name, c in value.items()]
        for (name, size), (after, larger) in pairwise(sizes):
            if size is None or (larger is not None and larger <= size):
                raise ValueError(
                    f"categories stand in rising order of `tokens_max`: {name} comes before {after}"
                )
        if sizes[-1][1] is not None:
            raise ValueError(
                f"the last category, {sizes[-1][0]}, must have `tokens_max: null`, "
                "or larger requests would belong nowhere"
            )
        return value

    @cached_property
    def category_ranks(self) -> Mapping[str, int]:
        """The place of each category, from the smallest."""
        return {name: rank for rank, name in enumerate(self.categories)}

    @cached_property
    def task_names(self) -> Mapping[str, str]:
        """Every name and alias of a task type, folded, with the task type's own name."""
        names = {UNCLASSIFIED: UNCLASSIFIED}
        for name, task in self.task_types.items():
            for word in (*task.aliases, name):
                names[fold(word)] = name
        return names

    def task(self, name: str) -> TaskType:
        """Return a task type by its own name; `unclassified` is one too."""
        return self.unclassified if name == UNCLASSIFIED else self.task_types[name]

    @cached_property
    def compares(self) -> bool:
        """Whether any task type is compared in shadow."""
        return any(task.shadow_compare is not None for task in self.task_types.values())

    @cached_property
    def judged(self) -> frozenset[str]:
        """The task types that have a gate or a cascade of their own."""
        tasks = {**self.task_types, UNCLASSIFIED: self.unclassified}
        return frozenset(name for name, it in tasks.items() if it.gate or it.cascade)

    def gate(self, task_type: str, consequence: str) -> Gate | None:
        """Return what answers of this kind must pass: the task type's gate, or the common one."""
        gate = self.task(task_type).gate
        if gate is None and consequence == Consequence.HIGH:
            return self.gates.high_consequence
        return gate

    def category_of(self, tokens: int) -> str:
        """Return the smallest category that a request of so many tokens fits into."""
        for name, category in self.categories.items():
            if category.tokens_max is None or tokens <= category.tokens_max:
                return name
        raise AssertionError("the last category has no upper end")

    def larger(self, one: str, other: str) -> str:
        """Return the larger of two categories."""
        ranks = self.category_ranks
        return one if ranks[one] >= ranks[other] else other

    def margin(self, group: str, provider: str) -> InputMargin:
        """Return how the group's input is counted: its own figures, its provider's, the default."""
        facts = self.models.get(group)
        if facts is not None and facts.input is not None:
            return facts.input
        return self.providers.get(provider) or self.providers.get("default") or _MARGIN


AUTO = "auto"
"""What callers ask for to have the category chosen."""

UNCLASSIFIED = "unclassified"
"""The task type of requests that nothing was found for."""

_MARGIN = InputMargin(estimate_factor=1.1, bound_factor=2.0, bound_extra_tokens=64)


def fold(word: str) -> str:
    """Return a task type's name as it is compared: lower case, with underscores."""
    return "_".join(word.strip().lower().replace("-", " ").replace("_", " ").split())


def load_routing(path: Path) -> tuple[YamlFile, RoutingFile]:
    """Read and validate `routing.yaml`; raises `ConfigErrors`."""
    file = read_yaml(path)
    return file, validate(RoutingFile, file)


def json_schema() -> Mapping[str, Any]:
    """Return the JSON Schema of `routing.yaml`, for editors."""
    return RoutingFile.model_json_schema(by_alias=True)
