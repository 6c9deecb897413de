"""Budgets as they stand: the file's rules with the ledger's counters.

The limit that counts is the ledger's, which the proxy published; where the file says another one,
the edit is not in force yet and both are shown.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import unquote

from rich.text import Text

from budgets.config import Budget, BudgetsFile
from budgets.errors import PolicyNotPublished
from budgets.holds import BudgetState
from budgets.period import Period, period_at
from budgets.published import Level
from scripts.cli.context import OpenLedger
from scripts.cli.output import amount, share, text, time_iso

INSTANCES_MAX = 10_000
"""How many counters of one `each` rule are read at most."""

LEVEL_STYLES = {
    Level.INFORMATIONAL: "cyan",
    Level.WARNING: "yellow",
    Level.CRITICAL: "red",
    Level.EMERGENCY: "bold red",
}


@dataclass(frozen=True, slots=True)
class BudgetView:
    """One counter of a budget rule in its current period. `published` is false where no proxy has
    put the rule's limit in force: the figures are then the file's, and nothing is spent.

    `value` is the value of an `each` rule that this counter is of.
    """

    rule: str
    config: Budget
    period: Period
    state: BudgetState
    published: bool
    value: str | None = None

    @property
    def thresholds_claimed(self) -> tuple[Level, ...]:
        """The levels claimed in this period, in rising order."""
        return tuple(level for level in Level if level in self.state.claimed)

    @property
    def style(self) -> str:
        """The colour of the highest claimed level."""
        claimed = self.thresholds_claimed
        return LEVEL_STYLES[claimed[-1]] if claimed else "green"

    def as_dict(self) -> dict[str, Any]:
        """Return what JSON shows of it."""
        state = self.state
        return {
            "budget": state.budget,
            "rule": self.rule,
            "each": self.config.each,
            "value": self.value,
            "description": self.config.description,
            "match": self.config.match.model_dump(exclude_none=True),
            "mode": self.config.mode,
            "in_force": self.published,
            "period": self.config.period,
            "period_id": self.period.id,
            "period_start": time_iso(self.period.start_ms),
            "period_end": time_iso(self.period.end_ms),
            **amount("limit", state.limit_nano_usd),
            **amount("carry", state.carry_nano_usd),
            **amount("granted", state.granted_nano_usd),
            **amount("limit_in_file", self.config.limit_nano_usd),
            **amount("spent", state.spent_nano_usd),
            **amount("held", state.held_nano_usd),
            **amount("remaining", state.remaining_nano_usd),
            **amount("per_request_cap", self.config.per_request_cap_nano_usd),
            "spent_share": share(state.spent_nano_usd, max(0, state.bearable_nano_usd)),
            "holds": state.holds,
            "limit_epoch": state.limit_epoch,
            "thresholds_claimed": [level.value for level in self.thresholds_claimed],
        }


async def budget_views(opened: OpenLedger, budgets: BudgetsFile) -> list[BudgetView]:
    """Return the counters of every rule's current period, in the file's order.

    A rule with `each` has a counter for every value that was seen: they follow the rule, which
    itself stands there with its limit and nothing spent. The fullest come first.
    """
    views: list[BudgetView] = []
    for rule, config in budgets.budgets.items():
        period = period_at(config.period, budgets.time_zone, opened.now_ms)
        try:
            (state,) = await opened.ledger.states([(rule, rule, period.id)])
        except PolicyNotPublished:
            state = BudgetState(rule, rule, period.id, config.limit_nano_usd, 0, 0, 0, 0)
            views.append(BudgetView(rule, config, period, state, published=False))
            continue
        views.append(BudgetView(rule, config, period, state, published=True))
        if config.each is not None:
            names = [name async for name in counters_of(opened, rule, period.id)]
            states = await opened.ledger.states([(name, rule, period.id) for name in names])
            views += [
                BudgetView(rule, config, period, one, True, unquote(one.budget.partition(":")[2]))
                for one in sorted(states, key=lambda it: (it.remaining_nano_usd, it.budget))
            ]
    return views


async def counters_of(opened: OpenLedger, rule: str, period_id: str) -> AsyncIterator[str]:
    """Yield the counters of an `each` rule in a period, at most `INSTANCES_MAX`."""
    key = f"farebox:{{{opened.home.ledger}}}:counters"
    start = f"{period_id}:"
    found = 0
    # A rule's name and a period's id are made of letters, digits and `_.-`: no pattern signs.
    async for name in cast(Any, opened.client).sscan_iter(key, match=f"{start}{rule}:*", count=500):
        yield str(name).removeprefix(start)
        found += 1
        if found >= INSTANCES_MAX:
            return


def claimed_text(view: BudgetView) -> Text:
    """Return the highest level that was claimed, in its colour."""
    claimed = view.thresholds_claimed
    return text(claimed[-1].value, LEVEL_STYLES[claimed[-1]]) if claimed else text("")
