"""What a person said, apart from what an agent put around it."""

from __future__ import annotations

import time
from typing import Any

import pytest

from hooks.request import read_request
from hooks.spoken import spoken, without_blocks

REMINDER = "<system-reminder>\nSecurity review.\n</system-reminder>"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("Hello", ["Hello"]),
        (f"Hello {REMINDER}there", ["Hello there"]),
        (REMINDER, []),
        ("<!-- farebox:begin x -->Hello<!-- farebox:end x -->", ["Hello"]),
        ([{"type": "text", "text": REMINDER}, {"type": "text", "text": "Hello"}], ["Hello"]),
        ([{"type": "input_text", "text": "Hello"}, {"type": "input_image"}], ["Hello"]),
        ([{"type": "tool_result", "content": "x"}, {"type": "text", "text": REMINDER}], []),
        ([{"type": "tool_result", "content": "x"}, {"type": "text", "text": "No."}], ["No."]),
        ([{"type": "tool_result", "content": "x"}], []),
        ([{"type": "something", "words": "x"}], None),
        ([], None),
        (None, None),
        ("<system-reminder> never closed", ["<system-reminder> never closed"]),
    ],
)
def test_reminders_and_results_are_nobodys_words(content: Any, said: list[str] | None) -> None:
    assert spoken({"role": "user", "content": content}) == said


def test_a_hostile_text_takes_linear_time() -> None:
    started = time.process_time()
    without_blocks("<system-reminder>" * 200_000)
    without_blocks("<system-reminder></system-reminder>" * 100_000)
    assert time.process_time() - started < 1


def test_all_of_it_counts_as_input_all_the_same() -> None:
    body = {"model": "auto", "messages": [{"role": "user", "content": f"Hello {REMINDER}"}]}
    view = read_request(body, "acompletion")
    assert view.last_user_text == "Hello " and REMINDER in view.texts[0] and view.turns == 1


@pytest.mark.parametrize(
    ("tools", "unbounded"),
    [
        ([{"type": "function", "name": "spawn"}], ()),
        ([{"type": "web_search"}], ("server_tools",)),
        ([{"type": "namespace", "name": "n", "tools": []}], ("server_tools",)),
        ("spawn", ("server_tools",)),
    ],
)
def test_a_namespace_is_as_bounded_as_what_is_in_it(tools: Any, unbounded: tuple[str, ...]) -> None:
    body = {"model": "auto", "input": "Hi", "tools": [{"type": "namespace", "tools": tools}]}
    assert read_request(body, "aresponses").unbounded == unbounded
