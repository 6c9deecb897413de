"""Learned output lengths: the mean forgets at rate 0.1, the quantile leaves one in twenty above."""

from __future__ import annotations

import random
from functools import reduce

import pytest

from budgets.learning import Learning, observe


def learn(lengths: list[int]) -> Learning:
    learned = reduce(observe, lengths, None)
    assert learned is not None
    return learned


def test_the_first_observation_is_all_that_is_known() -> None:
    assert learn([120]) == Learning(count=1, mean=120.0, deviation=0.0, quantile95=120.0)


def test_the_mean_moves_a_tenth_of_the_way() -> None:
    assert learn([100, 200]).mean == pytest.approx(110)
    assert learn([100, 200, 10]).mean == pytest.approx(100)


def test_what_never_varies_is_its_own_quantile() -> None:
    assert learn([70] * 50) == Learning(count=50, mean=70.0, deviation=0.0, quantile95=70.0)


@pytest.mark.parametrize("seed", range(5))
def test_about_one_in_twenty_is_above_the_quantile(seed: int) -> None:
    chance = random.Random(seed)
    lengths = [int(chance.expovariate(1 / 400)) for _ in range(4000)]
    learned, above = learn(lengths[:400]), 0
    for tokens in lengths[400:]:
        above += tokens > learned.quantile95
        learned = observe(learned, tokens)
    assert 0.03 < above / 3600 < 0.07


def test_the_quantile_follows_a_change_of_scale() -> None:
    chance = random.Random(1)
    short = [chance.randrange(50, 150) for _ in range(500)]
    long = [chance.randrange(500, 1500) for _ in range(500)]
    learned = learn(short + long)
    assert 1200 < learned.quantile95 < 1700
