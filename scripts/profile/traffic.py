"""What a stated traffic would cost on each tier, as the policy routes now, and as proposed.

The mix of task types is the profile's, by weight. What a request costs is what its answers cost in
the profile: the whole distribution, so that a few long answers weigh as much here as on the bill.
Numpy is imported with this module: import it late.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from scripts.profile.plan import TIER_NAMES
from scripts.profile.records import Profile, TierName
from scripts.profile.verdicts import TypeResult, counted_for_cost

DAYS = 30
RESAMPLES = 1_000
SEED = 20_261_121
DEAR_DAY = 1.645
"""Standard deviations above the mean that 95 % of days stay below, for sums of many requests."""


@dataclass(frozen=True, slots=True)
class Spend:
    """Nanodollars of one way of routing at one traffic.

    `month_low` and `month_high` hold the month's expected cost with 95 % confidence (bootstrap):
    the profile's uncertainty. `dear_day` is a day that 19 of 20 stay below: chance, with the mix
    as it is. None where a tier that the way needs was not measured.
    """

    way: str
    requests_a_day: int
    month: float
    month_low: float
    month_high: float
    day: float
    dear_day: float


@dataclass(frozen=True, slots=True)
class Way:
    """One way of routing: a tier for each task type."""

    name: str
    tiers: Mapping[str, TierName]


def ways(
    found: Sequence[TypeResult], now: Mapping[str, TierName], measured: Sequence[TierName]
) -> tuple[Way, ...]:
    """Return the ways that can be priced: as now, all of one tier, and as proposed.

    A task type for which nothing is promised stays where it is now, and where that was not
    measured, on the highest measured tier.
    """
    names = [it.task_type for it in found]
    highest = [tier for tier in TIER_NAMES if tier in measured][-1]
    current = {name: now.get(name, highest) for name in names}
    current = {name: tier if tier in measured else highest for name, tier in current.items()}
    proposed = {
        it.task_type: it.proposed.tier if it.proposed is not None else current[it.task_type]
        for it in found
    }
    made = [Way("now", current)]
    made += [Way(f"all {tier}", dict.fromkeys(names, tier)) for tier in TIER_NAMES
             if tier in measured]  # fmt: skip
    return (*made, Way("proposed", proposed))


def spends(
    profile: Profile,
    found: Sequence[TypeResult],
    chosen: Sequence[Way],
    traffic: Sequence[int],
) -> tuple[Spend, ...]:
    """Price each way at each traffic; a way that needs an unmeasured cell is left out."""
    rng = np.random.default_rng(SEED)
    cells: dict[tuple[str, str], tuple[float, float, np.ndarray]] = {}
    for it in found:
        for tier in it.tiers:
            records = counted_for_cost(
                [r for r in profile.records if r.task_type == it.task_type and r.tier == tier.tier]
            )
            if not records:
                continue
            costs = np.array([r.cost_nano_usd for r in records], dtype=float)
            weights = np.array([r.weight for r in records], dtype=float)
            mean = float(np.average(costs, weights=weights))
            square = float(np.average(costs**2, weights=weights))
            drawn = rng.integers(0, len(costs), size=(RESAMPLES, len(costs)))
            sums = (costs[drawn] * weights[drawn]).sum(axis=1)
            cells[it.task_type, tier.tier] = (mean, square, sums / weights[drawn].sum(axis=1))
    made: list[Spend] = []
    for way in chosen:
        parts = [(it.share, cells.get((it.task_type, way.tiers[it.task_type]))) for it in found]
        known = [(share, cell) for share, cell in parts if cell is not None]
        if len(known) < len(parts):
            continue
        mean = sum(share * cell[0] for share, cell in known)
        variance = max(0.0, sum(share * cell[1] for share, cell in known) - mean * mean)
        means = sum((share * cell[2] for share, cell in known), np.zeros(RESAMPLES))
        low, high = (float(it) for it in np.quantile(means, [0.025, 0.975]))
        for requests in traffic:
            made.append(
                Spend(
                    way=way.name,
                    requests_a_day=requests,
                    month=mean * requests * DAYS,
                    month_low=low * requests * DAYS,
                    month_high=high * requests * DAYS,
                    day=mean * requests,
                    dear_day=mean * requests + DEAR_DAY * (variance * requests) ** 0.5,
                )
            )
    return tuple(sorted(made, key=lambda it: it.requests_a_day))
