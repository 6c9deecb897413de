"""A month's figures against its targets. What is not known is neither met nor missed."""

from __future__ import annotations

from collections.abc import Callable

from budgets.months import figures as judged
from budgets.months.lines import Figures
from budgets.months.tally import Cell
from scripts.cli.output import percent
from scripts.report.shape import DASH, Verdict


def verdicts(found: Figures) -> tuple[Verdict, ...]:
    """Return the verdicts, in the order of the report."""
    return (
        _savings_verdict(found),
        _verdict(
            "Estimate error",
            found.estimate_error,
            found.estimate_error_target,
            lambda value, target: value < target,
            "below",
        ),
        _days_verdict(found),
        _verdict(
            "Largest change of the model mix within the month",
            found.mix_drift,
            judged.MIX_DRIFT_MAX,
            lambda value, target: value <= target,
            "at most",
        ),
        _overage_verdict(found),
    )


def _verdict(
    name: str,
    value: float | None,
    target: float | None,
    is_good: Callable[[float, float], bool],
    word: str,
) -> Verdict:
    if value is None or target is None:
        return Verdict(
            name, DASH, DASH if target is None else f"{word} {percent(target, 0)}", "unknown"
        )
    state = "good" if is_good(value, target) else "bad"
    return Verdict(name, percent(value, 2), f"{word} {percent(target, 0)}", state)


def _savings_verdict(found: Figures) -> Verdict:
    name, share = "Savings against the baseline", found.against_baseline.share
    if found.savings_target is None or share is None:
        return Verdict(name, DASH, DASH, "unknown")
    least, most = found.savings_target
    target = f"{least * 100:.0f} to {most * 100:.0f} %" if most else f"at least {percent(least, 0)}"
    return Verdict(name, percent(share), target, "good" if share >= least else "bad")


def _days_verdict(found: Figures) -> Verdict:
    name = "Days within budget, the worst category"
    shares = [
        (it.days_in_budget / it.days, it.category)
        for it in found.categories
        if it.days and it.days_in_budget is not None
    ]
    target = f"at least {percent(judged.DAYS_IN_BUDGET_TARGET, 0)}"
    if not shares:
        return Verdict(name, DASH, target, "unknown")
    share, category = min(shares)
    state = "good" if share >= judged.DAYS_IN_BUDGET_TARGET else "bad"
    return Verdict(name, f"{percent(share)} ({category})", target, state)


def _overage_verdict(found: Figures) -> Verdict:
    requests = found.total.requests
    over = found.marks.get("overage", Cell()).requests
    share = over / requests if requests else None
    state = "unknown" if share is None else "good" if share < 0.001 else "bad"
    return Verdict(
        "Requests that cost more than their hold", percent(share, 2), "below 0.1 %", state
    )
