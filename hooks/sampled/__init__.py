"""How many tokens a long text has, from a few hundred short blocks of it: an estimate, an interval.

    text ─► blocks of some 32 bytes, cut before a space ─► one a stratum, at a secret random place
         ─► their tokens a byte ─► mean, and two bounds that hold for any text

What is proven, and of what. The places are drawn anew for every text, by the system's own source
of randomness, so nobody who writes a text can know them. A block is drawn as likely as it is long,
so that the mean of the drawn blocks' tokens a byte is, on average, that of all blocks. A token has
a byte at the least, so each of these figures lies between 0 and 1, whatever the text is. For such
figures the product of `1 - c + c * figure / m` is at most 1 on average wherever their true mean is
at most `m` (strata may differ: by the inequality of the means that only makes it smaller), and so
it reaches `1 / miss` with a chance of at most `miss` (Markov). The largest `m` at which it does is
the low bound. The same with 1 less each figure gives the high one. So no text, however it was made,
is outside of its interval more often than `MISS`: half English and half base64, or with a dense
block hidden in it. The products are due to Waudby-Smith and Ramdas, "Estimating means of bounded
random variables by betting" (2024).

Cuts before a space, or between a letter and a sign, change nothing: the tokenizer begins a new
piece there, whatever is before it. Where a block has neither (emoji, base64) its cuts divide what
may be one piece. The low end then takes a token for 128 bytes, the longest there is, which is
proven; the high end a token more than was found, which is not: tests look for a text in which cuts
take more than one away each.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass

from hooks.sampled.blocks import counted, drawn, places
from hooks.sampled.bounds import MISS, above, below

__all__ = ["MISS", "Interval", "interval"]

BLOCKS = 256
"""How many blocks are drawn, of a text of any length."""

FIRST, DIVIDED_MAX = 8, 0.55
"""Every eighth block is looked at first: no more are where so many of them were cut by force."""

LONGEST_TOKEN_BYTES = 128


@dataclass(frozen=True, slots=True)
class Interval:
    """A count that was estimated, and the bounds that it is within, but for `MISS`."""

    estimate: int
    low: int
    high: int


def interval(text: str, random_bytes: Callable[[int], bytes] = os.urandom) -> Interval | None:
    """Return the estimated count of a text.

    None where it has half a surrogate, or too few places to cut it at: its interval would be wide.
    """
    try:
        data = text.encode()
    except UnicodeEncodeError:
        return None
    if not data:
        return Interval(0, 0, 0)
    at = places(len(data), BLOCKS, random_bytes)
    plain, rest = drawn(data, at[::FIRST])
    if sum(it.divided or it.divides for it in rest) * FIRST > BLOCKS * DIVIDED_MAX:
        return None
    del at[::FIRST]
    more_plain, more = drawn(data, at)
    plain += more_plain
    rest += more
    found = counted(data, plain, rest)
    if found is None:
        return None
    sizes = [end - start for start, end in plain]
    sizes += [it.end - it.start for it in rest]
    most = least = mean = [tokens / size for tokens, size in zip(found, sizes, strict=True)]
    if any(it.divided or it.divides for it in rest):
        first = mean[: len(plain)]
        both = list(zip(found[len(plain) :], sizes[len(plain) :], rest, strict=True))
        most = first + [min(tokens + it.divided, size) / size for tokens, size, it in both]
        least = first + [
            1 / LONGEST_TOKEN_BYTES if it.divided or it.divides else tokens / size
            for tokens, size, it in both
        ]
    return Interval(
        round(len(data) * math.fsum(mean) / BLOCKS),
        math.floor(len(data) * below(least)),
        math.ceil(len(data) * above(most)),
    )
