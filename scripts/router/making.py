"""Making artefacts: train one from labels, and calibrate it on the same labels or on others."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from hooks.router.artefact import (
    Artefact,
    Baseline,
    Calibration,
    Distribution,
    Model,
    Promise,
)
from hooks.router.score import Scorer
from scripts.router.guarantee import calibrate, calibrate_type, thresholds_of
from scripts.router.labels import LabelError, Labels
from scripts.router.training import (
    Floats,
    Ints,
    Target,
    cross_scores,
    fit,
    target_of,
)

BINS = 10
DIGEST_BYTES = 4
LABELS_LEAST = 20
OWN_LABELS = 500
"""A task type with as many labels gets a promise of its own; the others share one."""


@dataclass(frozen=True)
class Calibrated:
    """The promises, and how many of the given labels were left out: those of the training."""

    artefact: Artefact
    dropped: int


def train(labels: Labels, made: datetime, target: Target = "gain") -> Artefact:
    """Return an artefact without promises.

    Raises:
        LabelError: there are too few labels, or both tiers passed or failed alike on all of them.
    """
    if labels.count < LABELS_LEAST:
        raise LabelError(
            f"{labels.count} labels are too few to learn from: profile at least {LABELS_LEAST} "
            "prompts on both tiers, better 200 to 500"
        )
    wanted = target_of(labels.cheap, labels.strong, target)
    model = fit(labels.texts, labels.tasks, len(labels.names), wanted)
    scores = model.scores(labels.texts, labels.tasks)
    first, second = labels.sides
    return Artefact(
        farebox_router=1,
        name=labels.source.name,
        made=made.isoformat(timespec="seconds"),
        target=target,
        cheap=first,
        strong=second,
        source=labels.source.model_copy(update={"prompts": _prefixes(labels.digests)}),
        model=model.packed(labels.names),
        thresholds=thresholds_of(scores),
        distribution=distribution(labels, scores),
    )


def crossed_scores(labels: Labels, target: Target, *, ranked: bool = False) -> Floats:
    """Return each label's score by a model that was trained without it; see `cross_scores`."""
    wanted = target_of(labels.cheap, labels.strong, target)
    return cross_scores(labels.texts, labels.tasks, len(labels.names), wanted, ranked=ranked)


def model_scores(model: Model, labels: Labels) -> Floats:
    """Return the labels' scores by an artefact's model, as the proxy would find them."""
    scorer = Scorer(model)
    names = [labels.names[task] for task in labels.tasks]
    return np.array(
        [scorer.score(text, name) for text, name in zip(labels.prompts, names, strict=True)]
    )


def fair_scores(
    artefact: Artefact, labels: Labels, *, ranked: bool = False
) -> tuple[Floats, Labels, str]:
    """Return scores that no label had a part in, the labels that they are of, and how.

    Labels that the artefact was trained on are scored by cross-fitting where they are the training
    set itself, and left out of other sets.

    Raises:
        LabelError: no label is left.
    """
    if labels.source.sha256 == artefact.source.sha256 and labels.count == artefact.source.labels:
        return crossed_scores(labels, artefact.target, ranked=ranked), labels, "cross"
    known = _known(artefact)
    fresh = np.array(
        [i for i, digest in enumerate(labels.digests) if _prefix(digest) not in known],
        dtype=np.int64,
    )
    if len(fresh) == 0:
        raise LabelError(
            "every prompt of this profile was trained on, and the profile has changed since: train "
            "anew, or give a profile with other prompts"
        )
    kept = take(labels, fresh)
    return model_scores(artefact.model, kept), kept, "split"


def calibrated(
    artefact: Artefact,
    labels: Labels,
    made: datetime,
    floor: float = 0.95,
    confidence: float = 0.95,
    own_labels: int = OWN_LABELS,
) -> Calibrated:
    """Return the artefact with promises, from labels that are its training set or others.

    Each task type with `own_labels` has its own promise, each with the full confidence; the rest
    share one. Which is which follows from counts alone, before any answer is looked at.
    """
    if _side_names(artefact) != tuple(side.group for side in labels.sides):
        raise LabelError(
            f"the artefact decides between {' and '.join(_side_names(artefact))}, the profile is "
            f"about {' and '.join(side.group for side in labels.sides)}"
        )
    scores, kept, method = fair_scores(artefact, labels)
    counts = np.bincount(kept.tasks, minlength=len(kept.names))
    alone = [task for task, count in enumerate(counts) if count >= own_labels]
    rest = [task for task, count in enumerate(counts) if 0 < count < own_labels]
    groups = [[task] for task in alone] + ([rest] if rest else [])
    thresholds = artefact.thresholds
    promises = tuple(
        _promise(kept, scores, tasks, thresholds, floor, confidence) for tasks in groups
    )
    calibration = Calibration(
        made=made.isoformat(timespec="seconds"),
        floor=floor,
        confidence=confidence,
        method="cross" if method == "cross" else "split",
        labels=kept.count,
        promises=promises,
    )
    done = artefact.model_copy(update={"calibration": calibration})
    return Calibrated(done, labels.count - kept.count)


def _promise(
    labels: Labels,
    scores: Floats,
    tasks: Sequence[int],
    thresholds: Sequence[float],
    floor: float,
    confidence: float,
) -> Promise:
    rows = np.flatnonzero(np.isin(labels.tasks, tasks))
    find = calibrate_type if len(tasks) == 1 else calibrate
    found = find(
        scores[rows], labels.cheap[rows], labels.strong[rows], thresholds, floor, confidence
    )
    if found.cheap_share == 0:
        # A threshold below all scores promises nothing to anybody.
        found = replace(found, threshold=None)
    return Promise(
        task_types=tuple(labels.names[task] for task in tasks),
        threshold=found.threshold,
        labels=len(rows),
        cheap_share=found.cheap_share,
        quality=found.quality,
        why="" if found.threshold is not None else _why(labels, rows, floor, confidence),
    )


def _why(labels: Labels, rows: Ints, floor: float, confidence: float) -> str:
    """Return why nothing can be promised, in words."""
    strong, cheap = labels.strong[rows].mean(), labels.cheap[rows].mean()
    return (
        f"{len(rows):,} labels do not show with {confidence:.0%} confidence that sending even "
        f"the few easiest requests to the cheaper tier keeps {floor:.0%} of the strong tier's "
        f"pass rate (strong {strong:.1%}, cheap {cheap:.1%})"
    )


def distribution(labels: Labels, scores: Floats) -> Distribution:
    """Return how scores and lengths are distributed, for the drift tests.

    Of the final model's own scores: those of cross-fitting are spread otherwise, which would be
    taken for a drift (`benchmarks/router.md`), while a label's part in its own score is too small.
    """
    steps = np.arange(1, BINS) / BINS
    score_bounds = np.unique(np.quantile(scores, steps))
    length_bounds = np.unique(np.quantile(labels.lengths, steps).astype(np.int64))
    task_types = {}
    for task, name in enumerate(labels.names):
        rows = np.flatnonzero(labels.tasks == task)
        own = scores[rows]
        task_types[name] = Baseline(
            scores=_histogram(own, score_bounds),
            lengths=_histogram(labels.lengths[rows].astype(np.float64), length_bounds),
            mean=float(own.mean()),
            variance=float(own.var()),
        )
    return Distribution(
        score_bounds=tuple(float(it) for it in score_bounds),
        length_bounds=tuple(int(it) for it in length_bounds),
        task_types=task_types,
    )


def _histogram(values: Floats, bounds: Sequence[float] | Floats | Ints) -> tuple[int, ...]:
    # As `bisect_left` counts in the proxy: a value that is a bound belongs to the bin below it.
    places = np.searchsorted(np.asarray(bounds, dtype=np.float64), values, side="left")
    return tuple(int(it) for it in np.bincount(places, minlength=len(bounds) + 1))


def take(labels: Labels, rows: Ints) -> Labels:
    """Return those labels; the task types keep their numbers."""
    return replace(
        labels,
        source=labels.source.model_copy(update={"labels": len(rows)}),
        tasks=labels.tasks[rows],
        texts=labels.texts.take(rows),
        prompts=tuple(labels.prompts[i] for i in rows),
        cheap=labels.cheap[rows],
        strong=labels.strong[rows],
        lengths=labels.lengths[rows],
        digests=tuple(labels.digests[i] for i in rows),
    )


def _side_names(artefact: Artefact) -> tuple[str, ...]:
    return artefact.cheap.group, artefact.strong.group


def _prefix(digest: str) -> bytes:
    return bytes.fromhex(digest)[:DIGEST_BYTES]


def _prefixes(digests: Sequence[str]) -> str:
    return base64.b64encode(b"".join(sorted(map(_prefix, digests)))).decode()


def _known(artefact: Artefact) -> frozenset[bytes]:
    packed = base64.b64decode(artefact.source.prompts)
    return frozenset(
        packed[place : place + DIGEST_BYTES] for place in range(0, len(packed), DIGEST_BYTES)
    )
