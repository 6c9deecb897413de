"""The hard conditions that a group must meet for a request, each with the reason it failed. Pure.

A condition that cannot be judged fails where failing to judge would be dangerous (no price, no
score for a quality floor) and holds where the provider judges for itself (an unknown context
window) or where it is an objective (an unknown speed).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from budgets import money
from budgets.matching import Cap
from budgets.prices import UnknownPrice
from budgets.quick import quick
from hooks.categories import Category
from hooks.data_policy import Demand
from hooks.estimate import CostEstimate
from hooks.facts import ModelFacts
from hooks.groups import Group
from hooks.levels import Tier


@quick
@dataclass(frozen=True, slots=True)
class Drop:
    """Why a group is out: the constraint, what was needed and what the group has, in words."""

    constraint: str
    needed: str
    has: str

    def __str__(self) -> str:
        return f"{self.constraint}: needs {self.needed}, has {self.has}"


@quick
@dataclass(frozen=True, slots=True)
class Judged:
    """A group with all that its constraints are judged by, but for the cost.

    Of the request there is nothing that only one has: `needs` are the capabilities that it asks
    for, `several_prompts` says that each of its prompts has a window of its own.
    """

    group: Group
    facts: ModelFacts | None
    category: Category
    embeds: bool
    needs: frozenset[str]
    choices: int
    several_prompts: bool
    cap: Cap | None
    allowed_groups: tuple[str, ...]
    respect_name: bool
    demands: tuple[Demand, ...] = ()
    tier_floor: Tier | None = None


def drops(case: Judged, cost: CostEstimate | None) -> Iterator[Drop]:
    """Yield every constraint that the group fails; `cost` is None where no price is known.

    A group that the client named (`respect_name`) is not held to the quality floor, the latency
    objective and the allowed providers of a category: only to what would make the call impossible,
    forbidden or too dear.
    """
    name = case.group.name
    prices = case.group.prices
    if isinstance(prices, UnknownPrice):
        yield Drop("price", "a known price", prices.reason)
    if case.allowed_groups and name not in case.allowed_groups:
        yield Drop("key", f"one of {', '.join(case.allowed_groups)}", name)
    if case.group.embeds != case.embeds:
        yield Drop(
            "kind",
            "an embedding model" if case.embeds else "a text model",
            "an embedding model" if case.group.embeds else "a text model",
        )
    # What nothing is asked of is not looked at: this runs for every group of every request.
    asked = case.category.constraints
    if case.needs or asked.capabilities:
        yield from _capabilities(case)
    if case.demands or asked.data_policy.residency:
        yield from _data_policy(case)
    if not case.respect_name:
        if case.tier_floor is not None:
            yield from _tier(case)
        if asked.quality is not None:
            yield from _quality(case)
        if asked.latency_p50_ms_max is not None:
            yield from _latency(case, cost)
        if asked.providers is not None:
            yield from _providers(case)
    if cost is not None:
        yield from _context(case, cost)
        yield from _money(case, cost)


def _capabilities(case: Judged) -> Iterator[Drop]:
    needed = case.needs.union(case.category.constraints.capabilities)
    if not needed:
        return
    has = case.group.capabilities
    if case.facts is not None and case.facts.capabilities is not None:
        has = frozenset(case.facts.capabilities)
    elif not any(deployment.known for deployment in case.group.deployments):
        return  # LiteLLM's map does not have the model: nobody can say what it can do.
    if missing := sorted(needed - has):
        yield Drop("capabilities", ", ".join(missing), ", ".join(sorted(has)) or "none")


def _data_policy(case: Judged) -> Iterator[Drop]:
    allowed = case.category.constraints.data_policy.residency
    has = case.facts.residency if case.facts is not None else ()
    for demand in (Demand(allowed), *case.demands) if allowed else case.demands:
        if not demand.met_by(has):
            yield Drop("data_policy", demand.needed, ", ".join(has) or "unknown")


def _tier(case: Judged) -> Iterator[Drop]:
    """A request whose consequence forbids a downgrade goes to no model of a lower tier."""
    floor = case.tier_floor
    if floor is None:
        return
    if case.facts is None:
        yield Drop("consequence", f"tier {floor.value}", "tier unknown")
    elif case.facts.tier.rank < floor.rank:
        yield Drop("consequence", f"tier {floor.value}", case.facts.tier.value)


def _quality(case: Judged) -> Iterator[Drop]:
    floor = case.category.constraints.quality
    if floor is None:
        return
    known = case.facts.benchmarks.get(floor.benchmark) if case.facts is not None else None
    if known is None:
        yield Drop("quality", f"{floor.benchmark} {floor.min:g}", "quality unknown")
    elif known.score < floor.min:
        yield Drop("quality", f"{floor.benchmark} {floor.min:g}", f"{known.score:g}")


def _latency(case: Judged, cost: CostEstimate | None) -> Iterator[Drop]:
    objective = case.category.constraints.latency_p50_ms_max
    expected = expected_latency_ms(case.facts, cost)
    if objective is not None and expected is not None and expected > objective:
        yield Drop("latency", f"{objective} ms", f"{expected} ms expected")


def expected_latency_ms(facts: ModelFacts | None, cost: CostEstimate | None) -> int | None:
    """Return the likely time to the whole answer, in milliseconds; None where no speed is known."""
    if facts is None or facts.speed is None or cost is None:
        return None
    writing = cost.output_tokens / facts.speed.output_tokens_per_second
    return round(facts.speed.first_token_p50_ms + writing * 1000)


def _providers(case: Judged) -> Iterator[Drop]:
    allowed = case.category.constraints.providers
    if allowed is not None and not case.group.providers <= set(allowed):
        yield Drop("providers", ", ".join(allowed), ", ".join(sorted(case.group.providers)))


def _window(case: Judged) -> tuple[int, int] | None:
    """Return a group's window, and what of it the likely size may fill; None where none counts."""
    window = case.facts.context_tokens if case.facts is not None else None
    window = window or case.group.context_tokens
    if window is None or case.several_prompts:
        return None  # Each of several prompts has a window: the provider judges for itself.
    return window, int(window * case.category.constraints.context_guard)


def _outputs(case: Judged, cost: CostEstimate) -> tuple[int, int]:
    """Return the likely and the largest output; of several answers (`n`) each has the window."""
    choices = max(1, case.choices)
    return cost.output_tokens // choices, cost.output_tokens_max // choices


def input_room(case: Judged, cost: CostEstimate) -> float:
    """Return how many likely input tokens the context leaves room for; infinite if it sets none.

    The likely size must leave the guard's part free; the largest answer must fit at all.
    """
    found = _window(case)
    if found is None:
        return math.inf
    window, room = found
    likely_out, most_out = _outputs(case, cost)
    return min(room - likely_out, window - most_out)


def _context(case: Judged, cost: CostEstimate) -> Iterator[Drop]:
    found = _window(case)
    if found is None or cost.input_tokens <= input_room(case, cost):
        return
    window, room = found
    likely_out, most_out = _outputs(case, cost)
    yield Drop(
        "context",
        f"{cost.input_tokens} tokens in, {likely_out} to {most_out} out",
        f"{room} of {window} (guard {case.category.constraints.context_guard:.0%})",
    )


def _money(case: Judged, cost: CostEstimate) -> Iterator[Drop]:
    limit = case.category.constraints.cost_nano_usd_max
    if limit is not None and cost.hold_nano_usd > limit:
        yield Drop(
            "cost",
            f"at most ${money.plain(limit)} a call",
            f"${money.plain(cost.hold_nano_usd)} at most",
        )
    if case.cap is not None and cost.hold_nano_usd > case.cap.nano_usd:
        named = f" of budget {case.cap.rule}" if case.cap.rule else ""
        yield Drop(
            "per_request_cap",
            f"at most ${money.plain(case.cap.nano_usd)} a request{named}",
            f"${money.plain(cost.hold_nano_usd)} at most",
        )
