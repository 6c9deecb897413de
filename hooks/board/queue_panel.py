"""The panel of the queue: what waits for budget, what runs, what is dead and why."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from budgets.queue.items import Item, State, Totals
from budgets.queue.redis_queue import RedisQueue
from hooks.board.sources import Sources

ITEMS_SHOWN = 50
"""How many of each state are shown."""


@dataclass(frozen=True, slots=True)
class QueueFacts:
    """The queue at one moment: those that wait in the order in which they run."""

    totals: Totals
    waiting: tuple[Item, ...]
    running: tuple[Item, ...]
    dead: tuple[Item, ...]


async def read(sources: Sources) -> QueueFacts:
    """Return what is queued."""
    queue = RedisQueue(sources.client, sources.home.ledger)
    totals, waiting, running, dead = await asyncio.gather(
        queue.totals(),
        queue.listed(State.WAITING, ITEMS_SHOWN),
        queue.listed(State.RUNNING, ITEMS_SHOWN),
        queue.listed(State.DEAD, ITEMS_SHOWN),
    )
    return QueueFacts(totals, waiting, running, dead)
