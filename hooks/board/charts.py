"""The charts: SVG with classes and no styles, so that a page's colours and policy hold. Pure.

Each chart has a title for those who do not see it, and stands beside a table of the same figures.
Texts in a chart are escaped here; numbers are formatted with a fixed number of places.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

BAR_WIDTH = 400
BAR_HEIGHT = 22
HOURS_SHOWN = 72
COLUMN_WIDTH_MAX = 90.0
LABELS_MAX = 9
LABEL_WIDTH = 60
SERIES_MAX = 7
"""How many models have a colour of their own; the others share one."""


def budget_bar(
    spent: int, held: int, limit: int, percents: Sequence[int], forecast: int | None, title: str
) -> Markup:
    """Return what is spent and held of a limit, with marks at the thresholds and the forecast.

    Amounts are nanodollars. What is beyond the limit is cut off at the end of the bar, whose figure
    stands beside it.
    """

    def at(amount: int) -> float:
        return BAR_WIDTH * (min(1.0, max(0.0, amount / limit)) if limit > 0 else 1.0)

    parts = [_rect("bar-room", 0, 0, BAR_WIDTH, BAR_HEIGHT)]
    start, end = at(spent), at(spent + held)
    if end > start:
        parts.append(_rect("bar-held", start, 0, end - start, BAR_HEIGHT))
    if start > 0:
        # One pixel for anything at all.
        parts.append(_rect("bar-spent", 0, 0, max(2.0, start), BAR_HEIGHT))
    for percent in percents:
        if percent < 100:
            parts.append(_line("bar-mark", BAR_WIDTH * percent / 100, 0, BAR_HEIGHT))
    if forecast and limit > 0:
        place = min(BAR_WIDTH - 5.0, max(5.0, at(forecast)))
        points = f"{place - 5:.1f},0 {place + 5:.1f},0 {place:.1f},7"
        parts.append(Markup('<polygon class="bar-forecast" points="{}"/>').format(points))
    return _svg("bar", BAR_WIDTH, BAR_HEIGHT, title, parts, stretch=True)


def hours_line(hours: Mapping[int, int], now_hour: int, title: str) -> Markup:
    """Return what was spent in each of the last hours, as small columns."""
    shown = [hours.get(hour, 0) for hour in range(now_hour - HOURS_SHOWN + 1, now_hour + 1)]
    most = max([1, *shown])
    width, height = HOURS_SHOWN * 4, 36
    parts = [_rect("line-floor", 0, height - 1, width, 1)]
    for place, amount in enumerate(shown):
        if amount > 0:
            tall = max(1.5, (height - 2) * amount / most)
            parts.append(_rect("line-hour", place * 4, height - 1 - tall, 3, tall))
    return _svg("line", width, height, title, parts, stretch=True)


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a stacked chart: its label, and a number for each series, in their order."""

    label: str
    parts: tuple[int, ...]


def stacked(columns: Sequence[Column], series: Sequence[str], title: str) -> Markup:
    """Return columns of shares, each filled to the top: what part of each day had each series."""
    width, height, foot, margin = 720, 200, 26, 62
    room = height - foot
    parts: list[Markup] = []
    for part in (0.0, 0.5, 1.0):
        line = room * (1 - part)
        parts.append(_rect("grid", margin, min(line, room - 1), width - margin, 1))
        parts.append(_text(0, max(10.0, line), f"{100 * part:.0f} %"))
    if columns:
        step = min(COLUMN_WIDTH_MAX, (width - margin) / len(columns))
        gap = min(4.0, step / 5)
        every = -(-len(columns) // LABELS_MAX)
        for place, column in enumerate(columns):
            left, whole, bottom = margin + place * step + gap / 2, sum(column.parts), float(room)
            for index, amount in enumerate(column.parts):
                if amount <= 0:
                    continue
                tall = room * amount / whole
                bottom -= tall
                said = f"{column.label}, {series[index]}: {100 * amount / whole:.1f} %"
                parts.append(
                    Markup("<g><title>{}</title>{}</g>").format(
                        said, _rect(f"series-{index}", left, bottom, step - gap, tall)
                    )
                )
            if place % every == 0 and left + LABEL_WIDTH <= width:
                parts.append(_text(left, height - 6, column.label))
    return _svg("stacked", width, height, title, parts)


def _svg(
    name: str, width: int, height: int, title: str, parts: Sequence[Markup], stretch: bool = False
) -> Markup:
    ratio = Markup(' preserveAspectRatio="none"') if stretch else Markup("")
    head = Markup(
        '<svg class="chart chart-{}" viewBox="0 0 {} {}"{} role="img" aria-label="{}" '
        'focusable="false">'
    ).format(name, width, height, ratio, title)
    return head + Markup("").join(parts) + Markup("</svg>")


def _rect(name: str, x: float, y: float, width: float, height: float) -> Markup:
    return Markup('<rect class="{}" x="{}" y="{}" width="{}" height="{}"/>').format(
        name, _number(x), _number(y), _number(width), _number(height)
    )


def _line(name: str, x: float, top: float, bottom: float) -> Markup:
    return Markup('<line class="{}" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
        name, _number(x), _number(x), _number(top), _number(bottom)
    )


def _text(x: float, y: float, said: str) -> Markup:
    return Markup('<text x="{}" y="{}">{}</text>').format(_number(x), _number(y), escape(said))


def _number(value: float) -> str:
    return f"{value:.1f}"
