"""The charts of a profile: pass rates with their intervals, output lengths, cost of the traffic.

Matplotlib is imported with this module: import it late.
"""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from scripts.cli.output import clean
from scripts.profile.plan import TIER_NAMES
from scripts.profile.traffic import Spend
from scripts.profile.verdicts import MONITOR_MARK, ROUTE_MARK, TypeResult
from scripts.report.charts import COLOURS, svg

TYPES_MAX = 20
NANO = 1e9
COLOUR_OF = dict(zip(TIER_NAMES, COLOURS, strict=False))


def charts(found: Sequence[TypeResult], costs: Sequence[Spend]) -> dict[str, str]:
    """Return the charts by name: `passes`, `lengths`, `traffic`; those that show something."""
    shown = [it for it in found if it.tiers][:TYPES_MAX]
    rows = sum(len(it.tiers) for it in shown)
    made = {}
    if rows:
        made["passes"] = svg(
            "Pass rate with its interval",
            lambda axes: _passes(axes, shown),
            height=1.2 + 0.28 * rows + 0.2 * len(shown),
        )
        made["lengths"] = svg(
            "Output tokens: 10, 50, 90 and 99 % of answers stay below",
            lambda axes: _lengths(axes, shown),
            height=1.2 + 0.28 * rows + 0.2 * len(shown),
        )
    if costs:
        made["traffic"] = svg(
            "Cost of a month, with the interval that the profile allows",
            lambda axes: _traffic(axes, costs),
            height=1.4 + 0.4 * len({it.way for it in costs}),
        )
    return made


def _places(shown: Sequence[TypeResult]) -> tuple[dict[tuple[str, str], float], list[float]]:
    """Return where each task type's tiers stand, from the top, and the middle of each type."""
    places: dict[tuple[str, str], float] = {}
    middles = []
    place = 0.0
    for it in shown:
        first = place
        for tier in it.tiers:
            places[it.task_type, tier.tier] = place
            place += 1
        middles.append((first + place - 1) / 2)
        place += 0.7
    return places, middles


def _names(axes: Axes, shown: Sequence[TypeResult], middles: Sequence[float]) -> None:
    axes.set_yticks(list(middles), [clean(it.task_type, 34) for it in shown])
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)


def _passes(axes: Axes, shown: Sequence[TypeResult]) -> None:
    places, middles = _places(shown)
    for tier in TIER_NAMES:
        cells = [(places[it.task_type, tier], one) for it in shown if (one := it.tier(tier))]
        cells = [(place, one) for place, one in cells if one.interval.samples]
        if not cells:
            continue
        rates = [100 * one.interval.rate for _, one in cells]
        ends = [
            [100 * (one.interval.rate - one.interval.lower) for _, one in cells],
            [100 * (one.interval.upper - one.interval.rate) for _, one in cells],
        ]
        axes.errorbar(
            rates, [place for place, _ in cells], xerr=ends, fmt="o", markersize=5, capsize=3,
            color=COLOUR_OF[tier], label=tier,
        )  # fmt: skip
    for mark, style in ((MONITOR_MARK, ":"), (ROUTE_MARK, "--")):
        axes.axvline(100 * mark, linestyle=style, linewidth=1, color=COLOURS[6])
    lowest = min(one.interval.lower for it in shown for one in it.tiers)
    axes.set_xlim(max(0.0, min(80.0, 100 * lowest - 3)), 100.5)
    axes.set_xlabel("% of answers that pass (marks at 85 and 95 %, for the lower end)")
    _names(axes, shown, middles)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))


def _lengths(axes: Axes, shown: Sequence[TypeResult]) -> None:
    places, middles = _places(shown)
    for tier in TIER_NAMES:
        cells = [(places[it.task_type, tier], one) for it in shown if (one := it.tier(tier))]
        if not cells:
            continue
        colour = COLOUR_OF[tier]
        for place, one in cells:
            low, middle, high, most = one.output_tokens
            axes.plot([low, high], [place, place], color=colour, linewidth=5, alpha=0.45)
            axes.plot([high, most], [place, place], color=colour, linewidth=1)
            axes.plot([middle], [place], marker="o", markersize=5, color=colour)
        axes.plot([], [], color=colour, linewidth=5, label=tier)
    axes.set_xlim(left=0)
    axes.set_xlabel("tokens")
    _names(axes, shown, middles)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))


def _traffic(axes: Axes, costs: Sequence[Spend]) -> None:
    traffic = sorted({it.requests_a_day for it in costs})
    middle = traffic[len(traffic) // 2]
    rows = [it for it in costs if it.requests_a_day == middle]
    colours = [COLOURS[2] if it.way == "proposed" else COLOURS[0] for it in rows]
    places = range(len(rows))
    values = [it.month / NANO for it in rows]
    ends = [
        [(it.month - it.month_low) / NANO for it in rows],
        [(it.month_high - it.month) / NANO for it in rows],
    ]
    axes.barh(list(places), values, color=colours, xerr=ends, capsize=3, ecolor=COLOURS[6])
    axes.set_yticks(list(places), [it.way for it in rows])
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(f"US dollars a month at {middle:,} requests a day")
