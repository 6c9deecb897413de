"""This process's tracer, and what hands requests over to it.

Each call puts what it was given into the tracer's queue and returns; the trace is put together on
the tracer's thread. Without a tracer each returns at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

import structlog

from budgets import home, runtime, traced
from budgets.open_requests import OpenRequest
from budgets.records import LedgerEntry
from budgets.traced import ApprovalAnswered, Routed
from callbacks.closing import Ending
from callbacks.tracing import books
from callbacks.tracing.record import Content
from callbacks.tracing.settings import TracingSettingsError
from callbacks.tracing.tracer import Tracer

log = structlog.get_logger("farebox.tracing")

_current: Tracer | None = None


def begin() -> None:
    """Start this process's tracing as the environment says; what cannot be used leaves it off."""
    try:
        tracer = Tracer.from_environment(folder=home.resolve().config.parent)
    except TracingSettingsError as error:
        log.error("tracing_off", reason=str(error))
        tracer = None
    install(tracer)


def install(tracer: Tracer | None) -> None:
    """Make `tracer` the one of this process; None switches tracing off."""
    global _current
    _current = tracer
    traced.sink = _Sink(tracer) if tracer is not None else None
    runtime.trace_counts = runtime.TraceCounts if tracer is None else partial(_counts, tracer)


def _counts(tracer: Tracer) -> runtime.TraceCounts:
    return runtime.TraceCounts(
        tracer.sent, tracer.lost, tracer.sampled_out, tracer.scores_sent, tracer.scores_lost
    )


def current() -> Tracer | None:
    """Return this process's tracer, or None where nothing is traced."""
    return _current


def hand_over(request: OpenRequest, ending: Ending, content: Content) -> None:
    """Trace a request that has ended, and of which the ledger has been told."""
    if _current is not None:
        now, now_ns = datetime.now(UTC), request.clock_ns()
        _current.record(partial(books.of_ending, request, ending, content, now, now_ns), content)


def hand_over_refusal(
    facts: Mapping[str, Any],
    *,
    request_id: str,
    code: str,
    message: str,
    started: datetime,
    decision_id: str | None = None,
    routed: Routed | None = None,
    prompt: Any = None,
) -> None:
    """Trace a request that was refused. `facts` is what was known by then.

    `started` is the aware time at which the request arrived; it ended now.
    """
    if _current is None:
        return
    build = partial(
        books.of_refusal,
        facts,
        request_id=request_id,
        decision_id=decision_id,
        code=code,
        message=message,
        started=started,
        ended=datetime.now(UTC),
        routed=routed,
        prompt=prompt,
    )
    _current.record(build, Content(prompt))


class _Sink:
    """Takes what others than the accounting callback tell."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def expired(self, entry: LedgerEntry) -> None:
        ended = datetime.fromtimestamp(entry.time_ms / 1000, UTC)
        self._tracer.record(partial(books.of_expired, entry, ended))

    def answered(self, event: ApprovalAnswered) -> None:
        self._tracer.record(partial(books.of_answer, event))
