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

from budgets.config import BudgetsFile
from budgets.prices import PICO_PER_USD, UnknownPrice
from hooks.policy import Policy
from tests.simulation.provider import NANO_PER_USD, Rates
from tests.support.policies import default_policy

HOLD_NANO_USD = 2_600_000
"""About what one of the clients' requests holds."""

TEAMS = ("team-a", "team-b")
KEYS = ("key-1", "key-2", "key-3")


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
    limits: Mapping[str, int], zone: str, lease_ms: int, thresholds: Mapping[str, int]
) -> Policy:
    """Return the default policy with these limits, in nanodollars."""
    rules: dict[str, dict[str, Any]] = {
        "total": {"period": "day"},
        "FAST": {"match": {"category": "FAST"}, "period": "month"},
        "team": {"each": "team", "period": "week"},
        "key": {"each": "key", "period": "day"},
        "watched": {"match": {"team": TEAMS[0]}, "period": "day", "mode": "shadow"},
        "haiku": {"match": {"model": "claude-haiku"}, "period": "day"},
    }
    budgets = {
        name: {**rule, "limit_usd": f"{Decimal(limits[name]) / NANO_PER_USD:.9f}"}
        for name, rule in rules.items()
    }
    file = BudgetsFile.model_validate(
        {"version": 1, "time_zone": zone, "budgets": budgets, "thresholds": dict(thresholds)}
    )
    # Shorter than the file allows: a run has seconds, not minutes.
    file = file.model_copy(update={"lease_seconds": lease_ms / 1000})
    base = default_policy()
    policy = replace(base, budgets=file)
    # Compiled once for all runs: it depends on the routing alone.
    vars(policy)["classifier"] = base.classifier
    return policy


def draw_limits(chance: random.Random, used: Mapping[str, int], hold: int) -> dict[str, int]:
    """Return limits for each rule, given what is used of each and the last hold's amount."""
    limits = {}
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


def draw_body(chance: random.Random) -> dict[str, Any]:
    """Return a chat request: a few sizes, so that holds are often equal."""
    body: dict[str, Any] = {
        "model": "auto",
        "messages": [{"role": "user", "content": chance.choice(("hello", "hello there " * 20))}],
    }
    if chance.random() < 0.5:
        body["max_tokens"] = chance.choice((50, 100, 400))
    return body
