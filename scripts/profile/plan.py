"""What a run will send, and what that costs by the policy's own estimator. Nothing is sent here.

A tier's group is the base group of the category that most of the tier's task types have as their
floor; a person may name another one (`reason=my-group`).
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from budgets.learned import Learned
from budgets.prices import UnknownPrice
from hooks import tokens
from hooks.decide import decide
from hooks.decision import Caller, Decision
from hooks.groups import Group
from hooks.policy import Policy
from hooks.request import read_request
from hooks.routing import fold
from scripts.profile.judged import Judge
from scripts.profile.judges import rubric_of
from scripts.profile.records import PriceSnapshot, PromptLine, TierHeader, TierName
from scripts.profile.rubric import OUTPUT_TOKENS_MAX, question

STAND_IN = "word "
"""One token of an answer that nobody has seen yet."""

TAG = "farebox-profile"
GRADING_TAG = "farebox-profile-grading"
TIER_NAMES: tuple[TierName, ...] = ("execute", "generate", "reason")


class PlanError(ValueError):
    """A run that cannot be planned, with what to write instead."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A prompt on a tier: what is sent once, and what it is expected to cost."""

    prompt: PromptLine
    digest: str
    task_type: str
    tier: TierName
    group: str
    estimate_nano_usd: int
    hold_nano_usd: int
    refused: str = ""
    output_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """All cells, prompt by prompt, and the tiers' groups."""

    tiers: Mapping[TierName, TierHeader]
    cells: tuple[Cell, ...]
    unknown_types: tuple[str, ...] = field(default=())

    @property
    def refused(self) -> tuple[Cell, ...]:
        """Those that the policy would refuse, whatever the budgets say."""
        return tuple(cell for cell in self.cells if cell.refused)


def tiers_of(policy: Policy, given: str) -> dict[TierName, str]:
    """Read `--tiers`: names of tiers, or `tier=group`, separated by commas.

    Raises:
        PlanError: a tier or group that there is not, or a tier that no category stands for.
    """
    found: dict[TierName, str] = {}
    for part in filter(None, (word.strip() for word in given.split(","))):
        name, equals, group = part.partition("=")
        tier = next((it for it in TIER_NAMES if it == name.strip()), None)
        if tier is None:
            raise PlanError(f"{name!r} is no tier; there are {', '.join(TIER_NAMES)}")
        if tier in found:
            raise PlanError(f"{tier} stands twice")
        chosen = group.strip() if equals else group_of(policy, tier)
        if chosen not in policy.groups.groups:
            raise PlanError(f"{tier}: litellm_config.yaml has no group {chosen!r}")
        found[tier] = chosen
    if not found:
        raise PlanError("name at least one tier")
    return {tier: found[tier] for tier in TIER_NAMES if tier in found}


def category_of(policy: Policy, tier: str) -> str | None:
    """Return the category that most task types of a tier have as their floor."""
    routing = policy.routing
    floors = Counter(task.floor for task in routing.task_types.values() if task.tier == tier)
    if not floors:
        return None
    ranks = routing.category_ranks
    return max(floors, key=lambda name: (floors[name], -ranks[name]))


def group_of(policy: Policy, tier: str) -> str:
    """Return the group that stands for a tier; raises `PlanError`."""
    category = category_of(policy, tier)
    group = policy.groups.groups.get(category) if category else None
    if category is None or group is None:
        raise PlanError(f"no task type of routing.yaml is of the tier {tier}: say {tier}=GROUP")
    return group.primary or group.name


def snapshot(policy: Policy, name: str) -> TierHeader:
    """Return a group's models and prices as they are now; raises `PlanError`."""
    group: Group = policy.groups.groups[name]
    prices = group.prices
    if isinstance(prices, UnknownPrice):
        raise PlanError(f"{name}: its price is not known ({prices.reason})")
    return TierHeader(
        group=name,
        models=tuple(deployment.model for deployment in group.deployments),
        prices=tuple(
            PriceSnapshot(
                input=price.base.input,
                output=price.base.output,
                cache_read=price.base.cache_read,
                cache_write=price.base.cache_write,
                reasoning=price.base.reasoning,
            )
            for price in prices
        ),
    )


def plan(
    policy: Policy,
    tiers: Mapping[TierName, str],
    prompts: Sequence[PromptLine],
    learned: Learned,
) -> Plan:
    """Estimate every prompt on every tier. A task type that the policy does not know is told of."""
    headers = {tier: snapshot(policy, group) for tier, group in tiers.items()}
    cells: list[Cell] = []
    unknown: dict[str, None] = {}
    for prompt in prompts:
        if prompt.task_type and fold(prompt.task_type) not in policy.routing.task_names:
            unknown[prompt.task_type] = None
        for tier, group in tiers.items():
            made = decided(policy, prompt, group, learned)
            candidate = made.candidate(group)
            cost = candidate.cost if candidate is not None else None
            cells.append(
                Cell(
                    prompt=prompt,
                    digest=prompt.digest,
                    task_type=made.task_type,
                    tier=tier,
                    group=group,
                    estimate_nano_usd=cost.estimate_nano_usd if cost else 0,
                    hold_nano_usd=cost.hold_nano_usd if cost else 0,
                    refused=made.code or "",
                    output_tokens=cost.output_tokens if cost else 0,
                )
            )
    return Plan(headers, tuple(cells), tuple(unknown))


@dataclass(frozen=True, slots=True)
class GradingCost:
    """What grading will probably cost, and the most that it can, each answer asked about once."""

    estimate_nano_usd: int
    hold_nano_usd: int


def grading_cost(
    policy: Policy, judge: Judge, cells: Sequence[Cell], learned: Learned
) -> GradingCost:
    """Estimate the grading of cells, with stand-ins of the expected length for the answers."""
    expected = most = 0
    for cell in cells:
        rubric = rubric_of(judge, cell.task_type)
        if rubric is None:
            continue
        text = question(rubric, cell.prompt, STAND_IN * cell.output_tokens)
        made = decided(
            policy, PromptLine(prompt=text), rubric.model, learned, output_max=OUTPUT_TOKENS_MAX
        )
        candidate = made.candidate(rubric.model)
        if candidate is not None and candidate.cost is not None:
            expected += candidate.cost.estimate_nano_usd
            most += candidate.cost.hold_nano_usd
    return GradingCost(expected, most)


def decided(
    policy: Policy,
    prompt: PromptLine,
    group: str,
    learned: Learned,
    output_max: int | None = None,
) -> Decision:
    """Return the policy's decision for a prompt on a group, as the proxy will make it."""
    body: dict[str, object] = {"model": group, "messages": prompt.as_messages()}
    if output_max is not None:
        body["max_tokens"] = output_max
    headers = {"x-farebox-tags": TAG}
    if prompt.task_type:
        headers["x-farebox-task-type"] = prompt.task_type
    view = read_request(body, "acompletion", headers)
    counts = tokens.count_request(view)
    return decide(policy, view, counts, Caller(), learned, uuid.uuid4().hex)
