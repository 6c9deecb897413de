"""Where a request goes and what its answer says about it, through a real proxy.

Where it really went is the fake upstream's word; what the answer says is in the headers.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tests.support.house import House

_numbers = itertools.count()

FLASH, HAIKU, SONNET, OPUS = (
    "gemini-3.8-flash",
    "claude-haiku-4-5",
    "claude-sonnet-5-5",
    "claude-opus-5-5",
)

REVIEW = (
    "Do a security review of this function: it takes a user name from the query string, builds an "
    "SQL statement with it and runs that on the customers' database. Tell me every hole that you "
    "find, how it could be used by somebody from outside, and what to change first."
)
"""About 60 tokens."""

TYPO = "Please fix this typo in the text below. " + "The quick brown fox jumps over it. " * 45
"""About 400 tokens."""

ALWAYS = (
    "x-farebox-category",
    "x-farebox-task-type",
    "x-farebox-model",
    "x-farebox-decision",
    "x-farebox-estimated-cost",
    "x-farebox-budget-remaining",
    "x-farebox-mode",
)


def fresh(text: str) -> str:
    """Return the text with a number, so that no two requests are alike."""
    return f"{text} ({next(_numbers)})"


def only_model(house: House, before: int) -> str:
    """Return the model of the one call that the upstream saw since."""
    calls = house.calls_since(before)
    assert len(calls) == 1, calls
    return str(calls[0]["model"])


# ── size and kind of work ────────────────────────────────────────────────────────────────────────


def test_a_short_security_review_goes_to_the_strongest_model(house: House) -> None:
    before = house.last_call()
    answer = house.proxy.chat(fresh(REVIEW))
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-farebox-task-type"] == "security_review"
    assert answer.headers["x-farebox-category"] == "HIGH_COMPLEX"
    assert answer.headers["x-farebox-model"] == "claude-opus"
    assert only_model(house, before) == OPUS


def test_a_longer_typo_goes_to_the_fastest_model(house: House) -> None:
    before = house.last_call()
    answer = house.proxy.chat(fresh(TYPO))
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-farebox-task-type"] == "config_edit_formatting"
    assert answer.headers["x-farebox-category"] == "FAST"
    assert answer.headers["x-farebox-model"] == "gemini-flash"
    assert only_model(house, before) == FLASH


def test_a_large_input_is_in_a_larger_category(house: House) -> None:
    before = house.last_call()
    answer = house.proxy.chat(fresh("Alpha beta gamma delta. " * 300))
    assert answer.headers["x-farebox-category"] == "NORMAL"
    assert only_model(house, before) == HAIKU


def test_a_small_max_tokens_does_not_make_a_request_larger(house: House) -> None:
    answer = house.proxy.chat(fresh("Alpha beta gamma delta. " * 60), max_tokens=10_000)
    assert answer.headers["x-farebox-category"] == "NORMAL" or (
        answer.headers["x-farebox-category"] == "FAST"
    )
    small = house.proxy.chat(fresh("Alpha beta gamma delta. " * 60), max_tokens=10)
    assert small.headers["x-farebox-category"] == "FAST"


# ── who names the task type ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["security_review", "pii_scan", "Security-Review"])
def test_metadata_names_the_task_type(house: House, name: str) -> None:
    before = house.last_call()
    answer = house.proxy.chat(fresh("Have a look."), metadata={"task_type": name})
    assert answer.headers["x-farebox-task-type"] == "security_review"
    assert only_model(house, before) == OPUS


def test_a_header_names_the_task_type(house: House) -> None:
    before = house.last_call()
    answer = house.proxy.post(
        "/v1/chat/completions",
        {"model": "auto", "messages": [{"role": "user", "content": fresh("Have a look.")}]},
        headers={"x-farebox-task-type": "refactoring"},
    )
    assert answer.headers["x-farebox-task-type"] == "refactoring"
    assert answer.headers["x-farebox-category"] == "COMPLEX"
    assert only_model(house, before) == SONNET


def test_an_unknown_task_type_is_announced_and_the_classifier_decides(house: House) -> None:
    answer = house.proxy.chat(fresh(TYPO), metadata={"task_type": "gardening"})
    assert answer.status_code == 200
    assert answer.headers["x-farebox-task-type"] == "config_edit_formatting"
    assert "unknown_task_type" in answer.headers["x-farebox-warning"]


def test_the_sdks_can_steer_on_every_route(house: House) -> None:
    steer = {"task_type": "refactoring"}
    openai, anthropic = house.openai(max_retries=0), house.anthropic(max_retries=0)
    text = fresh("Have a look.")
    seen = {
        "chat": openai.chat.completions.with_raw_response.create(
            model="auto", messages=[{"role": "user", "content": text}], metadata=steer
        ).headers,
        "responses": openai.responses.with_raw_response.create(
            model="auto", input=text, metadata=steer
        ).headers,
        "text": openai.completions.with_raw_response.create(
            model="auto", prompt=text, extra_body={"metadata": steer}
        ).headers,
        "messages": anthropic.messages.with_raw_response.create(
            model="auto",
            max_tokens=100,
            messages=[{"role": "user", "content": text}],
            extra_headers={"x-farebox-task-type": "refactoring"},
        ).headers,
        "messages metadata": anthropic.messages.with_raw_response.create(
            model="auto",
            max_tokens=100,
            messages=[{"role": "user", "content": text}],
            extra_body={"metadata": {"user_id": "u-1", "task_type": "refactoring"}},
        ).headers,
    }
    found = {way: headers.get("x-farebox-task-type") for way, headers in seen.items()}
    assert found == dict.fromkeys(seen, "refactoring")


def test_consequence_and_session_and_tags_reach_the_entry(house: House) -> None:
    answer = house.proxy.chat(
        fresh("Hello"),
        metadata={
            "consequence": "high",
            "session_id": "session-7",
            "tags": ["nightly", "batch"],
        },
        user="ada",
        key=house.make_key("nobody"),
    )
    entry = house.entry_of(answer)
    assert entry["consequence"] == "high"
    assert entry["session"] == "session-7"
    assert entry["tags"] == ["nightly", "batch"]
    assert entry["user"] == "ada"


def test_consequence_is_never_lowered(house: House) -> None:
    answer = house.proxy.chat(
        fresh("x"), metadata={"task_type": "security_review", "consequence": "low"}
    )
    assert house.entry_of(answer)["consequence"] == "high"


# ── what is asked for by name ────────────────────────────────────────────────────────────────────


def test_a_category_can_be_asked_for(house: House) -> None:
    before = house.last_call()
    answer = house.proxy.chat(fresh("Hello"), model="COMPLEX")
    assert answer.headers["x-farebox-category"] == "COMPLEX"
    assert answer.headers["x-farebox-model"] == "claude-sonnet"
    assert only_model(house, before) == SONNET


def test_a_category_below_the_tasks_floor_is_raised_and_announced(house: House) -> None:
    before = house.last_call()
    answer = house.proxy.chat(fresh(REVIEW), model="FAST")
    assert answer.headers["x-farebox-category"] == "HIGH_COMPLEX"
    assert "category_raised" in answer.headers["x-farebox-warning"]
    assert only_model(house, before) == OPUS


def test_a_named_group_is_respected_and_a_mismatch_announced(house: House) -> None:
    before = house.last_call()
    answer = house.proxy.chat(fresh(REVIEW), model="gemini-flash")
    assert answer.headers["x-farebox-model"] == "gemini-flash"
    assert "model_below_task" in answer.headers["x-farebox-warning"]
    assert only_model(house, before) == FLASH


def test_a_named_group_that_fits_is_not_commented(house: House) -> None:
    answer = house.proxy.chat(fresh(TYPO), model="gemini-flash")
    assert "x-farebox-warning" not in answer.headers


def test_an_unknown_model_is_told_which_ones_there_are(house: House) -> None:
    before = house.last_call()
    answer = house.proxy.chat("Hello", model="gpt-17")
    assert answer.status_code == 422
    error = answer.json()["error"]
    assert error["code"] == "invalid_request" == answer.headers["x-farebox-code"]
    assert error["param"] == "model"
    for name in ("auto", "FAST", "claude-opus"):
        assert name in error["message"]
    assert house.calls_since(before) == []


# ── the headers of every kind of answer ──────────────────────────────────────────────────────────

BODIES: Mapping[str, Callable[[str], dict[str, Any]]] = {
    "/v1/chat/completions": lambda text: {"messages": [{"role": "user", "content": text}]},
    "/v1/completions": lambda text: {"prompt": text},
    "/v1/responses": lambda text: {"input": text},
    "/v1/messages": lambda text: {
        "messages": [{"role": "user", "content": text}],
        "max_tokens": 300,
    },
    "/v1/embeddings": lambda text: {"input": text},
}


def _ways() -> list[Any]:
    ways = []
    for path in BODIES:
        for stream in (False, True):
            for model in ("auto", "claude-haiku", "gpt-4o-mini", "gemini-flash"):
                if path == "/v1/embeddings":
                    if stream or model != "auto":
                        continue
                    model = "embedder"
                name = f"{path}-{model}-{'stream' if stream else 'whole'}"
                ways.append(pytest.param(path, model, stream, id=name))
    return ways


@pytest.mark.parametrize(("path", "model", "stream"), _ways())
def test_every_answer_carries_the_headers(
    house: House, path: str, model: str, stream: bool
) -> None:
    body = {"model": model, **BODIES[path](fresh("Say hello"))}
    answer = house.proxy.post(path, body | {"stream": True} if stream else body)
    assert answer.status_code == 200, answer.text
    missing = [name for name in ALWAYS if name not in answer.headers]
    assert missing == []
    assert answer.headers["x-farebox-mode"] == "enforce"
    assert answer.headers["x-farebox-model"] == ("gemini-flash" if model == "auto" else model)
    entry = house.entry_of(answer)
    assert entry["status"] == "ok"
    assert entry["requested_model"] == model
    assert entry["category"] == answer.headers["x-farebox-category"]
    assert entry["serving_group"] == answer.headers["x-farebox-model"]


# ── fallbacks ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"]
)
def test_after_a_fallback_the_headers_name_the_group_that_served(
    house: House, path: str, stream: bool
) -> None:
    # Every attempt fails on the first group, whether LiteLLM retries it or not.
    house.simulator.script(HAIKU, "status=503", "status=503")
    before = house.last_call()
    body = {"model": "NORMAL", **BODIES[path](fresh("Say hello")), "stream": stream}
    answer = house.proxy.post(path, body)
    assert answer.status_code == 200, answer.text
    models = [call["model"] for call in house.calls_since(before)]
    house.simulator.reset()
    assert set(models[:-1]) == {HAIKU} and models[-1] == FLASH
    assert answer.headers["x-farebox-model"] == "gemini-flash"
    entry = house.entry_of(answer)
    assert entry["group"] == "claude-haiku"
    assert entry["serving_group"] == "gemini-flash"


# ── the cap on output ────────────────────────────────────────────────────────────────────────────


def test_the_category_caps_the_output_that_nobody_bounded(house: House) -> None:
    before = house.last_call()
    answer = house.proxy.chat(fresh("Say hello"))
    assert answer.headers["x-farebox-output-cap"] == "1024"
    assert [call["output_tokens_max"] for call in house.calls_since(before)] == [1024]
    assert "x-farebox-warning" not in answer.headers


def test_an_answer_that_reached_the_cap_says_so(house: House) -> None:
    text = fresh("Say hello [[sim: output_tokens=1024 finish=length]]")
    answer = house.proxy.chat(text)
    assert "output_capped" in answer.headers["x-farebox-warning"]
    assert "output_capped" in house.entry_of(answer)["marks"]


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/v1/completions", "max_tokens"),
        ("/v1/responses", "max_output_tokens"),
        ("/v1/chat/completions", "max_completion_tokens"),
    ],
)
def test_a_callers_own_maximum_stays(house: House, path: str, field: str) -> None:
    before = house.last_call()
    body = {"model": "auto", **BODIES[path](fresh("Say hello")), field: 333}
    answer = house.proxy.post(path, body)
    assert answer.status_code == 200, answer.text
    assert [call["output_tokens_max"] for call in house.calls_since(before)] == [333]
    assert "x-farebox-output-cap" not in answer.headers


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/responses"])
def test_the_cap_reaches_the_upstream_on_every_route(house: House, path: str) -> None:
    before = house.last_call()
    answer = house.proxy.post(path, {"model": "auto", **BODIES[path](fresh("Say hello"))})
    assert answer.status_code == 200, answer.text
    assert [call["output_tokens_max"] for call in house.calls_since(before)] == [1024]


# ── constraints ──────────────────────────────────────────────────────────────────────────────────

PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGA"
    "WjR9awAAAABJRU5ErkJggg=="
)
TOOL = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}},
}
SCHEMA = {
    "type": "json_schema",
    "json_schema": {
        "name": "city",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


@pytest.mark.parametrize(
    ("need", "fields"),
    [
        ("vision", {}),
        ("tools", {"tools": [TOOL]}),
        ("json_schema", {"response_format": SCHEMA}),
    ],
)
def test_a_model_that_cannot_do_it_is_refused_with_its_reason(
    house: House, need: str, fields: dict[str, Any]
) -> None:
    content: Any = fresh("Have a look")
    if need == "vision":
        content = [
            {"type": "text", "text": content},
            {"type": "image_url", "image_url": {"url": PIXEL}},
        ]
    before = house.last_call()
    body = {"messages": [{"role": "user", "content": content}], "max_tokens": 100, **fields}
    with house.edited(
        "hooks/routing.yaml",
        lambda routing: routing["models"].update(
            {"plain": {"title": "p", "vendor": "x", "tier": "execute", "capabilities": []}}
        ),
    ):
        refused = house.proxy.post("/v1/chat/completions", {"model": "plain", **body})
    assert refused.status_code == 422, refused.text
    error = refused.json()["error"]
    assert error["code"] == "no_feasible_model"
    assert error["farebox"]["candidates"][0]["group"] == "plain"
    assert need in str(error["farebox"]["candidates"][0])
    assert house.calls_since(before) == []
    served = house.proxy.post("/v1/chat/completions", {"model": "auto", **body})
    assert served.status_code == 200, served.text


def test_the_context_guard_drops_a_model_whose_window_is_too_small(house: House) -> None:
    before = house.last_call()
    # About 115,000 tokens: more than 80 % of GPT-4o mini's 128,000.
    text = fresh("word " * 115_000)
    refused = house.proxy.chat(text, model="gpt-4o-mini", max_tokens=10)
    assert refused.status_code == 422, refused.text[:500]
    assert "context" in str(refused.json()["error"]["farebox"]["candidates"][0])
    assert house.calls_since(before) == []


def test_the_chain_goes_on_behind_a_model_that_is_dropped(house: House) -> None:
    def tiny_window(routing: Any) -> None:
        routing["models"]["gemini-flash"]["context_tokens"] = 1000

    before = house.last_call()
    with house.edited("hooks/routing.yaml", tiny_window):
        answer = house.proxy.chat(fresh("Say hello"))
    assert answer.headers["x-farebox-model"] == "claude-haiku"
    assert only_model(house, before) == HAIKU
    decision = house.books.decision(answer.headers["x-farebox-decision"])
    flash = next(c for c in decision["candidates"] if c["group"] == "gemini-flash")
    assert not flash["kept"] and "context" in flash["reason"]


def test_a_key_is_served_only_its_groups(house: House) -> None:
    key = house.make_key("haiku-only", groups=["claude-haiku"], team="kitchen", user="ada")
    before = house.last_call()
    answer = house.proxy.chat(fresh("Say hello"), key=key)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-farebox-model"] == "claude-haiku"
    assert only_model(house, before) == HAIKU
    entry = house.entry_of(answer)
    assert (entry["key_name"], entry["team"], entry["user"]) == ("haiku-only", "kitchen", "ada")

    before = house.last_call()
    refused = house.proxy.chat(fresh("Say hello"), model="claude-opus", key=key)
    assert refused.status_code == 422, refused.text
    assert refused.json()["error"]["code"] == "no_feasible_model"
    assert "key" in str(refused.json()["error"]["farebox"]["candidates"][0])
    assert house.calls_since(before) == []
