"""How a group stands to all requests of a shape: what of its judgement no request's length changes.

Requests differ in their length, and seldom in anything else that a constraint asks about. So what
does not look at the number of input tokens is judged once for a shape and remembered; what is left
for a single request is its cost and two comparisons. Where one of those says no, the group is
judged anew as a whole: that alone finds words for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from budgets.learned import Learned
from hooks.constraints import Drop, Judged, drops, expected_latency_ms, input_room
from hooks.decision import Candidate
from hooks.estimate import CostTerms

SHAPES_MAX = 1_024
"""How many shapes are remembered of one policy, until it begins anew."""

BY_LENGTH = frozenset({"context", "cost", "per_request_cap"})
"""The constraints that the count of the input decides."""


@dataclass(frozen=True, slots=True)
class Standing:
    """One group as a shape of requests finds it.

    `failed` are the constraints that any such request fails. `terms` are None where no price is
    known. `room` is how many input tokens the context leaves room for, `hold_max` the least of the
    limits for one request, in nanodollars; both infinite where nothing bounds them.
    """

    judged: Judged
    failed: tuple[Drop, ...]
    terms: CostTerms | None
    room: float
    hold_max: float
    latency_ms: int | None

    def candidate(self, count: int, count_max: int | None = None) -> Candidate:
        """Return the group's judgement for a request whose input counts so many tokens."""
        group = self.judged.group
        if self.terms is None:
            return Candidate(group.name, group.provider, False, self.failed, None, None)
        cost, failed = self.terms.at(count, count_max), self.failed
        if cost.input_tokens > self.room or cost.hold_nano_usd > self.hold_max:
            failed = tuple(drops(self.judged, cost))
        return Candidate(group.name, group.provider, not failed, failed, cost, self.latency_ms)

    def alike(self, low: int, high: int) -> bool:
        """Say whether the group is kept, or dropped, whichever of these two counts is right."""
        if self.terms is None or self.failed:
            return True
        costs = self.terms.at(low), self.terms.at(high)
        one, other = (
            it.input_tokens > self.room or it.hold_nano_usd > self.hold_max for it in costs
        )
        return one == other


def standing(judged: Judged, terms: CostTerms | None) -> Standing:
    """Judge what can be judged of a group without the count of the input."""
    if terms is None:
        return Standing(judged, tuple(drops(judged, None)), None, math.inf, math.inf, None)
    cost = terms.at(0)
    limits = (
        judged.cap.nano_usd if judged.cap is not None else None,
        judged.category.constraints.cost_nano_usd_max,
    )
    return Standing(
        judged,
        tuple(it for it in drops(judged, cost) if it.constraint not in BY_LENGTH),
        terms,
        input_room(judged, cost),
        min((it for it in limits if it is not None), default=math.inf),
        expected_latency_ms(judged.facts, cost),
    )


class Standings:
    """The groups of each shape that was met lately, for one policy."""

    def __init__(self) -> None:
        self._learned: Learned | None = None
        self._by_shape: dict[object, tuple[Standing, ...]] = {}

    def __len__(self) -> int:
        return len(self._by_shape)

    def of(
        self, shape: object, learned: Learned, find: Callable[[], tuple[Standing, ...]]
    ) -> tuple[Standing, ...]:
        """Return the standings of a shape, found by `find` where it is new or more was learned."""
        if learned is not self._learned or len(self._by_shape) >= SHAPES_MAX:
            self._learned = learned
            self._by_shape.clear()
        found = self._by_shape.get(shape)
        if found is None:
            found = self._by_shape[shape] = find()
        return found
