"""The tracer: what it loses is counted, and nothing of it holds up whoever hands a trace over."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import structlog

from callbacks.tracing.record import Content
from callbacks.tracing.settings import TracingSettingsError
from callbacks.tracing.tracer import Tracer
from tests.support.langfuse_receiver import LangfuseReceiver
from tests.tracing.conftest import REFUSED, SERVED, Make, until

# ── Langfuse slow, down or absent ────────────────────────────────────────────────────────────────


def test_without_keys_nothing_is_imported_and_nothing_connects(langfuse: LangfuseReceiver) -> None:
    code = (
        "import sys; from callbacks import tracing;"
        f"assert tracing.Tracer.from_environment({{'LANGFUSE_HOST': {langfuse.url!r}}}) is None;"
        "sdk = ('langfuse', 'opentelemetry.sdk.trace');"
        "loaded = [name for name in sys.modules if name.startswith(sdk)];"
        "print(loaded)"
    )
    # A plain process: this one has the SDK loaded already, and `callbacks` without LiteLLM.
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"
    assert langfuse.requests == []


def test_one_key_alone_leaves_tracing_off_and_says_which_is_missing() -> None:
    with structlog.testing.capture_logs() as logs:
        assert Tracer.from_environment({"LANGFUSE_PUBLIC_KEY": "pk-lf-x"}) is None
    assert logs[0]["event"] == "tracing_off"
    assert "LANGFUSE_SECRET_KEY" in logs[0]["reason"]


def test_the_environment_sets_host_environment_and_content(langfuse: LangfuseReceiver) -> None:
    environ = langfuse.environment() | {
        "LANGFUSE_TRACING_ENVIRONMENT": "production",
        "FAREBOX_TRACE_CONTENT": "none",
    }
    tracer = Tracer.from_environment(environ)
    assert tracer is not None
    tracer.record(SERVED)
    tracer.close(5)
    (trace,) = langfuse.traces()
    assert trace["environment"] == "production"
    assert trace["input"] is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FAREBOX_TRACE_CONTENT", "nonne"),
        ("LANGFUSE_HOST", "langfuse.example.com"),
        ("LANGFUSE_TRACING_ENVIRONMENT", "Production!"),
        ("LANGFUSE_SAMPLE_RATE", "2"),
        ("LANGFUSE_TIMEOUT", "soon"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(name: str, value: str) -> None:
    environ = {"LANGFUSE_PUBLIC_KEY": "pk", "LANGFUSE_SECRET_KEY": "sk-secret", name: value}
    with pytest.raises(TracingSettingsError, match=name) as caught:
        Tracer.from_environment(environ)
    assert "sk-secret" not in str(caught.value)


def test_langfuse_down_costs_traces_that_are_counted_and_warned_of_once(
    langfuse: LangfuseReceiver,
    make: Make,
    caplog: pytest.LogCaptureFixture,
) -> None:
    langfuse.status = 503
    caplog.set_level(logging.INFO)
    with structlog.testing.capture_logs() as logs:
        tracer = make(give_up_after_s=0.05)
        tracer.record(SERVED)
        until(lambda: tracer.lost == 1)
        tracer.record(REFUSED)
        until(lambda: tracer.lost == 2)
        until(lambda: bool(logs))
    assert tracer.sent == 0
    assert tracer.lost_by_reason == {"http_503": 2}
    assert [(log["event"], log["lost"]) for log in logs] == [("traces_lost", 1)]
    assert [r for r in caplog.records if r.name.startswith(("opentelemetry", "langfuse"))] == []


def test_what_was_lost_between_two_warnings_stands_in_the_next_one(
    langfuse: LangfuseReceiver, make: Make
) -> None:
    langfuse.status = 401
    now = [0.0]
    with structlog.testing.capture_logs() as logs:
        tracer = make(clock=lambda: now[0])
        tracer.record(SERVED)
        until(lambda: len(logs) == 1)
        for _ in range(3):
            tracer.record(SERVED)
        until(lambda: tracer.lost == 4)
        assert len(logs) == 1
        now[0] = 61.0
        tracer.record(SERVED)
        until(lambda: len(logs) == 2)
    assert (logs[1]["lost"], logs[1]["lost_total"]) == (4, 5)


def test_a_langfuse_that_comes_back_gets_the_batch_that_waited(
    langfuse: LangfuseReceiver, make: Make
) -> None:
    langfuse.status = 503
    tracer = make(give_up_after_s=10.0)
    tracer.record(SERVED)
    langfuse.wait_for_requests(1)
    langfuse.status = 200
    assert len(langfuse.wait_for(1)) == 1
    until(lambda: tracer.sent == 1)
    assert tracer.lost == 0


def test_wrong_keys_are_not_tried_again(langfuse: LangfuseReceiver, make: Make) -> None:
    tracer = make(secret_key="sk-wrong", give_up_after_s=10.0)
    tracer.record(SERVED)
    until(lambda: tracer.lost == 1)
    assert tracer.lost_by_reason == {"http_401": 1}
    assert len(langfuse.requests) == 1


def test_a_slow_langfuse_never_holds_up_whoever_records(
    langfuse: LangfuseReceiver, make: Make
) -> None:
    langfuse.delay_s = 30.0
    tracer = make(timeout_s=0.2, queue_traces_max=50)
    tracer.record(SERVED)
    until(lambda: tracer.waiting == 1)
    began = time.monotonic()
    for _ in range(2_000):
        tracer.record(SERVED)
    # 2,000 hand-overs to a Langfuse that answers nothing: far below one of its time-outs each.
    assert time.monotonic() - began < 1.0
    assert tracer.waiting <= 50 + 64
    assert tracer.lost >= 2_000 - 50 - 64 * 2
    assert tracer.lost + tracer.sent + tracer.waiting == 2_001


def test_waiting_content_is_bounded_by_its_size(langfuse: LangfuseReceiver, make: Make) -> None:
    tracer = make(queue_chars_max=10_000, batch_delay_s=60.0)
    for _ in range(5):
        tracer.record(replace(SERVED, content=Content("x" * 4_000)))
    assert (tracer.waiting, tracer.lost_by_reason) == (2, {"queue_full": 3})
    tracer.close(5)
    assert tracer.sent == 2


def test_a_close_sends_what_waits(langfuse: LangfuseReceiver, make: Make) -> None:
    tracer = make(batch_delay_s=60.0)
    for number in range(80):
        tracer.record(replace(SERVED, decision_id=f"d-{number}"))
    tracer.close(30)
    assert (tracer.sent, tracer.lost, len(langfuse.traces())) == (80, 0, 80)


def test_a_close_is_bounded_and_counts_what_it_leaves(
    langfuse: LangfuseReceiver, make: Make
) -> None:
    langfuse.delay_s = 30.0
    tracer = make(give_up_after_s=60.0, timeout_s=20.0)
    for number in range(200):
        tracer.record(replace(SERVED, decision_id=f"d-{number}"))
    began = time.monotonic()
    tracer.close(0.4)
    assert time.monotonic() - began < 2.0
    assert (tracer.sent, tracer.lost, tracer.waiting) == (0, 200, 0)
    tracer.record(SERVED)
    assert tracer.lost == 201


def test_odd_content_fails_no_request(langfuse: LangfuseReceiver, make: Make) -> None:
    class Odd:
        def model_dump(self, **_: object) -> object:
            raise RuntimeError("sk-lf-secret")

    with structlog.testing.capture_logs() as logs:
        tracer = make()
        tracer.record(replace(SERVED, content=Content(None, Odd())))
        tracer.record(REFUSED)
        until(lambda: tracer.sent == 1)
        until(lambda: bool(logs))
    assert tracer.lost_by_reason == {"RuntimeError": 1}
    assert "sk-lf-secret" not in str(logs)


def test_sampling_leaves_traces_out_without_calling_them_lost(
    langfuse: LangfuseReceiver, make: Make
) -> None:
    tracer = make(sample_rate=0.0)
    tracer.record(SERVED)
    until(lambda: tracer.sampled_out == 1)
    assert (tracer.sent, tracer.lost, tracer.waiting) == (0, 0, 0)


async def test_the_event_loop_runs_on_while_traces_are_made(
    langfuse: LangfuseReceiver, make: Make
) -> None:
    # The receiver reads them in this very process: it needs its time.
    tracer = make(timeout_s=30.0)
    worst_s = 0.0
    for number in range(100):
        began = time.monotonic()
        tracer.record(replace(REFUSED, decision_id=f"d-{number}"))
        await asyncio.sleep(0)
        worst_s = max(worst_s, time.monotonic() - began)
    # A send takes far longer than this on any machine where it would block the loop.
    assert worst_s < 1.0
    await asyncio.to_thread(until, lambda: tracer.sent == 100, 30.0)


# ── scores ───────────────────────────────────────────────────────────────────────────────────────


def test_scores_that_langfuse_does_not_take_are_counted_and_their_traces_stand(
    langfuse: LangfuseReceiver, make: Make
) -> None:
    langfuse.scores_status = 500
    with structlog.testing.capture_logs() as logs:
        tracer = make(give_up_after_s=0.1)
        tracer.record(SERVED)
        until(lambda: tracer.scores_lost == 1)
    assert (tracer.sent, tracer.lost, tracer.scores_sent) == (1, 0, 0)
    assert [log["event"] for log in logs] == ["scores_lost"]
    langfuse.scores_status = 200
    tracer.record(SERVED)
    until(lambda: tracer.scores_sent == 1)
    assert len(langfuse.scores()) == 1


def test_a_score_that_langfuse_refuses_among_others_is_the_one_lost(
    langfuse: LangfuseReceiver, make: Make
) -> None:
    tracer = make()
    nameless = replace(SERVED, decision_id="d-9", estimate_error=float("inf"))
    for trace in (SERVED, nameless):
        tracer.record(trace)
    until(lambda: tracer.scores_sent + tracer.scores_lost == 2)
    assert (tracer.scores_sent, tracer.scores_lost) == (1, 1)
