"""What a seed decides before a run begins: how large the world is, and which faults strike it.

Every seed switches only some kinds of faults on, each with a rate of its own. A run in which
everything happens at once hides what a single fault can do: its requests hardly get anywhere.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum


class LinkFault(StrEnum):
    """What can become of one call to the store."""

    CUT_BEFORE = "cut_before"
    """The connection broke before the call arrived; the client sends it once more."""
    CUT_AFTER = "cut_after"
    """The reply was lost; the client sends the call once more, so it is delivered twice."""
    CUT_TWICE = "cut_twice"
    """Both tries broke, the first after it was executed: done, and nobody knows."""
    REFUSED = "refused"
    """Both tries broke before they arrived: not done."""
    LATE = "late"
    """Executed after its caller had given up."""
    SWALLOWED = "swallowed"
    """Never executed; the caller gave up."""
    CRASH_BEFORE = "crash_before"
    """The worker died before the call left it."""
    CRASH_AFTER = "crash_after"
    """The worker died before the reply reached it."""


class Event(StrEnum):
    """What can happen to the world at some instant."""

    DOWN = "down"
    """The store refuses connections for a while."""
    PAUSE = "pause"
    """The store stands still for a while, then does all that has queued up."""
    FAILOVER = "failover"
    """Another server takes over; where writes are copied late, it lacks the last ones."""
    STORE_CLOCK = "store_clock"
    """The store's clock steps, forwards or backwards."""
    WORKER_CLOCK = "worker_clock"
    """A worker's clock steps."""
    RELOAD = "reload"
    """The finance owner edits the limits."""
    CRASH = "crash"
    """A worker dies, wherever it is."""
    DISK_FULL = "disk_full"
    """Nothing more can be written to the journals for a while."""


TURNS = (
    ("UTC", datetime(2026, 11, 21, 11, 0, tzinfo=UTC)),  # in the middle of a day
    ("UTC", datetime(2026, 11, 22, 0, 0, tzinfo=UTC)),  # a day turns
    ("UTC", datetime(2026, 12, 1, 0, 0, tzinfo=UTC)),  # a month turns
    ("UTC", datetime(2027, 1, 1, 0, 0, tzinfo=UTC)),  # a year turns
    ("UTC", datetime(2028, 2, 29, 0, 0, tzinfo=UTC)),  # a leap day begins
    ("UTC", datetime(2028, 3, 1, 0, 0, tzinfo=UTC)),  # a leap day ends
    ("Europe/Berlin", datetime(2026, 10, 24, 22, 0, tzinfo=UTC)),  # a day of 25 hours begins
    ("Europe/Berlin", datetime(2026, 10, 25, 23, 0, tzinfo=UTC)),  # and ends
    ("Europe/Berlin", datetime(2027, 3, 28, 22, 0, tzinfo=UTC)),  # a day of 23 hours ends
)
"""Instants around which runs take place, with the policy's time zone."""


@dataclass(frozen=True)
class Plan:
    """One run. Rates are chances for each call, or mean seconds between two events.

    `writes_lost_max` is how many of the last writes a failover can lose: 0 where every write is on
    the replica before it is acknowledged. `allow` is whether workers may go on without the store,
    up to an allowance. `tear` is the chance of a crash in the middle of writing to the journal.
    """

    seed: int
    zone: str
    start_ms: int
    active_s: float
    workers: int
    clients: int
    pause_s: float
    lease_ms: int
    settle_delay_s: float
    latency_s: float
    slow_s: float
    writes_lost_max: int
    fallback_rate: float
    allow: bool
    tear: float
    write_s: float
    link: Mapping[LinkFault, float]
    events: Mapping[Event, float]

    def link_fault(self, chance: random.Random) -> LinkFault | None:
        """Draw what becomes of one call."""
        drawn = chance.random()
        for fault, rate in self.link.items():
            drawn -= rate
            if drawn < 0:
                return fault
        return None


def draw(seed: int) -> Plan:
    """Return the plan that this seed stands for."""
    chance = random.Random(f"plan {seed}")
    zone, turn = chance.choice(TURNS)
    active_s = chance.uniform(4, 15)
    link = {it: chance.choice((0.01, 0.04, 0.1)) for it in LinkFault if chance.random() < 0.35}
    for fault in (LinkFault.CRASH_BEFORE, LinkFault.CRASH_AFTER):
        if fault in link:
            link[fault] /= 4  # A worker that hardly ever lives does little that can go wrong.
    events = {it: chance.uniform(2, 10) for it in Event if chance.random() < 0.35}
    return Plan(
        seed=seed,
        zone=zone,
        start_ms=int(turn.timestamp() * 1000) - int(1000 * chance.uniform(0, active_s)),
        active_s=active_s,
        workers=chance.choice((1, 2, 2, 3)),
        clients=chance.randint(1, 5),
        pause_s=chance.choice((0.5, 1.0, 3.0)),
        lease_ms=chance.choice((1_000, 3_000, 6_000)),
        settle_delay_s=chance.choice((0.0, 0.05, 0.5, 5.0)),
        latency_s=chance.choice((0.0, 0.001, 0.05)),
        slow_s=chance.choice((0.2, 2.0, 10.0)),
        writes_lost_max=chance.choice((0, 0, 3, 8)),
        fallback_rate=chance.choice((0.0, 0.1, 0.4)),
        allow=chance.random() < 0.5,
        tear=chance.choice((0.0, 0.0, 0.02, 0.1)),
        write_s=chance.choice((0.0, 0.01)),
        link=link,
        events=events,
    )
