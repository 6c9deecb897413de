"""What a message says: the facts of an alert, gathered when it is routed.

They are kept with the alert, so that every channel and every attempt tells the same. Task types and
models come from the newest entries, a bounded number: of a budget with much traffic they are those
of the last hours or minutes, and not of the whole period.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from budgets.alerts.outbox import HOUR_MS, Alert, Outbox, Raised, Watched
from budgets.alerts.outlook import Outlook, outlook
from budgets.archived import CounterName
from budgets.config import BudgetsFile
from budgets.drift.signals import SIGNALS
from budgets.ledger import Ledger
from budgets.period import Period, PeriodKind, period_at

ENTRIES_MAX = 2_000
"""How many of the newest entries are looked at for task types and models."""
TOP_MAX = 3
KEPT_S = 10.0
"""How long what was read of them serves, in seconds."""

Ranking = list[tuple[str, int]]
"""Names with nanodollars, the largest first."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Makes alerts out of what was raised, by the policy in force."""

    ledger: Ledger
    outbox: Outbox
    budgets: Callable[[], BudgetsFile]
    name: str
    """The ledger's name."""
    newest: NewestCharges

    async def alert(self, raised: Raised) -> tuple[Alert, tuple[str, ...]]:
        """Return the alert with its level and facts, and the rules of the budgets it is about.

        Raises:
            LedgerUnavailable: the store did not answer.
        """
        body: dict[str, Any] = json.loads(raised.body)
        budgets = self.budgets()
        kind = str(body.get("of") or raised.kind)
        rules: tuple[str, ...] = (body["rule"],) if "rule" in body else ()
        level = str(body.get("level") or budgets.alerts.level_of(kind).value)
        facts: dict[str, Any] = {
            "kind": kind,
            "level": level,
            "ledger": self.name,
            "zone": budgets.time_zone,
            "time_ms": raised.time_ms,
        }
        if "of" in body:
            facts |= {"count": body["count"], "sum": body["sum_nano_usd"]}
            facts["since"] = body["since_ms"]
        elif kind == "approval_asked":
            facts |= _of_ticket(body)
            rules = tuple(budget.partition(":")[0] for budget in facts["budgets"])
        elif kind in SIGNALS:
            facts |= body
        elif rules:
            facts |= await self._of_budget(body, budgets, raised.time_ms)
        alert = Alert(raised.id, kind, level, raised.time_ms, json.dumps(facts))
        return alert, rules

    async def _of_budget(
        self, body: Mapping[str, Any], budgets: BudgetsFile, time_ms: int
    ) -> dict[str, Any]:
        budget, rule, period_id = body["budget"], body["rule"], body["period_id"]
        config = budgets.budgets.get(rule)
        kind = period_kind(period_id)
        period = None if kind is None else period_at(kind, budgets.time_zone, time_ms)
        if period is not None and period.id != period_id:
            period = None
        task_types, models = await self.newest.top(budget, period_id)
        held, found = 0, None
        if period is not None:
            samples = await self.outbox.sample([Watched(budget, rule, period)])
            if samples:
                held, found = samples[0].state.held_nano_usd, outlook(samples[0], period)
        limit, spent = body["limit_nano_usd"], body["spent_nano_usd"]
        return {
            "budget": budget,
            "rule": rule,
            "mode": config.mode if config else "enforce",
            "description": config.description if config else "",
            "period": kind or "period",
            "period_id": period_id,
            "resets_at": period.end_ms if period else None,
            "percent": body.get("percent"),
            "limit": limit,
            "limit_epoch": body["limit_epoch"],
            "spent": spent,
            "held": held,
            "left": max(0, limit - spent - held),
            "top_task_types": task_types,
            "top_models": models,
            **_outlook_facts(body, found, time_ms),
        }


class NewestCharges:
    """Who was charged by the newest entries: read once for the alerts of some seconds.

    Many alerts can come at once, such as those of a rule with `each` and thousands of values.
    """

    def __init__(self, ledger: Ledger, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._ledger = ledger
        self._clock_s = clock_s
        self._read_s = -math.inf
        self._charges: dict[CounterName, list[tuple[str, str, int]]] = {}

    async def top(self, budget: str, period_id: str) -> tuple[Ranking, Ranking]:
        """Return task types and models by what they were charged to a budget, largest first."""
        if self._clock_s() - self._read_s > KEPT_S:
            await self._read()
        task_types: Counter[str] = Counter()
        models: Counter[str] = Counter()
        for task_type, model, charge in self._charges.get((budget, period_id), ()):
            task_types[task_type] += charge
            models[model] += charge
        return task_types.most_common(TOP_MAX), models.most_common(TOP_MAX)

    async def _read(self) -> None:
        found: dict[CounterName, list[tuple[str, str, int]]] = {}
        seen = 0
        async for entry in self._ledger.entries(newest_first=True):
            seen += 1
            if seen > ENTRIES_MAX:
                break
            try:
                said: Any = json.loads(entry.body)
            except ValueError:
                continue
            if not isinstance(said, dict):
                continue
            task_type = str(said.get("task_type") or "unknown")
            model = str(said.get("serving_group") or said.get("group") or "unknown")
            for name, charge in entry.charges.items():
                if charge:
                    found.setdefault(name, []).append((task_type, model, charge))
        self._charges, self._read_s = found, self._clock_s()


def _of_ticket(body: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "approval_id": body["approval_id"],
        "ticket": body["kind"],
        "requested": body["requested_nano_usd"],
        "asker": body["user"],
        "budgets": [budget for budget, _ in body["budgets"]],
    }


def _outlook_facts(body: Mapping[str, Any], found: Outlook | None, time_ms: int) -> dict[str, Any]:
    """Return burn rate, forecast and hour: as they were judged, else as they are now."""
    return {
        "burn": body.get("burn_nano_usd_per_day", found and found.burn_nano_usd_per_day),
        "forecast": body.get("forecast_nano_usd", found and found.forecast_nano_usd),
        "passes_at": body.get("passes_at_ms", found and found.passes_at_ms),
        "hour": body.get("hour_nano_usd", found.hour_nano_usd if found else 0),
        "hour_start": time_ms // HOUR_MS * HOUR_MS,
        "usual_hour": body.get("usual_hour_nano_usd", found and found.usual_hour_nano_usd),
        "times": body.get("times"),
    }


def body_of(
    kind: str, watched: Watched, percent: float, found: Outlook, limit: int, spent: int, epoch: int
) -> str:
    """Return the event's body of a forecast or a rate: what it was judged by."""
    period: Period = watched.period
    document: dict[str, Any] = {
        "budget": watched.budget,
        "rule": watched.rule,
        "period_id": period.id,
        "limit_epoch": epoch,
        "limit_nano_usd": limit,
        "spent_nano_usd": spent,
        "burn_nano_usd_per_day": found.burn_nano_usd_per_day,
        "forecast_nano_usd": found.forecast_nano_usd,
        "passes_at_ms": found.passes_at_ms,
    }
    if kind == "forecast":
        document["percent"] = percent
    else:
        times = found.times_usual
        document |= {
            "hour_nano_usd": found.hour_nano_usd,
            "usual_hour_nano_usd": found.usual_hour_nano_usd,
            "times": None if times is None else round(times, 1),
        }
    return json.dumps(document)


def period_kind(period_id: str) -> PeriodKind | None:
    """Return the kind of period that an id is of."""
    if re.fullmatch(r"\d{4}-\d{2}-\d{2}", period_id):
        return "day"
    if re.fullmatch(r"\d{4}-W\d{2}", period_id):
        return "week"
    return "month" if re.fullmatch(r"\d{4}-\d{2}", period_id) else None
