"""Which model answered: another one than was sent to, or another version or price. Pure.

These are facts and no matter of chance, so one answer is enough. A provider's names vary: a date,
`latest`, a region or a folder in front make no other model, so `gpt-x-2026-01-01` is a version of
`gpt-x`; `gpt-x-mini` is another model.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from budgets.drift.state import Look, State

CLEAR_ENTRIES = 500
"""A finding is over when so many answers in a row were as expected."""
NAMES_MAX = 20

_REGION = re.compile(r"^(?:us|eu|apac|jp|au|ca|sa|me|af|global)\.(?=[a-z])")
_VENDOR = re.compile(r"^[a-z][a-z0-9]*\.(?=[a-z])")
_VERSION = re.compile(
    r"[-@:](?:\d{4}-\d{2}-\d{2}|\d{8}|\d{6}|\d{2}-\d{2}|\d{2}-\d{4}|\d{3,4}|v\d+:\d+"
    r"|latest|preview|exp|default)$"
)


def family(name: str) -> str:
    """Return what a model is called without its version, its region and its provider."""
    found = name.strip().lower().rpartition("/")[2]
    found = _VENDOR.sub("", _REGION.sub("", found))
    while (shorter := _VERSION.sub("", found)) not in (found, ""):
        found = shorter
    return found.replace(".", "").replace("-", "").replace("_", "")


def same(one: str, other: str, aliases: Sequence[Sequence[str]] = ()) -> bool:
    """Say whether two names are of one model; `aliases` are further names that are."""
    if family(one) == family(other):
        return True
    families = {family(one), family(other)}
    return any(families <= {family(name) for name in row} for row in aliases)


def differs(state: State, answers: Sequence[tuple[str, str]], time_ms: int) -> Look:
    """Take in answers that are (sent to, answered by) and not the same model, or ("", "") if same.

    A pair that a person accepted is in order from then on.
    """
    odd = [f"{sent} → {by}" for sent, by in answers if sent and f"{sent} → {by}" not in state.names]
    return _facts(state, len(answers), odd, time_ms)


def changed(state: State, answers: Sequence[tuple[str, str]], time_ms: int) -> Look:
    """Take in what answers say of a model, as (what about it, what): its version, its price.

    The first that is said is what it was; another one is a change, until a person accepts it.
    """
    odd = []
    for about, what in answers:
        if not any(name.startswith(f"{about} ") for name in state.names):
            state = replace(state, names=(*state.names, f"{about} {what}")[-NAMES_MAX:])
        elif f"{about} {what}" not in state.names:
            odd.append(f"{about} {what}")
    return _facts(state, len(answers), odd, time_ms)


def before(state: State) -> str:
    """Return what was known of that which has changed; empty where nothing was."""
    known = [name for name in state.names if _about(name) == _about(state.detail)]
    return known[-1] if known else ""


def _about(name: str) -> str:
    return " ".join(name.split(" ")[:2])


def accepted(state: State, what: str) -> State:
    """Return the state with a change taken for normal."""
    names = (*(it for it in state.names if it != what), what)[-NAMES_MAX:]
    return State(accepted=True, seen_ms=state.seen_ms, names=names)


def _facts(state: State, answers: int, odd: Sequence[str], time_ms: int) -> Look:
    quiet = 0 if odd else state.quiet + answers
    state = replace(state, quiet=quiet)
    if quiet >= CLEAR_ENTRIES:
        state = replace(state, entries=0, hits=(), detail="", since_ms=0)
    count = (state.hits[0] if state.hits else 0) + len(odd)
    if count:
        state = replace(
            state,
            since_ms=state.since_ms or time_ms,
            entries=state.entries + answers,
            hits=(count,),
            # The last odd one is what is told of.
            detail=odd[-1] if odd else state.detail,
        )
    observed = count / state.entries if count else None
    return Look(state, float(count), 1.0, 0.0 if count else None, observed, state.detail)
