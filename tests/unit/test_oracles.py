"""Pure oracles: what they accept, what they refuse, and that no answer can hurt them."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hooks.oracles import ExpectedMissing, Oracle, SpecError, Verdict, load
from hooks.oracles.verdict import ANSWER_CHARS_MAX, REASONS_MAX

PERSON = {
    "type": "object",
    "required": ["name", "age"],
    "properties": {
        "name": {"type": "string", "pattern": "^[A-Z]"},
        "age": {"type": "integer"},
        "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}},
    },
    "$defs": {"tag": {"type": "string"}},
}

EVERY_KIND: list[dict[str, Any]] = [
    {"kind": "exact", "value": "yes"},
    {"kind": "contains", "any": ["yes"]},
    {"kind": "label", "labels": ["yes", "no"], "take": "last_line"},
    {"kind": "regex", "pattern": "(y+e+)+s$"},
    {"kind": "number", "min": 0, "max": 10},
    {"kind": "json_schema", "schema": PERSON},
    {"kind": "all", "of": [{"kind": "number", "min": 0}, {"kind": "regex", "pattern": "a"}]},
    {"kind": "any", "of": [{"kind": "number", "min": 0}, {"kind": "regex", "pattern": "a"}]},
]


def judge(spec: dict[str, Any], answer: str, expected: object | None = None) -> Verdict:
    return load(spec).judge(answer, expected)


@pytest.mark.parametrize(
    ("spec", "answer", "expected", "passes"),
    [
        ({"kind": "exact"}, " Paris\n", "Paris", True),
        ({"kind": "exact"}, "paris", "Paris", False),
        ({"kind": "exact", "ignore_case": True}, "paris", ["Rome", "Paris"], True),
        ({"kind": "exact", "ignore_space": True}, "a  b\nc", "a b c", True),
        ({"kind": "exact", "value": "42"}, "42", None, True),
        ({"kind": "contains"}, "It is in Paris.", "paris", True),
        ({"kind": "contains", "ignore_case": False}, "It is in Paris.", "paris", False),
        ({"kind": "contains", "all": ["a"], "none": ["sorry"]}, "a, sorry", None, False),
        ({"kind": "contains", "any": ["x", "y"]}, "why", None, True),
        ({"kind": "label", "labels": ["spam", "ham"]}, "**Spam**.", "spam", True),
        ({"kind": "label", "labels": ["spam", "ham"]}, "ham", "spam", False),
        ({"kind": "label", "labels": ["spam", "ham"]}, "It is spam", None, False),
        ({"kind": "label", "labels": ["a.", "b."]}, "a.", None, True),
        (
            {"kind": "label", "labels": ["spam", "ham"], "take": "last_line"},
            "I think.\nham",
            "ham",
            True,
        ),
        ({"kind": "regex", "pattern": r"\d{4}-\d\d"}, "on 2026-11", None, True),
        ({"kind": "regex", "pattern": r"\d{4}-\d\d", "whole": True}, "on 2026-11", None, False),
        ({"kind": "regex", "pattern": "a|b", "whole": True}, "ab", None, False),
        ({"kind": "regex", "pattern": "(?P<answer>[A-D])$"}, "So it is C", "C", True),
        ({"kind": "regex", "pattern": "(?P<answer>[A-D])$"}, "So it is C", "B", False),
        ({"kind": "regex", "pattern": "as an AI", "absent": True}, "Here.", None, True),
        ({"kind": "number"}, "The total is $1,234.50.", 1234.5, True),
        ({"kind": "number"}, "−3.5", "-3.5", True),
        ({"kind": "number", "relative": 0.01}, "about 99.5", 100, True),
        ({"kind": "number", "relative": 0.01}, "about 98.9", 100, False),
        ({"kind": "number", "absolute": 0.1}, "0.3", 0.2, True),
        ({"kind": "number", "take": "first"}, "3 of 4", 3, True),
        ({"kind": "number", "take": "only"}, "3 of 4", 4, False),
        ({"kind": "number", "max": 5}, "7", None, False),
        ({"kind": "number"}, "none", 1, False),
        ({"kind": "number"}, "gpt4 v2.1.3", 1, False),
        ({"kind": "json_schema", "schema": PERSON}, '{"name": "Ada", "age": 36}', None, True),
        ({"kind": "json_schema", "schema": PERSON}, '{"name": "ada", "age": 36}', None, False),
        ({"kind": "json_schema", "schema": PERSON}, "Sure! {}", None, False),
        ({"kind": "json_schema", "schema": {"type": "number"}}, "NaN", None, False),
    ],
)
def test_an_oracle_says_what_is_acceptable(
    spec: dict[str, Any], answer: str, expected: object, passes: bool
) -> None:
    """One line an idea of what people would call right."""
    verdict = judge(spec, answer, expected)
    assert verdict.passed is passes
    assert bool(verdict.reasons) is not passes


def test_a_code_fence_around_json_does_not_count_unless_it_is_asked_to() -> None:
    """Models fence their JSON, and most programs that read it take the fence off."""
    fenced = '```json\n{"name": "Ada", "age": 36}\n```'
    assert judge({"kind": "json_schema", "schema": PERSON}, fenced).passed
    assert not judge({"kind": "json_schema", "schema": PERSON, "bare": True}, fenced).passed


def test_fields_are_compared_one_by_one() -> None:
    """The score is the share of expected fields that are right, and the mark is the author's."""
    expected = {"name": "Ada", "age": 36, "tags": ["x", "y"]}
    answer = '{"name": "Ada", "age": 37, "tags": ["x", "y"], "more": 1}'
    verdict = judge({"kind": "json_schema", "schema": PERSON}, answer, expected)
    assert (verdict.passed, verdict.score) == (False, 0.75)
    assert verdict.reasons == ("$.age: not the expected value",)
    lenient = {"kind": "json_schema", "schema": PERSON, "accuracy_min": 0.7}
    assert judge(lenient, answer, expected) == Verdict(True, 0.75)
    some = {"kind": "json_schema", "schema": PERSON, "fields": ["name", "tags"]}
    assert judge(some, answer, expected) == Verdict(True, 1.0)


def test_true_is_not_one_and_an_integer_is_its_float() -> None:
    """Python's own equality would take `true` for 1."""
    spec = {"kind": "json_schema", "schema": {}}
    assert not judge(spec, '{"a": true}', {"a": 1}).passed
    assert judge(spec, '{"a": 1.0}', {"a": 1}).passed


def test_an_oracle_that_only_compares_says_so() -> None:
    """A gate knows of no expected answer: such an oracle cannot be one."""
    for spec in ({"kind": "exact"}, {"kind": "number"}, {"kind": "contains"}):
        oracle = load(spec)
        assert oracle.needs_expected
        with pytest.raises(ExpectedMissing):
            oracle.judge("1")
    assert not any(load(spec).needs_expected for spec in EVERY_KIND)


def test_an_expected_label_outside_the_set_is_the_lines_mistake() -> None:
    """Otherwise every model would fail that prompt, and nobody would see why."""
    with pytest.raises(ExpectedMissing, match="none of the oracle's labels"):
        judge({"kind": "label", "labels": ["spam", "ham"]}, "spam", "egg")


def test_several_oracles_are_put_together() -> None:
    """`all` takes the lowest score, `any` the highest."""
    parts = [{"kind": "contains", "all": ["a", "b"]}, {"kind": "regex", "pattern": "c"}]
    assert judge({"kind": "all", "of": parts}, "a c") == Verdict(
        False, 0.5, ("a required text is missing",)
    )
    assert judge({"kind": "any", "of": parts}, "a c") == Verdict(True, 1.0)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({}, "kind: None is no kind of oracle"),
        ({"kind": "regx"}, "did you mean `regex`"),
        ({"kind": "exact", "vlaue": "x"}, "vlaue: unknown key"),
        ({"kind": "label", "labels": ["a", "A"]}, "one label twice"),
        ({"kind": "regex", "pattern": "(?=a)b"}, "no look-around"),
        ({"kind": "regex", "pattern": r"(a)\1"}, "no back-references"),
        ({"kind": "regex", "pattern": "a)(b"}, "pattern: "),
        ({"kind": "regex", "pattern": r"\pL{900}"}, "too large"),
        ({"kind": "number", "min": 2, "max": 1}, "must not be below"),
        ({"kind": "json_schema"}, "schema: this key is missing"),
        ({"kind": "json_schema", "schema": {"type": "strng"}}, r"\$\.type"),
        ({"kind": "json_schema", "schema": {"$ref": "https://x.test/y"}}, "within the schema"),
        ({"kind": "json_schema", "schema": {"$ref": "#/$defs/a"}}, "leads nowhere"),
        ({"kind": "json_schema", "schema": {"pattern": "(?!a)"}}, r"\$\.pattern: .*look-around"),
        ({"kind": "json_schema", "schema": {"patternProperties": {}}}, "not supported"),
        ({"kind": "all", "of": [{"kind": "number", "mni": 1}]}, r"^of\[0\]\.mni: unknown key$"),
        ({"kind": "all", "of": []}, "of: "),
    ],
)
def test_a_wrong_spec_is_refused_with_its_place(spec: dict[str, Any], says: str) -> None:
    """Where, what, and what to write instead."""
    with pytest.raises(SpecError, match=says):
        load(spec)


def test_a_property_may_be_called_like_a_keyword() -> None:
    """The look for `pattern` and `$ref` must not take properties for keywords."""
    schema = {"properties": {"pattern": {"type": "string"}, "patternProperties": {}}}
    assert judge({"kind": "json_schema", "schema": schema}, '{"pattern": "(?=a)"}').passed


@pytest.mark.parametrize("spec", EVERY_KIND, ids=lambda it: it["kind"])
@pytest.mark.parametrize(
    "answer",
    [
        "y" * ANSWER_CHARS_MAX,
        "yes" * ANSWER_CHARS_MAX,
        "[" * ANSWER_CHARS_MAX,
        '{"a":' * 5_000 + "1" + "}" * 5_000,
        "[" + "1," * 100_000 + "1]",
        "1" * ANSWER_CHARS_MAX,
        "1," * (ANSWER_CHARS_MAX // 2),
        "1,111" * (ANSWER_CHARS_MAX // 5),
        '{"name": "' + "\\u0041" * 40_000 + '", "age": ' + "9" * 5_000 + "}",
        "\ud800\x00\x1b",
    ],
    ids=range(10),
)
def test_a_hostile_answer_costs_no_time(spec: dict[str, Any], answer: str) -> None:
    """Size, depth, number of values, and patterns that explode elsewhere."""
    oracle = load(spec)
    began = time.thread_time()
    verdict = oracle.judge(answer)
    assert time.thread_time() - began < 1
    assert len(verdict.reasons) <= REASONS_MAX + 1


ORACLES = [load(spec) for spec in EVERY_KIND]


def test_a_schema_that_refers_to_itself_twice_is_bounded() -> None:
    """Each level of the answer would double the time; and many items would square it."""
    twice = {"properties": {"a": {"$ref": "#/$defs/x"}}, "required": ["b"]}
    schema = {"$ref": "#/$defs/x", "$defs": {"x": {"anyOf": [twice, twice]}}}
    oracle = load({"kind": "json_schema", "schema": schema})
    began = time.thread_time()
    assert not oracle.judge('{"a":' * 35 + "{}" + "}" * 35).passed
    unique = load({"kind": "json_schema", "schema": {"uniqueItems": True}})
    items = ",".join(f'{{"a": {number}}}, "{number}"' for number in range(4_000))
    assert unique.judge(f"[{items}]").passed
    assert time.thread_time() - began < 3
    assert not unique.judge('[{"a": [1]}, {"a": [1.0]}]').passed
    assert unique.judge('[1, true, "1", [1]]').passed


@given(answer=st.text(max_size=300), oracle=st.sampled_from(ORACLES))
def test_any_text_gets_a_verdict(answer: str, oracle: Oracle) -> None:
    """No answer raises, a verdict's score is a share, and only a failure has reasons."""
    verdict = oracle.judge(answer)
    assert 0 <= verdict.score <= 1
    assert bool(verdict.reasons) is not verdict.passed


def test_reasons_do_not_quote_the_answer() -> None:
    """They reach logs, error bodies and files that hold no prompts."""
    secret = "hunter2"
    answers = (secret, f'{{"name": "{secret}", "age": "{secret}"}}', f"{secret} 99")
    for spec in EVERY_KIND:
        for answer in answers:
            assert secret not in " ".join(load(spec).judge(answer).reasons)
