"""Periods are calendar periods of a time zone: without gaps, without overlaps, rightly named."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budgets.period import PeriodKind, period_at

HOUR_MS = 3_600_000
KINDS: tuple[PeriodKind, ...] = get_args(PeriodKind)
ZONES = ("UTC", "Europe/Berlin", "America/Havana", "Asia/Kathmandu", "Africa/Cairo")
ODD_ZONES = {
    "America/Havana": "changes at midnight, so that midnight is skipped or comes twice",
    "America/Nuuk": "goes back at midnight to 23:00 of the day before",
    "America/Caracas": "moved by half an hour",
    "America/St_Johns": "half-hour offset; until 2011 it went back at 00:01 to 23:01",
    "America/Toronto": "in 1919 it was put ahead from 23:30 to 00:30",
    "Africa/Casablanca": "goes back for Ramadan",
    "Africa/Monrovia": "had an offset with seconds until 1972",
    "Asia/Kathmandu": "moved by a quarter of an hour",
    "Asia/Pyongyang": "moved by half an hour at midnight",
    "Australia/Lord_Howe": "changes by half an hour",
    "Pacific/Apia": "left out 2011-12-30",
    "Pacific/Kwajalein": "left out a day in 1993",
}


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
        ("America/Nuuk", "2024-03-30", 23),
        ("America/Nuuk", "2024-10-26", 25),
        ("Australia/Lord_Howe", "2026-04-05", 24.5),
        ("Australia/Lord_Howe", "2026-10-04", 23.5),
        ("Europe/Berlin", "2096-03-25", 23),
    ],
)
def test_a_day_on_which_clocks_change_is_shorter_or_longer(
    zone: str, day: str, hours: float
) -> None:
    period = period_at("day", zone, ms(f"{day}T12:00", zone))
    assert period.id == day
    assert period.end_ms - period.start_ms == hours * HOUR_MS


@given(
    st.sampled_from(KINDS),
    st.sampled_from(sorted(available_timezones() | {*ZONES, *ODD_ZONES})),
    st.integers(ms("1900-01-01"), ms("2110-01-01")),
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


@pytest.mark.parametrize(
    ("kind", "zone", "inside", "days", "hours"),
    [
        ("week", "Europe/Berlin", "2026-03-27", 7, -1),
        ("week", "Europe/Berlin", "2026-10-20", 7, 1),
        ("month", "Europe/Berlin", "2026-03-15", 31, -1),
        ("month", "Europe/Berlin", "2026-10-15", 31, 1),
        ("month", "America/New_York", "2026-11-15", 30, 1),
        ("month", "UTC", "2024-02-10", 29, 0),
        ("month", "UTC", "2026-02-10", 28, 0),
        ("month", "UTC", "2000-02-10", 29, 0),
        ("month", "UTC", "2100-02-10", 28, 0),
        ("month", "Australia/Lord_Howe", "2026-10-15", 31, -0.5),
    ],
)
def test_weeks_and_months_have_the_hours_that_their_days_have(
    kind: PeriodKind, zone: str, inside: str, days: int, hours: float
) -> None:
    period = period_at(kind, zone, ms(inside, zone))
    assert period.end_ms - period.start_ms == (days * 24 + hours) * HOUR_MS


def test_the_29th_of_february_exists_in_leap_years_only() -> None:
    for year, leap in ((2024, True), (2100, False), (2000, True), (2026, False)):
        end_ms = period_at("day", "UTC", ms(f"{year}-02-28")).end_ms
        expected = f"{year}-02-29" if leap else f"{year}-03-01"
        assert period_at("day", "UTC", end_ms).id == expected
        february = period_at("month", "UTC", end_ms - 1)
        assert (february.id, february.contains(end_ms)) == (f"{year}-02", leap)


def test_a_month_begins_when_it_does_in_the_zone_of_the_policy() -> None:
    """The same instant is in three different months at once."""
    instant = ms("2027-01-01T10:30")
    assert period_at("month", "Pacific/Kiritimati", instant).id == "2027-01"
    assert period_at("month", "Pacific/Pago_Pago", instant).id == "2026-12"
    assert period_at("day", "Pacific/Kiritimati", instant).id == "2027-01-02"
    assert period_at("day", "Pacific/Pago_Pago", instant).id == "2026-12-31"


def test_the_last_millisecond_and_the_first_are_in_different_months() -> None:
    turn = ms("2026-12-01", "Europe/Berlin")
    assert turn == ms("2026-11-30T23:00")
    assert period_at("month", "Europe/Berlin", turn - 1).id == "2026-11"
    assert period_at("month", "Europe/Berlin", turn).id == "2026-12"


def test_an_hour_that_comes_again_after_midnight_belongs_to_the_day_that_has_begun() -> None:
    """St. John's went back at 00:01 to 23:01: two minutes of one date lay within the other."""
    new_day = period_at("day", "America/St_Johns", ms("2010-11-07T12:00", "America/St_Johns"))
    again = ms("2010-11-07T02:31")
    local = datetime.fromtimestamp(again / 1000, ZoneInfo("America/St_Johns"))
    assert local.isoformat() == "2010-11-06T23:01:00-03:30"
    assert period_at("day", "America/St_Johns", again) == new_day
    old_day = period_at("day", "America/St_Johns", new_day.start_ms - 1)
    assert (old_day.id, new_day.id) == ("2010-11-06", "2010-11-07")
    assert new_day.start_ms == ms("2010-11-07T02:30")
    assert new_day.end_ms - new_day.start_ms == 25 * HOUR_MS


def test_a_day_begins_with_the_jump_that_skips_its_midnight() -> None:
    """Toronto put its clocks ahead from 23:30 to 00:30 in 1919."""
    day = period_at("day", "America/Toronto", ms("1919-03-31T12:00", "America/Toronto"))
    assert day.start_ms == ms("1919-03-31T04:30")
    assert period_at("day", "America/Toronto", day.start_ms).id == "1919-03-31"
    assert period_at("day", "America/Toronto", day.start_ms - 1).id == "1919-03-30"


def test_a_day_that_a_zone_left_out_is_nobody_s_period() -> None:
    before = period_at("day", "Pacific/Apia", ms("2011-12-29T12:00", "Pacific/Apia"))
    after = period_at("day", "Pacific/Apia", before.end_ms)
    assert (before.id, after.id) == ("2011-12-29", "2011-12-31")


def changes(zone: str) -> Iterator[int]:
    """Yield the instants (Unix ms) at which a zone's offset changes, from 1900 to 2100."""
    tz = ZoneInfo(zone)

    def offset(second: int) -> timedelta | None:
        return datetime.fromtimestamp(second, tz).utcoffset()

    for day_s in range(ms("1900-01-01") // 1000, ms("2100-12-31") // 1000, 5 * 86_400):
        low, high = day_s, day_s + 5 * 86_400
        if offset(low) == offset(high):
            continue
        before = offset(low)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if offset(middle) == before else (low, middle)
        yield high * 1000


@pytest.mark.parametrize("zone", ODD_ZONES)
def test_periods_tile_time_around_every_change_of_a_zone(zone: str) -> None:
    found = list(changes(zone))
    assert found, ODD_ZONES[zone]
    for change_ms in found:
        for kind in KINDS:
            at = change_ms - 26 * HOUR_MS
            while at < change_ms + 26 * HOUR_MS:
                period = period_at(kind, zone, at)
                assert period.contains(at)
                assert period_at(kind, zone, period.end_ms).start_ms == period.end_ms
                assert period_at(kind, zone, period.end_ms - 1) == period
                assert period_at(kind, zone, period.end_ms).id > period.id
                at += 13 * HOUR_MS
            for near in (change_ms - 1, change_ms, change_ms + HOUR_MS // 2, change_ms + HOUR_MS):
                assert period_at(kind, zone, near).contains(near)


def test_time_zones_are_known_without_the_system_s_files() -> None:
    """A slim container has none: the `tzdata` package is there for it."""
    program = "import zoneinfo; assert not zoneinfo.TZPATH; print(zoneinfo.ZoneInfo('Asia/Tokyo'))"
    environment = os.environ | {"PYTHONTZPATH": ""}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "Asia/Tokyo"


def test_a_time_zone_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(ZoneInfoNotFoundError):
        period_at("day", "Europe/Atlantis", 0)
