"""The shapes of fields, messages and tools that LiteLLM can translate."""

from __future__ import annotations

from typing import Any

import pytest

from hooks.shapes import check
from hooks.values import InvalidRequest

TOOL = {"type": "function", "function": {"name": "find", "parameters": {}}}
USER = {"role": "user", "content": "planted"}


@pytest.mark.parametrize(
    ("call_type", "body"),
    [
        ("acompletion", {"messages": [{"role": "nobody", "content": "planted"}]}),
        ("acompletion", {"messages": [{"role": "user"}]}),
        ("acompletion", {"messages": [{"role": "user", "content": {"a": "planted"}}]}),
        ("acompletion", {"messages": [{"role": "user", "content": ["planted"]}]}),
        ("acompletion", {"messages": [{"role": "user", "content": [{"text": "planted"}]}]}),
        ("acompletion", {"messages": [{"role": "user", "content": [{"type": "text"}]}]}),
        ("acompletion", {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}),
        ("acompletion", {"messages": [{"role": "assistant", "tool_calls": ["planted"]}]}),
        ("acompletion", {"messages": [{"role": "assistant", "tool_calls": "planted"}]}),
        ("acompletion", {"tools": [{"type": "function", "function": {}}]}),
        ("acompletion", {"tools": [{"type": "function", "function": "planted"}]}),
        ("acompletion", {"tools": [{"type": "function"}]}),
        ("acompletion", {"functions": [{"parameters": {}}]}),
        ("acompletion", {"tools": [{**TOOL, "function": {"name": "f", "parameters": []}}]}),
        ("acompletion", {"tool_choice": {"planted": 1}}),
        ("acompletion", {"tool_choice": 7}),
        ("acompletion", {"response_format": {"planted": 1}}),
        ("acompletion", {"temperature": "planted"}),
        ("acompletion", {"temperature": True}),
        ("acompletion", {"seed": 1.5}),
        ("acompletion", {"stop": [1]}),
        ("acompletion", {"stream": "planted"}),
        ("acompletion", {"stream_options": "planted"}),
        ("anthropic_messages", {"messages": [{"role": "tool", "content": "planted"}]}),
        ("anthropic_messages", {"messages": [{"role": "user", "content": [{"type": "image"}]}]}),
        ("anthropic_messages", {"stop_sequences": "planted"}),
        ("aresponses", {"input": [{"role": "user", "content": [{"type": "input_text"}]}]}),
        ("aresponses", {"reasoning": "planted"}),
        ("aembedding", {"dimensions": "planted"}),
    ],
)
def test_a_shape_that_cannot_be_translated_is_named(call_type: str, body: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check(body, call_type)
    assert caught.value.param in body
    assert "planted" not in str(caught.value)


@pytest.mark.parametrize(
    ("call_type", "body"),
    [
        ("acompletion", {"messages": [USER], "temperature": 1, "stop": "x", "seed": None}),
        ("acompletion", {"messages": [{"role": "assistant", "content": None}]}),
        (
            "acompletion",
            {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]}]},
        ),
        ("acompletion", {"messages": [{"role": "user", "content": [{"type": "new", "x": 1}]}]}),
        (
            "acompletion",
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]},
        ),
        ("acompletion", {"tools": [TOOL], "tool_choice": "auto"}),
        ("acompletion", {"tools": [{"name": "f", "input_schema": {}}]}),
        ("anthropic_messages", {"tools": [{"name": "f", "input_schema": {}}], "messages": [USER]}),
        ("anthropic_messages", {"tools": [{"type": "bash_20250124", "name": "bash"}]}),
        ("aresponses", {"tools": [{"type": "function", "name": "f"}, {"type": "local_shell"}]}),
        ("aresponses", {"input": [{"type": "function_call_output", "output": "x"}]}),
        ("atext_completion", {"prompt": "x", "stop": ["a", "b"], "echo": False}),
    ],
)
def test_what_can_be_translated_passes(call_type: str, body: dict[str, Any]) -> None:
    check(body, call_type)
