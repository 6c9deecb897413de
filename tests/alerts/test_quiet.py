"""Quiet hours by the clock on the wall, over midnight, weekends and changes of the clock."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError

from budgets.alerts.quiet import quiet_for_ms
from budgets.alerts.settings import QuietHours

HOUR_MS = 3_600_000
NIGHT = {"from": "22:00", "to": "07:00"}


def wait_h(moment: str, zone: str = "UTC", **quiet: Any) -> float:
    """Return for how many hours it stays quiet from a local time on."""
    at = datetime.fromisoformat(moment).replace(tzinfo=ZoneInfo(zone))
    settings = QuietHours.model_validate({**NIGHT, **quiet})
    return quiet_for_ms(settings, zone, int(at.timestamp() * 1000)) / HOUR_MS


def test_the_night_is_quiet_until_the_morning() -> None:
    assert wait_h("2026-11-19T21:59") == 0
    assert wait_h("2026-11-19T22:00") == 9
    assert wait_h("2026-11-20T06:30") == 0.5
    assert wait_h("2026-11-20T07:00") == 0


def test_hours_of_one_day_are_quiet_too() -> None:
    assert wait_h("2026-11-19T12:30", **{"from": "12:00", "to": "13:00"}) == 0.5
    assert wait_h("2026-11-19T13:30", **{"from": "12:00", "to": "13:00"}) == 0


def test_a_quiet_weekend_follows_the_night_and_is_followed_by_one() -> None:
    # Friday 23:00, over Saturday and Sunday, until Monday 07:00.
    assert wait_h("2026-11-20T23:00", days=["sat", "sun"]) == 56
    assert wait_h("2026-11-21T12:00", days=["sat", "sun"]) == 43


def test_without_quiet_hours_nothing_waits() -> None:
    assert quiet_for_ms(None, "UTC", 0) == 0


def test_quiet_hours_may_have_a_zone_of_their_own() -> None:
    assert wait_h("2026-11-19T14:00", time_zone="Asia/Tokyo") == 8


def test_a_night_in_which_the_clock_changes_ends_at_the_same_time() -> None:
    assert wait_h("2026-03-28T22:00", "Europe/Berlin") == 8
    assert wait_h("2026-10-24T22:00", "Europe/Berlin") == 10


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"from": "25:00"}, "not a time of day"),
        ({"from": "07:00"}, "the same time"),
        ({"days": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]}, "all days are quiet"),
        ({"time_zone": "Berlin"}, "not a time zone"),
    ],
)
def test_quiet_hours_that_make_no_sense_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        QuietHours.model_validate({**NIGHT, **wrong})


def test_a_time_without_quotes_is_understood() -> None:
    """YAML reads 22:00 as the number 1320."""
    assert QuietHours.model_validate({"from": 1320, "to": 420}) == QuietHours.model_validate(NIGHT)
