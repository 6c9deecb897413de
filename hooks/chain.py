"""Walking a chain: every group kept or dropped with its reasons, and who of them serves. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from budgets.learned import Learned
from budgets.matching import BudgetFacts, Cap, caps_of
from budgets.prices import UnknownPrice
from budgets.quick import quick, replace
from hooks import advice, data_policy, sessions
from hooks.asker import Asker
from hooks.categories import Category
from hooks.constraints import Judged
from hooks.decision import Caller, Candidate, Decision
from hooks.estimate import cost_terms
from hooks.groups import Group
from hooks.levels import Tier
from hooks.policy import Policy
from hooks.request import RequestView
from hooks.routing import AUTO
from hooks.standing import Standing, standing
from hooks.tokens import TokenCounts


def choose(
    policy: Policy,
    view: RequestView,
    counts: TokenCounts,
    caller: Caller,
    learned: Learned,
    base: Decision,
    start: str,
    named: bool,
    capped: bool,
    lead: tuple[str, ...] = (),
) -> Decision:
    """Return `base` with the chain walked from `start`: candidates, winner, cap or refusal.

    The groups of `lead` come before the chain, and no priorities put others before them.
    """
    category = policy.routing.categories[base.category]
    cap = category.output_tokens_max if capped and view.output_max is None else None
    if view.embeds:
        cap = None
    cap_on, caps = caps_of(policy.budgets, budget_facts(base, view, caller))
    asked = _asked(policy, view, caller, base)
    own = _allowed(policy, base, caller)

    def stand() -> tuple[Standing, ...]:
        chain = policy.groups.chain(start)
        return tuple(
            _standing(
                policy, view, counts, learned, base, policy.groups.groups[name], category, cap,
                cap_on(name), asked, own if name in chain else caller.allowed_groups,
                respect_name=named and name == start,
            )
            for name in dict.fromkeys((*lead, *chain))
        )  # fmt: skip

    shape = (
        start, named, capped, lead, base.category, base.task_type, asked, caps, own,
        caller.allowed_groups, view.call_type, view.needs, view.output_max, view.choices,
        view.images, view.prompts > 1, view.caches, view.steering.expected_output_tokens,
        counts.images, counts.tools > 0,
    )  # fmt: skip
    count, most = counts.input, counts.input_max
    standings = policy.standings.of(shape, learned, stand)
    candidates = [it.candidate(count, most) for it in standings]
    if (between := counts.input_between) is not None:
        alike = category.priorities.order == "chain" and all(it.alike(*between) for it in standings)
        base = base if alike else replace(base, open=True)
    if not named and not lead:
        candidates = _by_priorities(policy, category, candidates)
        candidates = sessions.same_group_first(policy, base, candidates)
    kept = [candidate for candidate in candidates if candidate.kept]
    if named and kept and kept[0].group != start:
        kept = []  # A group that was named is served or refused, never silently replaced.
    warnings = list(base.warnings)
    if named:
        warnings += _mismatch(policy, base, start)
    if not kept:
        chosen = replace(base, candidates=tuple(candidates), warnings=tuple(warnings))
        return _refused(chosen, start)
    limits = [c.cost.output_tokens_max // max(1, view.choices) for c in kept if c.cost is not None]
    return replace(
        base,
        candidates=tuple(candidates),
        warnings=tuple(warnings),
        group=kept[0].group,
        fallbacks=tuple(candidate.group for candidate in kept[1:]),
        output_tokens_cap=min(limits) if cap is not None and limits else None,
    )


@quick
@dataclass(frozen=True, slots=True)
class _Asked:
    """What holds for every group of one request: the demands of data rules, the least tier."""

    demands: tuple[data_policy.Demand, ...]
    tier_floor: Tier | None


def _asked(policy: Policy, view: RequestView, caller: Caller, base: Decision) -> _Asked:
    rules = policy.routing.data_policy
    return _Asked(
        data_policy.demands(rules, asker_of(view, caller)) if rules else (),
        Tier(base.tier_floor) if base.tier_floor is not None else None,
    )


def _standing(
    policy: Policy,
    view: RequestView,
    counts: TokenCounts,
    learned: Learned,
    base: Decision,
    group: Group,
    category: Category,
    output_cap: int | None,
    cap: Cap | None,
    asked: _Asked,
    allowed_groups: tuple[str, ...],
    respect_name: bool,
) -> Standing:
    """Judge one group. `allowed_groups` are those that the key allows for it; empty for all."""
    prices = group.prices
    terms = None
    if not isinstance(prices, UnknownPrice):
        terms = cost_terms(
            policy.routing, view, counts, base.task_type, group, prices, output_cap, learned
        )
    judged = Judged(
        group=group,
        facts=policy.facts(group.name),
        category=category,
        embeds=view.embeds,
        needs=view.needs,
        choices=view.choices,
        several_prompts=view.prompts > 1,
        cap=cap,
        allowed_groups=allowed_groups,
        respect_name=respect_name,
        demands=asked.demands,
        tier_floor=asked.tier_floor,
    )
    return standing(judged, terms)


def candidate_on(
    policy: Policy,
    view: RequestView,
    counts: TokenCounts,
    caller: Caller,
    learned: Learned,
    decision: Decision,
    group: str,
) -> Candidate:
    """Return what a group outside the decided chain would make of the request.

    Whoever names it takes the category's quality floor and latency objective upon himself; what
    would make the call impossible, forbidden or too dear still drops it.
    """
    category = policy.routing.categories[decision.category]
    cap = category.output_tokens_max if view.output_max is None else None
    return _standing(
        policy, view, counts, learned, decision, policy.groups.groups[group], category,
        None if view.embeds else cap, cap_of(policy, view, caller, decision)(group),
        _asked(policy, view, caller, decision), _allowed(policy, decision, caller),
        respect_name=True,
    ).candidate(counts.input, counts.input_max)  # fmt: skip


def cap_of(
    policy: Policy, view: RequestView, caller: Caller, decision: Decision
) -> Callable[[str], Cap | None]:
    """Return what gives the most that this request may cost on a group."""
    return caps_of(policy.budgets, budget_facts(decision, view, caller))[0]


def _allowed(policy: Policy, base: Decision, caller: Caller) -> tuple[str, ...]:
    """Return the groups that the key allows, empty for all.

    A key for a category may use the category's chain, if it asks for the category or for `auto`: a
    group that it names itself must be among the groups that the key names.
    """
    asked = policy.groups.aliases.get(base.requested, base.requested)
    by_category = base.requested == AUTO or asked in policy.routing.categories
    if by_category and base.category in caller.allowed_groups:
        return ()
    return caller.allowed_groups


def budget_facts(decision: Decision, view: RequestView, caller: Caller) -> BudgetFacts:
    """Return what a request's budgets are found by."""
    return BudgetFacts(
        category=decision.category,
        task_type=decision.task_type,
        key=caller.key_name,
        team=caller.team,
        user=caller.user,
        claimed_user=view.steering.user,
        tags=view.steering.tags,
    )


def _by_priorities(
    policy: Policy, category: Category, candidates: list[Candidate]
) -> list[Candidate]:
    """Return the candidates in the order of the policy's weights, where it asks for that.

    Each measure is put on a scale from 0 to 1 among the candidates that were kept, the best one
    being 1; an unknown figure counts as 0. Ties keep the chain's order.
    """
    weights = category.priorities
    if weights.order == "chain":
        return candidates
    kept = [c for c in candidates if c.kept and c.cost is not None]
    if not kept:
        return candidates
    floor = category.constraints.quality
    scores: dict[str, float] = {}
    cheapest = min(c.cost.estimate_nano_usd for c in kept if c.cost is not None)
    fastest = min((c.latency_ms for c in kept if c.latency_ms is not None), default=0)
    quality = {c.group: _score(policy, c.group, floor.benchmark if floor else None) for c in kept}
    best = max(quality.values())
    for c in kept:
        assert c.cost is not None
        scores[c.group] = (
            weights.quality * (quality[c.group] / best if best else 0.0)
            + weights.cost
            * (cheapest / c.cost.estimate_nano_usd if c.cost.estimate_nano_usd else 1)
            + weights.speed * (fastest / c.latency_ms if c.latency_ms else 0.0)
        )
    ordered = sorted(kept, key=lambda c: -scores[c.group])
    return [*ordered, *(c for c in candidates if not c.kept)]


def _score(policy: Policy, group: str, benchmark: str | None) -> float:
    """Return a group's score on a benchmark, or on its first one where no floor names any."""
    facts = policy.facts(group)
    if facts is None or not facts.benchmarks:
        return 0.0
    known = facts.benchmarks.get(benchmark) if benchmark else next(iter(facts.benchmarks.values()))
    return known.score if known is not None else 0.0


def asker_of(view: RequestView, caller: Caller) -> Asker:
    """Return who asks, as rules look at it."""
    return Asker(
        view.call_type, view.model, caller.key_name, caller.team, caller.user, view.steering.tags
    )


def _mismatch(policy: Policy, base: Decision, group: str) -> list[str]:
    """Return the warning that a named group and the task type do not go together."""
    found = advice.mismatch(policy, base.task_type, group)
    return [found.warning] if found is not None else []


def _refused(decision: Decision, start: str) -> Decision:
    """Return the decision as a refusal, with the code that its candidates' reasons add up to."""
    failed = [{drop.constraint for drop in c.drops} for c in decision.candidates]
    if failed and any(reasons and reasons <= {"per_request_cap", "cost"} for reasons in failed):
        code = "per_call_cap_exceeded"
        message = "The request could cost more than one request may."
    elif failed and all("price" in reasons for reasons in failed):
        code = "unknown_price"
        message = "No price is known for any model that could serve this request."
    else:
        code = "no_feasible_model"
        message = "No model meets the constraints of this request."
    named = [c for c in decision.candidates if c.group == start and not c.kept]
    if code == "no_feasible_model" and named and "price" in failed[0] and start == named[0].group:
        code, message = "unknown_price", "No price is known for the model that was asked for."
    reasons = " | ".join(f"{c.group}: {c.reason}" for c in decision.candidates if not c.kept)
    return replace(decision, code=code, message=f"{message} {reasons}".strip())
