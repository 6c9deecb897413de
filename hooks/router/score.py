"""The score of a request: by how much the strong tier is expected to do better than the cheap one.

The score is the predicted gain, the chance that only the strong tier is right less the chance that
only the cheap one is. It is linear in what is known of a request:

    base + offset of the task type + shape · figures of the text + Σ weights of its buckets / √count

Weights are whole numbers, so that their sum is the same everywhere and in any order. Of a long text
less is looked at than `features` would: more was measured not to route better, and this has to be
quick.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping
from operator import itemgetter, mul

from hooks.features import codes
from hooks.router.artefact import ArtefactError, Model

HEAD_MAX = 800
TAIL_MAX = 400
"""How many characters of a text's beginning and end are scored. Training cuts by `scored` too."""

SHAPES = ("length", "lines", "dollar", "equals", "power", "blank", "quote", "question")
"""The figures of `shape`, in order."""


def scored(text: str) -> str:
    """Return what is looked at of a text: its beginning and end."""
    if len(text) <= HEAD_MAX + TAIL_MAX:
        return text
    return f"{text[:HEAD_MAX]}\n{text[-TAIL_MAX:]}"


def shape(text: str, length: int) -> tuple[float, ...]:
    """Return figures that a text's words do not have: of `scored(…)`, and of the whole length."""
    return (
        math.log1p(length),
        math.log1p(text.count("\n")),
        "$" in text,
        "=" in text,
        "^" in text or "\\" in text,
        "_" in text,
        '"' in text,
        text[-1:] == "?",
    )


class Scorer:
    """The model of an artefact, unpacked for use.

    Raises:
        ArtefactError: its weights cannot be unpacked.
    """

    def __init__(self, model: Model) -> None:
        if len(model.shape) != len(SHAPES):
            raise ArtefactError(f"it has {len(model.shape)} figures of shape, not {len(SHAPES)}")
        self._weights = array("b", model.unpacked()).tolist()
        self._scale = model.scale
        self._base = model.base
        self._offsets: Mapping[str, float] = model.offsets
        self._shape = model.shape

    def knows(self, task_type: str) -> bool:
        """Say whether the task type was profiled."""
        return task_type in self._offsets

    def score(self, text: str, task_type: str) -> float:
        """Return the predicted gain; a task type that was not profiled has no offset."""
        gain = self._base + self._offsets.get(task_type, 0.0)
        seen = scored(text)
        gain += math.fsum(map(mul, self._shape, shape(seen, len(text))))
        found = codes(seen)
        if found:
            # Every text with a word has two buckets or more, and so `itemgetter` returns a tuple.
            total: int = sum(itemgetter(*found)(self._weights))
            gain += self._scale * total / math.sqrt(len(found))
        return gain
