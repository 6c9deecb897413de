"""The trained classifier of task types: a linear model over words, pairs of words and marks of form.

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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import nlargest
from itertools import pairwise

from hooks.features import words as words_of
from hooks.tasks.signals import looks_like_code

WEIGHT_MAX = 30_000
"""The largest weight in a file, in hundredths: with it a sum cannot leave its place."""

HUNDREDTHS = 100
TERMS_SHOWN_MAX = 3
_PLACE_BITS = 32

MARKS = {
    "#code": "code",
    "#question": "a question mark",
    "#lines": "several lines",
    "#quote": "a quotation",
    "#json": "JSON",
}
"""The marks of form, in words for a person. `#length-N` counts doublings of the number of words."""

LENGTH_MAX = 7


@dataclass(frozen=True, slots=True)
class Guess:
    """The task type that wins, its probability, and the terms that spoke for it most."""

    task_type: str
    confidence: float
    terms: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Term:
    """A term's weights, packed for adding and plain for looking at."""

    packed: int
    plain: tuple[int, ...]


def marks_of(text: str, count: int) -> Iterator[str]:
    """Yield the marks of a text of `count` words."""
    yield f"#length-{min(LENGTH_MAX, (count + 1).bit_length() - 1)}"
    if looks_like_code(text):
        yield "#code"
    if "?" in text or "？" in text:
        yield "#question"
    if "\n" in text:
        yield "#lines"
    if '"' in text or "“" in text or "„" in text or "«" in text:
        yield "#quote"
    if '{"' in text or text.count('"') >= 6:
        yield "#json"


def terms_of(text: str, words: Sequence[str] | None = None) -> set[str]:
    """Return all terms of a text, as training counts them. `ContentModel.guess` is the same."""
    words = words_of(text) if words is None else words
    return {*words, *(f"{one} {two}" for one, two in pairwise(words)), *marks_of(text, len(words))}


class ContentModel:
    """A model that was loaded, with the policy's tiers and costs.

    Args:
        names: the task types, in the order of each term's weights.
        bias: a weight for each, in hundredths like all weights.
        terms: the weights of each term; a pair's two words are divided by a space.
        tiers: the rank of each task type's tier.
        under_routing_cost: see `settings.Content`.
    """

    def __init__(
        self,
        names: Sequence[str],
        bias: Sequence[int],
        terms: Mapping[str, Sequence[int]],
        tiers: Sequence[int],
        under_routing_cost: float,
    ) -> None:
        self.names = tuple(names)
        self._bias = tuple(one / HUNDREDTHS for one in bias)
        self._extra = under_routing_cost - 1
        self._tiers = tuple(tiers)
        self._ranks = sorted(set(tiers))
        self._words: dict[str, Term] = {}
        self._pairs: dict[tuple[str, str], Term] = {}
        for name, weights in terms.items():
            term = Term(_pack(weights), tuple(weights))
            one, is_pair, two = name.partition(" ")
            if is_pair:
                self._pairs[one, two] = term
            else:
                self._words[name] = term

    def guess(self, text: str, words: Sequence[str] | None = None) -> Guess:
        """Return what a text is; `words` are its words, where the caller has them already."""
        words = words_of(text) if words is None else words
        known = [
            self._words[name] for name in self._words.keys() & {*words, *marks_of(text, len(words))}
        ]
        pairs = [self._pairs[pair] for pair in self._pairs.keys() & set(pairwise(words))]
        likely = self._probabilities(known + pairs)
        best = self._cheapest(likely)
        return Guess(self.names[best], round(likely[best], 3), self._told(text, words, best))

    def _probabilities(self, found: list[Term]) -> list[float]:
        sums = _unpack(sum(term.packed for term in found), len(self.names), len(found))
        # The more is known the larger a sum; its fourth root keeps long texts from being certain.
        scale = 1 / (HUNDREDTHS * max(1, len(found)) ** 0.25)
        scores = [bias + one * scale for bias, one in zip(self._bias, sums, strict=True)]
        most = max(scores)
        parts = [math.exp(score - most) for score in scores]
        whole = math.fsum(parts)
        return [part / whole for part in parts]

    def _cheapest(self, likely: Sequence[float]) -> int:
        """Return the type whose expected cost is least: 1 for a wrong one, more if too low."""
        above = dict.fromkeys(self._ranks, 0.0)
        for rank in self._ranks:
            above[rank] = sum(p for p, tier in zip(likely, self._tiers, strict=True) if tier > rank)
        return min(
            range(len(likely)),
            key=lambda it: (1 - likely[it] + self._extra * above[self._tiers[it]], it),
        )

    def _told(self, text: str, words: Sequence[str], best: int) -> tuple[str, ...]:
        """Return the terms that spoke most for a type, in the order of what they weigh."""
        weights: dict[str, int] = {}
        for name in self._words.keys() & set(words):
            weights[name] = self._words[name].plain[best]
        for pair in self._pairs.keys() & set(pairwise(words)):
            weights[" ".join(pair)] = self._pairs[pair].plain[best]
        for mark in marks_of(text, len(words)):
            if mark in MARKS and mark in self._words:
                weights[mark] = self._words[mark].plain[best]
        told = nlargest(TERMS_SHOWN_MAX, weights.items(), key=lambda it: (it[1], it[0]))
        return tuple(name for name, weight in told if weight > 0)


def plain_term(term: str) -> str:
    """Return a term as a person reads it: a mark in words, any other one in quotes."""
    return MARKS.get(term) or f"“{term}”"


def _pack(weights: Sequence[int]) -> int:
    """Return weights as one integer, each in its place and raised so that none is below zero."""
    places = array("I", [weight + WEIGHT_MAX for weight in weights])
    if sys.byteorder == "big":
        places.byteswap()
    return int.from_bytes(places.tobytes(), "little")


def _unpack(total: int, count: int, terms: int) -> list[int]:
    places = array("I", total.to_bytes(count * _PLACE_BITS // 8, "little"))
    if sys.byteorder == "big":
        places.byteswap()
    raised = terms * WEIGHT_MAX
    return [place - raised for place in places]
