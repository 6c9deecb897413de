"""A decision in words, from its stored form: for the command and for the dashboard. Pure.

Reads the dictionary that the proxy stores, and nothing else, so that a decision of last week and
one that was made just now look the same. A field that an older release did not write is left out.
The words hold names that callers chose: who shows them makes them harmless there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from budgets import money
from hooks.router import verdict as router_verdict

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


def steps(decision: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what led to a decision, each with its name, in the order of the deciding."""
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
        size = f"{_whole(get('input_tokens')):,} tokens in{_between(get('input_tokens_between'))}"
        size += f", {expected_out:,} expected out"
        yield "Size", f"{size}: {get('category_by_tokens')}"
        yield "Category", f"{get('category')}, {_category_reason(decision)}"
    if isinstance(get("router"), Mapping):
        yield "Router", router_verdict.described(decision["router"])
    winner = candidate(decision, get("group"))
    costs = winner.get("cost") if winner else None
    if isinstance(costs, Mapping) and not get("code"):
        expected, most = costs.get("estimate_nano_usd"), costs.get("hold_nano_usd")
        yield "Cost", f"{_cost(expected)} expected, {_cost(most)} at most (the hold)"
        tokens_in, tokens_in_max = costs.get("input_tokens"), costs.get("input_tokens_max")
        tokens_out, tokens_out_max = costs.get("output_tokens"), costs.get("output_tokens_max")
        there = f"{_whole(tokens_in):,} in (at most {_whole(tokens_in_max):,}), "
        there += f"{_whole(tokens_out):,} out (at most {_whole(tokens_out_max):,})"
        yield "Tokens there", there
    fallbacks = names(get("fallbacks"))
    if fallbacks:
        yield "Fallbacks", ", ".join(fallbacks)
    if tried := [escalated(one) for one in get("escalation") or () if isinstance(one, Mapping)]:
        yield "Escalation", "\n".join(tried)
    if get("output_tokens_cap"):
        yield "Output cap", f"{get('output_tokens_cap'):,} tokens: the request sets no maximum"
    if stripped := names(get("stripped")):
        yield "Not passed on", ", ".join(stripped)
    yield "Mode", str(get("mode") or "?")
    if get("id") or get("decision_id"):
        yield "Decision", str(get("id") or get("decision_id"))


def _between(bounds: object) -> str:
    """Return how sure an estimated count is; nothing where it is exact."""
    if not isinstance(bounds, list | tuple) or len(bounds) != 2:
        return ""
    return f" (counted: estimated, {_whole(bounds[0]):,} to {_whole(bounds[1]):,})"


def sentence(decision: Mapping[str, Any]) -> str:
    """Return what became of a request, in a sentence or two."""
    requested, group = decision.get("requested") or "?", decision.get("group") or "?"
    if code := decision.get("code"):
        # The candidates' reasons follow the first sentence; they stand in the table.
        message = str(decision.get("message") or "").partition(" | ")[0]
        said = f"“{requested}” is refused: {code}."
        return f"{said} {message}" if message and not candidates(decision) else said
    said, would = f"“{requested}” goes to {group}.", decision.get("would")
    if not isinstance(would, Mapping):
        return said
    if would.get("code"):
        return f"{said} Shadow mode changes nothing; enforcement would refuse: {would['code']}."
    return f"{said} Shadow mode changes nothing; enforcement would send it to {would.get('group')}."


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


def reasons(one: Mapping[str, Any]) -> list[str]:
    """Return why a candidate was dropped; how long it would take, where it was kept."""
    drops = one.get("drops")
    if isinstance(drops, list) and drops:
        return [
            f"{it.get('constraint')}: needs {it.get('needed')}, has {it.get('has')}"
            for it in drops
            if isinstance(it, Mapping)
        ]
    if one.get("reason"):
        return [str(one["reason"])]
    latency = one.get("latency_ms")
    return [f"about {latency / 1000:.1f} s"] if isinstance(latency, int) else []


def candidates(decision: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the candidates, in the order of the chain."""
    found = decision.get("candidates")
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []


def candidate(decision: Mapping[str, Any], group: object) -> Mapping[str, Any] | None:
    """Return the candidate of that name."""
    return next((one for one in candidates(decision) if one.get("group") == group), None)


def names(value: object) -> list[str]:
    """Return a list of texts; empty for anything else."""
    return [str(one) for one in value] if isinstance(value, list | tuple) else []


def _cost(nano_usd: object) -> str:
    return money.cost(nano_usd) if isinstance(nano_usd, int) else "–"
