"""What a workload costs in a month: all at the frontier, all balanced, and routed in each way.

What is added up, for every task of the workload:

    all frontier    the base group of the largest category serves it
    all balanced    the group that stands for the generate tier serves it
    routed          the group that the proxy would decide on serves it: the best that routing can do

A strategy finds that group for a part of the requests, its accuracy. Three views are taken of the
rest, and together with the accuracy they are its range: at the low end such a request goes one tier
too high, at the point it goes to the frontier, at the high end it is answered by the execute tier
and then done again at the frontier. A cascade instead tries every tier up to the right one.

The range has the tokens in it too. Of a described workload they may be off by the policy's
`tokens_factor`. Of a measured one, days are drawn from its days with replacement, a thousand times;
the 5th and 95th percentile of their mean are the ends.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from budgets.learned import Learned
from budgets.prices import Price, TokenUsage
from hooks.choosing import Forecasts, Strategy
from hooks.decide import decide
from hooks.decision import Caller
from hooks.policy import Policy
from hooks.request import read_request
from hooks.routing import AUTO, UNCLASSIFIED
from hooks.tokens import TokenCounts
from scripts.choosing.workload import TIERS, TaskLoad, Workload

NANO = 10**9
DRAWS = 1_000
SEED = 20_261_121
"""Fixed, so that the same ledger gives the same range."""


@dataclass(frozen=True, slots=True)
class Range:
    """A point with its ends, in nanodollars."""

    low: float
    point: float
    high: float

    def times(self, factors: Range) -> Range:
        """Return the range with its tokens varied too."""
        return Range(self.low * factors.low, self.point * factors.point, self.high * factors.high)


class Costs(Protocol):
    """What one request of a task costs, in nanodollars."""

    def at(self, task: TaskLoad, tier: str) -> float:
        """Return the cost on the group that stands for a tier."""
        ...

    def own(self, task: TaskLoad) -> float:
        """Return the cost on the group that the policy chooses for it."""
        ...


class TypicalCosts:
    """The policy's typical cost of a task by tier, whatever its tokens."""

    def __init__(self, forecasts: Forecasts) -> None:
        given = forecasts.task_cost_usd
        self._costs = dict(zip(TIERS, (given.execute, given.generate, given.reason), strict=True))

    def at(self, task: TaskLoad, tier: str) -> float:
        """Return the typical cost of the tier."""
        return float(self._costs[tier])

    def own(self, task: TaskLoad) -> float:
        """Return the typical cost of the task's tier."""
        return float(self._costs[task.tier])


class PricedCosts:
    """The prices of the policy's groups for the tokens of a task."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.groups = tier_groups(policy)
        self._own: dict[TaskLoad, str] = {}

    def at(self, task: TaskLoad, tier: str) -> float:
        """Return the cost on the group that stands for the tier."""
        return self._on(self.groups[tier], task)

    def own(self, task: TaskLoad) -> float:
        """Return the cost on the group that the proxy would decide on."""
        return self._on(self.group_of(task), task)

    def group_of(self, task: TaskLoad) -> str:
        """Return the group that the proxy would decide on for such a task."""
        if task.task_type is None:
            return self.groups[task.tier]
        if task not in self._own:
            self._own[task] = self._decided(task) or self.groups[task.tier]
        return self._own[task]

    def _decided(self, task: TaskLoad) -> str | None:
        metadata: dict[str, object] = {"expected_output_tokens": max(1, round(task.output_tokens))}
        if task.task_type != UNCLASSIFIED:
            metadata["task_type"] = task.task_type
        body = {"model": AUTO, "messages": [{"role": "user", "content": ""}], "metadata": metadata}
        view = read_request(body, "acompletion")
        counts = TokenCounts(round(task.input_tokens), 0)
        return decide(self._policy, view, counts, Caller(), Learned(), "forecast").group

    def _on(self, group: str, task: TaskLoad) -> float:
        price = _price(self._policy, group)
        usage = TokenUsage(
            input_tokens=round(task.input_tokens),
            output_tokens=round(task.output_tokens),
            cache_read_tokens=round(task.input_tokens * task.cached_share),
        )
        return float(price.cost(usage))


def tier_groups(policy: Policy) -> dict[str, str]:
    """Return the group that stands for each tier: the base group of its task types' usual floor."""
    categories = list(policy.routing.categories)
    floors: dict[str, str] = {}
    for task in policy.routing.task_types.values():
        floors.setdefault(task.tier.value, task.floor)
    spread = dict(zip(TIERS, (categories[0], categories[len(categories) // 2], categories[-1]),
                      strict=True))  # fmt: skip
    return {tier: policy.groups.chain(floors.get(tier, spread[tier]))[0] for tier in TIERS}


def _price(policy: Policy, group: str) -> Price:
    prices = policy.groups.groups[group].prices
    assert isinstance(prices, tuple), "a policy whose chains have no price does not load"
    return prices[0]


# ── a forecast ───────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Way:
    """One way to serve a workload: its cost a month, in nanodollars, and what it saves.

    `saved` is against all-frontier, as a part, from its low to its high end, tokens left out since
    they are the same for both. `once` is what setting up costs. `days_to_even` is how long it takes
    to earn that; None where it never does. `requests_to_even` is the same in requests.
    """

    name: str
    cost: Range
    saved: Range
    once: Range | None = None
    days_to_even: float | None = None
    requests_to_even: float | None = None
    use_when: str = ""
    latency: str = ""


@dataclass(frozen=True, slots=True)
class Forecast:
    """The ways to serve a workload. `range_from` says in words how the range is made."""

    workload: Workload
    frontier: Way
    balanced: Way
    routed: Way
    strategies: tuple[Way, ...]
    range_from: str
    spent: float | None = None

    @property
    def ways(self) -> tuple[Way, ...]:
        """All of them."""
        return (self.frontier, self.balanced, self.routed, *self.strategies)


def forecast(workload: Workload, costs: Costs, forecasts: Forecasts) -> Forecast:
    """Return the forecast of a workload."""
    factors, range_from = _factors(workload, costs, forecasts)
    month = workload.days_per_month

    def monthly(per_day: Range) -> Range:
        return Range(*(it * month for it in (per_day.low, per_day.point, per_day.high)))

    def flat(per_day: float) -> Range:
        return Range(per_day, per_day, per_day)

    frontier = flat(_sum(workload, lambda it: costs.at(it, "reason")))

    def way(
        name: str, per_day: Range, once: Range | None = None, of: Strategy | None = None
    ) -> Way:
        saved = Range(
            *(1 - it / frontier.point if frontier.point else 0.0
              for it in (per_day.high, per_day.point, per_day.low))
        )  # fmt: skip
        won = frontier.point - per_day.point
        days = once.point / won if once is not None and won > 0 else None
        return Way(
            name=name,
            cost=monthly(per_day).times(factors),
            saved=saved,
            once=once,
            days_to_even=days,
            requests_to_even=None if days is None else days * workload.requests_per_day,
            use_when=of.use_when if of is not None else "",
            latency=of.latency if of is not None else "",
        )

    strategies = [
        way(name, _strategy(name, it, workload, costs), _once(it, workload, costs, forecasts), it)
        for name, it in forecasts.strategies.items()
    ]
    spent = workload.spent_nano_usd_per_day
    return Forecast(
        workload,
        way("all frontier", frontier),
        way("all balanced", flat(_sum(workload, lambda it: costs.at(it, "generate")))),
        way("routed", flat(_sum(workload, costs.own))),
        tuple(strategies),
        range_from,
        None if spent is None else spent * month,
    )


def _sum(workload: Workload, cost: Costing) -> float:
    return sum(it.requests_per_day * cost(it) for it in workload.tasks)


class Costing(Protocol):
    """The cost of one request of a task."""

    def __call__(self, task: TaskLoad, /) -> float: ...


def _strategy(name: str, of: Strategy, workload: Workload, costs: Costs) -> Range:
    """Return what a strategy costs a day, from its best case to its worst."""
    least, most = of.accuracy

    def per_day(accuracy: float, query_usd: float, wrong: Costing) -> float:
        def one(task: TaskLoad) -> float:
            if name == "cascade":
                right = sum(costs.at(task, it) for it in _up_to(task.tier))
                found = right + (1 - accuracy) * costs.at(task, "reason")
            else:
                found = accuracy * costs.own(task) + (1 - accuracy) * wrong(task)
            return found + query_usd * NANO

        return _sum(workload, one)

    return Range(
        per_day(most, of.query_usd[0], lambda it: costs.at(it, _above(it.tier))),
        per_day((least + most) / 2, sum(of.query_usd) / 2, lambda it: costs.at(it, "reason")),
        per_day(
            least,
            of.query_usd[1],
            lambda it: costs.at(it, "execute") + costs.at(it, "reason"),
        ),
    )


def _up_to(tier: str) -> Sequence[str]:
    return TIERS[: TIERS.index(tier) + 1]


def _above(tier: str) -> str:
    return TIERS[min(TIERS.index(tier) + 1, len(TIERS) - 1)]


def _once(of: Strategy, workload: Workload, costs: Costs, forecasts: Forecasts) -> Range:
    """Return what setting up costs: hours, and for a trained router the profile it learns from."""
    hours = [it * forecasts.hour_usd * NANO for it in of.setup_hours]
    if of.profiled and workload.requests_per_day:
        each = (_sum(workload, partial(costs.at, tier=tier)) for tier in TIERS)
        per_prompt = sum(each) / workload.requests_per_day
        hours = [
            hour + count * per_prompt
            for hour, count in zip(hours, forecasts.profile_prompts, strict=True)
        ]
    return Range(hours[0], sum(hours) / 2, hours[1])


# ── the range ────────────────────────────────────────────────────────────────────────────────────


def _factors(workload: Workload, costs: Costs, forecasts: Forecasts) -> tuple[Range, str]:
    if len(workload.days) >= 3:
        low, high = _resampled(workload, costs)
        return Range(low, 1.0, high), (
            f"days drawn {DRAWS:,} times from your {len(workload.days)} days, 5th to 95th "
            "percentile, and each strategy's accuracy"
        )
    low, high = forecasts.tokens_factor
    why = "only the tokens were told" if not workload.days else "fewer than three days are measured"
    return Range(low, 1.0, high), (
        f"tokens, and so costs, from {low:g} to {high:g} times as many ({why}), and each "
        "strategy's accuracy"
    )


def _resampled(workload: Workload, costs: Costs) -> tuple[float, float]:
    """Return the 5th and 95th percentile of the mean day, as parts of the mean."""
    by_name = {it.name: costs.own(it) for it in workload.tasks}
    days = [_day_cost(day, by_name) for day in workload.days]
    mean = statistics.fmean(days)
    if not mean:
        return 1.0, 1.0
    draw = random.Random(SEED)
    means = sorted(statistics.fmean(draw.choices(days, k=len(days))) for _ in range(DRAWS))
    return means[DRAWS * 5 // 100] / mean, means[DRAWS * 95 // 100 - 1] / mean


def _day_cost(day: Mapping[str, object], by_name: Mapping[str, float]) -> float:
    return sum(getattr(load, "requests", 0) * by_name.get(name, 0.0) for name, load in day.items())
