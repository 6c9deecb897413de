"""Distributions: whether lengths or scores are still spread as in the baseline. Pure.

The baseline's quartiles and its ninetieth percentile are the questions: how many entries lie above
each. So a distribution is four rates (`rates`), and what moves it anywhere moves one of them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from budgets.drift import rates
from budgets.drift.rates import Side
from budgets.drift.state import Bounds, Look, State

LENGTH_EDGES = tuple(round(2 ** (it / 4), 3) for it in range(89))
"""Lengths are counted in bins a quarter of a doubling wide, up to four million."""

SCORE_EDGES = tuple(round(it / 50, 2) for it in range(-50, 51))

INSTEAD_OF = "instead of "
"""Stands before a profile's name once a person has accepted that entries are not like it."""

ASKED = (0.25, 0.5, 0.75, 0.9)


@dataclass(frozen=True, slots=True)
class Profile:
    """A baseline that was measured: counts by bin, one bin more than edges. `name` is its own."""

    name: str
    edges: tuple[float, ...]
    counts: tuple[int, ...]

    @property
    def entries(self) -> int:
        """How many there were."""
        return sum(self.counts)


def take_in(
    state: State,
    values: Sequence[float],
    edges: Sequence[float],
    bounds: Bounds,
    time_ms: int,
    *,
    profile: Profile | None = None,
    growth: float | None = None,
) -> Look:
    """Take in values, the oldest first.

    Without a profile the baseline is learned. With `growth` only longer values count, and only by
    how much they are longer than that factor allows.
    """
    made_for = profile.name if profile is not None else rates.LEARNED
    if state.made_for not in (made_for, f"{INSTEAD_OF}{made_for}"):
        state = State(made_for=made_for)
        if profile is not None:
            state = _asked(state, profile.edges, profile.counts)
    if not state.edges:
        learn = values[: max(0, bounds.baseline - sum(count for _, count in state.bins))]
        bins = Counter(dict(state.bins))
        bins.update(bisect_left(edges, it) for it in learn)
        state = replace(state, bins=tuple(sorted(bins.items())))
        values = values[len(learn) :]
        if sum(bins.values()) < bounds.baseline:
            return Look(state, 0.0, 1.0)
        state = _asked(state, edges, [bins.get(it, 0) for it in range(len(edges) + 1)])
    sides = _sides(len(state.edges), growth is not None)
    if len(state.sides) != len(sides):
        begun = rates.begun(State(), state.made_for, sides, len(state.edges))
        state = replace(state, sides=begun.sides, cusums=begun.cusums, hits=begun.hits, entries=0)
    factor = growth or 1.0
    hits = tuple(sum(it > edge * factor for it in values) for edge in state.edges)
    found = rates.look(state, len(values), hits, sides, bounds, time_ms)
    asked = state.edges[int(found.detail)] if state.edges else 0.0
    return replace(found, detail=f"{asked * factor:g}")


def _sides(questions: int, rising_only: bool) -> tuple[Side, ...]:
    directions = (True,) if rising_only else (True, False)
    return tuple(Side(it, rising) for it in range(questions) for rising in directions)


def _asked(state: State, edges: Sequence[float], counts: Sequence[int]) -> State:
    """Return the state with its questions: which edges, and how many of the baseline lie above."""
    total = sum(counts)
    below = list(accumulate(counts))[:-1]
    chosen: list[int] = []
    for share in ASKED:
        place = next((it for it, sums in enumerate(below) if sums >= share * total), None)
        if place is not None and place not in chosen and 0 < below[place] < total:
            chosen.append(place)
    if not chosen:
        # All of one length: whatever is longer, or shorter, is new.
        least = next((it for it, sums in enumerate(below) if sums == total), len(below) - 1)
        chosen = [it for it in (least - 1, least) if it >= 0]
    return replace(
        state,
        bins=(),
        edges=tuple(edges[it] for it in chosen),
        reference=total,
        reference_hits=tuple(total - below[it] for it in chosen),
    )
