"""Token counts of an answer, in the shapes in which they come."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from budgets.prices import TokenUsage
from callbacks.usage import read_usage, response_text


def test_openais_chat_counts_cached_tokens_as_input() -> None:
    usage = {
        "prompt_tokens": 100, "completion_tokens": 50,
        "prompt_tokens_details": {"cached_tokens": 60},
        "completion_tokens_details": {"reasoning_tokens": 30},
    }  # fmt: skip
    assert read_usage(usage) == TokenUsage(100, 50, cache_read_tokens=60, reasoning_tokens=30)


def test_the_responses_api_counts_cached_tokens_as_input_too() -> None:
    usage = {
        "input_tokens": 100, "output_tokens": 50, "input_tokens_details": {"cached_tokens": 60},
        "output_tokens_details": {"reasoning_tokens": 30},
    }  # fmt: skip
    assert read_usage(usage) == TokenUsage(100, 50, cache_read_tokens=60, reasoning_tokens=30)


def test_anthropics_own_count_leaves_cached_tokens_out_and_they_are_added() -> None:
    usage = {
        "input_tokens": 10, "output_tokens": 5, "cache_read_input_tokens": 60,
        "cache_creation_input_tokens": 30, "cache_creation": {"ephemeral_1h_input_tokens": 20},
    }  # fmt: skip
    assert read_usage(usage) == TokenUsage(
        100, 5, cache_read_tokens=60, cache_write_tokens=10, cache_write_1h_tokens=20
    )


def test_litellms_usage_of_an_anthropic_answer_includes_them_already() -> None:
    usage = {
        "prompt_tokens": 100, "completion_tokens": 5, "cache_read_input_tokens": 60,
        "cache_creation_input_tokens": 30, "prompt_tokens_details": {"cached_tokens": 60},
    }  # fmt: skip
    assert read_usage(usage) == TokenUsage(100, 5, cache_read_tokens=60, cache_write_tokens=30)


def test_a_model_and_an_object_are_read_like_a_mapping() -> None:
    class Usage(BaseModel):
        prompt_tokens: int = 7
        completion_tokens: int = 3

    assert read_usage(Usage()) == TokenUsage(7, 3)
    assert read_usage(SimpleNamespace(prompt_tokens=7, completion_tokens=3)) == TokenUsage(7, 3)


@pytest.mark.parametrize(
    "usage",
    [None, {}, {"prompt_tokens": 0, "completion_tokens": 0}, {"prompt_tokens": None}, "x", 5,
     {"prompt_tokens": True, "completion_tokens": -1}],
)  # fmt: skip
def test_no_tokens_are_no_report(usage: object) -> None:
    assert read_usage(usage) is None


_NUMBERS = st.none() | st.integers(-5, 10_000) | st.booleans() | st.text(max_size=2)


@given(
    st.dictionaries(
        st.sampled_from(
            ["prompt_tokens", "input_tokens", "completion_tokens", "output_tokens",
             "cache_read_input_tokens", "cache_creation_input_tokens", "cache_creation",
             "prompt_tokens_details", "completion_tokens_details", "output_tokens_details"]
        ),
        _NUMBERS | st.dictionaries(
            st.sampled_from(["cached_tokens", "reasoning_tokens", "ephemeral_1h_input_tokens"]),
            _NUMBERS,
        ),
    )
)  # fmt: skip
def test_any_report_gives_counts_that_fit_together_or_none(usage: dict[str, Any]) -> None:
    read = read_usage(usage)
    if read is not None:
        assert read.input_tokens + read.output_tokens > 0
        assert 0 <= read.cache_read_tokens <= read.input_tokens
        assert 0 <= read.reasoning_tokens <= read.output_tokens
        assert read.cache_write_tokens >= 0 and read.cache_write_1h_tokens >= 0


def test_the_text_of_an_answer_is_found_in_each_dialect() -> None:
    call = {"function": {"name": "find", "arguments": '{"a": 1}'}}
    chat = {"choices": [{"message": {"content": "hello", "tool_calls": [call]}}]}
    assert set(response_text(chat).split("\n")) == {"hello", "find", '{"a": 1}'}
    assert response_text({"choices": [{"text": "hello"}]}) == "hello"
    assert response_text({"content": [{"type": "text", "text": "hello"}]}) == "hello"
    output = {"output": [{"type": "message", "content": [{"text": "hello"}]}]}
    assert response_text(output) == "hello"


def test_what_is_no_answer_has_no_text() -> None:
    odds: list[object] = [None, 5, "x", [], {"choices": "x"}, {"choices": [None]}]
    for odd in odds:
        assert response_text(odd) == ""
    loop: dict[str, Any] = {"text": "a"}
    loop["message"] = loop
    assert set(response_text(loop).split("\n")) == {"a"}
