"""Where the dashboard's panels read: the ledger of this worker and the policy in force."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from budgets.connection import AsyncClient
from budgets.home import Home
from budgets.ledger import Ledger
from hooks.month_routes import Office
from hooks.policy import Policy
from hooks.queue_desk import QueueDesk


@dataclass(frozen=True, slots=True)
class Sources:
    """What a worker has, once it has reached the ledger."""

    home: Home
    client: AsyncClient
    ledger: Ledger
    policy: Callable[[], Policy]
    desk: Callable[[], Awaitable[QueueDesk | None]]
    office: Callable[[], Awaitable[Office | None]]

    @property
    def zone(self) -> str:
        """The time zone of the policy, in which everything is told."""
        return self.policy().budgets.time_zone
