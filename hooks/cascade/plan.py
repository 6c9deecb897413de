"""What a gated request may send, in order, and what all of it may cost. Pure.

    steps of the cascade ─► the decided group ─► further up its chain
    (each with its gate)     (the task type's gate)

A plan is made beside the decision, which stands as it is: without a cascade, or where the whole
plan does not fit, the decided group answers. What must not be left out is the gate of the answer
itself, so its cost belongs to the request like its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from budgets import money
from budgets.learned import Learned
from hooks.chain import candidate_on, cap_of
from hooks.decision import Caller, Candidate, Decision
from hooks.gates.settings import VERIFIER, Cascade, Gate
from hooks.levels import Consequence, Mode, Tier
from hooks.policy import Policy
from hooks.request import RequestView
from hooks.routing import AUTO
from hooks.steering import Steering
from hooks.tokens import TokenCounts

VERIFIER_WORDS_TOKENS = 400
"""What the verifier is told besides request, answer and rubric; see `steps`."""
VERIFIER_OUTPUT_TOKENS = 64
_HIGH = Consequence.HIGH.value


@dataclass(frozen=True, slots=True)
class Rung:
    """A group to ask and the gate that its answer must pass, if any.

    `always_up` is true for a step of a cascade: an answer that fails goes up, whatever `on_fail`.
    """

    group: str
    gate: Gate | None
    always_up: bool = False

    @property
    def enforced(self) -> bool:
        """Whether a failing answer has consequences here."""
        return self.always_up or (self.gate is not None and self.gate.mode == "enforce")


@dataclass(frozen=True, slots=True)
class Plan:
    """What may be sent, and what was left out of it, with the reason.

    `rungs` is the whole, `least` what goes without it: the decided group with its gate.
    `candidates` are the groups that are no candidates of the decision; `calls` says what one
    question of a gate costs, by the group asked. `enforced` is false in shadow mode.
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
    if decision.task_type in routing.judged:
        return True
    return decision.consequence == _HIGH and routing.gates.high_consequence is not None


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
    gate = policy.routing.gate(decision.task_type, decision.consequence)
    if decision.mode is Mode.SHADOW:
        # Nothing is changed: the answer is judged where that takes no call, and recorded.
        if gate is None or gate.asks or view.stream:
            return Planned(decision)
        only = (Rung(decision.group, gate),)
        return Planned(decision, Plan(only, only, enforced=False))
    asked = _Asked(policy, view, counts, caller, learned, decision)
    if gate is not None and gate.mode == "shadow" and (gate.asks or view.stream):
        gate = None
    cascade = policy.routing.task(decision.task_type).cascade
    if gate is None and cascade is None:
        return Planned(decision)
    streams = _streams(gate, view.steering, decision) if view.stream else "whole"
    if streams == "pass":
        what = "judged" if gate is not None else "cascaded"
        return _noted(decision, f"not_gated: a stream is not {what}; ask with buffer: true")
    if streams == "refuse":
        return _refused(
            decision,
            "unsupported_request",
            f"The gate of {decision.task_type} cannot judge a stream. Leave `stream` out, or ask "
            "with `buffer`.",
            "stream",
        )
    chain = _chain(decision, gate)
    if refused := _gate_refused(asked, chain[:1]):
        return refused
    rungs, extra, skipped = _with_cascade(asked, cascade, gate, chain)
    limit = asked.limit()
    total = asked.cost_of(rungs, extra)
    if len(rungs) > 1 and limit is not None and total > limit:
        skipped = f"it could cost ${money.plain(total)}, more than one request may"
        rungs, extra = chain[:1], {}
    if skipped:
        decision = _noted(decision, f"cascade_skipped: {skipped}").decision
        if gate is None:
            return Planned(decision)
    made = Plan(
        rungs=rungs,
        least=chain[:1],
        candidates=tuple(extra.values()),
        calls=asked.calls,
        buffered=streams == "buffer",
        skipped=skipped,
    )
    return Planned(decision, made)


@dataclass(frozen=True, slots=True)
class _Asked:
    """The request with all that its candidates are judged by, and what was asked of them already.

    `calls` says what one question of a gate costs, by the group asked.
    """

    policy: Policy
    view: RequestView
    counts: TokenCounts
    caller: Caller
    learned: Learned
    decision: Decision
    calls: dict[str, Candidate] = field(default_factory=dict)

    def candidate(
        self,
        group: str,
        view: RequestView | None = None,
        counts: TokenCounts | None = None,
        caller: Caller | None = None,
    ) -> Candidate:
        """Return a group as a candidate; the category's allowed providers hold for it too."""
        found = candidate_on(
            self.policy,
            view or self.view,
            counts or self.counts,
            caller or self.caller,
            self.learned,
            self.decision,
            group,
        )
        constraints = self.policy.routing.categories[self.decision.category].constraints
        allowed = constraints.providers
        if allowed is None or self.policy.groups.groups[group].providers <= set(allowed):
            return found
        return replace(found, kept=False)

    def call_of(self, gate: Gate | None) -> Candidate | None:
        """Return what a gate's question costs, feasible or not; None where it asks nobody."""
        if gate is None or not gate.asks or gate.group is None:
            return None
        if gate.group not in self.calls:
            asked, counts = self.view, self.counts
            if gate.kind == VERIFIER:
                asked, counts = self._question(gate)
            # The house asks here, so the groups that the caller's key may use do not bind.
            house = replace(self.caller, allowed_groups=())
            self.calls[gate.group] = self.candidate(gate.group, asked, counts, house)
        return self.calls[gate.group]

    def _question(self, gate: Gate) -> tuple[RequestView, TokenCounts]:
        """Return what a verifier is asked: the request's text, the longest answer, the rubric."""
        costs = [c.cost for c in self.decision.candidates if c.kept and c.cost is not None]
        answer = max((cost.output_tokens_max for cost in costs), default=0)
        words = self.counts.text_max + answer + len(gate.rubric) // 2 + VERIFIER_WORDS_TOKENS
        view = replace(
            self.view,
            output_max=VERIFIER_OUTPUT_TOKENS,
            choices=1,
            images=0,
            stream=False,
            needs=frozenset(),
            call_type="acompletion",
            steering=replace(self.view.steering, expected_output_tokens=None),
        )
        return view, replace(self.counts, text=words, tools=0, images=0, text_between=None)

    def cost_of(self, rungs: tuple[Rung, ...], extra: Mapping[str, Candidate]) -> int:
        """Return the most that all rungs cost, with what their gates ask."""
        answers = sum(_hold(extra.get(r.group) or self.decision.candidate(r.group)) for r in rungs)
        return answers + sum(_hold(self.call_of(rung.gate)) for rung in rungs)

    def limit(self) -> int | None:
        """Return the most that the request may cost as a whole, on whichever groups."""
        category = self.policy.routing.categories[self.decision.category]
        amounts = [category.constraints.cost_nano_usd_max]
        cap_on = cap_of(self.policy, self.view, self.caller, self.decision)
        for candidate in self.decision.candidates:
            cap = cap_on(candidate.group) if candidate.kept else None
            amounts.append(cap.nano_usd if cap is not None else None)
        return min((it for it in amounts if it is not None), default=None)

    def step(self, name: str) -> Candidate:
        """Return the candidate of a cascade's step: of a tier, the cheapest that can serve."""
        if name in self.policy.groups.groups:
            return self.candidate(name)
        candidates = [
            self.candidate(group)
            for group, facts in self.policy.routing.models.items()
            if facts.tier is Tier(name) and group in self.policy.groups.groups
        ]
        kept = [c for c in candidates if c.kept]
        return min(kept or candidates, key=_estimate)


def _streams(gate: Gate | None, steering: Steering, decision: Decision) -> str:
    """Return what becomes of a stream: `buffer`, `refuse` or `pass`.

    Where the policy does not say, it is kept back if the consequence is known to be high. A task
    type that was only guessed from the words does not take anybody's stream away.
    """
    said = gate.streams if gate is not None else None
    if said is None:
        high = gate is not None and decision.consequence == Consequence.HIGH.value
        said_so = steering.consequence is Consequence.HIGH
        known = said_so or decision.task_source in ("caller", "rule")
        said = "buffer" if high and known else "pass"
    return "buffer" if said == "pass" and steering.buffer else said


def _chain(decision: Decision, gate: Gate | None) -> tuple[Rung, ...]:
    """Return the decided group and, where its gate escalates, those after it."""
    assert decision.group is not None
    groups = [decision.group]
    if gate is not None and gate.on_fail == "escalate" and gate.mode == "enforce":
        groups += decision.fallbacks[: gate.escalations_max]
    return tuple(Rung(group, gate) for group in groups)


def _gate_refused(asked: _Asked, least: tuple[Rung, ...]) -> Planned | None:
    """Refuse a request whose gate cannot be asked, or not for what one request may cost."""
    gate, decision = least[0].gate, asked.decision
    call = asked.call_of(gate)
    if gate is None or call is None:
        return None
    if asked.view.choices > 1:
        message = f"The gate of {decision.task_type} judges one answer. Ask for one (`n: 1`)."
        return _refused(decision, "unsupported_request", message, "n")
    if not call.kept:
        message = f"The gate of {decision.task_type} cannot ask {call.group}: {call.reason}"
        return _refused(decision, "no_feasible_model", message)
    limit, cost = asked.limit(), asked.cost_of(least, {})
    if limit is not None and cost > limit:
        message = (
            f"With its gate the request could cost ${money.plain(cost)}, more than the "
            f"${money.plain(limit)} that one request may."
        )
        return _refused(decision, "per_call_cap_exceeded", message)
    return None


def _with_cascade(
    asked: _Asked, cascade: Cascade | None, gate: Gate | None, chain: tuple[Rung, ...]
) -> tuple[tuple[Rung, ...], dict[str, Candidate], str]:
    """Return the rungs with the cascade's steps first and those steps; or why there are none."""
    if cascade is None:
        return chain, {}, ""
    if reason := _no_cascade(asked):
        return chain, {}, reason
    judge = cascade.gate or gate
    call = asked.call_of(judge)
    if judge is None or (call is not None and not call.kept):
        return chain, {}, "its gate cannot be asked"
    extra: dict[str, Candidate] = {}
    for name in cascade.steps:
        found = asked.step(name)
        if found.kept and found.group != chain[0].group:
            extra.setdefault(found.group, found)
    if not extra:
        return chain, {}, "no step of it can serve this request"
    steps = tuple(Rung(group, judge, always_up=True) for group in extra)
    return (*steps, *(rung for rung in chain if rung.group not in extra)), extra, ""


def _no_cascade(asked: _Asked) -> str:
    """Return why the request is not cascaded, empty where it may be."""
    decision, policy = asked.decision, asked.policy
    named = policy.groups.aliases.get(decision.requested, decision.requested)
    if named != AUTO and named not in policy.routing.categories:
        return "the group was named"
    if decision.consequence == Consequence.HIGH.value:
        return "the consequence is high"
    if asked.view.choices > 1:
        return "several answers were asked for"
    if asked.view.unbounded:
        return "its cost has no upper bound"
    return ""


def _hold(candidate: Candidate | None) -> int:
    return candidate.cost.hold_nano_usd if candidate is not None and candidate.cost else 0


def _estimate(candidate: Candidate) -> int:
    return candidate.cost.estimate_nano_usd if candidate.cost is not None else 0


def _noted(decision: Decision, note: str) -> Planned:
    return Planned(replace(decision, warnings=(*decision.warnings, note)))


def _refused(decision: Decision, code: str, message: str, param: str | None = None) -> Planned:
    refused = replace(decision, group=None, fallbacks=(), code=code, message=message, param=param)
    return Planned(refused)
