"""What is tried, in order, where a budget that is used up refuses a request.

    refused ─► next_group ─► … ─► refused after all, with what was tried

`escalation` in `budgets.yaml` says which steps there are, for each budget and category. Every step
is recorded in the decision, and an answer by another model says so in its headers: nothing here is
done behind anybody's back.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from budgets import money
from budgets.config import Step
from budgets.ledger import Held, HoldRequest, Refused
from budgets.open_requests import Terms
from hooks.case import Case
from hooks.decide import Escalated
from hooks.routing import AUTO, Mode

EXCEEDED = "budget_exceeded"


@dataclass(frozen=True, slots=True)
class Asked:
    """The ledger's answer for the group that the decision named, with what was asked.

    `facts` are an entry's fields, `offline` says whether the hold was made without the ledger.
    """

    held: Held | Refused
    offline: bool
    terms: dict[str, Terms]
    facts: dict[str, Any]
    request: HoldRequest


Ask = Callable[[Case], Awaitable[Asked]]


def steps_for(case: Case, refused: Refused) -> tuple[Step, ...]:
    """Return what is to be tried. A budget that is only busy has room soon: nothing is."""
    decision = case.decision
    if refused.code != EXCEEDED or decision is None or decision.mode is not Mode.ENFORCE:
        return ()
    return case.policy.budgets.escalation.steps(refused.state.rule, decision.category)


async def next_group(
    case: Case, refused: Refused, terms: dict[str, Terms], ask: Ask
) -> Asked | None:
    """Hold for the next group of the chain that fits, and make the decision say so.

    All groups of the chain that were kept meet the category's constraints, its quality floor among
    them. A group that the caller named is served or refused: it has no next one here.
    """
    decision = case.decision
    assert decision is not None
    first = decision.group
    if _named(case):
        return None
    for position, group in enumerate(decision.fallbacks):
        if reason := _cannot_fit(terms[group], refused):
            _record(case, Escalated(Step.NEXT_GROUP.value, "dropped", group, reason))
            continue
        before = case.decision
        assert before is not None
        case.decision = replace(
            before,
            group=group,
            fallbacks=decision.fallbacks[position + 1 :],
            warnings=(
                *before.warnings,
                f"escalated: {refused.state.budget} has no room for {first}, served by {group}",
            ),
            escalation=(*before.escalation, Escalated(Step.NEXT_GROUP.value, "taken", group)),
        )
        asked = await ask(case)
        if isinstance(asked.held, Held):
            return asked
        case.decision = before
        reason = f"{asked.held.state.budget} has no room for it either"
        _record(case, Escalated(Step.NEXT_GROUP.value, "refused", group, reason))
    return None


def _named(case: Case) -> bool:
    assert case.decision is not None
    asked = case.decision.requested
    asked = case.policy.groups.aliases.get(asked, asked)
    return asked != AUTO and asked not in case.policy.routing.categories


def _cannot_fit(terms: Terms, refused: Refused) -> str:
    """Say why a group cannot fit, as far as the refusal shows: it spares a question to Redis."""
    left = refused.state.remaining_nano_usd
    for hold in terms.budgets:
        if hold.budget == refused.state.budget and hold.amount_nano_usd > left:
            needed, left_usd = money.plain(hold.amount_nano_usd), money.plain(max(0, left))
            return f"may cost up to ${needed}, and {hold.budget} has ${left_usd} left"
    return ""


def foresee(
    case: Case, refused: Refused, terms: dict[str, Terms]
) -> Iterator[tuple[Step, Escalated]]:
    """Yield what would be tried for a request that a budget refused like this; asks nothing.

    The outcome of what only the ledger can tell is `tried`.
    """
    decision = case.decision
    assert decision is not None
    for step in steps_for(case, refused):
        if step is Step.NEXT_GROUP and _named(case):
            reason = f"{decision.requested} was asked for by its name"
            yield step, Escalated(step.value, "dropped", None, reason)
        elif step is Step.NEXT_GROUP:
            for group in decision.fallbacks:
                reason = _cannot_fit(terms[group], refused)
                yield step, Escalated(step.value, "dropped" if reason else "tried", group, reason)


def _record(case: Case, step: Escalated) -> None:
    assert case.decision is not None
    case.decision = replace(case.decision, escalation=(*case.decision.escalation, step))


def reasons(steps: tuple[Escalated, ...]) -> Iterator[str]:
    """Yield each step in words, for the message of a refusal."""
    for one in steps:
        yield f"{one.step} {one.outcome}" + (f": {one.detail}" if one.detail else "")
