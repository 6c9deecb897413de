"""Where a request goes by the router's word: which category, and which groups come first. Pure.

`cheap` waives the task type's floor, which is a rule of thumb, for a measured promise: the category
is the one by size, and the cheap group comes first, then the strong one. All hard conditions hold
as ever: the category's constraints, the key's groups, the caps. Where they drop the cheap group,
the strong one's way is taken. `strong` keeps the category and puts the strong group first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from budgets.quick import replace
from hooks import sessions
from hooks.policy import Policy
from hooks.router.verdict import follows

if TYPE_CHECKING:
    from hooks.decision import Decision

Walk = Callable[["Decision", str, tuple[str, ...]], "Decision"]
"""Walks the chain from a start, with some groups before it."""


def choose(policy: Policy, base: Decision, start: str, walk: Walk) -> Decision:
    """Return the decision that the verdict in `base` leads to."""
    verdict, artefact = base.router, policy.router.artefact
    if verdict is None or artefact is None or not follows(verdict):
        return walk(base, start, ())
    cheap = _plain(policy, artefact.cheap.group)
    strong = _plain(policy, artefact.strong.group)
    followed = replace(verdict, followed=True)
    if verdict.side == "cheap":
        routing, size = policy.routing, base.category_by_tokens
        same_mode = (routing.categories[size].mode or routing.mode) is base.mode
        if sessions.falls(policy, base, size):
            why = f"its session is in {base.session.category}" if base.session else ""
        elif size in policy.groups.groups and same_mode:
            lower = replace(base, category=size, router=followed)
            chosen = walk(lower, size, (cheap, strong))
            if chosen.group == cheap:
                return chosen
            dropped = chosen.candidate(cheap)
            why = dropped.reason if dropped is not None else "it is not among the candidates"
        else:
            why = f"{size} has another mode"
        followed = replace(
            followed, side="strong", group=strong, why=f"{cheap} would do, but {why}"
        )
    chosen = walk(replace(base, router=followed), start, (strong,))
    if chosen.group != strong:
        # Other groups of the chain may serve it: that is the policy's word and not the router's.
        return replace(chosen, router=replace(followed, followed=False))
    return chosen


def _plain(policy: Policy, group: str) -> str:
    """Return the group to call; a category's name stands for its base group."""
    return policy.groups.groups[group].primary or group
