"""What the journal's lines say: the ledger's operations as JSON, both ways.

A line is told to the ledger by the release that finds it, which may be a later one than wrote it:
fields may be added, and an absent one has its default.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple
from typing import Any

from budgets.holds import BudgetHold, HoldRequest
from budgets.leases.types import Adoption, SliceReturn
from budgets.period import Period
from budgets.records import RefusalRecord
from budgets.settlements import InputSample, OutputSample, Recovery, Settlement
from budgets.slices import OfflineHold

Content = dict[str, Any]


def of_settlement(settlement: Settlement) -> Content:
    """Return a settlement as a line's content."""
    known = settlement.recovery
    recovery = (
        None
        if known is None
        else {
            "amount": known.amount_nano_usd,
            "budgets": _of_budgets(known.budgets),
            "held_at": known.held_at_ms,
            "decision_id": known.decision_id,
            "stats_period": known.stats_period,
        }
    )
    return {
        "hold": settlement.hold_id,
        "cost": settlement.cost_nano_usd,
        "body": settlement.body,
        "charges": dict(settlement.charges),
        "counters": dict(settlement.counters),
        "samples": [
            [it.key, it.output_tokens, it.seed_tokens, it.rate] for it in settlement.samples
        ],
        "inputs": [list(astuple(it)) for it in settlement.input_samples],
        "recovery": recovery,
    }


def settlement(content: Content) -> Settlement:
    """Return the settlement of a line."""
    known = content.get("recovery")
    return Settlement(
        hold_id=content["hold"],
        cost_nano_usd=content["cost"],
        body=content["body"],
        charges=content["charges"],
        counters=content["counters"],
        samples=tuple(OutputSample(*it) for it in content.get("samples", ())),
        input_samples=tuple(InputSample(*it) for it in content.get("inputs", ())),
        recovery=None
        if known is None
        else Recovery(
            amount_nano_usd=known["amount"],
            budgets=_budgets(known["budgets"]),
            held_at_ms=known["held_at"],
            decision_id=known["decision_id"],
            stats_period=known["stats_period"],
        ),
    )


def _of_budgets(budgets: Iterable[BudgetHold]) -> list[list[Any]]:
    return [
        [
            *(it.budget, it.rule, it.period.id, it.period.start_ms, it.period.end_ms),
            *(it.amount_nano_usd, it.enforced),
        ]
        for it in budgets
    ]


def _budgets(rows: Iterable[Sequence[Any]]) -> tuple[BudgetHold, ...]:
    return tuple(
        BudgetHold(budget, rule, Period(period_id, start_ms, end_ms), amount, enforced)
        for budget, rule, period_id, start_ms, end_ms, amount, enforced in rows
    )


def of_offline(offline: OfflineHold) -> Content:
    """Return an offline hold as a line's content."""
    return {
        "hold": offline.hold_id,
        "amount": offline.amount_nano_usd,
        "budgets": _of_budgets(offline.budgets),
        "time": offline.time_ms,
        "facts": offline.facts,
        "decision_id": offline.decision_id,
        "decision": offline.decision,
        "stats_period": offline.stats_period,
        "owner": offline.owner,
    }


def offline(content: Content) -> OfflineHold:
    """Return the offline hold of a line."""
    return OfflineHold(
        hold_id=content["hold"],
        amount_nano_usd=content["amount"],
        budgets=_budgets(content["budgets"]),
        time_ms=content["time"],
        facts=content["facts"],
        decision_id=content["decision_id"],
        decision=content["decision"],
        stats_period=content["stats_period"],
        owner=content["owner"],
    )


def of_refusal(refusal: RefusalRecord) -> Content:
    """Return a refusal as a line's content."""
    return {
        "decision_id": refusal.decision_id,
        "code": refusal.code,
        "body": refusal.body,
        "decision": refusal.decision,
        "stats_period": refusal.stats_period,
        "counters": dict(refusal.counters),
    }


def refusal(content: Content) -> RefusalRecord:
    """Return the refusal of a line."""
    return RefusalRecord(
        decision_id=content["decision_id"],
        code=content["code"],
        body=content["body"],
        decision=content["decision"],
        stats_period=content["stats_period"],
        counters=content["counters"],
    )


def of_adoption(it: Adoption) -> Content:
    """Return a request from leased slices as a line's content."""
    request = it.request
    return {
        "hold": request.hold_id,
        "amount": request.amount_nano_usd,
        "budgets": _of_budgets(request.budgets),
        "lease_ms": request.lease_ms,
        "expected_ms": request.expected_end_ms_in,
        "facts": request.facts,
        "decision_id": request.decision_id,
        "decision": request.decision,
        "stats_period": request.stats_period,
        "slices": dict(it.slices),
        "time": it.time_ms,
    }


def adoption(content: Content) -> Adoption:
    """Return the request from leased slices of a line."""
    request = HoldRequest(
        hold_id=content["hold"],
        amount_nano_usd=content["amount"],
        budgets=_budgets(content["budgets"]),
        lease_ms=content["lease_ms"],
        expected_end_ms_in=content["expected_ms"],
        facts=content["facts"],
        decision_id=content["decision_id"],
        decision=content["decision"],
        stats_period=content["stats_period"],
    )
    return Adoption(request, content["slices"], content["time"])


def of_return(it: SliceReturn) -> Content:
    """Return a leased slice that goes back as a line's content."""
    return {"slice": it.slice_id}
