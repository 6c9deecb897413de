"""What is said where the model that does a task is not of the tier that the task needs. Pure.

The proxy says it of a request that names a group, `farebox agents` says it of a session: both from
here, so that they cannot disagree. Nothing is changed by it: a named model is respected.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hooks.levels import Tier
from hooks.policy import Policy
from hooks.routing import AUTO, UNCLASSIFIED

BELOW, ABOVE = "below", "above"

NEW_SESSION = "Start a new session with {model}."
FLAG = "Continue, and flag the output for a separate review."
PROCEED = "Proceed, and acknowledge that the result is not comprehensive."


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A task on a model of another tier. `side` says where the model stands to the task."""

    task_type: str
    needs: Tier
    group: str
    has: Tier
    side: str

    @property
    def warning(self) -> str:
        """The line of `x-farebox-warning`."""
        needs = f"{self.task_type} needs the tier {self.needs.value}"
        return f"model_{self.side}_task: {needs}, {self.group} is {self.has.value}"


@dataclass(frozen=True, slots=True)
class Advice:
    """A mismatch with what to do about it: three options, and which of them fits when.

    `recommended` is the group that the policy prefers for the task type; `production` and `draft`
    are the numbers of the options for either kind of work.
    """

    mismatch: Mismatch
    recommended: str
    why: str
    options: tuple[str, str, str]
    production: int = 1
    draft: int = 2

    @property
    def text(self) -> str:
        """The announcement, as it is shown before a task is begun."""
        found = self.mismatch
        what = (
            f"Model mismatch: this task is {found.task_type}, which needs the tier "
            f"{found.needs.value}; {found.group} is of the tier {found.has.value}."
        )
        lines = [
            what,
            f"Current model: {found.group}. Recommended: {self.recommended}.",
            f"Why: {self.why}" if self.why else "",
            *(f"({number}) {option}" for number, option in enumerate(self.options, 1)),
            self.recommendation,
        ]
        return "\n".join(line for line in lines if line)

    @property
    def recommendation(self) -> str:
        """Which option fits."""
        if self.production == self.draft:
            return (
                f"Recommended: {self.production}. A stronger model can do the lighter task; it "
                "only costs more."
            )
        return f"Recommended: {self.production} for production code, {self.draft} for a draft."

    def as_dict(self) -> dict[str, Any]:
        """Return the advice as data for JSON."""
        found = self.mismatch
        return {
            "mismatch": found.side,
            "task_type": found.task_type,
            "needs_tier": found.needs.value,
            "model": found.group,
            "model_tier": found.has.value,
            "recommended_model": self.recommended,
            "why": self.why,
            "options": [
                {"number": number, "text": option} for number, option in enumerate(self.options, 1)
            ],
            "recommended_option": {"production": self.production, "draft": self.draft},
            "announcement": self.text,
        }


def mismatch(policy: Policy, task_type: str, group: str) -> Mismatch | None:
    """Return how a group and a task type do not go together; None where they do.

    Nothing is said of a group without facts, nor of a task that nothing was found for.
    """
    facts = policy.facts(group)
    if facts is None or task_type == UNCLASSIFIED:
        return None
    needs = policy.routing.task(task_type).tier
    if facts.tier.rank == needs.rank:
        return None
    side = BELOW if facts.tier.rank < needs.rank else ABOVE
    return Mismatch(task_type, needs, group, facts.tier, side)


def advise(
    policy: Policy, task_type: str, group: str, recommended: str | None = None
) -> Advice | None:
    """Return what to do about a mismatch; None where group and task type go together.

    `recommended` is the group to recommend; the one that the policy prefers, unless given.
    """
    found = mismatch(policy, task_type, group)
    if found is None:
        return None
    task = policy.routing.task(task_type)
    recommended = recommended or preferred(policy, task_type)
    # A stronger model than needed does no harm: going on is the advice then, whatever the work.
    production, draft = (1, 2) if found.side == BELOW else (3, 3)
    last = PROCEED if found.side == BELOW else f"Proceed; {recommended} would do for less."
    return Advice(
        mismatch=found,
        recommended=recommended,
        why=task.why,
        options=(NEW_SESSION.format(model=recommended), FLAG, last),
        production=production,
        draft=draft,
    )


def preferred(policy: Policy, task_type: str) -> str:
    """Return the group that serves the task type where nothing but its quality floor is at stake.

    The first of the chain of its smallest category that meets the category's floor.
    """
    name = policy.routing.task(task_type).floor
    if name not in policy.groups.groups:
        return name
    floor = policy.routing.categories[name].constraints.quality
    chain = policy.groups.chain(name)
    for group in chain:
        facts = policy.facts(group)
        known = facts.benchmarks.get(floor.benchmark) if facts and floor else None
        if floor is None or (known is not None and known.score >= floor.min):
            return group
    return chain[0]


def told(policy: Policy, requested: str, task_type: str) -> dict[str, Any]:
    """Return what an answer says where its request asked for advice.

    `requested` is the model that was asked for. Who asks for `auto` or a category is given the
    model that the task needs, so nothing can mismatch: `mismatch` is None then.
    """
    name = AUTO if requested == AUTO else policy.groups.aliases.get(requested, requested)
    chosen_here = name == AUTO or name in policy.routing.categories
    found = None if chosen_here else advise(policy, task_type, name)
    if found is not None:
        return found.as_dict()
    tier = policy.routing.task(task_type).tier.value
    return {"mismatch": None, "task_type": task_type, "needs_tier": tier, "model": name}


def header_of(said: Mapping[str, Any]) -> str:
    """Return what `told` returned as one line, for the header: streams have no other place."""
    parts = [f"mismatch={said['mismatch'] or 'none'}"]
    names = ("task_type", "needs_tier", "model", "model_tier", "recommended_model")
    parts += [f"{name}={said[name]}" for name in names if name in said]
    if options := said.get("recommended_option"):
        parts += [f"option_{name}={number}" for name, number in options.items()]
    return "; ".join(parts)
