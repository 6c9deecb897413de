"""What the watch for drift needs of the policy in force. Pure.

The watch is in `budgets` and knows no policy; it gets a `Watchlist` at every look, so an edit holds
from the next one on.
"""

from __future__ import annotations

from budgets.drift.lengths import Profile
from budgets.drift.watchlist import Limits, Watchlist
from hooks.policy import Policy
from hooks.router.artefact import Artefact
from hooks.routing import UNCLASSIFIED
from hooks.shadow_compare.caps import KEY_NAME
from hooks.tasks.types import TaskType


def watchlist_of(policy: Policy) -> Watchlist:
    """Return the policy as far as drift goes."""
    routing, artefact = policy.routing, policy.router.artefact
    groups = policy.groups.groups
    # Callers may name a group by its alias.
    names = {name: name for name in groups} | dict(policy.groups.aliases)
    tiers = {name: it.tier.value for name, group in names.items() if (it := policy.facts(group))}
    tasks = {**routing.task_types, UNCLASSIFIED: routing.unclassified}
    return Watchlist(
        settings=routing.drift,
        limits={name: _limits(policy, task) for name, task in tasks.items()},
        latency_ms={
            name: it.constraints.latency_p50_ms_max
            for name, it in routing.categories.items()
            if it.constraints.latency_p50_ms_max is not None
        },
        tiers=tiers,
        named=frozenset(it for it, group in names.items() if group not in routing.categories),
        profiles=_profiles(artefact) if artefact is not None else {},
        artefact=artefact.id if artefact is not None else "",
        own_keys=frozenset({KEY_NAME}),
    )


def _limits(policy: Policy, task: TaskType) -> Limits:
    given = policy.routing.categories[task.floor].monitoring
    return Limits(
        escalation_rate=given.escalation_rate_max,
        tier_mismatch=given.tier_mismatch_max,
        output_growth=given.output_growth_max,
        estimate_error=given.estimate_error_max,
    )


def _profiles(artefact: Artefact) -> dict[tuple[str, str], Profile]:
    """Return how the profile's scores and lengths were spread, for each task type in it."""
    found: dict[tuple[str, str], Profile] = {}
    bins, name = artefact.distribution, artefact.id
    for task, known in bins.task_types.items():
        if known.count:
            scores = Profile(name, bins.score_bounds, known.scores)
            lengths = Profile(name, tuple(map(float, bins.length_bounds)), known.lengths)
            found["score_distribution", task] = scores
            found["input_length", task] = lengths
    return found
