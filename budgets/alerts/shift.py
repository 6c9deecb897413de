"""Whether the rate at which answers fail their gate has shifted. Pure.

Of each task type the first 500 judged answers are the reference. From then on a Shiryaev-Roberts
statistic is kept for the next ones:

    M ← (M + 1) · mean over alternatives of  P(answers | alternative) / P(answers | reference)

one side for a rate that rises, one for a rate that falls; each has its own running values for odds
of 1.5, 2, 3 and 5 times the reference's, or as much less. Half the sum of both means is at most the
number of looks in expectation while the rate stays, so that it reaches `FALSE_ALARM_ANSWERS` after
that many judged answers on average at the earliest (Roberts 1966; Shin, Ramdas, Rinaldo 2023,
E-detectors, theorem 2.4). The reference is itself estimated: the rising side is tested against its
upper confidence limit, the falling one against its lower (95 % each, by Chernoff's bound), so the
promise holds unless the reference was unlucky. After an alarm, what follows is the new reference.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

REFERENCE_ANSWERS = 500
FALSE_ALARM_ANSWERS = 10_000
ODDS = (1.5, 2.0, 3.0, 5.0)
CONFIDENCE = 0.95
_LOG_MAX = 600.0
"""Beyond it a power of e is no float any more; the alarm is far below it."""


@dataclass(frozen=True, slots=True)
class Watch:
    """What is known of one task type: its reference, and the statistic since.

    `seen` are the totals of `period` that have been taken in. `up` and `down` have a running value
    for each of `ODDS`.
    """

    period: str = ""
    seen_judged: int = 0
    seen_failed: int = 0
    reference_judged: int = 0
    reference_failed: int = 0
    judged: int = 0
    failed: int = 0
    up: tuple[float, ...] = (0.0,) * len(ODDS)
    down: tuple[float, ...] = (0.0,) * len(ODDS)

    @property
    def reference(self) -> float | None:
        """The rate that later answers are held against; None while it is gathered."""
        if self.reference_judged < REFERENCE_ANSWERS:
            return None
        return self.reference_failed / self.reference_judged

    @property
    def statistic(self) -> float:
        """What is compared with `FALSE_ALARM_ANSWERS`."""
        return (sum(self.up) + sum(self.down)) / (2 * len(ODDS))

    def to_json(self) -> str:
        """Return it as text, as the store keeps it."""
        return json.dumps([getattr(self, name) for name in self.__slots__])

    @staticmethod
    def from_json(text: str) -> Watch:
        """Read what `to_json` wrote; what cannot be read begins anew."""
        try:
            values = dict(zip(Watch.__slots__, json.loads(text), strict=True))
            return Watch(**values | {"up": tuple(values["up"]), "down": tuple(values["down"])})
        except (ValueError, TypeError, KeyError):
            return Watch()


@dataclass(frozen=True, slots=True)
class Shift:
    """An alarm: the rate since the reference differs from it."""

    task_type: str
    judged: int
    failed: int
    reference_judged: int
    reference_failed: int

    def body(self) -> str:
        """Return the event's body."""
        return json.dumps({name: getattr(self, name) for name in self.__slots__})


def take_in(
    watch: Watch, task_type: str, period: str, totals: Mapping[str, int]
) -> tuple[Watch, Shift | None]:
    """Return what is known once the totals of a period so far are taken in, and an alarm if due.

    `totals` has `gated` and `gate_failed`. A new period starts from 0; what the old one got after
    the last look is not taken in.
    """
    if watch.period != period:
        watch = replace(watch, period=period, seen_judged=0, seen_failed=0)
    judged = totals.get("gated", 0) - watch.seen_judged
    failed = totals.get("gate_failed", 0) - watch.seen_failed
    if judged <= 0 or not 0 <= failed <= judged:
        return watch, None
    watch = replace(
        watch, seen_judged=watch.seen_judged + judged, seen_failed=watch.seen_failed + failed
    )
    if watch.reference is None:
        gathered = replace(
            watch,
            reference_judged=watch.reference_judged + judged,
            reference_failed=watch.reference_failed + failed,
        )
        return gathered, None
    high, low = limits(watch.reference_failed, watch.reference_judged)
    watch = replace(
        watch,
        judged=watch.judged + judged,
        failed=watch.failed + failed,
        up=_step(watch.up, high, judged, failed, rising=True),
        down=_step(watch.down, low, judged, failed, rising=False),
    )
    if watch.statistic < FALSE_ALARM_ANSWERS:
        return watch, None
    told = Shift(
        task_type, watch.judged, watch.failed, watch.reference_judged, watch.reference_failed
    )
    return Watch(watch.period, watch.seen_judged, watch.seen_failed), told


def _step(
    values: tuple[float, ...], rate: float, judged: int, failed: int, *, rising: bool
) -> tuple[float, ...]:
    if rate in (0.0, 1.0):
        return values  # Nothing can be rarer than never, or more frequent than always.
    odds = rate / (1 - rate)
    found = []
    for value, times in zip(values, ODDS, strict=True):
        other = odds * times if rising else odds / times
        other = other / (1 + other)
        log_ratio = failed * math.log(other / rate)
        log_ratio += (judged - failed) * math.log((1 - other) / (1 - rate))
        found.append(math.exp(min(_LOG_MAX, math.log(value + 1) + log_ratio)))
    return tuple(found)


def limits(failed: int, judged: int) -> tuple[float, float]:
    """Return the upper and the lower confidence limit of a rate, by Chernoff's bound.

    Each is where `judged · KL(failed/judged, limit)` reaches the logarithm of 1/(1 - confidence).
    """
    rate = failed / judged
    bound = math.log(1 / (1 - CONFIDENCE)) / judged
    return _edge(rate, 1.0, bound), _edge(rate, 0.0, bound)


def _edge(rate: float, end: float, bound: float) -> float:
    inside, outside = rate, end
    for _ in range(60):
        middle = (inside + outside) / 2
        if _divergence(rate, middle) <= bound:
            inside = middle
        else:
            outside = middle
    return outside


def _divergence(rate: float, other: float) -> float:
    total = 0.0
    for p, q in ((rate, other), (1 - rate, 1 - other)):
        if p > 0:
            total += p * math.log(p / q) if q > 0 else math.inf
    return total
