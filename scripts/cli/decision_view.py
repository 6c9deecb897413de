"""A decision in words and as a table, from its stored form.

Reads the dictionary that the proxy stores, and nothing else, so that a decision of last week and
one that was made just now look the same. A field that an older release did not write is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from hooks.router import verdict as router_verdict
from scripts.cli.output import clean, cost, facts, table, text

SOURCES = {
    "caller": "named by the request",
    "rule": "fixed by a task rule",
    "classifier": "found by its content",
    "keywords": "found by keywords",
    "signals": "found by its signals",
    "default": "nothing speaks for one",
}


def why(decision: Mapping[str, Any]) -> str:
    """Return in a few words why a request got its category; empty where that is not known."""
    task_type, category = decision.get("task_type"), decision.get("category")
    if not task_type or not category:
        return ""
    if decision.get("requested") == category:
        return f"{task_type}, by its name"
    if category == decision.get("category_by_tokens"):
        return f"{task_type}, {_size(decision):,} tokens"
    return f"{task_type}, its floor"


def _category_reason(decision: Mapping[str, Any]) -> str:
    """Return what made the category: the name asked for, the size, or the task type's floor."""
    category, floor = decision.get("category"), decision.get("floor")
    by_tokens, requested = decision.get("category_by_tokens"), decision.get("requested")
    size = f"{_size(decision):,} tokens"
    if requested == category:
        return "asked for by its name"
    session = decision.get("session")
    if isinstance(session, Mapping) and session.get("raised_from"):
        return f"its session's; alone it would be {session['raised_from']}"
    if category == by_tokens:
        return f"by size, {size}" if category != floor else f"by size ({size}) and floor"
    if category == floor:
        return f"its floor; by size ({size}) {by_tokens}"
    return f"{size}, floor {floor}"


def _size(decision: Mapping[str, Any]) -> int:
    return _whole(decision.get("input_tokens")) + _whole(decision.get("expected_output_tokens"))


def _whole(value: object) -> int:
    return value if isinstance(value, int) else 0


def show(out: Console, decision: Mapping[str, Any]) -> None:
    """Print the decision: one sentence, the steps to it, the candidates."""
    out.print(_sentence(decision))
    out.print()
    out.print(facts(dict(_steps(decision))))
    candidates = _candidates(decision)
    if candidates:
        _show_candidates(out, candidates, decision.get("group"))
    for warning in _names(decision.get("warnings")):
        out.print(text(f"Warning: {warning}", "yellow"))


def _sentence(decision: Mapping[str, Any]) -> Text:
    requested = clean(decision.get("requested") or "?")
    code, group, would = decision.get("code"), decision.get("group"), decision.get("would")
    if code:
        line = Text.assemble((f"“{requested}” would be refused: {clean(code)}.", "bold red"))
        # The candidates' reasons follow the first sentence; they are in the table below.
        message = clean(str(decision.get("message") or "")).partition(" | ")[0]
        return line.append(f" {message}" if not _candidates(decision) else "")
    line = Text.assemble(f"“{requested}” goes to ", (clean(group or "?"), "bold green"), ".")
    if isinstance(would, Mapping):
        line.append(" Shadow mode changes nothing; enforcement would have ")
        if would.get("code"):
            line.append(f"refused it ({clean(would['code'])}).", style="red")
        else:
            line.append(f"sent it to {clean(would.get('group') or '?')}.", style="yellow")
    return line


def _steps(decision: Mapping[str, Any]) -> Iterator[tuple[str, Text | str]]:
    get = decision.get
    if get("task_type"):
        source = SOURCES.get(str(get("task_source")), str(get("task_source") or "?"))
        yield "Task type", f"{get('task_type')}, {source}: {get('task_why') or '–'}"
        yield "Needs", f"tier {get('tier')}, consequence {get('consequence')}, floor {get('floor')}"
        if get("tier_floor"):
            yield "No downgrade", f"no model below the tier {get('tier_floor')} may serve it"
        if form := _form(get("signals")):
            yield "Signals", form
        if isinstance(session := get("session"), Mapping):
            yield "Session", _session(session)
        expected_out = _whole(get("expected_output_tokens"))
        size = f"{_whole(get('input_tokens')):,} tokens in, {expected_out:,} expected out"
        yield "Size", f"{size}: {get('category_by_tokens')}"
        yield (
            "Category",
            Text.assemble(
                (clean(get("category")), "bold"), f", {clean(_category_reason(decision))}"
            ),
        )
    if isinstance(get("router"), Mapping):
        yield "Router", router_verdict.described(decision["router"])
    winner = _candidate(decision, get("group"))
    costs = winner.get("cost") if winner else None
    if isinstance(costs, Mapping) and not get("code"):
        expected, most = costs.get("estimate_nano_usd"), costs.get("hold_nano_usd")
        yield "Cost", f"{cost(expected)} expected, {cost(most)} at most (the hold)"
        tokens_in, tokens_in_max = costs.get("input_tokens"), costs.get("input_tokens_max")
        tokens_out, tokens_out_max = costs.get("output_tokens"), costs.get("output_tokens_max")
        there = f"{_whole(tokens_in):,} in (at most {_whole(tokens_in_max):,}), "
        there += f"{_whole(tokens_out):,} out (at most {_whole(tokens_out_max):,})"
        yield "Tokens there", there
    fallbacks = _names(get("fallbacks"))
    if fallbacks:
        yield "Fallbacks", ", ".join(fallbacks)
    if steps := [escalated(one) for one in get("escalation") or () if isinstance(one, Mapping)]:
        yield "Escalation", "\n".join(steps)
    if get("output_tokens_cap"):
        yield "Output cap", f"{get('output_tokens_cap'):,} tokens: the request sets no maximum"
    if stripped := _names(get("stripped")):
        yield "Not passed on", ", ".join(stripped)
    yield "Mode", str(get("mode") or "?")
    if get("id") or get("decision_id"):
        yield "Decision", str(get("id") or get("decision_id"))


def _form(signals: object) -> str:
    """Return the signals of a request in words; how many characters it has is no news."""
    if not isinstance(signals, Mapping):
        return ""
    told = []
    for name, value in signals.items():
        word = str(name).replace("_", " ")
        if value is True:
            told.append(word)
        elif name not in ("chars", "turns") or (name == "turns" and value != 1):
            shown = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
            told.append(f"{word} {shown}")
    return "; ".join(told)


def _session(session: Mapping[str, Any]) -> str:
    was = f"was at {session.get('category')} with {session.get('group')}"
    if session.get("held_down"):
        return f"{was}; held down: {session['held_down']}"
    if session.get("raised_from"):
        return f"{was}; raised from {session['raised_from']}"
    return was


def escalated(step: Mapping[str, Any]) -> str:
    """Return one step of an escalation in words."""
    what = (
        f"{step.get('step')}: {step.get('group')}" if step.get("group") else str(step.get("step"))
    )
    detail = f" ({step.get('detail')})" if step.get("detail") else ""
    return f"{what} {step.get('outcome')}{detail}"


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
    drops = candidate.get("drops")
    if isinstance(drops, list) and drops:
        return Text("\n").join(
            text(f"{one.get('constraint')}: needs {one.get('needed')}, has {one.get('has')}")
            for one in drops
            if isinstance(one, Mapping)
        )
    if candidate.get("reason"):
        return text(candidate["reason"])
    latency = candidate.get("latency_ms")
    return text(f"about {latency / 1000:.1f} s" if isinstance(latency, int) else "", "dim")


def _candidates(decision: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found = decision.get("candidates")
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []


def _candidate(decision: Mapping[str, Any], group: object) -> Mapping[str, Any] | None:
    return next((one for one in _candidates(decision) if one.get("group") == group), None)


def _names(value: object) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list | tuple) else []
