"""Looks at the budgets now and then: forecasts, unusual hours, and events to tell together.

One worker leads (role `alerts`). It samples every budget's counter twice a minute and so knows what
each hour spent, without a single command more in the settling of a request. Two leaders for a
moment do no harm: a sample adds each nanodollar once, and each claim is one small script.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from budgets.alerts.facts import body_of
from budgets.alerts.kinds import GATHERED
from budgets.alerts.outbox import Gathered, Outbox, Sample, Watched
from budgets.alerts.outlook import is_unusual, outlook, passes_forecast
from budgets.config import BudgetsFile
from budgets.ledger import Ledger
from budgets.period import Period, period_at

log = structlog.get_logger("farebox.alerts")

ROLE = "alerts"
LOOK_INTERVAL_S = 30.0
LEASE_MS = 100_000
"""Three looks and some: how long a worker that no longer looks keeps the role."""
EACH_INTERVAL_MS = 600_000
"""How often the values of rules with `each` are listed anew."""
EACH_MAX = 1_000
"""How many values of one such rule are watched; the others have their thresholds only."""
EVENTS_MAX = 5_000
"""How many events one look reads; the next one goes on from there."""
FIRST_ID = "0-0"


@dataclass(slots=True)
class Watcher:
    """The background look at one ledger's budgets; `worker` is who takes the role."""

    ledger: Ledger
    outbox: Outbox
    budgets: Callable[[], BudgetsFile]
    worker: str
    _each: dict[tuple[str, str], tuple[int, tuple[str, ...]]] = field(default_factory=dict)

    async def look(self) -> bool:
        """Look once; False where another worker leads.

        Raises:
            LedgerUnavailable: the store did not answer.
        """
        if not await self.ledger.lead(ROLE, self.worker, LEASE_MS):
            return False
        await self.judge()
        await self.gather()
        return True

    # ── forecast and rate ────────────────────────────────────────────────────────────────────────

    async def judge(self) -> int:
        """Sample every budget and claim what its forecast or its rate reaches; return how many."""
        file = self.budgets()
        watched = await self._watched(file, await self.ledger.now_ms())
        by_name = {(it.budget, it.period.id): it for it in watched}
        claimed = 0
        for sample in await self.outbox.sample(watched):
            one = by_name[sample.state.budget, sample.state.period_id]
            claimed += await self._judge(file, one, sample)
        return claimed

    async def _judge(self, file: BudgetsFile, watched: Watched, sample: Sample) -> int:
        thresholds = file.thresholds_of(watched.rule)
        state, found = sample.state, outlook(sample, watched.period)
        claims: list[tuple[str, str, float]] = []
        percent, times = thresholds.forecast, thresholds.rate
        if percent is not None and passes_forecast(sample, found, percent):
            claims.append(("forecast", "", percent))
        if times is not None and is_unusual(sample, found, times):
            day = period_at("day", file.time_zone, sample.time_ms).id
            claims.append(("rate", day, times))
        done = 0
        for kind, mark, figure in claims:
            body = body_of(
                kind,
                watched,
                figure,
                found,
                limit=state.bearable_nano_usd,
                spent=state.spent_nano_usd,
                epoch=state.limit_epoch,
            )
            if await self.outbox.claim(watched, kind, mark, state.limit_epoch, body):
                done += 1
                log.warning(f"{kind}_reached", budget=watched.budget, period=watched.period.id)
        return done

    async def _watched(self, file: BudgetsFile, now_ms: int) -> list[Watched]:
        found: list[Watched] = []
        for rule, config in file.budgets.items():
            thresholds = file.thresholds_of(rule)
            if thresholds.forecast is None and thresholds.rate is None:
                continue
            period = period_at(config.period, file.time_zone, now_ms)
            names: Sequence[str] = [rule]
            if config.each is not None:
                names = await self._values(rule, period, now_ms)
            found += [Watched(name, rule, period) for name in names]
        return found

    async def _values(self, rule: str, period: Period, now_ms: int) -> tuple[str, ...]:
        """Return the counters of a rule with `each`, listed a few times an hour."""
        listed_ms, names = self._each.get((rule, period.id), (0, ()))
        if now_ms - listed_ms >= EACH_INTERVAL_MS:
            names = await self.outbox.counters_of(rule, period.id, EACH_MAX)
            # Only the current period of a rule is kept.
            self._each = {key: it for key, it in self._each.items() if key[0] != rule}
            self._each[rule, period.id] = (now_ms, names)
        return names

    # ── events ───────────────────────────────────────────────────────────────────────────────────

    async def gather(self) -> bool:
        """Count the ledger's new events by kind and hand them on to be told together."""
        after = await self.outbox.gathered_to()
        pause_ms = self.budgets().alerts.gather_minutes * 60_000
        if not after:
            # What was before the first look is not told any more.
            last = FIRST_ID
            async for event in self.ledger.events(newest_first=True):
                last = event.id
                break
            return await self.outbox.gather("", last, _tally({}), pause_ms)
        counts: dict[str, tuple[int, int]] = {}
        to, seen = after, 0
        async for event in self.ledger.events(after=after):
            to, seen = event.id, seen + 1
            if event.kind in GATHERED:
                count, total = counts.get(event.kind, (0, 0))
                amount = _amount(event.kind, event.body)
                counts[event.kind] = (count + 1, total + amount)
            if seen >= EVENTS_MAX:
                break
        return await self.outbox.gather(after, to, _tally(counts), pause_ms)


def _tally(counts: Mapping[str, tuple[int, int]]) -> list[Gathered]:
    return [Gathered(kind, *counts.get(kind, (0, 0))) for kind in GATHERED]


def _amount(kind: str, body: str) -> int:
    try:
        said: Any = json.loads(body)
    except ValueError:
        return 0
    amount = said.get(GATHERED[kind]) if isinstance(said, dict) else None
    return amount if isinstance(amount, int) else 0
