"""What would be tried for a request if one of its budgets were used up. Nothing is held."""

from __future__ import annotations

import time

from budgets.holds import BudgetState, Refused
from hooks import escalation
from hooks.case import Case, Incoming
from hooks.decision import Caller, Decision, Escalated
from hooks.policy import Policy
from hooks.request import RequestView
from hooks.terms import terms_of_all


class NotCounted(Exception):
    """The request does not count against the budget that is taken to be used up."""


def foresee(
    policy: Policy, decision: Decision, view: RequestView, caller: Caller, rule: str
) -> tuple[Escalated, ...]:
    """Return the steps in their order, the outcome of each as far as it is clear beforehand.

    Raises:
        NotCounted: the request would not meet that budget.
    """
    now_ms = time.time_ns() // 1_000_000
    incoming = Incoming(
        {}, decision.call_type, frozenset(), {}, caller.key_name, caller.team, caller.user, "", ()
    )
    case = Case(incoming, policy, "", decision.id, now_ms, caller, view, decision)
    terms = terms_of_all(case)
    assert decision.group is not None
    first = terms[decision.group]
    held = next((hold for hold in first.budgets if hold.rule == rule), None)
    if held is None:
        raise NotCounted(f"This request does not count against the budget {rule!r}.")
    limit = policy.budgets.budgets[rule].limit_nano_usd
    state = BudgetState(held.budget, rule, held.period.id, limit, 0, limit, 0, 0)
    refused = Refused(
        escalation.EXCEEDED, now_ms, state, held.amount_nano_usd, held.period.end_ms, None, (state,)
    )
    return tuple(escalation.foresee(case, refused, terms))
