"""What is tried, in order, where a budget that is used up refuses a request.

    refused ─► next_group ─► loan ─► approval ─► queue ─► refused after all, with what was tried
                   │           │         └ a ticket is opened, and the next step follows
                   └───────────┴─► held: the request is sent

`escalation` in `budgets.yaml` says which steps there are, for each budget and category. Every step
is recorded in the decision, and an answer by another model says so in its headers: nothing here is
done behind anybody's back.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from budgets import money
from budgets.approvals.types import TicketState
from budgets.config import Step
from budgets.errors import LedgerUnavailable
from budgets.holds import Held, HoldRequest, Refused
from budgets.open_requests import Terms
from budgets.quick import quick
from budgets.runtime import Runtime
from hooks import approvals, loans, queue_desk
from hooks.case import Case
from hooks.decision import Escalated
from hooks.levels import Mode
from hooks.refusals import Code
from hooks.routing import AUTO

EXCEEDED = "budget_exceeded"
TAKEN, REFUSED, DROPPED, ASKED, TRIED = "taken", "refused", "dropped", "asked", "tried"
LOANS_A_REQUEST_MAX = 3
"""How often a request borrows: others may use up what it has borrowed before it holds."""


@quick
@dataclass(frozen=True, slots=True)
class Asked:
    """The ledger's answer for the group that the decision named, with what was asked.

    `facts` are an entry's fields, `offline` says whether the hold was made without the ledger.
    """

    held: Held | Refused
    offline: bool
    terms: Mapping[str, Terms]
    facts: dict[str, Any]
    request: HoldRequest


@dataclass(slots=True)
class WayOut:
    """How a request is refused after all: the code, more to say, and a message where it is new."""

    code: Code
    message: str | None = None
    detail: dict[str, Any] = field(default_factory=dict)


Ask = Callable[[Case], Awaitable[Asked]]


async def escalate(
    case: Case,
    runtime: Runtime,
    desk: queue_desk.QueueDesk | None,
    asked: Asked,
    refused: Refused,
    ask: Ask,
) -> Asked | WayOut:
    """Take the steps of the policy until one helps; say how the request is refused if none does.

    Raises:
        LedgerUnavailable: the ledger does not answer.
    """
    out = WayOut(Code(refused.code))
    for step in steps_for(case, refused):
        found: Asked | None = None
        match step:
            case Step.NEXT_GROUP:
                found = await next_group(case, refused, asked.terms, ask)
            case Step.LOAN:
                found = await _loan(case, runtime, asked.request, refused, ask)
            case Step.APPROVAL:
                await _approval(case, runtime, asked.request, refused, out)
            case Step.QUEUE:
                await _queue(case, desk, asked.terms, refused, out)
        if found is not None:
            return found
    return out


def steps_for(case: Case, refused: Refused) -> tuple[Step, ...]:
    """Return what is to be tried. A budget that is only busy has room soon: one may wait for it."""
    decision = case.decision
    if decision is None or decision.mode is not Mode.ENFORCE:
        return ()
    steps = case.policy.budgets.escalation.steps(refused.state.rule, decision.category)
    if refused.code != EXCEEDED:
        return tuple(step for step in steps if step is Step.QUEUE)
    return steps


# ── the next group ───────────────────────────────────────────────────────────────────────────────


async def next_group(
    case: Case, refused: Refused, terms: Mapping[str, Terms], ask: Ask
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
            _record(case, Escalated(Step.NEXT_GROUP.value, DROPPED, group, reason))
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
            escalation=(*before.escalation, Escalated(Step.NEXT_GROUP.value, TAKEN, group)),
        )
        asked = await ask(case)
        if isinstance(asked.held, Held):
            return asked
        case.decision = before
        reason = f"{asked.held.state.budget} has no room for it either"
        _record(case, Escalated(Step.NEXT_GROUP.value, REFUSED, group, reason))
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


# ── loan, approval, queue ────────────────────────────────────────────────────────────────────────


async def _loan(
    case: Case, runtime: Runtime, request: HoldRequest, refused: Refused, ask: Ask
) -> Asked | None:
    for loan in loans.lenders(case, refused.state.rule):
        latest = refused
        for _ in range(LOANS_A_REQUEST_MAX):
            lent, words = await loans.borrow(case, runtime, request, latest, loan)
            _record(case, Escalated(Step.LOAN.value, TAKEN if lent else REFUSED, None, words))
            if not lent:
                break
            asked = await ask(case)
            if isinstance(asked.held, Held):
                return asked
            if asked.held.state.budget != refused.state.budget:
                return None  # Another budget is in the way, which borrowing here does not help.
            latest = asked.held
    return None


async def _approval(
    case: Case, runtime: Runtime, request: HoldRequest, refused: Refused, out: WayOut
) -> None:
    if not approvals.asks(case, request.budgets, refused):
        words = "another budget that refuses asks nobody"
        _record(case, Escalated(Step.APPROVAL.value, DROPPED, None, words))
        return
    try:
        opened = await approvals.open_ticket(runtime, case, request, refused)
    except LedgerUnavailable:
        opened = None  # The refusal stands without a ticket.
    if opened is None:
        words = "no ticket could be opened"
        _record(case, Escalated(Step.APPROVAL.value, REFUSED, None, words))
        return
    _record(case, Escalated(Step.APPROVAL.value, ASKED, None, opened.approval_id))
    out.detail |= {
        "approval_id": opened.approval_id,
        "approval_state": opened.state.value,
        "next_step": approvals.next_step(opened),
    }
    if opened.state is not TicketState.DENIED:
        out.code = Code.APPROVAL_REQUIRED


async def _queue(
    case: Case,
    desk: queue_desk.QueueDesk | None,
    terms: Mapping[str, Terms],
    refused: Refused,
    out: WayOut,
) -> None:
    assert case.decision is not None and case.decision.group is not None
    ticket = str(out.detail.get("approval_id", ""))
    needs = terms[case.decision.group]
    match await queue_desk.enqueue(desk, case, needs, refused.code, ticket):
        case queue_desk.Queued() as queued:
            _record(case, Escalated(Step.QUEUE.value, TAKEN))
            out.code, out.message = Code.QUEUED, queued.message()
            out.detail |= queued.detail(case.policy.budgets.time_zone)
        case queue_desk.NotQueued() as kept_out:
            _record(case, Escalated(Step.QUEUE.value, REFUSED, None, kept_out.why))
            out.detail |= {"queue": kept_out.why, "queue_message": kept_out.message}


# ── looking ahead ────────────────────────────────────────────────────────────────────────────────


def foresee(case: Case, refused: Refused, terms: Mapping[str, Terms]) -> Iterator[Escalated]:
    """Yield what would be tried for a request that a budget refused like this; asks nothing.

    The outcome of what only the ledger can tell is `tried`.
    """
    for step in steps_for(case, refused):
        match step:
            case Step.NEXT_GROUP:
                yield from _foresee_groups(case, refused, terms)
            case Step.LOAN:
                for loan in loans.lenders(case, refused.state.rule):
                    most = money.plain(loan.up_to_nano_usd)
                    words = f"{loan.lender} lends up to ${most} a period"
                    yield Escalated(step.value, TRIED, None, words)
            case Step.APPROVAL:
                yield Escalated(step.value, ASKED, None, "the refusal carries the ticket's id")
            case Step.QUEUE:
                yield _foresee_queue(case)


def _foresee_groups(
    case: Case, refused: Refused, terms: Mapping[str, Terms]
) -> Iterator[Escalated]:
    decision, step = case.decision, Step.NEXT_GROUP.value
    assert decision is not None
    if _named(case):
        reason = f"{decision.requested} was asked for by its name"
        yield Escalated(step, DROPPED, None, reason)
        return
    for group in decision.fallbacks:
        reason = _cannot_fit(terms[group], refused)
        yield Escalated(step, DROPPED if reason else TRIED, group, reason)


def _foresee_queue(case: Case) -> Escalated:
    assert case.decision is not None
    category = case.decision.category
    if case.policy.routing.categories[category].queue is None:
        words = f"the category {category} permits no queue"
        return Escalated(Step.QUEUE.value, DROPPED, None, words)
    return Escalated(Step.QUEUE.value, TRIED, None, "if the request asks for it")


def _record(case: Case, step: Escalated) -> None:
    assert case.decision is not None
    case.decision = replace(case.decision, escalation=(*case.decision.escalation, step))


def reasons(steps: tuple[Escalated, ...]) -> Iterator[str]:
    """Yield each step in words, for the message of a refusal."""
    for one in steps:
        what = f"{one.step} {one.group}" if one.group else one.step
        yield f"{what} {one.outcome}" + (f": {one.detail}" if one.detail else "")
