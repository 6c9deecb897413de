"""Estimates: whether they miss what requests cost by more than the target. Pure.

One request says little: the length of an answer is its own affair. Twenty make a block, whose
error is `(actual - estimate) / actual` of the sums, as it is reported. Two rates are watched
(`rates`), of blocks whose error is above the target and of those below minus the target; the null
of each is that it is no more than half of them, whatever the amounts are like.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from budgets.drift.evidence import NOTHING, rate_step, together
from budgets.drift.state import Bounds, Look, State

BLOCK = 20


def take_in(
    state: State, values: Sequence[tuple[int, int]], target: float, bounds: Bounds, time_ms: int
) -> Look:
    """Take in pairs of what was charged and what was estimated (nanodollars), the oldest first.

    An accepted error is the new target, once ten blocks have told how large it is.
    """
    if len(state.sides) != 2:
        state = replace(state, sides=(NOTHING, NOTHING), cusums=(0.0, 0.0))
    for actual, estimate in values:
        count, actuals, estimates = state.block
        state = replace(state, block=(count + 1, actuals + actual, estimates + estimate))
        if state.block[0] == BLOCK:
            state = _closed(state, target, bounds, time_ms)
    return Look(
        state,
        statistic=math.log1p(together(state.sides)),
        limit=math.log1p(bounds.alarm),
        expected=target,
        observed=_share(*state.hits) if state.hits and state.entries else None,
    )


def _closed(state: State, target: float, bounds: Bounds, time_ms: int) -> State:
    count, actual, estimate = state.block
    state = replace(state, block=(0, 0, 0))
    if state.accepted and state.reference < 10 * BLOCK:
        before = state.reference_hits or (0, 0)
        sums = (before[0] + actual, before[1] + estimate)
        return replace(state, reference=state.reference + count, reference_hits=sums)
    accepted = _share(*state.reference_hits) if state.accepted else 0.0
    figure = _share(actual, estimate)
    nulls = (max(target, accepted + target), max(target, target - accepted))
    figures = (figure, -figure)
    sides = tuple(
        rate_step(values, 0.5, 1, int(it > null), bounds.ceiling, rising=True)
        for values, null, it in zip(state.sides, nulls, figures, strict=True)
    )
    cusums = tuple(
        max(0.0, known + it - null)
        for known, null, it in zip(state.cusums, nulls, figures, strict=True)
    )
    known = state.hits or (0, 0)
    if not any(cusums):
        return replace(state, sides=sides, cusums=cusums, entries=0, hits=(0, 0))
    return replace(
        state,
        sides=sides,
        cusums=cusums,
        since_ms=state.since_ms if state.entries else time_ms,
        entries=state.entries + count,
        hits=(known[0] + actual, known[1] + estimate),
    )


def _share(actual: int, estimate: int) -> float:
    return (actual - estimate) / max(actual, 1)
