"""The panel of approvals: what waits for a person's answer, and what was answered lately."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from budgets.approvals.types import MatchBy, Ticket, TicketKind, TicketState
from hooks.board.sources import Sources

TICKETS_READ = 100
ANSWERED_SHOWN = 10

BY_WORDS = {
    MatchBy.HEADER: "requests that name it",
    MatchBy.KEY: "every request of this key",
    MatchBy.USER: "every request of this user",
    MatchBy.TASK_TYPE: "every request of this task type",
}


@dataclass(frozen=True, slots=True)
class TicketRow:
    """One ticket. `proposal` is what a grant or transfer would make."""

    ticket: Ticket
    proposal: Mapping[str, Any]

    @property
    def is_call(self) -> bool:
        """Whether it asks for calls, and not for a grant or transfer."""
        return self.ticket.kind is TicketKind.CALL

    @property
    def budgets(self) -> list[Mapping[str, Any]]:
        """The budgets in the way, as they stood when it was asked."""
        found = self.ticket.context.get("budgets")
        return [it for it in found if isinstance(it, Mapping)] if isinstance(found, list) else []

    def context(self, name: str) -> str:
        """Return a fact that its asker's request left."""
        found = self.ticket.context.get(name)
        return "" if found is None else str(found)

    @property
    def estimate_nano_usd(self) -> int | None:
        """What the request would probably cost."""
        found = self.ticket.context.get("estimate_nano_usd")
        return found if isinstance(found, int) else None


@dataclass(frozen=True, slots=True)
class ApprovalsFacts:
    """The open tickets, and the last that were answered or expired; the newest first."""

    open: tuple[TicketRow, ...]
    answered: tuple[TicketRow, ...]
    by_words: Mapping[MatchBy, str]


async def read(sources: Sources) -> ApprovalsFacts:
    """Return the newest tickets."""
    found = tuple(map(_row, await sources.ledger.tickets(TICKETS_READ)))
    waiting = tuple(it for it in found if it.ticket.state is TicketState.OPEN)
    answered = tuple(it for it in found if it.ticket.state is not TicketState.OPEN)
    return ApprovalsFacts(waiting, answered[:ANSWERED_SHOWN], BY_WORDS)


def _row(ticket: Ticket) -> TicketRow:
    try:
        proposal = json.loads(ticket.proposal) if ticket.proposal else {}
    except ValueError:
        proposal = {}
    return TicketRow(ticket, proposal if isinstance(proposal, dict) else {})
