"""The panel of budgets: what is spent, held and left of each, how fast, and where that leads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import unquote

from budgets.alerts.outbox import HOUR_MS, Sample, Watched
from budgets.alerts.outlook import Outlook, outlook
from budgets.alerts.redis_outbox import RedisOutbox
from budgets.config import Budget, BudgetsFile
from budgets.errors import PolicyNotPublished
from budgets.holds import BudgetState
from budgets.period import Period, period_at
from budgets.published import Level, Threshold
from budgets.redis_scripts import redis_errors
from hooks.board.cached import Cached
from hooks.board.sources import Sources

VALUES_SHOWN = 5
"""How many counters of a rule with `each` are shown: the fullest."""
VALUES_READ_MAX = 1_000
SCANS_MAX = 20
"""How many pages of the ledger's counters are looked through for those of one rule."""
HOURS_SHOWN = 72
VALUES_S = 60.0
OUTLOOK_S = 30.0
"""How old the list of counters, and a forecast, may be."""


@dataclass(frozen=True, slots=True)
class Step:
    """A threshold: at what percent, and whether it was passed in this period."""

    level: Level
    percent: int
    passed: bool


@dataclass(frozen=True, slots=True)
class BudgetHealth:
    """One counter of a budget as it stands. `value` is that of a rule with `each`.

    Amounts are nanodollars. `outlook` is None where the budget is not in force, or is one of many.
    """

    rule: str
    config: Budget
    period: Period
    state: BudgetState
    in_force: bool
    steps: tuple[Step, ...]
    outlook: Outlook | None
    hours: Mapping[int, int]
    time_ms: int
    value: str | None = None

    @property
    def hour(self) -> int:
        """The number of the current hour since 1970."""
        return self.time_ms // HOUR_MS

    @property
    def recent(self) -> list[tuple[int, int]]:
        """The last hours in which something was spent, with how much, the newest first."""
        shown = range(self.hour, self.hour - HOURS_SHOWN, -1)
        return [(it, self.hours[it]) for it in shown if self.hours.get(it, 0) > 0]

    @property
    def id(self) -> str:
        """What the counter is called in the page."""
        return f"{self.period.id}-{self.state.budget}"

    @property
    def level(self) -> str:
        """The highest threshold that was passed; empty for none."""
        passed = [it.level.value for it in self.steps if it.passed]
        return passed[-1] if passed else ""

    @property
    def used(self) -> float:
        """The part of the limit that is spent; of nothing, all of it."""
        bearable = self.state.bearable_nano_usd
        return self.state.spent_nano_usd / bearable if bearable > 0 else 1.0

    @property
    def forecast_used(self) -> float | None:
        """The part of the limit that the forecast comes to."""
        found = self.outlook.forecast_nano_usd if self.outlook else None
        bearable = self.state.bearable_nano_usd
        return found / bearable if found is not None and bearable > 0 else None

    @property
    def differs(self) -> bool:
        """Whether the file says another limit than the one in force."""
        return self.in_force and self.state.limit_nano_usd != self.config.limit_nano_usd


@dataclass(frozen=True, slots=True)
class BudgetsFacts:
    """All budgets; `more` counts the counters of rules with `each` that are not shown."""

    budgets: tuple[BudgetHealth, ...]
    more: Mapping[str, int]


class BudgetReader:
    """Reads the budgets: counters each time, forecasts and lists of counters now and then."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._outbox = RedisOutbox(sources.client, sources.home.ledger)
        self._samples = Cached(self._sample, OUTLOOK_S)
        self._values = Cached(self._list_values, VALUES_S)
        self._watched: tuple[Watched, ...] = ()

    async def read(self) -> BudgetsFacts:
        """Return the budgets in the order of the file."""
        file, now_ms = self._sources.policy().budgets, await self._sources.ledger.now_ms()
        values = await self._values.get()
        rows: list[tuple[str, Period, BudgetState, bool]] = []
        more: dict[str, int] = {}
        for rule, config in file.budgets.items():
            period = period_at(config.period, file.time_zone, now_ms)
            if config.each is None:
                rows.append((rule, period, *await self._state(rule, config, period)))
                continue
            names = values.get((rule, period.id), ())
            states = await self._states([(name, rule, period.id) for name in names])
            fullest = sorted(states, key=lambda it: (it.remaining_nano_usd, it.budget))
            rows += [(rule, period, it, True) for it in fullest[:VALUES_SHOWN]]
            more[rule] = max(0, len(fullest) - VALUES_SHOWN)
        watched = tuple(Watched(it.budget, rule, at) for rule, at, it, _ in rows)
        if watched != self._watched:
            self._watched = watched
            self._samples.forget()
        samples = await self._samples.get()
        return BudgetsFacts(
            tuple(
                _health(file, rule, period, state, in_force, samples, now_ms)
                for rule, period, state, in_force in rows
            ),
            more,
        )

    async def _state(self, rule: str, config: Budget, at: Period) -> tuple[BudgetState, bool]:
        found = await self._states([(rule, rule, at.id)])
        if found:
            return found[0], True
        return BudgetState(rule, rule, at.id, config.limit_nano_usd, 0, 0, 0, 0), False

    async def _states(self, names: Sequence[tuple[str, str, str]]) -> tuple[BudgetState, ...]:
        try:
            return await self._sources.ledger.states(names)
        except PolicyNotPublished:
            return ()

    async def _sample(self) -> Mapping[tuple[str, str], Sample]:
        found = await self._outbox.sample(self._watched)
        return {(it.state.budget, it.state.period_id): it for it in found}

    async def _list_values(self) -> Mapping[tuple[str, str], tuple[str, ...]]:
        """Return the counters of the rules with `each`, by rule and period: a bounded number."""
        file, now_ms = self._sources.policy().budgets, await self._sources.ledger.now_ms()
        found: dict[tuple[str, str], tuple[str, ...]] = {}
        for rule, config in file.budgets.items():
            if config.each is not None:
                period = period_at(config.period, file.time_zone, now_ms)
                found[rule, period.id] = await self._scan(rule, period.id)
        return found

    async def _scan(self, rule: str, period_id: str) -> tuple[str, ...]:
        # A rule's name and a period's id are made of letters, digits and `_.-`: no pattern signs.
        key, start = f"farebox:{{{self._sources.home.ledger}}}:counters", f"{period_id}:"
        client: Any = cast(Any, self._sources.client)
        names: set[str] = set()
        cursor = 0
        for _ in range(SCANS_MAX):
            with redis_errors():
                cursor, page = await client.sscan(
                    key, cursor, match=f"{start}{rule}:*", count=VALUES_READ_MAX
                )
            names.update(str(it).removeprefix(start) for it in page)
            if not int(cursor) or len(names) >= VALUES_READ_MAX:
                break
        return tuple(sorted(names)[:VALUES_READ_MAX])


def _health(
    file: BudgetsFile,
    rule: str,
    period: Period,
    state: BudgetState,
    in_force: bool,
    samples: Mapping[tuple[str, str], Sample],
    now_ms: int,
) -> BudgetHealth:
    config, sample = file.budgets[rule], samples.get((state.budget, period.id))
    return BudgetHealth(
        rule=rule,
        config=config,
        period=period,
        state=state,
        in_force=in_force,
        steps=tuple(_step(it, state) for it in file.thresholds_of(rule).as_ledger()),
        outlook=outlook(sample, period) if sample is not None and in_force else None,
        hours=sample.hours if sample is not None else {},
        time_ms=now_ms,
        value=unquote(state.budget.partition(":")[2]) if config.each is not None else None,
    )


def _step(threshold: Threshold, state: BudgetState) -> Step:
    return Step(threshold.level, threshold.percent, threshold.level in state.claimed)
