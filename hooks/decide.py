"""Deciding: policy, request and snapshot in, decision out. Pure, so any decision can be redone.

task type  ─►  category  ─►  the chain, each group kept or dropped with reasons  ─►  winner
(who says)     (the larger of size and floor)
"""

from __future__ import annotations

from budgets.learned import Learned
from budgets.quick import replace
from hooks import sessions
from hooks.chain import asker_of, choose
from hooks.decision import Caller, Decision, Would
from hooks.estimate import expected_output
from hooks.features import words as words_of
from hooks.levels import Consequence, Mode, Tier
from hooks.policy import Policy
from hooks.request import RequestView
from hooks.router import way
from hooks.router.verdict import judge
from hooks.routing import AUTO
from hooks.sessions import SessionState
from hooks.tasks.detect import detect, raised_floor
from hooks.tasks.signals import signals_of
from hooks.tokens import TokenCounts

NAMES_SHOWN_MAX = 30
NOTHING_LEARNED = Learned()


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
    consequence, claimed = task.consequence, view.steering.consequence
    if claimed is not None and claimed.rank > consequence.rank:
        consequence = claimed
    expected = expected_output(routing, view, task_type, None, NOTHING_LEARNED)
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
    named = requested not in routing.categories and requested != AUTO
    is_known = requested == AUTO or requested in policy.groups.groups
    least = tier_floor(policy, task.tier, consequence, category, named) if is_known else None
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
        input_tokens_between=counts.input_between,
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
        tier_floor=least,
    )  # fmt: skip
    if not is_known:
        return _unknown_model(base, policy)
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
        return choose(
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
    plain = choose(policy, view, counts, caller, learned, base, served, named=True, capped=False)
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
