"""Signals: what a request's form says, in three dialects, and what the policy makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hooks.features import words
from hooks.request import read_request
from hooks.tasks.settings import SignalSettings
from hooks.tasks.signals import Signals, language_of, looks_like_code, signals_of
from hooks.tasks.trajectory import read_trajectory
from tests.support.policies import chat, decided, variant

TOOL = {"type": "function", "function": {"name": "read_file", "parameters": {}}}


def called(name: str, answer: str) -> list[dict[str, Any]]:
    """Return a call of a tool with its answer, as in OpenAI's dialect."""
    function = {"name": name, "arguments": "{}"}
    call = {"id": "c", "type": "function", "function": function}
    return [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": answer},
    ]


def conversation(*steps: list[dict[str, Any]]) -> dict[str, Any]:
    start = [{"role": "user", "content": "Please look at the file and go on."}]
    return {"model": "auto", "messages": start + [it for step in steps for it in step]}


def signals(body: dict[str, Any], call_type: str = "acompletion") -> Signals:
    view = read_request(body, call_type)
    return signals_of(view, SignalSettings(), words(view.last_user_text))


def test_calls_and_failures_are_counted_in_openais_dialect() -> None:
    found = signals(
        conversation(
            called("read_file", "Error: no such file"),
            called("read_file", "import os"),
            called("bash", '{"error": "denied"}'),
            called("bash", "Traceback (most recent call last): ..."),
        )
    )
    assert (found.tool_calls, found.tool_failures, found.tool_failures_in_a_row) == (4, 3, 2)
    assert found.tools_called == ("read_file", "bash")


def test_calls_and_failures_are_counted_in_anthropics_dialect() -> None:
    used = {"type": "tool_use", "id": "t", "name": "grep", "input": {}}
    failed = {"type": "tool_result", "tool_use_id": "t", "is_error": True, "content": "x"}
    fine = {"type": "tool_result", "tool_use_id": "t", "is_error": False, "content": "Error: 0"}
    turns = [[used], [fine], [used], [failed]]
    roles = ["assistant", "user", "assistant", "user"]
    body = {
        "model": "auto", "max_tokens": 9,
        "messages": [{"role": "user", "content": "Look."}]
        + [{"role": role, "content": turn} for role, turn in zip(roles, turns, strict=True)],
    }  # fmt: skip
    found = signals(body, "anthropic_messages")
    assert (found.tool_calls, found.tool_failures, found.turns) == (2, 1, 1)


def test_calls_and_failures_are_counted_in_the_dialect_of_responses() -> None:
    body = {
        "model": "auto",
        "input": [
            {"role": "user", "content": "Look."},
            {"type": "function_call", "call_id": "c", "name": "ls", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "command not found: ls"},
        ],
    }
    found = signals(body, "aresponses")
    assert (found.tool_calls, found.tool_failures, found.tools_called) == (1, 1, ("ls",))


def test_a_tools_name_that_is_text_is_not_kept() -> None:
    body = conversation(called("my secret\nplan", "fine"))
    assert signals(body).tools_called == ("?",)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5),
                    lambda inner: st.lists(inner, max_size=3)
                    | st.dictionaries(st.sampled_from(["role", "type", "content", "tool_calls",
                                                       "function", "name", "x"]), inner),
                    max_leaves=12))  # fmt: skip
@settings(max_examples=80)
def test_a_trajectory_is_read_from_whatever_comes(messages: Any) -> None:
    read_trajectory({"messages": messages})
    read_trajectory({"input": [messages]})


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("```\nx\n```", True),
        ("if (a == b) { return; } else { x = 1; }", True),
        ("Dear colleagues, thank you (all of you) for the nice evening.", False),
        ("Is a = b?", False),
    ],
)
def test_code_is_told_from_prose(text: str, code: bool) -> None:
    assert looks_like_code(text) is code


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("What is the name of the file?", "en"),
        ("Wie heißt die Datei, und wo ist sie?", "de"),
        ("Où est le fichier pour les clients ?", "fr"),
        ("¿Cuál es el nombre de la tabla y por qué?", "es"),
        ("コードを書いてください", "ja"),
        ("请比较这两个方案", "zh"),
        ("Где лежит файл", "ru"),
        ("foo bar", ""),
        ("", ""),
    ],
)
def test_a_language_is_recognised_by_its_commonest_words(text: str, language: str) -> None:
    assert language_of(text, set(words(text))) == language


def test_a_decision_has_the_signals_and_no_text() -> None:
    body = conversation(called("bash", "Error: the secret is swordfish"))
    made = decided(read_request({**body, "tools": [TOOL]}, "acompletion"))
    assert made.signals["tools_called"] == ("bash",) and made.signals["tool_failures"] == 1
    assert "swordfish" not in made.to_json() and "code" not in made.signals


def test_json_asked_for_says_the_task_type_where_no_word_does() -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    for wanted in (schema, {"type": "json_object"}):
        made = decided(chat("Hello!", response_format=wanted))
        assert (made.task_source, made.task_type) == ("signals", "entity_extraction_structured")
        said = decided(chat("Find the root cause of the deadlock", response_format=wanted))
        assert said.task_type == "debugging_complex"


def test_tools_that_fail_in_a_row_raise_the_floor() -> None:
    failed = [called("bash", "Error: x")] * 3
    once = decided(read_request(conversation(*failed[:2]), "acompletion"))
    made = decided(read_request(conversation(*failed), "acompletion"))
    assert (once.category, made.category, made.floor) == ("FAST", "COMPLEX", "COMPLEX")
    assert made.notes == ("floor_raised: tool_failures_in_a_row_min 3: not below COMPLEX",)


def test_what_counts_as_a_failure_and_what_follows_are_the_policys(tmp_path: Path) -> None:
    def edit(data: dict[str, Any]) -> None:
        data["signals"] = {
            "failure_words": ["nope"],
            "floors": [{"when": {"tool_failures_min": 1, "tool": "bash"}, "floor": "NORMAL"}],
        }

    policy = variant(tmp_path, routing=edit)
    for tool, answer, category in (
        ("bash", "Nope.", "NORMAL"), ("bash", "Error: x", "FAST"), ("grep", "nope", "FAST"),
    ):  # fmt: skip
        body = conversation(called(tool, answer))
        assert decided(read_request(body, "acompletion"), policy).category == category
