"""Blocks of a text: where they are cut, which are drawn, and how many tokens each has. Pure."""

from __future__ import annotations

import re
import unicodedata
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

from hooks.tokens import encoding

BLOCK_BYTES = 32
"""Short blocks hide less: what was not drawn may be as dense as it likes."""

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


def places(size: int, count: int, random_bytes: Callable[[int], bytes]) -> list[int]:
    """Return a random byte of each of `count` strata of a text."""
    shares = array("I", random_bytes(count * array("I").itemsize))
    step = size / count
    part = step / 2 ** (8 * shares.itemsize)
    return [int(number * step + share * part) for number, share in enumerate(shares)]


def drawn(data: bytes, at: Iterable[int]) -> tuple[list[tuple[int, int]], list[Block]]:
    """Return the blocks that some bytes are in: first those between two plain spaces, by their
    beginnings and ends, then the others."""
    plain: list[tuple[int, int]] = []
    rest: list[Block] = []
    find, last = data.find, len(data) - 2 * BLOCK_BYTES - 1
    for place in at:
        begin = place - place % BLOCK_BYTES
        # What `block_at` finds, for words of ASCII: this is most of what a sample costs by itself.
        if BLOCK_BYTES <= begin <= last:
            cut = find(b" ", begin, begin + BLOCK_BYTES)
            if cut >= 0 and 32 < data[cut + 1] < 127:
                other = begin + BLOCK_BYTES if place >= cut else begin - BLOCK_BYTES
                found = find(b" ", other, other + BLOCK_BYTES) if other else -1
                if found >= 0 and 32 < data[found + 1] < 127:
                    plain.append((cut, found) if found > cut else (found, cut))
                    continue
        rest.append(block_at(data, place))
    return plain, rest


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


def counted(
    data: bytes, plain: Sequence[tuple[int, int]], rest: Sequence[Block]
) -> list[int] | None:
    """Return each block's own count, first the plain ones', in one call of the tokenizer.

    The blocks follow each other in one text. A block that begins with a space before a sign begins
    a new piece there; any other is kept apart by a word that it cannot melt with. None if the
    tokenizer sees it otherwise.
    """
    parts = [data[start:end] for start, end in plain]
    edges = list(accumulate(map(len, parts), initial=0))
    at = edges[-1]
    for start, end, apart, *_ in rest:
        if apart:
            first = data[start : start + 4].decode(errors="ignore")[:1]
            # A numeral would melt with a numeral, any other sign might with a letter.
            parts.append(b" a" if unicodedata.category(first)[0] == "N" else b" 0")
            at += 2
        parts.append(data[start:end])
        edges += (at, at + end - start)
        at += end - start
    encoded = encoding().encode_ordinary(b"".join(parts).decode())
    ends = list(accumulate(map(_size_of, encoded), initial=0))
    found = [bisect_left(ends, edge) for edge in edges]
    if [ends[it] for it in found] != edges:
        return None
    split = len(plain) + 1
    counts = [after - before for before, after in pairwise(found[:split])]
    counts += [
        after - before for before, after in zip(found[split::2], found[split + 1 :: 2], strict=True)
    ]
    return counts


class _Sizes(dict[int, int]):
    """How many bytes each token has, of those that were met."""

    def __missing__(self, token: int) -> int:
        size = self[token] = len(encoding().decode_single_token_bytes(token))
        return size


_size_of = _Sizes().__getitem__
