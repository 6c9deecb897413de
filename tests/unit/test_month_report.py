"""The report in its three forms: what stands in it, and that no name can break out of it."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET

import pytest

from budgets.months.figures import figures
from budgets.months.lines import Books, BudgetAtEnd, Figures
from budgets.months.tally import Tally
from scripts.report import render
from scripts.report.charts import charts
from scripts.report.document import document
from scripts.report.shape import Document
from tests.support.month import PRIMARIES, USD, busy_month, entry, ms, refusal, setting

SECTIONS = (
    "Actual against budget",
    "Under- and over-used",
    "Burn curve and forecast",
    "Savings",
    "Categories and days within budget",
    "Estimate error",
    "Model mix",
    "Escalations and refusals",
    "Under-routing and over-routing",
    "Top task types, teams and sessions",
    "Quality",
    "Queue and approvals",
)
HOSTILE = '<script>alert(1)</script>|`x`\n# "y" $z$'


@pytest.fixture(scope="module")
def found() -> Figures:
    this, last = Tally(setting("2026-10")), Tally(setting("2026-09"))
    for one in busy_month("2026-10", 600):
        this.add(one)
    for one in busy_month("2026-09", 200, seed=2):
        last.add(one)
    this.add(entry("2026-10-09T09:00", 9 * USD, team=HOSTILE, session=HOSTILE, task_type=HOSTILE))
    this.refuse(refusal("2026-10-20T10:00", "budget_exceeded", category="HIGH_COMPLEX"))
    limits = {"FAST": 50, "NORMAL": 200, "COMPLEX": 150, "HIGH_COMPLEX": 50, "total": 450}
    lines = [
        BudgetAtEnd(name, limit * USD, 0, limit * USD // 3, 0) for name, limit in limits.items()
    ]
    return figures(
        this,
        last,
        Books(
            lines,
            {it: it for it in PRIMARIES},
            tuple(PRIMARIES),
            550 * USD,
            ms("2026-11-02T00:00"),
            None,
            ms("2026-09-01T00:00"),
        ),
    )


@pytest.fixture(scope="module")
def doc(found: Figures) -> Document:
    return document(found, None)


@pytest.fixture(scope="module")
def drawn(found: Figures) -> dict[str, str]:
    return charts(found)


def test_markdown_has_every_section_and_whole_tables(doc: Document) -> None:
    printed = render.markdown(doc, {"burn": "october-burn.svg"})
    titles = re.findall(r"^## (.+)$", printed, re.M)
    assert titles == ["Targets", *SECTIONS]
    assert "![Burn curve and forecast](october-burn.svg)" in printed
    for block in re.findall(r"(?:^\|.*\n)+", printed, re.M):
        rows = [re.split(r"(?<!\\)\|", line) for line in block.splitlines()]
        assert len({len(row) for row in rows}) == 1, block
        assert set("".join(rows[1])) <= {"-", ":"}
    assert "No profile" in printed


def test_html_is_one_page_that_needs_nothing_else(doc: Document, drawn: dict[str, str]) -> None:
    page = render.html(doc, drawn)
    assert [it for it in SECTIONS if f"<h2>{it}</h2>" not in page] == []
    assert page.count("<svg") == 3
    assert "prefers-color-scheme: dark" in page
    addresses = set(re.findall(r'(?:href|src)="([^"]+)"', page))
    assert all(it.startswith("#") for it in addresses)
    assert "<script" not in page


def test_no_name_breaks_out_of_the_report(doc: Document, drawn: dict[str, str]) -> None:
    page, printed = render.html(doc, drawn), render.markdown(doc, {})
    assert "&lt;script&gt;" in page and "<script" not in page
    assert "<script" not in printed
    assert all("alert" not in line for line in printed.splitlines() if line.startswith("#"))


def test_every_chart_is_an_svg_in_the_pages_own_colour(drawn: dict[str, str]) -> None:
    assert list(drawn) == ["burn", "budgets", "mix"]
    for text in drawn.values():
        root = ET.fromstring(text)
        assert root.get("aria-label") and root.get("role") == "img"
        assert "currentColor" in text and "prefers-color-scheme:dark" in text
        # Black or white text, or a white background, would vanish on one of the two pages.
        assert not re.search(r"fill: ?#(?:000000|ffffff|010203)", text)
        assert "<dc:date>" not in text


def test_the_same_month_gives_the_same_bytes(found: Figures, drawn: dict[str, str]) -> None:
    assert charts(found)["budgets"] == drawn["budgets"]


def test_json_names_units_and_leaves_unknown_as_null(found: Figures) -> None:
    told = json.loads(json.dumps(render.as_dict(found, None)))
    assert told["report_format"] == 1 and told["period_id"] == "2026-10"
    assert told["total"]["charged_nano_usd"] == found.total.charged
    assert told["against_baseline"]["other_nano_usd"] == 550 * USD
    assert told["quality"] is None and told["closed_ms"] is None
    assert told["burn"][-1]["spent_nano_usd"] == found.total.charged
    assert len(told["budgets"]) == 5


def test_the_verdicts_say_what_is_missed(doc: Document) -> None:
    states = {it.name: it.state for it in doc.verdicts}
    assert states["Savings against the baseline"] == "good"
    assert {it.value for it in doc.verdicts if it.state == "unknown"} <= {"–"}


def test_an_empty_month_says_that_nothing_is_known() -> None:
    tally = Tally(setting("2026-10"))
    empty = figures(tally, None, Books((), {}, (), None, ms("2026-10-05T00:00"), None, None))
    made = document(empty, None)
    assert {it.state for it in made.verdicts} == {"unknown"}
    printed = render.markdown(made, {})
    for sentence in ("nothing to extrapolate", "No answer could be judged", "Nothing was refused"):
        assert sentence in printed
    assert charts(empty) == {}
