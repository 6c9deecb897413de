"""How long something is tried to be sent: again and again, within a bound, and less at the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from callbacks.tracing.sender import Sent

RETRY_FIRST_S = 0.25
RETRY_PAUSE_MAX_S = 4.0
TRY_S_MIN = 0.05


@dataclass(slots=True)
class Closing:
    """Says that the process ends: what waits is sent until `by` (on the tracer's clock) at most."""

    event: threading.Event = field(default_factory=threading.Event)
    by: float = float("inf")

    def within(self, by: float) -> None:
        """Begin the end."""
        self.by = by
        self.event.set()


@dataclass(frozen=True, slots=True)
class Patience:
    """How one batch is tried. `clock` is monotonic seconds; `between` is called before a pause."""

    give_up_after_s: float
    timeout_s: float
    closing: Closing
    clock: Callable[[], float] = time.monotonic
    between: Callable[[], None] = lambda: None

    def deliver(self, once: Callable[[float], Sent]) -> Sent:
        """Try until it is delivered, must not be tried again, or the time is over.

        `once` gets the seconds that its attempt may take. Returns what the last attempt brought.
        """
        give_up_at = self.clock() + self.give_up_after_s
        pause_s = RETRY_FIRST_S
        while True:
            left_s = min(give_up_at, self.closing.by) - self.clock()
            sent = once(max(TRY_S_MIN, min(self.timeout_s, left_s)))
            if sent.delivered or not sent.retry:
                return sent
            left_s = min(give_up_at, self.closing.by) - self.clock()
            if left_s <= 0:
                return sent
            self.between()
            self._pause(min(pause_s, left_s))
            pause_s = min(pause_s * 2, RETRY_PAUSE_MAX_S)

    def _pause(self, seconds: float) -> None:
        """Wait before another attempt. A close cuts the first pause that it meets short."""
        if self.closing.event.is_set():
            time.sleep(seconds)
        else:
            self.closing.event.wait(seconds)
