"""The outbox as a model in memory: the specification that the Redis store is held to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from budgets.alerts.outbox import (
    HOUR_MS,
    HOURS_KEPT,
    Alert,
    Dead,
    Delivery,
    Depths,
    Gathered,
    Progress,
    Raised,
    Sample,
    Watched,
)
from budgets.errors import PolicyNotPublished
from budgets.memory import MemoryLedger


@dataclass
class _Hours:
    period_id: str
    spent: int
    since_ms: int
    sums: dict[int, int] = field(default_factory=dict)


@dataclass
class _Waiting:
    alert: Alert
    due_ms: int
    taken: int = 0


class MemoryOutbox:
    """An `Outbox` beside a `MemoryLedger`, which raises alerts into it."""

    def __init__(self, ledger: MemoryLedger) -> None:
        self._ledger = ledger
        self._taken: dict[str, int] = {}
        self._alerts: dict[str, Alert] = {}
        self._progress: dict[str, dict[str, Progress]] = {}
        self._waiting: dict[tuple[str, str], _Waiting] = {}
        self._counts: dict[str, dict[str, int]] = {"delivered": {}, "failed": {}, "dead": {}}
        self._hours: dict[str, _Hours] = {}
        self._claims: dict[tuple[str, str, str], tuple[int, str]] = {}
        self._cursor = ""
        self._gathering: dict[str, tuple[int, int, int]] = {}
        self._quiet_until: dict[str, int] = {}

    # ── raising ──────────────────────────────────────────────────────────────────────────────────

    async def note(self, kind: str, body: str) -> None:
        self._ledger.add_event(kind, await self._ledger.now_ms(), body)

    async def raise_alert(self, kind: str, body: str) -> None:
        self._ledger.raise_alert(kind, await self._ledger.now_ms(), body)

    async def counters_of(self, rule: str, period_id: str, count_max: int) -> tuple[str, ...]:
        names = self._ledger.counter_names(rule, period_id)
        return tuple(name for name in names if name != rule)[:count_max]

    async def sample(self, watched: Sequence[Watched]) -> tuple[Sample, ...]:
        now = await self._ledger.now_ms()
        samples = []
        for it in watched:
            try:
                (state,) = await self._ledger.states([(it.budget, it.rule, it.period.id)])
            except PolicyNotPublished:
                continue
            hour, spent = now // HOUR_MS, state.spent_nano_usd
            known = self._hours.get(it.budget)
            if known is None:
                known = self._hours[it.budget] = _Hours(it.period.id, spent, now)
            elif known.period_id == it.period.id:
                known.sums[hour] = known.sums.get(hour, 0) + spent - known.spent
            else:
                known.sums[hour] = known.sums.get(hour, 0) + spent
            known.period_id, known.spent = it.period.id, spent
            known.sums = {h: n for h, n in known.sums.items() if n and h >= hour - HOURS_KEPT}
            samples.append(Sample(state, now, known.since_ms, dict(known.sums)))
        return tuple(samples)

    async def claim(
        self, watched: Watched, kind: str, mark: str, limit_epoch: int, body: str
    ) -> bool:
        try:
            (state,) = await self._ledger.states(
                [(watched.budget, watched.rule, watched.period.id)]
            )
        except PolicyNotPublished:
            return False
        key, claimed = (watched.budget, watched.period.id, kind), (state.limit_epoch, mark)
        if state.limit_epoch != limit_epoch or self._claims.get(key) == claimed:
            return False
        self._claims[key] = claimed
        await self.raise_alert(kind, body)
        return True

    async def gathered_to(self) -> str:
        return self._cursor

    async def gather(self, after: str, to: str, found: Sequence[Gathered], pause_ms: int) -> bool:
        if after != self._cursor:
            return False
        self._cursor, now = to, await self._ledger.now_ms()
        for it in found:
            count, total, since = self._gathering.get(it.kind, (0, 0, now))
            if it.count:
                count, total = count + it.count, total + it.sum_nano_usd
                self._gathering[it.kind] = (count, total, since)
            if count and self._quiet_until.get(it.kind, 0) <= now:
                told = {"of": it.kind, "count": count, "sum_nano_usd": total, "since_ms": since}
                await self.raise_alert("gathered", json.dumps(told))
                del self._gathering[it.kind]
                self._quiet_until[it.kind] = now + pause_ms
        return True

    # ── routing ──────────────────────────────────────────────────────────────────────────────────

    async def take_raised(self, count_max: int, lease_ms: int) -> tuple[Raised, ...]:
        now = await self._ledger.now_ms()
        waiting = self._ledger.outbox
        stale = [it for it in waiting if it.id in self._taken]
        stale = [it for it in stale if self._taken[it.id] + lease_ms <= now]
        taken = (stale + [it for it in waiting if it.id not in self._taken])[:count_max]
        self._taken |= {it.id: now for it in taken}
        return tuple(Raised(it.id, it.id, it.kind, it.time_ms, it.body) for it in taken)

    async def route(self, line: str, alert: Alert, channels: Sequence[str]) -> bool:
        if self._taken.pop(line, None) is None:
            return False
        self._ledger.outbox[:] = [it for it in self._ledger.outbox if it.id != line]
        now = await self._ledger.now_ms()
        self._alerts[alert.id] = alert
        self._progress[alert.id] = {it: Progress(it, "waiting") for it in channels}
        for channel in channels:
            self._waiting[alert.id, channel] = _Waiting(alert, now)
        return True

    # ── delivering ───────────────────────────────────────────────────────────────────────────────

    async def take_due(self, count_max: int, lease_ms: int) -> tuple[Delivery, ...]:
        now = await self._ledger.now_ms()
        due = [(it.due_ms, key) for key, it in self._waiting.items() if it.due_ms <= now]
        deliveries = []
        for _, (alert_id, channel) in sorted(due)[:count_max]:
            waiting = self._waiting[alert_id, channel]
            waiting.due_ms, waiting.taken = now + lease_ms, waiting.taken + 1
            attempts = self._progress[alert_id][channel].attempts
            deliveries.append(Delivery(waiting.alert, channel, attempts, waiting.taken))
        return tuple(deliveries)

    async def delivered(self, delivery: Delivery) -> bool:
        alert_id, channel = delivery.alert.id, delivery.channel
        if self._waiting.pop((alert_id, channel), None) is None:
            return False
        progress = self._progress[alert_id][channel]
        now = await self._ledger.now_ms()
        ended = replace(progress, state="delivered", error="", ended_ms=now)
        self._progress[alert_id][channel] = ended
        self._count("delivered", channel)
        return True

    async def failed(self, delivery: Delivery, error: str, again_in_ms: int | None) -> bool:
        alert_id, channel = delivery.alert.id, delivery.channel
        waiting = self._waiting.get((alert_id, channel))
        if waiting is None or waiting.taken != delivery.taken:
            return False
        now = await self._ledger.now_ms()
        progress = self._progress[alert_id][channel]
        progress = replace(progress, attempts=progress.attempts + 1, error=error)
        self._count("failed", channel)
        if again_in_ms is None:
            progress = replace(progress, state="dead", ended_ms=now)
            self._count("dead", channel)
            del self._waiting[alert_id, channel]
        else:
            waiting.due_ms = now + again_in_ms
        self._progress[alert_id][channel] = progress
        return True

    async def postpone(self, delivery: Delivery, ms: int) -> bool:
        waiting = self._waiting.get((delivery.alert.id, delivery.channel))
        if waiting is None or waiting.taken != delivery.taken:
            return False
        waiting.due_ms = await self._ledger.now_ms() + ms
        return True

    def _count(self, outcome: str, channel: str) -> None:
        self._counts[outcome][channel] = self._counts[outcome].get(channel, 0) + 1

    # ── for people ───────────────────────────────────────────────────────────────────────────────

    async def depths(self) -> Depths:
        return Depths(
            raised=len(self._ledger.outbox),
            waiting=len(self._waiting),
            dead=len(await self.dead()),
            delivered=dict(self._counts["delivered"]),
            failed=dict(self._counts["failed"]),
            given_up=dict(self._counts["dead"]),
        )

    async def progress(self, alert_id: str) -> tuple[str, tuple[Progress, ...]] | None:
        if alert_id not in self._alerts:
            return None
        by_channel = self._progress[alert_id]
        return self._alerts[alert_id].level, tuple(by_channel[it] for it in sorted(by_channel))

    async def dead(self) -> tuple[Dead, ...]:
        found = [
            Dead(self._alerts[alert_id], progress, progress.ended_ms or 0)
            for alert_id, channels in self._progress.items()
            for progress in channels.values()
            if progress.state == "dead"
        ]
        return tuple(sorted(found, key=lambda it: (it.time_ms, it.alert.id), reverse=True))

    async def retry(self, keys: Sequence[str]) -> int:
        begun, now = 0, await self._ledger.now_ms()
        for key in keys:
            alert_id, _, channel = key.partition("|")
            progress = self._progress.get(alert_id, {}).get(channel)
            if progress is not None and progress.state == "dead":
                self._progress[alert_id][channel] = replace(
                    progress, state="waiting", attempts=0, ended_ms=None
                )
                self._waiting[alert_id, channel] = _Waiting(self._alerts[alert_id], now)
                begun += 1
        return begun
