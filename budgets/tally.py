"""Counting on a request's path for next to nothing: a dict in this process, told on every second.

`prometheus_client` takes a lock, asks for the process's id and writes to a shared file at each
increment. A request counts a dozen things, so here it only adds to a plain dict; `flush` puts the
sums where a scrape of any worker finds them, beside the requests. A worker that is killed loses
the last second: nothing here is money.

All of it belongs to the event loop's thread. Every metric has a bound on its label sets: what comes
beyond it is counted as `other`, so that no edit of the policy and no caller can make series without
end.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Sequence
from functools import partial
from typing import Literal

import structlog
from prometheus_client import Counter, Gauge, Histogram

log = structlog.get_logger("farebox.metrics")

FLUSH_INTERVAL_S = 1.0
SERIES_MAX = 2_000
"""How many label sets a counter has at most in one worker."""

HISTOGRAM_SERIES_MAX = 200
OTHER = "other"

Mode = Literal["livemin", "livemax", "livesum", "livemostrecent", "mostrecent"]

_tallies: list[Tally | Spread] = []


class _Bounded:
    """The label sets that a metric has, and `other` for those beyond the bound."""

    def __init__(self, names: Sequence[str], series_max: int) -> None:
        self._rest = (OTHER,) * len(names)
        self._series_max = series_max
        self._known: set[tuple[str, ...]] = set()

    def of(self, labels: tuple[str, ...]) -> tuple[str, ...]:
        if labels in self._known:
            return labels
        if len(self._known) >= self._series_max:
            return self._rest
        self._known.add(labels)
        return labels


class Tally:
    """A counter. An empty label says that nothing is known: Prometheus takes it for absent."""

    def __init__(
        self, name: str, documentation: str, labels: Sequence[str], series_max: int = SERIES_MAX
    ) -> None:
        self.metric = Counter(name, documentation, labels)
        self._bounded = _Bounded(labels, series_max)
        self._waiting: dict[tuple[str, ...], float] = {}
        _tallies.append(self)

    def begin(self, *labels: str) -> None:
        """Show 0 for what has not been counted yet, so that its first time is a rise."""
        self.metric.labels(*self._bounded.of(labels))

    def add(self, *labels: str, amount: float = 1) -> None:
        """Count something; the labels are in the order of the metric's."""
        waiting = self._waiting
        waiting[labels] = waiting.get(labels, 0) + amount

    def flush(self) -> None:
        """Put what was counted where scrapes find it."""
        counted, self._waiting = self._waiting, {}
        for labels, amount in counted.items():
            self.metric.labels(*self._bounded.of(labels)).inc(amount)


class Spread:
    """A histogram with the given upper bounds, which rise."""

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: Sequence[str],
        bounds: Sequence[float],
        series_max: int = HISTOGRAM_SERIES_MAX,
    ) -> None:
        self.metric = Histogram(name, documentation, labels, buckets=bounds)
        self._bounds = tuple(bounds)
        self._bounded = _Bounded(labels, series_max)
        self._waiting: dict[tuple[str, ...], list[float]] = {}
        _tallies.append(self)

    def add(self, value: float, *labels: str) -> None:
        """Take in a value."""
        counts = self._waiting.get(labels)
        if counts is None:
            # The last two are the bucket without a bound and the sum.
            counts = self._waiting[labels] = [0.0] * (len(self._bounds) + 2)
        counts[bisect_left(self._bounds, value)] += 1
        counts[-1] += value

    def flush(self) -> None:
        """Put what was taken in where scrapes find it."""
        taken, self._waiting = self._waiting, {}
        for labels, (*counts, total) in taken.items():
            known = self._bounded.of(labels)
            child = self.metric.labels(*known) if known else self.metric
            # The library has no way to add many values at once; its parts are what `observe` uses.
            for bucket, count in zip(child._buckets, counts, strict=True):
                if count:
                    bucket.inc(count)
            child._sum.inc(total)


class LateGauge:
    """A gauge that is absent until it is set: the library's own would say 0 from the start.

    `mode` says how workers' values become one, as `prometheus_client` names it.
    """

    def __init__(self, name: str, documentation: str, mode: Mode) -> None:
        self.name, self.documentation = name, documentation
        self._make = partial(Gauge, name, documentation, multiprocess_mode=mode)
        self._gauge: Gauge | None = None

    def set(self, value: float) -> None:
        """Set it."""
        if self._gauge is None:
            self._gauge = self._make()
        self._gauge.set(value)


_failing = False


def flush() -> None:
    """Put all that was counted where scrapes find it. A full disk costs figures and no more."""
    global _failing
    failed = ""
    for tally in _tallies:
        try:
            tally.flush()
        except (OSError, ValueError) as error:
            failed = f"{type(error).__name__}: {error}"
    if failed and not _failing:
        log.error("metrics_not_told", reason=failed)
    _failing = bool(failed)


async def keep_flushing() -> None:
    """Flush every second, for ever."""
    while True:
        await asyncio.sleep(FLUSH_INTERVAL_S)
        flush()
