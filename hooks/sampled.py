"""How many tokens a long text has, from a few hundred short blocks of it: an estimate, an interval.

    text ─► blocks of some 32 bytes, cut before a space ─► one a stratum, at a secret random place
         ─► their tokens a byte ─► mean, and two bounds that hold for any text

What is proven, and of what. The places are drawn anew for every text, by the system's own source
of randomness, so nobody who writes a text can know them. A block is drawn as likely as it is long,
so that the mean of the drawn blocks' tokens a byte is, on average, that of all blocks. A token has
a byte at the least, so each of these figures lies between 0 and 1, whatever the text is. For such
figures the product of `1 - c + c * figure / mean` has at most 1 as its average if they are at least
`mean` on average (that of strata with different means is below it, by the inequality of the means),
and so it reaches `1 / miss` with a chance of at most `miss` (Markov). Each mean at which it does is
ruled out. The same with 1 less the figure gives the other bound. So no text, however it was made,
is outside of its interval more often than `MISS`: half English and half base64, or with a dense
block hidden in it. The bound is Hoeffding's in spirit; products are due to Waudby-Smith and Ramdas,
"Estimating means of bounded random variables by betting" (2024).

What is not proven: that a cut in the midst of a word, where there is no space for a whole block,
adds a token at most and takes none away. Tests look for texts in which it does. Cuts before a
space change nothing: with such a space the tokenizer begins a new piece, whatever is before it.
"""

from __future__ import annotations

import math
import os
import re
import unicodedata
from array import array
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import mul

from hooks.tokens import encoding

BLOCK_BYTES = 32
"""Short blocks hide less: what was not drawn may be as dense as it likes."""

BLOCKS, BLOCKS_OF_LONG, LONG_BYTES = 256, 512, 100_000
"""How many blocks are drawn: of a text, and of one from so many bytes on."""

MISS = 1 / 1_000
"""How often a count may be outside of its interval; half of it on each side."""

_BETS_BELOW = ((0.65, 0.9), (0.3, 0.1))
_BETS_ABOVE = ((0.9, 0.9), (0.4, 0.1))
"""The `c` of each bound with their weights: the products of both, weighed, are one more such. The
first is near the best for plain text, the second for texts of very different parts."""

_break = re.compile(rb" (?=[\x21-\x7e\xc3-\xe0\xe4-\xf4])").search
"""A space before a sign that is none itself: the lead bytes left out begin Unicode's own spaces."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A count that was estimated, and the bounds that it is within, but for `MISS`."""

    estimate: int
    low: int
    high: int


def interval(text: str, random_bytes: Callable[[int], bytes] = os.urandom) -> Interval | None:
    """Return the estimated count of a text; None where it cannot be sampled (half a surrogate)."""
    try:
        data = text.encode()
    except UnicodeEncodeError:
        return None
    if not data:
        return Interval(0, 0, 0)
    count = BLOCKS if len(data) < LONG_BYTES else BLOCKS_OF_LONG
    drawn = draw(data, count, random_bytes)
    tokens = tokens_of(data, drawn)
    if tokens is None:
        return None
    pairs = list(zip(tokens, drawn, strict=True))
    most = [found / (end - start) for found, (start, end, _) in pairs]
    least = most
    if any(forced for _, _, forced in drawn):
        # Where a block begins amidst a word, the cut may have made a token more.
        least = [
            (found - (forced and start > 0)) / (end - start)
            for found, (start, end, forced) in pairs
        ]
    low = _least_mean(least, _BETS_BELOW)
    high = 1 - _least_mean([1 - it for it in most], _BETS_ABOVE)
    mean = (math.fsum(most) + math.fsum(least)) / 2 / count
    return Interval(
        round(len(data) * mean), math.floor(len(data) * low), math.ceil(len(data) * high)
    )


Block = tuple[int, int, bool]
"""Where a block begins and ends, in bytes, and whether it had to begin without a space."""


def draw(data: bytes, count: int, random_bytes: Callable[[int], bytes] = os.urandom) -> list[Block]:
    """Return the blocks at a random byte of each of `count` strata."""
    shares = array("I", random_bytes(count * array("I").itemsize))
    step = len(data) / count
    part = step / 2 ** (8 * shares.itemsize)
    return [
        block_at(data, int(number * step + share * part)) for number, share in enumerate(shares)
    ]


def block_at(data: bytes, place: int) -> Block:
    """Return the block that a byte is in. The blocks of a text are the same at every call."""
    begin = place - place % BLOCK_BYTES
    found = _break(data, begin, begin + BLOCK_BYTES + 1) if begin else None
    cut = found.start() if found is not None else _forced(data, begin)
    if place < cut:
        before = begin - BLOCK_BYTES
        first = _break(data, before, begin + 1) if before else None
        if first is not None:
            return first.start(), cut, False
        return _forced(data, before), cut, True
    after = begin + BLOCK_BYTES
    last = _break(data, after, after + BLOCK_BYTES + 1)
    end = last.start() if last is not None else _forced(data, after)
    return cut, end, found is None


def _forced(data: bytes, place: int) -> int:
    """Return where to cut where there is no space: not within a sign."""
    size = len(data)
    while place < size and data[place] & 0xC0 == 0x80:
        place += 1
    return min(place, size)


def tokens_of(data: bytes, blocks: Sequence[Block]) -> list[int] | None:
    """Return each block's own count, in one call of the tokenizer.

    The blocks follow each other in one text. A block that begins with a space before a sign begins
    a new piece there; any other is kept apart by a word that it cannot melt with. None if the
    tokenizer sees it otherwise.
    """
    parts: list[bytes] = []
    edges: list[int] = []
    at = 0
    for start, end, forced in blocks:
        if forced:
            first = data[start : start + 4].decode(errors="ignore")[:1]
            # A numeral would melt with a numeral, any other sign might with a letter.
            parts.append(b" a" if unicodedata.category(first)[0] == "N" else b" 0")
            at += 2
        parts.append(data[start:end])
        edges.append(at)
        at += end - start
        edges.append(at)
    encoded = encoding().encode_ordinary(b"".join(parts).decode())
    ends = list(accumulate(map(_size_of, encoded), initial=0))
    places = [bisect_left(ends, edge) for edge in edges]
    if [ends[place] for place in places] != edges:
        return None
    return [end - start for start, end in zip(places[::2], places[1::2], strict=True)]


class _Sizes(dict[int, int]):
    """How many bytes each token has, of those that were met."""

    def __missing__(self, token: int) -> int:
        size = self[token] = len(encoding().decode_single_token_bytes(token))
        return size


_size_of = _Sizes().__getitem__


def _least_mean(figures: Sequence[float], bets: Sequence[tuple[float, float]]) -> float:
    """Return what the mean of figures from 0 up is not below, but for a chance of half of `MISS`.

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
        if inside >= 0:
            # The smaller root, in the form that loses no digits.
            found = max(found, (middle + math.sqrt(inside)) / (2 * rest))
    return found
