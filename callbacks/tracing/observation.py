"""One line of a trace, before anybody writes it in Langfuse's words. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from callbacks.tracing.record import RequestTrace, TraceUsage

ROOT = "root"
"""The key of the observation that stands for the whole request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One line of a trace.

    `key` is unique in its trace, `parent` is another one's key. `prompt` and `answer` are content,
    which the redaction setting applies to; `given` and `result` are Farebox's own, in plain JSON.
    `cost_nano_usd` is set for attempts only. `attributes` are more of Langfuse's own.
    """

    key: str
    name: str
    type: str
    started: datetime
    ended: datetime
    parent: str | None = ROOT
    level: str = "DEFAULT"
    message: str | None = None
    model: str | None = None
    usage: TraceUsage | None = None
    cost_nano_usd: int | None = None
    prompt: Any = None
    answer: Any = None
    given: Mapping[str, Any] | None = None
    result: Mapping[str, Any] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Addition:
    """One more line of a trace that somebody else has sent, or will; `seed` is that trace's."""

    seed: str
    trace_name: str
    line: Observation
    user: str | None = None
    task_type: str | None = None


Traced = RequestTrace | Addition


def event(
    key: str,
    name: str,
    when: datetime,
    level: str,
    message: str | None,
    metadata: Mapping[str, Any],
) -> Observation:
    """Return something that happened at one moment."""
    return Observation(
        key=key,
        name=name,
        type="event",
        started=when,
        ended=when,
        level=level,
        message=message,
        metadata=known(metadata),
    )


def known(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is known of some values: what is not stays absent."""
    return {key: value for key, value in values.items() if value is not None}
