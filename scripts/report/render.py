"""A document as Markdown or HTML, and figures as JSON. Jinja2 is imported with this module.

Names in a report come from callers, so every text is escaped for the form it is shown in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from budgets.months.lines import Figures
from budgets.months.snapshot import Snapshot
from scripts.cli.output import time_iso
from scripts.report.shape import Document

TEMPLATES = Path(__file__).parent / "templates"
MONEY = frozenset(
    {
        "actual", "baseline_month", "carried", "carry", "charged", "forecast", "granted", "held",
        "instead", "judged_actual", "judged_estimate", "limit", "other", "proposed_limit",
        "savings", "spent",
    }
)  # fmt: skip
"""The fields of figures that are nanodollars; in JSON their names say so."""


def markdown(doc: Document, charts: Mapping[str, str]) -> str:
    """Return the report as Markdown; `charts` has the files of the charts by name."""
    text = _environment().get_template("report.md.j2").render(doc=doc, charts=charts)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def html(doc: Document, charts: Mapping[str, str]) -> str:
    """Return the report as one HTML page; `charts` has the charts' SVG by name."""
    return _environment().get_template("report.html.j2").render(doc=doc, charts=charts) + "\n"


def as_dict(found: Figures, snapshot: Snapshot | None) -> dict[str, Any]:
    """Return the figures for JSON: names of nanodollars end in `_nano_usd`, None is unknown."""
    burn = [
        {"day": day, "spent_nano_usd": total, "categories_nano_usd": dict(by)}
        for day, total, by in found.burn
    ]
    return {
        "report_format": 1,
        **_named({**asdict(found), "burn": burn}),
        "start": time_iso(found.start_ms),
        "end": time_iso(found.end_ms),
        "estimate_error": found.total.estimate_error,
        "snapshot_digest": None if snapshot is None else snapshot.digest,
    }


def _named(value: Any) -> Any:
    match value:
        case dict():
            return {
                f"{name}_nano_usd" if name in MONEY and not isinstance(it, dict) else name: _named(
                    it
                )
                for name, it in value.items()
            }
        case list() | tuple():
            return [_named(it) for it in value]
    return value


def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=lambda name: bool(name and name.endswith(".html.j2")),
        undefined=StrictUndefined,
        keep_trailing_newline=False,
    )
    made.filters["md"] = _md
    made.filters["md_code"] = _md_code
    made.filters["code"] = _code
    return made


def _md(text: str) -> str:
    """Return a text whose characters mean nothing to Markdown."""
    escaped = re.sub(r"([\\*_\[\]|#~`])", r"\\\1", str(text))
    return escaped.replace("<", "&lt;").replace(">", "&gt;")


def _md_code(text: str) -> str:
    """Return a sentence of our own as Markdown, its words in backticks as code."""
    parts = str(text).split("`")
    return "`".join(part if place % 2 else _md(part) for place, part in enumerate(parts))


def _code(text: str) -> Markup:
    """Return a sentence of our own as HTML, its words in backticks as code."""
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(text))))
