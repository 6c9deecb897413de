"""Workloads: so many requests a day of this kind and that size, described or measured.

A described workload comes from a file, from a mix of tiers, or from a head count. A measured one
is the ledger's: its mean day by task type, and its days, which say how far a day varies.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from budgets.yamlfile import ConfigErrors, Strict, YamlFile, did_you_mean, read_yaml, validate
from hooks.choosing import Blend, Forecasts, Mix, Share
from hooks.routing import RoutingFile, fold
from scripts.choosing.traffic import Load, Traffic

Z_P90 = 1.2815515594600038
"""The standard normal distribution's 90th percentile."""

TIERS = ("execute", "generate", "reason")


@dataclass(frozen=True, slots=True)
class TaskLoad:
    """Requests a day of one kind, with their mean size.

    `task_type` is None for a load that is only known by its tier.
    """

    tier: str
    requests_per_day: float
    input_tokens: float
    output_tokens: float
    cached_share: float = 0.0
    task_type: str | None = None

    @property
    def name(self) -> str:
        """The task type, or the tier where no more is known."""
        return self.task_type or self.tier


@dataclass(frozen=True, slots=True)
class Workload:
    """What is to be forecast.

    `days` are the requests of each measured day by task type; empty for a described workload.
    `spent_nano_usd_per_day` is what the measured days really cost.
    """

    name: str
    tasks: tuple[TaskLoad, ...]
    days_per_month: float
    days: tuple[Mapping[str, Load], ...] = field(default=())
    spent_nano_usd_per_day: float | None = None

    @property
    def requests_per_day(self) -> float:
        """All requests of a day."""
        return sum(it.requests_per_day for it in self.tasks)

    @property
    def requests_per_month(self) -> float:
        """All requests of a month."""
        return self.requests_per_day * self.days_per_month


# ── described ────────────────────────────────────────────────────────────────────────────────────


def of_mix(
    name: str,
    requests_per_day: float,
    mix: Mapping[str, float],
    blend: Blend,
    routing: RoutingFile,
    days_per_month: float,
) -> Workload:
    """Return so many requests a day, in shares of tiers or task types, each of the blend's size."""
    tasks = tuple(
        TaskLoad(
            tier=name_of if name_of in TIERS else routing.task(name_of).tier.value,
            requests_per_day=requests_per_day * share,
            input_tokens=blend.input_tokens,
            output_tokens=blend.output_tokens,
            cached_share=blend.cached_share,
            task_type=None if name_of in TIERS else name_of,
        )
        for name_of, share in mix.items()
        if share
    )
    return Workload(name, tasks, days_per_month)


def of_team(
    developers: int, forecasts: Forecasts, mix: Mapping[str, float], blend: Blend,
    routing: RoutingFile,
) -> Workload:  # fmt: skip
    """Return what a team does in a month: developers × sessions × tasks × weeks."""
    team = forecasts.team
    tasks = developers * team.sessions_per_week * team.tasks_per_session * team.weeks_per_month
    per_day = tasks / forecasts.days_per_month
    name = f"a team of {developers}"
    return of_mix(name, per_day, mix, blend, routing, forecasts.days_per_month)


def shares_of(mix: Mix) -> dict[str, float]:
    """Return a mix as shares by tier."""
    return {"execute": mix.execute, "generate": mix.generate, "reason": mix.reason}


# ── from a file ──────────────────────────────────────────────────────────────────────────────────


def _as_spread(value: object) -> object:
    return {"p50": value, "p90": value} if isinstance(value, int | float) else value


class Spread(Strict):
    """Token counts by their median and 90th percentile, taken to be log-normal between."""

    p50: float = Field(ge=0)
    p90: float = Field(ge=0)

    @model_validator(mode="after")
    def _rises(self) -> Spread:
        if self.p90 < self.p50:
            raise ValueError("`p90` is not below `p50`")
        return self

    @property
    def mean(self) -> float:
        """The mean: e^(μ + σ²/2), with μ = ln p50 and σ = (ln p90 - ln p50) / 1.2816."""
        if self.p50 == 0 or self.p90 == self.p50:
            return self.p50
        sigma = math.log(self.p90 / self.p50) / Z_P90
        return self.p50 * math.exp(sigma * sigma / 2)


Tokens = Annotated[Spread, BeforeValidator(_as_spread)]


class TaskInFile(Strict):
    """The requests of one task type in a workload file."""

    requests_per_day: float = Field(ge=0)
    input_tokens: Tokens
    output_tokens: Tokens
    cached_share: Share = 0.0


class WorkloadFile(Strict):
    """A workload file."""

    version: Literal[1]
    days_per_month: float = Field(default=30, gt=0, le=31)
    tasks: dict[str, TaskInFile] = Field(min_length=1)


def of_file(path: Path, routing: RoutingFile) -> Workload:
    """Read a workload file; raises `ConfigErrors`."""
    file = read_yaml(path)
    given = validate(WorkloadFile, file)
    tasks = []
    for name, task in given.tasks.items():
        known = _known(file, routing, name)
        tasks.append(
            TaskLoad(
                tier=routing.task(known).tier.value,
                requests_per_day=task.requests_per_day,
                input_tokens=task.input_tokens.mean,
                output_tokens=task.output_tokens.mean,
                cached_share=task.cached_share,
                task_type=known,
            )
        )
    return Workload(path.name, tuple(tasks), given.days_per_month)


def _known(file: YamlFile, routing: RoutingFile, name: str) -> str:
    known = routing.task_names.get(fold(name))
    if known is None:
        raise ConfigErrors(
            [
                file.finding(
                    ("tasks", name),
                    f"there is no task type `{name}`",
                    did_you_mean(name, list(routing.task_types)),
                )
            ]
        )
    return known


# ── measured ─────────────────────────────────────────────────────────────────────────────────────


def of_traffic(traffic: Traffic, routing: RoutingFile, days_per_month: float) -> Workload:
    """Return the mean day of the traffic. A day without any request counts from the first one on.

    Task types that the policy does not have any more count as unclassified.
    """
    days = max(1, _calendar_days(traffic))
    tasks = []
    for name, load in sorted(traffic.by_task_type().items()):
        known = routing.task_names.get(fold(name))
        task = routing.task(known) if known is not None else routing.unclassified
        tasks.append(
            TaskLoad(
                tier=task.tier.value,
                requests_per_day=load.requests / days,
                input_tokens=load.input_tokens / load.requests,
                output_tokens=load.output_tokens / load.requests,
                cached_share=min(1.0, load.cached_tokens / max(1, load.input_tokens)),
                task_type=known or "unclassified",
            )
        )
    empty: list[Mapping[str, Load]] = [{}] * (days - len(traffic.days))
    return Workload(
        "the ledger's requests",
        tuple(tasks),
        days_per_month,
        days=(*traffic.days.values(), *empty),
        spent_nano_usd_per_day=traffic.total.cost_nano_usd / days,
    )


def _calendar_days(traffic: Traffic) -> int:
    days = [date.fromisoformat(it) for it in traffic.days]
    return (max(days) - min(days)).days + 1 if days else 0
