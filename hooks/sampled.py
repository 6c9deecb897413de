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

Cuts before a space, or between a letter and a sign, change nothing: the tokenizer begins a new
piece there, whatever is before it. Where a block has neither (emoji, base64) its cuts divide what
may be one piece. The low end then takes a token for 128 bytes, the longest there is, which is
proven; the high end a token more than was found, which is not: tests look for a text in which cuts
take more than one away each.
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
from typing import NamedTuple

from hooks.tokens import encoding

BLOCK_BYTES = 32
"""Short blocks hide less: what was not drawn may be as dense as it likes."""

BLOCKS, BLOCKS_OF_LONG, LONG_BYTES = 256, 512, 100_000
"""How many blocks are drawn: of a text, and of one from so many bytes on."""

LONGEST_TOKEN_BYTES = 128

MISS = 1 / 1_000
"""How often a count may be outside of its interval; half of it on each side."""

_BETS_BELOW = ((0.65, 0.9), (0.3, 0.1))
_BETS_ABOVE = ((0.9, 0.9), (0.4, 0.1))
"""The `c` of each bound with their weights: the products of both, weighed, are one more such. The
first is near the best for plain text, the second for texts of very different parts."""

BEND_MAX, STEPS = 0.7, 6

_break = re.compile(rb" (?=[\x21-\x7e\xc3-\xe0\xe4-\xf4])").search
"""A space before a sign that is none itself: the lead bytes left out begin Unicode's own spaces."""

_sign = re.compile(
    rb"(?<=[A-Za-z0-9])[\n!-&(-/:-@[-`{-~]"
    rb"|(?<=\xe3\x81[\x81-\xbf]|\xe3\x82[\x80-\x96\xa1-\xbf]|\xe3\x83[\x80-\xba]|[\xe5-\xe9]..)"
    rb"(?:\xe3\x80[\x81\x82\x8c\x8d]|\xef\xbc[\x81\x88\x89\x8c\x9a\x9b\x9f])",
    re.DOTALL,
).search
"""A sign after a letter or a digit, ASCII or Chinese and Japanese, but for the apostrophe, which
English words end with: pieces of letters and of digits end before it."""


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
    sizes = [end - start for start, end, *_ in drawn]
    most = least = mean = [found / size for found, size in zip(tokens, sizes, strict=True)]
    if any(divided or divides for *_, divided, divides in drawn):
        both = list(zip(tokens, sizes, drawn, strict=True))
        most = [min(found + it.divided, size) / size for found, size, it in both]
        least = [
            (1 / LONGEST_TOKEN_BYTES if it.divided or it.divides else found / size)
            for found, size, it in both
        ]
    low = _least_mean(least, _BETS_BELOW)
    high = 1 - _least_mean([1 - it for it in most], _BETS_ABOVE)
    return Interval(
        round(len(data) * math.fsum(mean) / count),
        math.floor(len(data) * low),
        math.ceil(len(data) * high),
    )


class Block(NamedTuple):
    """Part of a text, in bytes.

    `apart` says that it must be kept apart from what is before it to be seen as in its text.
    `divided` is true where the cut that it begins with may divide a piece, `divides` where that
    which it ends with may.
    """

    start: int
    end: int
    apart: bool
    divided: bool
    divides: bool


_Cut = tuple[int, bool, bool]
"""A place, and whether what begins there is to be kept apart, and was cut by force."""


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
    first, last = _cut(data, begin), None
    if place < first[0]:
        first, last = _cut(data, begin - BLOCK_BYTES), first
    else:
        last = _cut(data, begin + BLOCK_BYTES)
    start, apart, forced = first
    # A space alone, cut off from its word, is no beginning that the tokenizer sees.
    return Block(start, last[0], apart or last[0] == start + 1, forced, last[2])


def _cut(data: bytes, begin: int) -> _Cut:
    """Return where the block of a place begins."""
    if begin == 0:
        return 0, True, False
    found = _break(data, begin, begin + BLOCK_BYTES + 1)
    if found is not None:
        return found.start(), False, False
    if begin >= len(data):
        return len(data), True, False
    found = _sign(data, begin, begin + BLOCK_BYTES)
    if found is not None:
        return found.start(), True, False
    while begin < len(data) and data[begin] & 0xC0 == 0x80:
        begin += 1
    return begin, True, begin < len(data)


def tokens_of(data: bytes, blocks: Sequence[Block]) -> list[int] | None:
    """Return each block's own count, in one call of the tokenizer.

    The blocks follow each other in one text. A block that begins with a space before a sign begins
    a new piece there; any other is kept apart by a word that it cannot melt with. None if the
    tokenizer sees it otherwise.
    """
    parts: list[bytes] = []
    edges: list[int] = []
    at = 0
    for start, end, apart, *_ in blocks:
        if apart:
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
        if inside < 0:
            continue
        # The smaller root, in the form that loses no digits.
        low = (middle + math.sqrt(inside)) / (2 * rest)
        if bend > BEND_MAX:
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
