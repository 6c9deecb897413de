"""Figures for Prometheus that are read from the ledger at a scrape: money, queue, outbox, drift.

Whichever worker is scraped, and on whichever machine, it reads the same ones, so queries over
several take the maximum and not the sum. A scrape asks Redis a dozen things and no more for each
two hundred budgets. Where Redis does not answer, all of this is absent and `farebox_ledger_read` is
0: what is not known is never shown as zero.

A rule with `each` can have as many counters as there are users: the fullest of them are shown, and
`farebox_budget_counters` says how many there are.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import structlog
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector

from budgets import workers
from budgets.alerts.outbox import Depths
from budgets.alerts.redis_outbox import RedisOutbox
from budgets.config import BudgetsFile
from budgets.drift import findings as drift
from budgets.errors import LedgerUnavailable, PolicyNotPublished
from budgets.holds import BudgetState
from budgets.ledger import Ledger
from budgets.money import NANO_PER_USD
from budgets.period import period_at
from budgets.queue.items import Totals
from budgets.queue.redis_queue import RedisQueue
from budgets.runtime import Runtime
from budgets.workers import WorkerStatus

log = structlog.get_logger("farebox.metrics")

READ_TIMEOUT_S = 3.0
FRESH_S = 1.0
"""For how long a reading serves further scrapes: several of them do not ask Redis several times."""

EACH_INTERVAL_S = 300.0
EACH_READ_MAX = 1_000
"""How many counters of a rule with `each` are looked at, every five minutes."""
EACH_SHOWN_MAX = 50
EACH_SHOWN_IN_ALL_MAX = 500

_Labels = TypeVar("_Labels", bound=tuple[str, ...])


@dataclass(frozen=True, slots=True)
class BudgetFigures:
    """A budget's counter with what its rule says of it. Times are Unix ms."""

    state: BudgetState
    period: str
    resets_ms: int
    levels: tuple[str, ...]


@dataclass(frozen=True)
class StoreFigures:
    """What one reading found; None and empty are what it did not find out."""

    budgets: Sequence[BudgetFigures] = ()
    counters: Mapping[str, int] = field(default_factory=dict)
    queue: Totals | None = None
    alerts: Depths | None = None
    approvals_open: int | None = None
    workers: Sequence[WorkerStatus] = ()
    scores: Mapping[tuple[str, str], float] = field(default_factory=dict)
    findings: Sequence[drift.Finding] = ()


class StoreReader:
    """Reads the figures of one ledger. One a worker.

    Args:
        runtime: the worker's connection; None while there is none.
        budgets: the file in force.
        name: the ledger's name.
        categories: those that the policy has a queue for, so that an empty one shows as 0.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        runtime: Callable[[], Runtime | None],
        budgets: Callable[[], BudgetsFile],
        name: str,
        categories: Callable[[], Sequence[str]] = tuple,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._runtime = runtime
        self._budgets = budgets
        self._name = name
        self._categories = categories
        self._clock = clock
        self._each: dict[tuple[str, str], tuple[float, int, tuple[str, ...]]] = {}
        self._last: tuple[float, Families] | None = None
        self._reading = asyncio.Lock()

    async def families(self) -> Families:
        """Return what a scrape shows, read now or a moment ago."""
        async with self._reading:
            if self._last is None or self._clock() - self._last[0] >= FRESH_S:
                found = await self._read()
                self._last = (self._clock(), Families(found, self._categories()))
            return self._last[1]

    async def _read(self) -> StoreFigures | None:
        runtime = self._runtime()
        if runtime is None or runtime.client is None or not runtime.available:
            return None
        client, name = runtime.client, self._name
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                now_ms = await runtime.ledger.now_ms()
                outbox = RedisOutbox(client, name)
                budgets, counters = await self._read_budgets(runtime.ledger, outbox, now_ms)
                return StoreFigures(
                    budgets=budgets,
                    counters=counters,
                    queue=await RedisQueue(client, name).totals(),
                    alerts=await outbox.depths(),
                    approvals_open=await runtime.ledger.open_tickets(),
                    workers=await workers.read(client, name, time.time_ns() // 1_000_000),
                    scores=await drift.scores(client, name),
                    findings=await drift.read(client, name),
                )
        except (LedgerUnavailable, TimeoutError) as error:
            log.warning("metrics_not_read", reason=str(error) or "no answer in time")
        except Exception:
            # A figure less is worth no scrape.
            log.exception("metrics_not_read")
        return None

    async def _read_budgets(
        self, ledger: Ledger, outbox: RedisOutbox, now_ms: int
    ) -> tuple[tuple[BudgetFigures, ...], Mapping[str, int]]:
        file = self._budgets()
        named: list[tuple[str, str, str]] = []
        facts: dict[tuple[str, str], tuple[str, int, tuple[str, ...]]] = {}
        counters: dict[str, int] = {}
        shown = 0
        for rule, config in file.budgets.items():
            period = period_at(config.period, file.time_zone, now_ms)
            levels = tuple(it.level.value for it in file.thresholds_of(rule).as_ledger())
            names: Sequence[str] = (rule,)
            if config.each is not None:
                counters[rule], names = await self._fullest(ledger, outbox, rule, period.id)
                names = names[: max(0, EACH_SHOWN_IN_ALL_MAX - shown)]
                shown += len(names)
            for name in names:
                named.append((name, rule, period.id))
                facts[name, period.id] = (config.period, period.end_ms, levels)
        states = await _states(ledger, named)
        return tuple(
            BudgetFigures(state, *facts[state.budget, state.period_id]) for state in states
        ), counters

    async def _fullest(
        self, ledger: Ledger, outbox: RedisOutbox, rule: str, period_id: str
    ) -> tuple[int, Sequence[str]]:
        """Return how many counters a rule has, as far as they are looked at, and the fullest."""
        known = self._each.get((rule, period_id))
        if known is None or self._clock() - known[0] >= EACH_INTERVAL_S:
            names = await outbox.counters_of(rule, period_id, EACH_READ_MAX)
            states = await _states(ledger, [(name, rule, period_id) for name in names])
            fullest = sorted(states, key=lambda it: (it.remaining_nano_usd, it.budget))
            kept = tuple(it.budget for it in fullest[:EACH_SHOWN_MAX])
            # Only the current period of a rule is kept.
            self._each = {key: it for key, it in self._each.items() if key[0] != rule}
            known = self._each[rule, period_id] = (self._clock(), len(names), kept)
        return known[1], known[2]


async def _states(ledger: Ledger, named: list[tuple[str, str, str]]) -> tuple[BudgetState, ...]:
    """Return the counters of those rules whose limit is in force."""
    try:
        return await ledger.states(named)
    except PolicyNotPublished:
        pass
    found: list[BudgetState] = []
    for one in named:
        try:
            found += await ledger.states([one])
        except PolicyNotPublished:
            continue
    return tuple(found)


class Families(Collector):
    """What was read, as Prometheus' families. `found` is None where nothing could be read."""

    def __init__(self, found: StoreFigures | None, categories: Sequence[str]) -> None:
        self._found = found
        self._categories = categories

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the families that have a value."""
        for family in self.described():
            if family.samples:
                yield family

    def described(self) -> Iterator[GaugeMetricFamily]:
        """Yield all families, those without a value too."""
        yield _gauge(
            "farebox_ledger_read",
            "1 where this scrape read the money from the ledger, 0 where all of it is absent.",
            (),
            {(): float(self._found is not None)},
        )
        if self._found is not None:
            yield from _families(self._found, self._categories)


def _families(found: StoreFigures, categories: Sequence[str]) -> Iterator[GaugeMetricFamily]:
    yield from _of_budgets(found)
    yield from _of_queue(found.queue, categories)
    if found.alerts is not None:
        waiting = found.alerts.raised + found.alerts.waiting
        yield _gauge(
            "farebox_alerts_waiting",
            "Alerts in the outbox, and deliveries that wait for their next attempt or a quiet "
            "hour's end.",
            (),
            {(): waiting},
        )
        yield _gauge(
            "farebox_alerts_given_up",
            "Deliveries of alerts that were given up and can be tried again.",
            (),
            {(): found.alerts.dead},
        )
    if found.approvals_open is not None:
        yield _gauge(
            "farebox_approvals_open",
            "Tickets that wait for an approver's answer.",
            (),
            {(): found.approvals_open},
        )
    yield from _of_workers(found.workers)
    yield _gauge(
        "farebox_drift_score",
        "How near the most conspicuous series of a signal is to being out of control: from 1 on "
        "it is.",
        ("signal", "task_type"),
        found.scores,
    )
    yield _gauge(
        "farebox_drift_finding",
        "Series of the signal that are out of control.",
        ("signal", "task_type"),
        _findings(found),
    )


def _findings(found: StoreFigures) -> Mapping[tuple[str, str], float]:
    """Return how many there are; what is watched and has none is 0, what is not is absent."""
    counts: dict[tuple[str, str], float] = dict.fromkeys(found.scores, 0)
    for it in found.findings:
        of = (it.signal, it.task_type or "")
        counts[of] = counts.get(of, 0) + 1
    return counts


def _of_budgets(found: StoreFigures) -> Iterator[GaugeMetricFamily]:
    labels = ("budget", "rule", "period")
    rows = {(it.state.budget, it.state.rule, it.period): it for it in found.budgets}

    def usd(name: str, text: str, amount: Callable[[BudgetState], int]) -> GaugeMetricFamily:
        values = {key: amount(it.state) / NANO_PER_USD for key, it in rows.items()}
        return _gauge(f"farebox_budget_{name}_usd", text, labels, values)

    yield usd(
        "limit",
        "What may be spent in the budget's current period: the limit with what was carried and "
        "granted.",
        lambda it: it.bearable_nano_usd,
    )
    yield usd("spent", "What was spent in the current period.", lambda it: it.spent_nano_usd)
    yield usd("held", "What is set aside for requests on their way.", lambda it: it.held_nano_usd)
    yield usd(
        "remaining",
        "Limit less spent less held; below zero after an overage.",
        lambda it: it.remaining_nano_usd,
    )
    yield _gauge(
        "farebox_budget_holds",
        "Requests on their way that hold money of the budget.",
        labels,
        {key: it.state.holds for key, it in rows.items()},
    )
    yield _gauge(
        "farebox_budget_resets_timestamp_seconds",
        "When the current period ends, as Unix time.",
        labels,
        {key: it.resets_ms / 1000 for key, it in rows.items()},
    )
    yield _gauge(
        "farebox_budget_threshold_passed",
        "1 where the level was claimed in the current period, else 0, by level.",
        (*labels, "level"),
        {
            (*key, level): float(level in {claimed.value for claimed in it.state.claimed})
            for key, it in rows.items()
            for level in it.levels
        },
    )
    yield _gauge(
        "farebox_budget_counters",
        "Counters of a rule with `each` in the current period, up to a thousand; the fullest are "
        "shown.",
        ("rule",),
        {(rule,): count for rule, count in found.counters.items()},
    )


def _of_queue(totals: Totals | None, categories: Sequence[str]) -> Iterator[GaugeMetricFamily]:
    if totals is None:
        return
    depths = dict.fromkeys(categories, 0) | {it.category: it.requests for it in totals.depths}
    yield _gauge(
        "farebox_queue_depth",
        "Queued requests that wait or run, by category.",
        ("category",),
        {(category,): depth for category, depth in depths.items()},
    )
    yield _gauge(
        "farebox_queue_age_seconds",
        "How long the oldest queued request that has not ended has waited.",
        (),
        {(): totals.age_ms() / 1000},
    )
    yield _gauge(
        "farebox_queue_expected_usd",
        "What the queued requests will probably cost together, in US dollars.",
        (),
        {(): totals.estimate_nano_usd / NANO_PER_USD},
    )
    yield _gauge("farebox_queue_dead", "Requests on the dead-letter list.", (), {(): totals.dead})


def _of_workers(alive: Sequence[WorkerStatus]) -> Iterator[GaugeMetricFamily]:
    yield _gauge("farebox_workers", "Workers of the proxy that are alive.", (), {(): len(alive)})
    yield _gauge(
        "farebox_policies_in_force",
        "Different policies that the workers decide by: 1, but for seconds after an edit.",
        (),
        {(): len({it.policy_digest for it in alive})} if alive else {},
    )
    yield _gauge(
        "farebox_policy_rejected",
        "Workers that do not take the newest edit of the configuration.",
        (),
        {(): sum(bool(it.policy_errors) for it in alive)},
    )
    yield _gauge(
        "farebox_policy_needs_restart",
        "Workers with an edit that only a restart brings into force.",
        (),
        {(): sum(bool(it.needs_restart) for it in alive)},
    )


def _gauge(
    name: str, text: str, labels: Sequence[str], values: Mapping[_Labels, float]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family
