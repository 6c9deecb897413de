"""Bodies that LiteLLM would fail on, found in one walk."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hooks.body import DEPTH_MAX, NUMBERS_MAX, VALUES_MAX, fault_of


def nested(depth: int) -> Any:
    value: Any = 1
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    return value


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (float("nan"), "NaN"),
        (float("inf"), "NaN"),
        (-float("inf"), "NaN"),
        (10**400, "64 bits"),
        (-(2**64), "64 bits"),
        (nested(DEPTH_MAX), "levels"),
        (nested(5_000), "levels"),
        ([[]] * (VALUES_MAX + 1), "more than"),
        (["x"] * (VALUES_MAX + 1), "more than"),
        ({str(n): n for n in range(VALUES_MAX + 1)}, "more than"),
        ([1] * (NUMBERS_MAX + 1), "more than"),
        ([[1] * 1_000] * (NUMBERS_MAX // 1_000 + 1), "more than"),
    ],
    ids=[
        "nan", "infinity", "minus infinity", "long", "negative", "deep", "deeper", "lists", "texts",
        "names", "numbers", "lists of numbers",
    ],
)  # fmt: skip
@pytest.mark.parametrize("wrap", [lambda v: {"x": v}, lambda v: {"a": [{"b": v}]}])
def test_a_fault_is_named(wrap: Any, value: Any, words: str) -> None:
    found = fault_of(wrap(value))
    assert found is not None and words in found


def test_what_a_fault_says_repeats_nothing_of_the_body() -> None:
    assert "planted" not in str(fault_of({"planted": float("nan")}))


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.text(max_size=3), JSON, max_size=3))
def test_ordinary_json_has_no_fault(body: dict[str, Any]) -> None:
    assert fault_of(json.loads(json.dumps(body))) is None


def test_token_numbers_of_a_whole_context_pass() -> None:
    assert fault_of({"input": [[1] * 8_191] * 36}) is None
