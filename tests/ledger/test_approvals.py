"""Tickets and approvals: one ticket a breach, one answer, and exactly so many uses."""

from __future__ import annotations

import asyncio
import json
import uuid
from dataclasses import replace
from typing import Any

import pytest

from budgets.approvals.types import (
    TICKETS_OPEN_PER_KEY_MAX,
    Answer,
    AnswerStatus,
    ApprovalUse,
    MatchBy,
    NewTicket,
    Opened,
    Terms,
    Ticket,
    TicketBudget,
    TicketKind,
    TicketState,
    Who,
)
from budgets.holds import Held, HoldRequest, Refused
from budgets.ledger import Ledger
from tests.ledger.worlds import (
    CENT,
    LEASE_MS,
    USD,
    World,
    all_entries,
    all_events,
    current_period,
    hold,
    policy,
    settle,
    share,
    state,
)

HOUR_MS = 3_600_000
ALICE, BOB, CAROL = Who("alice", "alice@x"), Who("bob", "bob@x"), Who("carol")


async def opened(ledger: Ledger, **change: Any) -> Opened:
    """Open a ticket of Alice's for the budget `team`, or for those named."""
    period = await current_period(ledger)
    names = change.pop("names", ("team",))
    new = NewTicket(
        approval_id=f"a-{uuid.uuid4().hex}",
        kind=TicketKind.CALL,
        breach="team|P1|1|alice",
        asker=ALICE,
        task_type="code_review",
        budgets=tuple(TicketBudget(it, it.partition(":")[0], "P1") for it in names),
        requested_nano_usd=CENT,
        expires_in_ms=HOUR_MS,
        valid_to_ms=period.end_ms,
        context={"estimate_nano_usd": 5},
    )
    return await ledger.open_ticket(replace(new, **change))


async def answer(
    ledger: Ledger, approval_id: str, person: Who = BOB, *, two_persons: bool = False, **terms: Any
) -> AnswerStatus:
    now = await ledger.now_ms()
    given = {"amount_nano_usd": USD, "until_ms": now // 1000 * 1000 + HOUR_MS, "uses": 1, **terms}
    said = Answer(approval_id, person, "it pays", Terms(**given), two_persons)
    return await ledger.answer_ticket(said)


async def deny(ledger: Ledger, approval_id: str, person: Who = BOB) -> AnswerStatus:
    return await ledger.answer_ticket(Answer(approval_id, person, "no"))


async def approved(ledger: Ledger, names: tuple[str, ...] = ("team",), **terms: Any) -> str:
    """Return an approval of Alice's."""
    approval_id = (await opened(ledger, names=names)).approval_id
    assert await answer(ledger, approval_id, **terms) is AnswerStatus.APPROVED
    return approval_id


async def use(
    ledger: Ledger,
    approval_id: str,
    amount: int = CENT,
    *,
    who: Who = ALICE,
    task_type: str = "code_review",
    presented: bool = True,
    hold_id: str = "",
    names: tuple[str, ...] = ("team",),
) -> Held | Refused:
    """Hold an amount and pass by an approval."""
    period = await current_period(ledger)
    hold_id = hold_id or uuid.uuid4().hex
    return await ledger.hold(
        HoldRequest(
            hold_id=hold_id,
            amount_nano_usd=amount,
            budgets=tuple(share(name, amount, period) for name in names),
            lease_ms=LEASE_MS,
            expected_end_ms_in=5_000,
            facts="{}",
            decision_id=f"d-{hold_id}",
            decision="{}",
            stats_period="2026-11",
            approval=ApprovalUse(approval_id, who, task_type, presented),
        )
    )


async def ticket(ledger: Ledger, approval_id: str) -> Ticket:
    found = await ledger.ticket(approval_id)
    assert found is not None
    return found


@pytest.fixture
async def ledger(world: World) -> Ledger:
    """A ledger whose budgets `team` and `total` bear nothing."""
    await world.ledger.publish(policy(team=0, total=0, wide=USD))
    return world.ledger


async def actions(ledger: Ledger) -> list[tuple[str, str]]:
    return [(it.actor, it.action) async for it in ledger.trail.lines()]


# ── tickets ──────────────────────────────────────────────────────────────────────────────────────


async def test_a_breach_has_one_open_ticket(ledger: Ledger) -> None:
    first = await opened(ledger)
    assert (first.is_new, first.state) == (True, TicketState.OPEN)
    again = await asyncio.gather(*(opened(ledger, requested_nano_usd=it) for it in (1, USD, 2)))
    assert {it.approval_id for it in again} == {first.approval_id}
    found = await ticket(ledger, first.approval_id)
    # What an approver looked at does not grow under their eyes.
    assert (found.requests, found.requested_nano_usd, found.largest_nano_usd) == (4, CENT, USD)
    assert (found.asker, found.task_type) == (ALICE, "code_review")
    assert found.context == {"estimate_nano_usd": 5}
    assert (await opened(ledger, breach="team|P1|2|alice")).is_new
    assert await ledger.open_tickets() == 2
    assert [it.approval_id for it in await ledger.tickets()][-1] == first.approval_id


async def test_open_tickets_of_one_key_are_bounded(ledger: Ledger) -> None:
    for number in range(TICKETS_OPEN_PER_KEY_MAX):
        assert (await opened(ledger, breach=str(number))).is_new
    full = await opened(ledger, breach="one more")
    assert (full.full, full.approval_id) == (True, "")
    assert (await opened(ledger, breach="bob", asker=BOB)).is_new
    first = (await ledger.tickets())[-1].approval_id
    await deny(ledger, first)
    assert (await opened(ledger, breach="one more")).is_new


async def test_a_ticket_that_nobody_answers_allows_nothing(world: World, ledger: Ledger) -> None:
    approval_id = (await opened(ledger)).approval_id
    world.advance(HOUR_MS + 1)
    assert (await ticket(ledger, approval_id)).state is TicketState.EXPIRED
    assert await ledger.open_tickets() == 0
    assert await answer(ledger, approval_id) is AnswerStatus.EXPIRED
    refused = await use(ledger, approval_id)
    assert isinstance(refused, Refused)
    assert refused.approval_problem == "not_approved"
    assert (await opened(ledger)).is_new


async def test_a_denied_ticket_stays_the_answer_to_its_breach(ledger: Ledger) -> None:
    approval_id = (await opened(ledger)).approval_id
    assert await deny(ledger, approval_id) is AnswerStatus.DENIED
    assert await opened(ledger) == Opened(approval_id, TicketState.DENIED)
    assert await answer(ledger, approval_id) is AnswerStatus.ALREADY_DENIED
    assert isinstance(await use(ledger, approval_id), Refused)


async def test_nobody_answers_their_own_request(ledger: Ledger) -> None:
    approval_id = (await opened(ledger)).approval_id
    other_key = Who("alice-laptop", ALICE.user)
    for person in (ALICE, other_key, Who("alice")):
        assert await answer(ledger, approval_id, person) is AnswerStatus.OWN_REQUEST
        assert await deny(ledger, approval_id, person) is AnswerStatus.OWN_REQUEST
    assert await answer(ledger, approval_id, CAROL) is AnswerStatus.APPROVED


async def test_of_two_approvers_at_once_one_decides(ledger: Ledger) -> None:
    approval_id = (await opened(ledger)).approval_id
    answers = await asyncio.gather(
        *(answer(ledger, approval_id, person, uses=2) for person in (BOB, CAROL)),
        deny(ledger, approval_id, Who("dan")),
    )
    decided = [it for it in answers if it in (AnswerStatus.APPROVED, AnswerStatus.DENIED)]
    assert len(decided) == 1
    assert len([it for it in await actions(ledger) if it[1] != "approval_asked"]) == 1


async def test_two_persons_approve_the_same_terms(ledger: Ledger) -> None:
    approval_id = (await opened(ledger)).approval_id
    until = await ledger.now_ms() + HOUR_MS

    async def by(person: Who, two_persons: bool = True, **terms: Any) -> AnswerStatus:
        given = {"until_ms": until, **terms}
        return await answer(ledger, approval_id, person, two_persons=two_persons, **given)

    assert await by(BOB) is AnswerStatus.FIRST
    assert isinstance(await use(ledger, approval_id), Refused)
    assert (await ticket(ledger, approval_id)).first == BOB
    assert await by(BOB) is AnswerStatus.SAME_PERSON
    assert await by(Who("bob-2", BOB.user)) is AnswerStatus.SAME_PERSON
    assert await by(ALICE) is AnswerStatus.OWN_REQUEST
    # Not even smaller terms that one person could allow: the first did not see them.
    assert await by(CAROL, False, amount_nano_usd=1) is AnswerStatus.TERMS_DIFFER
    assert await by(CAROL) is AnswerStatus.APPROVED
    assert isinstance(await use(ledger, approval_id), Held)
    assert await actions(ledger) == [
        ("alice", "approval_asked"),
        ("bob", "approval_first"),
        ("carol", "approval_approved"),
    ]


async def test_an_unknown_ticket_and_a_time_that_is_over_change_nothing(ledger: Ledger) -> None:
    assert await answer(ledger, "a-none") is AnswerStatus.UNKNOWN
    approval_id = (await opened(ledger)).approval_id
    period = await current_period(ledger)
    for until_ms in (await ledger.now_ms() - 1, period.end_ms + HOUR_MS):
        assert await answer(ledger, approval_id, until_ms=until_ms) is AnswerStatus.OVER


@pytest.mark.parametrize("change", [{"uses": 0}, {"amount_nano_usd": 0}], ids=str)
async def test_malformed_terms_are_refused(ledger: Ledger, change: dict[str, Any]) -> None:
    approval_id = (await opened(ledger)).approval_id
    with pytest.raises(ValueError, match=r"uses|amount"):
        await answer(ledger, approval_id, **change)


# ── admission ────────────────────────────────────────────────────────────────────────────────────


async def test_an_approved_call_passes_the_limit_and_is_charged_in_full(ledger: Ledger) -> None:
    approval_id = await approved(ledger)
    held = await use(ledger, approval_id, hold_id="h")
    assert isinstance(held, Held)
    assert (held.approval_id, held.states[0].remaining_nano_usd) == (approval_id, -CENT)
    await settle(ledger, "h", 3 * CENT)
    assert (await state(ledger)).spent_nano_usd == 3 * CENT
    found = await ticket(ledger, approval_id)
    assert (found.uses, found.used_nano_usd) == (1, 3 * CENT)
    assert await ledger.verify() == ()
    refused = await use(ledger, approval_id)
    assert isinstance(refused, Refused)
    assert (refused.code, refused.approval_problem) == ("budget_exceeded", "used_up")


async def test_of_three_n_holds_at_once_exactly_n_pass(ledger: Ledger) -> None:
    approval_id = await approved(ledger, uses=7)
    answers = await asyncio.gather(*(use(ledger, approval_id) for _ in range(21)))
    assert sum(isinstance(it, Held) for it in answers) == 7
    found = await ticket(ledger, approval_id)
    assert (found.uses, found.used_nano_usd) == (7, 7 * CENT)


async def test_a_sum_is_never_passed_whatever_the_number_of_holds(ledger: Ledger) -> None:
    approval_id = await approved(ledger, uses=None, amount_nano_usd=10 * CENT)
    answers = await asyncio.gather(*(use(ledger, approval_id, 3 * CENT) for _ in range(9)))
    assert sum(isinstance(it, Held) for it in answers) == 3
    assert isinstance(await use(ledger, approval_id, CENT), Held)


async def test_a_repeated_hold_uses_an_approval_once(ledger: Ledger) -> None:
    approval_id = await approved(ledger, uses=2)
    for _ in range(3):
        held = await use(ledger, approval_id, hold_id="h")
        assert isinstance(held, Held)
        assert held.approval_id == approval_id
    assert (await ticket(ledger, approval_id)).uses == 1


async def test_a_voided_hold_gives_its_use_back(ledger: Ledger) -> None:
    approval_id = await approved(ledger)
    await use(ledger, approval_id, hold_id="h")
    await ledger.void("h", "{}", {})
    assert (await ticket(ledger, approval_id)).uses == 0
    assert isinstance(await use(ledger, approval_id, hold_id="h2"), Held)


async def test_a_use_whose_lease_ended_counts_with_its_hold(world: World, ledger: Ledger) -> None:
    approval_id = await approved(ledger, uses=2)
    await use(ledger, approval_id, hold_id="h")
    world.advance(LEASE_MS + 1)
    await ledger.expire(10)
    assert (await ticket(ledger, approval_id)).used_nano_usd == CENT
    await settle(ledger, "h", 2 * CENT)
    assert (await ticket(ledger, approval_id)).used_nano_usd == 2 * CENT


async def test_an_approval_is_not_used_where_the_limit_bears_the_hold(ledger: Ledger) -> None:
    approval_id = await approved(ledger, ("wide",))
    held = await use(ledger, approval_id, names=("wide",))
    assert isinstance(held, Held)
    assert held.approval_id is None
    assert (await ticket(ledger, approval_id)).uses == 0


async def test_an_approval_passes_only_the_budgets_that_it_names(ledger: Ledger) -> None:
    approval_id = await approved(ledger)
    refused = await use(ledger, approval_id, names=("team", "total"))
    assert isinstance(refused, Refused)
    assert (refused.state.budget, refused.approval_problem) == ("total", "other_budget")
    assert (await ticket(ledger, approval_id)).uses == 0
    both = (await opened(ledger, breach="b", names=("team", "total"))).approval_id
    await answer(ledger, both)
    assert isinstance(await use(ledger, both, names=("team", "total")), Held)


async def test_an_approval_ends(world: World, ledger: Ledger) -> None:
    approval_id = await approved(ledger)
    world.advance(HOUR_MS + 1)
    refused = await use(ledger, approval_id)
    assert isinstance(refused, Refused)
    assert refused.approval_problem == "over"


async def test_a_hold_that_passed_may_grow_within_its_approval(ledger: Ledger) -> None:
    approval_id = await approved(ledger, amount_nano_usd=5 * CENT)
    await use(ledger, approval_id, hold_id="h")
    period = await current_period(ledger)
    grown = await ledger.top_up("h", 4 * CENT, (share("team", 4 * CENT, period),))
    assert isinstance(grown, Held)
    assert (await ticket(ledger, approval_id)).used_nano_usd == 4 * CENT
    refused = await ledger.top_up("h", 6 * CENT, (share("team", 6 * CENT, period),))
    assert isinstance(refused, Refused)
    await settle(ledger, "h", 2 * CENT)
    assert (await all_entries(ledger))[-1].charges == {("team", "P1"): 2 * CENT}


# ── who may use it ───────────────────────────────────────────────────────────────────────────────


async def test_a_made_up_id_passes_nothing(ledger: Ledger) -> None:
    await approved(ledger)
    for made_up in ("a-guess", "*", "", "a-1:uses", "\u2603"):
        answered = await use(ledger, made_up)
        assert isinstance(answered, Refused)
        assert answered.approval_problem in ("unknown", "")


@pytest.mark.parametrize(
    ("by", "who", "task_type", "presented", "passes"),
    [
        (MatchBy.HEADER, ALICE, "code_review", True, True),
        (MatchBy.HEADER, Who("alice-2", ALICE.user), "chat", True, True),
        (MatchBy.HEADER, ALICE, "code_review", False, False),
        (MatchBy.HEADER, BOB, "code_review", True, False),
        (MatchBy.HEADER, Who("mallory", ""), "code_review", True, False),
        (MatchBy.KEY, ALICE, "chat", False, True),
        (MatchBy.KEY, Who("alice-2", ALICE.user), "chat", True, False),
        (MatchBy.USER, Who("alice-2", ALICE.user), "chat", False, True),
        (MatchBy.USER, Who("alice"), "chat", True, False),
        (MatchBy.TASK_TYPE, BOB, "code_review", False, True),
        (MatchBy.TASK_TYPE, ALICE, "chat", True, False),
    ],
)
async def test_an_approval_is_for_whom_the_approver_chose(
    ledger: Ledger, by: MatchBy, who: Who, task_type: str, presented: bool, passes: bool
) -> None:
    approval_id = await approved(ledger, by=by)
    answered = await use(ledger, approval_id, who=who, task_type=task_type, presented=presented)
    assert isinstance(answered, Held) is passes
    if isinstance(answered, Refused):
        assert answered.approval_problem == "unknown"
    if not presented or not passes:
        found = await ledger.find_approval(who, task_type, [("team", "P1")], CENT)
        assert found is None


async def test_an_approval_that_matches_by_itself_is_found(ledger: Ledger) -> None:
    approval_id = await approved(ledger, by=MatchBy.TASK_TYPE, amount_nano_usd=2 * CENT)
    wanted = [("team", "P1")]
    assert await ledger.find_approval(BOB, "code_review", wanted, CENT) == approval_id
    assert await ledger.find_approval(BOB, "code_review", wanted, 3 * CENT) is None
    assert await ledger.find_approval(BOB, "code_review", [*wanted, ("total", "P1")], 1) is None
    assert await ledger.find_approval(BOB, "code_review", [("team", "P2")], 1) is None
    assert await ledger.find_approval(BOB, "chat", wanted, 1) is None


async def test_an_approval_that_is_left_stays_the_answer_to_its_breach(ledger: Ledger) -> None:
    approval_id = await approved(ledger)
    assert await opened(ledger) == Opened(approval_id, TicketState.APPROVED)
    await use(ledger, approval_id)
    assert (await opened(ledger)).is_new


async def test_a_ticket_for_a_grant_admits_no_call(ledger: Ledger) -> None:
    approval_id = (await opened(ledger, kind=TicketKind.GRANT)).approval_id
    await answer(ledger, approval_id)
    assert isinstance(await use(ledger, approval_id), Refused)


async def test_other_callers_holds_are_refused_as_ever(ledger: Ledger) -> None:
    approval_id = await approved(ledger)
    await use(ledger, approval_id)
    assert isinstance(await hold(ledger, 1), Refused)
    (event,) = await all_events(ledger, "approved")
    assert json.loads(event.body) == {"approval_id": approval_id}
