"""Finds the rules that may match a request, however many others there are. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from budgets.config import Budget

NARROWEST = ("key", "user", "team", "tag", "task_type", "model", "category")
"""Dimensions, those first in which requests differ most: a rule is found by the first it has."""


@dataclass(frozen=True, slots=True)
class RulesByValue:
    """Where the rules of a file stand, so that those which cannot match are not looked at.

    `rules` are all, in the file's order. `places` has their places by (dimension, value), for each
    value of one dimension that the rule restricts; `dimensions` are those that occur.
    `unrestricted` are the places of rules that restrict nothing.
    """

    rules: tuple[tuple[str, Budget], ...]
    dimensions: tuple[str, ...]
    places: Mapping[tuple[str, str], tuple[int, ...]]
    unrestricted: tuple[int, ...]

    @classmethod
    def of(cls, budgets: Mapping[str, Budget]) -> RulesByValue:
        """Return the rules of a file."""
        rules = tuple(budgets.items())
        places: dict[tuple[str, str], tuple[int, ...]] = {}
        unrestricted: list[int] = []
        dimensions: set[str] = set()
        for place, (_, rule) in enumerate(rules):
            wanted = dict(rule.match.wanted)
            narrowest = next((what for what in NARROWEST if what in wanted), None)
            if narrowest is None:
                unrestricted.append(place)
                continue
            dimensions.add(narrowest)
            for value in wanted[narrowest]:
                places[narrowest, value] = (*places.get((narrowest, value), ()), place)
        return cls(rules, tuple(sorted(dimensions)), places, tuple(unrestricted))
