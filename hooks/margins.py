"""How a group's input is expected to be counted: the policy's margins with what was learned. Pure.

The policy's figures (`InputMargin`) are where learning starts and what bounds it, see
`budgets.margins`. What a group itself has shown counts first. Until enough of its requests were
seen, its bound is never below the policy's or its provider's: a new model may bring a new
tokenizer, and then its provider's past says little in its favour.
"""

from __future__ import annotations

from dataclasses import dataclass

from budgets.learned import Learned
from budgets.margins import ceiling_of, floor_of
from budgets.open_requests import InputTerms
from budgets.quick import quick
from hooks.facts import InputMargin
from hooks.groups import Group
from hooks.request import RequestView
from hooks.routing import RoutingFile

GROUP_REQUESTS_MIN = 200
"""So many requests of a group must have been seen before its bound alone counts."""

GROUPS_REMEMBERED_MAX = 1_000

FACTOR_LEAST = 0.5
"""The least share of the policy's likely factor that an estimate goes by."""


@quick
@dataclass(frozen=True, slots=True)
class InputFactors:
    """Factors on Farebox's count: the likely one, and the one that is not passed."""

    likely: float
    bound: float


_fixed: dict[str, tuple[RoutingFile, Group, InputMargin, tuple[str, ...]]] = {}
"""The policy's figures of each group and its keys, with what they were made of."""


def _fixed_of(routing: RoutingFile, group: Group) -> tuple[InputMargin, tuple[str, ...]]:
    last = _fixed.get(group.name)
    if last is not None and last[0] is routing and last[1] is group:
        return last[2], last[3]
    margin = routing.margin(group.primary or group.name, group.provider)
    keys = _keys_of(routing, group)
    if len(_fixed) >= GROUPS_REMEMBERED_MAX:
        _fixed.clear()
    _fixed[group.name] = (routing, group, margin, keys)
    return margin, keys


def margin_of(routing: RoutingFile, group: Group) -> InputMargin:
    """Return the policy's figures for a group; a category has those of its base group."""
    return _fixed_of(routing, group)[0]


def learning_keys(routing: RoutingFile, group: Group) -> tuple[str, ...]:
    """Return the keys that a group's requests are learned under: its own, and its provider's.

    A group for which the policy has figures of its own says nothing about its provider. Nor does
    one whose deployments have several: nobody knows which one a request went to.
    """
    return _fixed_of(routing, group)[1]


def _keys_of(routing: RoutingFile, group: Group) -> tuple[str, ...]:
    name = group.primary or group.name
    facts = routing.models.get(name)
    if len(group.providers) > 1 or (facts is not None and facts.input is not None):
        return (f"group:{name}",)
    return (f"group:{name}", f"provider:{group.provider}")


_factors: dict[str, tuple[RoutingFile, Group, Learned, InputFactors]] = {}
"""The last factors of each group, with what they were made of: that changes every few seconds."""


def input_factors(routing: RoutingFile, group: Group, learned: Learned) -> InputFactors:
    """Return the factors for a request on a group."""
    last = _factors.get(group.name)
    if last is not None and last[0] is routing and last[1] is group and last[2] is learned:
        return last[3]
    found = _factors_of(routing, group, learned)
    if len(_factors) >= GROUPS_REMEMBERED_MAX:
        _factors.clear()
    _factors[group.name] = (routing, group, learned, found)
    return found


def _factors_of(routing: RoutingFile, group: Group, learned: Learned) -> InputFactors:
    margin = margin_of(routing, group)
    if not margin.learn:
        return InputFactors(margin.estimate_factor, margin.bound_factor)
    known = [learned.inputs.get(key) for key in learning_keys(routing, group)]
    own, provider = known[0], known[1] if len(known) > 1 else None
    if own is not None and own.count >= GROUP_REQUESTS_MIN:
        bound = own.bound
    else:
        bound = max([margin.bound_factor, *(it.bound for it in known if it is not None)])
    # The policy may have been edited since the last request was counted.
    floor = floor_of(margin.estimate_factor, margin.bound_factor)
    bound = min(max(bound, floor), ceiling_of(margin.bound_factor))
    nearest = own or provider
    likely = nearest.factor if nearest is not None else margin.estimate_factor
    likely = min(max(likely, margin.estimate_factor * FACTOR_LEAST), bound)
    return InputFactors(likely, bound)


def input_extra_tokens(margin: InputMargin, tools: int) -> int:
    """Return the tokens that the policy's bound has on top, but for images."""
    return margin.bound_extra_tokens + (margin.tools_extra_tokens if tools else 0)


def is_fair(view: RequestView) -> bool:
    """Say whether a request's count can be compared with its provider's.

    What a provider counts for images, or for content of unknown size, says nothing about its
    tokenizer.
    """
    return not view.images and not view.unbounded


def input_terms(
    routing: RoutingFile,
    group: Group,
    counted_tokens: int,
    tools: int,
    *,
    fair: bool,
    estimated: bool = False,
) -> InputTerms:
    """Return what the end of a request needs to learn from how its input was counted.

    Nothing is learned from a request that is not `fair`.
    """
    margin = margin_of(routing, group)
    teaches = fair and margin.learn and counted_tokens > 0
    return InputTerms(
        counted_tokens=counted_tokens,
        extra_tokens=input_extra_tokens(margin, tools),
        estimate_factor=margin.estimate_factor,
        bound_factor=margin.bound_factor,
        keys=learning_keys(routing, group) if teaches else (),
        estimated=estimated,
    )
