"""The panel at the top: whether the proxy is well, and what waits for a person."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from budgets import totals, workers
from budgets.alerts.outbox import Depths
from budgets.alerts.redis_outbox import RedisOutbox
from budgets.drift import findings
from budgets.period import period_at
from budgets.queue.items import Totals
from budgets.queue.redis_queue import RedisQueue
from budgets.redis_scripts import redis_errors
from budgets.workers import WorkerStatus
from hooks.board.sources import Sources


@dataclass(frozen=True, slots=True)
class SummaryFacts:
    """The state of things in a few numbers."""

    workers: tuple[WorkerStatus, ...]
    month: str
    requests: int
    refused: int
    cost_nano_usd: int
    approvals_open: int
    queue: Totals
    alerts: Depths
    findings: int
    refused_by_code: Mapping[str, int]

    @property
    def modes(self) -> tuple[str, ...]:
        """The modes that the workers are in."""
        return tuple(dict.fromkeys(it.mode for it in self.workers))

    @property
    def problems(self) -> tuple[str, ...]:
        """What keeps the newest edit of the configuration out, or waits for the ledger."""
        found = [one for it in self.workers for one in it.policy_errors]
        found += [f"{one}: needs a restart" for it in self.workers for one in it.needs_restart]
        if waiting := sum(it.journal_depth for it in self.workers):
            found.append(f"{waiting:,} lines wait for the ledger in the journal")
        if lost := sum(it.refusals_lost for it in self.workers):
            found.append(f"{lost:,} refusals were lost")
        return tuple(dict.fromkeys(found))

    @property
    def simulated(self) -> tuple[str, ...]:
        """The groups whose provider is simulated."""
        return tuple(sorted({one for it in self.workers for one in it.simulated_groups}))


async def read(sources: Sources) -> SummaryFacts:
    """Return the state of things."""
    name, ledger = sources.home.ledger, sources.ledger
    now_ms = await ledger.now_ms()
    month = period_at("month", sources.zone, now_ms).id
    counted, approvals, queue, alerts, found = await asyncio.gather(
        ledger.counters(month),
        ledger.open_tickets(),
        RedisQueue(sources.client, name).totals(),
        RedisOutbox(sources.client, name).depths(),
        findings.read(sources.client, name),
    )
    with redis_errors():
        running = await workers.read(sources.client, name, now_ms)
    everything = totals.grouped(counted, "all").get("", {})
    codes = totals.grouped(counted, "code")
    return SummaryFacts(
        workers=running,
        month=month,
        requests=everything.get("requests", 0),
        refused=everything.get("refused", 0),
        cost_nano_usd=everything.get("actual_nano", 0),
        approvals_open=approvals,
        queue=queue,
        alerts=alerts,
        findings=len(found),
        refused_by_code={code: it.get("refused", 0) for code, it in sorted(codes.items())},
    )
