"""The dollar caps of shadow comparisons, as budgets of the policy. Pure.

Each task type that is compared has a budget of its own, which only the comparison's own key counts
against. No caller can have that key: its name is not one that a key may have.
"""

from __future__ import annotations

from budgets import money
from budgets.config import Budget, BudgetsFile, Thresholds
from hooks.routing import RoutingFile

KEY_NAME = "#shadow_compare"
_SILENT = Thresholds(
    informational=None, warning=None, critical=None, emergency=None, forecast=None, rate=None
)


def budget_name(task_type: str) -> str:
    """Return the name of a task type's cap."""
    return f"shadow_compare.{task_type}"[:64]


def with_caps(budgets: BudgetsFile, routing: RoutingFile) -> BudgetsFile:
    """Return the budgets with a cap for every task type that is compared; each holds for a month.

    Reaching a cap ends the comparisons of the month and is nothing to be told of.
    """
    caps = {
        budget_name(name): Budget.model_validate(
            {
                "limit_usd": money.plain(task.shadow_compare.cap_nano_usd),
                "match": {"key": KEY_NAME, "task_type": name},
                "thresholds": _SILENT,
                "description": f"Shadow comparisons of {name} (routing.yaml)",
            }
        )
        for name, task in routing.task_types.items()
        if task.shadow_compare is not None
    }
    if not caps:
        return budgets
    return budgets.model_copy(update={"budgets": {**budgets.budgets, **caps}})
