"""What a profile says: for each task type the lowest tier that is good enough, and how surely.

A tier's verdict is made on the lower end of its pass rate's interval, never on the rate itself: at
95 % or above requests may be routed there, from 85 % on with monitoring, below that the next tier
is looked at. The lowest tier with one of the first two is proposed. Where none has, nothing is
promised and the routing stays as it is.

The intervals are two-sided at 95 %, each for one task type and tier: a lower end is wrong in at
most 2.5 % of all cases. With many task types some will be among those.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from scripts.profile.intervals import Interval, samples_needed, weighted
from scripts.profile.plan import TIER_NAMES
from scripts.profile.records import Profile, Record, TierName

ROUTE_MARK = 0.95
MONITOR_MARK = 0.85
QUANTILES = (0.1, 0.5, 0.9, 0.99)


class Verdict(StrEnum):
    """What becomes of a tier for a task type."""

    ROUTE = "route"
    MONITOR = "route with monitoring"
    NEXT = "next tier"
    TOO_FEW = "too few samples"


@dataclass(frozen=True, slots=True)
class TierResult:
    """A task type on a tier. `more_*` are further samples that a mark needs if all of them pass.

    Output tokens are at the quantiles of `QUANTILES`; of cut answers only what they had.
    """

    tier: TierName
    group: str
    prompts: int
    passed: int
    errors: int
    unjudged: int
    cut: int
    interval: Interval
    verdict: Verdict
    score_mean: float
    more_to_monitor: int | None
    more_to_route: int | None
    output_tokens: tuple[int, ...]
    latency_ms_p50: int
    latency_ms_p90: int
    cost_nano_usd_mean: float | None


@dataclass(frozen=True, slots=True)
class TypeResult:
    """A task type: its share of the weight, its tiers in rising order, and the one proposed."""

    task_type: str
    share: float
    tiers: tuple[TierResult, ...]
    proposed: TierResult | None

    def tier(self, name: str) -> TierResult | None:
        """Return the result of a tier."""
        return next((it for it in self.tiers if it.tier == name), None)

    @property
    def might_do(self) -> TierResult | None:
        """The lowest tier below the proposed one that only too few prompts speak against."""
        if self.proposed is None:
            return None
        below = self.tiers[: self.tiers.index(self.proposed)]
        return next((it for it in below if it.verdict is Verdict.TOO_FEW), None)


def results(profile: Profile) -> tuple[TypeResult, ...]:
    """Return the task types of a profile, those with the most weight first."""
    weights: dict[str, dict[str, float]] = {}
    for record in profile.records:
        weights.setdefault(record.task_type, {})[record.digest] = record.weight
    sums = {name: sum(found.values()) for name, found in weights.items()}
    total = sum(sums.values())
    found = []
    for task_type in sorted(sums, key=lambda name: (-sums[name], name)):
        of_type = [it for it in profile.records if it.task_type == task_type]
        tiers = tuple(
            _tier(profile, tier, [it for it in of_type if it.tier == tier])
            for tier in TIER_NAMES
            if any(it.tier == tier for it in of_type)
        )
        good = (it for it in tiers if it.verdict in (Verdict.ROUTE, Verdict.MONITOR))
        found.append(TypeResult(task_type, sums[task_type] / total, tiers, next(good, None)))
    return tuple(found)


def counted_for_cost(records: Sequence[Record]) -> list[Record]:
    """Return the answers whose cost is known; what was not answered says nothing about cost."""
    return [it for it in records if it.error is None and it.cost_basis != "none"]


def _tier(profile: Profile, tier: TierName, records: Sequence[Record]) -> TierResult:
    counted = [it for it in records if it.counts]
    failed = sum(not it.passed for it in counted)
    interval = weighted([(it.passed, it.weight) for it in counted])
    more_monitor = _more(MONITOR_MARK, interval, len(counted))
    priced = counted_for_cost(records)
    weight = sum(it.weight for it in priced)
    answered = [it for it in records if it.error is None]
    header = profile.header.tiers.get(tier)
    return TierResult(
        tier=tier,
        group=header.group if header is not None else records[-1].group,
        prompts=len(counted),
        passed=len(counted) - failed,
        errors=sum(it.error is not None for it in records),
        unjudged=sum(not it.judged and it.error is None for it in records),
        cut=sum(it.cut for it in records),
        interval=interval,
        verdict=_verdict(interval, failed),
        score_mean=sum(it.score for it in counted) / len(counted) if counted else 0.0,
        more_to_monitor=more_monitor,
        more_to_route=_more(ROUTE_MARK, interval, len(counted)),
        output_tokens=tuple(
            quantile([(it.output_tokens, it.weight) for it in answered], share)
            for share in QUANTILES
        ),
        latency_ms_p50=quantile([(it.latency_ms, 1.0) for it in answered], 0.5),
        latency_ms_p90=quantile([(it.latency_ms, 1.0) for it in answered], 0.9),
        cost_nano_usd_mean=(
            sum(it.cost_nano_usd * it.weight for it in priced) / weight if priced else None
        ),
    )


def _verdict(interval: Interval, failed: int) -> Verdict:
    if interval.lower >= ROUTE_MARK:
        return Verdict.ROUTE
    if interval.lower >= MONITOR_MARK:
        return Verdict.MONITOR
    # Nothing failed, or too little to tell: more prompts may show what these cannot.
    if interval.samples == 0 or (interval.rate >= MONITOR_MARK and interval.upper > MONITOR_MARK):
        return Verdict.TOO_FEW
    return Verdict.NEXT


def _more(mark: float, interval: Interval, prompts: int) -> int | None:
    """Return how many more prompts a mark needs at the least; None where it is hopeless.

    With weights a prompt counts for less than one sample, so the number grows accordingly.
    """
    if interval.lower >= mark:
        return 0
    failures = 0.0 if prompts == 0 else (1 - interval.rate) * interval.samples
    needed = samples_needed(mark, failures, interval.samples)
    if needed is None:
        return None
    worth = interval.samples / prompts if prompts else 1.0
    return max(1, round((needed - interval.samples) / worth))


def quantile(values: Sequence[tuple[int, float]], share: float) -> int:
    """Return the least value that at least `share` of the weight does not pass; 0 of nothing."""
    ordered = sorted(values)
    total = sum(weight for _, weight in ordered)
    seen = 0.0
    for value, weight in ordered:
        seen += weight
        if seen >= share * total - 1e-9:
            return value
    return 0
