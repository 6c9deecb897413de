"""Traces as Langfuse would show them, by a receiver that reads what is sent as Langfuse does."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import structlog
from langfuse import Langfuse, propagate_attributes
from opentelemetry import trace as otel
from opentelemetry.sdk.trace import TracerProvider

from budgets import money
from budgets.open_requests import OpenRequest, Terms
from budgets.prices import Price, Rates, TokenUsage
from callbacks import tracing
from callbacks.closing import Answer, close
from callbacks.trace_content import CONTENT_CHARS_MAX, ContentMode, render, weigh
from callbacks.trace_record import RequestTrace, TraceAttempt, TraceUsage
from callbacks.trace_sender import LangfuseSender, SenderSettings
from callbacks.tracing import Tracer, TracingSettingsError
from tests.support.langfuse_receiver import LangfuseReceiver

STARTED = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
ENDED = STARTED + timedelta(seconds=2, microseconds=7)

SERVED = RequestTrace(
    request_id="req-1",
    decision_id="dec-1",
    name="code_review",
    started=STARTED,
    ended=ENDED,
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
    dropped=(("gemini-flash", "quality 0.41 < floor 0.60"),),
    estimate_nano_usd=1_500_000,
    actual_nano_usd=1_234_567,
    hold_nano_usd=9_000_000,
    usage=TraceUsage(input=1_000, output=300, cached_read=600, cache_write=100, reasoning=120),
    marks=("estimated",),
    attempts=(
        TraceAttempt("claude-sonnet", "refused", 0, 210),
        TraceAttempt("gpt", "ok", 1_234_567, 1_790),
    ),
    input=[{"role": "user", "content": "Review this."}],
    output={"choices": [{"message": {"role": "assistant", "content": "Fine."}}]},
)

REFUSED = RequestTrace(
    request_id="req-2",
    decision_id="dec-2",
    name="summarise",
    started=STARTED,
    ended=STARTED + timedelta(milliseconds=3),
    status="refused",
    mode="enforce",
    category="FAST",
    task_type="summarise",
    group="gemini-flash",
    estimate_nano_usd=10,
    refusal_code="budget_exceeded",
    refusal_message="team A has $0.00 of $20.00 left",
    input=[{"role": "user", "content": "Shorten this."}],
)


@pytest.fixture
def langfuse() -> Iterator[LangfuseReceiver]:
    with LangfuseReceiver() as receiver:
        yield receiver


@pytest.fixture
def make(langfuse: LangfuseReceiver) -> Iterator[Callable[..., Tracer]]:
    """A tracer for the receiver, closed at the end."""
    made: list[Tracer] = []

    def tracer(
        *,
        content: ContentMode = ContentMode.FULL,
        secret_key: str = langfuse.secret_key,
        base_url: str = langfuse.url,
        sample_rate: float = 1.0,
        timeout_s: float = 5.0,
        **limits: Any,
    ) -> Tracer:
        settings = SenderSettings(
            public_key=langfuse.public_key,
            secret_key=secret_key,
            base_url=base_url,
            environment="staging",
            release=None,
            content=content,
            sample_rate=sample_rate,
            timeout_s=timeout_s,
        )
        limits = {"batch_delay_s": 0.01, "give_up_after_s": 0.3} | limits
        made.append(Tracer(LangfuseSender(settings), timeout_s=timeout_s, **limits))
        return made[-1]

    yield tracer
    for one in made:
        one.close(0.5)


def until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    """Wait for a condition, within a bound."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.005)


def shown(langfuse: LangfuseReceiver, tracer: Tracer, trace: RequestTrace) -> dict[str, Any]:
    tracer.record(trace)
    (only,) = langfuse.wait_for(1)
    return only


# ── what Langfuse shows ──────────────────────────────────────────────────────────────────────────


def test_a_served_request_is_one_trace_named_by_its_task_type(
    langfuse: LangfuseReceiver, make: Callable[..., Tracer]
) -> None:
    trace = shown(langfuse, make(), SERVED)
    assert trace["name"] == "code_review"
    assert (trace["user"], trace["session"]) == ("ada", "s-7")
    assert trace["environment"] == "staging"
    assert (trace["level"], trace["status_message"]) == ("DEFAULT", None)
    (root,) = trace["observations"]
    assert (root["type"], root["parent"]) == ("generation", None)
    assert root["model"] == "gpt-5-2026-01-01"
    assert root["input"] == [{"role": "user", "content": "Review this."}]
    assert root["output"] == {"role": "assistant", "content": "Fine."}


def test_a_callers_tag_cannot_pretend_to_be_a_tag_of_ours(
    langfuse: LangfuseReceiver, make: Callable[..., Tracer]
) -> None:
    trace = shown(langfuse, make(), SERVED)
    assert trace["tags"] == ["category:COMPLEX", "task_type:code_review", "mode:enforce", "beta"]


def test_the_metadata_says_what_was_decided_and_why(
    langfuse: LangfuseReceiver, make: Callable[..., Tracer]
) -> None:
    metadata = shown(langfuse, make(), SERVED)["metadata"]
    assert json.loads(metadata.pop("dropped")) == [
        {"group": "gemini-flash", "reason": "quality 0.41 < floor 0.60"}
    ]
    assert json.loads(metadata.pop("attempts")) == [
        {"group": "claude-sonnet", "status": "refused", "cost_usd": "0", "latency_ms": 210},
        {"group": "gpt", "status": "ok", "cost_usd": "0.001234567", "latency_ms": 1790},
    ]
    assert json.loads(metadata.pop("marks")) == ["estimated"]
    assert metadata == {
        "request_id": "req-1",
        "decision_id": "dec-1",
        "category": "COMPLEX",
        "task_type": "code_review",
        "tier": "reason",
        "consequence": "high",
        "mode": "enforce",
        "status": "ok",
        "requested_model": "auto",
        "group": "claude-sonnet",
        "serving_group": "gpt",
        "serving_model": "gpt-5-2026-01-01",
        "key": "ci",
        "team": "platform",
        "call_type": "acompletion",
        "estimate_usd": "0.0015",
        "estimate_nano_usd": 1_500_000,
        "hold_usd": "0.009",
        "hold_nano_usd": 9_000_000,
        "actual_usd": "0.001234567",
        "actual_nano_usd": 1_234_567,
        "stream": False,
    }


def test_the_times_are_the_requests_and_not_the_recordings(
    langfuse: LangfuseReceiver, make: Callable[..., Tracer]
) -> None:
    (root,) = shown(langfuse, make(), SERVED)["observations"]
    assert root["start_ns"] == int(STARTED.timestamp()) * 10**9 + 123_456_000
    assert root["end_ns"] - root["start_ns"] == 2_000_007_000


@pytest.mark.parametrize("nano_usd", [0, 1, 1_234_567, 999_999_999_999, 8_999_999_999_999_999])
def test_the_cost_is_the_ledgers_to_the_nanodollar(
    langfuse: LangfuseReceiver, make: Callable[..., Tracer], nano_usd: int
) -> None:
    trace = shown(langfuse, make(), replace(SERVED, actual_nano_usd=nano_usd))
    # A cost of 0 is sent as well: without one Langfuse would make up its own.
    assert trace["observations"][0]["cost"] is not None
    # Langfuse holds a double, which is a nanodollar off only beyond four million dollars.
    assert abs(money.from_usd(trace["cost"]) - nano_usd) <= (nano_usd > 4_000_000 * 10**9)
    assert Decimal(trace["metadata"]["actual_usd"]) == money.to_usd(nano_usd)


def test_usage_by_kind_adds_up_to_the_total(
    langfuse: LangfuseReceiver, make: Callable[..., Tracer]
) -> None:
    (root,) = shown(langfuse, make(), SERVED)["observations"]
    assert root["usage"] == {
        "input": 300,
        "input_cached_tokens": 600,
        "input_cache_creation": 100,
        "output": 180,
        "output_reasoning_tokens": 120,
        "total": 1_300,
    }


def test_a_refusal_is_one_trace_at_warning_with_its_code_and_no_cost(
    langfuse: LangfuseReceiver, make: Callable[..., Tracer]
) -> None:
    trace = shown(langfuse, make(), REFUSED)
    assert trace["name"] == "summarise"
    assert (trace["level"], trace["status_message"]) == ("WARNING", "budget_exceeded")
    (root,) = trace["observations"]
    assert (root["type"], root["model"], root["cost"], root["usage"]) == ("span", None, None, None)
    assert trace["metadata"]["refusal_message"] == "team A has $0.00 of $20.00 left"
    assert "actual_usd" not in trace["metadata"]


def test_a_request_whose_cost_nobody_knows_gives_langfuse_nothing_to_price(
    langfuse: LangfuseReceiver, make: Callable[..., Tracer]
) -> None:
    (root,) = shown(langfuse, make(), replace(SERVED, actual_nano_usd=None))["observations"]
    assert (root["type"], root["model"], root["cost"], root["usage"]) == ("span", None, None, None)


def test_a_failed_request_is_an_error_that_names_the_kind_of_failure(
    langfuse: LangfuseReceiver, make: Callable[..., Tracer]
) -> None:
    failed = replace(SERVED, status="error", error="RateLimitError", output=None, usage=None)
    trace = shown(langfuse, make(), failed)
    assert (trace["level"], trace["status_message"]) == ("ERROR", "RateLimitError")


def test_an_embedding_is_shown_as_one_and_its_vectors_stay_here(
    langfuse: LangfuseReceiver, make: Callable[..., Tracer]
) -> None:
    vectors = {"object": "list", "data": [{"embedding": [0.1, 0.2]}, {"embedding": [0.3, 0.4]}]}
    trace = shown(langfuse, make(), replace(SERVED, call_type="aembedding", output=vectors))
    (root,) = trace["observations"]
    assert (root["type"], root["output"]) == ("embedding", {"embeddings": 2})


def test_a_request_traced_twice_is_one_trace(
    langfuse: LangfuseReceiver, make: Callable[..., Tracer]
) -> None:
    tracer = make()
    tracer.record(SERVED)
    tracer.record(replace(SERVED, marks=("corrected",)))
    tracer.record(REFUSED)
    until(lambda: tracer.sent == 3)
    traces = {t["metadata"]["request_id"]: t for t in langfuse.traces()}
    assert len(langfuse.traces()) == 2
    assert [len(t["observations"]) for t in traces.values()] == [1, 1]
    assert json.loads(traces["req-1"]["metadata"]["marks"]) == ["corrected"]


def test_many_requests_are_as_many_traces(
    langfuse: LangfuseReceiver, make: Callable[..., Tracer]
) -> None:
    tracer = make()
    for number in range(300):
        tracer.record(replace(SERVED, request_id=f"r-{number}", actual_nano_usd=number))
    traces = langfuse.wait_for(300)
    assert sorted(t["metadata"]["actual_nano_usd"] for t in traces) == list(range(300))
    until(lambda: tracer.sent == 300)
    assert (tracer.lost, tracer.waiting) == (0, 0)


def test_only_requests_are_sent_whatever_else_is_traced_in_the_process(
    langfuse: LangfuseReceiver, make: Callable[..., Tracer]
) -> None:
    before = otel.get_tracer_provider()
    tracer = make()
    assert otel.get_tracer_provider() is before
    with otel.get_tracer("litellm").start_as_current_span("raw_gen_ai_request"):
        trace = shown(langfuse, tracer, SERVED)
    assert trace["observations"][0]["parent"] is None
    assert langfuse.scopes == {"langfuse-sdk"}


def test_odd_text_does_not_cost_a_batch_its_traces(
    langfuse: LangfuseReceiver, make: Callable[..., Tracer]
) -> None:
    tracer = make()
    tracer.record(replace(SERVED, user="half \ud83d", input="\udc00", tags=("\udfff",)))
    tracer.record(REFUSED)
    assert len(langfuse.wait_for(2)) == 2
    assert tracer.lost == 0


def test_what_the_sdks_own_client_sends_is_shown_alike(
    langfuse: LangfuseReceiver, make: Callable[..., Tracer]
) -> None:
    """The same generation by the SDK's client: the receiver reads it, and sees the same of ours."""
    ours = shown(langfuse, make(), SERVED)
    client = Langfuse(
        public_key=langfuse.public_key,
        secret_key=langfuse.secret_key,
        base_url=langfuse.url,
        environment="staging",
        tracer_provider=TracerProvider(shutdown_on_exit=False),
    )
    (given,) = ours["observations"]
    with propagate_attributes(
        trace_name=ours["name"],
        user_id=ours["user"],
        session_id=ours["session"],
        tags=ours["tags"],
    ):
        client.start_observation(
            trace_context={"trace_id": client.create_trace_id(seed="another")},
            as_type="generation",
            name=given["name"],
            model=given["model"],
            input=given["input"],
            output=given["output"],
            metadata=given["metadata"],
            level=given["level"],
            usage_details=given["usage"],
            cost_details=given["cost"],
        ).end()
    client.shutdown()
    _, theirs = langfuse.wait_for(2)
    unlike = {"trace_id", "id", "parent", "start_ns", "end_ns"}
    for mine, other in ((ours, theirs), (given, theirs["observations"][0])):
        alike = mine.keys() - unlike - {"observations"}
        assert {key: other[key] for key in alike} == {key: mine[key] for key in alike}
    assert ours["trace_id"] == client.create_trace_id(seed="req-1")


# ── from the books to a trace ────────────────────────────────────────────────────────────────────


def test_a_settled_request_hands_over_what_the_ledger_charged(
    langfuse: LangfuseReceiver, make: Callable[..., Tracer]
) -> None:
    price = Price(Rates(*(2_000_000,) * 6))
    terms = Terms("gpt", price, 100, 50, 300_000, 900_000, ())
    facts = {"call_type": "acompletion", "category": "FAST", "task_type": "extract"}
    facts |= {"tier": "execute", "requested_model": "auto", "session": "s-1", "mode": "shadow"}
    request = OpenRequest(
        "req-9", "dec-9", facts, {"gpt": terms}, "gpt", 900_000, ["gpt"], {}, False, None
    )
    request.begin_attempt("gpt").end("ok", 260_000)
    ending = close(
        request,
        status="ok",
        answer=Answer(260_000, TokenUsage(100, 30), True, serving_model="gpt-5-mini"),
    )
    tracing.install(make())
    try:
        before = datetime.now(UTC)
        tracing.hand_over(request, ending, ([{"role": "user", "content": "hi"}], None))
    finally:
        tracing.install(None)
    (trace,) = langfuse.wait_for(1)
    assert (trace["name"], trace["session"]) == ("extract", "s-1")
    assert trace["tags"] == ["category:FAST", "task_type:extract", "mode:shadow"]
    assert money.from_usd(trace["cost"]) == 260_000
    (root,) = trace["observations"]
    assert root["model"] == "gpt-5-mini"
    assert root["usage"] == {"input": 100, "output": 30, "total": 130}
    assert root["end_ns"] <= (before.timestamp() + 1) * 1e9


def test_a_refusal_without_a_task_type_is_named_by_its_code(
    langfuse: LangfuseReceiver, make: Callable[..., Tracer]
) -> None:
    tracing.install(make())
    try:
        tracing.hand_over_refusal(
            {"mode": "enforce"},
            request_id="req-3",
            code="unsupported_request",
            message="batches are not governed",
            started=datetime.now(UTC),
        )
    finally:
        tracing.install(None)
    (trace,) = langfuse.wait_for(1)
    assert (trace["name"], trace["level"]) == ("unsupported_request", "WARNING")


def test_without_a_tracer_nothing_is_handed_over() -> None:
    tracing.install(None)
    tracing.hand_over_refusal({}, request_id="r", code="c", message="m", started=datetime.now(UTC))


# ── content ──────────────────────────────────────────────────────────────────────────────────────


def test_a_digest_tells_equal_prompts_and_not_their_words(
    langfuse: LangfuseReceiver, make: Callable[..., Tracer]
) -> None:
    trace = shown(langfuse, make(content=ContentMode.DIGEST), replace(SERVED, input="Tell me."))
    expected = {"sha256": hashlib.sha256(b"Tell me.").hexdigest()[:16], "chars": 8}
    assert trace["observations"][0]["input"] == expected
    assert set(trace["observations"][0]["output"]) == {"sha256", "chars"}


def test_content_none_sends_neither_prompt_nor_answer(
    langfuse: LangfuseReceiver, make: Callable[..., Tracer]
) -> None:
    (root,) = shown(langfuse, make(content=ContentMode.NONE), SERVED)["observations"]
    assert (root["input"], root["output"]) == (None, None)


def test_secrets_and_files_do_not_reach_a_trace() -> None:
    image = "data:image/png;base64," + "QUJD" * 1_000
    text = render(
        {
            "api_key": "abc123",
            "messages": [
                {"role": "user", "content": "my key is sk-fbx-abcdef0123-ABCDEFGHIJKLMNOPQRSTUV"},
                {"role": "user", "content": [{"image_url": {"url": image}}]},
                {"source": {"media_type": "image/png", "data": "QUJD" * 1_000}},
            ],
        },
        ContentMode.FULL,
    )
    assert text is not None
    assert "abc123" not in text
    assert "sk-fbx" not in text
    assert "QUJD" not in text
    assert "(image/png, 4022 characters of base64" in text


def test_long_content_is_cut_and_says_so() -> None:
    text = render([{"content": "x" * 2 * CONTENT_CHARS_MAX}, {"content": "tail"}], ContentMode.FULL)
    assert text is not None
    assert len(text) < CONTENT_CHARS_MAX + 100
    assert "cut" in text


def test_content_that_contains_itself_ends() -> None:
    loop: dict[str, Any] = {}
    loop["self"] = loop
    assert render(loop, ContentMode.FULL) is not None
    assert weigh(loop) >= 0


# ── Langfuse slow, down or absent ────────────────────────────────────────────────────────────────


def test_without_keys_nothing_is_imported_and_nothing_connects(langfuse: LangfuseReceiver) -> None:
    code = (
        "import sys; from callbacks import tracing;"
        f"assert tracing.Tracer.from_environment({{'LANGFUSE_HOST': {langfuse.url!r}}}) is None;"
        "loaded = [m for m in sys.modules if m.split('.')[0] in ('langfuse', 'opentelemetry')];"
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
    assert trace["observations"][0]["input"] is None


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
    make: Callable[..., Tracer],
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
    langfuse: LangfuseReceiver, make: Callable[..., Tracer]
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
    langfuse: LangfuseReceiver, make: Callable[..., Tracer]
) -> None:
    langfuse.status = 503
    tracer = make(give_up_after_s=10.0)
    tracer.record(SERVED)
    langfuse.wait_for_requests(1)
    langfuse.status = 200
    assert len(langfuse.wait_for(1)) == 1
    until(lambda: tracer.sent == 1)
    assert tracer.lost == 0


def test_wrong_keys_are_not_tried_again(
    langfuse: LangfuseReceiver, make: Callable[..., Tracer]
) -> None:
    tracer = make(secret_key="sk-wrong", give_up_after_s=10.0)
    tracer.record(SERVED)
    until(lambda: tracer.lost == 1)
    assert tracer.lost_by_reason == {"http_401": 1}
    assert len(langfuse.requests) == 1


def test_a_slow_langfuse_never_holds_up_whoever_records(
    langfuse: LangfuseReceiver, make: Callable[..., Tracer]
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


def test_waiting_content_is_bounded_by_its_size(
    langfuse: LangfuseReceiver, make: Callable[..., Tracer]
) -> None:
    tracer = make(queue_chars_max=10_000, batch_delay_s=60.0)
    for _ in range(5):
        tracer.record(replace(SERVED, input="x" * 4_000, output=None))
    assert (tracer.waiting, tracer.lost_by_reason) == (2, {"queue_full": 3})
    tracer.close(5)
    assert tracer.sent == 2


def test_a_close_sends_what_waits(langfuse: LangfuseReceiver, make: Callable[..., Tracer]) -> None:
    tracer = make(batch_delay_s=60.0)
    for number in range(150):
        tracer.record(replace(SERVED, request_id=f"r-{number}"))
    tracer.close(10)
    assert (tracer.sent, tracer.lost, len(langfuse.traces())) == (150, 0, 150)


def test_a_close_is_bounded_and_counts_what_it_leaves(
    langfuse: LangfuseReceiver, make: Callable[..., Tracer]
) -> None:
    langfuse.delay_s = 30.0
    tracer = make(give_up_after_s=60.0, timeout_s=20.0)
    for number in range(200):
        tracer.record(replace(SERVED, request_id=f"r-{number}"))
    began = time.monotonic()
    tracer.close(0.4)
    assert time.monotonic() - began < 2.0
    assert (tracer.sent, tracer.lost, tracer.waiting) == (0, 200, 0)
    tracer.record(SERVED)
    assert tracer.lost == 201


def test_odd_content_fails_no_request(
    langfuse: LangfuseReceiver, make: Callable[..., Tracer]
) -> None:
    class Odd:
        def model_dump(self, **_: object) -> object:
            raise RuntimeError("sk-lf-secret")

    with structlog.testing.capture_logs() as logs:
        tracer = make()
        tracer.record(replace(SERVED, output=Odd()))
        tracer.record(REFUSED)
        until(lambda: tracer.sent == 1)
        until(lambda: bool(logs))
    assert tracer.lost_by_reason == {"RuntimeError": 1}
    assert "sk-lf-secret" not in str(logs)


def test_sampling_leaves_traces_out_without_calling_them_lost(
    langfuse: LangfuseReceiver, make: Callable[..., Tracer]
) -> None:
    tracer = make(sample_rate=0.0)
    tracer.record(SERVED)
    until(lambda: tracer.sampled_out == 1)
    assert (tracer.sent, tracer.lost, tracer.waiting) == (0, 0, 0)


async def test_the_event_loop_runs_on_while_traces_are_made(
    langfuse: LangfuseReceiver, make: Callable[..., Tracer]
) -> None:
    tracer = make()
    worst_s = 0.0
    for number in range(500):
        began = time.monotonic()
        tracer.record(replace(SERVED, request_id=f"r-{number}"))
        await asyncio.sleep(0)
        worst_s = max(worst_s, time.monotonic() - began)
    # A send takes far longer than this on any machine where it would block the loop.
    assert worst_s < 1.0
    await asyncio.to_thread(until, lambda: tracer.sent == 500)
