"""The panels of quality: drift and mismatches, the error of estimates, the mix of models."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from budgets import daily, totals
from budgets.drift import findings
from budgets.drift.findings import SIGNALS, Finding
from budgets.period import period_at
from hooks.board.charts import SERIES_MAX, Column
from hooks.board.sources import Sources

DAYS_SHOWN = 30
MONTHS_BACK = 6
OTHER = "other"
MISMATCHES = frozenset({"tier_mismatch", "frontier_by_name", "untagged_share"})
"""The signals about who asks for what, and not about what came of it."""


# ── findings ─────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Watch:
    """One signal: how many of its series are watched, and the one that is nearest to its limit."""

    signal: str
    series: int
    task_type: str
    score: float | None


@dataclass(frozen=True, slots=True)
class FindingsFacts:
    """What is out of control, and what is watched; nothing watched is not the same as all well."""

    drift: tuple[Finding, ...]
    mismatches: tuple[Finding, ...]
    watched: tuple[Watch, ...]

    @property
    def series(self) -> int:
        """How many series are watched."""
        return sum(it.series for it in self.watched)


async def read_findings(sources: Sources) -> FindingsFacts:
    """Return the findings and the state of the watch."""
    name = sources.home.ledger
    found, scores = await asyncio.gather(
        findings.read(sources.client, name), findings.scores(sources.client, name)
    )
    return FindingsFacts(
        tuple(it for it in found if it.signal not in MISMATCHES),
        tuple(it for it in found if it.signal in MISMATCHES),
        tuple(_watch(signal, scores) for signal in SIGNALS),
    )


def _watch(signal: str, scores: Mapping[tuple[str, str], float]) -> Watch:
    of_signal = {task_type: score for (name, task_type), score in scores.items() if name == signal}
    if not of_signal:
        return Watch(signal, 0, "", None)
    nearest = max(of_signal, key=lambda it: of_signal[it])
    return Watch(signal, len(of_signal), nearest, of_signal[nearest])


# ── estimates ────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Estimate:
    """How well a month's costs were estimated. `error` is (actual - estimate) / actual, None where
    nothing could be judged; `overage` counts requests that cost more than was held for them."""

    name: str
    requests: int
    judged: int
    error: float | None
    overage: int


@dataclass(frozen=True, slots=True)
class EstimatesFacts:
    """The error of estimates of this month: of all, by category and by task type."""

    month: str
    all: Estimate
    by_category: tuple[Estimate, ...]
    by_task_type: tuple[Estimate, ...]


async def read_estimates(sources: Sources) -> EstimatesFacts:
    """Return the figures of the month that runs."""
    month = period_at("month", sources.zone, await sources.ledger.now_ms()).id
    counted = await sources.ledger.counters(month)
    everything = totals.grouped(counted, "all").get("", {})

    def by(subject: str) -> tuple[Estimate, ...]:
        found = totals.grouped(counted, subject).items()
        rows = [_estimate(name, measures) for name, measures in found]
        return tuple(sorted(rows, key=lambda it: (-it.judged, it.name)))

    return EstimatesFacts(month, _estimate("all", everything), by("category"), by("task_type"))


def _estimate(name: str, measures: Mapping[str, int]) -> Estimate:
    actual = measures.get("judged_actual_nano", 0)
    expected = measures.get("judged_estimate_nano", 0)
    return Estimate(
        name,
        measures.get("requests", 0),
        measures.get("judged", 0),
        (actual - expected) / actual if actual else None,
        measures.get("overage", 0),
    )


# ── model mix ────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Share:
    """One model's part of a month."""

    model: str
    requests: int
    cost_nano_usd: int
    requests_share: float
    cost_share: float


@dataclass(frozen=True, slots=True)
class MixFacts:
    """The mix of models: this month, by requests for each day, and month by month.

    `series` are the models that have a colour, the most used first; the rest is `other`.
    """

    month: str
    shares: tuple[Share, ...]
    series: tuple[str, ...]
    days: tuple[Column, ...]
    months: tuple[Column, ...]
    first_whole: bool


async def read_mix(sources: Sources) -> MixFacts:
    """Return the mix of models of the last days and months."""
    ledger, zone = sources.ledger, sources.zone
    period = period_at("month", zone, await ledger.now_ms())
    ids = [period.id]
    for _ in range(MONTHS_BACK - 1):
        period = period_at("month", zone, period.start_ms - 1)
        ids.append(period.id)
    counted = await asyncio.gather(*(ledger.counters(it) for it in ids))
    days = await daily.read(sources.client, sources.home.ledger)
    by_month = [_requests(it) for it in counted]
    shown = days[-DAYS_SHOWN:]
    by_day = [_requests(it.counted) for it in shown]
    whole: Counter[str] = Counter()
    for one in (by_month[0], *by_day):
        whole.update(one)
    named = [name for name, _ in whole.most_common(SERIES_MAX)]
    is_more = len(whole) > len(named) or any(set(it) - set(named) for it in by_month)
    series = (*named, *((OTHER,) if is_more else ()))
    return MixFacts(
        ids[0],
        _shares(counted[0]),
        series,
        tuple(
            Column(day.date[5:], _parts(found, series))
            for day, found in zip(shown, by_day, strict=True)
            if found
        ),
        tuple(
            Column(name, _parts(found, series))
            for name, found in zip(reversed(ids), reversed(by_month), strict=True)
            if found
        ),
        all(it.is_whole for it in shown[:1]),
    )


def _requests(counted: Mapping[str, int]) -> dict[str, int]:
    found = totals.grouped(counted, "model")
    return {
        name: measures["requests"] for name, measures in found.items() if "requests" in measures
    }


def _parts(found: Mapping[str, int], series: tuple[str, ...]) -> tuple[int, ...]:
    named = [found.get(name, 0) for name in series if name != OTHER]
    return (*named, sum(found.values()) - sum(named)) if OTHER in series else tuple(named)


def _shares(counted: Mapping[str, int]) -> tuple[Share, ...]:
    found = totals.grouped(counted, "model")
    requests = sum(it.get("requests", 0) for it in found.values()) or 1
    cost = sum(it.get("actual_nano", 0) for it in found.values()) or 1
    rows = [
        Share(
            name,
            it.get("requests", 0),
            it.get("actual_nano", 0),
            it.get("requests", 0) / requests,
            it.get("actual_nano", 0) / cost,
        )
        for name, it in found.items()
    ]
    return tuple(sorted(rows, key=lambda it: (-it.cost_nano_usd, it.model)))
