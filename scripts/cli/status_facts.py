"""What `farebox status` tells, read at one moment, and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from budgets import totals, workers
from budgets.alerts.outbox import Depths
from budgets.alerts.redis_outbox import RedisOutbox
from budgets.config import BudgetsFile
from budgets.home import Home
from budgets.learned import Learned
from budgets.ledger import Leader
from budgets.queue.items import Totals
from budgets.queue.redis_queue import RedisQueue
from budgets.queue.view import totals_dict
from budgets.workers import WorkerStatus
from budgets.yamlfile import ConfigErrors
from scripts.cli import gates_view
from scripts.cli.context import OpenLedger, budgets_of, open_ledger, stats_period
from scripts.cli.money_view import BudgetView, budget_views
from scripts.cli.output import (
    amount,
    share,
    time_iso,
)
from scripts.cli.shadow import ShadowTotals


@dataclass(frozen=True, slots=True)
class Status:
    """Everything that the command shows, read at one moment."""

    home: Home
    zone: str
    now_ms: int
    period: str
    workers: tuple[WorkerStatus, ...]
    budgets: Sequence[BudgetView]
    budget_errors: ConfigErrors | None
    counters: Mapping[str, int]
    learned: Learned
    leaders: tuple[Leader, ...] = ()
    alerts: Depths = field(default_factory=Depths)
    approvals_open: int = 0
    queue: Totals | None = None

    @property
    def refused_edits(self) -> tuple[str, ...]:
        """What keeps the newest edit of the configuration from being in force."""
        return tuple(dict.fromkeys(one for w in self.workers for one in w.policy_errors))

    @property
    def needs_restart(self) -> tuple[str, ...]:
        """The sections whose edit waits for a restart."""
        return tuple(dict.fromkeys(one for w in self.workers for one in w.needs_restart))

    @property
    def digests(self) -> tuple[str, ...]:
        """The policies in force; more than one while workers differ."""
        return tuple(dict.fromkeys(w.policy_digest for w in self.workers))


async def read(home: Home) -> Status:
    """Return what there is to tell now."""
    async with open_ledger(home) as opened:
        return await read_at(home, opened)


async def read_at(home: Home, opened: OpenLedger) -> Status:
    """Return what there is to tell now, by a ledger that is open already."""
    budgets = budgets_of(home)
    zone = budgets.time_zone if isinstance(budgets, BudgetsFile) else "UTC"
    opened = replace(opened, now_ms=await opened.ledger.now_ms())
    period = stats_period(zone, opened.now_ms)
    return Status(
        home=home,
        zone=zone,
        now_ms=opened.now_ms,
        period=period,
        workers=await workers.read(opened.client, home.ledger, opened.now_ms),
        budgets=await budget_views(opened, budgets) if isinstance(budgets, BudgetsFile) else [],
        budget_errors=None if isinstance(budgets, BudgetsFile) else budgets,
        counters=await opened.ledger.counters(period),
        learned=await opened.ledger.learned(),
        leaders=await opened.ledger.leaders(),
        alerts=await RedisOutbox(opened.client, home.ledger).depths(),
        approvals_open=await opened.ledger.open_tickets(),
        queue=await RedisQueue(opened.client, home.ledger).totals(),
    )


def as_dict(found: Status) -> dict[str, Any]:
    return {
        "time": time_iso(found.now_ms),
        "time_zone": found.zone,
        "ledger": found.home.ledger,
        "proxy": {
            "running": bool(found.workers),
            "modes": list(dict.fromkeys(w.mode for w in found.workers)),
            "policy_digests": list(found.digests),
            "policy_errors": list(found.refused_edits),
            "needs_restart": list(found.needs_restart),
            "simulated_groups": simulated(found.workers),
            "workers": [asdict(worker) for worker in found.workers],
            "leaders": [
                {"role": it.role, "owner": it.owner, "until": time_iso(it.until_ms)}
                for it in found.leaders
            ],
        },
        "configuration_errors": [
            str(finding)
            for finding in (found.budget_errors.findings if found.budget_errors else ())
        ],
        "budgets": [view.as_dict() for view in found.budgets],
        "alerts": asdict(found.alerts),
        "approvals_open": found.approvals_open,
        "period": found.period,
        "requests": {
            "total": measured(overall(found.counters)),
            "by_category": by(found.counters, "category"),
            "by_task_type": by(found.counters, "task_type"),
            "by_model": by(found.counters, "model"),
            "refused_by_code": refusals(found.counters),
        },
        "gates": gates_view.as_dict(gates_view.read(found.counters)),
        "queue": totals_dict(found.queue) if found.queue else None,
        "shadow": ShadowTotals.read(found.counters).as_dict(),
        "learned_output_tokens": [
            {
                "task_type": key.partition("|")[0],
                "group": key.partition("|")[2],
                "mean": round(known.mean_tokens, 2),
                "quantile95": round(known.quantile95_tokens, 2),
                "count": known.count,
            }
            for key, known in sorted(found.learned.outputs.items())
        ],
        "learned_input_factors": [
            {
                "of": key.partition(":")[0],
                "name": key.partition(":")[2],
                "factor": round(margin.factor, 4),
                "bound": round(margin.bound, 4),
                "count": margin.count,
            }
            for key, margin in sorted(found.learned.inputs.items())
        ],
    }


def overall(counters: Mapping[str, int]) -> dict[str, int]:
    return totals.grouped(counters, "all").get("", {})


def by(counters: Mapping[str, int], subject: str) -> dict[str, dict[str, Any]]:
    groups = totals.grouped(counters, subject)
    return {name: measured(measures) for name, measures in sorted(groups.items())}


def measured(measures: Mapping[str, int]) -> dict[str, Any]:
    return {
        "requests": measures.get("requests", 0),
        "refused": measures.get("refused", 0),
        **amount("actual", measures.get("actual_nano", 0)),
        "judged": measures.get("judged", 0),
        "estimate_error": estimate_error(measures),
        "overage": measures.get("overage", 0),
        "overage_share": share(measures.get("overage", 0), measures.get("requests", 0)),
        **amount("overage", measures.get("overage_nano", 0)),
    }


def estimate_error(measures: Mapping[str, int]) -> float | None:
    """Return (actual - estimate) / actual over what can be judged; None where nothing can."""
    actual = measures.get("judged_actual_nano", 0)
    return share(actual - measures.get("judged_estimate_nano", 0), actual)


def refusals(counters: Mapping[str, int]) -> dict[str, int]:
    codes = totals.grouped(counters, "code")
    return {code: measures.get("refused", 0) for code, measures in sorted(codes.items())}


def simulated(running: Sequence[WorkerStatus]) -> list[str]:
    return sorted({group for worker in running for group in worker.simulated_groups})
