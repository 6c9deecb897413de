"""What enforcement would have done with the requests of shadow mode, from the running totals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from budgets import totals
from scripts.cli.output import amount, cost, facts, percent, share, table, text


@dataclass(frozen=True, slots=True)
class ShadowTotals:
    """The shadow counters of a period.

    `routed_actual` is what those requests cost that enforcement would have sent, `would` what they
    were expected to cost where it would have sent them; the rest it would have refused.
    """

    requests: int
    actual_nano_usd: int
    rerouted: int
    routed_actual_nano_usd: int
    would_nano_usd: int
    by_model: Mapping[str, int]
    by_code: Mapping[str, int]

    @classmethod
    def read(cls, counters: Mapping[str, int]) -> ShadowTotals:
        """Return the shadow part of a period's running totals."""
        whole = totals.grouped(counters, "shadow").get("", {})
        return cls(
            requests=whole.get("requests", 0),
            actual_nano_usd=whole.get("actual_nano", 0),
            rerouted=whole.get("rerouted", 0),
            routed_actual_nano_usd=whole.get("routed_actual_nano", 0),
            would_nano_usd=whole.get("would_nano", 0),
            by_model=_requests(counters, "shadow_model"),
            by_code=_requests(counters, "shadow_code"),
        )

    @property
    def saved_nano_usd(self) -> int:
        """What routing alone would have saved; below zero where it would have cost more."""
        return self.routed_actual_nano_usd - self.would_nano_usd

    @property
    def refused(self) -> int:
        """How many requests enforcement would have refused."""
        return sum(self.by_code.values())

    @property
    def refused_actual_nano_usd(self) -> int:
        """What the requests cost that enforcement would have refused."""
        return self.actual_nano_usd - self.routed_actual_nano_usd

    def as_dict(self) -> dict[str, Any]:
        """Return what JSON shows of it."""
        return {
            "requests": self.requests,
            **amount("actual", self.actual_nano_usd),
            "would_reroute": self.rerouted,
            "would_refuse": self.refused,
            **amount("routed_actual", self.routed_actual_nano_usd),
            **amount("would_cost", self.would_nano_usd),
            **amount("would_save", self.saved_nano_usd),
            "would_route_to": dict(self.by_model),
            "would_refuse_with": dict(self.by_code),
        }


def _requests(counters: Mapping[str, int], subject: str) -> dict[str, int]:
    grouped = totals.grouped(counters, subject)
    return {name: measures.get("requests", 0) for name, measures in sorted(grouped.items())}


def show_shadow(out: Console, found: ShadowTotals, period: str) -> None:
    """Print the summary and where the requests would have gone."""
    if not found.requests:
        out.print(text(f"No request was recorded in shadow mode in {period}."))
        out.print(text("Set `mode: shadow` in routing.yaml to record without changing anything."))
        return
    saved = found.saved_nano_usd
    rate = share(saved, found.routed_actual_nano_usd)
    out.print(
        facts(
            {
                f"Shadow mode, {period}": f"{found.requests:,} requests, "
                f"{cost(found.actual_nano_usd)} spent",
                "Would have rerouted": f"{found.rerouted:,} requests",
                "Would have refused": f"{found.refused:,} requests, which cost "
                f"{cost(found.refused_actual_nano_usd)}",
                "Would have saved": text(
                    f"{cost(saved)} by routing ({percent(rate)} of "
                    f"{cost(found.routed_actual_nano_usd)})",
                    "green" if saved >= 0 else "red",
                ),
            }
        )
    )
    out.print()
    made = table("Would have gone to", "Requests", right=["Requests"])
    for group, count in found.by_model.items():
        made.add_row(text(group), f"{count:,}")
    for code, count in found.by_code.items():
        made.add_row(text(f"refused: {code}", "red"), f"{count:,}")
    out.print(made)
    out.print(text("Saved compares what was spent with estimates for the groups of enforcement."))
