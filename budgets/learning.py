"""How output lengths are learned: one observation after the other, nothing kept but four numbers.

- The mean is exponentially weighted, with rate 0.1 unless the policy says otherwise. It starts at
  the policy's seed, or at the first observation where there is none.
- The 95 % quantile is a stochastic approximation (Robbins and Monro, 1951): an observation above
  it moves it up by 0.95 of a step, one below moves it down by 0.05 of a step, so that it rests
  where one in twenty is above. The step is the exponentially weighted mean absolute deviation
  times the larger of 0.1 and 1/√n, so that it follows the data's own scale, is quick at first, and
  keeps following a drift.

`lua/settle.lua` is the same arithmetic in the same order; the ledger's suite holds them together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

RATE = 0.1
QUANTILE = 0.95


@dataclass(frozen=True, slots=True)
class Learning:
    """What is known after `count` observations, in tokens."""

    count: int
    mean: float
    deviation: float
    quantile95: float


def observe(
    known: Learning | None, tokens: int, seed_tokens: int | None = None, rate: float = RATE
) -> Learning:
    """Return what is known after one more observation."""
    if known is None:
        start = tokens if seed_tokens is None else seed_tokens
        mean = start + rate * (tokens - start)
        return Learning(1, float(mean), float(abs(tokens - start)), float(tokens))
    count = known.count + 1
    deviation_rate = max(RATE, 1 / (count - 1))
    deviation = known.deviation + deviation_rate * (abs(tokens - known.mean) - known.deviation)
    mean = known.mean + rate * (tokens - known.mean)
    step = deviation * max(RATE, 1 / math.sqrt(count))
    quantile = known.quantile95
    if tokens > quantile:
        quantile = quantile + step * QUANTILE
    elif tokens < quantile:
        quantile = quantile - step * 0.05
    return Learning(count, mean, deviation, quantile)
