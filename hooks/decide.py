"""Deciding: policy, request and snapshot in, decision out. Pure, so any decision can be redone.

    task type  ─►  category  ─►  the chain, each group kept or dropped with reasons  ─►  winner
    (who says)     (the larger of size and floor)

A decision says all of that about itself. It has no prompt in it, only counts and names.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from budgets.ledger import Learned
from budgets.matching import BudgetFacts, Cap, matcher, per_request_cap
from budgets.prices import UnknownPrice
from hooks import advice, data_policy, sessions
from hooks.asker import Asker
from hooks.constraints import Drop, Judged, drops, expected_latency_ms
from hooks.estimate import CostEstimate, cost_on, expected_output
from hooks.features import words as words_of
from hooks.groups import Group
from hooks.policy import Policy
from hooks.request import RequestView
from hooks.router import way
from hooks.router.verdict import Verdict, judge
from hooks.routing import AUTO, Category, Consequence, Mode, Tier
from hooks.sessions import SessionNote, SessionState
from hooks.tasks.detect import detect, raised_floor
from hooks.tasks.signals import signals_of
from hooks.tokens import TokenCounts

NAMES_SHOWN_MAX = 30


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, as authentication found it.

    `allowed_groups` empty allows all. A category's name among them allows that category's chain.
    """

    key_name: str | None = None
    team: str | None = None
    user: str | None = None
    allowed_groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Candidate:
    """A group of the chain: kept, or dropped with every constraint that it failed."""

    group: str
    provider: str
    kept: bool
    drops: tuple[Drop, ...]
    cost: CostEstimate | None
    latency_ms: int | None = None

    @property
    def reason(self) -> str:
        """The reasons in one line; empty for a group that was kept."""
        return "; ".join(str(drop) for drop in self.drops)


@dataclass(frozen=True, slots=True)
class Would:
    """What enforcement would have done, in shadow mode."""

    group: str | None
    code: str | None
    estimate_nano_usd: int


@dataclass(frozen=True, slots=True)
class Escalated:
    """One step that was tried after a budget had refused: see `escalation`.

    `outcome` is `taken` where it helped, else `refused` or, where it was clear without asking,
    `dropped`.
    """

    step: str
    outcome: str
    group: str | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """The record of one routing.

    `task_source` is caller, rule, classifier, keywords, signals or default, and `task_why` the
    words behind it. `signals` are the facts about the request's form that were not zero.
    `tier_floor` is set where the consequence forbids a model of a lower tier, `session` where the
    request belongs to a session that was known.
    `code` is set where nothing is to be sent, with `message`; `group` is then None.
    `output_tokens_cap` is set where the caller gave no maximum and the policy caps.
    """

    id: str
    mode: Mode
    requested: str
    call_type: str
    task_type: str
    task_source: str
    task_why: str
    tier: str
    consequence: str
    input_tokens: int
    expected_output_tokens: int
    category_by_tokens: str
    floor: str
    category: str
    candidates: tuple[Candidate, ...]
    group: str | None
    fallbacks: tuple[str, ...]
    output_tokens_cap: int | None
    warnings: tuple[str, ...] = ()
    code: str | None = None
    message: str | None = None
    param: str | None = None
    would: Would | None = None
    stripped: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())
    escalation: tuple[Escalated, ...] = ()
    signals: Mapping[str, Any] = field(default_factory=dict)
    router: Verdict | None = None
    tier_floor: str | None = None
    session: SessionNote | None = None

    def candidate(self, group: str) -> Candidate | None:
        """Return the candidate of that name."""
        return next((c for c in self.candidates if c.group == group), None)

    @property
    def dropped(self) -> tuple[Candidate, ...]:
        """The candidates that failed a constraint."""
        return tuple(c for c in self.candidates if not c.kept)

    def as_dict(self) -> dict[str, Any]:
        """Return the decision as data for JSON."""
        # `asdict` copies every value deeply, which is most of what a decision costs: only what has
        # dataclasses in it is taken apart, and `json` reads the rest as it is.
        data: dict[str, Any] = {name: getattr(self, name) for name in _DECISION_FIELDS}
        data["candidates"] = [_candidate_as_dict(candidate) for candidate in self.candidates]
        data["would"] = asdict(self.would) if self.would is not None else None
        data["session"] = asdict(self.session) if self.session is not None else None
        data["escalation"] = [asdict(step) for step in self.escalation]
        data["router"] = self.router.as_dict() if self.router is not None else None
        return data

    def to_json(self) -> str:
        """Return the decision as compact JSON text; `explain` reads it back."""
        return json.dumps(self.as_dict(), separators=(",", ":"), ensure_ascii=False)


_DECISION_FIELDS = tuple(it.name for it in fields(Decision))
_CANDIDATE_FIELDS = tuple(it.name for it in fields(Candidate))
_COST_FIELDS = tuple(it.name for it in fields(CostEstimate))


def _candidate_as_dict(candidate: Candidate) -> dict[str, Any]:
    data: dict[str, Any] = {name: getattr(candidate, name) for name in _CANDIDATE_FIELDS}
    data["drops"] = [asdict(drop) for drop in candidate.drops]
    cost = candidate.cost
    if cost is not None:
        data["cost"] = {name: getattr(cost, name) for name in _COST_FIELDS}
    data["reason"] = candidate.reason
    return data


def decide(
    policy: Policy,
    view: RequestView,
    counts: TokenCounts,
    caller: Caller,
    learned: Learned,
    decision_id: str,
    session: SessionState | None = None,
    held_down: str = "",
) -> Decision:
    """Decide one request. Nothing is raised: a refusal is a decision too.

    `session` is what is known of the request's session. `held_down` says why it must not rise to
    the session's category, where a budget had no room for that.
    """
    routing = policy.routing
    words = words_of(view.last_user_text)
    signals = signals_of(view, routing.signals, words)
    asker = asker_of(view, caller)
    found = detect(routing, policy.detectors, view, asker, signals, words)
    task_type, warnings = found.task_type, list(found.warnings)
    task = routing.task(task_type)
    floor, floor_why = raised_floor(routing, task.floor, signals)
    consequence = max(
        task.consequence, view.steering.consequence or Consequence.LOW, key=lambda c: c.rank
    )
    expected = expected_output(routing, view, task_type, None, Learned())
    if view.output_max is not None:
        expected = min(expected, view.output_max)
    expected *= view.choices
    images = counts.images * routing.requests.image_tokens_usual
    by_tokens = routing.category_of(counts.input + images + expected)
    category = routing.larger(by_tokens, floor)
    requested = policy.groups.aliases.get(view.model, view.model)
    if view.model == AUTO:
        requested = AUTO
    asked_category = requested if requested in routing.categories else None
    if asked_category is not None:
        # A category asked for by its name counts like a size; the task's floor still holds.
        category = routing.larger(asked_category, floor)
        if category != asked_category:
            warnings.append(
                f"category_raised: {task_type} has the floor {floor}, not {asked_category}"
            )
    mode = routing.categories[category].mode or routing.mode
    base = Decision(
        id=decision_id,
        mode=mode,
        requested=view.model,
        call_type=view.call_type,
        task_type=task_type,
        task_source=found.source,
        task_why=found.why,
        tier=task.tier.value,
        consequence=consequence.value,
        input_tokens=counts.input,
        expected_output_tokens=expected,
        category_by_tokens=by_tokens,
        floor=floor,
        category=category,
        candidates=(),
        group=None,
        fallbacks=(),
        output_tokens_cap=None,
        warnings=tuple(warnings),
        signals=signals.as_dict(),
        notes=(f"floor_raised: {floor_why}",) if floor_why else (),
        router=judge(
            policy.router, view, task_type, auto=requested == AUTO,
            high=consequence is Consequence.HIGH, raised=floor_why, pinned=task.pinned,
        ),
    )  # fmt: skip
    if requested != AUTO and requested not in policy.groups.groups:
        return _unknown_model(base, policy)
    named = requested not in routing.categories and requested != AUTO
    base = replace(base, tier_floor=tier_floor(policy, task.tier, consequence, category, named))
    alone = base
    if session is not None and not named:
        base = sessions.raised(policy, base, session, held_down)
        category = base.category
    start = requested if named else category
    if start not in policy.groups.groups:
        return replace(
            base,
            code="no_feasible_model",
            message=f"The category {start} has no group of that name in litellm_config.yaml.",
        )

    def walk(base: Decision, start: str, lead: tuple[str, ...]) -> Decision:
        return _choose(
            policy, view, counts, caller, learned, base, start, named, capped=True, lead=lead
        )

    enforced = way.choose(policy, base, start, walk)
    if enforced.code is not None and base.category != alone.category:
        # The request goes where it would go without its session: that is better than nowhere.
        base = sessions.held_down(alone, base, f"no model of {base.category} is feasible")
        enforced = way.choose(policy, base, base.category, walk)
    enforced = sessions.told(policy, enforced)
    if mode is Mode.ENFORCE:
        return enforced
    return _in_shadow(policy, view, counts, caller, learned, base, enforced, requested)


def asker_of(view: RequestView, caller: Caller) -> Asker:
    """Return who asks, as rules look at it."""
    return Asker(
        view.call_type, view.model, caller.key_name, caller.team, caller.user, view.steering.tags
    )


def tier_floor(
    policy: Policy, tier: Tier, consequence: Consequence, category: str, named: bool
) -> str | None:
    """Return the tier below which the consequence lets no model serve; None where it lets any.

    It is the task's, or that of the category's base group where that is higher: what the request
    would get on a good day. A group that was asked for by its name sets no floor, nor has one.
    """
    least = policy.routing.no_downgrade_from
    if least is None or consequence.rank < least.rank:
        return None
    facts = None if named else policy.facts(category)
    if facts is not None and facts.tier.rank > tier.rank:
        return facts.tier.value
    return tier.value


def _unknown_model(base: Decision, policy: Policy) -> Decision:
    names = ", ".join(policy.requestable()[:NAMES_SHOWN_MAX])
    return replace(
        base,
        code="invalid_request",
        message=f"There is no model of that name here. Ask for one of: {names}.",
        param="model",
    )


# ── the chain ────────────────────────────────────────────────────────────────────────────────────


def _choose(
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
    caps = _caps(policy, budget_facts(base, view, caller))
    chain = policy.groups.chain(start)
    candidates = [
        _candidate(
            policy, view, counts, caller, learned, base, policy.groups.groups[name], category, cap,
            caps(name), respect_name=named and name == start, own=name in chain,
        )
        for name in dict.fromkeys((*lead, *chain))
    ]  # fmt: skip
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


def _candidate(
    policy: Policy,
    view: RequestView,
    counts: TokenCounts,
    caller: Caller,
    learned: Learned,
    base: Decision,
    group: Group,
    category: Category,
    output_cap: int | None,
    cap: Cap | None,
    respect_name: bool,
    own: bool,
) -> Candidate:
    """Judge one group. `own` is true for the chain's own, which a key for its category allows."""
    facts = policy.facts(group.name)
    prices = group.prices
    cost = None
    if not isinstance(prices, UnknownPrice):
        cost = cost_on(
            policy.routing, view, counts, base.task_type, group, prices, output_cap, learned
        )
    judged = Judged(
        group=group,
        facts=facts,
        view=view,
        category=category,
        cost=cost,
        cap=cap,
        allowed_groups=_allowed(policy, base, caller) if own else caller.allowed_groups,
        respect_name=respect_name,
        demands=data_policy.demands(policy.routing.data_policy, asker_of(view, caller)),
        tier_floor=Tier(base.tier_floor) if base.tier_floor is not None else None,
    )
    failed = tuple(drops(judged))
    return Candidate(
        group=group.name,
        provider=group.provider,
        kept=not failed,
        drops=failed,
        cost=cost,
        latency_ms=expected_latency_ms(facts, cost),
    )


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
    return _candidate(
        policy, view, counts, caller, learned, decision, policy.groups.groups[group], category,
        None if view.embeds else cap, cap_of(policy, view, caller, decision)(group),
        respect_name=True, own=True,
    )  # fmt: skip


def cap_of(
    policy: Policy, view: RequestView, caller: Caller, decision: Decision
) -> Callable[[str], Cap | None]:
    """Return what gives the most that this request may cost on a group."""
    return _caps(policy, budget_facts(decision, view, caller))


def _caps(policy: Policy, facts: BudgetFacts) -> Callable[[str], Cap | None]:
    """Return what gives a group's cap for one request."""
    budgets_of = matcher(policy.budgets, facts)
    return lambda group: per_request_cap(policy.budgets, budgets_of(group))


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


# ── shadow ───────────────────────────────────────────────────────────────────────────────────────


def _in_shadow(
    policy: Policy,
    view: RequestView,
    counts: TokenCounts,
    caller: Caller,
    learned: Learned,
    base: Decision,
    enforced: Decision,
    requested: str,
) -> Decision:
    """Return what is really done in shadow mode, with what enforcement would have done beside it.

    `auto` goes to `shadow_default`, any other name to its own group, with LiteLLM's own fallbacks
    and no cap. The candidates shown are enforcement's.
    """
    served = policy.routing.shadow_default if requested == AUTO else requested
    plain = _choose(policy, view, counts, caller, learned, base, served, named=True, capped=False)
    winner = enforced.candidate(enforced.group) if enforced.group else None
    would = Would(
        group=enforced.group,
        code=enforced.code,
        estimate_nano_usd=winner.cost.estimate_nano_usd if winner and winner.cost else 0,
    )
    extra = tuple(
        c for c in plain.candidates if all(c.group != known.group for known in enforced.candidates)
    )
    return replace(
        enforced,
        candidates=enforced.candidates + extra,
        group=served,
        fallbacks=(),
        output_tokens_cap=None,
        code=None,
        message=None,
        would=would,
    )
