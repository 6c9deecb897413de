"""What a trace says about one request, before anybody thinks of Langfuse. Pure.

A `RequestTrace` is built on the request's way out and handed over; the sending side turns it into
spans (see `trace_attributes`). Money is `int` nanodollars, times are aware. What is not known is
None and stays absent: it never becomes a zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from budgets.open_requests import OpenRequest
from callbacks.closing import Ending


@dataclass(frozen=True, slots=True)
class TraceUsage:
    """Tokens of one answer. Input counts the cached ones too, output the reasoning ones too."""

    input: int
    output: int
    cached_read: int = 0
    cache_write: int = 0
    reasoning: int = 0


@dataclass(frozen=True, slots=True)
class TraceAttempt:
    """One send to a provider."""

    group: str
    status: str
    cost_nano_usd: int
    latency_ms: int
    role: str | None = None
    """What it was for, where a request had several sends; `verdict` is its gate's."""
    verdict: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestTrace:
    """One request, from its arrival to its end, as one trace.

    `name` is the task type, or the refusal's code where no task type was found. `group` is the
    decided group, `serving_group` the one that answered, `serving_model` the provider's own name
    for the model. `actual_nano_usd` is what the ledger charged, None where nobody knows yet.
    `input` and `output` are the content, in any shape that JSON can hold or a Pydantic model; they
    are read later, on another thread, so whoever hands them over leaves them as they are.
    """

    request_id: str
    name: str
    started: datetime
    ended: datetime
    status: str
    mode: str
    decision_id: str | None = None
    category: str | None = None
    task_type: str | None = None
    tier: str | None = None
    consequence: str | None = None
    requested_model: str | None = None
    group: str | None = None
    serving_group: str | None = None
    serving_model: str | None = None
    call_type: str | None = None
    stream: bool = False
    session: str | None = None
    user: str | None = None
    tags: tuple[str, ...] = ()
    key_name: str | None = None
    team: str | None = None
    dropped: tuple[tuple[str, str], ...] = ()
    """Candidates that were not taken, each with its reason."""
    escalation: tuple[Mapping[str, Any], ...] = ()
    """What was tried after a budget had refused, in order."""
    gate: Mapping[str, Any] | None = None
    """What the quality gate said, and whether another group was asked."""
    router: Mapping[str, Any] | None = None
    """What the trained router said about it."""
    estimate_nano_usd: int | None = None
    actual_nano_usd: int | None = None
    hold_nano_usd: int | None = None
    usage: TraceUsage | None = None
    marks: tuple[str, ...] = ()
    attempts: tuple[TraceAttempt, ...] = ()
    error: str | None = None
    """The kind of failure, such as `RateLimitError`; never an upstream's own words."""
    refusal_code: str | None = None
    refusal_message: str | None = None
    input: Any = None
    output: Any = None


def of_ending(
    request: OpenRequest, ending: Ending, content: tuple[Any, Any], now: datetime
) -> RequestTrace:
    """Return the trace of a request that was admitted and has ended.

    The times are the request's own: it ended before the ledger was told, so `now` (an aware time)
    only places it on the wall clock.
    """
    started = now - timedelta(milliseconds=request.latency_ms())
    facts = ending.facts
    took_ms = facts.get("latency_ms")
    ended = started + timedelta(milliseconds=took_ms) if isinstance(took_ms, int) else now
    return _of_facts(
        facts,
        request_id=request.request_id,
        decision_id=request.decision_id,
        started=started,
        ended=ended,
        status=str(facts.get("status") or "ok"),
        group=request.group,
        stream=request.stream,
        actual_nano_usd=ending.cost_nano_usd,
        marks=ending.marks,
        attempts=_attempts(request, facts),
        content=content,
    )


def _attempts(request: OpenRequest, facts: Mapping[str, Any]) -> tuple[TraceAttempt, ...]:
    told = list(facts.get("attempts") or ()) or [{} for _ in request.attempts]
    return tuple(
        TraceAttempt(
            a.group, a.status, a.cost_nano_usd, a.latency_ms, it.get("role"), it.get("verdict")
        )
        for a, it in zip(request.attempts, told, strict=False)
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
    prompt: Any = None,
) -> RequestTrace:
    """Return the trace of a request that was not sent. `facts` is what was known by then."""
    return _of_facts(
        facts,
        request_id=request_id,
        decision_id=decision_id,
        started=started,
        ended=ended,
        status="refused",
        refusal_code=code,
        refusal_message=message,
        content=(prompt, None),
    )


def _of_facts(facts: Mapping[str, Any], *, content: tuple[Any, Any], **known: Any) -> RequestTrace:
    get = facts.get
    task_type = get("task_type")
    values: dict[str, Any] = {
        "name": task_type or known.get("refusal_code") or "request",
        "mode": str(get("mode") or "enforce"),
        "category": get("category"),
        "task_type": task_type,
        "tier": get("tier"),
        "consequence": get("consequence"),
        "requested_model": get("requested_model"),
        "group": get("group"),
        "serving_group": get("serving_group"),
        "serving_model": get("serving_model"),
        "call_type": get("call_type"),
        "stream": bool(get("stream")),
        "session": get("session"),
        "user": get("user"),
        "tags": _texts(get("tags")),
        "key_name": get("key_name"),
        "team": get("team"),
        "dropped": _dropped(get("dropped")),
        "router": get("router") if isinstance(get("router"), Mapping) else None,
        "escalation": tuple(it for it in get("escalation") or () if isinstance(it, Mapping)),
        "gate": get("gate") if isinstance(get("gate"), Mapping) else None,
        "estimate_nano_usd": get("estimate_nano_usd"),
        "hold_nano_usd": get("hold_nano_usd"),
        "usage": _usage(get("tokens")),
        "marks": _texts(get("marks")),
        "error": get("error"),
        "input": content[0],
        "output": content[1],
    }
    return RequestTrace(**values | known)


def _texts(value: object) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        return ()
    return tuple(item for item in value if isinstance(item, str))


def _dropped(value: object) -> tuple[tuple[str, str], ...]:
    """Read candidates as pairs, or as mappings with `group` and `reason`."""
    if not isinstance(value, list | tuple):
        return ()
    found: list[tuple[str, str]] = []
    for item in value:
        if isinstance(item, Mapping):
            found.append((str(item.get("group")), str(item.get("reason"))))
        elif isinstance(item, list | tuple) and len(item) == 2:
            found.append((str(item[0]), str(item[1])))
    return tuple(found)


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
