"""Calendar periods in the policy's time zone: a day, a week from Monday, a month.

A period's id is part of every key of the money in it, so a reset is nothing but the first use of a
new key. Boundaries are instants of the time zone's calendar, so days of 23 or 25 hours are right.

A day begins at the first instant whose local date is that day or a later one. So periods follow one
another without gap or overlap whatever a zone did: where clocks went back over midnight, the hour
that comes again belongs to the day that has begun; a day that a zone left out has no instant.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Literal
from zoneinfo import ZoneInfo

PeriodKind = Literal["day", "week", "month"]


_FORMS: dict[PeriodKind, str] = {
    "month": r"\d{4}-(0[1-9]|1[0-2])",
    "week": r"\d{4}-W(0[1-9]|[1-4]\d|5[0-3])",
    "day": r"\d{4}-\d{2}-\d{2}",
}


@dataclass(frozen=True, slots=True)
class Period:
    """One calendar period (Unix ms): `start_ms` is in it, `end_ms` is the first instant after."""

    id: str
    start_ms: int
    end_ms: int

    def contains(self, time_ms: int) -> bool:
        """Say whether the instant `time_ms` lies in this period."""
        return self.start_ms <= time_ms < self.end_ms


ZONES_REMEMBERED_MAX = 100

_last: dict[tuple[PeriodKind, str], Period] = {}


def period_at(kind: PeriodKind, zone: str, time_ms: int) -> Period:
    """Return the period of `kind` that holds the instant `time_ms` (Unix ms) in the time zone.

    Ids are `2026-11-21` for a day, `2026-W47` (ISO 8601) for a week, `2026-11` for a month.

    Raises:
        zoneinfo.ZoneInfoNotFoundError: no such time zone.
    """
    # Nearly every instant that is asked for is in the period that was found last.
    last = _last.get((kind, zone))
    if last is not None and last.start_ms <= time_ms < last.end_ms:
        return last
    day = datetime.fromtimestamp(time_ms / 1000, UTC).astimezone(ZoneInfo(zone)).date()
    period = _period_of_day(kind, zone, day)
    if time_ms >= period.end_ms:
        period = _period_of_day(kind, zone, day + timedelta(days=1))
    if len(_last) >= ZONES_REMEMBERED_MAX:
        _last.clear()
    _last[kind, zone] = period
    return period


@lru_cache(maxsize=1_024)  # Readers ask for every charge of every entry.
def kind_of(period_id: str) -> PeriodKind | None:
    """Return the kind of period that an id is written like."""
    for kind, form in _FORMS.items():
        if re.fullmatch(form, period_id):
            return kind
    return None


def period_of_id(period_id: str, zone: str) -> Period | None:
    """Return the period of an id in the time zone; None where the calendar has none."""
    kind = kind_of(period_id)
    if kind is None:
        return None
    try:
        match kind:
            case "month":
                day = date.fromisoformat(f"{period_id}-15")
            case "week":
                day = date.fromisocalendar(int(period_id[:4]), int(period_id[6:]), 4)
            case "day":
                day = date.fromisoformat(period_id)
        # Noon UTC is in the same day nearly everywhere; else it is the one before or after.
        noon_ms = (day - date(1970, 1, 1)) // timedelta(milliseconds=1) + 43_200_000
        for shift_ms in (0, -43_200_000, 43_199_999):
            found = period_at(kind, zone, noon_ms + shift_ms)
            if found.id == period_id:
                return found
    except (ValueError, OverflowError):
        pass
    return None


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
    """Return the first instant of a local day; where midnight is skipped, that of the skip."""
    tz = ZoneInfo(zone)
    after_s = int(datetime.combine(day, time.min, tz).timestamp())
    if datetime.fromtimestamp(after_s - 1, tz).date() < day:
        return after_s * 1000
    # Clocks were put ahead from before midnight to after it: the day began with that.
    before_s = after_s - 86_400
    while after_s - before_s > 1:
        middle_s = (before_s + after_s) // 2
        if datetime.fromtimestamp(middle_s, tz).date() < day:
            before_s = middle_s
        else:
            after_s = middle_s
    return after_s * 1000
