"""When a gate's failure rate counts as shifted, and how seldom it does by chance."""

from __future__ import annotations

import random

import pytest

from budgets.alerts.shift import (
    FALSE_ALARM_ANSWERS,
    REFERENCE_ANSWERS,
    Shift,
    Watch,
    limits,
    take_in,
)


def run(rates: list[tuple[int, float]], seed: int, batch: int = 25) -> list[tuple[int, Shift]]:
    """Return the alarms of a stream of answers (so many at each rate), with where they came."""
    chance, watch = random.Random(seed), Watch()
    judged = failed = 0
    alarms: list[tuple[int, Shift]] = []
    for count, rate in rates:
        for _ in range(count // batch):
            judged += batch
            failed += sum(chance.random() < rate for _ in range(batch))
            totals = {"gated": judged, "gate_failed": failed}
            watch, alarm = take_in(watch, "t", "2026-11", totals)
            watch = Watch.from_json(watch.to_json())
            if alarm is not None:
                alarms.append((judged, alarm))
    return alarms


@pytest.mark.parametrize("rate", [0.02, 0.1, 0.4])
def test_an_unchanged_rate_hardly_ever_alarms(rate: float) -> None:
    """Over 1,500 answers each, the promise allows one run in seven."""
    runs = 20
    alarmed = sum(bool(run([(2_000, rate)], seed, batch=100)) for seed in range(runs))
    assert alarmed <= runs * 1_500 / FALSE_ALARM_ANSWERS


@pytest.mark.parametrize(("before", "after"), [(0.1, 0.25), (0.3, 0.12), (0.05, 0.2)])
def test_a_shift_is_found_within_a_few_hundred_answers(before: float, after: float) -> None:
    for seed in range(5):
        alarms = run([(600, before), (1_000, after)], seed)
        assert alarms, seed
        where, alarm = alarms[0]
        assert 600 < where <= 1_600
        assert (alarm.failed / alarm.judged > before) == (after > before)


def test_a_rate_that_was_zero_and_rises_is_found() -> None:
    alarms = run([(500, 0.0), (300, 0.2)], 1)
    assert alarms


def test_after_an_alarm_the_new_rate_is_the_reference() -> None:
    alarms = run([(600, 0.1), (3_000, 0.5)], 3)
    assert len(alarms) == 1


def test_nothing_is_said_before_the_reference_is_there() -> None:
    assert run([(REFERENCE_ANSWERS - 25, 0.0), (25, 1.0)], 1) == []


def test_a_new_month_starts_from_zero() -> None:
    watch, _ = take_in(Watch(), "t", "2026-11", {"gated": 50, "gate_failed": 5})
    watch, _ = take_in(watch, "t", "2026-12", {"gated": 20, "gate_failed": 1})
    assert (watch.reference_judged, watch.reference_failed) == (70, 6)


def test_the_limits_of_a_rate_lie_about_it() -> None:
    high, low = limits(30, 300)
    assert low < 0.1 < high
    assert limits(0, 300)[1] == 0.0
    assert 0 < limits(0, 300)[0] < 0.02


def test_what_cannot_be_read_begins_anew() -> None:
    assert Watch.from_json("") == Watch()
    assert Watch.from_json('["2026-11", 1]') == Watch()
