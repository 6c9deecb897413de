"""A trace in Langfuse's words: the attributes of the one span that stands for a request. Pure.

One observation carries everything, because Langfuse adds up the cost of all observations of a
trace: a second one with a cost would count the request twice. Langfuse copies the metadata of the
root observation to the trace, so it is sent once. The attributes' names are the SDK's own; they are
passed in, so that nothing of it is imported before tracing is switched on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from budgets import money
from callbacks.trace_content import ContentMode, answer_of, clean, render
from callbacks.trace_record import RequestTrace, TraceUsage

if TYPE_CHECKING:
    from langfuse import LangfuseOtelSpanAttributes

NAME_CHARS_MAX = 200
"""Langfuse drops ids, names and tags that are longer."""

METADATA_CHARS_MAX = 16_384
CALLER_TAGS_MAX = 50

OWN_TAGS = ("category:", "task_type:", "mode:")
"""Beginnings of the tags that only Farebox sets: a caller's tag cannot pretend to be one."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_unix_ns(moment: datetime) -> int:
    """Return an aware time as Unix nanoseconds, exact to the microsecond that it holds."""
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1_000


def span_id(request_id: str) -> int:
    """Return the root observation's id, the same one whenever the same request is traced."""
    return int.from_bytes(hashlib.sha256(f"{request_id}/root".encode()).digest()[:8]) or 1


def attributes(
    trace: RequestTrace,
    names: type[LangfuseOtelSpanAttributes],
    *,
    content: ContentMode,
    environment: str | None,
    release: str | None,
) -> dict[str, str | int | bool | list[str]]:
    """Return the attributes of the request's root observation."""
    values: dict[str, str | int | bool | list[str] | None] = {
        names.TRACE_NAME: _name(trace.name),
        names.TRACE_USER_ID: _name(trace.user),
        names.TRACE_SESSION_ID: _name(trace.session),
        names.TRACE_TAGS: _tags(trace),
        names.ENVIRONMENT: environment,
        names.RELEASE: release,
        names.IS_APP_ROOT: True,
        names.OBSERVATION_TYPE: _type(trace),
        names.OBSERVATION_INPUT: render(trace.input, content),
        names.OBSERVATION_OUTPUT: render(answer_of(trace.output), content),
    }
    values[names.OBSERVATION_LEVEL], values[names.OBSERVATION_STATUS_MESSAGE] = _level(trace)
    if _type(trace) != "span" and trace.actual_nano_usd is not None:
        values[names.OBSERVATION_MODEL] = _name(
            trace.serving_model or trace.serving_group or trace.group
        )
        # Whenever a model is named the cost must be, even if it is 0: Langfuse would otherwise
        # invent one from its own price table.
        cost = {"total": float(money.to_usd(trace.actual_nano_usd))}
        values[names.OBSERVATION_COST_DETAILS] = json.dumps(cost)
        if trace.usage is not None:
            values[names.OBSERVATION_USAGE_DETAILS] = json.dumps(_usage(trace.usage))
    for key, value in _metadata(trace):
        values[f"{names.OBSERVATION_METADATA}.{key}"] = value
    return {key: value for key, value in values.items() if value is not None}


def _type(trace: RequestTrace) -> str:
    """A refusal, and a request whose cost nobody knows yet, is no generation: it has no cost."""
    if trace.refusal_code is not None or trace.actual_nano_usd is None:
        return "span"
    return "embedding" if trace.call_type in ("aembedding", "embedding") else "generation"


def _level(trace: RequestTrace) -> tuple[str, str | None]:
    if trace.refusal_code is not None:
        return "WARNING", trace.refusal_code
    if trace.status == "error":
        return "ERROR", _name(trace.error) or "error"
    return "DEFAULT", None if trace.status == "ok" else _name(trace.status)


def _tags(trace: RequestTrace) -> list[str]:
    own = [
        f"{beginning}{value}"
        for beginning, value in zip(
            OWN_TAGS, (trace.category, trace.task_type, trace.mode), strict=True
        )
        if value
    ]
    callers = [clean(t[:NAME_CHARS_MAX]) for t in trace.tags if t and not t.startswith(OWN_TAGS)]
    return own + list(dict.fromkeys(callers))[:CALLER_TAGS_MAX]


def _usage(usage: TraceUsage) -> dict[str, int]:
    """Return tokens by kind. Langfuse adds the kinds up, so none may contain another."""
    cached = usage.cached_read + usage.cache_write
    kinds = {
        "input": max(0, usage.input - cached),
        "input_cached_tokens": usage.cached_read,
        "input_cache_creation": usage.cache_write,
        "output": max(0, usage.output - usage.reasoning),
        "output_reasoning_tokens": usage.reasoning,
    }
    counted = {kind: n for kind, n in kinds.items() if n or kind in ("input", "output")}
    return counted | {"total": sum(counted.values())}


def _metadata(trace: RequestTrace) -> Iterator[tuple[str, str | int | bool]]:
    texts = {
        "request_id": trace.request_id,
        "decision_id": trace.decision_id,
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
        "refusal_message": trace.refusal_message,
    }
    for key, text in texts.items():
        if text is not None:
            yield key, clean(str(text)[:METADATA_CHARS_MAX])
    amounts = {
        "estimate": trace.estimate_nano_usd,
        "hold": trace.hold_nano_usd,
        "actual": trace.actual_nano_usd,
    }
    for key, nano_usd in amounts.items():
        if nano_usd is not None:
            yield f"{key}_usd", money.plain(nano_usd)
            yield f"{key}_nano_usd", nano_usd
    yield "stream", trace.stream
    lists: dict[str, list[object]] = {
        "dropped": [{"group": group, "reason": reason} for group, reason in trace.dropped],
        "escalation": [dict(step) for step in trace.escalation],
        "gate": [dict(trace.gate)] if trace.gate is not None else [],
        "router": [dict(trace.router)] if trace.router is not None else [],
        "attempts": [
            {
                "group": attempt.group,
                "status": attempt.status,
                "cost_usd": money.plain(attempt.cost_nano_usd),
                "latency_ms": attempt.latency_ms,
                **({"role": attempt.role} if attempt.role else {}),
                **({"verdict": attempt.verdict} if attempt.verdict else {}),
            }
            for attempt in trace.attempts
        ],
        "marks": list(trace.marks),
    }
    for key, items in lists.items():
        if items:
            yield key, _json(items)


def _json(items: list[object]) -> str:
    """Return a JSON list that stays valid JSON when it has to be cut."""
    text = json.dumps(items, ensure_ascii=False)
    while len(text) > METADATA_CHARS_MAX and items:
        items = items[: len(items) // 2]
        text = json.dumps(items, ensure_ascii=False)
    return clean(text)


def _name(text: str | None) -> str | None:
    return clean(text[:NAME_CHARS_MAX]) if text else None
