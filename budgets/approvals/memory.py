"""Tickets and approvals in the in-memory ledger: see `memory`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from budgets.approvals import codec
from budgets.approvals.types import (
    TICKETS_OPEN_MAX,
    TICKETS_OPEN_PER_KEY_MAX,
    USES_MAX,
    Answer,
    AnswerStatus,
    ApprovalUse,
    MatchBy,
    NewTicket,
    Opened,
    Ticket,
    TicketKind,
    TicketState,
    Who,
    check_answer,
    check_ticket,
)
from budgets.audit.trail import detail_text
from budgets.memory_books import Books
from budgets.memory_records import Want


@dataclass
class _Kept:
    """A ticket with what was used of it, by hold."""

    ticket: Ticket
    uses: dict[str, int] = field(default_factory=dict)

    def now(self, now_ms: int) -> Ticket:
        """Return the ticket as it stands."""
        state = self.ticket.state
        if state is TicketState.OPEN and self.ticket.expires_ms <= now_ms:
            state = TicketState.EXPIRED
        used = sum(self.uses.values())
        return replace(self.ticket, state=state, uses=len(self.uses), used_nano_usd=used)


class ApprovalBooks(Books):
    """Who asked for more, and what was allowed."""

    _tickets: dict[str, _Kept]
    _breaches: dict[str, str]

    def _setup(self) -> None:
        super()._setup()
        self._tickets, self._breaches = {}, {}

    async def open_ticket(self, new: NewTicket) -> Opened:
        check_ticket(new)
        now = self._clock()
        known = self._tickets.get(self._breaches.get(new.breach, ""))
        if known is not None:
            ticket = known.now(now)
            stands = (
                ticket.state is TicketState.OPEN
                or (ticket.state is TicketState.DENIED and ticket.valid_to_ms > now)
                or self._has_left(ticket, new.requested_nano_usd, now)
            )
            if stands:
                largest = ticket.largest_nano_usd
                if ticket.state is TicketState.OPEN:
                    largest = max(largest, new.requested_nano_usd)
                known.ticket = replace(
                    known.ticket, requests=ticket.requests + 1, largest_nano_usd=largest
                )
                return Opened(ticket.approval_id, ticket.state)
        waiting = [it.ticket for it in self._tickets.values()]
        waiting = [it for it in waiting if it.state is TicketState.OPEN and it.expires_ms > now]
        own = sum(it.asker.key == new.asker.key for it in waiting)
        if len(waiting) >= TICKETS_OPEN_MAX or own >= TICKETS_OPEN_PER_KEY_MAX:
            return Opened("", TicketState.DENIED, full=True)
        ticket = Ticket(
            approval_id=new.approval_id,
            kind=new.kind,
            state=TicketState.OPEN,
            asker=new.asker,
            task_type=new.task_type,
            budgets=new.budgets,
            requested_nano_usd=new.requested_nano_usd,
            largest_nano_usd=new.requested_nano_usd,
            requests=1,
            opened_ms=now,
            expires_ms=now + new.expires_in_ms,
            valid_to_ms=new.valid_to_ms,
            context=dict(new.context),
            proposal=new.proposal,
        )
        self._tickets[new.approval_id] = _Kept(ticket)
        self._breaches[new.breach] = new.approval_id
        detail = codec.asked_detail(new)
        self.trail.add(new.asker.key or "unnamed", "approval_asked", detail)
        self.raise_alert("approval_asked", now, detail_text(detail))
        return Opened(new.approval_id, TicketState.OPEN, is_new=True)

    async def answer_ticket(self, answer: Answer) -> AnswerStatus:
        check_answer(answer)
        now = self._clock()
        kept = self._tickets.get(answer.approval_id)
        if kept is None:
            return AnswerStatus.UNKNOWN
        ticket, terms, person = kept.now(now), answer.terms, answer.person
        if ticket.state is TicketState.EXPIRED:
            return AnswerStatus.EXPIRED
        if ticket.state is not TicketState.OPEN:
            return AnswerStatus(f"already_{ticket.state.value}")
        if person.is_same(ticket.asker):
            return AnswerStatus.OWN_REQUEST
        if terms is None:
            return self._decide(kept, TicketState.DENIED, answer, now)
        if not now < terms.until_ms <= ticket.valid_to_ms:
            return AnswerStatus.OVER
        if ticket.first is not None:
            if person.is_same(ticket.first):
                return AnswerStatus.SAME_PERSON
            if terms != ticket.first_terms:
                return AnswerStatus.TERMS_DIFFER
        elif answer.two_persons:
            kept.ticket = replace(kept.ticket, first=person, first_terms=terms)
            self.trail.add(person.key, "approval_first", codec.answer_detail(answer))
            return AnswerStatus.FIRST
        kept.ticket = replace(kept.ticket, terms=terms)
        self._event("approved", now, approval_id=answer.approval_id)
        return self._decide(kept, TicketState.APPROVED, answer, now)

    def _decide(self, kept: _Kept, state: TicketState, answer: Answer, now: int) -> AnswerStatus:
        kept.ticket = replace(
            kept.ticket,
            state=state,
            decided_by=answer.person,
            decided_ms=now,
            reason=answer.reason,
        )
        detail = codec.answer_detail(answer)
        self.trail.add(answer.person.key, f"approval_{state.value}", detail)
        return AnswerStatus(state.value)

    async def ticket(self, approval_id: str) -> Ticket | None:
        kept = self._tickets.get(approval_id)
        return None if kept is None else kept.now(self._time.peek_ms())

    async def tickets(self, count_max: int = 200) -> tuple[Ticket, ...]:
        now = self._time.peek_ms()
        newest = list(reversed(self._tickets.values()))[:count_max]
        return tuple(kept.now(now) for kept in newest)

    async def open_tickets(self) -> int:
        now = self._time.peek_ms()
        return sum(it.now(now).state is TicketState.OPEN for it in self._tickets.values())

    async def find_approval(
        self,
        who: Who,
        task_type: str,
        budgets: Sequence[tuple[str, str]],
        amount_nano_usd: int,
    ) -> str | None:
        now = self._time.peek_ms()
        given = [it.now(now) for it in self._tickets.values() if it.ticket.terms]
        by_end = sorted(given, key=lambda it: (it.terms.until_ms, it.approval_id))  # type: ignore[union-attr] # Has them.
        for ticket in by_end:
            use = ApprovalUse(ticket.approval_id, who, task_type)
            covered = {(it.budget, it.period_id) for it in ticket.budgets}
            if covered.issuperset(budgets) and not self._problem(use, amount_nano_usd, now):
                return ticket.approval_id
        return None

    # ── holds ────────────────────────────────────────────────────────────────────────────────────

    def _problem(self, use: ApprovalUse, amount_nano_usd: int, now: int) -> str:
        """Return why an approval does not admit a hold; empty where it does."""
        kept = self._tickets.get(use.approval_id)
        if kept is None or kept.ticket.kind is not TicketKind.CALL:
            return "unknown"
        ticket = kept.now(now)
        if ticket.terms is None or ticket.state is not TicketState.APPROVED:
            own = use.who.key and use.who.key == ticket.asker.key
            return "not_approved" if own else "unknown"
        match ticket.terms.by:
            case MatchBy.HEADER:
                fits = use.presented and use.who.is_same(ticket.asker)
            case MatchBy.KEY:
                fits = bool(use.who.key) and use.who.key == ticket.asker.key
            case MatchBy.USER:
                fits = bool(use.who.user) and use.who.user == ticket.asker.user
            case MatchBy.TASK_TYPE:
                fits = use.task_type == ticket.task_type
        if not fits:
            return "unknown"
        if ticket.terms.until_ms <= now:
            return "over"
        return "" if self._has_left(ticket, amount_nano_usd, now) else "used_up"

    def _has_left(self, ticket: Ticket, amount_nano_usd: int, now: int) -> bool:
        return ticket.has_left(amount_nano_usd, now) and ticket.uses < USES_MAX

    def _pass_by(self, approval_id: str, wants: Sequence[Want]) -> None:
        """Let the wants pass whose budgets an approval names."""
        named = {(it.budget, it.period_id) for it in self._tickets[approval_id].ticket.budgets}
        for want in wants:
            want.approved = (want.state.budget, want.state.period_id) in named

    def _record_use(self, approval_id: str, hold_id: str, amount_nano_usd: int) -> None:
        self._tickets[approval_id].uses[hold_id] = amount_nano_usd

    def _may_grow(self, approval_id: str, hold_id: str, amount_nano_usd: int, now: int) -> bool:
        """Whether a hold that passed by an approval may hold so much in all."""
        ticket = self._tickets[approval_id].now(now)
        assert ticket.terms is not None
        others = ticket.used_nano_usd - self._tickets[approval_id].uses.get(hold_id, 0)
        return (
            ticket.terms.until_ms > now and others + amount_nano_usd <= ticket.terms.amount_nano_usd
        )

    def _note_use(self, approval_id: str, hold_id: str, state: str, amount: int) -> None:
        uses = self._tickets[approval_id].uses
        if hold_id not in uses:
            return
        if state == "voided":
            del uses[hold_id]
        else:
            uses[hold_id] = amount
