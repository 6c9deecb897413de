"""A decision as a table on a terminal, in the words of `hooks.explained`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from hooks import explained
from hooks.explained import candidates, names
from scripts.cli.output import clean, cost, facts, lines, table, text


def show(out: Console, decision: Mapping[str, Any]) -> None:
    """Print the decision: one sentence, the steps to it, the candidates."""
    out.print(_sentence(decision))
    out.print()
    out.print(facts(dict(_steps(decision))))
    found = candidates(decision)
    if found:
        _show_candidates(out, found, decision.get("group"))
    for warning in names(decision.get("warnings")):
        out.print(text(f"Warning: {warning}", "yellow"))


def _sentence(decision: Mapping[str, Any]) -> Text:
    requested = clean(decision.get("requested") or "?")
    code, group, would = decision.get("code"), decision.get("group"), decision.get("would")
    if code:
        line = Text.assemble((f"“{requested}” would be refused: {clean(code)}.", "bold red"))
        # The candidates' reasons follow the first sentence; they are in the table below.
        message = clean(str(decision.get("message") or "")).partition(" | ")[0]
        return line.append(f" {message}" if not candidates(decision) else "")
    line = Text.assemble(f"“{requested}” goes to ", (clean(group or "?"), "bold green"), ".")
    if isinstance(would, Mapping):
        line.append(" Shadow mode changes nothing; enforcement would have ")
        if would.get("code"):
            line.append(f"refused it ({clean(would['code'])}).", style="red")
        else:
            line.append(f"sent it to {clean(would.get('group') or '?')}.", style="yellow")
    return line


def _steps(decision: Mapping[str, Any]) -> Iterator[tuple[str, Text | str]]:
    for name, said in explained.steps(decision):
        if name == "Category":
            category, comma, reason = said.partition(",")
            yield name, Text.assemble((clean(category), "bold"), clean(comma + reason))
        else:
            yield name, lines(said)


def _show_candidates(out: Console, candidates: Sequence[Mapping[str, Any]], group: object) -> None:
    made = table("Candidate", "", "Expected", "At most", "Why", right=["Expected", "At most"])
    for one in candidates:
        costs = one.get("cost")
        costs = costs if isinstance(costs, Mapping) else {}
        is_kept, is_winner = bool(one.get("kept")), one.get("group") == group
        verdict = "wins" if is_winner else "kept" if is_kept else "dropped"
        style = "bold green" if is_winner else "green" if is_kept else "red"
        made.add_row(
            text(one.get("group"), "bold" if is_winner else ""),
            text(verdict, style),
            cost(costs.get("estimate_nano_usd")),
            cost(costs.get("hold_nano_usd")),
            _reasons(one),
        )
    out.print(made)


def _reasons(candidate: Mapping[str, Any]) -> Text:
    is_dropped = bool(candidate.get("drops") or candidate.get("reason"))
    style = "" if is_dropped else "dim"
    return Text("\n").join(text(one, style) for one in explained.reasons(candidate))
