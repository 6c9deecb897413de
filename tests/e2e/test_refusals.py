"""What a client gets whose request is not sent: code, arithmetic, headers; nothing upstream."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import anthropic
import httpx
import openai
import pytest

from tests.support.house import House
from tests.support.proxy import wait_until

_numbers = itertools.count()

ARITHMETIC = ("limit", "spent", "held", "requested", "remaining")


@pytest.fixture(scope="module")
def pauper(house: House) -> str:
    """The key of somebody whose budget has room for nothing."""
    return house.make_key("the-pauper", user="pauper")


@pytest.fixture(scope="module")
def careful(house: House) -> str:
    """The key of somebody none of whose requests may cost more than $0.0001."""
    return house.make_key("the-careful", user="careful")


@pytest.fixture
def nothing_sent(house: House) -> Iterator[None]:
    """The upstream saw nothing of the test."""
    before = house.last_call()
    yield
    assert house.calls_since(before) == []


unsent = pytest.mark.usefixtures("nothing_sent")


def fresh() -> str:
    return f"Say hello, number {next(_numbers)}"


def assert_arithmetic(detail: dict[str, Any], budget: str) -> None:
    limit, spent, held, requested, remaining = (Decimal(detail[name]) for name in ARITHMETIC)
    assert detail["budget"] == budget
    assert remaining == limit - spent - held
    assert requested > remaining
    assert datetime.fromisoformat(detail["resets_at"]) > datetime.now(UTC)
    assert len(detail["decision_id"]) == 32
    assert detail["next_step"]


def assert_refused(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Check what every refusal in OpenAI's shape has; return its `farebox` object."""
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert error["code"] == code
    assert error["message"] and error["type"]
    assert response.headers["x-farebox-code"] == code
    assert response.headers["x-farebox-decision"] == error["farebox"]["decision_id"]
    assert response.headers["x-farebox-mode"] == "enforce"
    detail: dict[str, Any] = error["farebox"]
    assert detail["code"] == code
    return detail


# ── budget_exceeded ──────────────────────────────────────────────────────────────────────────────


@unsent
def test_a_budget_that_is_used_up_refuses_with_its_arithmetic(house: House, pauper: str) -> None:
    response = house.proxy.chat(fresh(), key=pauper)
    detail = assert_refused(response, 402, "budget_exceeded")
    assert_arithmetic(detail, "pauper")
    assert detail["limit"] == "0.000001"
    assert response.headers["x-should-retry"] == "false"
    assert "retry-after" not in response.headers
    assert response.headers["x-farebox-category"] == "FAST"
    assert response.headers["x-farebox-budget-remaining"] == detail["remaining"]
    recorded = house.refusal(detail["decision_id"])
    assert recorded["code"] == "budget_exceeded"
    assert recorded["key_name"] == "the-pauper"
    assert recorded["refusal"]["requested"] == detail["requested"]
    assert house.books.decision(detail["decision_id"])["category"] == "FAST"


@unsent
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hello"}]}),
        ("/v1/completions", {"prompt": "Hello"}),
        ("/v1/responses", {"input": "Hello"}),
        ("/v1/embeddings", {"input": "Hello " * 200, "model": "embedder"}),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_the_shape_is_openais_on_every_route_of_theirs(
    house: House, pauper: str, path: str, body: dict[str, Any], stream: bool
) -> None:
    if stream and path == "/v1/embeddings":
        pytest.skip("embeddings are not streamed")
    sent = {"model": "auto", **body} | ({"stream": True} if stream else {})
    response = house.proxy.post(path, sent, key=pauper)
    detail = assert_refused(response, 402, "budget_exceeded")
    assert_arithmetic(detail, "pauper")
    assert response.headers["x-should-retry"] == "false"


@unsent
def test_the_openai_sdk_raises_once_and_does_not_retry(house: House, pauper: str) -> None:
    before = len(house.books.refusals())
    with pytest.raises(openai.APIStatusError) as raised:
        house.openai(pauper).chat.completions.create(
            model="auto", messages=[{"role": "user", "content": fresh()}]
        )
    error = raised.value
    assert error.status_code == 402
    assert error.code == "budget_exceeded"
    assert isinstance(error.body, dict)
    assert_arithmetic(error.body["farebox"], "pauper")
    assert len(house.books.refusals()) == before + 1


@unsent
@pytest.mark.parametrize("stream", [False, True])
def test_the_anthropic_sdk_raises_once_and_does_not_retry(
    house: House, pauper: str, stream: bool
) -> None:
    before = len(house.books.refusals())
    with pytest.raises(anthropic.APIStatusError) as raised:
        house.anthropic(pauper).messages.create(
            model="auto",
            max_tokens=100,
            messages=[{"role": "user", "content": fresh()}],
            stream=stream,
        )
    error = raised.value
    assert error.status_code == 402
    assert isinstance(error.body, dict)
    assert error.body["type"] == "error"
    detail = error.body["error"]["provider_specific_fields"]["farebox"]
    assert detail["code"] == "budget_exceeded"
    assert_arithmetic(detail, "pauper")
    headers = error.response.headers
    assert headers["x-farebox-code"] == "budget_exceeded"
    assert headers["x-should-retry"] == "false"
    assert headers["x-farebox-decision"] == detail["decision_id"]
    assert len(house.books.refusals()) == before + 1


# ── the other codes ──────────────────────────────────────────────────────────────────────────────


@unsent
def test_a_request_above_the_cap_for_one_is_refused(house: House, careful: str) -> None:
    response = house.proxy.chat(fresh(), model="claude-opus", key=careful, max_tokens=4000)
    detail = assert_refused(response, 402, "per_call_cap_exceeded")
    assert response.headers["x-should-retry"] == "false"
    assert detail["candidates"][0]["group"] == "claude-opus"
    assert "careful" in response.json()["error"]["message"]
    assert house.refusal(detail["decision_id"])["code"] == "per_call_cap_exceeded"


@unsent
@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"max_tokens": -1}, "invalid_request", "max_tokens"),
        ({"n": 10**9}, "invalid_request", "n"),
        ({"model": "nobody"}, "invalid_request", "model"),
        ({"metadata": {"consequence": "grave"}}, "invalid_request", "metadata.consequence"),
        (
            {"web_search_options": {}, "tools": [{"type": "web_search"}]},
            "unsupported_request",
            None,
        ),
        ({"model": "gpt-4o-mini,claude-haiku"}, "unsupported_request", None),
    ],
)
def test_a_request_that_cannot_be_served_says_which_field(
    house: House, fields: dict[str, Any], code: str, param: str | None
) -> None:
    sent = {"model": "auto", "messages": [{"role": "user", "content": fresh()}], **fields}
    response = house.proxy.post("/v1/chat/completions", sent)
    detail = assert_refused(response, 422, code)
    assert response.json()["error"]["param"] == param
    assert response.headers["x-should-retry"] == "false"
    assert house.refusal(detail["decision_id"])["code"] == code


@unsent
def test_the_anthropic_sdk_is_told_of_a_request_that_cannot_be_served(house: House) -> None:
    with pytest.raises(anthropic.UnprocessableEntityError) as raised:
        house.anthropic().messages.create(
            model="nobody", max_tokens=10, messages=[{"role": "user", "content": fresh()}]
        )
    assert raised.value.response.headers["x-farebox-code"] == "invalid_request"


def _busy(house: House, key: str) -> threading.Thread:
    """Begin a request that holds most of the narrow budget for a second and a half."""
    text = f"{fresh()} [[sim: delay_ms=1500 output_tokens=5]]"
    thread = threading.Thread(
        target=house.proxy.chat,
        args=(text, "claude-sonnet"),
        kwargs={"key": key, "max_tokens": 1200},
    )
    thread.start()
    wait_until(lambda: house.books.holds() > 0, what="a hold")
    return thread


def test_a_budget_that_is_only_held_asks_for_another_try(house: House) -> None:
    key = house.make_key("the-narrow", user="narrow")
    thread = _busy(house, key)
    try:
        response = house.proxy.chat(fresh(), "claude-sonnet", key=key, max_tokens=1200)
    finally:
        thread.join()
    detail = assert_refused(response, 429, "budget_busy")
    assert_arithmetic(detail, "narrow")
    assert Decimal(detail["held"]) > 0
    assert int(response.headers["retry-after"]) >= 1
    assert response.headers.get("x-should-retry") != "false"


def test_the_sdk_gets_in_by_itself_once_the_hold_has_ended(house: House) -> None:
    key = house.make_key("the-narrow-one", user="narrow")
    thread = _busy(house, key)
    try:
        answer = house.openai(key, max_retries=4).chat.completions.create(
            model="claude-sonnet",
            messages=[{"role": "user", "content": f"{fresh()} [[sim: output_tokens=5]]"}],
            max_tokens=1200,
        )
    finally:
        thread.join()
    assert answer.choices[0].message.content


# ── the store is away ────────────────────────────────────────────────────────────────────────────


def test_without_its_store_nothing_is_sent_and_it_comes_back_by_itself(house: House) -> None:
    before = house.last_call()
    house.redis.stop()
    try:
        for attempt in range(4):
            started = time.monotonic()
            response = house.proxy.chat(fresh())
            detail = assert_refused(response, 503, "ledger_unavailable")
            assert time.monotonic() - started < 3.0, attempt
            assert detail["next_step"]
            assert int(response.headers["retry-after"]) >= 1
            assert response.headers.get("x-should-retry") != "false"
        metrics = house.proxy.get("/metrics").text
        assert "farebox_ledger_read 0.0" in metrics
        assert "farebox_budget_" not in metrics, "what is not known is absent"
        assert 'farebox_requests_refused_total{code="ledger_unavailable"}' in metrics
        with pytest.raises(anthropic.APIStatusError) as raised:
            house.anthropic(max_retries=0).messages.create(
                model="auto", max_tokens=10, messages=[{"role": "user", "content": fresh()}]
            )
        assert raised.value.status_code == 503
        assert raised.value.response.headers["x-farebox-code"] == "ledger_unavailable"
    finally:
        house.redis.start()
    assert house.calls_since(before) == []
    wait_until(lambda: house.proxy.chat(fresh()).status_code == 200, 5, "it serves again")
    assert house.books.verify() == ()


def test_a_store_that_lost_its_data_is_used_again(house: House) -> None:
    house.redis.stop()
    house.redis.start(wipe=True)
    wait_until(lambda: house.proxy.chat(fresh()).status_code == 200, 15, "it serves again")
    assert house.books.verify() == ()


# ── what is tried before a refusal ───────────────────────────────────────────────────────────────


def test_the_next_group_serves_where_a_budget_is_used_up_and_the_answer_says_so(
    house: House,
) -> None:
    key = house.make_key("the-thrifty", user="thrifty")
    response = house.proxy.chat(fresh(), key=key)
    assert response.status_code == 200, response.text
    assert response.headers["x-farebox-model"] == "claude-haiku"
    warning = response.headers["x-farebox-warning"]
    assert "escalated: thrifty has no room for gemini-flash, served by claude-haiku" in warning
    decision = house.books.decision(response.headers["x-farebox-decision"])
    assert [(step["group"], step["outcome"]) for step in decision["escalation"]] == [
        ("claude-haiku", "taken")
    ]
    trace = house.trace(response.headers["x-farebox-decision"])
    told = [it for it in trace["observations"] if it["name"].startswith("escalation: ")]
    assert [it["metadata"]["outcome"] for it in told] == [
        it["outcome"] for it in decision["escalation"]
    ]
    named = house.proxy.chat(fresh(), model="gemini-flash", key=key)
    assert_refused(named, 402, "budget_exceeded")
