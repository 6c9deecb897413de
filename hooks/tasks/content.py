"""The trained classifier of task types: a linear model over words, pairs of words and form.

    text ─► words, pairs, marks ─► one sum a task type ─► probabilities ─► the least expected cost

Plain Python and quick: a term's weights for all task types stand beside each other in one integer,
so that one addition adds them all. The model is data (`model_file`), trained by
`python -m scripts.task_types`; the tiers and what a mistake costs are the policy's.

A mistake that routes too low costs more than any other, so not the likeliest type wins but the one
with the least expected cost: where two types are nearly as likely, that of the higher tier.
"""

from __future__ import annotations

import math
import sys
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import nlargest
from itertools import pairwise

from budgets.quick import quick
from hooks.features import words as words_of
from hooks.tasks.signals import COMMON_WORDS, looks_like_code

WEIGHT_MAX = 30_000
"""The largest weight in a file, in hundredths: with it a sum cannot leave its place."""

HUNDREDTHS = 100
LENGTH_MAX = 7
TERMS_SHOWN_MAX = 3
TERMS_SPOKEN_MAX = 600
"""How many terms of a type are kept to tell why it was chosen."""
_LENGTHS = tuple(f"#length-{count}" for count in range(LENGTH_MAX + 1))
_SILENT = COMMON_WORDS.union(_LENGTHS)
"""Terms that count and tell a person nothing."""
PLACE_BYTES = 4

MARKS = {
    "#code": "code",
    "#question": "a question mark",
    "#lines": "several lines",
    "#quote": "a quotation",
    "#json": "JSON",
}
"""The marks of form, in words for a person. `#length-N` counts doublings of the number of words."""

WORDS_HEAD, WORDS_TAIL = 100, 50


@quick
@dataclass(frozen=True, slots=True)
class Guess:
    """The task type that wins, its probability, and the terms that spoke for it most.

    `peak` is the probability of the likeliest type: where that is small the text says little.
    """

    task_type: str
    confidence: float
    terms: tuple[str, ...]
    peak: float


Pair = tuple[str, str]


def marks_of(text: str, count: int, code: bool) -> list[str]:
    """Return the marks of a text of `count` words; `code` says whether it looks like code."""
    marks = [_LENGTHS[min(LENGTH_MAX, (count + 1).bit_length() - 1)]]
    if code:
        marks.append("#code")
    quoted = '"' in text
    if text.isascii():
        # Most texts are, and whether one is costs nothing: the other signs are not looked for.
        asks = "?" in text
        quotes = quoted
    else:
        asks = "?" in text or "？" in text
        quotes = quoted or "“" in text or "„" in text or "«" in text
    if asks:
        marks.append("#question")
    if "\n" in text:
        marks.append("#lines")
    if quotes:
        marks.append("#quote")
    if quoted and (text.count('"') >= 6 or '{"' in text):
        marks.append("#json")
    return marks


def looked_at(words: Sequence[str]) -> Sequence[str]:
    """Return the words that count: what is asked stands at the beginning or the end."""
    if len(words) <= WORDS_HEAD + WORDS_TAIL:
        return words
    return [*words[:WORDS_HEAD], *words[-WORDS_TAIL:]]


def terms_of(text: str) -> set[str]:
    """Return all terms of a text, as training counts them; `ContentModel.guess` does the same."""
    words = words_of(text)
    marks = marks_of(text, len(words), looks_like_code(text))
    words = list(looked_at(words))
    return {*words, *(f"{one} {two}" for one, two in pairwise(words)), *marks}


class ContentModel:
    """A model that was loaded, with the policy's tiers and costs.

    Args:
        names: the task types, in the order of each term's weights.
        bias: a weight for each, in hundredths like all weights.
        terms: the weights of each term; a pair's two words are divided by a space.
        tiers: the rank of each task type's tier.
        under_routing_cost, caution_min: see `settings.Content`.
    """

    def __init__(
        self,
        names: Sequence[str],
        bias: Sequence[int],
        terms: Mapping[str, Sequence[int]],
        tiers: Sequence[int],
        under_routing_cost: float,
        caution_min: float = 0.0,
    ) -> None:
        self.names = tuple(names)
        self._bias = tuple(one / HUNDREDTHS for one in bias)
        self._extra = under_routing_cost - 1
        self._caution_min = caution_min
        self._tiers = tuple(tiers)
        self._above = {
            rank: [index for index, tier in enumerate(tiers) if tier > rank] for rank in set(tiers)
        }
        self._packed: dict[str | Pair, int] = {}
        spoken: dict[str | Pair, Sequence[int]] = {}
        for name, weights in terms.items():
            one, is_pair, two = name.partition(" ")
            key = (one, two) if is_pair else name
            self._packed[key] = _pack(weights)
            if name not in _SILENT:
                spoken[key] = weights
        self._spoken = tuple(_strongest(spoken, index) for index in range(len(names)))
        self._spoken_terms = tuple(frozenset(terms) for terms in self._spoken)
        self._known = frozenset(self._packed)

    def guess(
        self, text: str, words: Sequence[str] | None = None, code: bool | None = None
    ) -> Guess:
        """Return what a text is.

        `words` are its words, and `code` whether it looks like code, where that is known already.
        """
        words = words_of(text) if words is None else words
        marks = marks_of(text, len(words), looks_like_code(text) if code is None else code)
        words = looked_at(words)
        found: set[str | Pair] = set(pairwise(words))
        found.update(words)
        found.update(marks)
        # A set meets a set by the hashes that both have at hand.
        known = found & self._known
        likely = self._probabilities(known)
        best = self._cheapest(likely)
        told = self._told(known, best)
        return Guess(self.names[best], round(likely[best], 3), told, round(max(likely), 3))

    def _probabilities(self, known: set[str | Pair]) -> list[float]:
        total = sum(map(self._packed.__getitem__, known))
        sums, count = _unpack(total, len(self.names))
        # The more is known the larger a sum; its fourth root keeps long texts from being certain.
        scale = 1 / (HUNDREDTHS * max(1, count) ** 0.25)
        scores = [bias + one * scale for bias, one in zip(self._bias, sums, strict=True)]
        most = max(scores)
        parts = [math.exp(score - most) for score in scores]
        whole = math.fsum(parts)
        return [part / whole for part in parts]

    def _cheapest(self, likely: Sequence[float]) -> int:
        """Return the type whose expected cost is least: 1 for a wrong one, more if too low."""
        costs = {
            rank: self._extra * sum([likely[index] for index in above])
            for rank, above in self._above.items()
        }
        expected = [costs[tier] - p for p, tier in zip(likely, self._tiers, strict=True)]
        cheapest = expected.index(min(expected))
        cautious = likely[cheapest] >= self._caution_min
        return cheapest if cautious else likely.index(max(likely))

    def _told(self, known: set[str | Pair], best: int) -> tuple[str, ...]:
        """Return the terms that spoke most for a type, the weightiest first.

        Training writes each term's weights with a mean of zero: what speaks for every type alike
        speaks for none.
        """
        strongest = self._spoken[best]
        spoke = sorted(
            (-strongest[term], term if isinstance(term, str) else " ".join(term))
            for term in known & self._spoken_terms[best]
        )
        return tuple(term for _, term in spoke[:TERMS_SHOWN_MAX])


def _strongest(terms: Mapping[str | Pair, Sequence[int]], index: int) -> dict[str | Pair, int]:
    """Return the terms that speak most for one type, with their weights for it."""
    chosen = nlargest(TERMS_SPOKEN_MAX, terms, key=lambda it: terms[it][index])
    return {term: terms[term][index] for term in chosen if terms[term][index] > 0}


def plain_term(term: str) -> str:
    """Return a term as a person reads it: a mark in words, any other one in quotes."""
    return MARKS.get(term) or f"“{term}”"


def _pack(weights: Sequence[int]) -> int:
    """Return weights as one integer: a 1, to count terms by, and each weight in its own place.

    Weights are raised so that none is below zero.
    """
    places = array("I", [1, *(weight + WEIGHT_MAX for weight in weights)])
    if sys.byteorder == "big":
        places.byteswap()
    return int.from_bytes(places.tobytes(), "little")


def _unpack(total: int, types: int) -> tuple[list[int], int]:
    """Return the sums of the weights that were added, and how many terms those were."""
    places = array("I", total.to_bytes((types + 1) * PLACE_BYTES, "little"))
    if sys.byteorder == "big":
        places.byteswap()
    count = places[0]
    raised = count * WEIGHT_MAX
    return [place - raised for place in places[1:]], count
