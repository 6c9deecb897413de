"""What a request will probably cost on a group, and the most that it can."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from budgets.learned import Learned, LearnedInput, LearnedOutput
from hooks.estimate import (
    OUTPUT_TOKENS_LEAST,
    OUTPUT_TOKENS_UNKNOWN,
    CostEstimate,
    cost_terms,
    expected_output,
    output_bound,
)
from hooks.request import RequestView, read_request
from hooks.tokens import TokenCounts
from tests.support.policies import chat, default_policy

POLICY = default_policy()
ROUTING = POLICY.routing


def cost(
    view: RequestView,
    group: str = "claude-sonnet",
    counts: TokenCounts | None = None,
    cap: int | None = None,
    learned: dict[str, LearnedOutput] | None = None,
    inputs: dict[str, LearnedInput] | None = None,
) -> CostEstimate:
    found = POLICY.groups.groups[group]
    assert isinstance(found.prices, tuple)
    counts = counts or TokenCounts(100, 0)
    known = Learned(learned or {}, inputs or {})
    terms = cost_terms(ROUTING, view, counts, "refactoring", found, found.prices, cap, known)
    return terms.at(counts.input)


def expected(view: RequestView, group: str | None, **learned: LearnedOutput) -> int:
    known = {f"refactoring|{name.replace('_', '-')}": value for name, value in learned.items()}
    return expected_output(ROUTING, view, "refactoring", group, Learned(known))


def test_the_callers_word_counts_first_then_what_was_learned_then_the_seed() -> None:
    seed = ROUTING.task("refactoring").expected_output_tokens["default"]
    learned = LearnedOutput(mean_tokens=321.6, quantile95_tokens=900.0, count=3)
    said = chat("x", metadata={"expected_output_tokens": 77})
    assert expected(chat("x"), "claude-opus") == seed
    assert expected(chat("x"), "claude-opus", claude_opus=learned) == 322
    assert expected(chat("x"), "claude-haiku", claude_opus=learned) == seed
    assert expected(said, "claude-opus", claude_opus=learned) == 77


def test_a_requests_size_does_not_drift_with_what_is_learned() -> None:
    learned = LearnedOutput(9_999.0, 9_999.0, 99)
    assert expected(chat("x"), None, claude_opus=learned) == expected(chat("x"), None)


def test_embeddings_have_no_output_to_pay_for() -> None:
    view = read_request({"model": "e", "input": "x"}, "aembedding")
    assert expected(view, "claude-opus") == 0 and output_bound(view, 100, 100) == 0


def test_the_bound_of_an_answer_is_the_callers_maximum_else_the_cap_else_the_models() -> None:
    assert output_bound(chat("x", max_tokens=9), 50, 40) == 9
    assert output_bound(chat("x"), 50, 40) == 40
    assert output_bound(chat("x"), 50, None) == 50
    assert output_bound(chat("x"), None, 40) == 40
    assert output_bound(chat("x"), None, None) == OUTPUT_TOKENS_UNKNOWN


def test_litellms_least_maximum_of_the_responses_api_is_bounded_too() -> None:
    view = read_request({"model": "m", "input": "x", "max_output_tokens": 1}, "aresponses")
    assert output_bound(view, None, None) == OUTPUT_TOKENS_LEAST
    assert output_bound(chat("x", max_tokens=1), None, None) == 1


def test_the_estimate_is_never_above_what_the_answer_may_have() -> None:
    assert cost(chat("x", max_tokens=5)).output_tokens == 5
    assert cost(chat("x"), cap=6).output_tokens == 6


def test_every_choice_is_paid_for_and_the_input_once() -> None:
    one, three = cost(chat("x", max_tokens=50)), cost(chat("x", max_tokens=50, n=3))
    assert (three.output_tokens, three.output_tokens_max) == (150, 150)
    assert three.input_tokens == one.input_tokens


def test_the_bound_of_the_input_has_the_providers_margin_with_tools_and_images() -> None:
    margin = ROUTING.margin("claude-sonnet", "anthropic")
    assert margin.image_tokens_max is not None
    plain = cost(chat("x"))
    assert plain.input_tokens == 100 * margin.estimate_factor
    assert plain.input_tokens_max == 100 * margin.bound_factor + margin.bound_extra_tokens
    rich = cost(chat("x"), counts=TokenCounts(100, 0, images=2, tools=1))
    extra = margin.tools_extra_tokens + 2 * margin.image_tokens_max
    assert rich.input_tokens_max == plain.input_tokens_max + extra


def test_a_category_is_estimated_like_its_base_group() -> None:
    learned = {"refactoring|claude-sonnet": LearnedOutput(40.0, 50.0, 9)}
    view = chat("x")
    assert cost(view, "COMPLEX", learned=learned) == cost(view, "claude-sonnet", learned=learned)


def test_the_arithmetic_is_that_of_the_price() -> None:
    """Sonnet: $2 in and $10 out per million; a cache write at $2.50, for an hour at $4."""
    made = cost(chat("x", max_tokens=10))
    assert made.estimate_nano_usd == made.input_tokens * 2_000 + 10 * 10_000
    assert made.hold_nano_usd == made.input_tokens_max * 2_000 + 10 * 10_000
    cached = cost(chat("x", max_tokens=10, cache_control={"type": "ephemeral"}))
    assert cached.estimate_nano_usd == made.estimate_nano_usd
    assert cached.hold_nano_usd == made.input_tokens_max * 4_000 + 10 * 10_000


@given(
    group=st.sampled_from(sorted(POLICY.groups.groups)),
    text=st.integers(0, 2_000_000),
    images=st.integers(0, 50),
    tools=st.integers(0, 5),
    cap=st.none() | st.integers(1, 100_000),
    body=st.fixed_dictionaries(
        {}, optional={"n": st.integers(1, 8), "max_tokens": st.integers(1, 200_000)}
    ),
    mean=st.none() | st.floats(0, 1e6),
)
def test_the_hold_is_never_below_the_estimate(
    group: str, text: int, images: int, tools: int, cap: int | None, body: dict[str, Any],
    mean: float | None,
) -> None:  # fmt: skip
    base = POLICY.groups.groups[group].primary or group
    learned = {f"refactoring|{base}": LearnedOutput(mean, mean, 5)} if mean is not None else {}
    counts = TokenCounts(text, 7, images, tools)
    made = cost(chat("x", **body), group, counts, cap, learned)
    assert made.hold_nano_usd >= made.estimate_nano_usd >= 0
    assert made.input_tokens_max >= made.input_tokens >= counts.input * 0.5
    assert made.output_tokens_max >= made.output_tokens >= 0
