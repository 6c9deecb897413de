"""From the books to a trace: what accounting knows of a request, as a `RequestTrace`. Pure.

Runs on the tracing thread, once the request has ended: nothing of what is read here changes then.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from budgets.open_requests import Attempt, OpenRequest
from budgets.prices import TokenUsage
from budgets.records import LedgerEntry
from budgets.traced import ApprovalAnswered, Routed
from callbacks.closing import Answer, Ending
from callbacks.tracing.observation import Addition, event
from callbacks.tracing.record import Content, RequestTrace, TraceAttempt, TraceUsage


def of_ending(
    request: OpenRequest, ending: Ending, content: Content, now: datetime, now_ns: int
) -> RequestTrace:
    """Return the trace of a request that was admitted and has ended.

    `now` is the aware time and `now_ns` the request's clock at the moment when the ledger had been
    told; with both, what the clock measured is placed on the wall clock.
    """

    def at(clock_ns: int) -> datetime:
        return now - timedelta(microseconds=(now_ns - clock_ns) // 1_000)

    facts, routed = ending.facts, request.routed
    held = at(request.started_ns)
    took_ms = facts.get("latency_ms")
    ended = held + timedelta(milliseconds=took_ms) if isinstance(took_ms, int) else now
    hold = request.recovery()
    return _of_facts(
        facts,
        request_id=request.request_id,
        decision_id=request.decision_id,
        started=at(routed.began_ns) if routed is not None else held,
        ended=ended,
        decided=at(routed.decided_ns) if routed is not None and routed.decided_ns else None,
        held=held,
        settled=now,
        outcome="settled" if ending.settlement is not None else "voided",
        decision=_decision(routed),
        status=str(facts.get("status") or "ok"),
        group=request.group,
        stream=request.stream,
        actual_nano_usd=ending.cost_nano_usd,
        budgets=tuple(
            {
                "budget": share.budget,
                "period": share.period.id,
                "held_nano_usd": share.amount_nano_usd,
                "enforced": share.enforced,
            }
            for share in (hold.budgets if hold is not None else ())
        ),
        charges=dict(ending.settlement.charges) if ending.settlement is not None else {},
        marks=ending.marks,
        attempts=_attempts(request, facts, at),
        content=content,
    )


def of_refusal(
    facts: Mapping[str, Any],
    *,
    request_id: str,
    decision_id: str | None,
    code: str,
    message: str,
    started: datetime,
    ended: datetime,
    routed: Routed | None = None,
    prompt: Any = None,
) -> RequestTrace:
    """Return the trace of a request that was not sent. `facts` is what was known by then."""
    decided = None
    if routed is not None and routed.decided_ns:
        took_ns = routed.decided_ns - routed.began_ns
        decided = min(ended, started + timedelta(microseconds=took_ns // 1_000))
    return _of_facts(
        facts,
        request_id=request_id,
        decision_id=decision_id,
        started=started,
        ended=ended,
        decided=decided,
        decision=_decision(routed),
        status="refused",
        refusal_code=code,
        refusal={"message": message, **(facts.get("refusal") or {})},
        content=Content(prompt),
    )


def of_expired(entry: LedgerEntry, ended: datetime) -> RequestTrace | None:
    """Return the trace of a request whose worker died: charged by its lease, nobody knows why.

    None where the entry does not say what was asked. A settle that comes late all the same brings
    the same trace with what it really cost.
    """
    try:
        facts = json.loads(entry.body)
    except ValueError:
        return None
    if not isinstance(facts, dict) or not facts.get("decision_id"):
        return None
    group = str(facts.get("group") or "unknown")
    lost = TraceAttempt(
        group=group,
        status="unreconciled",
        cost_nano_usd=entry.cost_nano_usd,
        started=ended,
        ended=ended,
        estimated=True,
    )
    return _of_facts(
        facts,
        request_id=entry.hold_id,
        started=ended,
        ended=ended,
        settled=ended,
        outcome="unreconciled",
        status="unreconciled",
        decision_id=str(facts["decision_id"]),
        hold_nano_usd=entry.held_nano_usd,
        actual_nano_usd=entry.cost_nano_usd,
        charges={budget: cost for (budget, _), cost in entry.charges.items()},
        marks=tuple(dict.fromkeys((*_texts(facts.get("marks")), "unreconciled"))),
        attempts=(lost,),
        content=Content(),
    )


def of_answer(answered: ApprovalAnswered) -> Addition:
    """Return the event that an answered ticket is in the trace of the request that opened it."""
    return Addition(
        seed=answered.decision_id,
        trace_name=answered.task_type or "approval_required",
        user=answered.user or None,
        task_type=answered.task_type or None,
        line=event(
            f"approval/{answered.approval_id}/{answered.outcome}",
            f"approval {answered.outcome}",
            answered.when,
            "WARNING" if answered.outcome == "denied" else "DEFAULT",
            f"{answered.approval_id} {answered.outcome} by {answered.by}",
            {
                "approval_id": answered.approval_id,
                "by": answered.by,
                **(answered.terms or {}),
            },
        ),
    )


def _attempts(
    request: OpenRequest, facts: Mapping[str, Any], at: Callable[[int], datetime]
) -> tuple[TraceAttempt, ...]:
    several = request.sends is not None
    served = request.serving_attempt() if facts.get("serving_group") else None
    found = []
    for attempt in request.attempts:
        send = request.sends.sends[attempt.send] if request.sends is not None else None
        last = send is None or attempt is request.last_attempt_of(send.number)
        answer = send.answer if send is not None and last else None
        model = usage = None
        if isinstance(answer, Answer):
            model, usage = answer.serving_model, _of_answer(answer.usage)
        elif not several and attempt is served:
            model, usage = facts.get("serving_model"), _usage(facts.get("tokens"))
        started = at(attempt.started_ns)
        found.append(
            TraceAttempt(
                group=attempt.group,
                status=attempt.status,
                cost_nano_usd=attempt.cost_nano_usd,
                started=started,
                ended=started + timedelta(milliseconds=attempt.latency_ms),
                model=model,
                usage=usage,
                estimated=attempt.estimated,
                error=attempt.error,
                send=attempt.send,
                role=send.role.value if send is not None else None,
                verdict=send.verdict if send is not None and last else None,
                served=_serves(attempt, served),
            )
        )
    return tuple(found)


def _serves(attempt: Attempt, served: Attempt | None) -> bool:
    return attempt is served and attempt.status in ("ok", "cut_off")


def _decision(routed: Routed | None) -> Mapping[str, Any]:
    if routed is None or not routed.decision:
        return {}
    found = json.loads(routed.decision)
    return found if isinstance(found, dict) else {}


def _of_facts(facts: Mapping[str, Any], **known: Any) -> RequestTrace:
    get = facts.get
    task_type = get("task_type")
    values: dict[str, Any] = {
        "name": task_type or known.get("refusal_code") or "request",
        "mode": str(get("mode") or "enforce"),
        "task_type": task_type,
        "stream": bool(get("stream")),
        "tags": _texts(get("tags")),
        "marks": _texts(get("marks")),
        "skipped": _texts(get("skipped")),
        "escalation": tuple(it for it in get("escalation") or () if isinstance(it, Mapping)),
        "gate": get("gate") if isinstance(get("gate"), Mapping) else None,
        "cascade": get("cascade") if isinstance(get("cascade"), Mapping) else None,
        **{name: get(name) for name in _PLAIN},
    }
    return RequestTrace(**values | known)


_PLAIN = (
    "category", "tier", "consequence", "requested_model", "group", "serving_group",
    "serving_model", "call_type", "session", "user", "key_name", "team", "queue_id", "approval",
    "estimate_nano_usd", "estimate_error", "hold_nano_usd", "error",
)  # fmt: skip
"""What a trace takes over from the facts as it is."""


def _texts(value: object) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        return ()
    return tuple(item for item in value if isinstance(item, str))


def _usage(tokens: object) -> TraceUsage | None:
    if not isinstance(tokens, Mapping):
        return None
    read, write = tokens.get("cached_read", 0), tokens.get("cache_write", 0)
    return TraceUsage(
        input=tokens.get("input", 0) + read + write,
        output=tokens.get("output", 0),
        cached_read=read,
        cache_write=write,
        reasoning=tokens.get("reasoning", 0),
    )


def _of_answer(usage: TokenUsage | None) -> TraceUsage | None:
    if usage is None:
        return None
    return TraceUsage(
        input=usage.input_tokens,
        output=usage.output_tokens,
        cached_read=usage.cache_read_tokens,
        cache_write=usage.cache_write_tokens + usage.cache_write_1h_tokens,
        reasoning=usage.reasoning_tokens,
    )
