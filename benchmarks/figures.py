"""Summaries of measured times, and comparisons of interleaved pairs. Pure.

Times on a shared machine have a long tail and drift, so nothing here is a mean: medians, with the
quartiles as spread, and comparisons within a pair whose two sides ran right after one another.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


def quantile(values: Sequence[float], share: float) -> float:
    """Return the quantile at `share` (0 to 1), linear between neighbours.

    Raises:
        ValueError: no values, or a share outside 0 to 1.
    """
    if not values or not 0 <= share <= 1:
        raise ValueError("a quantile needs at least one value and a share from 0 to 1")
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


@dataclass(frozen=True, slots=True)
class Spread:
    """A median with its quartiles, and how many values it rests on."""

    median: float
    quarter: float
    three_quarters: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return the spread of at least one value."""
        return cls(
            quantile(values, 0.5), quantile(values, 0.25), quantile(values, 0.75), len(values)
        )


@dataclass(frozen=True, slots=True)
class Comparison:
    """One figure without Farebox and with it, over interleaved pairs.

    `ratio` and `difference` are spreads over the pairs (with / without, with - without): what the
    machine did meanwhile falls on both sides of a pair. `of_medians` is the difference of the two
    sides' medians.
    """

    without: Spread
    with_it: Spread
    ratio: Spread
    difference: Spread
    of_medians: float


def compare(pairs: Sequence[tuple[float, float]]) -> Comparison:
    """Return the comparison of (without, with) pairs.

    Raises:
        ValueError: no pairs, or a figure without Farebox that is not above zero.
    """
    if not pairs or any(without <= 0 for without, _ in pairs):
        raise ValueError("a comparison needs pairs whose first figure is above zero")
    without = Spread.of([pair[0] for pair in pairs])
    with_it = Spread.of([pair[1] for pair in pairs])
    return Comparison(
        without,
        with_it,
        Spread.of([b / a for a, b in pairs]),
        Spread.of([b - a for a, b in pairs]),
        with_it.median - without.median,
    )


def alternating(count: int) -> list[tuple[int, int]]:
    """Return the order of the two sides in each pair: 0 1, 1 0, 0 1, …; neither always leads."""
    return [(0, 1) if i % 2 == 0 else (1, 0) for i in range(count)]
