"""How input margins are learned: what providers count, against Farebox's own count of a request.

Two things are known of each group and of each provider:

- The likely factor, for estimates: the exponentially weighted mean of the provider's tokens over
  that of Farebox's count. A long request weighs more than a short one, as it does in money.
- The bound, for holds: a factor that fewer than one request in a thousand passes. A request that
  passes it (its input is above count times bound plus the policy's extra tokens) raises it by a
  tenth; every other one lowers it by 1/20,000. So it rests where about one in 1,900 is above:
  nothing is assumed of how the ratios are distributed, or in what order they come. Of T requests of
  a group at most T/1,900 pass the bound, plus ten while it climbs (`PASSED_AT_MOST`), as long as
  the provider's tokens stay a tenth below the bound's ceiling.

Anyone who may send requests takes part in this, and somebody may mean ill. So the policy keeps the
ends: the bound never falls below the middle of the policy's own two factors, however many requests
are counted generously, and never rises more than 1.5 above the policy's bound, however odd a text
somebody finds. It takes up to ten passing requests to get it there, each of them paid for, and up
to 18,000 others to undo that.
Beyond the ceiling an overage is charged and recorded like any other, and a person must look.

An edit of the policy's bound lifts what was learned to it at once and never drops it: a lower one
is reached by falling, as fast as requests prove it.

`lua/settle.lua` is the same arithmetic in the same order; the ledger's suite holds them together.
"""

from __future__ import annotations

from dataclasses import dataclass

RATE = 0.02
"""The least weight of one request in the means: they follow about the last fifty."""

RISE = 1.1
FALL = 1 - 1 / 20_000
CEILING_ABOVE = 1.5
"""How far above the policy's bound the learned one may rise."""

PASSED_AT_MOST = (1 / 1_900, 10)
"""Requests that pass the bound: at most this share of all, and so many more.

Each raises its logarithm by ln(1.1), every other one lowers it by 1/20,000 at the most, and from
where it starts, at 1 or more, to its ceiling it is ln(2.5) at the most: so
N · ln(1.1) ≤ ln(2.5) + (T - N) / 20,000.
"""


@dataclass(frozen=True, slots=True)
class InputLearning:
    """What is known after `count` requests. The means are tokens a request, `bound` is a factor.

    `seed` is the policy's bound that the last request came with.
    """

    count: int
    counted_mean: float
    input_mean: float
    bound: float
    seed: float

    @property
    def factor(self) -> float:
        """The provider's tokens for one of Farebox's."""
        return self.input_mean / self.counted_mean


def floor_of(estimate_factor: float, bound_factor: float) -> float:
    """Return the least bound that may be learned: the middle of the policy's two factors."""
    return (estimate_factor + bound_factor) / 2


def ceiling_of(bound_factor: float) -> float:
    """Return the highest bound that may be learned."""
    return bound_factor + CEILING_ABOVE


def observe_input(
    known: InputLearning | None,
    counted_tokens: int,
    input_tokens: int,
    extra_tokens: int,
    estimate_factor: float,
    bound_factor: float,
) -> InputLearning:
    """Return what is known after one more request.

    `counted_tokens` is Farebox's count (above 0), `input_tokens` the provider's, `extra_tokens`
    what the policy's bound adds to such a request; the factors are the policy's.
    """
    ceiling = ceiling_of(bound_factor)
    if known is None:
        known = InputLearning(
            0, float(counted_tokens), counted_tokens * estimate_factor, bound_factor, bound_factor
        )
    count = known.count + 1
    rate = max(RATE, 1 / (count + 1))
    believed = min(float(input_tokens), counted_tokens * ceiling + extra_tokens)
    counted_mean = known.counted_mean + rate * (counted_tokens - known.counted_mean)
    input_mean = known.input_mean + rate * (believed - known.input_mean)
    bound = known.bound
    if known.seed != bound_factor:
        bound = max(bound, bound_factor)
    if input_tokens > counted_tokens * bound + extra_tokens:
        bound = bound * RISE
    else:
        bound = bound * FALL
    bound = min(max(bound, floor_of(estimate_factor, bound_factor)), ceiling)
    return InputLearning(count, counted_mean, input_mean, bound, bound_factor)
