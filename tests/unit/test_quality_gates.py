"""What a gate says of an answer, in every dialect, and how two answers are compared."""

from __future__ import annotations

from typing import Any

import pytest

from hooks.gates import judge
from hooks.gates.answers import Part, parts_of
from hooks.gates.settings import Gate
from hooks.shadow_compare import grade


def chat_answer(text: str | None, finish: str = "stop", **message: Any) -> dict[str, Any]:
    return {"choices": [{"message": {"content": text, **message}, "finish_reason": finish}]}


DIALECTS: dict[str, tuple[dict[str, Any], Part]] = {
    "chat": (chat_answer("yes"), Part("yes")),
    "chat parts": (chat_answer([{"type": "text", "text": "yes"}]), Part("yes")),  # type: ignore[arg-type]  # a list of parts is content too
    "chat cut": (chat_answer("ye", "length"), Part("ye", cut_off=True)),
    "chat filtered": (chat_answer("", "content_filter"), Part("", filtered=True)),
    "chat tool": (
        chat_answer(None, "tool_calls", tool_calls=[{"id": "1"}]),
        Part("", calls_tool=True),
    ),
    "text": ({"choices": [{"text": "yes", "finish_reason": "stop"}]}, Part("yes")),
    "messages": (
        {"content": [{"type": "text", "text": "yes"}], "stop_reason": "end_turn"},
        Part("yes"),
    ),
    "messages cut": (
        {"content": [{"type": "text", "text": "ye"}], "stop_reason": "max_tokens"},
        Part("ye", cut_off=True),
    ),
    "messages tool": (
        {"content": [{"type": "tool_use", "name": "look"}], "stop_reason": "tool_use"},
        Part("", calls_tool=True),
    ),
    "responses": (
        {
            "output": [
                {"type": "reasoning", "summary": []},
                {"type": "message", "content": [{"type": "output_text", "text": "yes"}]},
            ]
        },
        Part("yes"),
    ),
    "responses cut": (
        {
            "output": [{"type": "message", "content": [{"type": "output_text", "text": "ye"}]}],
            "incomplete_details": {"reason": "max_output_tokens"},
        },
        Part("ye", cut_off=True),
    ),
    "responses tool": ({"output": [{"type": "function_call"}]}, Part("", calls_tool=True)),
}


@pytest.mark.parametrize("name", DIALECTS)
def test_an_answer_is_read_in_every_dialect(name: str) -> None:
    response, part = DIALECTS[name]
    assert parts_of(response) == (part,)


def test_what_is_no_answer_has_no_parts() -> None:
    assert parts_of({"error": "x"}) == ()
    assert parts_of(None) == ()


@pytest.mark.parametrize(
    ("part", "passes"),
    [
        (Part("yes"), True),
        (Part("  \n"), False),
        (Part("half", cut_off=True), False),
        (Part("", filtered=True), False),
    ],
)
def test_a_complete_answer_is_there_and_ended(part: Part, passes: bool) -> None:
    assert judge.whole([part]).passed is passes
    assert not judge.whole([]).passed


def test_an_answer_may_end_at_its_callers_own_limit() -> None:
    gate = Gate(kind="complete")
    verdicts = [judge.alone(gate, [Part("half", cut_off=True)], own) for own in (True, False)]
    assert [it is not None and it.passed for it in verdicts] == [True, False]


def test_every_choice_must_pass() -> None:
    gate = Gate(kind="label", labels=["yes", "no"])  # type: ignore[call-arg]  # the oracle's own key
    assert judge.by_oracle(gate, [Part("yes"), Part("No.")]).passed
    verdict = judge.by_oracle(gate, [Part("yes"), Part("perhaps")])
    assert not verdict.passed
    assert "perhaps" not in " ".join(verdict.reasons)


@pytest.mark.parametrize(
    ("one", "other", "compare"),
    [
        ("The answer is 42.", "So we get\n**42.0**", "number"),
        ("1,234.50", "Total: 1234.5 dollars", "number"),
        ("-0", "0", "number"),
        ("Yes.", "  yes", "label"),
        ("Reasoning…\nAnswer: B", "\\boxed{b}", "label"),
        ("a  b\nC", "A b c", "text"),
    ],
)
def test_answers_that_mean_the_same_agree(one: str, other: str, compare: str) -> None:
    gate = Gate(kind="agreement", group="g", compare=compare)  # type: ignore[arg-type]  # one of the three
    assert judge.agree(gate, [Part(one)], [Part(other)]).passed


@pytest.mark.parametrize(
    ("one", "other", "compare"),
    [
        ("42", "43", "number"),
        ("none", "none", "number"),
        ("yes", "no", "label"),
        ("", "", "label"),
        ("10", "100", "number"),
    ],
)
def test_answers_that_differ_or_say_nothing_do_not_agree(
    one: str, other: str, compare: str
) -> None:
    gate = Gate(kind="agreement", group="g", compare=compare)  # type: ignore[arg-type]  # one of the three
    assert not judge.agree(gate, [Part(one)], [Part(other)]).passed


@pytest.mark.parametrize(
    ("said", "passes"),
    [
        ("PASS", True),
        ("**Pass**, it is right", True),
        ("FAIL", False),
        ("I would say PASS", False),
        ("", False),
    ],
)
def test_a_verifiers_first_word_counts(said: str, passes: bool) -> None:
    assert judge.by_word(said).passed is passes


def test_a_verifier_is_not_asked_about_an_answer_that_is_not_there() -> None:
    gate = Gate(kind="verifier", group="g")
    assert judge.alone(gate, [Part("there")]) is None
    verdict = judge.alone(gate, [Part("")])
    assert verdict is not None and not verdict.passed


@pytest.mark.parametrize("live_first", [True, False])
def test_a_grader_sees_both_answers_without_names(live_first: bool) -> None:
    told = grade.question("", ["asked"], "LIVE", "OTHER", live_first)[1]["content"]
    first, second = ("LIVE", "OTHER") if live_first else ("OTHER", "LIVE")
    assert told.index(first) < told.index(second)
    better = "B" if live_first else "A"
    assert grade.score_of_other(f"{better}.", live_first) == 1.0
    assert grade.score_of_other("TIE", live_first) == 0.5
    assert grade.score_of_other("Neither", live_first) is None
