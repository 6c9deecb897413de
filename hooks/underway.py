"""A request between its sending and its answer: fallbacks to permit, headers to complete."""

from __future__ import annotations

from budgets.errors import ClockSkew
from budgets.holds import BudgetHold
from budgets.holds import Refused as LedgerRefused
from budgets.open_requests import OpenRequest
from budgets.runtime import Runtime
from budgets.sends import Role
from hooks import headers
from hooks.cascade.steps import Withheld
from hooks.levels import Mode
from hooks.refusals import Code, Refusal


async def may_fall_back(runtime: Runtime | None, request_id: str, group: str) -> bool:
    """Say whether the request may go to a fallback, after topping up its hold where needed.

    False skips that target alone. The reason stands in the entry.

    Raises:
        LedgerUnavailable: the hold could not be raised.
    """
    request = runtime.requests.get(request_id) if runtime is not None else None
    if runtime is None or request is None:
        return True
    terms = request.terms.get(group)
    if terms is None:
        request.skipped.append(f"{group}: not in the chain of this request")
        return bool(request.facts["mode"] == Mode.SHADOW.value)
    used = request.ended_cost_nano_usd()
    needed = used + terms.hold_nano_usd
    new = {b.budget for b in terms.budgets} - {
        b.budget for g in request.held_groups for b in request.terms[g].budgets
    }
    if needed > request.held_nano_usd or new:
        budgets = tuple(
            BudgetHold(b.budget, b.rule, b.period, used + b.amount_nano_usd, b.enforced)
            for b in terms.budgets
        )
        try:
            held = await runtime.top_up(request, needed, budgets)
        except ClockSkew:
            # A budget of this group alone, whose period turned between our clock and the hold.
            request.skipped.append(f"{group}: the period of a budget turned as the request began")
            return False
        if isinstance(held, LedgerRefused):
            request.skipped.append(f"{group}: {held.code} of budget {held.state.budget}")
            return False
        if held is None:
            request.skipped.append(f"{group}: the hold has ended")
            return False
        request.held_nano_usd = max(needed, request.held_nano_usd)
    if group not in request.held_groups:
        request.held_groups.append(group)
    return True


def answer_headers(
    runtime: Runtime | None,
    simulated: frozenset[str],
    request_id: str,
    known: dict[str, str],
    response: object,
    at_length: bool,
) -> dict[str, str]:
    """Return the headers of an answer: what was decided, with what has happened since."""
    request = runtime.requests.recent(request_id) if runtime is not None else None
    if request is None:
        return known
    if response is not None and not request.finished:
        request.answer_started = True
        if request.stream:
            request.stream_object = response
    if request.sends is not None:
        gated_headers(request, simulated, known)
    elif request.attempts:
        serving = request.attempts[-1].group
        known[headers.MODEL] = headers.clean(serving)
        if serving in simulated:
            known[headers.SIMULATED] = "true"
    if at_length and request.output_tokens_cap is not None:
        request.capped = True
        note = f"output_capped: at {request.output_tokens_cap} tokens; set max_tokens for more"
        headers.warn(known, note)
    return known


def gated_headers(
    request: OpenRequest, simulated: frozenset[str], known: dict[str, str]
) -> dict[str, str]:
    """Return the headers of a judged answer: who served it, and how it came to that."""
    sends = request.sends
    assert sends is not None
    attempt = request.serving_attempt()
    if attempt is not None:
        known[headers.MODEL] = headers.clean(attempt.group)
        if attempt.group in simulated:
            known[headers.SIMULATED] = "true"
    answers = [send for send in sends.sends if send.role is Role.ANSWER]
    if len(answers) > 1:
        way = " -> ".join(send.group for send in answers)
        headers.warn(known, f"gate_escalated: {way}")
    last = answers[-1].verdict or {}
    if last.get("verdict") == "not_judged":
        headers.warn(known, "not_gated: the answer calls a tool")
    return known


def withheld(request: OpenRequest, found: Withheld, told: dict[str, str]) -> Refusal:
    """Return what the client is told in place of an answer that did not pass."""
    reasons = "; ".join(found.reasons)
    message = (
        f"The answer was withheld: it did not pass the quality gate ({found.gate}) of "
        f"{request.facts.get('task_type')}. {reasons}."
    )
    return Refusal(
        code=Code.QUALITY_GATE_FAILED,
        message=message,
        detail={
            "decision_id": request.decision_id,
            "gate": found.gate,
            "reasons": list(found.reasons),
            "groups": list(found.groups),
            "charged": True,
            "next_step": "The answer was paid for and is not kept. Change the request, or ask a "
            "stronger model by its name; the same request may fail again.",
        },
        headers=told,
    )
