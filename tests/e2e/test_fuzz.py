"""Generated requests to every governed endpoint: a clean answer each, and books that agree.

The examples follow from `FAREBOX_FUZZ_SEED` (0 unless it is set); `FAREBOX_FUZZ_EXAMPLES` makes
more of them. A failure prints the body that failed.
"""

from __future__ import annotations

import json
import os
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, note, seed, settings
from hypothesis import strategies as st

from tests.support.fuzz import spoilt
from tests.support.house import House

SEED = int(os.environ.get("FAREBOX_FUZZ_SEED", "0"))
EXAMPLES = int(os.environ.get("FAREBOX_FUZZ_EXAMPLES", "40"))

TEXT = {"type": "string"}
MODEL = {"enum": ["auto", "FAST", "gemini-flash", "gpt-4o-mini", "claude-haiku"]}
PART = {
    "type": "object",
    "required": ["type", "text"],
    "properties": {"type": {"enum": ["text"]}, "text": TEXT},
}
INPUT_PART = {
    "type": "object",
    "required": ["type", "text"],
    "properties": {"type": {"enum": ["input_text"]}, "text": TEXT},
}
IMAGE = {
    "type": "object",
    "required": ["type", "image_url"],
    "properties": {
        "type": {"enum": ["image_url"]},
        "image_url": {"enum": [{"url": "data:image/png;base64,AAAA"}]},
    },
}


def message(part: dict[str, Any], roles: list[str]) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["role", "content"],
        "properties": {
            "role": {"enum": roles},
            "content": {"anyOf": [TEXT, {"type": "array", "minItems": 1, "items": part}]},
        },
    }


TOOLS = {
    "type": "array",
    "maxItems": 1,
    "items": {
        "type": "object",
        "required": ["type", "function"],
        "properties": {
            "type": {"enum": ["function"]},
            "function": {
                "type": "object",
                "required": ["name"],
                "properties": {"name": {"enum": ["find"]}, "parameters": {"enum": [{}]}},
            },
        },
    },
}
METADATA = {
    "type": "object",
    "properties": {
        "task_type": {"enum": ["code_review", "unknown type", "config-edit"]},
        "consequence": {"enum": ["low", "high"]},
        "session_id": TEXT,
        "expected_output_tokens": {"type": "integer", "minimum": 1},
        "queue": {"type": "boolean"},
        "tags": {"type": "array", "items": TEXT},
    },
}
COMMON = {
    "model": MODEL,
    "stream": {"type": "boolean"},
    "temperature": {"type": "number"},
    "top_p": {"type": "number", "maximum": 1},
    "metadata": METADATA,
    "user": TEXT,
}
OUTPUT = {"type": "integer", "minimum": 1, "maximum": 50}

SCHEMAS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {
        "type": "object",
        "required": ["model", "messages"],
        "properties": COMMON
        | {
            "messages": {
                "type": "array",
                "minItems": 1,
                "items": message({"anyOf": [PART, IMAGE]}, ["system", "user", "assistant"]),
            },
            "max_tokens": OUTPUT,
            "n": {"type": "integer", "minimum": 1, "maximum": 3},
            "stop": {"anyOf": [TEXT, {"type": "array", "items": TEXT}]},
            "tools": TOOLS,
            "seed": {"type": "integer"},
            "response_format": {"enum": [{"type": "json_object"}, {"type": "text"}]},
        },
    },
    "/v1/completions": {
        "type": "object",
        "required": ["model", "prompt"],
        "properties": COMMON
        | {
            "model": {"enum": ["writer", "auto", "gpt-4o-mini"]},
            "prompt": {"anyOf": [TEXT, {"type": "array", "minItems": 1, "items": TEXT}]},
            "max_tokens": OUTPUT,
            "echo": {"type": "boolean"},
            "suffix": TEXT,
        },
    },
    "/v1/responses": {
        "type": "object",
        "required": ["model", "input"],
        "properties": COMMON
        | {
            "input": {
                "anyOf": [
                    TEXT,
                    {
                        "type": "array",
                        "minItems": 1,
                        "items": message(INPUT_PART, ["system", "user"]),
                    },
                ]
            },
            "instructions": TEXT,
            "max_output_tokens": OUTPUT,
            "reasoning": {"enum": [{"effort": "low"}]},
            "text": {"enum": [{"format": {"type": "text"}}]},
        },
    },
    "/v1/messages": {
        "type": "object",
        "required": ["model", "messages", "max_tokens"],
        "properties": COMMON
        | {
            "messages": {
                "type": "array",
                "minItems": 1,
                "items": message(PART, ["user", "assistant"]),
            },
            "system": TEXT,
            "max_tokens": OUTPUT,
            "stop_sequences": {"type": "array", "items": TEXT},
        },
    },
    "/v1/embeddings": {
        "type": "object",
        "required": ["model", "input"],
        "properties": {
            "model": {"enum": ["embedder"]},
            "input": {
                "anyOf": [
                    TEXT,
                    {"type": "array", "minItems": 1, "items": TEXT},
                    {"type": "array", "minItems": 1, "items": {"type": "integer"}},
                ]
            },
            "dimensions": {"type": "integer", "minimum": 1},
            "encoding_format": {"enum": ["float", "base64"]},
            "metadata": METADATA,
        },
    },
}


@pytest.fixture(scope="module")
def key(house: House) -> str:
    """An ordinary caller's key."""
    return house.make_key("fuzzer", user="fuzzer")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("path", SCHEMAS)
def test_a_spoilt_request_has_a_clean_answer_and_no_cost_that_is_not_booked(
    house: House, key: str, path: str
) -> None:
    before = house.last_call()
    entries = house.books.entries()
    after = entries[-1].id if entries else ""
    client = httpx.Client(base_url=house.proxy.base_url, timeout=20)

    # Without shrinking: each step of it would be a request, and the first failure says enough.
    @seed(SEED)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(body=spoilt(SCHEMAS[path]))
    def send(body: dict[str, Any]) -> None:
        text = json.dumps(body)
        note(f"seed {SEED}, {path}: {text[:3000]}")
        answer = client.post(
            path,
            content=text.encode(),
            headers={"authorization": f"Bearer {key}", "content-type": "application/json"},
        )
        assert answer.status_code == 200 or 400 <= answer.status_code < 500, answer.text[:500]
        if answer.status_code != 200:
            error = answer.json()["error"]
            assert isinstance(error["message"], str) and error["message"], answer.text[:500]
        for name, value in answer.headers.items():
            assert name.isascii() and value.isprintable(), (name, value)

    with client:
        send()

    calls = house.calls_since(before)
    house.wait_settled()
    # What was reported is booked to the nanodollar. Where nothing was, each side counts by itself,
    # and an attempt that LiteLLM lost without a word is charged as one that may have been billed.
    fresh = house.books.entries(after)
    booked = sum(entry.cost_nano_usd for entry in fresh)
    own_count = sum(it.cost_nano_usd for it in fresh if "estimated" in json.loads(it.body)["marks"])
    reported = sum(call["cost_nano_usd"] for call in calls if call["usage_reported"])
    billed = sum(call["cost_nano_usd"] for call in calls)
    assert booked - own_count == reported
    assert own_count >= 0.66 * (billed - reported)
    assert house.books.verify() == ()


@given(body=spoilt(SCHEMAS["/v1/chat/completions"]))
@settings(max_examples=50, deadline=None, database=None)
def test_the_generator_makes_json(body: dict[str, Any]) -> None:
    assert json.loads(json.dumps(body)) == body


def test_every_schema_can_be_followed() -> None:
    from tests.support.fuzz import following

    for schema in SCHEMAS.values():
        assert isinstance(following(schema), st.SearchStrategy)
