"""Closes what has ended, in whichever worker leads, and keeps a snapshot of each month.

    period ends ─► its last hold ends ─► close_period ─► snapshot in Redis ─► its digest in the
                                                         audit trail ─► file ─► report

Every worker looks every few seconds, and one of them has the role `month_closer` in the ledger. The
role spares work and is not needed for safety: each step happens once however many try, and one that
a crash left undone is done at the next look. A new period needs none of this: it begins with its
first request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from budgets.config import BudgetsFile
from budgets.errors import LedgerUnavailable
from budgets.home import HomeError
from budgets.ledger import Ledger
from budgets.months.closing import HoldsOpen, close, ended_periods, first_activity_ms
from budgets.months.keeping import SnapshotFolder, Snapshots
from budgets.months.snapshot import Snapshot, SnapshotDamaged, read_snapshot, snapshot_of
from budgets.period import Period, kind_of
from budgets.statements import PeriodOpen, Statement

log = structlog.get_logger("farebox.months")

ROLE = "month_closer"
LOOK_INTERVAL_S = 15.0
LEASE_MS = 60_000
"""How long a worker that no longer looks keeps the role."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a policy says: the finance owner's file, and the revision of all files together."""

    budgets: BudgetsFile
    revision: str


@dataclass(frozen=True, slots=True)
class Months:
    """The months of one ledger: how they are closed and kept."""

    ledger: Ledger
    name: str
    snapshots: Snapshots
    folder: SnapshotFolder

    async def close(
        self, rules: Rules, period: Period, closed_by: str, *, with_open_holds: bool = False
    ) -> Statement | PeriodOpen | HoldsOpen:
        """Close a period; a month that is closed gets its snapshot and file, unless it has them.

        Raises:
            LedgerUnavailable, SnapshotDamaged, HomeError, OSError: what was done until then stays,
                and a later call goes on from there.
        """
        answer = await close(self.ledger, rules.budgets, period, with_open_holds=with_open_holds)
        if isinstance(answer, Statement) and kind_of(period.id) == "month":
            await self._keep(rules, answer, closed_by)
        return answer

    async def snapshot(self, period_id: str) -> Snapshot | None:
        """Return the snapshot that Redis keeps of a month; raises as `proved_snapshot` does."""
        return await proved_snapshot(self.ledger, self.snapshots, period_id)

    async def _keep(self, rules: Rules, statement: Statement, closed_by: str) -> None:
        text = await self.snapshots.kept(statement.period_id)
        if text is None:
            made = snapshot_of(
                statement,
                await self.ledger.counters(statement.period_id),
                ledger=self.name,
                zone=rules.budgets.time_zone,
                policy=rules.revision,
                baseline_nano_usd=rules.budgets.baseline_nano_usd_per_month,
                closed_by=closed_by,
            )
            text = await self.snapshots.keep(statement.period_id, made.to_json())
        kept = read_snapshot(text, where_in_redis(statement.period_id))
        noted = await self.ledger.trail.mark(mark_of(kept.period_id))
        if noted is None:
            await self.ledger.trail.append(
                kept.closed_by,
                "month_snapshot",
                {"period_id": kept.period_id, "digest": kept.digest},
                mark=(mark_of(kept.period_id), kept.digest),
            )
        await proved_snapshot(self.ledger, self.snapshots, kept.period_id)
        path = await asyncio.to_thread(self.folder.write, text)
        log.info("month_kept", period_id=statement.period_id, file=str(path))


def mark_of(period_id: str) -> str:
    """Return the name under which the audit trail marks a month's digest."""
    return f"month:{period_id}"


def where_in_redis(period_id: str) -> str:
    """Return how a text names the snapshot in Redis."""
    return f"the snapshot of {period_id} in Redis"


async def proved_snapshot(ledger: Ledger, snapshots: Snapshots, period_id: str) -> Snapshot | None:
    """Return the snapshot that Redis keeps of a month; None where it is not closed.

    Raises:
        SnapshotDamaged: it is not what was written, or not what the audit trail says.
    """
    text = await snapshots.kept(period_id)
    if text is None:
        return None
    found = read_snapshot(text, where_in_redis(period_id))
    if await ledger.trail.mark(mark_of(period_id)) not in (None, found.digest):
        problem = "its digest is not the one in the audit trail"
        raise SnapshotDamaged(where_in_redis(period_id), problem)
    return found


class MonthCloser:
    """Closes periods in the background.

    Args:
        months: what is closed.
        rules: returns what the policy in force says.
        worker: who takes the role; each worker has its own name.
        report: writes the report of a month that was closed; it may fail.
    """

    def __init__(
        self,
        months: Months,
        rules: Callable[[], Rules],
        worker: str,
        report: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        self._months = months
        self._rules = rules
        self._worker = worker
        self._report = report
        self._first_ms: int | None = None
        self._done: set[str] = set()

    async def run(self) -> None:
        """Look now and then; never ends by itself."""
        while True:
            try:
                await self.look()
            except (LedgerUnavailable, SnapshotDamaged, HomeError, OSError) as error:
                log.error("month_not_closed", reason=str(error), error=type(error).__name__)
            except Exception:
                log.exception("month_not_closed")
            await asyncio.sleep(LOOK_INTERVAL_S)

    async def look(self) -> tuple[str, ...] | None:
        """Close what has ended and whose holds have ended; return what was seen to be closed.

        None: another worker leads.

        Raises:
            LedgerUnavailable, SnapshotDamaged, HomeError, OSError: as for `Months.close`.
        """
        ledger = self._months.ledger
        if not await ledger.lead(ROLE, self._worker, LEASE_MS):
            return None
        rules = self._rules()
        if self._first_ms is None:
            self._first_ms = await first_activity_ms(ledger, rules.budgets.time_zone)
            if self._first_ms is None:
                return ()
        closed = []
        for period in ended_periods(rules.budgets, self._first_ms, await ledger.now_ms()):
            if period.id in self._done:
                continue
            answer = await self._months.close(rules, period, self._worker)
            if not isinstance(answer, Statement):
                continue
            self._done.add(period.id)
            closed.append(period.id)
            if self._report is not None and kind_of(period.id) == "month":
                await self._report(period.id)
        return tuple(closed)
