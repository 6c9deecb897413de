"""Periods are calendar periods of a time zone: without gaps, without overlaps, rightly named."""

from __future__ import annotations

from datetime import datetime
from typing import get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budgets.period import PeriodKind, period_at

HOUR_MS = 3_600_000
KINDS: tuple[PeriodKind, ...] = get_args(PeriodKind)
ZONES = ("UTC", "Europe/Berlin", "America/Havana", "Asia/Kathmandu", "Africa/Cairo")


def ms(text: str, zone: str = "UTC") -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)


@pytest.mark.parametrize(
    ("kind", "id_", "start", "end"),
    [
        ("day", "2026-11-21", "2026-11-21", "2026-11-22"),
        ("week", "2026-W47", "2026-11-16", "2026-11-23"),
        ("month", "2026-11", "2026-11-01", "2026-12-01"),
    ],
)
def test_a_period_has_its_calendar_name_and_borders(
    kind: PeriodKind, id_: str, start: str, end: str
) -> None:
    period = period_at(kind, "UTC", ms("2026-11-21T12:00"))
    assert (period.id, period.start_ms, period.end_ms) == (id_, ms(start), ms(end))


def test_a_week_at_new_year_belongs_to_the_year_of_its_thursday() -> None:
    assert period_at("week", "UTC", ms("2027-01-01")).id == "2026-W53"
    assert period_at("week", "UTC", ms("2024-12-30")).id == "2025-W01"


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", "2026-03-29", 23),
        ("Europe/Berlin", "2026-10-25", 25),
        ("America/Havana", "2024-03-10", 23),
        ("America/Havana", "2024-11-03", 25),
    ],
)
def test_a_day_on_which_clocks_change_is_shorter_or_longer(zone: str, day: str, hours: int) -> None:
    period = period_at("day", zone, ms(f"{day}T12:00", zone))
    assert period.id == day
    assert period.end_ms - period.start_ms == hours * HOUR_MS


@given(
    st.sampled_from(KINDS),
    st.sampled_from(ZONES),
    st.integers(ms("2000-01-01"), ms("2060-01-01")),
)
def test_periods_follow_each_other_without_gap_or_overlap(
    kind: PeriodKind, zone: str, time_ms: int
) -> None:
    period = period_at(kind, zone, time_ms)
    assert period.contains(time_ms)
    assert not period.contains(period.end_ms)
    following = period_at(kind, zone, period.end_ms)
    assert following.start_ms == period.end_ms
    assert period_at(kind, zone, period.end_ms - 1) == period
    assert following.id != period.id


def test_a_time_zone_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(ZoneInfoNotFoundError):
        period_at("day", "Europe/Atlantis", 0)
