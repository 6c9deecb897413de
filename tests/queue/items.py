"""Short ways to say what a test of the queue needs."""

from __future__ import annotations

import itertools
from dataclasses import replace

from budgets.queue.items import Full, Item, Need, NewItem, RequestQueue, Room

HOUR_MS = 3_600_000
LEASE_MS = 30_000
ROOMY = Room(requests_max=100, bytes_max=1_000_000)

_numbers = itertools.count(1)


def new_item(item_id: str = "", **changes: object) -> NewItem:
    """Return a request to keep: $0.01 of the budget `team`, expiring in an hour."""
    item = NewItem(
        id=item_id or f"q{next(_numbers)}",
        owner="key1",
        key_name="alice",
        category="FAST",
        task_type="lookup",
        priority=5,
        needs=(Need("team", "team", 10_000_000),),
        estimate_nano_usd=4_000_000,
        expires_in_ms=HOUR_MS,
        attempts_max=3,
        answer_kept_ms=HOUR_MS,
        bytes=100,
        sealed_by="k",
        body="sealed",
        reason="budget_exceeded",
    )
    return replace(item, **changes)  # type: ignore[arg-type]  # names as in NewItem


async def add(queue: RequestQueue, item_id: str = "", **changes: object) -> Item:
    """Keep a request that has room."""
    kept = await queue.add(new_item(item_id, **changes), ROOMY)
    assert not isinstance(kept, Full)
    return kept


async def claimed(queue: RequestQueue, item_id: str = "", **changes: object) -> Item:
    """Keep a request and take it to run, as `me`."""
    kept = await add(queue, item_id, **changes)
    taken = await queue.claim(kept.id, "me", LEASE_MS)
    assert taken is not None
    return taken
