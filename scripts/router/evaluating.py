"""Evaluation: RouteLLM's metrics, cost at equal quality, calibration error. In numpy.

The metrics are those of RouteLLM's `routellm/evals/evaluate.py`, so that figures compare. A router
is asked at eleven thresholds, the deciles of its own scores: a prompt goes to the strong model
where its score is at least the threshold, and at the last one where it is above. With the share of
strong calls `c` and the quality `q` at each of them:

- APGR: (∫q dc - weak) / (strong - weak), by the trapezoid rule over those points;
- CPT(x): the least share of strong calls for weak + x·(strong - weak), by `numpy.interp`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scripts.router.training import Floats

POINTS = 10
RANDOM_RUNS = 20


@dataclass(frozen=True, slots=True)
class Curve:
    """Quality by share of strong calls, rising in the share; both from 0 to 1."""

    shares: tuple[float, ...]
    quality: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Figures:
    """How good a router is. CPTs are shares of strong calls; `cost` is a share of all-strong's.

    `cost` is what 95 % of the strong tier's quality costs with it, None where no price is known;
    `error` the calibration error of a predicted gain, None for a score that predicts none.
    """

    name: str
    apgr: float
    cpt50: float
    cpt80: float
    cost: float | None
    error: float | None
    curve: Curve


def curve_of(scores: Floats, cheap: Floats, strong: Floats) -> Curve:
    """Return quality at RouteLLM's thresholds; `scores` are high where the strong model is needed.

    Scores that are equal for many prompts make fewer thresholds.
    """
    edges = np.unique(np.quantile(scores, np.linspace(0, 1, POINTS + 1)))
    points: list[tuple[float, float]] = []
    for place, edge in enumerate(edges):
        last = place == len(edges) - 1
        chosen = scores > edge if last else scores >= edge
        points.append((float(chosen.mean()), float(np.where(chosen, strong, cheap).mean())))
    points.sort()
    return Curve(tuple(p[0] for p in points), tuple(p[1] for p in points))


def apgr(curve: Curve, cheap: Floats, strong: Floats) -> float:
    """Return the average share of the gap between the models that the router recovers."""
    shares, quality = np.array(curve.shares), np.array(curve.quality)
    low, high = float(cheap.mean()), float(strong.mean())
    if high == low or len(shares) < 2:
        return float("nan")
    return float(
        (np.trapezoid(quality, shares) - low * np.ptp(shares)) / ((high - low) * np.ptp(shares))
    )


def cpt(curve: Curve, cheap: Floats, strong: Floats, part: float) -> float:
    """Return the share of strong calls for that part of the gap."""
    low, high = float(cheap.mean()), float(strong.mean())
    return float(np.interp(low + part * (high - low), curve.quality, curve.shares))


def cost_at(
    scores: Floats, cheap: Floats, strong: Floats, costs: tuple[float, float], quality: float
) -> float | None:
    """Return the cheapest routing that keeps that share of strong quality, as a share of its cost.

    Every threshold is tried: this is hindsight, the same for every router, and no promise.
    """
    if costs[1] <= 0:
        return None
    order = np.argsort(scores, kind="stable")
    count = len(order)
    lost = np.concatenate([[0.0], np.cumsum((cheap - strong)[order])])
    wanted = quality * strong.sum()
    # Prompts of one score go the same way.
    ends = np.concatenate([[True], np.diff(scores[order]) > 0, [True]])
    fine = ends & (strong.sum() + lost >= wanted - 1e-9)
    cheapest = int(np.flatnonzero(fine).max(initial=0))
    return (cheapest * costs[0] + (count - cheapest) * costs[1]) / (count * costs[1])


def calibration_error(scores: Floats, gains: Floats, bins: int = 10) -> float:
    """Return the mean distance of predicted and seen gain, over bins of equally many prompts."""
    order = np.argsort(scores, kind="stable")
    error = 0.0
    for part in np.array_split(order, min(bins, len(order))):
        error += len(part) * abs(float(scores[part].mean() - gains[part].mean()))
    return error / len(order)


def figures(
    name: str,
    scores: Floats,
    cheap: Floats,
    strong: Floats,
    costs: tuple[float, float],
    *,
    predicts: bool = False,
    quality: float = 0.95,
) -> Figures:
    """Return all figures of one router; `predicts` says that its scores are predicted gains."""
    curve = curve_of(scores, cheap, strong)
    return Figures(
        name,
        apgr(curve, cheap, strong),
        cpt(curve, cheap, strong, 0.5),
        cpt(curve, cheap, strong, 0.8),
        cost_at(scores, cheap, strong, costs, quality),
        calibration_error(scores, strong - cheap) if predicts else None,
        curve,
    )


def random_figures(cheap: Floats, strong: Floats, costs: tuple[float, float]) -> Figures:
    """Return the mean figures of routing by lot."""
    runs = [
        figures("random", np.random.default_rng(seed).random(len(cheap)), cheap, strong, costs)
        for seed in range(RANDOM_RUNS)
    ]
    known = [run.cost for run in runs if run.cost is not None]
    return Figures(
        "random",
        apgr=float(np.mean([run.apgr for run in runs])),
        cpt50=float(np.mean([run.cpt50 for run in runs])),
        cpt80=float(np.mean([run.cpt80 for run in runs])),
        cost=float(np.mean(known)) if known else None,
        error=None,
        curve=runs[0].curve,
    )


def oracle_figures(cheap: Floats, strong: Floats, costs: tuple[float, float]) -> Figures:
    """Return the figures of whoever knows each answer beforehand. Ties are broken by lot."""
    lot = np.random.default_rng(0).random(len(cheap)) * 1e-6
    return figures("oracle", strong - cheap + lot, cheap, strong, costs)


def length_scores(prompts: Sequence[str]) -> Floats:
    """Return the lengths of prompts: longer ones to the strong model. Ties are broken by lot."""
    lot = np.random.default_rng(0).random(len(prompts)) * 1e-3
    return np.array([float(len(prompt)) for prompt in prompts]) + lot


def litellm_scores(prompts: Sequence[str]) -> Floats:
    """Return the scores of LiteLLM's own rule router, without its models and without a network."""
    import os

    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    from litellm.router import Router
    from litellm.router_strategy.complexity_router.complexity_router import ComplexityRouter

    rules = ComplexityRouter("rules", Router(model_list=[]))
    lot = np.random.default_rng(0).random(len(prompts)) * 1e-6
    return np.array([rules.classify(prompt)[1] for prompt in prompts]) + lot
