"""Tickets and approvals as types, and the part of the ledger's Protocol that keeps them.

    open ──┬─► approved   by one person, or two above an amount: an immutable grant, used by holds
           ├─► denied     by one person
           └─► expired    nobody answered in time: nothing is allowed

There is one open ticket for each breach: a budget in a period and limit epoch, and who asks. It
counts the requests that met it. Nobody answers their own ticket.

An approval lets holds pass the limits of the budgets that its ticket names, in the same period: so
many calls, or a sum, until a time. Every hold that passes by it is recorded as a use in the same
step; what is left is always the terms less the recorded uses. A use counts with what was held, once
the request has ended with what it cost; a voided hold gives its use back. The budgets are charged
in full, so what they have left goes below zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from budgets.money import AMOUNT_NANO_USD_MAX

TICKETS_OPEN_MAX = 1_000
"""The most open tickets of a ledger: beyond, a breach is refused without one."""

TICKETS_OPEN_PER_KEY_MAX = 50
"""The most open tickets of one key: a caller can run into as many budgets as it has tags."""

GIVEN_MAX = 200
"""How many approvals that match by themselves are looked through for one request."""

KEPT_MS = 90 * 86_400_000
"""How long a ticket is kept after it can last be used; the audit trail keeps what became of it."""

USES_MAX = 2_000
"""The most uses of one approval, also where its terms name no number: each use reads them all."""

REASON_LENGTH_MAX = 500


class TicketKind(StrEnum):
    """What a ticket asks for: calls beyond a limit, or a grant or transfer by two persons."""

    CALL = "call"
    GRANT = "grant"
    TRANSFER = "transfer"


class TicketState(StrEnum):
    """What became of a ticket."""

    OPEN = "open"
    APPROVED = "approved"
    DENIED = "denied"
    EXPIRED = "expired"


class MatchBy(StrEnum):
    """Which requests may use an approval: those of the asking key that name it in a header, all of
    the asking key, all of its user, or all of the ticket's task type, whoever sends them."""

    HEADER = "header"
    KEY = "key"
    USER = "user"
    TASK_TYPE = "task_type"


@dataclass(frozen=True, slots=True)
class Who:
    """A person or caller, by the key's name and the user that the key names (both may be empty).

    Two keys are one person's where they name the same user.
    """

    key: str
    user: str = ""

    def is_same(self, other: Who) -> bool:
        """Whether both are known to be one person."""
        return bool((self.key and self.key == other.key) or (self.user and self.user == other.user))


@dataclass(frozen=True, slots=True)
class TicketBudget:
    """A budget whose limit is in the way, in one period."""

    budget: str
    rule: str
    period_id: str


@dataclass(frozen=True, slots=True)
class NewTicket:
    """A ticket to be opened, unless its breach has one.

    `breach` names what was run into and who did. `requested_nano_usd` is what this request would
    hold. `context` is what an approver should know, as JSON values. `valid_to_ms` (Unix ms) is the
    end of the budgets' period: no approval lasts longer. `proposal` is what a ticket for a grant
    asks to be made, as JSON text.
    """

    approval_id: str
    kind: TicketKind
    breach: str
    asker: Who
    task_type: str
    budgets: tuple[TicketBudget, ...]
    requested_nano_usd: int
    expires_in_ms: int
    valid_to_ms: int
    context: Mapping[str, Any] = field(default_factory=dict)
    proposal: str = ""


@dataclass(frozen=True, slots=True)
class Terms:
    """What an approver allows: at most `uses` calls (None: any number) that cost
    `amount_nano_usd` together, until a time (Unix ms)."""

    amount_nano_usd: int
    until_ms: int
    uses: int | None = 1
    by: MatchBy = MatchBy.HEADER

    def text(self) -> str:
        """Return the terms as a text that only equal terms have."""
        uses = "" if self.uses is None else self.uses
        return f"{uses}|{self.amount_nano_usd}|{self.until_ms}|{self.by.value}"

    @classmethod
    def from_text(cls, text: str) -> Terms:
        """Return the terms of `text()`."""
        uses, amount, until, by = text.split("|")
        return cls(int(amount), int(until), int(uses) if uses else None, MatchBy(by))


@dataclass(frozen=True, slots=True)
class Ticket:
    """A ticket as it stands.

    `requested_nano_usd` is what the request that opened it would have held: it never changes, so
    that what an approver looked at is what they allow. `requests` met it so far, of which the
    largest would have held `largest_nano_usd`. `first` has approved where two must. `uses` is the
    number of recorded uses and `used_nano_usd` their sum.
    """

    approval_id: str
    kind: TicketKind
    state: TicketState
    asker: Who
    task_type: str
    budgets: tuple[TicketBudget, ...]
    requested_nano_usd: int
    requests: int
    opened_ms: int
    expires_ms: int
    valid_to_ms: int
    context: Mapping[str, Any]
    proposal: str = ""
    largest_nano_usd: int = 0
    first: Who | None = None
    first_terms: Terms | None = None
    terms: Terms | None = None
    decided_by: Who | None = None
    decided_ms: int | None = None
    reason: str = ""
    uses: int = 0
    used_nano_usd: int = 0

    def has_left(self, amount_nano_usd: int, now_ms: int) -> bool:
        """Whether one more use of that amount fits."""
        terms = self.terms
        return (
            self.state is TicketState.APPROVED
            and terms is not None
            and terms.until_ms > now_ms
            and (terms.uses is None or self.uses < terms.uses)
            and self.used_nano_usd + amount_nano_usd <= terms.amount_nano_usd
        )


@dataclass(frozen=True, slots=True)
class Opened:
    """The ticket of a breach: a new one, or the one that it has. `full`: there is none, because too
    many are open."""

    approval_id: str
    state: TicketState
    is_new: bool = False
    full: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """A person's answer to a ticket; `terms` None denies it. `two_persons` says that such terms
    need a second person."""

    approval_id: str
    person: Who
    reason: str
    terms: Terms | None = None
    two_persons: bool = False


class AnswerStatus(StrEnum):
    """The definite result of an answer; all but the first three change nothing."""

    APPROVED = "approved"
    DENIED = "denied"
    FIRST = "first"
    """The first of two approved; the ticket stays open for the second."""
    UNKNOWN = "unknown"
    ALREADY_APPROVED = "already_approved"
    ALREADY_DENIED = "already_denied"
    EXPIRED = "expired"
    OWN_REQUEST = "own_request"
    SAME_PERSON = "same_person"
    TERMS_DIFFER = "terms_differ"
    OVER = "over"


@dataclass(frozen=True, slots=True)
class ApprovalUse:
    """What a hold says to pass by an approval. `presented`: its id came with the request.

    `user` is the user that the key names, never one that a caller claims.
    """

    approval_id: str
    who: Who
    task_type: str
    presented: bool = False


class Approvals(Protocol):
    """The operations on tickets. Each raises `LedgerUnavailable` where the store is away.

    A hold passes by an approval with `HoldRequest.approval`: only where a limit would refuse it,
    and only the limits of the ticket's budgets.
    """

    async def open_ticket(self, new: NewTicket) -> Opened:
        """Open a ticket for a breach, or count a request more for the one that it has.

        A denied ticket stays the answer to its breach, as does an approved one that has enough
        left. One that expired or is used up makes room for another.
        """

    async def answer_ticket(self, answer: Answer) -> AnswerStatus:
        """Approve or deny a ticket; the first answer (or, by two persons, the second) decides."""

    async def ticket(self, approval_id: str) -> Ticket | None:
        """Return a ticket as it stands."""

    async def tickets(self, count_max: int = 200) -> tuple[Ticket, ...]:
        """Return the newest tickets, the newest first."""

    async def open_tickets(self) -> int:
        """Return how many tickets wait for an answer."""

    async def find_approval(
        self,
        who: Who,
        task_type: str,
        budgets: Sequence[tuple[str, str]],
        amount_nano_usd: int,
    ) -> str | None:
        """Return an approval that matches a request by itself, for these (budget, period id)."""


def check_ticket(new: NewTicket) -> None:
    """Raise `ValueError` where a ticket is malformed."""
    if not new.approval_id or not new.breach or not new.budgets:
        raise ValueError("a ticket has an id, a breach and a budget")
    if new.expires_in_ms < 1 or not 0 <= new.requested_nano_usd <= AMOUNT_NANO_USD_MAX:
        raise ValueError("a ticket lasts at least 1 ms and asks for whole nanodollars")


def check_answer(answer: Answer) -> None:
    """Raise `ValueError` where an answer is malformed."""
    if not answer.person.key:
        raise ValueError("an answer has a person")
    if not answer.reason.strip() or len(answer.reason) > REASON_LENGTH_MAX:
        raise ValueError(f"reason: an answer has one, of up to {REASON_LENGTH_MAX} characters")
    terms = answer.terms
    if terms is None:
        return
    if terms.uses is not None and not 1 <= terms.uses <= USES_MAX:
        raise ValueError(f"uses: an approval is for 1 to {USES_MAX} calls")
    if not 0 < terms.amount_nano_usd <= AMOUNT_NANO_USD_MAX:
        raise ValueError("amount: an approval is for an amount above 0")
