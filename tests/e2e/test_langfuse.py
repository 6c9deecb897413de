"""Every request is one trace, as Langfuse would show it; refused ones as well."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from tests.support.house import House, Pair

_numbers = itertools.count()


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
    assert len(trace["observations"]) == 1
    assert trace["observations"][0]["output"]


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
    assert len(trace["observations"]) == 1


def test_a_fallback_is_in_the_same_trace(house: House) -> None:
    house.simulator.script("gemini-3.8-flash", "status=503", "status=503")
    trace, entry = traced(house, house.proxy.chat(fresh()))
    house.simulator.reset()
    assert trace["metadata"]["group"] == "gemini-flash"
    assert trace["metadata"]["serving_group"] == "claude-haiku"
    attempts = json.loads(trace["metadata"]["attempts"])
    assert [attempt["group"] for attempt in attempts][-1] == "claude-haiku"
    assert len(attempts) == len(entry["attempts"]) == 3
    assert trace["cost"] == pytest.approx(entry["cost"] / 1e9, abs=1e-12)


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
    assert trace["cost"] == 0
    assert trace["user"] == "pauper"


def test_a_refusal_before_any_decision_is_traced_by_its_code(house: House) -> None:
    answer = house.proxy.chat(fresh(), max_tokens=-1)
    trace = house.trace(answer.headers["x-farebox-decision"])
    assert (trace["name"], trace["level"]) == ("invalid_request", "WARNING")


def test_a_key_is_in_no_trace(house: House) -> None:
    key = house.make_key("traced-secret")
    traced(house, house.proxy.chat(fresh(), key=key))
    assert key not in json.dumps(house.langfuse.traces())


def test_without_keys_nothing_connects(pair: Pair) -> None:
    answer = pair.ask(fresh())
    assert answer.status_code == 200
    assert pair.nobody.requests == []
