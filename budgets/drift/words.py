"""Findings in words: one sentence each, for people. Pure."""

from __future__ import annotations

from budgets.drift import models
from budgets.drift.observing import Series
from budgets.drift.rates import FIXED
from budgets.drift.state import Look


def sentence(series: Series, look: Look) -> str:
    """Return what is out of control, with the figures that say so."""
    task, count = series.task_type or "all requests", look.state.entries
    now, usual = _share(look.observed), _share(look.expected)
    of = f"of the last {count:,} requests of {series.task_type}"
    if series.task_type is None:
        of = f"of the last {count:,} requests"
    match series.signal:
        case "served_model_differs":
            return (
                f"{series.model} answered {task} with another model than it was sent to: "
                f"{look.detail} ({int(look.statistic):,} of {count:,} answers)."
            )
        case "model_changed":
            before = models.before(look.state)
            return f"The model behind {series.model} changed: now {look.detail}, before {before}."
        case "escalation_rate":
            return f"{now} {of} failed their gate; {usual} is {_basis(look)}."
        case "fallback_rate":
            return f"{now} {of} were answered by a fallback; {usual} is usual."
        case "input_length":
            return (
                f"The input of {task} is not as long as it was: {now} {of} were longer than "
                f"{look.detail}, where {usual} were."
            )
        case "score_distribution":
            return (
                f"The router's scores of {task} are not spread as they were: {now} {of} were "
                f"above {look.detail}, where {usual} were."
            )
        case "output_length":
            return (
                f"The output of {task} grew: {now} {of} were longer than {look.detail} tokens, "
                f"where {usual} are in order."
            )
        case "latency_missed":
            return f"{now} {of} took longer than their category's objective for half of them."
        case "estimate_error":
            return (
                f"Estimates of {task} are off: what was charged differs by "
                f"{'unknown' if look.observed is None else f'{look.observed:+.1%}'} from what was "
                f"expected, over {count:,} requests; the target is {usual}."
            )
        case "tier_mismatch":
            return (
                f"{now} {of} went to a tier that this work does not belong to; "
                f"{usual} is {_basis(look)}."
            )
        case "frontier_by_name":
            return (
                f"The key {series.key_name} names a model of the highest tier for work that needs "
                f"less, in {now} {of}."
            )
        case "untagged_share":
            return f"{now} {of} came without a task type from their caller; {usual} is usual."
        case _:
            return f"{series.signal} of {task} is out of control."


def _share(value: float | None) -> str:
    if value is None:
        return "an unknown share"
    return f"{value:.1%}" if value < 0.1 else f"{value:.0%}"


def _basis(look: Look) -> str:
    return "usual" if look.state.reference and look.detail != FIXED else "the most it should be"
