"""A request's trace as a tree of observations. Pure.

    <task type>                    span: prompt, answer, the request's facts; no cost of its own
    ├ route                        span: every candidate with its reasons, and the time it took
    ├ escalation: <step>           event, one for each step after a budget had refused
    ├ approval asked | used        event
    ├ hold                         span: the amount and the budgets that bear it
    ├ <group>                      generation (or embedding), one an attempt: model, usage, cost
    │ └ gate: <kind>               evaluator: the verdict on that answer
    ├ fallback skipped: <group>    event
    ├ settle                       span: what the ledger charged, and how the estimate was
    └ refused: <code>              event, at WARNING

Langfuse adds up the cost of a trace's observations, so only attempts have one: together they cost
what the ledger charged. Each has a key by which its id is made, so that a trace sent twice is one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from budgets import money
from callbacks.tracing.observation import ROOT, Addition, Observation, Traced, event, known
from callbacks.tracing.record import RequestTrace, TraceAttempt

_EMBEDDINGS = ("aembedding", "embedding")


def observations(trace: Traced) -> list[Observation]:
    """Return a request's observations, the root first; of an addition its only one."""
    if isinstance(trace, Addition):
        return [trace.line]
    found = [_root(trace)]
    if trace.decision:
        found.append(_route(trace))
    found += _escalation(trace)
    found += _approvals(trace)
    if trace.held is not None or trace.decided is not None:
        found.append(_hold(trace))
    for number, attempt in enumerate(_whole(trace)):
        found.append(_attempt(trace, number, attempt))
        if attempt.verdict is not None:
            found.append(_gate(number, attempt))
    found += [
        event(f"skipped/{group}", f"fallback skipped: {group}", trace.ended, "WARNING",
               "no budget has room for it", {"group": group})
        for group in trace.skipped
    ]  # fmt: skip
    if trace.settled is not None:
        found.append(_settle(trace, trace.settled))
    if trace.refusal_code is not None:
        found.append(
            event("refused", f"refused: {trace.refusal_code}", trace.ended, "WARNING",
                   _text(trace.refusal.get("message")),
                   {"code": trace.refusal_code, **trace.refusal})
        )  # fmt: skip
    return found


def _root(trace: RequestTrace) -> Observation:
    level, message = "DEFAULT", None if trace.status == "ok" else trace.status
    if trace.refusal_code is not None:
        level, message = "WARNING", trace.refusal_code
    elif trace.status == "error":
        level, message = "ERROR", trace.error or "error"
    elif trace.status in ("withheld", "unreconciled"):
        level = "WARNING"
    texts = {
        "request_id": trace.request_id,
        "decision_id": trace.decision_id,
        "queue_id": trace.queue_id,
        "category": trace.category,
        "task_type": trace.task_type,
        "tier": trace.tier,
        "consequence": trace.consequence,
        "mode": trace.mode,
        "status": trace.status,
        "requested_model": trace.requested_model,
        "group": trace.group,
        "serving_group": trace.serving_group,
        "serving_model": trace.serving_model,
        "key": trace.key_name,
        "team": trace.team,
        "call_type": trace.call_type,
        "refusal_code": trace.refusal_code,
        "stream": trace.stream,
        **_amount("estimate", trace.estimate_nano_usd),
        **_amount("hold", trace.hold_nano_usd),
        **_amount("actual", trace.actual_nano_usd),
        "marks": list(trace.marks) or None,
    }
    return Observation(
        key=ROOT,
        name=trace.name,
        type="span",
        parent=None,
        started=trace.started,
        ended=max(trace.started, trace.ended),
        level=level,
        message=message,
        prompt=trace.content.prompt,
        answer=trace.content.answer,
        metadata=known(texts),
    )


def _route(trace: RequestTrace) -> Observation:
    decision = trace.decision
    ended = trace.decided or trace.ended
    candidates = [_candidate(it) for it in decision.get("candidates") or ()]
    return Observation(
        key="route",
        name="route",
        type="span",
        started=trace.started,
        ended=ended,
        level="WARNING" if decision.get("code") else "DEFAULT",
        message=_text(decision.get("code")),
        given=known(
            {
                "requested": decision.get("requested"),
                "input_tokens": decision.get("input_tokens"),
                "expected_output_tokens": decision.get("expected_output_tokens"),
                "signals": decision.get("signals") or None,
            }
        ),
        result=known(
            {
                "category": decision.get("category"),
                "task_type": decision.get("task_type"),
                "group": decision.get("group"),
                "fallbacks": decision.get("fallbacks") or None,
                "candidates": candidates or None,
            }
        ),
        metadata=known(
            {
                "took_us": round((ended - trace.started).total_seconds() * 1e6),
                **{name: decision.get(name) or None for name in _TOLD},
            }
        ),
    )


_TOLD = (
    "task_source", "task_why", "tier_floor", "category_by_tokens", "floor", "output_tokens_cap",
    "router", "session", "would", "warnings", "notes", "stripped",
)  # fmt: skip
"""What the route says of a decision beside its candidates."""


def _candidate(candidate: Mapping[str, Any]) -> dict[str, Any]:
    cost = candidate.get("cost") or {}
    return known(
        {
            "group": candidate.get("group"),
            "kept": candidate.get("kept"),
            "reason": candidate.get("reason") or None,
            # Each constraint that it failed: what was needed, and what the group has.
            "failed": candidate.get("drops") or None,
            "latency_ms": candidate.get("latency_ms"),
            **_amount("estimate", cost.get("estimate_nano_usd")),
            **_amount("hold", cost.get("hold_nano_usd")),
        }
    )


def _escalation(trace: RequestTrace) -> Iterator[Observation]:
    when = trace.held or trace.ended
    for number, step in enumerate(trace.escalation):
        outcome = str(step.get("outcome"))
        helped = outcome in ("taken", "asked", "tried")
        yield event(
            f"escalation/{number}",
            f"escalation: {step.get('step')}",
            when,
            "DEFAULT" if helped else "WARNING",
            " ".join(filter(None, (outcome, step.get("group"), step.get("detail")))),
            step,
        )


def _approvals(trace: RequestTrace) -> Iterator[Observation]:
    when = trace.held or trace.ended
    if trace.approval:
        yield event("approval/used", "approval used", when, "DEFAULT", trace.approval,
                     {"approval_id": trace.approval})  # fmt: skip
    asked = trace.refusal.get("approval_id")
    if asked:
        state = _text(trace.refusal.get("approval_state")) or "open"
        yield event("approval/asked", "approval asked", when, "DEFAULT", f"{asked} {state}",
                     {"approval_id": asked, "state": state})  # fmt: skip


def _hold(trace: RequestTrace) -> Observation:
    refused = trace.held is None
    ended = trace.held or trace.ended
    return Observation(
        key="hold",
        name="hold",
        type="span",
        started=min(trace.decided or ended, ended),
        ended=ended,
        level="WARNING" if refused else "DEFAULT",
        message=trace.refusal_code if refused else None,
        result=known(
            {
                **_amount("hold", None if refused else trace.hold_nano_usd),
                **_amount("estimate", trace.estimate_nano_usd),
                "budgets": list(trace.budgets) or None,
            }
        ),
        metadata={"hold_id": trace.request_id, "cascade": trace.cascade}
        if trace.cascade
        else {"hold_id": trace.request_id},
    )


def _whole(trace: RequestTrace) -> Sequence[TraceAttempt]:
    """Return the attempts, with one more for what was charged and none of them explains."""
    charged = sum(attempt.cost_nano_usd for attempt in trace.attempts)
    actual = trace.actual_nano_usd
    if actual is None or actual <= charged:
        return trace.attempts
    rest = TraceAttempt(
        group=trace.serving_group or trace.group or "unknown",
        status="unattributed",
        cost_nano_usd=actual - charged,
        started=trace.ended,
        ended=trace.ended,
        estimated=True,
    )
    return (*trace.attempts, rest)


def _attempt(trace: RequestTrace, number: int, attempt: TraceAttempt) -> Observation:
    embeds = trace.call_type in _EMBEDDINGS and attempt.role != "verifier"
    good = attempt.answered or attempt.status == "answered"
    failed_level = "WARNING" if attempt.status in ("unreconciled", "unattributed") else "ERROR"
    answer = trace.content.of_sends.get(attempt.send) if attempt.answered else None
    if answer is None and attempt.served:
        answer = trace.content.answer
    asked_the_request = attempt.role != "verifier"
    return Observation(
        key=f"attempt/{number}",
        name=attempt.group,
        type="embedding" if embeds else "generation",
        started=attempt.started,
        ended=attempt.ended,
        level="DEFAULT" if good else failed_level,
        message=None if good else (attempt.error or attempt.status),
        model=attempt.model or attempt.group,
        usage=attempt.usage,
        cost_nano_usd=attempt.cost_nano_usd,
        # What a verifier is asked is the prompt and the answer once more.
        prompt=trace.content.prompt if asked_the_request else None,
        answer=answer,
        metadata=known(
            {
                "attempt": number + 1,
                "group": attempt.group,
                "status": attempt.status,
                "served": attempt.served,
                "estimated": attempt.estimated,
                "error": attempt.error,
                "role": attempt.role,
                "step": attempt.send + 1 if attempt.role is not None else None,
                **_amount("cost", attempt.cost_nano_usd),
            }
        ),
    )


def _gate(number: int, attempt: TraceAttempt) -> Observation:
    verdict = attempt.verdict or {}
    failed = verdict.get("verdict") == "failed"
    return Observation(
        key=f"gate/{number}",
        name=f"gate: {verdict.get('gate')}",
        type="evaluator",
        parent=f"attempt/{number}",
        started=attempt.ended,
        ended=attempt.ended,
        level="WARNING" if failed else "DEFAULT",
        message="; ".join(verdict.get("reasons") or ()) or None,
        result=dict(verdict),
    )


def _settle(trace: RequestTrace, settled: datetime) -> Observation:
    unsure = [mark for mark in trace.marks if mark in ("estimated", "unreconciled")]
    over = (trace.actual_nano_usd or 0) - (trace.hold_nano_usd or 0)
    return Observation(
        key="settle",
        name="settle",
        type="span",
        started=min(trace.ended, settled),
        ended=settled,
        level="WARNING" if unsure or over > 0 else "DEFAULT",
        message=", ".join((*unsure, *(["overage"] if over > 0 else []))) or None,
        result=known(
            {
                "outcome": trace.outcome,
                **_amount("charged", trace.actual_nano_usd),
                **_amount("overage", over if over > 0 else None),
                "charges": dict(trace.charges) or None,
                "estimate_error": trace.estimate_error,
            }
        ),
        metadata=known({"marks": list(trace.marks) or None, "gate": trace.gate}),
    )


def _amount(name: str, nano_usd: int | None) -> dict[str, Any]:
    """Return an amount as it is read and as it is reckoned with; nothing where it is unknown."""
    if nano_usd is None:
        return {}
    return {f"{name}_usd": money.plain(nano_usd), f"{name}_nano_usd": nano_usd}


def _text(value: object) -> str | None:
    return str(value) if value else None
