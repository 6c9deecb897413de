"""Entries of a month that nobody lived through, for what reads months. The same for every run."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from budgets.months.tally import Setting
from budgets.period import Period, period_at
from budgets.prices import Price, TokenUsage, read_price
from budgets.records import LedgerEntry, LedgerEvent

ZONE = "Europe/Berlin"
USD = 10**9
PRICES = {
    "gemini-flash": (0.75, 3.75),
    "claude-haiku": (1, 5),
    "claude-sonnet": (2, 10),
    "claude-opus": (4, 20),
    "minimax": (0.3, 1.2),
}
TIERS = {
    "gemini-flash": "execute",
    "claude-haiku": "execute",
    "claude-sonnet": "generate",
    "claude-opus": "reason",
    "minimax": "reason",
}
PRIMARIES = {
    "FAST": "gemini-flash",
    "NORMAL": "claude-haiku",
    "COMPLEX": "claude-sonnet",
    "HIGH_COMPLEX": "claude-opus",
}
KINDS = (
    ("FAST", "lookup_retrieval", "execute", 300, 90, 0.45),
    ("NORMAL", "classification_intent", "execute", 1_800, 500, 0.3),
    ("COMPLEX", "code_generation", "generate", 6_000, 1_800, 0.2),
    ("HIGH_COMPLEX", "security_review", "reason", 14_000, 3_000, 0.05),
)


def ms(text: str) -> int:
    """Return the Unix ms of a local time such as 2026-10-01T09:30."""
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(ZONE)).timestamp() * 1000)


def month_of(period_id: str) -> Period:
    return period_at("month", ZONE, ms(f"{period_id}-15T12:00"))


def price_of(group: str) -> Price | None:
    """Return a group's price; nobody knows minimax's."""
    if group not in PRICES or group == "minimax":
        return None
    given, taken = (it / 1_000_000 for it in PRICES[group])
    found = read_price({"input_cost_per_token": given, "output_cost_per_token": taken})
    assert isinstance(found, Price)
    return found


def setting(period_id: str) -> Setting:
    return Setting(month_of(period_id), ZONE, PRIMARIES, TIERS, price_of, "claude-opus")


def entry(time: str | int, cost: int, *, kind: str = "settled", **body: Any) -> LedgerEntry:
    """Return an entry; `charges` are to its category's budget and `total`, in its hold's month."""
    time_ms = ms(time) if isinstance(time, str) else time
    month = body.pop("month", None) or period_at("month", ZONE, time_ms).id
    charged = body.pop("charged", cost)
    category = body.get("category", "FAST")
    group = body.get("serving_group", PRIMARIES[category])
    facts = {
        "v": 1,
        "request_id": "r",
        "decision_id": "d",
        "status": "ok",
        "category": category,
        "task_type": "lookup_retrieval",
        "tier": "execute",
        "consequence": "low",
        "requested_model": "auto",
        "group": group,
        "serving_group": group,
        "serving_model": f"{group}-1",
        "provider": "anthropic",
        "tokens": {"input": 100, "output": 50, "cached_read": 0, "cache_write": 0},
        "estimate_error": 0.0,
        "team": "platform",
        "marks": [],
        **body,
    }
    charges = {(category, month): charged, ("total", month): charged}
    identity = body.get("request_id", "h")
    return LedgerEntry(
        f"{time_ms}-0", kind, str(identity), time_ms, cost, cost, charges, json.dumps(facts)
    )


def refusal(time: str, code: str, **body: Any) -> LedgerEvent:
    time_ms = ms(time)
    return LedgerEvent(f"{time_ms}-0", code, time_ms, json.dumps(body))


def busy_month(period_id: str, count: int, seed: int = 1) -> Iterator[LedgerEntry]:
    """Yield the entries of a month of a team at work, in order of time."""
    luck = random.Random(seed)
    month = month_of(period_id)
    for time_ms in sorted(luck.randrange(month.start_ms, month.end_ms) for _ in range(count)):
        ((category, task, tier, given, taken, _),) = luck.choices(KINDS, [it[5] for it in KINDS])
        served, requested = PRIMARIES[category], "auto"
        dropped: list[dict[str, str]] = []
        chance = luck.random()
        if chance < 0.05:
            served = {"FAST": "claude-haiku", "COMPLEX": "claude-opus"}.get(category, served)
            dropped = [{"group": PRIMARIES[category], "reason": "latency: 20 s, at most 15 s"}]
        elif chance < 0.08:
            served = requested = luck.choice(["claude-opus", "gemini-flash"])
        used = TokenUsage(
            max(1, round(luck.gauss(given, given / 5))), max(1, round(luck.gauss(taken, taken / 4)))
        )
        price = price_of(served)
        assert price is not None
        yield entry(
            time_ms,
            price.cost(used),
            category=category,
            task_type=task,
            tier=tier,
            consequence="high" if tier == "reason" else "low",
            requested_model=requested,
            serving_group=served,
            dropped=dropped,
            tokens={"input": used.input_tokens, "output": used.output_tokens},
            estimate_error=round(luck.gauss(0.004, 0.05), 6),
            team=luck.choice(["platform", "data", "web"]),
            session=f"s{luck.randrange(40)}",
        )
