"""Quiet hours: how long a message has to wait. Pure.

Times of day are those of the clock on the wall in the given zone, so quiet hours begin and end at
the same time of day in summer and in winter.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from budgets.alerts.settings import DAYS, QuietHours

DAYS_MAX = 15
"""How far ahead an end is sought: two weeks of quiet days and one more."""


def quiet_for_ms(quiet: QuietHours | None, zone: str, now_ms: int) -> int:
    """Return for how long it stays quiet from `now_ms` (Unix ms); 0 where it is not quiet.

    `zone` is that of the budgets; quiet hours may have their own.
    """
    if quiet is None:
        return 0
    tz = ZoneInfo(quiet.time_zone or zone)
    moment_ms = now_ms
    for _ in range(2 * DAYS_MAX):
        end_ms = _end_ms(quiet, tz, moment_ms)
        if end_ms is None or end_ms <= moment_ms:
            break
        # Right after a night a quiet day may begin, and the other way round.
        moment_ms = end_ms
    return moment_ms - now_ms


def _end_ms(quiet: QuietHours, tz: ZoneInfo, time_ms: int) -> int | None:
    """Return the end of the stretch of quiet that holds an instant, None where it is not quiet."""
    local = datetime.fromtimestamp(time_ms / 1000, UTC).astimezone(tz)
    day = local.date()
    if DAYS[day.weekday()] in quiet.days:
        return _instant_ms(day + timedelta(days=1), time.min, tz)
    clock = local.time().replace(tzinfo=None)
    if quiet.start < quiet.end:
        inside = quiet.start <= clock < quiet.end
    else:
        inside = clock >= quiet.start or clock < quiet.end
    if not inside:
        return None
    over_midnight = quiet.start > quiet.end and clock >= quiet.start
    return _instant_ms(day + timedelta(days=over_midnight), quiet.end, tz)


def _instant_ms(day: date, clock: time, tz: ZoneInfo) -> int:
    return int(datetime.combine(day, clock, tz).timestamp() * 1000)
