"""How fast a budget is being spent, where that leads, and whether an hour is unusual. Pure.

The burn rate is what was spent in the last seven days, or in the length of the period where that
is shorter (a day's budget looks at a day). Seven whole days hold every day of the week once. Where
less has been watched, it is what was spent since the period began, over the time since then. It is
not said before a twentieth of the period has been watched: minutes say nothing about a month.

    forecast = spent + burn rate × what is left of the period

A usual hour is the mean of those hours of the last seven days in which anything was spent; nights
and weekends without work do not make every morning unusual. With fewer than twelve such hours no
hour is called unusual, nor is one that spent less than 1 % of the limit.
"""

from __future__ import annotations

from dataclasses import dataclass

from budgets.alerts.outbox import HOUR_MS, HOURS_KEPT, Sample
from budgets.period import Period

DAY_MS = 24 * HOUR_MS
WATCHED_SHARE_MIN = 0.05
USUAL_HOURS_MIN = 12
RATE_LIMIT_SHARE_MIN = 0.01


@dataclass(frozen=True, slots=True)
class Outlook:
    """Where a budget is going. Amounts are nanodollars, times Unix ms; None is not known yet.

    `passes_at_ms` is when spent reaches the limit (with its carry) at this burn rate: None also
    where that is not in this period, or was before.
    """

    burn_nano_usd_per_day: int | None
    forecast_nano_usd: int | None
    passes_at_ms: int | None
    hour_nano_usd: int
    usual_hour_nano_usd: int | None

    @property
    def times_usual(self) -> float | None:
        """How many times the usual hour this hour has spent up to now."""
        if not self.usual_hour_nano_usd:
            return None
        return self.hour_nano_usd / self.usual_hour_nano_usd


def outlook(sample: Sample, period: Period) -> Outlook:
    """Return what a sample says about its period."""
    now, state = sample.time_ms, sample.state
    hour = now // HOUR_MS
    past = [n for h, n in sample.hours.items() if hour - HOURS_KEPT <= h < hour and n > 0]
    usual = sum(past) // len(past) if len(past) >= USUAL_HOURS_MIN else None
    burn = _burn_per_ms(sample, period)
    if burn is None:
        return Outlook(None, None, None, sample.hours.get(hour, 0), usual)
    left_ms = max(0, period.end_ms - now)
    forecast = state.spent_nano_usd + round(burn * left_ms)
    missing = state.bearable_nano_usd - state.spent_nano_usd
    passes = None
    if missing > 0 and burn > 0 and missing / burn < left_ms:
        passes = now + int(missing / burn)
    return Outlook(round(burn * DAY_MS), forecast, passes, sample.hours.get(hour, 0), usual)


def _burn_per_ms(sample: Sample, period: Period) -> float | None:
    """Return nanodollars a millisecond, None where too little was watched."""
    now = sample.time_ms
    length_ms = period.end_ms - period.start_ms
    window_ms = min(HOURS_KEPT * HOUR_MS, length_ms)
    # Whole hours only: the oldest counts from its beginning, this one up to now.
    from_hour = (now - window_ms) // HOUR_MS + 1
    watched_ms = now - max(sample.since_ms, from_hour * HOUR_MS)
    elapsed_ms = now - period.start_ms
    if sample.since_ms > from_hour * HOUR_MS and elapsed_ms > watched_ms:
        # All of this period's spending is known, and for longer than it was watched.
        spent, over_ms = sample.state.spent_nano_usd, elapsed_ms
    else:
        spent = sum(n for hour, n in sample.hours.items() if hour >= from_hour)
        over_ms = watched_ms
    if over_ms < length_ms * WATCHED_SHARE_MIN:
        return None
    return max(0, spent) / over_ms


def passes_forecast(sample: Sample, found: Outlook, percent: int) -> bool:
    """Say whether the forecast reaches `percent` of the limit, and spent does not yet."""
    if found.forecast_nano_usd is None:
        return False
    mark = sample.state.bearable_nano_usd * percent // 100
    return sample.state.spent_nano_usd < mark <= found.forecast_nano_usd


def is_unusual(sample: Sample, found: Outlook, times: float) -> bool:
    """Say whether this hour has spent `times` the usual one, and enough to be worth a word."""
    if found.times_usual is None or found.times_usual < times:
        return False
    return found.hour_nano_usd >= sample.state.bearable_nano_usd * RATE_LIMIT_SHARE_MIN
