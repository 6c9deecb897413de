"""The tracer: a bounded queue, and the thread that empties it. One a worker.

    hand_over ─► queue ─► thread: put together, encode, post the spans ─► then their scores

`record` puts a trace, or what one is made of, into the queue; everything else is the thread's.
Langfuse being slow or down costs traces, which are counted and named in one warning a minute, and
costs a request nothing.

At any time: traces recorded = `sent` + `sampled_out` + `lost` + those still waiting.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from callbacks.tracing import settings as trace_settings
from callbacks.tracing.content import weigh
from callbacks.tracing.observation import Traced
from callbacks.tracing.patience import Closing, Patience
from callbacks.tracing.record import Content, RequestTrace
from callbacks.tracing.scores import Score, scores

if TYPE_CHECKING:
    from opentelemetry.proto.trace.v1.trace_pb2 import Span

    from callbacks.tracing.scoring import ScoreSender
    from callbacks.tracing.sender import LangfuseSender
    from callbacks.tracing.settings import Settings

log = structlog.get_logger("farebox.tracing")

QUEUE_TRACES_MAX = 4_096
QUEUE_CHARS_MAX = 64 * 1024 * 1024
"""Bound of the content that waits. With either bound reached a further trace is lost."""

BATCH_TRACES_MAX = 64
BATCH_CHARS_MAX = 2 * 1024 * 1024
BATCH_DELAY_S = 0.5
"""How long the first trace of a batch waits for others."""

GIVE_UP_AFTER_S = 20.0
"""How long a batch is tried again before its traces are lost."""

WARNING_INTERVAL_S = 60.0
CLOSE_TIMEOUT_S = 3.0

Work = Traced | Callable[[], Traced | None]
"""A trace, or what makes one when the thread has time for it; None where there is none to send."""


class Tracer:
    """Hands traces to Langfuse from a thread of its own.

    `clock` is monotonic seconds; the other times are seconds too.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        batch_delay_s: float = BATCH_DELAY_S,
        give_up_after_s: float = GIVE_UP_AFTER_S,
        queue_traces_max: int = QUEUE_TRACES_MAX,
        queue_chars_max: int = QUEUE_CHARS_MAX,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start. Imports the Langfuse SDK, which takes about a second: not for use in a request."""
        from callbacks.tracing.scoring import ScoreSender
        from callbacks.tracing.sender import LangfuseSender, tls

        self._timeout_s = settings.timeout_s
        self._batch_delay_s = batch_delay_s
        self._give_up_after_s = give_up_after_s
        self._queue_traces_max = queue_traces_max
        self._queue_chars_max = queue_chars_max
        self._clock = clock
        self._lock = threading.Lock()
        self._queue: deque[tuple[Work, int]] = deque()
        self._queue_chars = 0
        self._in_hand = 0
        self._sent = 0
        self._sampled_out = 0
        self._scores_sent = 0
        self._scores_lost = 0
        self._lost: dict[str, int] = {}
        self._warned_lost = 0
        self._warned_at: float | None = None
        self._wake = threading.Event()
        self._closing = Closing()
        self._abandoned = False
        verify = tls(settings.base_url)
        self._sender: LangfuseSender = LangfuseSender(settings, verify)
        self._scorer: ScoreSender = ScoreSender(settings, self._patience, verify)
        self._thread = threading.Thread(target=self._run, name="farebox-tracing", daemon=True)
        self._thread.start()

    @classmethod
    def from_environment(
        cls, environ: Mapping[str, str] = os.environ, folder: Path | None = None
    ) -> Tracer | None:
        """Return a tracer as the environment says, or None where Langfuse's keys are absent.

        `folder` is where the module of a mask may stand, beside where Python looks.

        Raises:
            TracingSettingsError: a variable has a value that cannot be used.
        """
        found = trace_settings.read(environ, folder)
        if isinstance(found, str):
            if found:
                log.warning("tracing_off", reason=found)
            return None
        tracer = cls(found)
        atexit.register(tracer.close)
        log.info(
            "tracing_on",
            host=found.base_url,
            content=found.redaction.mode.value,
            environment=found.environment,
        )
        return tracer

    # ── what a request calls ─────────────────────────────────────────────────────────────────────

    def record(self, work: Work, content: Content | None = None) -> None:
        """Hand over a trace. Returns at once and never raises; what finds no room is counted.

        `content` is what the trace will carry, where it is yet to be made.
        """
        try:
            if content is None and isinstance(work, RequestTrace):
                content = work.content
            chars = _weight(content) if content is not None else 0
            with self._lock:
                if self._closing.event.is_set():
                    self._lose("closed", 1)
                elif (
                    len(self._queue) >= self._queue_traces_max
                    or self._queue_chars + chars > self._queue_chars_max
                ):
                    self._lose("queue_full", 1)
                else:
                    self._queue.append((work, chars))
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
    def scores_sent(self) -> int:
        """Scores that Langfuse accepted."""
        return self._scores_sent

    @property
    def scores_lost(self) -> int:
        """Scores that were given up; those of a lost trace are not counted apart."""
        return self._scores_lost

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
            if self._closing.event.is_set():
                return
            self._closing.within(self._clock() + timeout_s)
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
            last_round = self._closing.event.wait(self._batch_delay_s)
            while batch := self._take():
                try:
                    self._deliver(batch)
                except Exception as error:
                    # The thread outlives whatever a batch does to it.
                    self._done(lost=self._in_hand, reason=type(error).__name__)
                self._warn()
            self._warn()
            if last_round:
                self._scorer.close()
                self._sender.close()
                return

    def _take(self) -> list[Work]:
        """Take the next batch; the traces in it are in hand until `_done` says what became of them.

        The content of one trace can pass the batch's bound: such a trace goes alone.
        """
        batch: list[Work] = []
        batch_chars = 0
        with self._lock:
            while self._queue and len(batch) < BATCH_TRACES_MAX:
                work, chars = self._queue[0]
                if batch and batch_chars + chars > BATCH_CHARS_MAX:
                    break
                self._queue.popleft()
                self._queue_chars -= chars
                batch_chars += chars
                batch.append(work)
            self._in_hand = len(batch)
        return batch

    def _deliver(self, batch: list[Work]) -> None:
        spans: list[Span] = []
        scored: list[tuple[str, Score]] = []
        traces = 0
        for work in batch:
            try:
                trace = work() if callable(work) else work
                found = self._sender.spans(trace) if trace is not None else []
                more = scores(trace) if isinstance(trace, RequestTrace) and found else []
            except Exception as error:
                self._done(lost=1, reason=type(error).__name__)
                continue
            if trace is None:
                self._done(lost=1, reason="nothing_known")
                continue
            if not found:
                self._done(sampled_out=1)
                continue
            spans += found
            scored += [(trace.seed, score) for score in more]
            traces += 1
            # Let the event loop have the interpreter between two traces.
            time.sleep(0)
        if not spans:
            return
        body = self._sender.encode(spans)
        sent = self._patience().deliver(lambda timeout_s: self._sender.post(body, timeout_s))
        if not sent.delivered:
            self._done(lost=traces, reason=sent.reason or "unknown")
            return
        self._done(sent=traces)
        if scored:
            taken = 0
            try:
                taken = self._scorer.send(scored)
            finally:
                self._scored(len(scored), taken)

    def _patience(self) -> Patience:
        return Patience(
            self._give_up_after_s, self._timeout_s, self._closing, self._clock, self._warn
        )

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

    def _scored(self, asked: int, sent: int) -> None:
        self._scores_sent += sent
        if asked > sent:
            self._scores_lost += asked - sent
            log.warning("scores_lost", lost=asked - sent, lost_total=self._scores_lost)

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


def _weight(content: Content) -> int:
    chars = weigh(content.prompt) + weigh(content.answer)
    for answer in content.of_sends.values():
        chars += weigh(answer)
    return chars
