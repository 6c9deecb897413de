"""The plot of `farebox pareto`: quality against cost, speed as colour, dominated models in grey.

Matplotlib is imported with this module: import it late. SVG takes the colour of its page, as the
charts of reports do, and the same field always gives the same bytes.
"""

from __future__ import annotations

import html
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hooks.choosing import Choosing, SpeedTiers
from scripts.choosing.field import Field, Offer
from scripts.choosing.frontier import dominators, frontier_of, recommended
from scripts.choosing.tables import Table
from scripts.cli.output import clean
from scripts.report.charts import COLOURS, INK, styled, svg_of

NANO = 10**9
GREY = "#8c8c8c"
WIDTH_IN, HEIGHT_IN = 10.0, 7.4
MARGIN = 0.14
"""How much room beside the outermost points, as a part of the axis."""

SPEEDS = (
    ("instant", COLOURS[2]),
    ("fast", COLOURS[4]),
    ("normal", COLOURS[0]),
    ("batch", COLOURS[5]),
)
SIZES = {"instant": 190, "fast": 130, "normal": 85, "batch": 50, "unknown": 60}
LETTER_WIDTH, LINE_HEIGHT = 0.0072, 0.022
"""Of the axes' width and height: what a letter takes, for keeping labels apart."""


def svg(field: Field, choosing: Choosing) -> str:
    """Return the plot as SVG."""
    with styled():
        return svg_of(_figure(field, choosing), _title(field))


def png(field: Field, choosing: Choosing) -> bytes:
    """Return the plot as PNG, dark on white."""
    out = io.BytesIO()
    with styled(ink="#1f2328"):
        figure = _figure(field, choosing, ink="#1f2328")
        figure.savefig(out, format="png", dpi=150, facecolor="white", metadata={"Software": None})
    return out.getvalue()


def page(field: Field, choosing: Choosing, tables: Sequence[str]) -> str:
    """Return one HTML page with the plot and the tables."""
    title = html.escape(_title(field))
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        f"<title>{title}</title><style>:root{{color-scheme:light dark}}"
        "body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}"
        "table{border-collapse:collapse;margin:1rem 0;font-size:13px;display:block;overflow-x:auto}"
        "td,th{padding:.2rem .7rem;text-align:left;border-bottom:1px solid #8884}</style>"
        f"<h1>{title}</h1>{svg(field, choosing)}{''.join(tables)}</html>\n"
    )


def html_table(table: Table) -> str:
    """Return a table for the page."""
    head = "".join(f"<th>{html.escape(it.heading)}</th>" for it in table.columns)
    rows = "".join(
        "<tr>" + "".join(f"<td>{html.escape(clean(cell))}</td>" for cell in cells) + "</tr>"
        for cells in table.cells()
    )
    about = f"<h2>{html.escape(table.title)}</h2><p>{html.escape(table.about)}</p>"
    return f"{about}<table><tr>{head}</tr>{rows}</table>"


def _title(field: Field) -> str:
    blend = field.blend
    return (
        f"Quality against cost: {field.benchmark}, {blend.input_tokens:,} tokens in "
        f"({blend.cached_share * 100:.0f} % cached), {blend.output_tokens:,} out"
    )


def _figure(field: Field, choosing: Choosing, ink: str = INK) -> Figure:
    figure = Figure(figsize=(WIDTH_IN, HEIGHT_IN), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(_title(field), loc="left", fontsize=11)
    known = field.comparable
    if not known:
        axes.text(0.5, 0.5, "no model has both a price and a score", ha="center")
        return figure
    best, above = frontier_of(known), dominators(known)
    picked = recommended(known, choosing.recommended)
    bounds = _limit(axes, known)
    _steps(axes, best, bounds)
    for offer in known:
        for other in above.get(offer.name, ())[:1]:
            axes.plot(
                [_x(offer), _x(other)], [_y(offer), _y(other)],
                color=GREY, linewidth=0.6, linestyle=":", zorder=1,
            )  # fmt: skip
    for offer in known:
        tier = _speed_tier(offer, choosing.speed)
        is_best = offer in best
        colour = dict(SPEEDS).get(tier)
        fill = (colour or "none") if is_best else "none"
        axes.scatter(
            [_x(offer)], [_y(offer)], s=SIZES[tier], marker="o",
            facecolor=fill, edgecolor=(colour or ink) if is_best else GREY,
            linewidth=2.2 if offer.configured else 1.0, zorder=3,
        )  # fmt: skip
    for offer, place in _labels(known, best, bounds):
        star = " ★" if offer in picked else ""
        at = bounds.place(offer)
        if abs(place.y - at.y) > LINE_HEIGHT:
            axes.plot(
                [at.x, place.x + len(offer.title) * LETTER_WIDTH / 2], [at.y, place.y],
                transform=axes.transAxes, color=GREY, linewidth=0.5, zorder=1,
            )  # fmt: skip
        name = clean(offer.title, 28).replace("$", r"\$")
        axes.text(
            place.x, place.y, name + star, transform=axes.transAxes, fontsize=8, ha="left",
            va="center", color=ink if offer in best else GREY,
            fontweight="bold" if offer.configured else "normal", zorder=4,
        )  # fmt: skip
    _legend(axes, ink)
    axes.set_xlabel("US dollars a request (logarithmic)")
    axes.set_ylabel(f"{field.benchmark}, %")
    return figure


def _x(offer: Offer) -> float:
    return max(1, offer.cost_nano_usd or 0) / NANO


def _y(offer: Offer) -> float:
    return offer.quality.score if offer.quality else 0.0


@dataclass(frozen=True, slots=True)
class _Bounds:
    """The ends of both axes; of cost by its logarithm to base 10."""

    left: float
    right: float
    low: float
    high: float

    def place(self, offer: Offer) -> _Place:
        """Return where an offer lies, as parts of the axes."""
        return _Place(
            (math.log10(_x(offer)) - self.left) / (self.right - self.left),
            (_y(offer) - self.low) / (self.high - self.low),
        )


@dataclass(frozen=True, slots=True)
class _Place:
    x: float
    y: float


def _limit(axes: Axes, known: Sequence[Offer]) -> _Bounds:
    costs = [math.log10(_x(it)) for it in known]
    scores = [_y(it) for it in known]
    wide = (max(costs) - min(costs)) or 1.0
    tall = (max(scores) - min(scores)) or 10.0
    bounds = _Bounds(
        min(costs) - wide * MARGIN / 2,
        max(costs) + wide * MARGIN,
        min(scores) - tall * MARGIN / 2,
        max(scores) + tall * MARGIN / 2,
    )
    axes.set_xscale("log")
    axes.set_xlim(10**bounds.left, 10**bounds.right)
    axes.set_ylim(bounds.low, bounds.high)
    ticks = [it for it in _round_costs() if bounds.left <= math.log10(it) <= bounds.right]
    axes.set_xticks(ticks, [rf"\${it:g}" for it in ticks])
    axes.minorticks_off()
    return bounds


def _round_costs() -> Iterator[float]:
    for power in range(-7, 4):
        for digit in (1, 2, 5):
            yield float(f"{digit}e{power}")


def _steps(axes: Axes, best: Sequence[Offer], bounds: _Bounds) -> None:
    """Draw the frontier: what is the best score for at most so much."""
    costs = [*(_x(it) for it in best), 10**bounds.right]
    scores = [*(_y(it) for it in best), _y(best[-1])]
    axes.step(costs, scores, where="post", color=COLOURS[1], linewidth=1.4, zorder=2)


def _speed_tier(offer: Offer, tiers: SpeedTiers) -> str:
    if offer.latency is None:
        return "unknown"
    bounds = (tiers.instant_ms_max, tiers.fast_ms_max, tiers.normal_ms_max)
    return next(
        (name for (name, _), most in zip(SPEEDS, bounds, strict=False) if offer.latency.ms <= most),
        "batch",
    )


def _labels(
    known: Sequence[Offer], best: Sequence[Offer], bounds: _Bounds
) -> Iterator[tuple[Offer, _Place]]:
    """Yield where each label goes: beside its point, where it covers least of what is there."""
    points = [bounds.place(it) for it in known]
    corners = [bounds.place(it) for it in best]
    for one, other in pairwise(corners):
        points += [_Place(one.x + (other.x - one.x) * part / 12, one.y) for part in range(1, 12)]
        points += [_Place(other.x, one.y + (other.y - one.y) * part / 6) for part in range(1, 6)]
    taken: list[tuple[_Place, float]] = []
    for offer in sorted(known, key=lambda it: (it not in best, not it.configured, it.name)):
        bold = 1.12 if offer.configured else 1.0
        at, width = bounds.place(offer), (len(offer.title) + 2) * LETTER_WIDTH * bold
        found = min(_candidates(at, width), key=lambda it: _cover(it, width, at, taken, points))
        taken.append((found, width))
        yield offer, found


def _candidates(at: _Place, width: float) -> Iterator[_Place]:
    for step in (0.0, 1.0, -1.0, 1.6, -1.6, 2.3, -2.3, 3.0, -3.0, 4.0, -4.0):
        for x in (at.x + 0.012, at.x - width - 0.012, at.x - width / 2):
            if step == 0.0 and x == at.x - width / 2:
                continue
            yield _Place(x, at.y + step * LINE_HEIGHT)


def _cover(
    place: _Place,
    width: float,
    at: _Place,
    taken: Sequence[tuple[_Place, float]],
    points: Sequence[_Place],
) -> float:
    """Return how bad a place is: what it covers, what leaves the axes, how far off it is."""
    bad = abs(place.y - at.y) * 4 + abs(place.x + width / 2 - at.x)
    bad += 50 * (max(0.0, -place.x) + max(0.0, place.x + width - 1))
    bad += 50 * (max(0.0, 0.01 - place.y) + max(0.0, place.y - 0.99))
    for other, other_width in taken:
        across = min(place.x + width, other.x + other_width) - max(place.x, other.x)
        if across > 0 and abs(place.y - other.y) < LINE_HEIGHT:
            bad += 3 + 20 * across
    for point in points:
        inside = place.x - 0.008 < point.x < place.x + width
        if inside and abs(point.y - place.y) < LINE_HEIGHT * 0.6:
            bad += 1.5
    return bad


def _legend(axes: Axes, ink: str) -> None:
    for name, colour in SPEEDS:
        axes.scatter([], [], s=SIZES[name], color=colour, label=name)
    axes.scatter([], [], s=60, facecolor="none", edgecolor=ink, label="speed unknown")
    axes.scatter([], [], s=60, facecolor="none", edgecolor=GREY, label="dominated, with by what")
    axes.plot([], [], color=COLOURS[1], label="frontier (★ recommended)")
    axes.plot([], [], color="none", label="bold: configured")
    axes.legend(loc="lower right", fontsize=8, labelspacing=0.7)
