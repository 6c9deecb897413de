"""The allow-list of body fields: what steers LiteLLM or the bill does not pass."""

from __future__ import annotations

from typing import Any

import pytest

from hooks.fields import ALLOWED, strip, strip_body
from hooks.request import GOVERNED

TRICKS = [
    "fallbacks", "context_window_fallbacks", "num_retries", "max_fallbacks", "disable_fallbacks",
    "model_group_retry_policy", "router_settings_override", "fastest_response", "timeout",
    "api_key", "api_base", "base_url", "mock_response", "mock_testing_fallbacks", "no-log",
    "cache", "service_tier", "extra_headers", "extra_body", "input_cost_per_token",
]  # fmt: skip


@pytest.mark.parametrize("call_type", GOVERNED)
@pytest.mark.parametrize("trick", TRICKS)
def test_a_control_field_passes_on_no_kind_of_call(call_type: str, trick: str) -> None:
    data: dict[str, Any] = {"model": "auto", trick: "x"}
    assert strip(data, {"model", trick}, call_type) == (trick,)
    assert data == {"model": "auto"}


def test_there_is_a_list_for_each_governed_kind_of_call() -> None:
    assert set(ALLOWED) == set(GOVERNED)
    assert all("model" in allowed and "metadata" in allowed for allowed in ALLOWED.values())


def test_ordinary_fields_pass_and_unknown_ones_are_named() -> None:
    data = {"model": "auto", "messages": [], "temperature": 0, "zzz": 1, "aaa": 2}
    assert strip(data, set(data), "acompletion") == ("aaa", "zzz")
    assert data == {"model": "auto", "messages": [], "temperature": 0}


def test_a_field_of_another_dialect_does_not_pass() -> None:
    data = {"model": "auto", "input": "x", "messages": []}
    assert strip(data, set(data), "aresponses") == ("messages",)


def test_what_litellm_put_there_stays_but_not_what_it_read_from_a_header() -> None:
    data = {"model": "auto", "proxy_server_request": {}, "litellm_call_id": "c", "timeout": 1.0}
    assert strip(data, {"model"}, "acompletion") == ()
    assert data == {"model": "auto", "proxy_server_request": {}, "litellm_call_id": "c"}


def test_a_policy_can_let_more_fields_pass() -> None:
    data = {"model": "auto", "service_tier": "flex", "prediction": {}}
    assert strip(data, set(data), "acompletion", ("service_tier",)) == ("prediction",)
    assert data == {"model": "auto", "service_tier": "flex"}


def test_a_kind_of_call_without_a_list_has_the_least() -> None:
    data = {"model": "auto", "prompt": "x"}
    assert strip(data, set(data), "aimage_generation") == ("prompt",)


def test_a_body_loses_unknown_names_before_litellm_sees_them() -> None:
    body = {"model": "m", "messages": [], "original_function": 1, "mine": 2, "metadata": {}}
    assert strip_body(body, "/v1/chat/completions", ("mine",)) == ("original_function",)
    assert body == {"model": "m", "messages": [], "mine": 2, "metadata": {}}


def test_in_shadow_mode_only_metadata_of_another_type_is_taken_out() -> None:
    body = {"model": "m", "input": "x", "odd": 1, "metadata": ["a"], "litellm_metadata": "b"}
    assert strip_body(body, "/embeddings", None) == ("litellm_metadata", "metadata")
    assert body == {"model": "m", "input": "x", "odd": 1}


def test_what_litellm_cannot_go_through_reaches_it_as_something_that_it_can() -> None:
    for path in ("/v1/chat/completions", "/v1/completions"):
        body = {"model": "m", "tools": True, "web_search_options": "high"}
        assert strip_body(body, path, ()) == ()
        assert body == {"model": "m", "tools": [True], "web_search_options": {"given": "high"}}


def test_a_body_of_another_route_is_left_alone() -> None:
    body = {"name": "x", "metadata": []}
    assert strip_body(body, "/farebox/keys", ()) == ()
    assert body == {"name": "x", "metadata": []}
