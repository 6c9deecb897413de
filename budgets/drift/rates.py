"""Rates: how many entries say yes to one or several questions, held against a baseline. Pure.

A question is asked of every entry ("did it escalate", "is it longer than the baseline's median").
Its null is a bound that needs no baseline (`most`, from the policy), or the confidence limit of the
rate that the baseline had: the baseline is an estimate itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from budgets.drift.evidence import NOTHING, ODDS, edge, rate_step, together
from budgets.drift.state import Bounds, Look, State

CUSUM_ODDS = ODDS[1]
LEARNED = "learned"
FIXED = "fixed"
"""What `Look.detail` says where the policy's figure was passed, and no baseline left."""


@dataclass(frozen=True, slots=True)
class Side:
    """One null: of a question's rate, that it is at most (`rising`) or at least what it was.

    With `most` it is at most that, from the first entry on.
    """

    question: int = 0
    rising: bool = True
    most: float | None = None


SHIFT = (Side(), Side(rising=False))
RISE = (Side(),)


def begun(state: State, made_for: str, sides: Sequence[Side], questions: int) -> State:
    """Return the state, or a new one where it is not of these sides and this baseline."""
    if state.made_for == made_for and len(state.sides) == len(sides):
        return state
    return State(
        made_for=made_for,
        accepted=state.accepted and state.made_for == made_for,
        sides=(NOTHING,) * len(sides),
        cusums=(0.0,) * len(sides),
        hits=(0,) * questions,
        reference_hits=(0,) * questions,
    )


def take_in(
    state: State, values: Sequence[bool], sides: Sequence[Side], bounds: Bounds, time_ms: int
) -> Look:
    """Take in entries of a rate with one question, the oldest first; the baseline is learned."""
    state = begun(state, LEARNED, sides, 1)
    learn = list(values[: max(0, bounds.baseline - state.reference)])
    fixed = [it for it in sides if it.most is not None]
    if learn:
        if fixed and not state.accepted:
            # What the policy says needs no baseline.
            state = look(state, len(learn), (sum(learn),), sides, bounds, time_ms).state
        state = replace(
            state,
            reference=state.reference + len(learn),
            reference_hits=(state.reference_hits[0] + sum(learn),),
        )
    rest = values[len(learn) :]
    return look(state, len(rest), (sum(rest),), sides, bounds, time_ms)


def look(
    state: State,
    entries: int,
    hits: tuple[int, ...],
    sides: Sequence[Side],
    bounds: Bounds,
    time_ms: int,
) -> Look:
    """Judge `entries` more, of which `hits` said yes to each question."""
    if entries:
        state = _judged(state, entries, hits, sides, bounds, time_ms)
    top = max(range(len(sides)), key=lambda it: sum(state.sides[it]), default=0)
    side = sides[top]
    return Look(
        state,
        statistic=math.log1p(together(state.sides)),
        limit=math.log1p(bounds.alarm),
        expected=_expected(state, side),
        observed=state.hits[side.question] / state.entries if state.entries else None,
        detail=FIXED if side.most is not None and not state.accepted else str(side.question),
    )


def _judged(
    state: State,
    entries: int,
    hits: tuple[int, ...],
    sides: Sequence[Side],
    bounds: Bounds,
    time_ms: int,
) -> State:
    values, cusums = list(state.sides), list(state.cusums)
    for number, side in enumerate(sides):
        null = null_of(state, side, bounds)
        if null is None:
            continue
        yes = hits[side.question]
        values[number] = rate_step(
            values[number], null, entries, yes, bounds.ceiling, rising=side.rising
        )
        cusums[number] = max(0.0, cusums[number] + _log_ratio(null, entries, yes, side.rising))
    if not any(cusums):
        # Nothing speaks for a change: if one begins, it begins from here.
        return replace(
            state, sides=tuple(values), cusums=tuple(cusums), entries=0, hits=(0,) * len(hits)
        )
    return replace(
        state,
        sides=tuple(values),
        cusums=tuple(cusums),
        since_ms=state.since_ms if state.entries else time_ms,
        entries=state.entries + entries,
        hits=tuple(a + b for a, b in zip(state.hits, hits, strict=True)),
    )


def null_of(state: State, side: Side, bounds: Bounds) -> float | None:
    """Return a side's null; None while it has none."""
    learned = None
    # What has edges was given its baseline whole.
    if state.reference >= bounds.baseline or (state.reference and state.edges):
        known = state.reference_hits[side.question]
        learned = edge(known, state.reference, bounds.doubt, upper=side.rising)
    if side.most is None:
        return learned
    if not state.accepted:
        return side.most
    return None if learned is None else max(side.most, learned)


def _log_ratio(null: float, entries: int, hits: int, rising: bool) -> float:
    if not 0.0 < null < 1.0:
        return 0.0
    odds = null / (1 - null) * (CUSUM_ODDS if rising else 1 / CUSUM_ODDS)
    other = odds / (1 + odds)
    return hits * math.log(other / null) + (entries - hits) * math.log((1 - other) / (1 - null))


def _expected(state: State, side: Side) -> float | None:
    if side.most is not None and not state.accepted:
        return side.most
    if not state.reference:
        return side.most
    return state.reference_hits[side.question] / state.reference
