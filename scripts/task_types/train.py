"""Training: multinomial logistic regression over the terms of labelled prompts, in NumPy.

Adam with a fixed number of steps from zero, and so the same prompts give the same file. What is
trained is sharpened by `SHARPNESS` before it is written: weights that are held back as much as is
good for choosing the likeliest type make probabilities that are too even to reckon costs with. This
and the other constants were chosen by cross-validation within the training half.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hooks import features
from hooks.tasks.content import HUNDREDTHS, WEIGHT_MAX, terms_of
from scripts.task_types.labelled import Labelled

STEPS = 80
STEP = 0.2
SHRINK = 3e-5
SHARPNESS = 3.0
LEAST_WEIGHT = 60
"""Terms whose weights are all smaller, in hundredths, are left out: they only take time."""

Matrix = NDArray[np.float32]


def train(prompts: Sequence[Labelled], names: Sequence[str]) -> dict[str, Any]:
    """Return the content of a model's file for these task types."""
    texts = [terms_of(it.prompt) for it in prompts]
    vocabulary = {term: place for place, term in enumerate(sorted(set().union(*texts)))}
    given = np.zeros((len(prompts), len(vocabulary)), dtype=np.float32)
    for row, terms in enumerate(texts):
        given[row, [vocabulary[term] for term in terms]] = 1 / len(terms) ** 0.25
    wanted = np.array([list(names).index(it.task_type) for it in prompts])
    weights, bias = _fit(given, np.eye(len(names), dtype=np.float32)[wanted])
    # A term's mean over the types changes no probability, and would hide what it speaks for.
    hundredths = _hundredths(weights - weights.mean(axis=1, keepdims=True))
    return {
        "farebox_task_model": 1,
        "features": features.VERSION,
        "trained_on": {"prompts": len(prompts), "sha256": _digest(prompts)},
        "task_types": list(names),
        "bias": _hundredths(bias).tolist(),
        "terms": {
            term: row.tolist()
            for (term, _), row in zip(vocabulary.items(), hundredths, strict=True)
            if np.abs(row).max() >= LEAST_WEIGHT
        },
    }


def _fit(given: Matrix, wanted: Matrix) -> tuple[Matrix, Matrix]:
    """Return weights and bias after the steps; every step sees every prompt."""
    count, width = given.shape
    given = np.hstack([given, np.ones((count, 1), dtype=np.float32)])
    weights = np.zeros((width + 1, wanted.shape[1]), dtype=np.float32)
    mean, square = np.zeros_like(weights), np.zeros_like(weights)
    for step in range(1, STEPS + 1):
        scores = given @ weights
        likely = np.exp(scores - scores.max(axis=1, keepdims=True))
        likely /= likely.sum(axis=1, keepdims=True)
        slope = given.T @ (likely - wanted) / count
        slope[:-1] += SHRINK * weights[:-1]
        mean = 0.9 * mean + 0.1 * slope
        square = 0.999 * square + 0.001 * slope * slope
        weights -= STEP * (mean / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
    return weights[:-1], weights[-1]


def _hundredths(weights: Matrix) -> NDArray[np.int64]:
    whole = np.rint(weights * SHARPNESS * HUNDREDTHS).astype(np.int64)
    clipped: NDArray[np.int64] = np.clip(whole, -WEIGHT_MAX, WEIGHT_MAX)
    return clipped


def _digest(prompts: Sequence[Labelled]) -> str:
    lines = "\n".join(sorted(f"{it.task_type}\t{it.prompt}" for it in prompts))
    return hashlib.sha256(lines.encode()).hexdigest()
