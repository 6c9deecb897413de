"""The policy as an agent needs it: which model for which task, and what each must not attempt.

The group of a task type is what the proxy's own deciding answers for it, so that the texts made
from this cannot name another.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from budgets.learned import Learned
from hooks import advice
from hooks.decide import decide
from hooks.decision import Caller, Decision
from hooks.levels import Tier
from hooks.policy import Policy
from hooks.request import read_request
from hooks.routing import AUTO
from hooks.tokens import TokenCounts

SHORT = TokenCounts(text=20, frame=8)
"""The size of a short request: a task type's floor is seen best where size has no say."""

FAMILIES = ("haiku", "sonnet", "opus")
"""Names that people know a vendor's models by. Where every tier has its own, commands are named by
them, else by tier."""


class Target(StrEnum):
    """Whose files are written."""

    CLAUDE_CODE = "claude-code"
    CODEX = "codex"
    CURSOR = "cursor"
    GENERIC = "generic"


VENDOR_OF = {Target.CLAUDE_CODE: "anthropic"}
"""The vendor whose models an agent takes best; others take what the policy prefers."""


@dataclass(frozen=True, slots=True)
class Task:
    """A task type with the group that serves it."""

    name: str
    aliases: tuple[str, ...]
    tier: Tier
    category: str
    group: str
    consequence: str
    why: str
    escalation: str


@dataclass(frozen=True, slots=True)
class Session:
    """The model to work with at one tier, and what it is for.

    `models` are the names that the provider calls it by; `never` are the task types that need a
    stronger one, `lighter` those that a cheaper one would do.
    """

    tier: Tier
    group: str
    title: str
    models: tuple[str, ...]
    command: str
    optimal: tuple[str, ...]
    never: tuple[str, ...]
    lighter: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Known:
    """A group that a session may run on."""

    group: str
    title: str
    tier: Tier
    models: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Guide:
    """Everything that the texts are made of."""

    target: Target
    tasks: tuple[Task, ...]
    sessions: tuple[Session, ...]
    models: tuple[Known, ...]

    def session(self, tier: Tier) -> Session:
        """Return the session model of a tier; where the policy has none, the next stronger one."""
        able = [it for it in self.sessions if it.tier.rank >= tier.rank]
        return min(able, key=lambda it: it.tier.rank, default=self.sessions[-1])


def guide_of(policy: Policy, target: Target = Target.GENERIC) -> Guide:
    """Return the guide of a policy, for an agent of that kind."""
    tasks = tuple(
        Task(
            name=name,
            aliases=task.aliases,
            tier=task.tier,
            category=task.floor,
            group=serving_group(policy, name),
            consequence=task.consequence.value,
            why=task.why,
            escalation=task.escalation,
        )
        for name, task in policy.routing.task_types.items()
    )
    chosen = _session_groups(policy, tasks, VENDOR_OF.get(target))
    sessions = tuple(_session(policy, tier, group, tasks) for tier, group in chosen.items())
    families = [_family(it) for it in sessions]
    if None not in families and len(set(families)) == len(families):
        sessions = tuple(
            replace(it, command=f"use-{family}")
            for it, family in zip(sessions, families, strict=True)
        )
    return Guide(target, tasks, sessions, _known(policy))


def serving_group(policy: Policy, task_type: str) -> str:
    """Return the group that a short request of the task type goes to, asked for as `auto`."""
    made = _decided(policy, "-", {"x-farebox-task-type": task_type})
    enforced = made.would.group if made.would is not None else made.group
    return enforced or advice.preferred(policy, task_type)


def task_type_of(policy: Policy, text: str) -> tuple[str, str]:
    """Return the task type that the proxy would find a text to be, and why."""
    made = _decided(policy, text, {})
    return made.task_type, made.task_why


def _decided(policy: Policy, text: str, headers: Mapping[str, str]) -> Decision:
    body = {"model": AUTO, "messages": [{"role": "user", "content": text}]}
    view = read_request(body, "acompletion", headers)
    return decide(policy, view, SHORT, Caller(), Learned(), "guide")


def provider_models(policy: Policy, group: str) -> tuple[str, ...]:
    """Return what the providers call a group's models, without the provider's name."""
    found = policy.groups.groups[group]
    return tuple(dict.fromkeys(d.model.rpartition("/")[2] for d in found.deployments))


def find_group(policy: Policy, name: str) -> str | None:
    """Return the group that a session's model is: by the group's name or by the provider's.

    A provider's own name may carry a date (`claude-opus-5-5-20260801`) or a mark of the context's
    size (`claude-opus-5-5[1m]`).
    """
    bare = re.sub(r"\[[^\]]*\]$", "", name.strip()).lower()
    groups = {group.lower(): group for group in policy.groups.groups}
    if bare in groups:
        return groups[bare]
    bare = bare.rpartition("/")[2]
    base = [name for name, it in policy.groups.groups.items() if it.primary is None]
    for wanted in (bare, re.sub(r"-\d{8}$", "", bare)):
        for group in base:
            if wanted in [model.lower() for model in provider_models(policy, group)]:
                return group
    return None


def _session_groups(policy: Policy, tasks: tuple[Task, ...], vendor: str | None) -> dict[Tier, str]:
    """Return the group of each tier that has task types: the vendor's where it has all of them."""
    tiers = [tier for tier in Tier if any(task.tier is tier for task in tasks)]
    if vendor is not None:
        theirs: dict[Tier, str] = {}
        for name, facts in policy.routing.models.items():
            if facts.vendor.lower() == vendor and name in policy.groups.groups:
                theirs.setdefault(facts.tier, name)
        if all(tier in theirs for tier in tiers):
            return {tier: theirs[tier] for tier in tiers}
    groups: dict[Tier, str] = {}
    for tier in tiers:
        served = [task.group for task in tasks if task.tier is tier]
        groups[tier] = max(dict.fromkeys(served), key=served.count)
    return groups


def _session(policy: Policy, tier: Tier, group: str, tasks: tuple[Task, ...]) -> Session:
    facts = policy.facts(group)
    return Session(
        tier=tier,
        group=group,
        title=facts.title if facts else group,
        models=provider_models(policy, group),
        command=f"use-{tier.value}",
        optimal=tuple(task.name for task in tasks if task.tier is tier),
        never=tuple(task.name for task in tasks if task.tier.rank > tier.rank),
        lighter=tuple(task.name for task in tasks if task.tier.rank < tier.rank),
    )


def _family(session: Session) -> str | None:
    shown = " ".join((session.group, session.title, *session.models)).lower()
    return next((name for name in FAMILIES if name in shown), None)


def _known(policy: Policy) -> tuple[Known, ...]:
    found = []
    for name, group in policy.groups.groups.items():
        facts = policy.facts(name)
        if group.primary is None and facts is not None:
            found.append(Known(name, facts.title, facts.tier, provider_models(policy, name)))
    return tuple(sorted(found, key=lambda it: it.tier.rank))


def tier_of(policy: Policy, group: str) -> Tier | None:
    """Return the tier of a group, None where the policy has no facts about it."""
    facts = policy.facts(group)
    return None if facts is None else facts.tier
