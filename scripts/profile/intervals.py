"""Exact intervals for a pass rate, and how many samples a mark needs. Pure; no library.

Clopper and Pearson (1934): the two-sided interval whose ends are the rates at which what was seen,
or more extreme, has probability (1 - confidence) / 2. It never covers less than it says, for any
number of samples. The ends are quantiles of a beta distribution.

With weights the number of samples and of passes are replaced by effective ones, after Korn and
Graubard (1998), with Kish's effective sample size (Σw)² / Σw². That is an approximation: exact
intervals for weighted shares do not exist. Equal weights give Clopper and Pearson's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95
SAMPLES_MAX = 1_000_000


@dataclass(frozen=True, slots=True)
class Interval:
    """A pass rate with its interval. `samples` is effective, and so a fraction, with weights."""

    rate: float
    lower: float
    upper: float
    samples: float


def clopper_pearson(passed: float, samples: float, confidence: float = CONFIDENCE) -> Interval:
    """Return the interval of `passed` out of `samples`; all of 0 to 1 where nothing was seen.

    Raises:
        ValueError: more passed than there were, or the confidence is no share.
    """
    if not 0 <= passed <= samples or not 0 < confidence < 1:
        raise ValueError(f"{passed} of {samples} at {confidence}")
    if samples == 0:
        return Interval(math.nan, 0.0, 1.0, 0)
    tail = (1 - confidence) / 2
    lower = 0.0 if passed == 0 else beta_quantile(tail, passed, samples - passed + 1)
    upper = 1.0 if passed == samples else beta_quantile(1 - tail, passed + 1, samples - passed)
    return Interval(passed / samples, lower, upper, samples)


def weighted(outcomes: Sequence[tuple[bool, float]], confidence: float = CONFIDENCE) -> Interval:
    """Return the interval of outcomes with weights."""
    if not outcomes:
        return clopper_pearson(0, 0, confidence)
    total = math.fsum(weight for _, weight in outcomes)
    squares = math.fsum(weight * weight for _, weight in outcomes)
    if len({weight for _, weight in outcomes}) == 1:
        return clopper_pearson(sum(passed for passed, _ in outcomes), len(outcomes), confidence)
    rate = math.fsum(weight for passed, weight in outcomes if passed) / total
    samples = total * total / squares
    return clopper_pearson(min(samples, rate * samples), samples, confidence)


def samples_needed(
    mark: float, failures: float = 0, seen: float = 0, confidence: float = CONFIDENCE
) -> int | None:
    """Return the least number of samples whose interval begins at `mark`, with so many failures.

    Not below `seen`. None where a million are not enough.
    """
    low, high = max(math.ceil(seen), math.ceil(failures), 1), SAMPLES_MAX

    def reaches(samples: int) -> bool:
        return clopper_pearson(samples - failures, samples, confidence).lower >= mark

    if not reaches(high):
        return None
    while low < high:
        middle = (low + high) // 2
        if reaches(middle):
            high = middle
        else:
            low = middle + 1
    return low


def beta_quantile(share: float, a: float, b: float) -> float:
    """Return where a beta distribution's cumulated share is reached, to 1e-12; by bisection."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if beta_cdf(middle, a, b) < share:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def beta_cdf(x: float, a: float, b: float) -> float:
    """Return the regularised incomplete beta function I_x(a, b)."""
    if x <= 0:
        return 0.0
    if x >= 1:
        return 1.0
    log_front = (
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
        + a * math.log(x) + b * math.log1p(-x)
    )  # fmt: skip
    # The continued fraction converges quickly below the mean; above it the other tail is taken.
    if x < (a + 1) / (a + b + 2):
        return math.exp(log_front) * _fraction(x, a, b) / a
    return 1 - math.exp(log_front) * _fraction(1 - x, b, a) / b


def _fraction(x: float, a: float, b: float) -> float:
    """Return the continued fraction of I_x(a, b) (DLMF 8.17.22), by Lentz's method."""
    tiny = 1e-300
    c, d = 1.0, 1 - (a + b) * x / (a + 1)
    d = 1 / (d if abs(d) > tiny else tiny)
    value = d
    for m in range(1, 100_000):
        for numerator in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 + numerator * d
            d = 1 / (d if abs(d) > tiny else tiny)
            c = 1 + numerator / c
            c = c if abs(c) > tiny else tiny
            value *= c * d
        if abs(c * d - 1) < 1e-14:
            return value
    raise ArithmeticError(f"the continued fraction does not converge at {x}, {a}, {b}")
