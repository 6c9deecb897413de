"""The policies that runs take place under: the default one, with small limits drawn from the seed.

Limits are a few times what one request holds, so that most runs reach them, and some are such that
a number of equal holds fits exactly, or misses by one nanodollar.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from functools import cache
from typing import Any

from budgets.config import BudgetsFile, LeaseSettings
from budgets.prices import PICO_PER_USD, UnknownPrice
from hooks.policy import Policy
from hooks.request import read_request
from tests.simulation.provider import NANO_PER_USD, Rates
from tests.support.policies import decided, default_policy

TEAMS = ("team-a", "team-b")
KEYS = ("key-1", "key-2", "key-3")
BODIES: tuple[Mapping[str, Any], ...] = tuple(
    {"model": "auto", "messages": [{"role": "user", "content": text}], **cap}
    for text in ("hello", "hello there " * 20)
    for cap in ({}, {"max_tokens": 50}, {"max_tokens": 400})
)
"""What clients ask: few sizes, so that holds are often equal."""


LEASED_LIMITS_FACTOR = 20
"""More is asked where slices are leased, and slices need room to be taken from."""


@cache
def rates() -> Mapping[str, Rates]:
    """Return what each group's model costs."""
    found = {}
    for name, group in default_policy().groups.groups.items():
        if not isinstance(group.prices, UnknownPrice):
            base = group.prices[0].base
            found[name] = Rates(
                Decimal(base.input) / PICO_PER_USD, Decimal(base.output) / PICO_PER_USD
            )
    return found


def policy_of(
    limits: Mapping[str, int],
    zone: str,
    lease_ms: int,
    thresholds: Mapping[str, int],
    allowances: Mapping[str, int],
    leases: LeaseSettings,
) -> Policy:
    """Return the default policy with these limits and allowances, in nanodollars."""
    rules: dict[str, dict[str, Any]] = {
        "total": {"period": "day"},
        "FAST": {"match": {"category": "FAST"}, "period": "month"},
        "team": {"each": "team", "period": "week"},
        "key": {"each": "key", "period": "day"},
        "watched": {"match": {"team": TEAMS[0]}, "period": "day", "mode": "shadow"},
        "haiku": {"match": {"model": "claude-haiku"}, "period": "day"},
    }
    if leases.budgets:
        # It would let no request of its team be admitted from slices.
        del rules["watched"]
        limits = {name: LEASED_LIMITS_FACTOR * amount for name, amount in limits.items()}
    budgets = {
        name: {
            **rule,
            "limit_usd": _usd(limits[name]),
            **({"allowance_usd": _usd(allowances[name])} if name in allowances else {}),
        }
        for name, rule in rules.items()
    }
    file = BudgetsFile.model_validate(
        {
            "version": 1,
            "time_zone": zone,
            "budgets": budgets,
            "thresholds": dict(thresholds),
            "on_ledger_unavailable": "allow" if allowances else "refuse",
        }
    )
    # Shorter than the file allows: a run has seconds, not minutes.
    file = file.model_copy(update={"lease_seconds": lease_ms / 1000, "leases": leases})
    base = default_policy()
    policy = replace(base, budgets=file)
    # Compiled once for all runs: it depends on the routing alone.
    vars(policy)["classifier"] = base.classifier
    return policy


def _usd(nano_usd: int) -> str:
    return f"{Decimal(nano_usd) / NANO_PER_USD:.9f}"


def draw_allowances(chance: random.Random) -> dict[str, int]:
    """Return what each rule that refuses may be passed by while the store is away."""
    hold = chance.choice(holds())
    names = ("total", "FAST", "team", "key", "haiku")
    return {name: hold * chance.choice((1, 3, 10)) + chance.choice((-1, 0)) for name in names}


def draw_leases(chance: random.Random) -> LeaseSettings:
    """Return leases of every budget: up to half of what is left, and now and then to the end."""
    share, below = chance.choice((10, 30, 50)), chance.choice((1, 1, 5, 20))
    return LeaseSettings(budgets="all", share_percent=share, direct_below_percent=below)


def draw_limits(chance: random.Random, used: Mapping[str, int]) -> dict[str, int]:
    """Return limits for each rule, given what is used of each."""
    limits = {}
    hold = chance.choice(holds())
    for name in ("total", "FAST", "team", "key", "watched", "haiku"):
        free = hold * chance.choice((1, 2, 3, 5, 10, 30))
        match chance.randrange(3):
            case 0:
                limits[name] = used.get(name, 0) + free + chance.choice((-1, 0, 1))
            case 1:
                limits[name] = int(free * chance.uniform(0.5, 1.5))
            case _:
                limits[name] = 100 * hold
    return limits


def draw_thresholds(chance: random.Random) -> dict[str, int]:
    """Return rising levels."""
    percents = sorted(chance.sample(range(1, 100), 3))
    return {
        "informational": percents[0],
        "warning": percents[1],
        "critical": percents[2],
        "emergency": 100,
    }


@cache
def holds() -> tuple[int, ...]:
    """Return what each body holds, in nanodollars."""
    amounts = []
    for body in BODIES:
        decision = decided(read_request(dict(body), "acompletion"))
        assert decision.group is not None
        candidate = decision.candidate(decision.group)
        assert candidate is not None and candidate.cost is not None
        amounts.append(candidate.cost.hold_nano_usd)
    return tuple(amounts)
