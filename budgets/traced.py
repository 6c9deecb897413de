"""What others than the accounting callback tell the tracing side, and the way there.

The side that decides and the side that accounts do not import each other, so both meet here. The
tracing side installs itself as `sink`; without it nothing is told and nothing is kept. Telling is
cheap and never raises: whatever a trace is made of is put together elsewhere, off the request.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from budgets.records import LedgerEntry


@dataclass(frozen=True, slots=True)
class Routed:
    """How a request came to be sent. `decision` is the JSON text that the ledger keeps as well.

    `began_ns` is its arrival and `decided_ns` the end of deciding, by the clock of the request.
    """

    decision: str
    began_ns: int
    decided_ns: int


@dataclass(frozen=True, slots=True)
class ApprovalAnswered:
    """A person has answered a ticket. `outcome` is `granted`, `first of two` or `denied`.

    `decision_id` is that of the request which opened the ticket, `user` whoever asked, `by` the
    name of the key that answered. `when` is aware. The person's reason is in the audit trail only.
    """

    approval_id: str
    outcome: str
    decision_id: str
    when: datetime
    by: str
    user: str = ""
    task_type: str = ""
    terms: Mapping[str, Any] | None = None


class Sink(Protocol):
    """Who is told."""

    def expired(self, entry: LedgerEntry) -> None:
        """Take note of a request that was charged by its lease, as its worker is gone."""

    def answered(self, answered: ApprovalAnswered) -> None:
        """Take note of a ticket's answer."""


sink: Sink | None = None
"""This process's tracing side; None traces nothing."""


def expired(entry: LedgerEntry) -> None:
    """Tell of a hold that its lease has ended."""
    if sink is not None:
        sink.expired(entry)


def answered(event: ApprovalAnswered) -> None:
    """Tell of a ticket that a person has answered."""
    if sink is not None:
        sink.answered(event)
