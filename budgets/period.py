"""Calendar periods in the policy's time zone: a day, a week from Monday, a month.

A period's id is part of every key of the money in it, so a reset is nothing but the first use of a
new key. Boundaries are instants of the time zone's calendar, so days of 23 or 25 hours are right.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Literal
from zoneinfo import ZoneInfo

PeriodKind = Literal["day", "week", "month"]


@dataclass(frozen=True, slots=True)
class Period:
    """One calendar period (Unix ms): `start_ms` is in it, `end_ms` is the first instant after."""

    id: str
    start_ms: int
    end_ms: int

    def contains(self, time_ms: int) -> bool:
        """Say whether the instant `time_ms` lies in this period."""
        return self.start_ms <= time_ms < self.end_ms


def period_at(kind: PeriodKind, zone: str, time_ms: int) -> Period:
    """Return the period of `kind` that holds the instant `time_ms` (Unix ms) in the time zone.

    Ids are `2026-11-21` for a day, `2026-W47` (ISO 8601) for a week, `2026-11` for a month.

    Raises:
        zoneinfo.ZoneInfoNotFoundError: no such time zone.
    """
    day = datetime.fromtimestamp(time_ms / 1000, UTC).astimezone(ZoneInfo(zone)).date()
    return _period_of_day(kind, zone, day)


@lru_cache(maxsize=256)
def _period_of_day(kind: PeriodKind, zone: str, day: date) -> Period:
    match kind:
        case "day":
            first, after, name = day, day + timedelta(days=1), day.isoformat()
        case "week":
            first = day - timedelta(days=day.weekday())
            after = first + timedelta(days=7)
            year, week, _ = day.isocalendar()
            name = f"{year}-W{week:02d}"
        case "month":
            first = day.replace(day=1)
            after = (first + timedelta(days=32)).replace(day=1)
            name = f"{day:%Y-%m}"
    return Period(name, _midnight_ms(zone, first), _midnight_ms(zone, after))


def _midnight_ms(zone: str, day: date) -> int:
    """Return the first instant of a local day; where midnight is skipped, the instant after it."""
    local = datetime.combine(day, time.min, ZoneInfo(zone))
    return int(local.timestamp() * 1000)
