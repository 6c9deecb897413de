"""An observation in Langfuse's words: the attributes of the span that stands for it. Pure.

What belongs to the trace (name, user, session, tags, environment) stands on every observation,
because Langfuse 4 keeps observations only and finds a trace's by them. The attributes' names are
the SDK's own; they are passed in, so that nothing of it is imported before tracing is switched on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from budgets import money
from callbacks.tracing.content import Redaction, answer_of, clean
from callbacks.tracing.observation import Addition, Observation, Traced
from callbacks.tracing.record import RequestTrace, TraceUsage

if TYPE_CHECKING:
    from langfuse import LangfuseOtelSpanAttributes

NAME_CHARS_MAX = 200
"""Langfuse drops ids, names and tags that are longer."""

MESSAGE_CHARS_MAX = 1_000
METADATA_CHARS_MAX = 16_384
RESULT_CHARS_MAX = 65_536
CALLER_TAGS_MAX = 50

OWN_TAGS = ("category:", "task_type:", "mode:", "cost:")
"""Beginnings of the tags that only Farebox sets: a caller's tag cannot pretend to be one."""

UNSURE_MARKS = ("estimated", "unreconciled")
"""Marks of a cost that may not be what the provider bills; each becomes a tag `cost:…`."""

Value = str | int | float | bool | list[str]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_unix_ns(moment: datetime) -> int:
    """Return an aware time as Unix nanoseconds, exact to the microsecond that it holds."""
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1_000


def span_id(seed: str, key: str) -> int:
    """Return an observation's id, the same one whenever the same trace is sent."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{key}".encode()).digest()[:8]) or 1


@dataclass(frozen=True, slots=True)
class Place:
    """Where traces come from: the environment and the release that Langfuse shows."""

    environment: str | None = None
    release: str | None = None


class Words:
    """One trace's content as text, each part rendered once however often it is shown."""

    def __init__(self, redaction: Redaction) -> None:
        self._redaction = redaction
        self._rendered: dict[int, tuple[Any, str | None]] = {}

    def of(self, value: Any) -> str | None:
        """Return the text for some content; None where none is sent."""
        if value is None:
            return None
        # The value is kept beside its text, so that no other one can get its id meanwhile.
        known = self._rendered.get(id(value))
        if known is None:
            known = self._rendered[id(value)] = (value, self._redaction.render(value))
        return known[1]


def of_trace(traced: Traced, names: type[LangfuseOtelSpanAttributes], at: Place) -> dict[str, Any]:
    """Return the attributes that every observation of a trace has."""
    if isinstance(traced, Addition):
        own = [f"task_type:{traced.task_type}"] if traced.task_type else []
        name, session, tags = traced.trace_name, None, own
    else:
        name, session, tags = traced.name, traced.session, _tags(traced)
    return {
        names.TRACE_NAME: _name(name),
        names.TRACE_USER_ID: _name(traced.user),
        names.TRACE_SESSION_ID: _name(session),
        names.TRACE_TAGS: tags,
        names.ENVIRONMENT: at.environment,
        names.RELEASE: at.release,
    }


def of_observation(
    it: Observation, names: type[LangfuseOtelSpanAttributes], words: Words
) -> dict[str, Value]:
    """Return the attributes of one observation, beside those of its trace."""
    values: dict[str, Value | None] = {names.OBSERVATION_TYPE: it.type}
    values[names.OBSERVATION_LEVEL] = it.level
    if it.message:
        values[names.OBSERVATION_STATUS_MESSAGE] = clean(it.message[:MESSAGE_CHARS_MAX])
    if it.parent is None:
        values[names.IS_APP_ROOT] = True
    given = words.of(it.prompt) if it.given is None else _object(it.given)
    result = words.of(answer_of(it.answer)) if it.result is None else _object(it.result)
    values[names.OBSERVATION_INPUT], values[names.OBSERVATION_OUTPUT] = given, result
    if it.cost_nano_usd is not None:
        values[names.OBSERVATION_MODEL] = _name(it.model)
        # Whenever a model is named the cost must be, even if it is 0: Langfuse would otherwise
        # invent one from its own price table.
        cost = {"total": float(money.to_usd(it.cost_nano_usd))}
        values[names.OBSERVATION_COST_DETAILS] = json.dumps(cost)
        if it.usage is not None:
            values[names.OBSERVATION_USAGE_DETAILS] = json.dumps(_usage(it.usage))
    for key, value in _metadata(it.metadata):
        values[f"{names.OBSERVATION_METADATA}.{key}"] = value
    values.update(it.attributes)
    return {key: value for key, value in values.items() if value is not None}


def _tags(trace: RequestTrace) -> list[str]:
    values = (trace.category, trace.task_type, trace.mode)
    own = [
        f"{beginning}{value}"
        for beginning, value in zip(OWN_TAGS, values, strict=False)
        if value
    ]  # fmt: skip
    own += [f"cost:{mark}" for mark in UNSURE_MARKS if mark in trace.marks]
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


def _metadata(metadata: Mapping[str, Any]) -> Iterator[tuple[str, Value]]:
    for key, value in metadata.items():
        if isinstance(value, bool | int | float):
            yield key, value
        elif isinstance(value, str):
            yield key, clean(value[:METADATA_CHARS_MAX])
        elif isinstance(value, list | tuple):
            yield key, _list(list(value))
        elif value is not None:
            yield key, _object(value, METADATA_CHARS_MAX)


def _list(items: list[Any]) -> str:
    """Return a JSON list that stays valid JSON when it has to be cut."""
    text = json.dumps(items, ensure_ascii=False)
    while len(text) > METADATA_CHARS_MAX and items:
        items = items[: len(items) // 2]
        text = json.dumps(items, ensure_ascii=False)
    return clean(text)


def _object(value: Mapping[str, Any], chars_max: int = RESULT_CHARS_MAX) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return clean(text) if len(text) <= chars_max else json.dumps({"cut": len(text)})


def _name(text: str | None) -> str | None:
    return clean(text[:NAME_CHARS_MAX]) if text else None
