"""Who asks, and by which way: what task rules and data rules look at. Pure.

Names of keys, teams and users come from authentication, tags only from the caller's own word.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

from budgets.quick import quick
from hooks.tasks.types import RuleMatch

ENDPOINTS = {
    "acompletion": "chat",
    "atext_completion": "completions",
    "aresponses": "responses",
    "anthropic_messages": "messages",
    "aembedding": "embeddings",
}
"""What people call the endpoint of each call type."""


@quick
@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks, as far as rules look at it."""

    call_type: str
    model: str | None = None
    key: str | None = None
    team: str | None = None
    user: str | None = None
    tags: tuple[str, ...] = ()


def matches(match: RuleMatch, asker: Asker) -> bool:
    """Say whether all that a rule looks at holds."""
    given: tuple[tuple[tuple[str, ...] | None, tuple[str | None, ...]], ...] = (
        (match.endpoint, (ENDPOINTS.get(asker.call_type),)),
        (match.call_type, (asker.call_type,)),
        (match.model, (asker.model,)),
        (match.key, (asker.key,)),
        (match.team, (asker.team,)),
        (match.user, (asker.user,)),
        (match.tag, asker.tags),
    )
    return all(wanted is None or _any(wanted, has) for wanted, has in given)


def _any(wanted: tuple[str, ...], has: tuple[str | None, ...]) -> bool:
    """Whether one of the names fits one that is wanted; `*` stands for any letters."""
    return any(
        name is not None and (name == one or ("*" in one and fnmatchcase(name, _literal(one))))
        for one in wanted
        for name in has
    )


def _literal(pattern: str) -> str:
    """Return a pattern in which `*` alone means something."""
    return pattern.replace("[", "[[]").replace("?", "[?]")
