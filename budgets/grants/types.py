"""Grants and transfers as types, and the part of the ledger's Protocol that makes them.

    grant     budget +amount until a time                         (the total rises)
    transfer  source -amount, target +amount until the same time  (the total stays)

Both belong to one period and end with it at the latest. What a budget bears is always derived, as
its limit + carry + what is in force of its grants: nothing is counted down, and a grant that is
over needs nobody to take it back. A grant is never changed or withdrawn; every one is a line of the
audit trail.

At the closing of a period a grant is not carried over: what was not used of it lapses, and what was
spent of it is no debt. A transfer that lasted to the end counts as moved for good in that period.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from budgets.money import AMOUNT_NANO_USD_MAX
from budgets.period import Period

if TYPE_CHECKING:
    from budgets.holds import BudgetState

GRANTS_PER_COUNTER_MAX = 100
"""The most grants of one budget in one period: every hold reads them."""

REASON_LENGTH_MAX = 500


class GrantKind(StrEnum):
    """What a grant does to the total."""

    GRANT = "grant"
    TRANSFER = "transfer"


@dataclass(frozen=True, slots=True)
class GrantPart:
    """What one budget's counter gets, in nanodollars; below zero for the source of a transfer."""

    budget: str
    rule: str
    amount_nano_usd: int


@dataclass(frozen=True, slots=True)
class NewGrant:
    """A grant or transfer to be made; `grant_id` makes a repeated call harmless.

    `until_ms` (Unix ms) is in the period's span. `approver` is the second person, where one was
    needed.
    """

    grant_id: str
    kind: GrantKind
    period: Period
    parts: tuple[GrantPart, ...]
    until_ms: int
    actor: str
    reason: str
    approver: str = ""

    @property
    def stored_id(self) -> str:
        """The id as the store keeps it: its first letter tells the kind."""
        return f"{self.kind.value[0]}-{self.grant_id}"


@dataclass(frozen=True, slots=True)
class Grant:
    """A grant or transfer as it was recorded at `time_ms` (Unix ms by the ledger's clock)."""

    id: str
    kind: GrantKind
    period_id: str
    parts: tuple[GrantPart, ...]
    until_ms: int
    actor: str
    reason: str
    approver: str
    time_ms: int


@dataclass(frozen=True, slots=True)
class Granted:
    """The grant stands. `states` are its budgets right after it, in the order of the parts."""

    id: str
    time_ms: int
    states: tuple[BudgetState, ...]


@dataclass(frozen=True, slots=True)
class GrantRefused:
    """Nothing was done. `code` is `insufficient` (the source has only `available` left that is
    neither spent nor held nor ends sooner), `over` (the time given has passed) or `too_many`."""

    code: str
    budget: str
    available_nano_usd: int = 0


class Grants(Protocol):
    """The operations on grants. Each raises `LedgerUnavailable` where the store is away."""

    async def grant(self, new: NewGrant) -> Granted | GrantRefused:
        """Make a grant or transfer, with its line in the audit trail, all in one step.

        Its budgets get a new limit epoch where they gain, which re-arms their thresholds. Repeating
        an id changes nothing.

        Raises:
            ClockSkew: the period is not the one of now by the store's time.
            PolicyNotPublished: the store knows no limit for a rule.
        """

    async def grants(self, period_id: str) -> tuple[Grant, ...]:
        """Return the grants and transfers of a period, the oldest first."""


def check_grant(new: NewGrant) -> None:
    """Raise `ValueError` where a grant is malformed."""
    if not new.grant_id or any(it in new.grant_id for it in ":;"):
        raise ValueError("a grant's id is not empty and has no colon or semicolon")
    if not new.actor:
        raise ValueError("a grant has an actor")
    if not new.reason.strip() or len(new.reason) > REASON_LENGTH_MAX:
        raise ValueError(f"reason: a grant has one, of up to {REASON_LENGTH_MAX} characters")
    if ":" in new.period.id or not new.period.id:
        raise ValueError(f"the period id {new.period.id!r} is empty or has a colon")
    if not new.period.start_ms < new.until_ms <= new.period.end_ms:
        raise ValueError("until: a grant ends within its budget's period")
    amounts = [part.amount_nano_usd for part in new.parts]
    for part in new.parts:
        if not part.budget or not part.rule:
            raise ValueError("a grant names its budgets")
        if isinstance(part.amount_nano_usd, bool) or not isinstance(part.amount_nano_usd, int):
            raise ValueError("a grant's amount is whole nanodollars")
    if any(not 0 < abs(it) <= AMOUNT_NANO_USD_MAX for it in amounts):
        raise ValueError(f"amount: a grant is above 0 and at most {AMOUNT_NANO_USD_MAX}")
    match new.kind, amounts:
        case GrantKind.GRANT, [amount] if amount > 0:
            return
        case GrantKind.TRANSFER, [given, received] if given + received == 0 and given < 0:
            if new.parts[0].budget != new.parts[1].budget:
                return
    raise ValueError(
        "a grant has one budget that gains; a transfer one that gives and another that gets as much"
    )


def grant_to(
    grant_id: str,
    budget: str,
    rule: str,
    period: Period,
    amount_nano_usd: int,
    *,
    until_ms: int | None = None,
    actor: str,
    reason: str,
    approver: str = "",
) -> NewGrant:
    """Return a grant to one budget, until the end of the period if nothing else is said."""
    part = GrantPart(budget, rule, amount_nano_usd)
    until = period.end_ms if until_ms is None else until_ms
    return NewGrant(grant_id, GrantKind.GRANT, period, (part,), until, actor, reason, approver)


def transfer_between(
    grant_id: str,
    source: tuple[str, str],
    target: tuple[str, str],
    period: Period,
    amount_nano_usd: int,
    *,
    until_ms: int | None = None,
    actor: str,
    reason: str,
    approver: str = "",
) -> NewGrant:
    """Return a transfer between two (budget, rule) pairs."""
    parts = (GrantPart(*source, -amount_nano_usd), GrantPart(*target, amount_nano_usd))
    until = period.end_ms if until_ms is None else until_ms
    return NewGrant(grant_id, GrantKind.TRANSFER, period, parts, until, actor, reason, approver)


Active = tuple[str, int, int]
"""A grant as a counter remembers it: stored id, amount in nanodollars, until (Unix ms)."""


def in_force(grants: Sequence[Active], now_ms: int) -> int:
    """Return what a counter's grants add to its limit now, in nanodollars."""
    return sum(amount for _, amount, until_ms in grants if until_ms > now_ms)


def raises(grants: Sequence[Active]) -> int:
    """Return how often a counter gained: each time its limit epoch advanced."""
    return sum(amount > 0 for _, amount, _ in grants)


def lasting(grants: Sequence[Active], now_ms: int, until_ms: int) -> int:
    """Return what of a counter's grants is there from now until a time, at the least."""
    return sum(
        amount
        for _, amount, until in grants
        if until > now_ms and (amount < 0 or until >= until_ms)
    )


def at_closing(grants: Sequence[Active], left_nano_usd: int, end_ms: int) -> int:
    """Return what a counter's grants count for at the closing of its period.

    `left_nano_usd` is what it has left without any. Transfers to the period's end count in full,
    of grants the part that was used.
    """
    moved = sum(
        amount for name, amount, until in grants if name.startswith("t") and until >= end_ms
    )
    given = sum(amount for name, amount, _ in grants if name.startswith("g"))
    return moved + min(given, max(0, -(left_nano_usd + moved)))
