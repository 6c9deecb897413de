"""How answers fare at their gates, by task type, from the running totals of a period."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from budgets import totals
from scripts.cli.output import percent, share, table, text


@dataclass(frozen=True, slots=True)
class GateTotals:
    """One task type's judged requests. `failed` are those whose first answer did not pass."""

    judged: int
    failed: int
    escalated: int
    withheld: int

    @property
    def rate(self) -> float | None:
        """The share of first answers that failed; None where none was judged."""
        return share(self.failed, self.judged)


def read(counters: Mapping[str, int]) -> dict[str, GateTotals]:
    """Return the totals of every task type that has any."""
    return {
        name: GateTotals(
            measures.get("gated", 0),
            measures.get("gate_failed", 0),
            measures.get("escalated", 0),
            measures.get("withheld", 0),
        )
        for name, measures in sorted(totals.grouped(counters, "task_type").items())
        if measures.get("gated")
    }


def as_dict(found: Mapping[str, GateTotals]) -> dict[str, dict[str, Any]]:
    """Return them as data."""
    return {name: {**asdict(it), "failure_rate": it.rate} for name, it in found.items()}


def gate_table(found: Mapping[str, GateTotals]) -> Table:
    """Return them as a table; the rate is of first answers."""
    numbers = ["Judged", "Failed", "Rate", "Escalated", "Withheld"]
    made = table("Gate of", *numbers, right=numbers)
    for name, it in found.items():
        made.add_row(
            text(name),
            f"{it.judged:,}",
            f"{it.failed:,}",
            percent(it.rate, 1),
            f"{it.escalated:,}",
            f"{it.withheld:,}",
        )
    return made
