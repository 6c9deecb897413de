"""Burn rate, forecast and the usual hour, by hand-made samples."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from budgets.alerts.outbox import HOUR_MS, Sample
from budgets.alerts.outlook import is_unusual, outlook, passes_forecast
from budgets.holds import BudgetState
from budgets.period import Period, period_at
from tests.ledger.worlds import CENT, DAY_MS, USD


def ms(*moment: int) -> int:
    return int(datetime(*moment, tzinfo=UTC).timestamp() * 1000)  # type: ignore[misc,arg-type] # A date.


MONTH = period_at("month", "UTC", ms(2026, 11, 16))


def sample(
    now_ms: int, spent: int, hours: dict[int, int], *, limit: int = 100 * USD, since_ms: int = 0
) -> Sample:
    state = BudgetState("team", "team", "2026-11", limit, 1, spent, 0, 0)
    return Sample(state, now_ms, since_ms, hours)


def steady(now_ms: int, days: int, amount: int) -> dict[int, int]:
    """Return the same amount for every hour of so many days up to now."""
    hour = now_ms // HOUR_MS
    return {hour - it: amount for it in range(1, 24 * days)}


def test_a_steady_burn_is_carried_on_to_the_end_of_the_period() -> None:
    now = ms(2026, 11, 16)
    found = outlook(sample(now, 36 * USD, steady(now, 8, 10 * CENT)), MONTH)
    assert found.burn_nano_usd_per_day == pytest.approx(2.4 * USD, rel=0.01)
    assert found.forecast_nano_usd == pytest.approx((36 + 15 * 2.4) * USD, rel=0.01)
    assert found.passes_at_ms is None


def test_the_day_on_which_the_limit_is_passed_is_named() -> None:
    now = ms(2026, 11, 16)
    one = sample(now, 80 * USD, steady(now, 8, 10 * CENT))
    found = outlook(one, MONTH)
    # 20 dollars are left, 2.40 go a day: eight days and a third.
    assert found.passes_at_ms == pytest.approx(ms(2026, 11, 24, 8), abs=3 * HOUR_MS)
    assert passes_forecast(one, found, 100)
    assert not passes_forecast(one, found, 120)


def test_a_budget_that_has_passed_already_is_no_forecast() -> None:
    now = ms(2026, 11, 16)
    one = sample(now, 100 * USD, steady(now, 8, 10 * CENT))
    found = outlook(one, MONTH)
    assert found.passes_at_ms is None
    assert not passes_forecast(one, found, 100)
    assert passes_forecast(one, found, 110)


def test_the_last_week_counts_and_not_what_was_before_it() -> None:
    now = ms(2026, 11, 16)
    hours = steady(now, 8, 1 * CENT) | {now // HOUR_MS - 24 * 9: 50 * USD}
    found = outlook(sample(now, 60 * USD, hours), MONTH)
    assert found.burn_nano_usd_per_day == pytest.approx(24 * CENT, rel=0.01)


def test_a_ledger_that_was_not_watched_yet_goes_by_the_whole_period() -> None:
    now = ms(2026, 11, 16)
    found = outlook(sample(now, 30 * USD, {}, since_ms=now), MONTH)
    assert found.burn_nano_usd_per_day == 2 * USD
    assert found.forecast_nano_usd == 60 * USD


def test_the_first_hours_of_a_period_say_nothing() -> None:
    now = MONTH.start_ms + 12 * HOUR_MS
    found = outlook(sample(now, 30 * USD, {}, since_ms=MONTH.start_ms), MONTH)
    assert (found.burn_nano_usd_per_day, found.forecast_nano_usd) == (None, None)
    # What was watched in the month before says something.
    known = outlook(sample(now, 30 * USD, steady(now, 8, CENT)), MONTH)
    assert known.burn_nano_usd_per_day == pytest.approx(24 * CENT, rel=0.01)


def test_a_days_budget_looks_at_a_day() -> None:
    now = ms(2026, 11, 16, 12)
    day = period_at("day", "UTC", now)
    hours = {now // HOUR_MS - it: 10 * CENT for it in range(1, 200)}
    found = outlook(sample(now, USD, hours), day)
    assert found.burn_nano_usd_per_day == pytest.approx(2.3 * USD, rel=0.05)
    assert found.forecast_nano_usd == pytest.approx(USD + 115 * CENT, rel=0.05)


def test_nothing_spent_is_a_forecast_of_nothing() -> None:
    now = ms(2026, 11, 16)
    found = outlook(sample(now, 0, {}), MONTH)
    assert (found.forecast_nano_usd, found.passes_at_ms) == (0, None)


def test_an_hour_is_unusual_against_the_hours_in_which_something_was_spent() -> None:
    now = ms(2026, 11, 16, 9, 30)
    hour = now // HOUR_MS
    hours = {hour - 20 * it: 10 * CENT for it in range(1, 8)}
    few = sample(now, 10 * USD, hours | {hour: 9 * USD})
    assert outlook(few, MONTH).usual_hour_nano_usd is None
    assert not is_unusual(few, outlook(few, MONTH), 5), "seven hours are no habit"
    hours |= {hour - 10 * it: 10 * CENT for it in range(1, 16)}
    spike = sample(now, 10 * USD, hours | {hour: USD})
    found = outlook(spike, MONTH)
    assert (found.usual_hour_nano_usd, found.times_usual) == (10 * CENT, 10)
    assert is_unusual(spike, found, 5) and not is_unusual(spike, found, 11)
    small = sample(now, 10 * USD, hours | {hour: USD}, limit=1000 * USD)
    assert not is_unusual(small, outlook(small, MONTH), 5), "a thousandth of the limit"


def test_a_period_of_another_length_works_as_well() -> None:
    period = Period("P1", 0, 100 * DAY_MS)
    found = outlook(sample(50 * DAY_MS, 50 * USD, {}, since_ms=50 * DAY_MS), period)
    assert found.burn_nano_usd_per_day == USD
