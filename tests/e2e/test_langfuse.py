"""Every request is one trace, as Langfuse would show it; refused ones as well."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from callbacks.tracing.sender import trace_id
from scripts.cli.main import app
from scripts.profile.records import read_profile
from tests.support.house import House, Pair
from tests.support.langfuse_mapping import attempts, the, tree
from tests.support.proxy import MASTER_KEY, wait_until

_numbers = itertools.count()
TRACE_METRICS = ("farebox_traces", "farebox_trace_scores")


def fresh(text: str = "Please fix this typo in teh text") -> str:
    return f"{text}, number {next(_numbers)}"


def traced(house: House, answer: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    entry = house.entry_of(answer)
    return house.trace(answer.headers["x-farebox-decision"]), entry


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_is_one_trace_named_by_its_task_type(house: House, stream: bool) -> None:
    key = house.make_key(f"traced-{stream}", team="kitchen", user="ada")
    answer = house.proxy.chat(
        fresh(),
        key=key,
        stream=stream,
        metadata={"session_id": "session-9", "tags": ["nightly"]},
    )
    trace, entry = traced(house, answer)
    assert trace["name"] == "config_edit_formatting"
    assert (trace["user"], trace["session"]) == ("ada", "session-9")
    assert {"category:FAST", "task_type:config_edit_formatting", "mode:enforce", "nightly"} <= set(
        trace["tags"]
    )
    meta = trace["metadata"]
    assert meta["category"] == "FAST"
    assert meta["tier"] == "execute"
    assert meta["mode"] == "enforce"
    assert meta["group"] == meta["serving_group"] == "gemini-flash"
    assert meta["actual_nano_usd"] == entry["cost"]
    assert meta["estimate_nano_usd"] == entry["estimate_nano_usd"]
    assert trace["cost"] == pytest.approx(entry["cost"] / 1e9, abs=1e-12)
    assert trace["level"] == "DEFAULT"
    assert trace["output"] and trace["input"]
    assert trace["trace_id"] == trace_id(answer.headers["x-farebox-decision"])
    assert tree(trace) == [(trace["name"], ["route", "hold", "gemini-flash", "settle"])]


def test_the_route_the_hold_and_the_settling_are_told_of(house: House) -> None:
    trace, entry = traced(house, house.proxy.chat(fresh()))
    route, hold, settle = (the(trace, name) for name in ("route", "hold", "settle"))
    candidates = route["output"]["candidates"]
    assert next(it["group"] for it in candidates if it["kept"]) == "gemini-flash"
    assert all(it["kept"] or it["reason"] for it in candidates)
    assert 0 < route["metadata"]["took_us"] < 10_000_000
    assert hold["output"]["hold_nano_usd"] == entry["hold_nano_usd"]
    assert {it["budget"] for it in hold["output"]["budgets"]} == {
        charge.split("|")[0] if isinstance(charge, str) else charge[0]
        for charge in entry["charges"]
    }
    assert settle["output"]["charged_nano_usd"] == entry["cost"]
    assert settle["output"]["estimate_error"] == entry["estimate_error"]
    assert route["end_ns"] <= hold["end_ns"] <= attempts(trace)[0]["end_ns"] <= settle["end_ns"]

    def scored() -> list[float]:
        found = house.trace(entry["decision_id"])["scores"]
        return [it["value"] for it in found if it["name"] == "estimate_error"]

    assert wait_until(scored, what="the score of the estimate") == [entry["estimate_error"]]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/messages", {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 50}),
        ("/v1/responses", {"input": "Hello"}),
        ("/v1/completions", {"prompt": "Hello"}),
        ("/v1/embeddings", {"input": "Hello", "model": "embedder"}),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_every_route_is_traced_at_the_ledgers_cost(
    house: House, path: str, body: dict[str, Any], stream: bool
) -> None:
    if stream and path == "/v1/embeddings":
        pytest.skip("embeddings are not streamed")
    sent = {"model": "claude-haiku", **body} | ({"stream": True} if stream else {})
    trace, entry = traced(house, house.proxy.post(path, sent))
    assert trace["cost"] == pytest.approx(entry["cost"] / 1e9, abs=1e-12)
    assert entry["cost"] > 0
    (sent,) = attempts(trace)
    assert sent["type"] == ("embedding" if path == "/v1/embeddings" else "generation")
    assert sent["usage"]["input"] == entry["tokens"]["input"]


def test_a_fallback_is_in_the_same_trace(house: House) -> None:
    house.simulator.script("gemini-3.8-flash", "status=503", "status=503")
    trace, entry = traced(house, house.proxy.chat(fresh()))
    house.simulator.reset()
    assert trace["metadata"]["group"] == "gemini-flash"
    assert trace["metadata"]["serving_group"] == "claude-haiku"
    sent = attempts(trace)
    assert [it["name"] for it in sent] == ["gemini-flash", "gemini-flash", "claude-haiku"]
    assert [it["level"] for it in sent] == ["ERROR", "ERROR", "DEFAULT"]
    assert len(entry["attempts"]) == 3
    assert "haiku" in sent[-1]["model"]
    assert trace["cost"] == pytest.approx(entry["cost"] / 1e9, abs=1e-12)


def test_a_cascade_is_told_step_by_step_and_its_verdicts_are_scores(house: House) -> None:
    text = fresh("Say it is good. [[sim: answer=bad answer@claude=good]]")
    answer = house.proxy.chat(text, metadata={"task_type": "judged"})
    trace, entry = traced(house, answer)
    first, second = attempts(trace)
    assert [it["name"] for it in (first, second)] == ["gpt-4o-mini", "claude-haiku"]
    assert ["bad" in str(first["output"]), "good" in str(second["output"])] == [True, True]
    gates = [it for it in trace["observations"] if it["type"] == "evaluator"]
    assert [(it["parent"], it["output"]["verdict"]) for it in gates] == [
        (first["id"], "failed"), (second["id"], "passed"),
    ]  # fmt: skip
    assert trace["cost"] == pytest.approx(entry["cost"] / 1e9, abs=1e-12)
    assert trace["output"] == second["output"]

    def verdicts() -> dict[str, int]:
        found = house.trace(entry["decision_id"])["scores"]
        scored = {it["observationId"]: it["value"] for it in found if it["name"] == "gate_verdict"}
        return scored if len(scored) == 2 else {}

    assert wait_until(verdicts, what="two scores") == {first["id"]: 0, second["id"]: 1}


def test_a_request_that_failed_is_an_error(house: House) -> None:
    house.simulator.script("gpt-4o-mini", "status=500", "status=500")
    answer = house.proxy.chat(fresh(), model="gpt-4o-mini")
    house.simulator.reset()
    assert answer.status_code == 500
    trace = house.trace(answer.headers["x-farebox-decision"])
    assert trace["level"] == "ERROR"
    assert trace["cost"] == 0
    assert "simulated error" not in json.dumps(trace["metadata"])


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
def test_a_refusal_is_one_warning_with_its_code(house: House, path: str) -> None:
    key = house.make_key(f"traced-pauper-{path}", user="pauper")
    body = {"model": "auto", "messages": [{"role": "user", "content": fresh()}], "max_tokens": 99}
    answer = house.proxy.post(path, body, key=key)
    assert answer.status_code == 402, answer.text
    trace = house.trace(answer.headers["x-farebox-decision"])
    assert trace["level"] == "WARNING"
    assert trace["status_message"] == "budget_exceeded"
    assert trace["metadata"]["refusal_code"] == "budget_exceeded"
    assert the(trace, "refused: budget_exceeded")["metadata"]["budget"] == "pauper"
    assert the(trace, "route")["output"]["candidates"]
    assert trace["cost"] == 0 and attempts(trace) == []
    assert trace["user"] == "pauper"


def test_a_refusal_before_any_decision_is_traced_by_its_code(house: House) -> None:
    answer = house.proxy.chat(fresh(), max_tokens=-1)
    trace = house.trace(answer.headers["x-farebox-decision"])
    assert (trace["name"], trace["level"]) == ("invalid_request", "WARNING")


def test_a_langfuse_that_fails_holds_up_no_request_and_gets_the_trace_later(house: House) -> None:
    house.langfuse.status = 503
    try:
        answers = [house.proxy.chat(fresh()) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [200, 200]
        assert all(house.entry_of(answer)["cost"] > 0 for answer in answers)
        wait_until(lambda: house.langfuse.requests[-1][1] == 503, what="a send that failed")
    finally:
        house.langfuse.status = 200
    for answer in answers:
        traced(house, answer)

    def counted() -> bool:
        text = house.proxy.get("/farebox/metrics").text
        return all(f'{name}_total{{result="sent"}}' in text for name in TRACE_METRICS)

    wait_until(counted, what="what became of the traces in the metrics")


@pytest.mark.parametrize(("verb", "outcome"), [("approve", "granted"), ("deny", "denied")])
def test_an_approval_is_asked_and_answered_in_the_trace_of_its_request(
    house: House, verb: str, outcome: str
) -> None:
    asker = house.make_key(f"traced-asks-{verb}", team="asking", user=f"asks-{verb}")
    approver = house.make_key(f"traced-answers-{verb}", role="approver", user=f"answers-{verb}")
    refused = house.proxy.chat(fresh(), model="FAST", key=asker)
    assert refused.headers["x-farebox-code"] == "approval_required", refused.text
    decision_id = refused.headers["x-farebox-decision"]
    approval_id = refused.json()["error"]["farebox"]["approval_id"]
    trace = house.trace(decision_id)
    assert the(trace, "approval asked")["metadata"] == {"approval_id": approval_id, "state": "open"}
    path = f"/farebox/approvals/{approval_id}/{verb}"
    answer = house.proxy.post(path, {"reason": "a secret reason"}, key=approver)
    assert answer.status_code == 200, answer.text
    name = f"approval {outcome}"
    wait_until(lambda: name in str(house.trace(decision_id)["observations"]), what=name)
    trace = house.trace(decision_id)
    event = the(trace, name)
    assert (event["type"], event["metadata"]["by"]) == ("event", f"traced-answers-{verb}")
    assert event["parent"] == the(trace, trace["name"])["id"]
    assert "a secret reason" not in json.dumps(trace)
    if verb == "approve":
        body = {"model": "FAST", "messages": [{"role": "user", "content": fresh()}]}
        named = {"x-farebox-approval": approval_id}
        passed = house.proxy.post("/v1/chat/completions", body, key=asker, headers=named)
        after, _ = traced(house, passed)
        assert the(after, "approval used")["metadata"] == {"approval_id": approval_id}


def test_a_profiles_answers_are_linked_to_the_traces_of_their_requests(
    house: House, tmp_path: Path
) -> None:
    """The command publishes what it measured; the proxy has traced the same requests."""
    prompts, oracle = tmp_path / "intents.jsonl", tmp_path / "oracle.yaml"
    line = {"prompt": fresh("Which intent? [[sim: answer=spam]]"), "expected": "spam"}
    prompts.write_text(json.dumps(line | {"task_type": "classification_intent"}) + "\n")
    oracle.write_text("kind: label\nlabels: [spam, ham]\n")
    environ = {
        "FAREBOX_PROXY": house.proxy.base_url,
        "FAREBOX_KEY": MASTER_KEY,
        "REDIS_URL": house.redis.url,
        "FAREBOX_HOME": str(house.pack.folder / ".farebox"),
        "FAREBOX_CONFIG": str(house.pack.path("litellm_config.yaml")),
        **house.environment(),
    }
    words = ["--out", str(tmp_path / "intents-1.jsonl"), "--tiers", "execute", "--yes", "--json"]
    command = ["profile", "run", str(prompts), "--oracle", str(oracle), *words]
    done = CliRunner().invoke(app, command, env=environ)
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)["langfuse"]
    assert (told["dataset"], told["items"], told["linked"], told["problem"]) == (
        "farebox/intents", 1, 1, "",
    )  # fmt: skip
    (linked,) = house.langfuse.datasets.run_items
    (record,) = read_profile(tmp_path / "intents-1.jsonl").records
    trace = house.trace(str(record.decision))
    assert linked["traceId"] == trace["trace_id"]
    line_of_it = the(trace, "profile")
    assert line_of_it["parent"] == the(trace, "classification_intent")["id"]
    assert trace["cost"] == pytest.approx(record.cost_nano_usd / 1e9, abs=1e-12)
    assert "oracle_passed" in {it["name"] for it in trace["scores"]}


def test_a_key_is_in_no_trace(house: House) -> None:
    key = house.make_key("traced-secret")
    traced(house, house.proxy.chat(fresh(), key=key))
    assert key not in json.dumps(house.langfuse.traces())


def test_without_keys_nothing_connects(pair: Pair) -> None:
    answer = pair.ask(fresh())
    assert answer.status_code == 200
    assert pair.nobody.requests == []
