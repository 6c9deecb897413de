"""What `farebox explain` shows: a decision, the budgets that it meets, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console

from scripts.cli import decision_view
from scripts.cli.output import amount, cost, dollars, table, text


@dataclass(frozen=True, slots=True)
class BudgetCheck:
    """A budget that the request would count against, as it stands."""

    budget: str
    left_nano_usd: int
    fits: bool
    enforced: bool


@dataclass(frozen=True, slots=True)
class Explained:
    """A decision with the budgets it would meet. `refusal` is the code, where it is refused."""

    decision: dict[str, Any]
    budgets: tuple[BudgetCheck, ...] = ()
    refusal: str | None = None
    note: str = ""
    ending: dict[str, Any] = field(default_factory=dict)


def as_dict(found: Explained) -> dict[str, Any]:
    """Return what `--json` writes."""
    return {
        "decision": found.decision,
        "would_be_sent": found.refusal is None,
        "refusal": found.refusal,
        "budgets": [
            {
                "budget": one.budget,
                **amount("remaining", one.left_nano_usd),
                "fits": one.fits,
                "enforced": one.enforced,
            }
            for one in found.budgets
        ],
        "ending": found.ending or None,
        "note": found.note or None,
    }


def show(out: Console, found: Explained) -> None:
    """Print it for a person."""
    decision_view.show(out, found.decision)
    if found.budgets:
        made = table("Budget", "Left", "", right=["Left"])
        for one in found.budgets:
            verdict = "fits" if one.fits else "full" if one.enforced else "full (shadow)"
            style = "green" if one.fits else "red" if one.enforced else "yellow"
            made.add_row(text(one.budget), dollars(one.left_nano_usd), text(verdict, style))
        out.print(made)
    if found.refusal is not None and not found.decision.get("code") and not found.ending:
        out.print(text(f"It would be refused now: {found.refusal}.", "bold red"))
    if found.ending:
        _show_ending(out, found.ending)
    if found.note:
        out.print(text(found.note, "yellow"))


def _show_ending(out: Console, ending: Mapping[str, Any]) -> None:
    if ending["kind"] == "refused":
        out.print(text(f"It was refused: {ending['code']}.", "bold red"))
        return
    served = ending.get("serving_group") or ending.get("group") or "?"
    model = f" ({ending['serving_model']})" if ending.get("serving_model") else ""
    out.print(
        text(
            f"It was {ending['kind']}: {served}{model} cost {cost(ending['actual_nano_usd'])}, "
            f"{ending.get('input_tokens') or 0:,} tokens in and "
            f"{ending.get('output_tokens') or 0:,} out, {ending.get('attempts') or 0} attempts."
        )
    )
