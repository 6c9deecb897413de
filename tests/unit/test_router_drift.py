"""Drift: live requests against the profile's, counted in workers and judged by one of them."""

from __future__ import annotations

import random
from bisect import bisect_left
from typing import Any

import pytest

from hooks.router import drift
from hooks.router.artefact import Baseline, Distribution
from hooks.router.drift import Window, chi_square, judge, stability

BOUNDS = (-0.1, 0.0, 0.1, 0.2)
LENGTHS = (100, 200, 400)


def sampled(
    count: int, seed: int, shift: float = 0.0, longer: float = 1.0, mix: float = 0.5
) -> Any:
    """Scores and lengths of two task types, drawn from a known truth."""
    lot = random.Random(seed)
    return [
        (
            "one" if lot.random() < mix else "two",
            lot.gauss(0.05 + shift, 0.1),
            int(longer * lot.lognormvariate(5.3, 0.6)),
        )
        for _ in range(count)
    ]


def counted(sample: Any) -> Window:
    window = Window()
    for task, score, length in sample:
        scores = window.scores.setdefault(task, [0] * (len(BOUNDS) + 1))
        scores[bisect_left(BOUNDS, score)] += 1
        lengths = window.lengths.setdefault(task, [0] * (len(LENGTHS) + 1))
        lengths[bisect_left(LENGTHS, length)] += 1
        window.total += score
        window.squares += score**2
    return window


def profile(count: int, seed: int) -> Distribution:
    sample = sampled(count, seed)
    window, types = counted(sample), {}
    for task in ("one", "two"):
        own = [score for name, score, _ in sample if name == task]
        mean = sum(own) / len(own)
        types[task] = Baseline(
            scores=tuple(window.scores[task]),
            lengths=tuple(window.lengths[task]),
            mean=mean,
            variance=sum((it - mean) ** 2 for it in own) / len(own),
        )
    return Distribution(score_bounds=BOUNDS, length_bounds=LENGTHS, task_types=types)


def test_the_quantiles_of_chi_square_are_right() -> None:
    """Against the tables: 9.488 and 18.307 at 95 %, 29.588 at 99.9 %."""
    assert chi_square(0.95, 4) == pytest.approx(9.488, rel=0.01)
    assert chi_square(0.95, 10) == pytest.approx(18.307, rel=0.01)
    assert chi_square(0.999, 10) == pytest.approx(29.588, rel=0.01)


def test_the_index_is_the_population_stability_index() -> None:
    """Shares of 1/2, 1/2 against 1/4, 3/4: (1/4)·ln 2 + (-1/4)·ln(2/3) = 0.2747."""
    index, _ = stability([50_000, 50_000], [25_000, 75_000], 0.05)
    assert index == pytest.approx(0.2747, abs=1e-3)
    assert stability([5, 5], [5, 5], 0.05)[0] == 0.0
    assert stability([], [5], 0.05) == (0.0, float("inf"))


def test_requests_like_the_profile_are_rarely_called_changed() -> None:
    """With a rate of 5 %: of 100 windows 5 may be called so, and 10 with bad luck."""
    alarms = sum(
        judge(profile(400, seed), counted(sampled(500, 10_000 + seed)), 0, 0.05, 0.0).drifted
        for seed in range(100)
    )
    assert alarms <= 10


@pytest.mark.parametrize(
    ("change", "said"),
    [({"shift": 0.05}, "scores"), ({"longer": 2.0}, "lengths"), ({"mix": 0.9}, "mix")],
)
def test_a_change_is_seen_and_named(change: dict[str, float], said: str) -> None:
    found = judge(profile(400, 1), counted(sampled(1_000, 2, **change)), 7, 0.001, 0.05)
    assert found.drifted and any(said in reason for reason in found.reasons)
    assert (found.time_ms, found.requests) == (7, 1_000)


def test_a_small_change_is_not_worth_a_word_however_certain() -> None:
    found = judge(profile(10_000, 1), counted(sampled(10_000, 2, shift=0.015)), 0, 0.001, 0.1)
    assert not found.drifted and found.scores < 0.1


def test_fields_of_the_store_make_the_window_again() -> None:
    known = profile(400, 1)
    fields = {
        "s|2|one": "5", "l|0|one": "5", "total": "250000", "squares": "20000",
        "s|9|one": "7", "s|0|gone": "7", "told": "x",
    }  # fmt: skip
    window = drift.from_fields(known, fields)
    assert window.scores == {"one": [0, 0, 5, 0, 0]} and window.lengths == {"one": [5, 0, 0, 0]}
    assert (window.requests, window.total, window.squares) == (5, 0.25, 0.02)
