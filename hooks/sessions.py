"""Sessions only rise: what a known session changes in a decision. Pure.

A session is a key with the `session_id` of its caller. Its category is the largest that any of its
requests went to, so that quality does not fall in the middle of a conversation, and its group is
the one that serves it, so that a provider's prompt cache holds. A budget or a constraint may hold a
request down; then the decision says so, and the session stays what it was.

What is known of a session is handed in (`budgets.sessions` keeps it), so that a decision can be
made again. A group that is asked for by its name takes no part in any of this.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from budgets.quick import quick, replace
from budgets.sessions.types import SessionState

if TYPE_CHECKING:
    from hooks.decision import Candidate, Decision
    from hooks.policy import Policy

__all__ = ["SessionNote", "SessionState", "held_down", "raised", "same_group_first", "told"]

HELD_DOWN = "session_held_down"


@quick
@dataclass(frozen=True, slots=True)
class SessionNote:
    """What a session had to do with a decision.

    `category` and `group` are what the session had before it. `raised_from` is the category that
    the request alone would have had; `held_down` is why it did not rise, or went to a lower tier.
    """

    category: str
    group: str
    raised_from: str = ""
    held_down: str = ""
    same_group: bool = False


def raised(policy: Policy, base: Decision, session: SessionState, held: str) -> Decision:
    """Return a decision that is not made yet in the category of its session, if that is larger."""
    routing = policy.routing
    if session.category not in routing.categories:
        return base  # The policy has another set of categories by now.
    note = SessionNote(session.category, session.group)
    if not routing.sessions.only_rise:
        return replace(base, session=note)
    larger = routing.larger(base.category, session.category)
    if larger == base.category:
        return replace(base, session=note)
    if held:
        return held_down(replace(base, session=note), None, held)
    return replace(
        base,
        category=larger,
        mode=routing.categories[larger].mode or routing.mode,
        session=replace(note, raised_from=base.category),
    )


def falls(policy: Policy, base: Decision, category: str) -> bool:
    """Say whether a category is below the one that the session of a decision is in."""
    routing, note = policy.routing, base.session
    if note is None or note.held_down or not routing.sessions.only_rise:
        return False
    return routing.larger(category, note.category) != category


def held_down(alone: Decision, risen: Decision | None, reason: str) -> Decision:
    """Return the decision without the rise, saying why it did not come to it."""
    note = (risen or alone).session
    assert note is not None
    return replace(
        alone,
        session=replace(note, raised_from="", held_down=reason),
        warnings=(*alone.warnings, f"{HELD_DOWN}: {reason}, so it stays in {alone.category}"),
    )


def same_group_first(
    policy: Policy, base: Decision, candidates: list[Candidate]
) -> list[Candidate]:
    """Return the candidates with the session's group first, where that is no step down.

    Its tier must be that of the group which would win, or higher: a group that had to step in once
    does not keep a session low.
    """
    if base.session is None or not policy.routing.sessions.same_group:
        return candidates
    kept = [it for it in candidates if it.kept]
    same = next((it for it in kept if it.group == base.session.group), None)
    if same is None or _rank(policy, same.group) < _rank(policy, kept[0].group):
        return candidates
    return [same, *(it for it in candidates if it is not same)]


def told(policy: Policy, made: Decision) -> Decision:
    """Return a finished decision that says what its session did, and when it steps down in tier."""
    note = made.session
    if note is None or made.group is None:
        return made
    note = replace(note, same_group=made.group == note.group)
    lower = _rank(policy, made.group) < _rank(policy, note.group)
    if not lower or note.held_down or not policy.routing.sessions.only_rise:
        return replace(made, session=note)
    dropped = made.candidate(note.group)
    why = dropped.reason if dropped is not None and not dropped.kept else "not in this chain"
    reason = f"{note.group} cannot serve this request ({why})"
    return replace(
        made,
        session=replace(note, held_down=reason),
        warnings=(*made.warnings, f"{HELD_DOWN}: {note.group} cannot serve it, {made.group} does"),
    )


def _rank(policy: Policy, group: str) -> int:
    """Return the rank of a group's tier; that of an unknown one is below all others."""
    facts = policy.facts(group)
    return facts.tier.rank if facts is not None else -1
