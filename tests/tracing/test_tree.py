"""Traces as Langfuse would show them, by a receiver that reads what is sent as Langfuse does."""

from __future__ import annotations

import base64
import itertools
from dataclasses import replace
from decimal import Decimal

import pytest
from google.protobuf import json_format
from langfuse import Langfuse, propagate_attributes
from opentelemetry import trace as otel
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider

from budgets import money
from budgets.records import LedgerEntry
from budgets.traced import ApprovalAnswered
from callbacks.tracing import books
from callbacks.tracing.record import TraceAttempt
from callbacks.tracing.sender import LangfuseSender, observation_id, trace_id
from callbacks.tracing.settings import Settings
from tests.support import langfuse_mapping as mapping
from tests.support.langfuse_mapping import attempts, named, the, tree
from tests.support.langfuse_receiver import LangfuseReceiver
from tests.tracing.conftest import ENDED, REFUSED, SERVED, STARTED, Make, after, shown, until

GATED = replace(
    SERVED,
    attempts=(
        TraceAttempt(
            group="gpt-4o-mini", status="ok", cost_nano_usd=1_000, started=after(3),
            ended=after(400), model="gpt-4o-mini-2024", send=0, role="answer",
            verdict={"gate": "contains", "verdict": "failed", "reasons": ["misses a text"]},
        ),
        TraceAttempt(
            group="claude-haiku", status="ok", cost_nano_usd=1_233_567, started=after(401),
            ended=ENDED, model="claude-haiku-4-5", send=1, role="answer", served=True,
            verdict={"gate": "contains", "verdict": "passed"},
        ),
    ),
    gate={"enforced": True, "first": "failed", "escalated": True},
    cascade={"steps": ["gpt-4o-mini", "claude-haiku"]},
)  # fmt: skip


# ── the trace ────────────────────────────────────────────────────────────────────────────────────


def test_a_served_request_is_one_trace_named_by_its_task_type(
    langfuse: LangfuseReceiver, make: Make
) -> None:
    trace = shown(langfuse, make(), SERVED)
    assert trace["name"] == "code_review"
    assert (trace["user"], trace["session"]) == ("ada", "s-7")
    assert trace["environment"] == "staging"
    assert (trace["level"], trace["status_message"]) == ("DEFAULT", None)
    assert trace["input"] == [{"role": "user", "content": "Review this."}]
    assert trace["output"] == {"role": "assistant", "content": "Fine."}
    assert tree(trace) == [
        ("code_review", ["route", "hold", "claude-sonnet", "gpt", "settle"]),
    ]
    assert [it["type"] for it in trace["observations"]] == [
        "span", "span", "span", "generation", "generation", "span",
    ]  # fmt: skip


def test_every_observation_says_whose_trace_it_is_in(
    langfuse: LangfuseReceiver, make: Make
) -> None:
    """Langfuse 4 keeps observations only, and finds a trace's user, session and tags on each."""
    trace = shown(langfuse, make(), SERVED)
    told = {str(it["trace"]) for it in trace["observations"]}
    assert len(told) == 1
    assert {it["environment"] for it in trace["observations"]} == {"staging"}


def test_a_callers_tag_cannot_pretend_to_be_a_tag_of_ours(
    langfuse: LangfuseReceiver, make: Make
) -> None:
    trace = shown(langfuse, make(), SERVED)
    assert trace["tags"] == [
        "category:COMPLEX", "task_type:code_review", "mode:enforce", "cost:estimated", "beta",
    ]  # fmt: skip


def test_the_metadata_says_what_was_asked_and_what_came_of_it(
    langfuse: LangfuseReceiver, make: Make
) -> None:
    assert shown(langfuse, make(), SERVED)["metadata"] == {
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
        "marks": '["estimated"]',
    }


def test_the_times_are_the_requests_and_not_the_recordings(
    langfuse: LangfuseReceiver, make: Make
) -> None:
    trace = shown(langfuse, make(), SERVED)
    root = the(trace, "code_review")
    assert root["start_ns"] == int(STARTED.timestamp()) * 10**9 + 123_456_000
    assert root["end_ns"] - root["start_ns"] == 2_000_007_000
    steps = [the(trace, name) for name in ("route", "hold", "claude-sonnet", "gpt", "settle")]
    for before, later in itertools.pairwise(steps):
        assert before["end_ns"] == later["start_ns"]


def test_the_traces_id_is_made_of_the_decisions_id(langfuse: LangfuseReceiver, make: Make) -> None:
    """So whoever was told the decision can find the trace, and score it."""
    trace = shown(langfuse, make(), SERVED)
    assert trace["trace_id"] == Langfuse.create_trace_id(seed="dec-1") == trace_id("dec-1")
    assert the(trace, "code_review")["id"] == observation_id("dec-1", "root")


def test_a_queued_request_is_one_trace_however_often_it_is_decided() -> None:
    first = replace(SERVED, queue_id="q-1")
    assert first.seed == replace(first, decision_id="dec-9").seed == "req-1"


# ── its observations ─────────────────────────────────────────────────────────────────────────────


def test_the_route_shows_every_candidate_with_its_reasons(
    langfuse: LangfuseReceiver, make: Make
) -> None:
    route = the(shown(langfuse, make(), SERVED), "route")
    dropped, kept = route["output"]["candidates"]
    assert (dropped["group"], dropped["kept"]) == ("gemini-flash", False)
    assert dropped["failed"] == [{"constraint": "quality", "needed": "0.60", "has": "0.41"}]
    assert (kept["group"], kept["kept"], kept["hold_nano_usd"]) == (
        "claude-sonnet", True, 9_000_000,
    )  # fmt: skip
    assert route["output"]["group"] == "claude-sonnet"
    assert route["metadata"]["took_us"] == 1_000
    assert route["metadata"]["task_why"] == "the caller says so"
    assert route["input"]["expected_output_tokens"] == 300


def test_hold_and_settle_show_the_money(langfuse: LangfuseReceiver, make: Make) -> None:
    trace = shown(langfuse, make(), SERVED)
    hold, settle = the(trace, "hold"), the(trace, "settle")
    assert hold["output"]["hold_nano_usd"] == 9_000_000
    assert hold["output"]["budgets"][0]["budget"] == "team"
    assert settle["output"]["outcome"] == "settled"
    assert settle["output"]["charged_usd"] == "0.001234567"
    assert settle["output"]["charges"] == {"team": 1_234_567}
    assert (settle["level"], settle["status_message"]) == ("WARNING", "estimated")


def test_every_attempt_is_a_generation_with_its_model_and_cost(
    langfuse: LangfuseReceiver, make: Make
) -> None:
    failed, served = attempts(shown(langfuse, make(), SERVED))
    assert (failed["name"], failed["cost"], failed["usage"]) == (
        "claude-sonnet", {"total": 0.0}, None,
    )  # fmt: skip
    assert (failed["level"], failed["status_message"]) == ("ERROR", "RateLimitError")
    assert failed["output"] is None
    assert served["model"] == "gpt-5-2026-01-01"
    assert served["cost"] == {"total": 0.001234567}
    assert served["usage"] == {
        "input": 300,
        "input_cached_tokens": 600,
        "input_cache_creation": 100,
        "output": 180,
        "output_reasoning_tokens": 120,
        "total": 1_300,
    }
    assert served["output"] == {"role": "assistant", "content": "Fine."}


@pytest.mark.parametrize("nano_usd", [0, 1, 1_234_567, 999_999_999_999, 3_999_999_999_999_999])
def test_the_cost_is_the_ledgers_to_the_nanodollar(
    langfuse: LangfuseReceiver, make: Make, nano_usd: int
) -> None:
    first, second = SERVED.attempts
    parts = (
        replace(first, cost_nano_usd=nano_usd // 3),
        replace(second, cost_nano_usd=nano_usd - nano_usd // 3),
    )
    trace = shown(langfuse, make(), replace(SERVED, actual_nano_usd=nano_usd, attempts=parts))
    # A cost of 0 is sent as well: without one Langfuse would make up its own.
    assert all(it["cost"] is not None for it in attempts(trace))
    # Langfuse adds doubles, which are a nanodollar off only beyond four million dollars.
    assert abs(money.from_usd(trace["cost"]) - nano_usd) <= 1
    assert Decimal(trace["metadata"]["actual_usd"]) == money.to_usd(nano_usd)


def test_what_no_attempt_explains_is_a_generation_of_its_own(
    langfuse: LangfuseReceiver, make: Make
) -> None:
    trace = shown(langfuse, make(), replace(SERVED, actual_nano_usd=2_234_567))
    assert money.from_usd(trace["cost"]) == 2_234_567
    rest = attempts(trace)[-1]
    assert (rest["metadata"]["status"], rest["level"]) == ("unattributed", "WARNING")
    assert rest["metadata"]["cost_nano_usd"] == 1_000_000


def test_a_cascade_shows_its_steps_and_the_gates_verdicts(
    langfuse: LangfuseReceiver, make: Make
) -> None:
    trace = shown(langfuse, make(), GATED)
    first, second = attempts(trace)
    assert [it["metadata"]["step"] for it in (first, second)] == [1, 2]
    gates = named(trace, "gate: contains")
    assert [it["parent"] for it in gates] == [first["id"], second["id"]]
    assert [it["type"] for it in gates] == ["evaluator"] * 2
    assert [it["output"]["verdict"] for it in gates] == ["failed", "passed"]
    assert (gates[0]["level"], gates[0]["status_message"]) == ("WARNING", "misses a text")


def test_verdicts_and_the_estimates_error_are_scores(
    langfuse: LangfuseReceiver, make: Make
) -> None:
    trace = shown(langfuse, make(), GATED)
    first, second = attempts(trace)
    scores = {(it["name"], it.get("observationId")): it for it in trace["scores"]}
    assert scores.keys() == {
        ("gate_verdict", first["id"]), ("gate_verdict", second["id"]), ("estimate_error", None),
    }  # fmt: skip
    failed = scores["gate_verdict", first["id"]]
    assert (failed["value"], failed["dataType"]) == (0, "BOOLEAN")
    assert failed["comment"] == "contains: misses a text"
    assert scores["gate_verdict", second["id"]]["value"] == 1
    assert scores["estimate_error", None]["value"] == -0.215
    assert {it["environment"] for it in trace["scores"]} == {"staging"}


def test_a_fallback_that_was_skipped_is_an_event(langfuse: LangfuseReceiver, make: Make) -> None:
    event = the(
        shown(langfuse, make(), replace(SERVED, skipped=("opus",))), "fallback skipped: opus"
    )
    assert (event["type"], event["level"]) == ("event", "WARNING")


def test_a_refusal_is_one_trace_at_warning_with_its_code_and_no_cost(
    langfuse: LangfuseReceiver, make: Make
) -> None:
    trace = shown(langfuse, make(), REFUSED)
    assert trace["name"] == "summarise"
    assert (trace["level"], trace["status_message"]) == ("WARNING", "budget_exceeded")
    assert tree(trace) == [("summarise", ["hold", "refused: budget_exceeded"])]
    assert attempts(trace) == [] and trace["cost"] == 0
    event = the(trace, "refused: budget_exceeded")
    assert (event["type"], event["level"]) == ("event", "WARNING")
    assert event["metadata"]["message"] == "team A has $0.00 of $20.00 left"
    assert event["metadata"]["budget"] == "a"
    assert "actual_usd" not in trace["metadata"]
    assert the(trace, "hold")["level"] == "WARNING"


def test_what_a_budget_made_of_a_request_is_shown_step_by_step(
    langfuse: LangfuseReceiver, make: Make
) -> None:
    steps = (
        {"step": "next_group", "outcome": "dropped", "group": "opus", "detail": "too dear"},
        {"step": "approval", "outcome": "asked", "group": None, "detail": "a-1"},
    )
    refused = replace(
        REFUSED,
        escalation=steps,
        refusal_code="approval_required",
        refusal={"message": "m", "approval_id": "a-1", "approval_state": "open"},
    )
    trace = shown(langfuse, make(), refused)
    assert the(trace, "escalation: next_group")["status_message"] == "dropped opus too dear"
    assert the(trace, "escalation: next_group")["level"] == "WARNING"
    asked = the(trace, "approval asked")
    assert (asked["type"], asked["metadata"]) == ("event", {"approval_id": "a-1", "state": "open"})


@pytest.mark.parametrize(("outcome", "level"), [("granted", "DEFAULT"), ("denied", "WARNING")])
def test_an_answered_approval_joins_the_trace_that_asked(
    langfuse: LangfuseReceiver, make: Make, outcome: str, level: str
) -> None:
    tracer = make()
    tracer.record(REFUSED)
    langfuse.wait_for(1)
    answered = ApprovalAnswered(
        approval_id="a-1", outcome=outcome, decision_id="dec-2", when=after(60_000), by="bob",
        user="pat", task_type="summarise", terms={"amount_nano_usd": 5},
    )  # fmt: skip
    tracer.record(books.of_answer(answered))
    until(lambda: tracer.sent == 2)
    (trace,) = langfuse.traces()
    event = the(trace, f"approval {outcome}")
    assert (event["parent"], event["level"]) == (the(trace, "summarise")["id"], level)
    assert event["metadata"]["by"] == "bob"
    assert event["trace"]["user"] == "pat"
    assert trace["name"] == "summarise"


def test_a_request_whose_cost_nobody_knows_gives_langfuse_nothing_to_price(
    langfuse: LangfuseReceiver, make: Make
) -> None:
    trace = shown(langfuse, make(), replace(SERVED, actual_nano_usd=None, attempts=()))
    assert attempts(trace) == []
    assert {it["model"] for it in trace["observations"]} == {None}


def test_a_failed_request_is_an_error_that_names_the_kind_of_failure(
    langfuse: LangfuseReceiver, make: Make
) -> None:
    failed = replace(SERVED, status="error", error="RateLimitError", attempts=SERVED.attempts[:1])
    trace = shown(langfuse, make(), replace(failed, actual_nano_usd=0))
    assert (trace["level"], trace["status_message"]) == ("ERROR", "RateLimitError")


def test_an_embedding_is_shown_as_one_and_its_vectors_stay_here(
    langfuse: LangfuseReceiver, make: Make
) -> None:
    vectors = {"object": "list", "data": [{"embedding": [0.1, 0.2]}, {"embedding": [0.3, 0.4]}]}
    embedded = replace(
        SERVED, call_type="aembedding", content=replace(SERVED.content, answer=vectors)
    )
    trace = shown(langfuse, make(), embedded)
    assert {it["type"] for it in attempts(trace)} == {"embedding"}
    assert trace["output"] == {"embeddings": 2}


# ── one trace a request ──────────────────────────────────────────────────────────────────────────


def test_a_request_traced_twice_is_one_trace_with_scores_that_stand_once(
    langfuse: LangfuseReceiver, make: Make
) -> None:
    tracer = make()
    tracer.record(SERVED)
    tracer.record(replace(SERVED, marks=("corrected",), estimate_error=0.5))
    tracer.record(REFUSED)
    until(lambda: tracer.sent == 3 and tracer.scores_sent == 2)
    traces = {t["metadata"]["request_id"]: t for t in langfuse.traces()}
    assert len(langfuse.traces()) == 2
    assert len(traces["req-1"]["observations"]) == 6
    assert traces["req-1"]["metadata"]["marks"] == '["corrected"]'
    assert [it["value"] for it in traces["req-1"]["scores"]] == [0.5]


def test_a_request_that_its_lease_charged_is_marked_and_a_late_settle_corrects_it(
    langfuse: LangfuseReceiver, make: Make
) -> None:
    body = '{"decision_id":"dec-1","task_type":"code_review","group":"gpt","marks":[]}'
    entry = LedgerEntry(
        "1-0", "unreconciled", "req-1", 0, 9_000, 9_000, {("team", "m"): 9_000}, body
    )
    expired = books.of_expired(entry, ENDED)
    assert expired is not None
    tracer = make()
    tracer.record(expired)
    (trace,) = langfuse.wait_for(1)
    assert money.from_usd(trace["cost"]) == 9_000
    assert "cost:unreconciled" in trace["tags"]
    assert (trace["level"], trace["status_message"]) == ("WARNING", "unreconciled")
    tracer.record(SERVED)
    until(lambda: tracer.sent == 2)
    (trace,) = langfuse.traces()
    assert money.from_usd(trace["cost"]) == SERVED.actual_nano_usd
    assert "cost:unreconciled" not in trace["tags"]


def test_an_entry_that_says_nothing_of_its_request_is_no_trace() -> None:
    entry = LedgerEntry("1-0", "unreconciled", "req-1", 0, 9_000, 9_000, {}, "")
    assert books.of_expired(entry, ENDED) is None


def test_many_requests_are_as_many_traces(langfuse: LangfuseReceiver, make: Make) -> None:
    tracer = make()
    for number in range(100):
        tracer.record(replace(REFUSED, decision_id=f"d-{number}"))
    traces = langfuse.wait_for(100)
    assert {t["metadata"]["decision_id"] for t in traces} == {f"d-{n}" for n in range(100)}
    until(lambda: tracer.sent == 100)
    assert (tracer.lost, tracer.waiting) == (0, 0)


def test_only_requests_are_sent_whatever_else_is_traced_in_the_process(
    langfuse: LangfuseReceiver, make: Make
) -> None:
    before = otel.get_tracer_provider()
    tracer = make()
    assert otel.get_tracer_provider() is before
    with otel.get_tracer("litellm").start_as_current_span("raw_gen_ai_request"):
        trace = shown(langfuse, tracer, SERVED)
    assert the(trace, "code_review")["parent"] is None
    assert langfuse.scopes == {"langfuse-sdk"}


def test_odd_text_does_not_cost_a_batch_its_traces(langfuse: LangfuseReceiver, make: Make) -> None:
    tracer = make()
    odd = replace(SERVED.content, prompt="\udc00")
    tracer.record(replace(SERVED, user="half \ud83d", content=odd, tags=("\udfff",)))
    tracer.record(REFUSED)
    assert len(langfuse.wait_for(2)) == 2
    assert tracer.lost == 0


def test_what_the_sdks_own_client_sends_is_shown_alike(
    langfuse: LangfuseReceiver, make: Make
) -> None:
    """The same generation by the SDK's client: the receiver reads it, and sees the same of ours."""
    ours = shown(langfuse, make(), SERVED)
    given = attempts(ours)[1]
    # A key of its own: the SDK keeps one client a key, and ours has made one for the scores.
    langfuse.public_key = "pk-lf-another"
    client = Langfuse(
        public_key=langfuse.public_key,
        secret_key=langfuse.secret_key,
        base_url=langfuse.url,
        environment="staging",
        tracer_provider=TracerProvider(shutdown_on_exit=False),
    )
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
    (other,) = theirs["observations"]
    unlike = {"trace_id", "id", "parent", "start_ns", "end_ns"}
    alike = given.keys() - unlike
    assert {key: other[key] for key in alike} == {key: given[key] for key in alike}
    shared = ("name", "user", "session", "tags", "environment")
    assert [theirs[key] for key in shared] == [ours[key] for key in shared]


def test_the_receiver_reads_json_as_it_reads_protobuf(langfuse: LangfuseReceiver) -> None:
    sender = LangfuseSender(Settings("pk", "sk", langfuse.url, environment="staging"), False)
    body = sender.encode(sender.spans(SERVED))
    sender.close()
    request = ExportTraceServiceRequest.FromString(body)
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                # In OTLP's JSON ids are hexadecimal, in protobuf's they would be base64.
                for name in ("trace_id", "span_id", "parent_span_id"):
                    hexadecimal = getattr(span, name).hex()
                    setattr(span, name, base64.b64decode(hexadecimal))
    as_json = json_format.MessageToJson(request).encode()
    assert mapping.decode(as_json, "application/json") == mapping.decode(body, "")
