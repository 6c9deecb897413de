"""What is remembered of a shape of requests changes no judgement, and holds no request's text."""

from __future__ import annotations

import gc
import math
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from budgets.learned import Learned, LearnedInput, LearnedOutput
from budgets.prices import Price, Rates, TokenUsage
from hooks.decide import decide
from hooks.decision import Caller
from hooks.estimate import CostTerms, cost_terms
from hooks.request import RequestView
from hooks.standing import SHAPES_MAX, Standings
from hooks.tokens import TokenCounts
from tests.support.policies import chat, default_policy

POLICY = default_policy()
LEARNED = Learned(
    {"summarization|claude-haiku": LearnedOutput(300.0, 900.0, 50)},
    {"provider:anthropic": LearnedInput(1.2, 1.6, 500)},
)
IMAGE = [{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}


@st.composite
def requests(draw: st.DrawFn) -> RequestView:
    more: dict[str, object] = {}
    if draw(st.booleans()):
        more["max_tokens"] = draw(st.sampled_from([1, 500, 50_000]))
    if draw(st.booleans()):
        more["tools"] = [TOOL]
    if draw(st.booleans()):
        more["n"] = 3
    steering: dict[str, object] = {}
    if draw(st.booleans()):
        steering["consequence"] = draw(st.sampled_from(["low", "high"]))
    if draw(st.booleans()):
        steering["expected_output_tokens"] = 700
    names = ["auto", "FAST", "COMPLEX", "claude-haiku", "gpt-mini", "nobody"]
    content = [{"type": "text", "text": "Summarize this."}, *draw(st.sampled_from([[], IMAGE]))]
    return chat(content, model=draw(st.sampled_from(names)), metadata=steering, **more)


@settings(deadline=None)
@given(
    view=requests(),
    lengths=st.lists(st.integers(0, 3_000_000), min_size=2, max_size=5),
    learned=st.sampled_from([Learned(), LEARNED]),
    allowed=st.sampled_from([(), ("FAST",), ("claude-haiku", "claude-sonnet")]),
)
def test_a_decision_is_the_same_whatever_was_remembered_before(
    view: RequestView, lengths: list[int], learned: Learned, allowed: tuple[str, ...]
) -> None:
    caller = Caller("key", "team", None, allowed)
    for length in lengths:
        counts = TokenCounts(length, 4, view.images, view.tools)
        fresh = replace(POLICY)
        assert fresh.standings is not POLICY.standings
        anew = decide(fresh, view, counts, caller, learned, "d")
        assert decide(POLICY, view, counts, caller, learned, "d") == anew


PICO = st.integers(0, 10**9)
RATES = st.builds(Rates, PICO, PICO, PICO, PICO, PICO, PICO)


@given(
    prices=st.lists(
        st.builds(
            lambda base, tiers, image: Price(base, tuple(sorted(tiers.items())), image),
            RATES,
            st.dictionaries(st.integers(1, 10_000), RATES, max_size=2),
            PICO,
        ),
        min_size=1,
        max_size=3,
    ),
    count=st.integers(0, 20_000),
    images=st.integers(0, 3),
    output=st.integers(1, 5_000),
)
def test_the_cost_is_the_dearest_deployments_by_its_own_price(
    prices: list[Price], count: int, images: int, output: int
) -> None:
    view = chat("x" if not images else [{"type": "text", "text": "x"}, *IMAGE * images])
    group = POLICY.groups.groups["claude-sonnet"]
    view = replace(view, output_max=output)
    terms: CostTerms = cost_terms(
        POLICY.routing, view, TokenCounts(0, 0, images), "refactoring", group, tuple(prices),
        None, LEARNED,
    )  # fmt: skip
    found = terms.at(count)
    assert found.input_tokens == math.ceil(count * terms.likely) + terms.likely_more
    usage = TokenUsage(found.input_tokens, found.output_tokens)
    assert found.estimate_nano_usd == max(price.cost(usage, images) for price in prices)
    assert found.hold_nano_usd == max(
        price.worst_cost(found.input_tokens_max, output, images, cache_writes=terms.cache_writes)
        for price in prices
    )


def test_more_was_learned_or_too_many_shapes_begin_anew() -> None:
    standings, made = Standings(), []

    def find() -> tuple[()]:
        made.append(1)
        return ()

    learned = Learned()
    for shape in (1, 1, 2):
        standings.of(shape, learned, find)
    assert len(made) == 2
    standings.of(1, Learned(), find)
    assert len(made) == 3
    for shape in range(2 * SHAPES_MAX):
        standings.of(shape, learned, find)
    assert len(standings) <= SHAPES_MAX


def test_nothing_of_a_requests_text_is_remembered() -> None:
    marked = "A text that nobody else has 4711."
    decide(POLICY, chat(marked), TokenCounts(9, 4), Caller(), Learned(), "d")
    gc.collect()
    assert not any(marked in view.texts for view in gc.get_objects() if type(view) is RequestView)
