"""Judges a series by what new entries said: which statistic, against which bounds. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from budgets.drift import estimates, lengths, models, rates
from budgets.drift.findings import Finding
from budgets.drift.observing import Series
from budgets.drift.rates import RISE, SHIFT, Side
from budgets.drift.state import Bounds, Look, State
from budgets.drift.watchlist import Watchlist
from budgets.drift.words import sentence

SERIES_PER_ENTRY = 11
"""How many series with chance in them one entry adds to at most: they share its false alarms."""

DOUBT = 1e-4
"""How likely a baseline is to lie beyond its confidence limit by bad luck, each."""

BY_FACT = frozenset({"served_model_differs", "model_changed"})


def bounds_of(watch: Watchlist) -> Bounds:
    """Return the statistics' figures by the policy."""
    alarm = float(watch.settings.entries_per_false_alarm * SERIES_PER_ENTRY)
    return Bounds(alarm, DOUBT, watch.settings.baseline_entries)


def judge(
    series: Series, state: State, values: Sequence[Any], watch: Watchlist, time_ms: int
) -> Look:
    """Take in what the entries said to a series, the oldest first; `time_ms` is the first one's."""
    bounds, limits = bounds_of(watch), watch.limits_of(series.task_type)
    task_type = series.task_type or ""

    def rate(sides: Sequence[Side]) -> Look:
        return rates.take_in(state, values, sides, bounds, time_ms)

    match series.signal:
        case "served_model_differs":
            return models.differs(state, values, time_ms)
        case "model_changed":
            return models.changed(state, values, time_ms)
        case "escalation_rate":
            return rate((*_most(limits.escalation_rate), *SHIFT))
        case "fallback_rate":
            return rate(SHIFT)
        case "tier_mismatch":
            return rate((*_most(limits.tier_mismatch), *RISE))
        case "latency_missed":
            # The objective is one for the median.
            return rate(_most(0.5))
        case "frontier_by_name":
            return rate(_most(watch.settings.frontier_share_max))
        case "untagged_share":
            return rate((*_most(watch.settings.untagged_share_max), *RISE))
        case "estimate_error":
            return estimates.take_in(state, values, limits.estimate_error or 0.02, bounds, time_ms)
        case "output_length":
            growth = limits.output_growth or 1.0
            edges = lengths.LENGTH_EDGES
            return lengths.take_in(state, values, edges, bounds, time_ms, growth=growth)
        case "input_length" | "score_distribution":
            profile = watch.profiles.get((series.signal, task_type))
            edges = lengths.LENGTH_EDGES if series.signal == "input_length" else lengths.SCORE_EDGES
            return lengths.take_in(state, values, edges, bounds, time_ms, profile=profile)
        case _:
            raise ValueError(f"there is no signal {series.signal!r}")


def _most(rate: float | None) -> tuple[Side, ...]:
    return () if rate is None else (Side(most=rate),)


def accepted(series: Series, state: State) -> State:
    """Return the state once a person took what it shows for the new normal."""
    if series.signal in BY_FACT:
        return models.accepted(state, state.detail) if state.detail else state
    # What follows is the new baseline, in place of a profile too.
    made_for = state.made_for.removeprefix(lengths.INSTEAD_OF)
    if made_for != rates.LEARNED:
        made_for = f"{lengths.INSTEAD_OF}{made_for}"
    return State(made_for=made_for, accepted=True, seen_ms=state.seen_ms)


def cleared(series: Series, state: State) -> State:
    """Return the state of a series that is back in control: its evidence begins anew."""
    if series.signal in BY_FACT:
        return state
    return replace(
        state,
        sides=tuple((0.0,) * len(it) for it in state.sides),
        cusums=(0.0,) * len(state.cusums),
        entries=0,
        hits=(0,) * len(state.hits),
    )


def finding(series: Series, look: Look, time_ms: int) -> Finding:
    """Return the finding of a series that is out of control; `time_ms` is the newest entry's."""
    state = look.state
    return Finding(
        signal=series.signal,
        task_type=series.task_type,
        model=series.model,
        key_name=series.key_name,
        since_ms=state.since_ms or time_ms,
        seen_ms=time_ms,
        statistic=round(look.statistic, 3),
        limit=round(look.limit, 3),
        expected=look.expected,
        observed=look.observed,
        count=state.entries,
        text=sentence(series, look),
    )
