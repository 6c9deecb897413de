"""The guarantee: for which thresholds routed quality is at least a share of the strong tier's.

A threshold sends prompts whose score is at most it to the cheap tier. With `r` and `s` for whether
the routed and the strong answer to a prompt are right, the promise at a floor `f` is that
`z = r - f·s` is not negative in the mean. `z` lies in [-f, 1].

**The test** bets against the opposite (Waudby-Smith and Ramdas, 2024, "Estimating means of bounded
random variables by betting"). Whoever stakes the share λ in [0, 1/f) of a capital of 1 on each `z`
holds `Π (1 + λ z)`. If the mean of `z` is not positive, this is a supermartingale, and so it ever
reaches 1/α with probability at most α (Ville's inequality): once it does, the promise holds with
confidence 1 - α. The capital is spread evenly over three stakes, each the best one
(`√(2 log(1/α) / (n·variance))`, their equation 26) for one variance that `z` may have, and the
prompts come in an order that was drawn beforehand. Of what was tried, this finds most
(`benchmarks/router.md`).

**A margin.** What is tested is stricter than what is promised: α is multiplied with `MARGIN`. With
labels that were trained on, the scores are not independent of each other, which no theorem covers,
and the margin is for that.

**Several thresholds** are tested in a fixed sequence, from few cheap requests to many, each at the
full α, and the first that fails ends it: so the chance that any false promise is made stays α
(fixed-sequence testing, as in "Learn then test", Angelopoulos and others, 2021).

**A task type by itself** is tested once more before that, at a fifth of α: whether all of it may go
to the cheap tier. Within a type scores often differ by little more than chance, and a sequence that
begins with the lowest few would end there. The sequence then has the other four fifths.

What is proven thereby, and for what, says `docs/explanation/the-guarantee.md`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scripts.router.training import Floats

VARIANCES = (0.02, 0.05, 0.12)
"""The variances of `z` that the stakes are made for: few, some, and many cheap requests."""

STAKE_MOST = 0.97
"""The largest stake, as a share of 1/floor: at 1/floor a single loss would take all."""

GRID = tuple(round(0.025 * step, 3) for step in range(1, 41))
"""The thresholds that are tried: these quantiles of the scores, the last one sends all."""


@dataclass(frozen=True, slots=True)
class Found:
    """The largest threshold that may be promised, None for none, and what it means here."""

    threshold: float | None
    cheap_share: float
    quality: float
    tested: int


def stakes(count: int, floor: float, alpha: float) -> Floats:
    """Return the stakes for so many prompts, fixed before any of them is looked at."""
    best = np.sqrt(2 * np.log(1 / alpha) / (count * np.array(VARIANCES)))
    return np.asarray(np.minimum(STAKE_MOST / floor, best), dtype=np.float64)


def holds(routed: Floats, strong: Floats, floor: float, alpha: float) -> bool:
    """Say whether the capital of betting on routed - floor·strong ever reaches 1/alpha.

    Both hold 0 or 1 for each prompt, in the order of betting.
    """
    if len(routed) == 0:
        return False
    gains = routed - floor * strong
    # Four values are possible, so that a table has all logarithms.
    values, place = np.unique(gains, return_inverse=True)
    growth = np.log1p(np.outer(stakes(len(gains), floor, alpha), values))
    capital = np.cumsum(growth[:, place], axis=1)
    top = capital.max(axis=0)
    mixed = top + np.log(np.exp(capital - top).mean(axis=0))
    return bool(mixed.max() >= -np.log(alpha))


MARGIN = 0.6
"""The part of the stated error rate that is used."""

ALL = 10.0
"""A threshold that no gain is above: it lies between -1 and 1."""

ALL_SHARE = 0.2
"""The part of the error rate that goes to the question whether all may go to the cheap tier."""


def calibrate_type(
    scores: Floats,
    cheap: Floats,
    strong: Floats,
    thresholds: Sequence[float],
    floor: float,
    confidence: float,
) -> Found:
    """Return what may be promised for one task type: all of it, or what `calibrate` finds."""
    alpha = 1 - confidence
    order = np.random.default_rng(0).permutation(len(scores))
    if holds(cheap[order], strong[order], floor, MARGIN * ALL_SHARE * alpha):
        quality = float(cheap.mean() / strong.mean()) if strong.any() else 1.0
        return Found(ALL, 1.0, quality, 1)
    return calibrate(scores, cheap, strong, thresholds, floor, 1 - (1 - ALL_SHARE) * alpha)


def calibrate(
    scores: Floats,
    cheap: Floats,
    strong: Floats,
    thresholds: Sequence[float],
    floor: float,
    confidence: float,
    seed: int = 0,
) -> Found:
    """Return the largest of the rising thresholds that fixed-sequence testing lets through."""
    order = np.random.default_rng(seed).permutation(len(scores))
    scores, cheap, strong = scores[order], cheap[order], strong[order]
    passed: float | None = None
    tested = 0
    for threshold in thresholds:
        tested += 1
        routed = np.where(scores <= threshold, cheap, strong)
        if not holds(routed, strong, floor, MARGIN * (1 - confidence)):
            break
        passed = float(threshold)
    if passed is None:
        return Found(None, 0.0, 1.0, tested)
    chosen = scores <= passed
    right = float(strong.mean())
    quality = float(np.where(chosen, cheap, strong).mean()) / right if right else 1.0
    return Found(passed, float(chosen.mean()), quality, tested)


def thresholds_of(scores: Floats) -> tuple[float, ...]:
    """Return the thresholds to try: quantiles of scores, without repetitions."""
    if len(scores) == 0:
        return ()
    return tuple(float(it) for it in np.unique(np.quantile(scores, GRID, method="higher")))
