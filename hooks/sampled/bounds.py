"""Bounds of a mean of figures between 0 and 1, from some that were drawn: for any figures. Pure.

How they are found and why they hold is told in `hooks.sampled`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import mul

MISS = 1 / 1_000
"""How often a count may be outside of its interval; half of it on each side."""

BETS_BELOW = ((0.65, 0.9), (0.3, 0.1))
BETS_ABOVE = ((0.9, 0.9), (0.4, 0.1))
"""The `c` of each bound with their weights: the products of both, weighed, are one more such. The
first is near the best for plain text, the second for texts of very different parts."""

BEND_MAX, STEPS = 0.9, 6
"""From such a bend on the parabola is left, and so many halvings of what is left are tried."""


def below(figures: Sequence[float]) -> float:
    """Return what the mean is not below, but for a chance of half of `MISS`."""
    return _least_mean(figures, BETS_BELOW)


def above(figures: Sequence[float]) -> float:
    """Return what the mean is not above, but for a chance of half of `MISS`."""
    return 1 - _least_mean([1 - it for it in figures], BETS_ABOVE)


def _least_mean(figures: Sequence[float], bets: Sequence[tuple[float, float]]) -> float:
    """Return the bound of `below` for figures from 0 up, by some bets and their weights.

    The logarithm of each factor is bounded from below by a parabola that holds for the smallest of
    them, and so for all: that leaves an equation of the second degree in `1 / mean`.
    """
    count, total = len(figures), math.fsum(figures)
    if total <= 0:
        return 0.0
    squares, least = math.fsum(map(mul, figures, figures)), min(figures)
    found = 0.0
    for bet, weight in bets:
        goal = math.log(2 / MISS / weight)
        smallest = bet * (least * count / total - 1)
        bend = (smallest - math.log1p(smallest)) / smallest**2 if smallest < -1e-6 else 0.5
        square = bend * bet * bet * squares
        middle = bet * total * (1 + 2 * bend * bet)
        rest = bet * count + bend * bet * bet * count + goal
        inside = middle * middle - 4 * square * rest
        # The smaller root, in the form that loses no digits; none where the figures differ much.
        low = (middle + math.sqrt(inside)) / (2 * rest) if inside >= 0 else 0.0
        if inside < 0 or bend > BEND_MAX:
            low = _raised(figures, bet, goal, low, total / count)
        found = max(found, low)
    return found


def _raised(figures: Sequence[float], bet: float, goal: float, low: float, high: float) -> float:
    """Return the bound by the logarithms themselves: a few small figures bend the parabola much."""
    for _ in range(STEPS):
        middle = (low + high) / 2
        factor = bet / middle
        if math.fsum([math.log1p(factor * it - bet) for it in figures]) >= goal:
            low = middle
        else:
            high = middle
    return low
