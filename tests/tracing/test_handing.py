"""From the books to a trace, and what of it happens where a request waits: next to nothing."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from budgets import money, runtime, traced
from budgets.open_requests import OpenRequest, Terms
from budgets.prices import Price, Rates, TokenUsage
from budgets.records import LedgerEntry
from budgets.sends import Outcome, Role, Send, Sends
from budgets.traced import Routed
from callbacks import tracing
from callbacks.closing import Answer, Ending, close
from callbacks.tracing import Content
from tests.support.langfuse_mapping import attempts, named, the, tree
from tests.support.langfuse_receiver import LangfuseReceiver
from tests.tracing.conftest import DECISION, Make

PRICE = Price(Rates(*(2_000_000,) * 6))
FACTS = {
    "call_type": "acompletion", "category": "FAST", "task_type": "extract", "tier": "execute",
    "requested_model": "auto", "session": "s-1", "mode": "shadow",
}  # fmt: skip


@pytest.fixture
def tracer(make: Make) -> Iterator[tracing.Tracer]:
    tracer = make()
    tracing.install(tracer)
    yield tracer
    tracing.install(None)


def opened(clock: list[int], **more: Any) -> OpenRequest:
    """A request that was decided within 2 ms and held within 3 more."""
    terms = {name: Terms(name, PRICE, 100, 50, 300_000, 900_000, ()) for name in ("gpt", "opus")}
    clock[0] = 5_000_000
    return OpenRequest(
        "req-9", "dec-9", dict(FACTS), terms, "gpt", 900_000, ["gpt"], {}, False, None,
        clock_ns=lambda: clock[0], routed=Routed(json.dumps(DECISION), 0, 2_000_000), **more,
    )  # fmt: skip


def answered(request: OpenRequest) -> Ending:
    said = Answer(260_000, TokenUsage(100, 30), True, serving_model="gpt-5-mini")
    return close(request, status="ok", answer=said)


def test_a_settled_request_hands_over_what_the_ledger_charged(
    langfuse: LangfuseReceiver, tracer: tracing.Tracer
) -> None:
    clock = [0]
    request = opened(clock)
    request.begin_attempt("gpt")
    clock[0] += 700_000_000
    request.attempts[0].end("ok", 260_000)
    ending = answered(request)
    clock[0] += 8_000_000
    tracing.hand_over(request, ending, Content([{"role": "user", "content": "hi"}]))
    (trace,) = langfuse.wait_for(1)
    assert (trace["name"], trace["session"]) == ("extract", "s-1")
    assert trace["tags"] == ["category:FAST", "task_type:extract", "mode:shadow"]
    assert money.from_usd(trace["cost"]) == 260_000
    assert tree(trace) == [("extract", ["route", "hold", "gpt", "settle"])]
    (sent,) = attempts(trace)
    assert (sent["model"], sent["usage"]) == (
        "gpt-5-mini", {"input": 100, "output": 30, "total": 130},
    )  # fmt: skip
    took_ms = [
        round((it["end_ns"] - it["start_ns"]) / 1e6)
        for it in (the(trace, name) for name in ("route", "hold", "gpt", "settle", "extract"))
    ]
    assert took_ms == [2, 3, 700, 8, 705]
    assert the(trace, "settle")["output"]["estimate_error"] == ending.facts["estimate_error"]
    assert abs(trace["observations"][0]["end_ns"] / 1e9 - datetime.now(UTC).timestamp()) < 60


def test_a_cascade_hands_over_every_sends_answer_and_verdict(
    langfuse: LangfuseReceiver, tracer: tracing.Tracer
) -> None:
    clock = [0]
    first = Send(0, Role.ANSWER, "acompletion", "gpt")
    request = opened(clock, sends=Sends(None, [first]))
    assert request.sends is not None
    for send, group in ((first, "gpt"), (None, "opus")):
        send = send or request.sends.begin(Role.ANSWER, "acompletion", group)
        clock[0] += 1_000_000
        request.begin_attempt(group).end("ok", 130_000)
        said = Answer(130_000, TokenUsage(100, 30), True, serving_model=f"{group}-1")
        request.sends.tell(send, said)
        verdict = "passed" if group == "opus" else "failed"
        send.verdict = {"gate": "contains", "verdict": verdict}
    request.sends.facts["gate"] = {"first": "failed", "escalated": True}
    request.sends.decide(Outcome.SERVED, 1)
    tracing.hand_over(
        request, answered(request), Content("hi", "better", {0: "worse", 1: "better"})
    )
    (trace,) = langfuse.wait_for(1)
    sent = attempts(trace)
    assert [(it["model"], it["output"]) for it in sent] == [
        ("gpt-1", "worse"),
        ("opus-1", "better"),
    ]
    assert [it["metadata"]["served"] for it in sent] == [False, True]
    assert len(named(trace, "gate: contains")) == 2
    assert money.from_usd(trace["cost"]) == 260_000
    langfuse.wait_for_scores(3)


def test_a_trace_is_put_together_on_the_tracers_own_thread(
    langfuse: LangfuseReceiver, tracer: tracing.Tracer
) -> None:
    """Where a request waits, nothing is read, masked, encoded or sent."""
    read_on: list[str] = []

    class Watched:
        def model_dump(self, **_: object) -> str:
            read_on.append(threading.current_thread().name)
            return "text"

    clock = [0]
    request = opened(clock)
    request.begin_attempt("gpt").end("ok", 260_000)
    tracing.hand_over(request, answered(request), Content(Watched(), Watched()))
    langfuse.wait_for(1)
    assert set(read_on) == {"farebox-tracing"}


def test_a_refusal_without_a_task_type_is_named_by_its_code(
    langfuse: LangfuseReceiver, tracer: tracing.Tracer
) -> None:
    tracing.hand_over_refusal(
        {"mode": "enforce"},
        request_id="req-3",
        code="unsupported_request",
        message="batches are not governed",
        started=datetime.now(UTC),
        routed=Routed("", 0, 0),
    )
    (trace,) = langfuse.wait_for(1)
    assert (trace["name"], trace["level"]) == ("unsupported_request", "WARNING")
    assert tree(trace) == [("unsupported_request", ["refused: unsupported_request"])]


def test_a_request_that_no_model_fits_shows_why_each_was_dropped(
    langfuse: LangfuseReceiver, tracer: tracing.Tracer
) -> None:
    decision = DECISION | {"group": None, "code": "no_feasible_model"}
    tracing.hand_over_refusal(
        {"mode": "enforce", "task_type": "extract"},
        request_id="req-3",
        code="no_feasible_model",
        message="none fits",
        started=datetime.now(UTC),
        routed=Routed(json.dumps(decision), 0, 0),
    )
    (trace,) = langfuse.wait_for(1)
    route = the(trace, "route")
    assert (route["level"], route["status_message"]) == ("WARNING", "no_feasible_model")
    assert route["output"]["candidates"][0]["reason"] == "quality: needs 0.60, has 0.41"
    assert tree(trace) == [("extract", ["route", "refused: no_feasible_model"])]


def test_a_hold_that_its_lease_ended_is_traced(
    langfuse: LangfuseReceiver, tracer: tracing.Tracer
) -> None:
    body = json.dumps({"decision_id": "dec-1", "task_type": "extract", "group": "gpt"})
    traced.expired(LedgerEntry("1-0", "unreconciled", "req-1", 1_000, 7, 7, {}, body))
    (trace,) = langfuse.wait_for(1)
    assert (trace["name"], money.from_usd(trace["cost"])) == ("extract", 7)
    assert the(trace, "settle")["output"]["outcome"] == "unreconciled"


def test_what_is_lost_is_in_the_workers_status(
    langfuse: LangfuseReceiver, tracer: tracing.Tracer
) -> None:
    assert runtime.trace_counts() == (0, 0, 0, 0, 0)
    tracer.close(1)
    traced.expired(LedgerEntry("1-0", "unreconciled", "req-1", 1_000, 7, 7, {}, "{}"))
    assert runtime.trace_counts().lost == 1


def test_without_a_tracer_nothing_is_handed_over() -> None:
    tracing.install(None)
    tracing.hand_over_refusal({}, request_id="r", code="c", message="m", started=datetime.now(UTC))
    traced.expired(LedgerEntry("1-0", "unreconciled", "r", 1_000, 7, 7, {}, "{}"))
