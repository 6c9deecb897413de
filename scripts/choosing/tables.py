"""The five tables of `farebox pareto`, as data that a terminal, Markdown and JSON show alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from budgets import money
from hooks.choosing import Choosing
from scripts.choosing.field import Field, Offer
from scripts.choosing.frontier import dominators, frontier_of, recommended

UNKNOWN = "unknown"
NANO_PER_CENT = money.NANO_PER_USD // 100


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its heading, the key of its value in a row, and how that reads.

    `wide` marks one that a narrow terminal leaves out.
    """

    heading: str
    key: str
    show: Callable[[Any], str] = str
    right: bool = False
    wide: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table with its name, its title, what there is to know about it, and its rows."""

    name: str
    title: str
    about: str
    columns: tuple[Column, ...]
    rows: tuple[Mapping[str, Any], ...]

    def cells(self) -> list[list[str]]:
        """Return the rows as texts, in the order of the columns."""
        return [[column.show(row[column.key]) for column in self.columns] for row in self.rows]

    def narrow(self) -> Table:
        """Return the table without what a narrow terminal leaves out."""
        return replace(self, columns=tuple(it for it in self.columns if not it.wide))

    def as_dict(self) -> dict[str, Any]:
        """Return the table as data for JSON."""
        return {"title": self.title, "about": self.about, "rows": [dict(row) for row in self.rows]}


def markdown(table: Table) -> str:
    """Return a table as Markdown."""
    rule = [("---:" if column.right else "---") for column in table.columns]
    lines = [[column.heading for column in table.columns], rule, *table.cells()]
    return "\n".join("| " + " | ".join(_cell(it) for it in line) + " |" for line in lines) + "\n"


def _cell(value: str) -> str:
    return value.replace("|", "\\|").replace("\n", " ")


# ── how values read ──────────────────────────────────────────────────────────────────────────────


def shown_cost(nano_usd: int | None) -> str:
    """Return the cost of a request, to the hundredth of a cent's hundredth."""
    return UNKNOWN if nano_usd is None else money.dollars(nano_usd, 5)


def shown_score(score: float | None) -> str:
    """Return a score; a dash where none is known."""
    return UNKNOWN if score is None else f"{score:.1f}"


def shown_seconds(ms: int | None) -> str:
    """Return milliseconds as seconds."""
    return UNKNOWN if ms is None else f"{ms / 1000:.1f} s"


def _names(names: Iterable[str]) -> str:
    return ", ".join(names) or "–"


def _plain(value: object) -> str:
    return "–" if value is None or value == "" else str(value)


MODEL = (
    Column("Model", "title"),
    Column("Group or name", "name"),
)


def row_of(offer: Offer) -> dict[str, Any]:
    """Return what every table says of an offer."""
    quality, latency = offer.quality, offer.latency
    return {
        "title": offer.title,
        "name": offer.name,
        "vendor": offer.vendor,
        "configured": offer.configured,
        "chains": list(offer.chains),
        "residency": list(offer.residency),
        "cost_nano_usd": offer.cost_nano_usd,
        "score": quality.score if quality else None,
        "benchmark": quality.benchmark if quality else None,
        "score_of": quality.of if quality else None,
        "source": quality.source if quality else None,
        "date": quality.date if quality else None,
        "latency_ms": latency.ms if latency else None,
        "latency_basis": latency.basis if latency else None,
    }


# ── the five tables ──────────────────────────────────────────────────────────────────────────────


def tables_of(field: Field, choosing: Choosing) -> tuple[Table, ...]:
    """Return the five tables, in POLICY's order."""
    return (
        performance(field, choosing),
        speed(field, choosing),
        cost(field, choosing),
        frontier(field, choosing),
        value(field),
    )


def performance(field: Field, choosing: Choosing) -> Table:
    """Return the models by their score; those without one come last and say so."""
    tiers = choosing.performance
    bounds = (
        ("excellent", tiers.excellent),
        ("good", tiers.good),
        ("acceptable", tiers.acceptable),
    )

    def tier(offer: Offer) -> str:
        if offer.quality is None:
            return UNKNOWN
        score = offer.quality.score
        return next((name for name, least in bounds if score >= least), "budget")

    ordered = sorted(
        field.offers, key=lambda it: (-(it.quality.score if it.quality else -1), it.name)
    )
    return Table(
        "performance",
        "Performance tiers",
        f"By {field.benchmark}: "
        + ", ".join(f"{name} from {least:g}" for name, least in bounds)
        + ", below that budget. A score of another model stands in where “measured on” names it.",
        (
            Column("Tier", "tier_name"),
            *MODEL,
            Column("Score", "score", shown_score, right=True),
            Column("Measured on", "score_of", _plain),
            Column("Date", "date", _plain),
            Column("Source", "source", _plain, wide=True),
        ),
        tuple({"tier_name": tier(it), **row_of(it)} for it in ordered),
    )


def speed(field: Field, choosing: Choosing) -> Table:
    """Return the models by the likely time to the whole answer."""
    tiers = choosing.speed
    bounds = (
        ("instant", tiers.instant_ms_max),
        ("fast", tiers.fast_ms_max),
        ("normal", tiers.normal_ms_max),
    )

    def tier(offer: Offer) -> str:
        if offer.latency is None:
            return UNKNOWN
        ms = offer.latency.ms
        return next((name for name, most in bounds if ms <= most), "batch")

    known = [it for it in field.offers if it.latency is not None]
    ordered = sorted(known, key=lambda it: (it.latency.ms if it.latency else 0, it.name))
    missing = len(field.offers) - len(known)
    return Table(
        "speed",
        "Speed tiers",
        f"Time to the whole answer of {field.blend.output_tokens:,} tokens: "
        + ", ".join(f"{name} up to {most / 1000:g} s" for name, most in bounds)
        + f", slower is batch. Of {missing} models no speed is known."
        + (
            " Measured times are of each group's own requests, which differ in size."
            if any(it.latency and it.latency.basis == "measured" for it in known)
            else ""
        ),
        (
            Column("Tier", "tier_name"),
            *MODEL,
            Column("Time", "latency_ms", shown_seconds, right=True),
            Column("Basis", "latency_basis", _plain),
        ),
        tuple({"tier_name": tier(it), **row_of(it)} for it in ordered),
    )


def cost(field: Field, choosing: Choosing) -> Table:
    """Return the models by what a request of the blend costs."""
    tiers = choosing.cost
    bounds = (("ultra-low", tiers.ultra_low), ("low", tiers.low), ("standard", tiers.standard))

    def tier(offer: Offer) -> str:
        if offer.cost_nano_usd is None:
            return UNKNOWN
        paid = offer.cost_nano_usd
        return next((name for name, most in bounds if paid <= most), "premium")

    ordered = sorted(
        field.offers,
        key=lambda it: (it.cost_nano_usd is None, it.cost_nano_usd or 0, it.name),
    )
    return Table(
        "cost",
        "Cost tiers",
        "A request of the blend: "
        + ", ".join(f"{name} up to ${money.plain(most)}" for name, most in bounds)
        + f", dearer is premium. Prices of {field.prices_from}'s map, in US dollars.",
        (
            Column("Tier", "tier_name"),
            *MODEL,
            Column("A request", "cost_nano_usd", shown_cost, right=True),
            Column("Input/M", "input_usd_per_million", _plain, right=True),
            Column("Output/M", "output_usd_per_million", _plain, right=True),
        ),
        tuple({"tier_name": tier(it), **row_of(it), **_per_million(it)} for it in ordered),
    )


def _per_million(offer: Offer) -> dict[str, str | None]:
    if offer.price is None:
        return {"input_usd_per_million": None, "output_usd_per_million": None}
    rates = offer.price.base
    return {
        "input_usd_per_million": f"{rates.input / 10**6:g}",
        "output_usd_per_million": f"{rates.output / 10**6:g}",
    }


def frontier(field: Field, choosing: Choosing) -> Table:
    """Return the frontier and the dominated models with what dominates them."""
    known = field.comparable
    best = frontier_of(known)
    above = dominators(known)
    picked = recommended(known, choosing.recommended)
    rows = [
        {
            "standing": "frontier" if it in best else "dominated",
            "recommended": it in picked,
            "by": [other.name for other in above.get(it.name, ())],
            "by_title": next((other.title for other in above.get(it.name, ())), None),
            **row_of(it),
        }
        for it in sorted(known, key=lambda it: (it not in best, it.cost_nano_usd or 0, it.name))
    ]
    left_out = len(field.offers) - len(known)
    return Table(
        "frontier",
        f"Frontier, with {len(picked)} recommended",
        "No other model is as good for less. The recommended set spans the frontier: the cheapest, "
        "the best, and those farthest from each other between them. Residency and your own "
        f"measurements come first. {left_out} models lack a price or a score of this benchmark.",
        (
            Column("Standing", "standing", wide=True),
            Column("Model", "title"),
            Column("Group or name", "name", wide=True),
            Column("Score", "score", shown_score, right=True),
            Column("A request", "cost_nano_usd", shown_cost, right=True),
            Column("Recommended", "recommended", lambda it: "yes" if it else "–"),
            Column("Dominated by", "by_title", _plain),
            Column("Processed in", "residency", _names, wide=True),
            Column("In chains", "chains", _names, wide=True),
        ),
        tuple(rows),
    )


def value(field: Field) -> Table:
    """Return the models by score per cent."""
    rows = [{"points_per_cent": points_per_cent(it), **row_of(it)} for it in field.comparable]
    rows.sort(key=lambda row: (-row["points_per_cent"], row["name"]))
    return Table(
        "value",
        "Quality per dollar",
        "Points of the score for a US cent of the blend. A cheap model that fails is still dear: "
        "read this beside the floor that the work needs.",
        (
            *MODEL,
            Column("Points per cent", "points_per_cent", lambda it: f"{it:,.0f}", right=True),
            Column("Score", "score", shown_score, right=True),
            Column("A request", "cost_nano_usd", shown_cost, right=True),
        ),
        tuple(rows),
    )


def points_per_cent(offer: Offer) -> float:
    """Return the points of an offer's score for a US cent of the blend."""
    assert offer.point is not None
    score, paid = offer.point
    return score * NANO_PER_CENT / max(1, paid)


# ── what to say ──────────────────────────────────────────────────────────────────────────────────


def warnings_of(field: Field) -> Sequence[str]:
    """Return a sentence for each configured model that is dominated or dearer than it need be."""
    above = dominators(field.comparable)
    said = []
    for offer in field.comparable:
        if not offer.configured or not above.get(offer.name):
            continue
        other = above[offer.name][0]
        assert offer.quality is not None and other.quality is not None
        said.append(
            f"{offer.title} ({offer.name}) is dominated by {other.title} ({other.name}): "
            f"{shown_score(other.quality.score)} at {shown_cost(other.cost_nano_usd)} against "
            f"{shown_score(offer.quality.score)} at {shown_cost(offer.cost_nano_usd)} a request."
            + _caution(offer, other)
        )
    return said


def _caution(offer: Offer, other: Offer) -> str:
    """Return what else is to be weighed before one offer takes the place of another."""
    notes = []
    if offer.quality is not None and offer.quality.of:
        notes.append(f"its score is that of {offer.quality.of}")
    if abroad := sorted(set(other.residency) - set(offer.residency)):
        notes.append(f"{other.title} is processed in {', '.join(abroad)} too")
    if other.latency is None:
        notes.append(f"how fast {other.title} is, is not known")
    return f" But {'; '.join(notes)}." if notes else ""
