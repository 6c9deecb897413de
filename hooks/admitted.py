"""A request that was admitted: what is remembered until its end, and what its client is told."""

from __future__ import annotations

from collections.abc import Callable

from budgets.holds import Held
from budgets.open_requests import OpenRequest, Terms
from budgets.prices import TokenUsage
from budgets.published import Level
from budgets.runtime import Runtime
from budgets.traced import Routed
from hooks import advice, counting, headers, session_desk
from hooks.admission import Admission
from hooks.case import Case
from hooks.escalation import Asked
from hooks.metrics import count_admitted
from hooks.worker import Worker


def admitted(
    worker: Worker,
    case: Case,
    runtime: Runtime,
    asked: Asked,
    held: Held,
    clock_ns: Callable[[], int],
) -> Admission:
    """Take a request that has its hold into the worker's lists; return what to send."""
    decision, terms, offline = case.decision, asked.terms, asked.offline
    assert decision is not None and decision.group is not None
    first = terms[decision.group]
    warnings = [*decision.warnings, *_passed(held)]
    if case.stripped:
        warnings.append(f"fields_ignored: {', '.join(case.stripped[:10])}")
    if offline:
        warnings.append("ledger_unavailable: sent within the allowance")
    simulated = decision.group in worker.simulated
    response_headers = headers.build(
        mode=decision.mode.value,
        decision_id=case.decision_id,
        category=decision.category,
        task_type=decision.task_type,
        group=decision.group,
        estimate_nano_usd=first.estimate_nano_usd,
        remaining_nano_usd=min((s.remaining_nano_usd for s in held.states), default=None),
        simulated=simulated,
        warnings=warnings,
        output_tokens_cap=decision.output_tokens_cap,
    )
    told = None
    if case.view is not None and case.view.steering.advice:
        told = advice.told(case.policy, decision.requested, decision.task_type)
        response_headers[headers.ADVICE] = headers.clean(advice.header_of(told))
    opened = OpenRequest(
        request_id=case.request_id,
        decision_id=case.decision_id,
        facts=asked.facts,
        terms=terms,
        group=decision.group,
        held_nano_usd=asked.request.amount_nano_usd,
        held_groups=[decision.group],
        headers=response_headers,
        stream=case.view is not None and case.view.stream,
        offline=offline,
        output_tokens_cap=decision.output_tokens_cap,
        choices=case.view.choices if case.view is not None else 1,
        learning_rate=case.policy.routing.estimates.learning_rate,
        clock_ns=clock_ns,
        held_at_ms=held.time_ms,
        stats_period=case.stats_period,
        routed=Routed(asked.request.decision, case.began_ns, case.decided_ns),
    )
    if case.incoming.run is not None and held.repeated:
        _charge_lost_sends(opened, first, case.incoming.run.lost)
    runtime.requests.add(opened)
    counting.learn_from(case, runtime, opened)
    if not offline:
        runtime.leases.add(case.request_id)
    session_desk.note(worker.sessions, runtime, case)
    count_admitted(case.policy, decision)
    return Admission(
        request_id=case.request_id,
        mode=decision.mode,
        group=decision.group,
        fallbacks=decision.fallbacks,
        output_tokens_cap=decision.output_tokens_cap,
        headers=response_headers,
        advice=told,
    )


def _charge_lost_sends(opened: OpenRequest, terms: Terms, count: int) -> None:
    """Charge the sends of a queued request that its workers died in: they may have been billed."""
    usage = TokenUsage(terms.input_tokens, terms.output_tokens_expected)
    for _ in range(count):
        attempt = opened.begin_attempt(opened.group)
        attempt.end("lost", terms.price.cost(usage), estimated=True)


def _passed(held: Held) -> list[str]:
    """Return a warning for each budget that has passed a threshold worth a word to the client."""
    told = (Level.WARNING, Level.CRITICAL, Level.EMERGENCY)
    warnings = []
    for state in held.states:
        passed = [level for level in told if level in state.claimed]
        if passed:
            warnings.append(f"threshold_{passed[-1].value}: budget {state.budget}")
    return warnings
