"""A text as numbers: its words, and its single words and pairs of neighbours hashed into buckets.

What a linear model needs to score a text, without anything but the standard library, since it runs
in the proxy for every request. The same text gives the same buckets in every process, on every
machine and in every version of Python, and so a model that was trained elsewhere fits.

Only the beginning and the end of a text are looked at: what is asked stands there, and a request
of any length costs the same. Digits all become 0: that a number stands somewhere says something,
which number it is does not.

Hashing is what takes the time. Three things keep it short: the hash of a word is remembered; the
hashes of all words stand beside each other in one integer, so that one shift and one XOR make all
buckets at once; and in ASCII the cutting of words is one pass over bytes.
"""

from __future__ import annotations

import re
import sys
import zlib
from array import array

VERSION = 1
"""Of the words and of the buckets. What was trained with one version cannot be used with another:
count up when any text gets other buckets, and never for another reason."""

HEAD_MAX = 1_200
"""How many characters of a text's beginning are looked at."""

TAIL_MAX = 600
"""How many of its end."""

BITS_MAX = 16
"""A bucket's number has at most so many bits."""

WORDS_REMEMBERED_MAX = 1 << 15
"""How many words' hashes are kept. Then it starts anew, which costs a hundred requests some µs."""

REMEMBERED_LENGTH_MAX = 32
"""Longer words are hashed each time, so that what is kept stays below some megabytes."""


def _byte(code: int) -> int:
    letter = chr(code)
    if code >= 128:
        return code
    if letter.isdigit():
        return ord("0")
    return ord(letter.lower()) if letter.isalpha() else ord(" ")


_BYTES = bytes(_byte(code) for code in range(256))
"""What becomes of each byte of UTF-8: a lower-case letter, 0 for a digit, a space for a sign."""

_PUNCTUATION = str.maketrans(
    {
        chr(code): " "
        for block in (range(0x80, 0x180), range(0x2000, 0x2070), range(0x3000, 0x3040))
        for code in block
        if not chr(code).isalnum()
    }
)

_UNSPACED = re.compile("([\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff])")
"""Signs of languages that put no spaces between words: each counts as a word of its own."""


def words(text: str) -> list[str]:
    """Return the words of a text's beginning and end: lower case, digits as 0, no punctuation."""
    if len(text) > HEAD_MAX + TAIL_MAX:
        text = f"{text[:HEAD_MAX]}\n{text[-TAIL_MAX:]}"
    if not text.isascii():
        text = _UNSPACED.sub(r" \1 ", text.lower().translate(_PUNCTUATION))
    # Half a surrogate pair is no text, but it arrives: it must count as something.
    content = text.encode("utf-8", "surrogatepass").translate(_BYTES)
    return content.decode("utf-8", "surrogatepass").split()


def buckets(text: str, bits: int = BITS_MAX) -> list[int]:
    """Return the buckets of a text's words and pairs of words, each as often as it stands there.

    The order is word, pair, word, pair, … and the last pair is of the last word and the end. A
    bucket is from 0 to `2**bits - 1`.

    Raises:
        ValueError: `bits` is not from 1 to 16.
    """
    if not 1 <= bits <= BITS_MAX:
        raise ValueError(f"bits must be from 1 to {BITS_MAX}, not {bits}")
    found = codes(text)
    if bits == BITS_MAX:
        return found.tolist()
    mask = (1 << bits) - 1
    return [code & mask for code in found]


def codes(text: str) -> array[int]:
    """Return what `buckets` returns for 16 bits, as an array: the quickest form for scoring."""
    hashes = b"".join(map(_hash_of, words(text)))
    # Each word has two halves of 16 bits, low and high: the XOR with a shift by one half puts
    # low ^ high of one word (the word's bucket) beside high ^ low of the next one (the pair's).
    number = int.from_bytes(hashes, "little")
    number ^= number >> 16
    found = array("H", number.to_bytes(len(hashes), "little"))
    if sys.byteorder == "big":
        found.byteswap()
    return found


class _Hashes(dict[str, bytes]):
    """The hash of each word that was met, as four bytes."""

    def __missing__(self, word: str) -> bytes:
        found = _hash(word).to_bytes(4, "little")
        if len(word) <= REMEMBERED_LENGTH_MAX:
            if len(self) >= WORDS_REMEMBERED_MAX:
                self.clear()
            self[word] = found
        return found


def _hash(word: str) -> int:
    """CRC-32, stirred by the last steps of MurmurHash3, since CRC's halves are not independent."""
    number = zlib.crc32(word.encode("utf-8", "surrogatepass"))
    number ^= number >> 16
    number = number * 0x85EBCA6B & 0xFFFFFFFF
    number ^= number >> 13
    number = number * 0xC2B2AE35 & 0xFFFFFFFF
    return number ^ number >> 16


_hash_of = _Hashes().__getitem__
