"""The charts of a report, as SVG that is legible on a light page and on a dark one.

Text and axes take the colour of the page (`currentColor`), the background is left out, and the
other colours are Okabe and Ito's, which people with colour blindness can tell apart. Matplotlib is
imported with this module: import it late.
"""

from __future__ import annotations

import html
import io
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl

mpl.use("svg")

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from budgets.months.lines import Figures
from scripts.cli.output import clean

NANO = 10**9
INK = "#010203"
"""Stands for the page's own colour until the SVG is written."""
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8c8c8c")
STYLE = (
    "<style>.farebox-chart{color:#1f2328;height:auto;max-width:100%}"
    "@media (prefers-color-scheme:dark){.farebox-chart{color:#e6edf3}}</style>"
)
NAMES_MAX = 6

_SETTINGS: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "farebox",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}


def charts(found: Figures) -> dict[str, str]:
    """Return the charts by name: `burn`, `budgets`, `mix`; those that have something to show."""
    made = {}
    if any(total for _, total, _ in found.burn):
        made["burn"] = _svg("Spend so far, day by day", lambda axes: _burn(axes, found))
    if any(line.limit for line in found.budgets):
        made["budgets"] = _svg(
            "Actual against budget",
            lambda axes: _budgets(axes, found),
            height=1.0 + 0.45 * len(found.budgets),
        )
    if any(found.mix_by_day.values()):
        made["mix"] = _svg("Requests by model, day by day", lambda axes: _mix(axes, found))
    return made


def _svg(title: str, draw: Callable[[Axes], None], height: float = 3.2) -> str:
    with styled():
        figure = Figure(figsize=(8, height), layout="constrained")
        axes = figure.add_subplot()
        axes.set_title(title, loc="left", fontsize=11)
        draw(axes)
        return svg_of(figure, title)


@contextmanager
def styled(ink: str = INK) -> Iterator[None]:
    """Draw in the house style within this context; `ink` is the colour of text and axes."""
    settings = {name: ink if value == INK else value for name, value in _SETTINGS.items()}
    with mpl.rc_context(settings):
        yield


def svg_of(figure: Figure, title: str) -> str:
    """Return a figure that was drawn in the house style as SVG for a page."""
    out = io.StringIO()
    # Without a date, so that the same figures always give the same bytes.
    figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    text = out.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    # On a page of several charts a rule for everything would be one for the page.
    text = text.replace("*{stroke", ".farebox-chart *{stroke")
    label = f'<svg class="farebox-chart" role="img" aria-label="{html.escape(title)}"'
    head, rest = text.split(">", 1)
    return head.replace("<svg", label, 1) + ">" + STYLE + rest


def _burn(axes: Axes, found: Figures) -> None:
    days = [int(day[8:]) for day, _, _ in found.burn]
    count = len(found.days)
    total = next((it for it in found.budgets if it.category is None and it.limit), None)
    spending = {name for _, _, sums in found.burn for name in sums}
    names = [it.category for it in found.categories if it.category in spending][:NAMES_MAX]
    for colour, name in zip(COLOURS[1:], names, strict=False):
        spent = [sums.get(name, 0) / NANO for _, _, sums in found.burn]
        axes.plot(days, spent, color=colour, linewidth=1.4, label=_label(name))
    axes.plot(
        days, [it / NANO for _, it, _ in found.burn], color=COLOURS[0], linewidth=2.6, label="total"
    )
    if found.forecast is not None and not found.ended:
        axes.plot(
            [days[-1], count],
            [found.burn[-1][1] / NANO, found.forecast / NANO],
            color=COLOURS[0],
            linestyle=":",
            linewidth=2,
            label="forecast",
        )
    if total is not None:
        limit = total.bearable / NANO
        axes.axhline(
            limit, color=COLOURS[5], linewidth=1.4, label=f"limit of {_label(total.budget)}"
        )
        axes.plot(
            [0, count], [0, limit], color=INK, linewidth=0.8, linestyle="--", label="even pace"
        )
    axes.set_xlim(1, max(2, count))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("day of the month")
    axes.set_ylabel("US dollars")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=9)


def _budgets(axes: Axes, found: Figures) -> None:
    lines = [it for it in found.budgets if it.limit][::-1]
    places = range(len(lines))
    most = max(it.bearable / NANO for it in lines)
    axes.barh(
        places,
        [it.bearable / NANO for it in lines],
        height=0.62,
        facecolor="none",
        edgecolor=INK,
        linewidth=0.9,
        label="limit, with what was carried in and granted",
    )
    colours = [COLOURS[5] if it.spent > it.bearable else COLOURS[0] for it in lines]
    axes.barh(places, [it.spent / NANO for it in lines], height=0.62, color=colours, label="spent")
    for place, it in zip(places, lines, strict=True):
        # Rounded down: nothing that is left over shows as a full 100 %.
        share = "–" if it.used is None else f"{math.floor(it.used * 100)} %"
        end = max(it.spent, it.bearable) / NANO
        axes.text(end + most * 0.015, place, share, va="center", fontsize=9)
    axes.set_yticks(list(places), [_label(it.budget) for it in lines])
    axes.set_xlim(0, most * 1.12)
    axes.set_xlabel("US dollars")


def _mix(axes: Axes, found: Figures) -> None:
    mix = found.mix_by_day
    days = [day for day in found.days if mix.get(day)]
    names = [line.group for line in found.mix]
    shown: Sequence[str] = names[:NAMES_MAX]
    floor = [0.0] * len(days)
    for colour, name in zip(COLOURS, [*shown, ""], strict=False):
        picked = names[NAMES_MAX:] if not name else [name]
        if not picked:
            continue
        parts = [
            100 * sum(mix[day].get(it, 0) for it in picked) / sum(mix[day].values()) for day in days
        ]
        label = _label(name) if name else "others"
        axes.bar([int(it[8:]) for it in days], parts, bottom=floor, color=colour, label=label)
        floor = [below + part for below, part in zip(floor, parts, strict=True)]
    axes.set_xlim(0.4, len(found.days) + 0.6)
    axes.set_ylim(0, 100)
    axes.set_xlabel("day of the month")
    axes.set_ylabel("% of requests")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=9)


def _label(name: str) -> str:
    # A dollar sign would begin a formula, and names come from callers.
    return clean(name, 28).replace("$", r"\$")
