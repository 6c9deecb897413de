"""A stand-in for Langfuse, tracers that send there, and a served and a refused request."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from callbacks.tracing.content import ContentMode, Redaction
from callbacks.tracing.masking import Guarded, Mask
from callbacks.tracing.record import Content, RequestTrace, TraceAttempt, TraceUsage
from callbacks.tracing.settings import Settings
from callbacks.tracing.tracer import Tracer
from tests.support.langfuse_receiver import LangfuseReceiver

STARTED = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
ENDED = STARTED + timedelta(seconds=2, microseconds=7)

DECISION = {
    "id": "dec-1",
    "requested": "auto",
    "task_type": "code_review",
    "task_source": "caller",
    "task_why": "the caller says so",
    "input_tokens": 1_000,
    "expected_output_tokens": 300,
    "category_by_tokens": "NORMAL",
    "floor": "COMPLEX",
    "category": "COMPLEX",
    "group": "claude-sonnet",
    "fallbacks": ["gpt"],
    "candidates": [
        {
            "group": "gemini-flash", "kept": False, "latency_ms": 900,
            "drops": [{"constraint": "quality", "needed": "0.60", "has": "0.41"}],
            "reason": "quality: needs 0.60, has 0.41",
        },
        {
            "group": "claude-sonnet", "kept": True, "drops": [], "reason": "", "latency_ms": 2_100,
            "cost": {"estimate_nano_usd": 1_500_000, "hold_nano_usd": 9_000_000},
        },
    ],
}  # fmt: skip


def after(ms: float) -> datetime:
    return STARTED + timedelta(milliseconds=ms)


SERVED = RequestTrace(
    request_id="req-1",
    decision_id="dec-1",
    name="code_review",
    started=STARTED,
    decided=after(1),
    held=after(3),
    ended=ENDED,
    settled=ENDED + timedelta(milliseconds=4),
    outcome="settled",
    status="ok",
    mode="enforce",
    category="COMPLEX",
    task_type="code_review",
    tier="reason",
    consequence="high",
    requested_model="auto",
    group="claude-sonnet",
    serving_group="gpt",
    serving_model="gpt-5-2026-01-01",
    call_type="acompletion",
    session="s-7",
    user="ada",
    tags=("beta", "category:FAST", "beta"),
    key_name="ci",
    team="platform",
    decision=DECISION,
    estimate_nano_usd=1_500_000,
    estimate_error=-0.215,
    actual_nano_usd=1_234_567,
    hold_nano_usd=9_000_000,
    budgets=({"budget": "team", "period": "2026-03", "held_nano_usd": 9_000_000},),
    charges={"team": 1_234_567},
    marks=("estimated",),
    attempts=(
        TraceAttempt(
            group="claude-sonnet",
            status="refused",
            cost_nano_usd=0,
            started=after(3),
            ended=after(213),
            error="RateLimitError",
        ),
        TraceAttempt(
            group="gpt",
            status="ok",
            cost_nano_usd=1_234_567,
            started=after(213),
            ended=ENDED,
            model="gpt-5-2026-01-01",
            usage=TraceUsage(
                input=1_000, output=300, cached_read=600, cache_write=100, reasoning=120
            ),
            estimated=True,
            served=True,
        ),
    ),
    content=Content(
        [{"role": "user", "content": "Review this."}],
        {"choices": [{"message": {"role": "assistant", "content": "Fine."}}]},
    ),
)

REFUSED = RequestTrace(
    request_id="req-2",
    decision_id="dec-2",
    name="summarise",
    started=STARTED,
    decided=after(1),
    ended=after(3),
    status="refused",
    mode="enforce",
    category="FAST",
    task_type="summarise",
    group="gemini-flash",
    estimate_nano_usd=10,
    refusal_code="budget_exceeded",
    refusal={"message": "team A has $0.00 of $20.00 left", "budget": "a", "remaining": "0"},
    content=Content([{"role": "user", "content": "Shorten this."}]),
)


def redaction(mode: ContentMode, mask: Mask | None = None) -> Redaction:
    return Redaction(mode, Guarded(mask) if mask is not None else None)


def until(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    """Wait for a condition, within a bound."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.005)


def shown(langfuse: LangfuseReceiver, tracer: Tracer, trace: RequestTrace) -> dict[str, Any]:
    """Return the one trace that Langfuse has, once its scores have been tried as well."""
    tracer.record(trace)
    langfuse.wait_for(1)
    tracer.close(5)
    (only,) = langfuse.traces()
    return only


@pytest.fixture
def langfuse() -> Iterator[LangfuseReceiver]:
    with LangfuseReceiver() as receiver:
        yield receiver


Make = Callable[..., Tracer]


@pytest.fixture
def make(langfuse: LangfuseReceiver) -> Iterator[Make]:
    """A tracer for the receiver, closed at the end."""
    made: list[Tracer] = []

    def tracer(
        *,
        content: ContentMode = ContentMode.FULL,
        mask: Mask | None = None,
        secret_key: str = langfuse.secret_key,
        sample_rate: float = 1.0,
        timeout_s: float = 30.0,
        **limits: Any,
    ) -> Tracer:
        settings = Settings(
            public_key=langfuse.public_key,
            secret_key=secret_key,
            base_url=langfuse.url,
            environment="staging",
            redaction=redaction(content, mask),
            sample_rate=sample_rate,
            timeout_s=timeout_s,
        )
        limits = {"batch_delay_s": 0.01, "give_up_after_s": 0.3} | limits
        made.append(Tracer(settings, **limits))
        return made[-1]

    yield tracer
    for one in made:
        one.close(0.5)
