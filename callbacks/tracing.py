"""Traces for Langfuse: one a request, best effort, never in a request's way.

`record` puts a trace into a bounded queue; a thread of our own takes batches out of it, encodes and
sends them. Langfuse being slow or down costs traces, which are counted and named in one warning a
minute, and costs a request nothing. Without `LANGFUSE_PUBLIC_KEY` and `LANGFUSE_SECRET_KEY` nothing
of Langfuse is imported and nothing connects.

At any time: traces recorded = `sent` + `sampled_out` + `lost` + those still waiting.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import structlog

from budgets.open_requests import OpenRequest
from callbacks import trace_settings
from callbacks.closing import Ending
from callbacks.trace_content import weigh
from callbacks.trace_record import RequestTrace, of_ending, of_refusal
from callbacks.trace_settings import TracingSettingsError

if TYPE_CHECKING:
    from callbacks.trace_sender import LangfuseSender, Sent

log = structlog.get_logger("farebox.tracing")

__all__ = [
    "Tracer",
    "TracingSettingsError",
    "current",
    "hand_over",
    "hand_over_refusal",
    "install",
]

QUEUE_TRACES_MAX = 4_096
QUEUE_CHARS_MAX = 64 * 1024 * 1024
"""Bound of the content that waits. With either bound reached a further trace is lost."""

BATCH_TRACES_MAX = 64
BATCH_CHARS_MAX = 2 * 1024 * 1024
BATCH_DELAY_S = 0.5
"""How long the first trace of a batch waits for others."""

RETRY_FIRST_S = 0.25
RETRY_PAUSE_MAX_S = 4.0
GIVE_UP_AFTER_S = 20.0
"""How long a batch is tried again before its traces are lost."""

WARNING_INTERVAL_S = 60.0
CLOSE_TIMEOUT_S = 3.0


class Tracer:
    """Hands traces to Langfuse from a thread of its own. One a worker.

    `clock` is monotonic seconds; the other times are seconds too.
    """

    def __init__(
        self,
        sender: LangfuseSender,
        *,
        timeout_s: float = 5.0,
        batch_delay_s: float = BATCH_DELAY_S,
        give_up_after_s: float = GIVE_UP_AFTER_S,
        queue_traces_max: int = QUEUE_TRACES_MAX,
        queue_chars_max: int = QUEUE_CHARS_MAX,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sender = sender
        self._timeout_s = timeout_s
        self._batch_delay_s = batch_delay_s
        self._give_up_after_s = give_up_after_s
        self._queue_traces_max = queue_traces_max
        self._queue_chars_max = queue_chars_max
        self._clock = clock
        self._lock = threading.Lock()
        self._queue: deque[tuple[RequestTrace, int]] = deque()
        self._queue_chars = 0
        self._in_hand = 0
        self._sent = 0
        self._sampled_out = 0
        self._lost: dict[str, int] = {}
        self._warned_lost = 0
        self._warned_at: float | None = None
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._close_by = float("inf")
        self._abandoned = False
        self._thread = threading.Thread(target=self._run, name="farebox-tracing", daemon=True)
        self._thread.start()

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Tracer | None:
        """Return a tracer as the environment says, or None where Langfuse's keys are absent.

        Imports the Langfuse SDK, which takes about a second: call it at start, not in a request.

        Raises:
            TracingSettingsError: a variable has a value that cannot be used.
        """
        public_key = environ.get("LANGFUSE_PUBLIC_KEY", "").strip()
        secret_key = environ.get("LANGFUSE_SECRET_KEY", "").strip()
        if not public_key and not secret_key:
            return None
        if not public_key or not secret_key:
            missing = "LANGFUSE_SECRET_KEY" if public_key else "LANGFUSE_PUBLIC_KEY"
            log.warning("tracing_off", reason=f"{missing} is not set")
            return None
        for switch, off in (("LANGFUSE_TRACING_ENABLED", "false"), ("OTEL_SDK_DISABLED", "true")):
            if environ.get(switch, "").strip().lower() == off:
                log.warning("tracing_off", reason=f"{switch} is {off}")
                return None
        content = trace_settings.content_mode(environ)
        base_url = trace_settings.base_url(environ)
        environment = trace_settings.environment_name(environ)
        sample_rate = trace_settings.number(environ, "LANGFUSE_SAMPLE_RATE", 1.0, 0.0, 1.0)
        timeout_s = trace_settings.number(environ, "LANGFUSE_TIMEOUT", 5.0, 0.1, 60.0)

        from callbacks.trace_sender import LangfuseSender, SenderSettings

        settings = SenderSettings(
            public_key=public_key,
            secret_key=secret_key,
            base_url=base_url,
            environment=environment,
            release=environ.get("LANGFUSE_RELEASE", "").strip() or None,
            content=content,
            sample_rate=sample_rate,
            timeout_s=timeout_s,
        )
        tracer = cls(LangfuseSender(settings), timeout_s=timeout_s)
        atexit.register(tracer.close)
        log.info("tracing_on", host=base_url, content=content.value, environment=environment)
        return tracer

    # ── what a request calls ─────────────────────────────────────────────────────────────────────

    def record(self, trace: RequestTrace) -> None:
        """Hand over a trace. Returns at once and never raises; what finds no room is counted."""
        try:
            chars = weigh(trace.input) + weigh(trace.output)
            with self._lock:
                if self._closing.is_set():
                    self._lose("closed", 1)
                elif (
                    len(self._queue) >= self._queue_traces_max
                    or self._queue_chars + chars > self._queue_chars_max
                ):
                    self._lose("queue_full", 1)
                else:
                    self._queue.append((trace, chars))
                    self._queue_chars += chars
            if not self._wake.is_set():
                self._wake.set()
        except Exception as error:
            # Content of an odd kind must not fail a request that has been served and paid for.
            with self._lock:
                self._lose(type(error).__name__, 1)

    @property
    def sent(self) -> int:
        """Traces that Langfuse accepted."""
        return self._sent

    @property
    def lost(self) -> int:
        """Traces that were given up."""
        with self._lock:
            return sum(self._lost.values())

    @property
    def lost_by_reason(self) -> dict[str, int]:
        """Traces that were given up, by why."""
        with self._lock:
            return dict(self._lost)

    @property
    def sampled_out(self) -> int:
        """Traces that `LANGFUSE_SAMPLE_RATE` left out on purpose."""
        return self._sampled_out

    @property
    def waiting(self) -> int:
        """Traces that are neither sent nor given up."""
        with self._lock:
            return len(self._queue) + self._in_hand

    def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Send what waits, for at most `timeout_s`, and stop; what remains is counted as lost.

        Blocks: on an event loop, call it in a thread. A second call does nothing.
        """
        with self._lock:
            if self._closing.is_set():
                return
            self._close_by = self._clock() + timeout_s
            self._closing.set()
        atexit.unregister(self.close)
        self._wake.set()
        self._thread.join(timeout_s)
        with self._lock:
            remaining = len(self._queue) + self._in_hand
            self._queue.clear()
            self._in_hand = 0
            self._abandoned = True
            if remaining:
                self._lose("closed", remaining)
        self._warn(at_once=True)

    # ── the thread ───────────────────────────────────────────────────────────────────────────────

    def _run(self) -> None:
        while True:
            self._wake.wait(None if self._warned_lost == self.lost else WARNING_INTERVAL_S)
            self._wake.clear()
            # Once this is true nothing comes into the queue any more: the drain below is the last.
            last_round = self._closing.wait(self._batch_delay_s)
            while batch := self._take():
                try:
                    self._deliver(batch)
                except Exception as error:
                    # The thread outlives whatever a batch does to it.
                    self._done(lost=self._in_hand, reason=type(error).__name__)
                self._warn()
            self._warn()
            if last_round:
                self._sender.close()
                return

    def _take(self) -> list[RequestTrace]:
        """Take the next batch; the traces in it are in hand until `_done` says what became of them.

        The content of one trace can pass the batch's bound: such a trace goes alone.
        """
        batch: list[RequestTrace] = []
        batch_chars = 0
        with self._lock:
            while self._queue and len(batch) < BATCH_TRACES_MAX:
                trace, chars = self._queue[0]
                if batch and batch_chars + chars > BATCH_CHARS_MAX:
                    break
                self._queue.popleft()
                self._queue_chars -= chars
                batch_chars += chars
                batch.append(trace)
            self._in_hand = len(batch)
        return batch

    def _deliver(self, batch: list[RequestTrace]) -> None:
        spans = []
        for trace in batch:
            try:
                span = self._sender.span(trace)
            except Exception as error:
                self._done(lost=1, reason=type(error).__name__)
                continue
            if span is None:
                self._done(sampled_out=1)
            else:
                spans.append(span)
            # Let the event loop have the interpreter between two traces.
            time.sleep(0)
        if not spans:
            return
        sent = self._post(self._sender.encode(spans))
        if sent.delivered:
            self._done(sent=len(spans))
        else:
            self._done(lost=len(spans), reason=sent.reason or "unknown")

    def _post(self, body: bytes) -> Sent:
        give_up_at = self._clock() + self._give_up_after_s
        pause_s = RETRY_FIRST_S
        while True:
            left_s = min(give_up_at, self._close_by) - self._clock()
            sent = self._sender.post(body, max(0.05, min(self._timeout_s, left_s)))
            if sent.delivered or not sent.retry:
                return sent
            left_s = min(give_up_at, self._close_by) - self._clock()
            if left_s <= 0:
                return sent
            self._warn()
            self._pause(min(pause_s, left_s))
            pause_s = min(pause_s * 2, RETRY_PAUSE_MAX_S)

    def _pause(self, seconds: float) -> None:
        """Wait before another attempt. A close cuts the first pause that it meets short."""
        if self._closing.is_set():
            time.sleep(seconds)
        else:
            self._closing.wait(seconds)

    # ── counting ─────────────────────────────────────────────────────────────────────────────────

    def _done(
        self, *, sent: int = 0, sampled_out: int = 0, lost: int = 0, reason: str = ""
    ) -> None:
        with self._lock:
            if self._abandoned:
                return
            self._in_hand = max(0, self._in_hand - sent - sampled_out - lost)
            self._sent += sent
            self._sampled_out += sampled_out
            if lost:
                self._lose(reason, lost)

    def _lose(self, reason: str, count: int) -> None:
        self._lost[reason] = self._lost.get(reason, 0) + count

    def _warn(self, at_once: bool = False) -> None:
        """Log what was lost since the last warning; not more than one warning a minute."""
        lost = self.lost_by_reason
        total = sum(lost.values())
        now = self._clock()
        recent = self._warned_at is not None and now - self._warned_at < WARNING_INTERVAL_S
        if total == self._warned_lost or (recent and not at_once):
            return
        since, self._warned_lost, self._warned_at = total - self._warned_lost, total, now
        log.warning("traces_lost", lost=since, lost_total=total, reasons=lost)


# ── this process's tracer ────────────────────────────────────────────────────────────────────────

_current: Tracer | None = None


def install(tracer: Tracer | None) -> None:
    """Make `tracer` the one of this process; None switches tracing off."""
    global _current
    _current = tracer


def current() -> Tracer | None:
    """Return this process's tracer, or None where nothing is traced."""
    return _current


def hand_over(request: OpenRequest, ending: Ending, content: tuple[Any, Any]) -> None:
    """Trace a request that has ended, if there is a tracer. `content` is (prompt, response)."""
    tracer = _current
    if tracer is None:
        return
    try:
        trace = of_ending(request, ending, content, datetime.now(UTC))
    except Exception as error:
        log.error("trace_not_built", request_id=request.request_id, error=type(error).__name__)
        return
    tracer.record(trace)


def hand_over_refusal(
    facts: Mapping[str, Any],
    *,
    request_id: str,
    code: str,
    message: str,
    started: datetime,
    decision_id: str | None = None,
    prompt: Any = None,
) -> None:
    """Trace a request that was refused, if there is a tracer. `facts` is what was known by then.

    `started` is the aware time at which the request arrived; it ended now.
    """
    tracer = _current
    if tracer is None:
        return
    try:
        trace = of_refusal(
            facts,
            request_id=request_id,
            decision_id=decision_id,
            code=code,
            message=message,
            started=started,
            ended=datetime.now(UTC),
            prompt=prompt,
        )
    except Exception as error:
        log.error("trace_not_built", request_id=request_id, error=type(error).__name__)
        return
    tracer.record(trace)
