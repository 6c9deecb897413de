"""The score of a request: by how much the strong tier is expected to do better than the cheap one.

The score is the predicted gain, the chance that only the strong tier is right less the chance that
only the cheap one is. It is linear in what is known of a request:

    base + offset of the task type + shape · figures of the text + Σ weights of its buckets / √count

Weights are whole numbers, so that their sum is the same everywhere and in any order.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping

from hooks.features import HEAD_MAX, TAIL_MAX, codes
from hooks.router.artefact import ArtefactError, Model

SHAPES = ("length", "lines", "dollar", "equals", "power", "blank", "quote", "question")
"""The figures of `shape`, in order."""


def shape(text: str) -> tuple[float, ...]:
    """Return figures of a text that its words do not have; of its beginning and end, if long."""
    length = math.log1p(len(text))
    if len(text) > HEAD_MAX + TAIL_MAX:
        text = text[:HEAD_MAX] + text[-TAIL_MAX:]
    return (
        length,
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
        self._weight = array("b", model.unpacked()).tolist().__getitem__
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
        for weight, figure in zip(self._shape, shape(text), strict=True):
            gain += weight * figure
        found = codes(text)
        if found:
            gain += self._scale * sum(map(self._weight, found)) / math.sqrt(len(found))
        return gain
