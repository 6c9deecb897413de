"""The normalised view: five dialects, what counts as input, what has no bound, hostile bodies."""

from __future__ import annotations

import time
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hooks.levels import Consequence
from hooks.request import (
    GOVERNED,
    RequestView,
    read_request,
)
from hooks.steering import TAGS_MAX, Steering, clean
from hooks.values import InvalidRequest
from hooks.walk import CHARS_MAX, DEPTH_MAX, PARTS_MAX, Walk

IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
TOOL = {"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}}


def read(call_type: str = "acompletion", **body: Any) -> RequestView:
    return read_request({"model": "auto", **body}, call_type)


def chat(content: Any = "hi", **body: Any) -> RequestView:
    return read(messages=[{"role": "user", "content": content}], **body)


def text_of(view: RequestView) -> str:
    return "\n".join(view.texts)


# ── the dialects ─────────────────────────────────────────────────────────────────────────────────


def test_chat_system_user_and_tool_messages_all_count() -> None:
    view = read(
        messages=[
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "first"},
            {"role": "assistant", "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "find", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "c1", "content": "found it"},
            {"role": "user", "content": [{"type": "text", "text": "second"}]},
        ],
        max_tokens=10, max_completion_tokens=20, n=3, stream=True,
    )  # fmt: skip
    assert (view.system_text, view.last_user_text) == ("be brief", "second")
    assert {"first", "find", "found it"} <= set(view.texts)
    assert (view.messages, view.turns) == (5, 2)
    assert (view.output_max, view.choices, view.stream) == (20, 3, True)


def test_anthropic_messages_have_their_system_text_apart() -> None:
    view = read(
        "anthropic_messages", max_tokens=50, system=[{"type": "text", "text": "be brief"}],
        messages=[
            {"role": "user", "content": "look"},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "t", "content": "found it"}]},
        ],
    )  # fmt: skip
    assert (view.system_text, view.last_user_text, view.turns) == ("be brief", "look", 1)
    assert "found it" in view.texts and view.output_max == 50


def test_responses_take_text_or_items() -> None:
    plain = read("aresponses", input="look", instructions="be brief", max_output_tokens=7)
    assert (plain.system_text, plain.last_user_text, plain.output_max) == ("be brief", "look", 7)
    items = read("aresponses", input=[
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": [{"type": "input_text", "text": "look"}]},
        {"type": "function_call_output", "call_id": "c", "output": "found it"},
    ])  # fmt: skip
    assert (items.system_text, items.last_user_text) == ("be brief", "look")
    assert "found it" in items.texts


def test_text_completions_answer_every_prompt() -> None:
    view = read("atext_completion", prompt=["a", "b", [1, 2, 3]], n=2, best_of=4, suffix="z")
    assert (view.choices, view.prompts, view.prompt_token_ids) == (12, 3, 3)
    assert view.texts == ("a", "b", "z")


def test_embeddings_have_no_output() -> None:
    view = read("aembedding", input=["a", "b"], max_tokens=9)
    assert view.embeds and view.output_max is None
    assert (view.choices, view.prompts) == (1, 2)
    assert read("aembedding", input=[1, 2, 3]).prompt_token_ids == 3


# ── what counts, and what is needed ──────────────────────────────────────────────────────────────


def test_media_and_schemas_say_what_the_model_must_be_able_to_do() -> None:
    assert chat([IMAGE, {"type": "text", "text": "what?"}]).needs == {"vision"}
    assert chat(tools=[TOOL]).needs == {"tools"}
    schema = {"type": "json_schema", "json_schema": {"schema": {"title": "Answer"}}}
    view = chat(response_format=schema)
    assert view.needs == {"json_schema"} and "Answer" in view.texts
    gemini = chat(response_format={"type": "json_object", "response_schema": {"title": "Answer"}})
    assert gemini.needs == {"json_schema"} and "Answer" in gemini.texts
    assert chat(response_format={"type": "text"}).needs == frozenset()


def test_the_bytes_of_an_image_are_no_text() -> None:
    assert chat([{**IMAGE, "image_url": {"url": "data:" + "A" * 9_000}}]).chars == 0


@pytest.mark.parametrize(
    "hidden",
    [
        {"type": "image", "data": "SECRET"},
        {"id": "SECRET"},
        {"status": "SECRET", "type": "document"},
        {"type": {"role": ["SECRET"]}},
        {"SECRET": 1},
    ],
)
def test_json_that_a_tool_gave_or_takes_counts_whole_whatever_its_keys(hidden: Any) -> None:
    """Such keys mean something in a message; inside a tool's JSON they are plain text."""
    use = {"type": "tool_use", "id": "t", "name": "f", "input": hidden}
    for view in (
        read(
            "anthropic_messages", max_tokens=9, messages=[{"role": "assistant", "content": [use]}]
        ),
        chat(tools=[{**TOOL, "function": {"name": "f", "parameters": {"default": hidden}}}]),
        chat(response_format={"type": "json_schema", "json_schema": {"schema": hidden}}),
    ):
        assert "SECRET" in text_of(view)
        assert view.images == view.files == 0


def test_a_marker_that_is_too_long_to_be_one_counts_as_text() -> None:
    assert chat([{"type": "text", "text": "hi", "id": "x" * 5_000}]).chars > 5_000
    assert chat([{"type": "text", "text": "hi", "id": "x" * 20}]).chars == 2


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"messages": [{"role": "user", "content": [{"type": "file", "file": {}}]}]}, "files"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "audio"),
        ({"audio": {"voice": "x"}}, "audio"),
        ({"model": "a,b"}, "several_models"),
        ({"web_search_options": {"size": 1}}, "server_tools"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "server_tools"),
        ({"tools": [{"type": "mcp", "server_url": "x"}]}, "server_tools"),
        ({"tools": [{"googleSearch": {}}]}, "server_tools"),
        ({"tools": [{"type": "function", "googleSearch": {}}]}, "server_tools"),
        ({"tools": [{**TOOL, "code_execution": {}}]}, "server_tools"),
        ({"tools": [{"type": "shell", "environment": {"type": "container_auto"}}]}, "server_tools"),
    ],
)
def test_what_has_no_bound_is_named(body: dict[str, Any], kind: str) -> None:
    view = read_request(
        {"model": "auto", "messages": [{"role": "user", "content": "hi"}], **body}, "acompletion"
    )
    assert view.unbounded == (kind,)


@pytest.mark.parametrize(
    "body",
    [
        {"previous_response_id": "r1"},
        {"conversation": "c1"},
        {"prompt": {"id": "p1"}},
        {"input": [{"type": "item_reference", "id": "m1"}]},
        {"input": [{"id": "m1"}]},
    ],
)
def test_what_the_provider_has_stored_has_no_bound(body: dict[str, Any]) -> None:
    assert read("aresponses", **{"input": "hi", **body}).unbounded == ("stored_context",)


@pytest.mark.parametrize(
    "tool",
    [
        TOOL,
        {"name": "find", "input_schema": {"type": "object"}},
        {"type": "custom", "name": "find"},
        {"type": "bash_20250124", "name": "bash"},
        {"type": "computer_use_preview"},
        {"type": "shell", "environment": {"type": "local"}},
        {"type": "apply_patch"},
    ],
)
def test_tools_that_the_client_runs_are_bounded(tool: dict[str, Any]) -> None:
    view = chat(tools=[tool])
    assert view.unbounded == () and view.tools == 1


# ── steering ─────────────────────────────────────────────────────────────────────────────────────


def test_callers_steer_by_metadata_and_headers_win() -> None:
    metadata = {"task_type": "refactoring", "consequence": "HIGH", "session_id": 7,
                "expected_output_tokens": "40", "queue": "yes", "tags": "a, b,,a"}  # fmt: skip
    headers = {"x-farebox-task-type": "security_review", "x-farebox-approval": "ok-1"}
    body = {"model": "auto", "messages": [{"role": "user", "content": "x"}], "user": "ann"}
    view = read_request({**body, "metadata": metadata}, "acompletion", headers)
    assert view.steering == Steering(
        task_type="security_review", consequence=Consequence.HIGH, session_id="7",
        expected_output_tokens=40, queue=True, approval="ok-1", tags=("a", "b"), user="ann",
    )  # fmt: skip


def test_metadata_is_found_wherever_litellm_put_it() -> None:
    wanted = {"task_type": "refactoring"}
    for body in (
        {"metadata": wanted},
        {"litellm_metadata": wanted},
        {"litellm_metadata": {"requester_metadata": wanted}},
    ):
        assert chat(**body).steering.task_type == "refactoring"


def test_steering_values_are_cleaned_and_bounded() -> None:
    assert clean("\x1b[31m a\r\nb \u202e") == "[31m ab"
    assert clean("x" * 9_999) == "x" * 200
    assert clean(" \n ") is None
    assert len(chat(metadata={"tags": [str(n) for n in range(999)]}).steering.tags) == TAGS_MAX


@pytest.mark.parametrize(
    ("metadata", "param"),
    [
        ({"task_type": ["x"]}, "metadata.task_type"),
        ({"consequence": "huge"}, "metadata.consequence"),
        ({"expected_output_tokens": "-1"}, "metadata.expected_output_tokens"),
        ({"expected_output_tokens": 0}, "metadata.expected_output_tokens"),
        ({"expected_output_tokens": "٣"}, "metadata.expected_output_tokens"),
        ({"queue": 2}, "metadata.queue"),
        ({"tags": {"a": 1}}, "metadata.tags"),
    ],
)
def test_wrong_steering_names_its_field(metadata: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        chat(metadata=metadata)
    assert caught.value.param == param


# ── hostile bodies ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"model": None}, "model"),
        ({"model": " "}, "model"),
        ({"model": ["a"]}, "model"),
        ({"model": "x" * 300}, "model"),
        ({"model": "\ud800"}, "model"),
        ({"model": "a\nb"}, "model"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": ["x"]}, "messages"),
        ({"messages": [{"role": 1}]}, "messages"),
        ({"messages": [{"role": "user", "content": {1: 2}}]}, "messages"),
        ({"messages": [{"role": "user", "content": 10**5000}]}, "messages"),
        ({"messages": [{"role": "user", "content": {1, 2}}]}, "messages"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_tokens": float("inf")}, "max_tokens"),
        ({"max_tokens": "5"}, "max_tokens"),
        ({"max_completion_tokens": 10**12}, "max_completion_tokens"),
        ({"n": -1}, "n"),
        ({"n": 10_000}, "n"),
        ({"tools": "x"}, "tools"),
        ({"tools": [1]}, "tools"),
    ],
)
def test_a_wrong_field_is_refused_by_name(body: dict[str, Any], param: str) -> None:
    whole = {"model": "auto", "messages": [{"role": "user", "content": "PROMPT"}], **body}
    with pytest.raises(InvalidRequest) as caught:
        read_request(whole, "acompletion")
    assert caught.value.param == param
    assert "PROMPT" not in str(caught.value)


ROLES = ("system", "developer", "user", "assistant")


@given(st.lists(st.tuples(st.sampled_from(ROLES), st.text(max_size=12)), min_size=1, max_size=6))
def test_messages_of_text_alone_are_read_quicker_and_no_other_way(
    said: list[tuple[str, str]],
) -> None:
    messages = [{"role": role, "content": text} for role, text in said]
    quick = read(messages=messages)
    # Any other mapping goes the way of messages with more in them.
    assert quick == read(messages=[MappingProxyType(it) for it in messages])
    parts = [
        {"role": it["role"], "content": [{"type": "text", "text": it["content"]}]}
        for it in messages
    ]
    assert quick.texts == read(messages=parts).texts


def test_a_role_that_is_too_long_to_be_one_counts_as_text() -> None:
    walk = Walk()
    assert walk.plain({"role": "r" * 129, "content": "x"}, "messages") is None
    assert walk.plain({"role": "user", "content": "x", "name": "me"}, "messages") is None
    assert walk.plain({"role": "user", "content": ["x"]}, "messages") is None
    assert not walk.texts
    assert walk.plain({"role": "user", "content": ""}, "messages") == ""
    assert walk.plain({"role": "user", "content": "x"}, "messages") == "x"
    assert walk.texts == ["x"]
    walk._parts = PARTS_MAX
    with pytest.raises(InvalidRequest, match="parts"):
        walk.plain({"role": "user", "content": "x"}, "messages")


def test_size_parts_and_depth_are_bounded() -> None:
    deep: Any = "x"
    for _ in range(DEPTH_MAX * 40):
        deep = [deep]
    for content in ("x" * (CHARS_MAX + 1), ["x"] * (PARTS_MAX + 1), deep):
        with pytest.raises(InvalidRequest):
            chat(content)
        with pytest.raises(InvalidRequest):
            chat(tools=[{"name": "f", "input_schema": content}])


def test_reading_takes_time_in_proportion_to_the_body() -> None:
    def seconds(parts: int) -> float:
        content = [{"type": "text", "text": "word", "x": {"id": "y"}}] * parts
        best = float("inf")
        for _ in range(3):
            begun = time.perf_counter()
            chat(content, tools=[{"name": "f", "input_schema": {"a": content}}])
            best = min(best, time.perf_counter() - begun)
        return best

    assert seconds(16_000) < 8 * 4 * seconds(2_000)


_KEYS = st.sampled_from(
    ["type", "role", "content", "text", "input", "tools", "name", "function", "image_url", "source",
     "metadata", "tags", "user", "task_type", "queue", "n", "prompt", "messages", "system", "id",
     "response_format", "output_config", "format", "environment", "audio", "max_tokens"]
)  # fmt: skip
_LEAVES = (
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats() | st.text(max_size=6)
    | st.sampled_from(["user", "system", "image", "file", "tool_use", "function", "json_schema"])
)  # fmt: skip
_JSON = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS, inner, max_size=5),
    max_leaves=20,
)


@given(
    call_type=st.sampled_from(GOVERNED),
    body=st.dictionaries(_KEYS, _JSON, max_size=8),
    model=st.just("auto") | _JSON,
    messages=st.lists(st.dictionaries(_KEYS, _JSON, max_size=4), max_size=4),
)
def test_any_json_is_read_or_refused_and_nothing_else_happens(
    call_type: str, body: dict[str, Any], model: Any, messages: list[Any]
) -> None:
    whole = {"messages": messages, "input": messages or "x", "prompt": "x", **body, "model": model}
    try:
        view = read_request(whole, call_type)
    except InvalidRequest as error:
        assert str(error)
    else:
        assert view.choices >= 1 and view.chars == sum(map(len, view.texts))
        assert view.output_max is None or view.output_max >= 1
