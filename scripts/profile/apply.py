"""From a profile to an edit of `routing.yaml`: what changes, what stays, and why. Writes nothing.

A task type gets the tier that the report proposes, and as its floor the category whose base group
was measured for that tier. What a person pinned stays. A task type of high consequence is not
lowered without being asked to. Where nothing is promised, the routing stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from hooks.levels import Consequence, Tier
from hooks.policy import Policy
from hooks.routing import UNCLASSIFIED
from scripts.profile.document import doubt
from scripts.profile.records import Header, TierName
from scripts.profile.verdicts import TierResult, TypeResult, Verdict
from scripts.yaml_edit import Edit, NotEditable, edited_values


@dataclass(frozen=True, slots=True)
class Change:
    """A task type that gets another tier."""

    task_type: str
    tier_before: str
    tier_after: TierName
    floor_before: str
    floor_after: str
    why: str
    monitor: bool
    doubt: str = ""

    @property
    def lowers(self) -> bool:
        """Whether the new tier is a lower one."""
        return Tier(self.tier_after).rank < Tier(self.tier_before).rank


@dataclass(frozen=True, slots=True)
class Kept:
    """A task type that stays as it is, and why."""

    task_type: str
    tier: str
    why: str


@dataclass(frozen=True, slots=True)
class Applied:
    """The edit, with what it changes and what it does not."""

    edit: Edit
    changes: tuple[Change, ...]
    kept: tuple[Kept, ...]


def apply(
    policy: Policy,
    header: Header,
    found: Sequence[TypeResult],
    edit: Edit,
    *,
    lower_high_consequence: bool = False,
) -> Applied:
    """Return the edit that a profile's results ask for, on top of one of `routing.yaml`."""
    floors = floors_of(policy, header)
    changes: list[Change] = []
    kept: list[Kept] = []
    after = edit.after
    for it in found:
        wanted = _wanted(policy, it, floors, lower_high_consequence)
        if isinstance(wanted, Change):
            place = (
                ("unclassified",) if it.task_type == UNCLASSIFIED else ("task_types", it.task_type)
            )
            note = f"profile {header.name}: {wanted.why}"
            values = {"tier": wanted.tier_after, "floor": wanted.floor_after}
            try:
                after = edited_values(after, place, values, note)
            except NotEditable as error:
                kept.append(Kept(it.task_type, wanted.tier_before, str(error)))
                continue
            changes.append(wanted)
        else:
            kept.append(wanted)
    return Applied(replace(edit, after=after), tuple(changes), tuple(kept))


def floors_of(policy: Policy, header: Header) -> dict[str, str]:
    """Return for each measured tier the category whose base group was measured for it."""
    found: dict[str, str] = {}
    for tier, it in header.tiers.items():
        for name in policy.routing.categories:
            group = policy.groups.groups.get(name)
            if group is not None and it.group in (group.primary, name):
                found[tier] = name
                break
    return found


def _wanted(
    policy: Policy, it: TypeResult, floors: Mapping[str, str], lower_high: bool
) -> Change | Kept:
    if it.task_type != UNCLASSIFIED and it.task_type not in policy.routing.task_types:
        return Kept(it.task_type, "", "routing.yaml has no such task type")
    task = policy.routing.task(it.task_type)
    now = task.tier.value
    if task.pinned:
        return Kept(it.task_type, now, "pinned")
    one = it.proposed
    if one is None:
        return Kept(it.task_type, now, "nothing is promised by this profile")
    if one.tier == now:
        return Kept(it.task_type, now, f"right as it is: {_why(one)}")
    floor = floors.get(one.tier)
    if floor is None:
        return Kept(
            it.task_type, now, f"no category has {one.group} as its base group, so no floor leads "
            "there"
        )  # fmt: skip
    lowers = Tier(one.tier).rank < task.tier.rank
    if lowers and task.consequence is Consequence.HIGH and not lower_high:
        return Kept(
            it.task_type, now, f"high consequence; {one.tier} would do: --lower-high-consequence"
        )
    return Change(
        task_type=it.task_type,
        tier_before=now,
        tier_after=one.tier,
        floor_before=task.floor,
        floor_after=floor,
        why=_why(one),
        monitor=one.verdict is Verdict.MONITOR,
        doubt=doubt(it.might_do) if it.might_do is not None else "",
    )


def _why(one: TierResult) -> str:
    least = int(one.interval.lower * 1000) / 10
    words = f"{one.tier} passes {least:.1f} % at least of {one.prompts:,}"
    return f"{words}, with monitoring" if one.verdict is Verdict.MONITOR else words
