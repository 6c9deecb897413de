"""How often task types are found, and what the mistakes cost: accuracy, macro-F1, confusion."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from scripts.task_types.labelled import Labelled

UNDER_ROUTING_COST = 3
"""What a type of a lower tier costs, where any other mistake costs 1."""

Finder = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Measured:
    """One finder on some prompts. `mistakes_cost` is a mean over the prompts, `under` and `over`
    are the shares whose tier was too low and too high, `confusion` counts (true, found)."""

    prompts: int
    accuracy: float
    macro_f1: float
    tier_accuracy: float
    under: float
    over: float
    mistakes_cost: float
    by_kind: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    confusion: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the figures for JSON, rounded."""
        return {name: _rounded(getattr(self, name)) for name in self.__slots__}


def measure(
    prompts: Sequence[Labelled], found: Sequence[str], tiers: Mapping[str, int]
) -> Measured:
    """Return the figures for what was found for each prompt; `tiers` are the types' ranks."""
    kinds = dict.fromkeys(it.kind for it in prompts)
    by_kind: dict[str, Mapping[str, float]] = {}
    for kind in kinds:
        chosen = [
            (it.task_type, one) for it, one in zip(prompts, found, strict=True) if it.kind == kind
        ]
        by_kind[kind] = {"prompts": len(chosen), **_figures(chosen, tiers)}
    pairs = [(it.task_type, one) for it, one in zip(prompts, found, strict=True)]
    confusion: dict[str, dict[str, int]] = {}
    for (true, one), count in sorted(Counter(pairs).items()):
        confusion.setdefault(true, {})[one] = count
    return Measured(
        prompts=len(pairs), by_kind=by_kind, confusion=confusion, **_figures(pairs, tiers)
    )


def _figures(pairs: Sequence[tuple[str, str]], tiers: Mapping[str, int]) -> dict[str, float]:
    count = len(pairs)
    under = sum(tiers[one] < tiers[true] for true, one in pairs)
    over = sum(tiers[one] > tiers[true] for true, one in pairs)
    wrong = sum(one != true for true, one in pairs)
    return {
        "accuracy": 1 - wrong / count,
        "macro_f1": _macro_f1(pairs),
        "tier_accuracy": 1 - (under + over) / count,
        "under": under / count,
        "over": over / count,
        "mistakes_cost": (wrong + (UNDER_ROUTING_COST - 1) * under) / count,
    }


def _macro_f1(pairs: Sequence[tuple[str, str]]) -> float:
    """Return the mean F1 of the types that stand among the true ones."""
    scores = []
    for name in {true for true, _ in pairs}:
        hits = sum(true == one == name for true, one in pairs)
        named = sum(one == name for _, one in pairs)
        there = sum(true == name for true, _ in pairs)
        scores.append(2 * hits / (named + there))
    return sum(scores) / len(scores)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, Mapping):
        return {name: _rounded(inner) for name, inner in value.items()}
    return value
