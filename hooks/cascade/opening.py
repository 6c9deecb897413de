"""One hold for a planned request: first for what must be, then for the whole plan.

The hold of the decided group with its gate is asked for like any other, with all that a refusal
brings. Only then is it raised to the whole plan. A raise that a budget refuses claims no threshold
and refuses nobody: the request goes on without the cascade, and says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from budgets import money
from budgets.errors import ClockSkew, LedgerUnavailable
from budgets.holds import BudgetHold
from budgets.holds import Refused as LedgerRefused
from budgets.open_requests import OpenRequest, Terms
from budgets.runtime import Runtime
from budgets.sends import Role, Send, Sends
from hooks import headers
from hooks.cascade.plan import Plan, Rung
from hooks.case import Case
from hooks.escalation import Asked
from hooks.request import RequestView
from hooks.terms import terms_of_more

if TYPE_CHECKING:
    from hooks.admission import Admission


@dataclass(frozen=True, slots=True)
class Underway:
    """The plan of a request that was admitted: `rungs` are what its hold is for.

    `call_terms` are those of a gate's questions, by the group asked. `chain` is what the decision
    would send to. `skipped` says why the rungs are not the whole plan.
    """

    plan: Plan
    rungs: tuple[Rung, ...]
    call_terms: Mapping[str, Terms]
    view: RequestView
    chain: tuple[str, ...] = ()
    skipped: str = ""

    def after(self, place: int) -> tuple[str, ...]:
        """Return who goes on where a rung's provider fails: the rungs above, then the chain."""
        below = {rung.group for rung in self.rungs[: place + 1]}
        later = (*(rung.group for rung in self.rungs[place + 1 :]), *self.chain)
        return tuple(group for group in dict.fromkeys(later) if group not in below)

    def place_of(self, group: str) -> int | None:
        """Return the place of a group among the rungs; a fallback may be beyond them."""
        return next((i for i, rung in enumerate(self.rungs) if rung.group == group), None)


def least_hold(case: Case, plan: Plan, first: Terms) -> tuple[int, tuple[BudgetHold, ...]]:
    """Return the hold of the decided group with its gate."""
    gate = plan.least[0].gate
    if gate is None or not gate.asks or gate.group is None:
        return first.hold_nano_usd, first.budgets
    return _sum([first, _call_terms(case, plan)[gate.group]])


async def open_plan(
    case: Case, plan: Plan, runtime: Runtime, admission: Admission, asked: Asked
) -> Admission:
    """Raise the hold to the plan, give the request its sends, and return what to send first."""
    request = runtime.requests.get(case.request_id)
    decision, view = case.decision, case.view
    if request is None or decision is None or view is None or decision.group is None:
        return admission
    rungs, skipped = plan.rungs, plan.skipped
    calls = _call_terms(case, plan)
    terms = {**asked.terms, **terms_of_more(case, plan.candidates)}
    least = (Rung(decision.group, plan.least[0].gate),)
    if decision.group != plan.least[0].group:
        # A budget had no room for the decided group, and another one was found.
        rungs, skipped = least, "a budget moved the request to another group"
    elif len(rungs) > 1:
        skipped = await _raise(request, runtime, rungs, terms, calls) or skipped
        rungs = least if skipped else rungs
    request.terms = {**calls, **terms}
    _hold_groups(request, rungs)
    chain = (decision.group, *decision.fallbacks)
    underway = Underway(plan, rungs, calls, view, chain, skipped)
    first = Send(0, Role.ANSWER, decision.call_type, rungs[0].group)
    request.sends = Sends(underway, [first], buffered=plan.buffered)
    if plan.buffered:
        request.stream = False
    request.facts["estimate_nano_usd"] = estimate = _estimate(rungs[0], terms, calls)
    told = admission.headers
    told[headers.MODEL] = headers.clean(rungs[0].group)
    told[headers.ESTIMATED_COST] = money.plain(estimate)
    if skipped and not plan.skipped:
        headers.warn(told, f"cascade_skipped: {skipped}")
    caps = [c.cost.output_tokens_max for c in plan.candidates if c.cost is not None]
    cap = admission.output_tokens_cap
    return replace(
        admission,
        group=rungs[0].group,
        fallbacks=underway.after(0),
        output_tokens_cap=min((cap, *caps)) if cap is not None and len(rungs) > 1 else cap,
        gated=True,
        asks=len(rungs) > 1 or any(r.gate is not None and r.gate.asks for r in rungs),
        buffered=plan.buffered,
    )


async def _raise(
    request: OpenRequest,
    runtime: Runtime,
    rungs: tuple[Rung, ...],
    terms: Mapping[str, Terms],
    calls: Mapping[str, Terms],
) -> str:
    """Raise the hold to all rungs; return why it was not, empty where it was."""
    if request.offline:
        return "the ledger cannot be reached"
    parts = [terms[rung.group] for rung in rungs]
    parts += [calls[r.gate.group] for r in rungs if r.gate and r.gate.asks and r.gate.group]
    amount, budgets = _sum(parts)
    try:
        held = await runtime.top_up(request, amount, budgets)
    except LedgerUnavailable:
        return "the ledger cannot be reached"
    except ClockSkew:
        return "the period of a budget turned as the request began"
    if held is None:
        return "the hold has ended"
    if isinstance(held, LedgerRefused):
        return f"{held.code} of budget {held.state.budget}"
    request.held_nano_usd = amount
    request.held_budgets = budgets
    return ""


def _hold_groups(request: OpenRequest, rungs: Iterable[Rung]) -> None:
    groups = [rung.group for rung in rungs]
    groups += [r.gate.group for r in rungs if r.gate is not None and r.gate.asks and r.gate.group]
    request.held_groups = list(dict.fromkeys((*request.held_groups, *groups)))


def _sum(parts: Iterable[Terms]) -> tuple[int, tuple[BudgetHold, ...]]:
    """Return the sum of several sends' holds, in each budget that any of them counts against."""
    total = 0
    shares: dict[str, BudgetHold] = {}
    for terms in parts:
        total += terms.hold_nano_usd
        for it in terms.budgets:
            known = shares.get(it.budget)
            before = known.amount_nano_usd if known is not None else 0
            shares[it.budget] = replace(it, amount_nano_usd=before + it.amount_nano_usd)
    return total, tuple(shares.values())


def _call_terms(case: Case, plan: Plan) -> Mapping[str, Terms]:
    return terms_of_more(case, plan.calls.values())


def _estimate(rung: Rung, terms: Mapping[str, Terms], calls: Mapping[str, Terms]) -> int:
    """Return what is sure to be sent: the first answer, and its gate's question."""
    estimate = terms[rung.group].estimate_nano_usd
    if rung.gate is not None and rung.gate.asks and rung.gate.group:
        estimate += calls[rung.gate.group].estimate_nano_usd
    return estimate
