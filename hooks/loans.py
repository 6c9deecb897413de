"""Loans: a budget that is used up borrows what another one has not used, as the policy permits.

A loan is a transfer until the end of the period, with its line in the audit trail. Its id counts
the loans of the pair in the period: two workers that make the next one at the same moment make one,
and so no more is ever lent than `up_to_usd`.
"""

from __future__ import annotations

from budgets import money
from budgets.config import Loan
from budgets.errors import ClockSkew, PolicyNotPublished
from budgets.grants.types import Grant, Granted, GrantKind, GrantPart, GrantRefused, NewGrant
from budgets.holds import BudgetHold, HoldRequest, Refused
from budgets.runtime import Runtime
from hooks.case import Case

ACTOR = "escalation"
INSTALMENTS = 10
"""A loan is at least this part of what may be lent, so that a budget does not borrow by cents."""


def lenders(case: Case, rule: str) -> tuple[Loan, ...]:
    """Return the loans that a budget may take, in the policy's order."""
    given = case.policy.budgets.escalation.loans
    return tuple(loan for loan in given if loan.borrower == rule)


async def borrow(
    case: Case, runtime: Runtime, request: HoldRequest, refused: Refused, loan: Loan
) -> tuple[bool, str]:
    """Make the next loan of a pair, large enough for the request; say what came of it.

    Raises:
        LedgerUnavailable: the ledger does not answer.
    """
    state = refused.state
    share = next(it for it in request.budgets if it.budget == state.budget)
    needed = share.amount_nano_usd - state.remaining_nano_usd
    made = _of_pair(await runtime.ask(runtime.ledger.grants(share.period.id)), loan)
    left = loan.up_to_nano_usd - sum(it.parts[1].amount_nano_usd for it in made)
    if left < needed:
        short = f"${money.plain(needed)} is missing and it may lend ${money.plain(max(0, left))}"
        return False, f"{loan.lender}: {short} more"
    amount = min(left, max(needed, loan.up_to_nano_usd // INSTALMENTS))
    answer = await _transfer(case, runtime, share, loan, len(made), amount)
    if isinstance(answer, GrantRefused) and needed <= answer.available_nano_usd < amount:
        amount = answer.available_nano_usd
        answer = await _transfer(case, runtime, share, loan, len(made), amount)
    if isinstance(answer, Granted):
        return True, f"borrowed ${money.plain(amount)} from {loan.lender}"
    if isinstance(answer, GrantRefused) and answer.code == "insufficient":
        has = money.plain(answer.available_nano_usd)
        return False, f"{loan.lender} has ${has} left, and ${money.plain(needed)} is missing"
    return False, f"{loan.lender} cannot lend now"


def _of_pair(grants: tuple[Grant, ...], loan: Loan) -> list[Grant]:
    prefix = f"t-{_prefix(loan)}"
    return [it for it in grants if it.id.startswith(prefix)]


def _prefix(loan: Loan) -> str:
    return f"loan/{loan.lender}/{loan.borrower}/"


async def _transfer(
    case: Case, runtime: Runtime, share: BudgetHold, loan: Loan, number: int, amount: int
) -> Granted | GrantRefused | None:
    new = NewGrant(
        grant_id=f"{_prefix(loan)}{number}",
        kind=GrantKind.TRANSFER,
        period=share.period,
        parts=(
            GrantPart(loan.lender, loan.lender, -amount),
            GrantPart(loan.borrower, loan.borrower, amount),
        ),
        until_ms=share.period.end_ms,
        actor=ACTOR,
        reason=f"a loan for the decision {case.decision_id}",
    )
    try:
        return await runtime.ask(runtime.ledger.grant(new))
    except (ClockSkew, PolicyNotPublished):
        return None
