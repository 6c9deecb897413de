"""Evidence that something is no longer as it was, kept as one number. Pure.

Every signal is a test of a null ("no more than this rate") against several alternatives, by the
weighted Shiryaev-Roberts statistic

    M ← (M + n) · mean over alternatives of  P(answers | alternative) / P(answers | null)

for each look at `n` further entries: each alternative has its own running value. Under the null
`M` less the number of entries is a supermartingale, whenever one looks. So of a series that is told
as soon as `M` reaches `A`, and then begins anew, at most one alarm in `A` entries is false, in the
long run (Roberts 1966; Shin, Ramdas, Rinaldo 2023, "E-detectors", theorem 2.4). The mean of such
statistics is one again, so a series that asks several questions needs no correction, and series
that share no entry need none among each other: their entries, and so their false alarms, add up.

An e-process from the start of time bounds the chance that there is ever a false alarm. It has to be
spread over all the moments at which a change could begin, and gets slower the longer all was well;
a proxy runs for years. So what is bounded here is how often.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

ODDS = (1.5, 2.0, 3.0, 5.0)
"""The alternatives of a rate: the null's odds times these, or divided by them."""

Values = tuple[float, ...]
"""A running value for each alternative."""

NOTHING: Values = (0.0,) * len(ODDS)


def rate_step(
    values: Values, null: float, entries: int, hits: int, ceiling: float, *, rising: bool
) -> Values:
    """Return the values after a look: `hits` of `entries` said yes, the null is the rate `null`.

    With `rising` the null is "at most", else "at least". `ceiling` bounds what is remembered, so
    that a series that is in control again gets rid of its evidence.
    """
    if not 0.0 < null < 1.0 or entries <= 0:
        # Nothing can be rarer than never, or more frequent than always.
        return values
    odds = null / (1 - null)
    found = []
    for value, times in zip(values, ODDS, strict=True):
        other = odds * times if rising else odds / times
        other = other / (1 + other)
        log_ratio = hits * math.log(other / null)
        log_ratio += (entries - hits) * math.log((1 - other) / (1 - null))
        found.append(_times(value + entries, log_ratio, ceiling))
    return tuple(found)


def _times(value: float, log_ratio: float, ceiling: float) -> float:
    exponent = math.log(value) + log_ratio
    return ceiling if exponent >= math.log(ceiling) else math.exp(exponent)


def together(sides: Sequence[Values]) -> float:
    """Return the statistic of a series: the mean of all that it keeps."""
    count = sum(map(len, sides))
    return sum(map(sum, sides)) / count if count else 0.0


@lru_cache(maxsize=20_000)
def edge(hits: int, entries: int, doubt: float, *, upper: bool) -> float:
    """Return the confidence limit of a rate, by Chernoff's bound; it is wrong with chance `doubt`.

    It is where `entries · KL(hits/entries, limit)` reaches `ln(1/doubt)`. A baseline stays, so each
    is found once.
    """
    rate = hits / entries
    bound = math.log(1 / doubt) / entries
    inside, outside = rate, 1.0 if upper else 0.0
    for _ in range(50):
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
