"""The engineers' file, `routing.yaml`, as a whole: everything else in it has a module of its own.

Prices and chains are not here: they are LiteLLM's (`groups`). What money may be spent is not here
either: that is the finance owner's (`budgets/budgets.yaml`). Whether the three files agree is
checked in `policy`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from budgets.drift.settings import DriftSettings
from budgets.yamlfile import Strict, YamlFile, read_yaml, validate
from hooks.categories import Category, Fraction, Names
from hooks.choosing import Choosing
from hooks.facts import InputMargin, ModelFacts, VendorTiers
from hooks.gates.settings import Gate, Gates
from hooks.levels import Consequence, Mode
from hooks.router.settings import RouterSettings
from hooks.samples.settings import SampleSettings
from hooks.tasks.settings import SessionSettings, SignalSettings, TaskDetection
from hooks.tasks.types import DataRule, TaskRule, TaskType


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
    """How the output length is learned: an exponentially weighted mean of this rate.

    `token_counts` says whether a long input may be counted by a sample where that decides nothing
    (`counting`), or is counted exactly whatever that takes.
    """

    learning_rate: Fraction = 0.1
    token_counts: Literal["fast", "exact"] = "fast"


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
    drift: DriftSettings = DriftSettings()
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
