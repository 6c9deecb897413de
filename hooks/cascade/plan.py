"""What a gated request may send, in order, and what all of it may cost. Pure.

    steps of the cascade ─► the decided group ─► further up its chain
    (each with its gate)     (the task type's gate)

A plan is made beside the decision, which stands as it is: without a cascade, or where the whole
plan does not fit, the decided group answers. What must not be left out is the gate of the answer
itself, so its cost belongs to the request like its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from budgets import money
from budgets.ledger import Learned
from hooks.decide import Caller, Candidate, Decision, candidate_on, cap_of
from hooks.gates.settings import VERIFIER, Gate
from hooks.policy import Policy
from hooks.request import RequestView
from hooks.routing import AUTO, Consequence, Mode, Tier
from hooks.steering import Steering
from hooks.tokens import TokenCounts

VERIFIER_WORDS_TOKENS = 400
"""What the verifier is told besides request, answer and rubric; see `steps`."""
VERIFIER_OUTPUT_TOKENS = 64


@dataclass(frozen=True, slots=True)
class Rung:
    """A group to ask and the gate that its answer must pass, if any.

    `always_up` is true for a step of a cascade: an answer that fails goes up, whatever `on_fail`.
    """

    group: str
    gate: Gate | None
    always_up: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """What may be sent, and what was left out of it, with the reason.

    `rungs` is the whole, `least` what goes without it: the decided group with its gate.
    `candidates` are the groups that are no candidates of the decision; `calls` says what one
    question of a gate costs, by the group asked. `enforced` false judges and changes nothing.
    `buffered` is true where the client asked for a stream and gets it whole, at the end.
    """

    rungs: tuple[Rung, ...]
    least: tuple[Rung, ...]
    candidates: tuple[Candidate, ...] = ()
    calls: Mapping[str, Candidate] = field(default_factory=dict)
    enforced: bool = True
    buffered: bool = False
    skipped: str = ""

    @property
    def cascades(self) -> bool:
        """Whether it begins with a cheaper group than the decided one."""
        return self.rungs[0].group != self.least[0].group


@dataclass(frozen=True, slots=True)
class Planned:
    """The decision as it stands beside its plan: with a warning more, or refused."""

    decision: Decision
    plan: Plan | None = None


def wanted(policy: Policy, decision: Decision) -> bool:
    """Say whether this kind of request asks for a gate or a cascade; two look-ups."""
    routing = policy.routing
    if decision.group is None:
        return False
    if routing.task(decision.task_type).cascade is not None:
        return True
    return routing.gate(decision.task_type, decision.consequence) is not None


def plan(
    policy: Policy,
    view: RequestView,
    counts: TokenCounts,
    caller: Caller,
    learned: Learned,
    decision: Decision,
) -> Planned:
    """Plan a decided request."""
    if view.embeds or decision.group is None:
        return Planned(decision)
    task = policy.routing.task(decision.task_type)
    gate = policy.routing.gate(decision.task_type, decision.consequence)
    cascade = task.cascade
    shadow = decision.mode is Mode.SHADOW
    high = decision.consequence == Consequence.HIGH.value
    streams = _streams(gate, view.steering, high) if view.stream else "whole"
    if shadow or (gate is not None and gate.mode == "shadow"):
        # Judged and recorded, where that costs nothing and the answer is whole.
        gate = gate if gate is not None and not gate.asks and not view.stream else None
        if gate is None and (shadow or cascade is None):
            return Planned(decision)
        if shadow:
            rungs = (Rung(decision.group, gate),)
            return Planned(decision, Plan(rungs, rungs, enforced=False))
    if streams == "pass":
        what = "judged" if gate is not None else "cascaded"
        note = f"not_gated: a streamed answer is not {what}; ask for it with buffer: true"
        return Planned(replace(decision, warnings=(*decision.warnings, note)))
    several = view.choices > 1 and (cascade is not None or (gate is not None and gate.asks))
    if streams == "refuse" or (several and gate is not None and gate.asks):
        what = "several answers at once" if several else "a streamed answer"
        message = f"The gate of {decision.task_type} cannot judge {what}."
        hint = "Ask for one (`n: 1`)." if several else "Leave `stream` out, or ask with `buffer`."
        return Planned(_refused(decision, "unsupported_request", f"{message} {hint}", view))
    chain = _chain(decision, gate)
    calls: dict[str, Candidate] = {}
    caps = cap_of(policy, view, caller, decision)

    def call_of(asked: Gate | None) -> Candidate | None:
        """Return what a question of a gate costs, feasible or not."""
        if asked is None or not asked.asks or asked.group is None:
            return None
        if asked.group not in calls:
            calls[asked.group] = _call(policy, view, counts, caller, learned, decision, asked)
        return calls[asked.group]

    def cost_of(rungs: tuple[Rung, ...], extra: Mapping[str, Candidate]) -> int | None:
        """Return the most that all of them cost; None where a gate cannot be asked."""
        total = 0
        for rung in rungs:
            candidate = extra.get(rung.group) or decision.candidate(rung.group)
            total += _hold(candidate)
            call = call_of(rung.gate)
            if call is not None and not call.kept:
                return None
            total += _hold(call)
        return total

    limit = _limit(policy, decision, caps)
    least = chain[:1]
    least_cost = cost_of(least, {})
    if least_cost is None:
        assert gate is not None and gate.group is not None
        reason = calls[gate.group].reason
        return Planned(
            _refused(
                decision,
                "no_feasible_model",
                f"The gate of {decision.task_type} cannot ask {gate.group}: {reason}",
                view,
            )
        )
    if gate is not None and gate.asks and limit is not None and least_cost > limit:
        message = (
            f"With its gate the request could cost ${money.plain(least_cost)}, "
            f"more than the ${money.plain(limit)} that one request may."
        )
        return Planned(_refused(decision, "per_call_cap_exceeded", message, view))
    buffered = streams == "buffer"
    rungs: tuple[Rung, ...] = chain
    extra: dict[str, Candidate] = {}
    skipped = ""
    if cascade is not None:
        skipped = _no_cascade(policy, view, decision, high, several)
        if not skipped:
            steps: list[Rung] = []
            for name in cascade.steps:
                found = _step(policy, view, counts, caller, learned, decision, name)
                if found.kept and all(found.group != known.group for known in (*steps, *chain[:1])):
                    extra[found.group] = found
                    steps.append(Rung(found.group, cascade.gate or gate, always_up=True))
            judged = [s for s in steps if s.gate is not None and _askable(call_of(s.gate))]
            skipped = "" if judged else "no step of it can serve this request"
            rungs = (*judged, *(r for r in chain if all(r.group != s.group for s in judged)))
    total = cost_of(rungs, extra)
    if len(rungs) > 1 and limit is not None and (total or 0) > limit:
        skipped = f"it could cost ${money.plain(total or 0)}, more than one request may"
        rungs = least
    if skipped:
        rungs = rungs if rungs[0].group == least[0].group else least
    enforced = gate is None or gate.mode == "enforce"
    if gate is None and rungs == least:
        # Nothing is left of it but the decision; it says why.
        note = f"cascade_skipped: {skipped}"
        return Planned(replace(decision, warnings=(*decision.warnings, note)))
    known = tuple(c for name, c in extra.items() if any(r.group == name for r in rungs))
    made = Plan(rungs, least, known, calls, enforced, buffered, skipped)
    if skipped:
        note = f"cascade_skipped: {skipped}"
        decision = replace(decision, warnings=(*decision.warnings, note))
    return Planned(decision, made)


def _streams(gate: Gate | None, steering: Steering, high: bool) -> str:
    said = gate.streams if gate is not None else None
    said = said or ("buffer" if high and gate is not None else "pass")
    return "buffer" if said == "pass" and steering.buffer else said


def _chain(decision: Decision, gate: Gate | None) -> tuple[Rung, ...]:
    """Return the decided group and, where its gate escalates, those after it."""
    assert decision.group is not None
    groups = [decision.group]
    if gate is not None and gate.on_fail == "escalate" and gate.mode == "enforce":
        groups += decision.fallbacks[: gate.escalations_max]
    return tuple(Rung(group, gate) for group in groups)


def _no_cascade(
    policy: Policy, view: RequestView, decision: Decision, high: bool, several: bool
) -> str:
    """Return why the request is not cascaded, empty where it may be."""
    asked = policy.groups.aliases.get(decision.requested, decision.requested)
    if asked != AUTO and asked not in policy.routing.categories:
        return "the group was named"
    if high:
        return "the consequence is high"
    if several:
        return "several answers were asked for"
    if view.unbounded:
        return "its cost has no upper bound"
    return ""


def _step(
    policy: Policy,
    view: RequestView,
    counts: TokenCounts,
    caller: Caller,
    learned: Learned,
    decision: Decision,
    name: str,
) -> Candidate:
    """Return the candidate of a step: of a tier, the cheapest that can serve the request."""
    if name in policy.groups.groups:
        found = candidate_on(policy, view, counts, caller, learned, decision, name)
        return _allowed(policy, decision, found)
    tier = Tier(name)
    candidates = [
        _allowed(
            policy,
            decision,
            candidate_on(policy, view, counts, caller, learned, decision, group),
        )
        for group, facts in policy.routing.models.items()
        if facts.tier is tier and group in policy.groups.groups
    ]
    kept = [c for c in candidates if c.kept and c.cost is not None]
    return min(kept or candidates, key=_estimate)


def _allowed(policy: Policy, decision: Decision, candidate: Candidate) -> Candidate:
    """Hold a step to the category's providers: no gate stands in for those."""
    allowed = policy.routing.categories[decision.category].constraints.providers
    group = policy.groups.groups[candidate.group]
    if allowed is None or group.providers <= set(allowed):
        return candidate
    return replace(candidate, kept=False)


def _call(
    policy: Policy,
    view: RequestView,
    counts: TokenCounts,
    caller: Caller,
    learned: Learned,
    decision: Decision,
    gate: Gate,
) -> Candidate:
    """Return what one question of a gate costs: the request itself, or the verifier's."""
    assert gate.group is not None
    if gate.kind != VERIFIER:
        found = candidate_on(policy, view, counts, caller, learned, decision, gate.group)
        return _allowed(policy, decision, found)
    answer = max(
        (c.cost.output_tokens_max for c in decision.candidates if c.kept and c.cost is not None),
        default=0,
    )
    rubric = len(gate.rubric) // 2
    asked = replace(
        view,
        output_max=VERIFIER_OUTPUT_TOKENS,
        choices=1,
        images=0,
        stream=False,
        needs=frozenset(),
        call_type="acompletion",
        steering=replace(view.steering, expected_output_tokens=None),
    )
    words = counts.text + answer + rubric + VERIFIER_WORDS_TOKENS
    told = replace(counts, text=words, tools=0, images=0)
    found = candidate_on(policy, asked, told, caller, learned, decision, gate.group)
    return _allowed(policy, decision, found)


def _limit(policy: Policy, decision: Decision, caps: Callable[[str], object]) -> int | None:
    """Return the most that the request may cost as a whole, on whichever groups."""
    amounts = [policy.routing.categories[decision.category].constraints.cost_nano_usd_max]
    for candidate in decision.candidates:
        if candidate.kept:
            cap = caps(candidate.group)
            amounts.append(getattr(cap, "nano_usd", None))
    return min((it for it in amounts if it is not None), default=None)


def _hold(candidate: Candidate | None) -> int:
    return candidate.cost.hold_nano_usd if candidate is not None and candidate.cost else 0


def _estimate(candidate: Candidate) -> int:
    return candidate.cost.estimate_nano_usd if candidate.cost is not None else 0


def _askable(call: Candidate | None) -> bool:
    return call is None or call.kept


def _refused(decision: Decision, code: str, message: str, view: RequestView) -> Decision:
    param = None
    if code == "unsupported_request":
        param = "n" if view.choices > 1 else "stream"
    return replace(decision, group=None, fallbacks=(), code=code, message=message, param=param)
