"""The ledger's time: the store's clock, guarded against steps backwards. Pure.

A clock can be set back: by NTP, by a virtual machine that is moved, by a failover to a machine
whose clock is behind. The ledger remembers the latest time that an operation has gone by.

- **A small step back** (up to an hour): time stands still until the clock has caught up. No period
  returns once the next one has begun, so nothing is admitted into a period that may be closed; no
  lease ends early; a dead worker's lease ends late, by the step at most.
- **A larger step back** means that the time before it was wrong (a jump ahead that was mended). To
  wait for it could mean to wait for years, so the new time is taken over, with an event
  `clock_stepped`. Leases and leads that were given out under the wrong time keep what was left of
  them. What was charged meanwhile stays in the periods of the wrong time, visibly; holds whose
  leases ended by it are charged `unreconciled` and corrected by their settles. A period that was
  closed by it stays closed: what it still gets is entered as addenda.
- **A jump ahead** cannot be told from a pause, and is taken as it is.

Thresholds know no time: they are claimed by period and limit epoch. `lua/lib.lua` does the same as
`Guard`.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

log = structlog.get_logger(__name__)

STEP_MS_MAX = 3_600_000
"""The largest step back that is waited out, in ms."""


class Guard:
    """A clock that never goes back, but for steps above `STEP_MS_MAX`.

    Args:
        source: Unix milliseconds, possibly going back.
        stepped: called with the time before and the time after a step that is taken over.
    """

    def __init__(self, source: Callable[[], int], stepped: Callable[[int, int], None]) -> None:
        self._source = source
        self._stepped = stepped
        self._last_ms: int | None = None

    def now_ms(self) -> int:
        """Return the time and remember it."""
        before, now = self._last_ms, self.peek_ms()
        self._last_ms = now
        if before is not None and now < before:
            self._stepped(before, now)
        return now

    def peek_ms(self) -> int:
        """Return the time without remembering it, for operations that only read."""
        now, last = self._source(), self._last_ms
        if last is not None and 0 < last - now <= STEP_MS_MAX:
            return last
        return now


class StepWatch:
    """Logs that a store's clock was taken over after a step, once in each process that sees it."""

    def __init__(self) -> None:
        self._last_ms = 0

    def saw(self, time_ms: int) -> None:
        """Compare a time of the ledger with the one seen before it."""
        # Answers can overtake each other by milliseconds; only a step is further than this.
        if self._last_ms - time_ms > STEP_MS_MAX:
            log.error("ledger_clock_stepped", from_ms=self._last_ms, to_ms=time_ms)
        self._last_ms = time_ms
