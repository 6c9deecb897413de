"""Learned input margins: few requests pass the bound, and no caller moves it beyond its ends."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budgets import spool
from budgets.learned import LearnedInput
from budgets.margins import PASSED_AT_MOST, InputLearning, ceiling_of, floor_of, observe_input
from budgets.settlements import InputSample, OutputSample, Settlement
from tests.ledger.worlds import World, held, policy

LIKELY, BOUND, EXTRA = 1.2, 1.9, 64


def learn(
    ratios: Iterable[float],
    counted: int = 10_000,
    likely: float = LIKELY,
    bound: float = BOUND,
    known: InputLearning | None = None,
) -> tuple[InputLearning, int]:
    """Return what is known after requests of one size, and how many passed the bound."""
    passed = 0
    for ratio in ratios:
        tokens = round(counted * ratio)
        before = known.bound if known is not None else bound
        passed += tokens > counted * before + EXTRA
        known = observe_input(known, counted, tokens, EXTRA, likely, bound)
    assert known is not None
    return known, passed


def test_the_bound_starts_at_the_policys() -> None:
    known, passed = learn([1.2])
    assert known.bound == pytest.approx(BOUND, rel=1e-4) and passed == 0


def test_a_request_above_the_bound_raises_it_by_a_tenth() -> None:
    known, passed = learn([1.95])
    assert known.bound == pytest.approx(BOUND * 1.1) and passed == 1


def test_tokens_that_the_policy_adds_are_not_held_against_the_bound() -> None:
    assert learn([BOUND + EXTRA / 10_000])[1] == 0
    assert learn([BOUND + (EXTRA + 1) / 10_000])[1] == 1


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("spread", [0.0, 0.05, 0.1])
def test_fewer_than_one_in_a_thousand_pass_even_where_the_policy_is_wrong(
    seed: int, spread: float
) -> None:
    """A tokenizer that counts 1.6 times what Farebox does, where the policy says 1.1 at most."""
    chance = random.Random(seed)
    ratios = [min(2.36, 1.6 * chance.lognormvariate(0, spread)) for _ in range(20_000)]
    known, passed = learn(ratios, likely=1.0, bound=1.1)
    assert passed < 20
    assert known.factor == pytest.approx(sum(ratios[-200:]) / 200, rel=0.15)
    share, climbing = PASSED_AT_MOST
    assert passed <= share * len(ratios) + climbing


@given(
    ratios=st.lists(st.sampled_from([0.1, 1.0, 1.15, 1.5, 1.9, 2.2, 2.36]), max_size=300),
    repeats=st.integers(1, 20),
    likely=st.floats(0.5, 1.1),
)
def test_whatever_comes_no_more_pass_than_stated(
    ratios: list[float], repeats: int, likely: float
) -> None:
    """Nothing is assumed of the order: callers may know the bound and aim at it."""
    if not ratios:
        return
    known, passed = learn(ratios * repeats, likely=likely, bound=1.1)
    share, climbing = PASSED_AT_MOST
    assert passed <= share * len(ratios) * repeats + climbing
    assert floor_of(likely, 1.1) <= known.bound <= ceiling_of(1.1)


def test_a_caller_with_odd_texts_cannot_raise_the_bound_above_its_ceiling() -> None:
    assert learn([50.0] * 6)[0].bound < ceiling_of(BOUND)
    assert learn([50.0] * 500)[0].bound == ceiling_of(BOUND)


def test_a_bound_that_was_driven_up_falls_back_by_itself() -> None:
    driven_up, _ = learn([50.0] * 10)
    assert driven_up.bound == ceiling_of(BOUND)
    back, passed = learn([1.2] * 11_640, known=driven_up)
    assert back.bound == pytest.approx(BOUND, rel=0.01) and passed == 0


def test_many_generous_counts_never_lower_the_bound_below_the_policys_middle() -> None:
    known, _ = learn([0.2] * 50_000)
    assert known.bound == floor_of(LIKELY, BOUND) == pytest.approx(1.55)


def test_the_bound_falls_slowly() -> None:
    assert learn([1.0] * 1_000)[0].bound > BOUND * 0.95


def test_one_long_odd_text_moves_the_likely_factor_by_what_the_ceiling_allows() -> None:
    usual, _ = learn([1.2] * 500)
    odd = observe_input(usual, 10_000, 10_000_000, EXTRA, LIKELY, BOUND)
    assert odd.factor < usual.factor + 0.02 * ceiling_of(BOUND)


def test_long_requests_weigh_as_much_as_they_cost() -> None:
    known = None
    for _ in range(400):
        known = observe_input(known, 10, 30, EXTRA, LIKELY, BOUND)
        known = observe_input(known, 10_000, 11_000, EXTRA, LIKELY, BOUND)
    assert known is not None and known.factor == pytest.approx(1.1, abs=0.01)


def test_an_edit_of_the_policy_lifts_the_bound_at_once_and_never_drops_it() -> None:
    known, _ = learn([1.2])
    assert learn([1.2], bound=2.5, known=known)[0].bound == pytest.approx(2.5, rel=1e-4)
    assert learn([1.2], bound=1.8, known=known)[0].bound == pytest.approx(BOUND, rel=1e-3)


async def test_every_store_learns_input_margins_by_the_same_arithmetic(world: World) -> None:
    await world.ledger.publish(policy(100))
    chance = random.Random(11)
    known = None
    for number in range(60):
        counted, factor = chance.randrange(1, 9000), chance.uniform(0.7, 1.9)
        policy_bound = 1.1 if number < 40 else 1.45
        seen = (counted, round(counted * factor), 32, 1.0, policy_bound)
        samples = (InputSample("group:a b", *seen), InputSample("provider:x", *seen))
        await held(world.ledger, 0, f"h{number}")
        await world.ledger.settle(Settlement(f"h{number}", 0, "{}", input_samples=samples))
        known = observe_input(known, *seen)
        learned = (await world.ledger.learned()).inputs
        assert learned["group:a b"] == LearnedInput(known.factor, known.bound, number + 1)
        assert learned["provider:x"] == learned["group:a b"]
    assert learned.keys() == {"group:a b", "provider:x"}
    assert (await world.ledger.learned()).outputs == {}


async def test_a_repeated_settle_teaches_nothing_new(world: World) -> None:
    await world.ledger.publish(policy(100))
    await held(world.ledger, 0, "h")
    samples = (InputSample("group:a", 100, 150, 0, 1.0, 1.1),)
    for _ in range(3):
        await world.ledger.settle(
            Settlement("h", 0, "{}", samples=(OutputSample("t|a", 9),), input_samples=samples)
        )
    learned = await world.ledger.learned()
    assert (learned.inputs["group:a"].count, learned.outputs["t|a"].count) == (1, 1)
    assert learned.inputs["group:a"].bound == pytest.approx(1.21)


@pytest.mark.parametrize(
    "sample",
    [
        InputSample("", 1, 1, 0, 1.0, 1.1),
        InputSample("k", 0, 1, 0, 1.0, 1.1),
        InputSample("k", 1, -1, 0, 1.0, 1.1),
        InputSample("k", 1, 1, 0, 0.0, 1.1),
        InputSample("k", 1, 1, 0, 1.2, 1.1),
        InputSample("k", 1, 1, 0, 1.0, float("inf")),
        InputSample("k", 1, 1, 0, float("nan"), 1.1),
    ],
)
async def test_a_malformed_observation_of_input_is_refused(
    world: World, sample: InputSample
) -> None:
    with pytest.raises(ValueError):
        await world.ledger.settle(Settlement("h", 0, "{}", input_samples=(sample,)))


def test_what_a_request_taught_outlasts_the_journal() -> None:
    """A settle that waits for the ledger is a line of JSON meanwhile."""
    samples = (InputSample("group:a", 100, 150, 64, 1.0, 1.1), InputSample("b", 1, 0, 0, 1, 2))
    lengths = (OutputSample("t|a", 9), OutputSample("t|b", 7, 5, 0.2))
    waiting = Settlement("h", 5, "{}", {"team": 5}, {"n": 1}, lengths, samples)
    assert spool.settlement(json.loads(json.dumps(spool.of_settlement(waiting)))) == waiting
    older = {k: v for k, v in spool.of_settlement(waiting).items() if k != "inputs"}
    assert spool.settlement(older).input_samples == ()
