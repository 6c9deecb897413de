"""Training: a linear model of the gain from a few hundred labels, in numpy.

The gain of a prompt is 1 where only the strong tier was right, -1 where only the cheap one was, and
else 0. It is modelled as

    base + offset of the task type + shape of the text + Σ weights of its words and pairs / √count

with independent normal priors on all of these (ridge regression), so that a task type with three
labels keeps close to what its words say, and one with three hundred goes by its own mean. The
priors' widths are fixed: they were chosen once (see `benchmarks/router.md`), within wide bounds
they do not matter, and so no label is spent on choosing them.

The equations are solved in the space of the prompts by conjugate gradients: `n` unknowns instead of
65,536, and no matrix but the buckets themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from hooks import features
from hooks.router.artefact import BUCKETS, Model, pack
from hooks.router.score import SHAPES, scored, shape

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Target = Literal["gain", "weak_fails"]

NOISE = 200.0
"""The noise's variance over the prior variance of a text's weights: how much text is distrusted."""

TASK_WIDTH = 4.0
"""The prior variance of a task type's offset, in the same unit: 1 / 50 of the noise's."""

SHAPE_WIDTH = 0.05
"""The prior variance of the weight of a figure of shape, over its spread."""

BASE_WIDTH = 100.0
"""The prior variance of the base: so wide that it is all but free."""

STEPS_MAX = 100
ACCURACY = 1e-8

FOLDS = 10
LEFT_OUT_SINGLY_MAX = 1_000
"""Up to so many labels, cross-fitting leaves out one at a time, which has a closed form; of more it
leaves out a tenth at a time."""


@dataclass(frozen=True)
class Texts:
    """Prompts as numbers: buckets one after the other with the prompt of each, shapes, lengths."""

    bucket: Ints
    row: Ints
    value: Floats
    shapes: Floats

    @property
    def count(self) -> int:
        """How many prompts there are."""
        return len(self.shapes)

    def take(self, rows: Ints) -> Texts:
        """Return those prompts, in that order."""
        place = np.full(self.count, -1, dtype=np.int64)
        place[rows] = np.arange(len(rows))
        kept = place[self.row] >= 0
        return Texts(self.bucket[kept], place[self.row[kept]], self.value[kept], self.shapes[rows])

    def dot(self, weights: Floats) -> Floats:
        """Return each prompt's sum of weights."""
        return _sums(self.row, self.value * weights[self.bucket], self.count)

    def spread(self, values: Floats) -> Floats:
        """Return what each bucket gets of its prompts' values: the transpose of `dot`."""
        return _sums(self.bucket, self.value * values[self.row], BUCKETS)


def _sums(places: Ints, values: Floats, count: int) -> Floats:
    """Return the sum of the values at each place."""
    sums = np.bincount(places, weights=values, minlength=count)
    return np.asarray(sums, dtype=np.float64)


def read_texts(texts: Sequence[str]) -> Texts:
    """Return prompts as numbers, by the same functions that score them in the proxy."""
    buckets: list[Ints] = []
    rows: list[Ints] = []
    values: list[Floats] = []
    for index, text in enumerate(texts):
        codes = np.array(features.codes(scored(text)), dtype=np.int64)
        found, counts = np.unique(codes, return_counts=True)
        buckets.append(found)
        rows.append(np.full(len(found), index, dtype=np.int64))
        values.append(counts / np.sqrt(max(1, len(codes))))
    none = np.zeros(0, dtype=np.int64)
    return Texts(
        np.concatenate([none, *buckets]),
        np.concatenate([none, *rows]),
        np.concatenate([np.zeros(0), *values]),
        np.array([shape(scored(text), len(text)) for text in texts], dtype=np.float64).reshape(
            -1, len(SHAPES)
        ),
    )


@dataclass(frozen=True)
class Fitted:
    """A model as floats. `offsets` has one for each task type's number."""

    base: float
    offsets: Floats
    shape: Floats
    weights: Floats

    def scores(self, texts: Texts, tasks: Ints) -> Floats:
        """Return the predicted gains; task type -1 has no offset."""
        offsets = np.append(self.offsets, 0.0)[tasks]
        scores: Floats = self.base + offsets + texts.shapes @ self.shape + texts.dot(self.weights)
        return scores

    def packed(self, names: Sequence[str]) -> Model:
        """Return the model as it stands in an artefact, its weights rounded to signed bytes."""
        most = float(np.abs(self.weights).max(initial=0.0))
        scale = most / 127 if most else 1.0
        rounded = np.rint(self.weights / scale).astype(np.int8)
        return Model(
            features=features.VERSION,
            base=self.base,
            offsets={name: float(it) for name, it in zip(names, self.offsets, strict=True)},
            shape=tuple(float(it) for it in self.shape),
            scale=scale,
            weights=pack(rounded.tobytes()),
        )


def target_of(cheap: Floats, strong: Floats, target: Target = "gain") -> Floats:
    """Return what is trained on. Training on `gain` is measurably better than on `weak_fails`."""
    return strong - cheap if target == "gain" else 1.0 - cheap


def fit(texts: Texts, tasks: Ints, task_count: int, wanted: Floats) -> Fitted:
    """Fit the model; `tasks` are numbers below `task_count`, `wanted` the target of each prompt."""
    prior = _Prior.of(texts, tasks, task_count)
    solved = np.zeros(len(wanted))
    residual, step = wanted.copy(), wanted.copy()
    size = start = float(residual @ residual)
    for _ in range(STEPS_MAX):
        if size <= ACCURACY * start or start == 0:
            break
        image = prior.covariance(step) + NOISE * step
        length = size / float(step @ image)
        solved += length * step
        residual -= length * image
        size, before = float(residual @ residual), size
        step = residual + (size / before) * step
    slopes = SHAPE_WIDTH * (prior.shapes.T @ solved) / prior.width
    return Fitted(
        base=BASE_WIDTH * float(solved.sum()) - float(prior.centre @ slopes),
        offsets=TASK_WIDTH * _sums(tasks, solved, task_count),
        shape=slopes,
        weights=texts.spread(solved),
    )


@dataclass(frozen=True)
class _Prior:
    """What is known of the prompts before any label: how alike their gains are."""

    texts: Texts
    tasks: Ints
    task_count: int
    shapes: Floats
    centre: Floats
    width: Floats

    @classmethod
    def of(cls, texts: Texts, tasks: Ints, task_count: int) -> _Prior:
        centre = texts.shapes.mean(axis=0) if texts.count else np.zeros(len(SHAPES))
        width = texts.shapes.std(axis=0) if texts.count else np.ones(len(SHAPES))
        width[width == 0] = np.inf  # A figure that never varies says nothing.
        return cls(texts, tasks, task_count, (texts.shapes - centre) / width, centre, width)

    def covariance(self, values: Floats) -> Floats:
        """Return the product of the covariance of the gains with `values`."""
        by_task = _sums(self.tasks, values, self.task_count)
        return np.asarray(
            BASE_WIDTH * values.sum()
            + self.texts.dot(self.texts.spread(values))
            + TASK_WIDTH * by_task[self.tasks]
            + SHAPE_WIDTH * (self.shapes @ (self.shapes.T @ values)),
            dtype=np.float64,
        )


def cross_scores(
    texts: Texts, tasks: Ints, task_count: int, wanted: Floats, *, ranked: bool = False
) -> Floats:
    """Return for each prompt the score of a model that was trained without its label.

    Each is fair by itself. But a label that is left out moves the mean of the others away from
    itself, and so prompts that are otherwise alike come out ranked by their own labels, the wrong
    way round. Where scores are to be `ranked` among each other, a tenth of the labels is left out
    at a time, which hides that.
    """
    if texts.count <= LEFT_OUT_SINGLY_MAX and not ranked:
        return _left_out_singly(texts, tasks, task_count, wanted)
    scores = np.zeros(texts.count)
    folds = np.random.default_rng(0).permutation(np.arange(texts.count) % FOLDS)
    for fold in range(FOLDS):
        inside, outside = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        model = fit(texts.take(inside), tasks[inside], task_count, wanted[inside])
        scores[outside] = model.scores(texts.take(outside), tasks[outside])
    return scores


def _products(texts: Texts) -> Floats:
    """Return the products of all prompts' buckets with each other's."""
    products = np.zeros((texts.count, texts.count))
    starts = np.searchsorted(texts.row, np.arange(texts.count + 1))
    for index in range(texts.count):
        weights = np.zeros(BUCKETS)
        own = slice(starts[index], starts[index + 1])
        weights[texts.bucket[own]] = texts.value[own]
        products[index] = texts.dot(weights)
    return products


def _left_out_singly(texts: Texts, tasks: Ints, task_count: int, wanted: Floats) -> Floats:
    """Return `cross_scores` with one prompt left out at a time.

    With `A` the inverse of covariance and noise together, the prediction without label `i` misses
    it by `(A y)_i / A_ii` (Rasmussen and Williams, "Gaussian Processes", equation 5.12).
    """
    shapes = _Prior.of(texts, tasks, task_count).shapes
    matrix = _products(texts) + BASE_WIDTH + TASK_WIDTH * (tasks[:, None] == tasks[None, :])
    matrix += SHAPE_WIDTH * (shapes @ shapes.T) + NOISE * np.eye(texts.count)
    inverse = np.linalg.inv(matrix)
    return np.asarray(wanted - inverse @ wanted / np.diag(inverse), dtype=np.float64)
