"""Pages and panels as HTML: Jinja2 with escaping on, our own templates only, undefined is an error.

Jinja2 and the templates are loaded by whoever opens the dashboard first. Rendering runs in a
thread, so that the requests of others do not wait for it.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from budgets import money

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

STATIC = {
    "board.css": "text/css; charset=utf-8",
    "board.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
"""The files that pages refer to, with their media types. There are no others."""

FORM_TOKEN = f"form-{secrets.token_hex(16)}"
"""Stands for the session's form token in what is rendered for everybody, and is then replaced. No
text from outside can hold it: it is a secret of this process."""


@cache
def static(name: str) -> bytes:
    """Return a file that pages refer to."""
    return (files("hooks.board") / "static" / name).read_bytes()


@cache
def static_version() -> str:
    """Return a text that changes with the files, so that a browser may keep them."""
    return hashlib.sha256(b"".join(static(name) for name in sorted(STATIC))).hexdigest()[:12]


async def render(template: str, zone: str, **values: Any) -> str:
    """Return a template filled in; times are told in `zone`."""
    return await asyncio.to_thread(_render, template, zone, values)


def _render(template: str, zone: str, values: Mapping[str, Any]) -> str:
    made = _environment().get_template(template)
    return made.render(zone=zone, when=_When(zone), static_version=static_version(), **values)


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    from hooks.board import charts

    folder = str(files("hooks.board") / "templates")
    made = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals |= {"charts": charts, "form_token": FORM_TOKEN}
    made.filters |= {
        "usd": dollars, "cost": cost, "percent": percent, "words": words, "number": number,
        "plural": plural, "span": span,
    }  # fmt: skip
    return made


@cache
def warm() -> None:
    """Load every template: while somebody types a key, and not when they want to see a page."""
    made = _environment()
    for name in made.list_templates():
        made.get_template(name)


# ── filters ──────────────────────────────────────────────────────────────────────────────────────


def dollars(nano_usd: int | None) -> str:
    """Return an amount of a budget; a dash where it is not known."""
    if nano_usd is None:
        return "–"
    whole, _, places = money.dollars(nano_usd).partition(".")
    return f"{whole}.{places.rstrip('0'):0<2}"


def cost(nano_usd: int | None) -> str:
    """Return the cost of a request: exact enough to see a small one."""
    return "–" if nano_usd is None else money.cost(nano_usd)


def percent(part: float | None, places: int = 0) -> str:
    """Return a fraction as percent; a dash where it is not known. Nothing rounds up to 100 %."""
    if part is None:
        return "–"
    if 0.99 < part < 1 and places == 0:
        return "99 %"
    if 0 < part < 0.01 and places == 0:
        return "< 1 %"
    return f"{part * 100:.{places}f} %"


def number(value: int | None) -> str:
    """Return a whole number; a dash where it is not known."""
    return "–" if value is None else f"{value:,}"


def words(name: object) -> str:
    """Return a name of code as words."""
    return str(name).replace("_", " ")


def plural(count: int, one: str, many: str = "") -> str:
    """Return a count with its noun."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def span(milliseconds: int) -> str:
    """Return a length of time in its largest unit."""
    seconds = max(0, milliseconds) // 1000
    for name, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {name}"
    return f"{seconds} s"


class _When:
    """Tells instants (Unix ms) in the policy's time zone."""

    def __init__(self, zone: str) -> None:
        self._zone = ZoneInfo(zone)

    def __call__(self, time_ms: int | None, form: str = "%Y-%m-%d %H:%M") -> str | Markup:
        """Return a `<time>` element; a dash where there is none."""
        from markupsafe import Markup

        if time_ms is None:
            return "–"
        at = datetime.fromtimestamp(time_ms / 1000, UTC)
        return Markup('<time datetime="{}">{}</time>').format(
            at.isoformat(timespec="seconds"), self.text(time_ms, form)
        )

    def text(self, time_ms: int, form: str = "%Y-%m-%d %H:%M") -> str:
        """Return the instant as text."""
        return datetime.fromtimestamp(time_ms / 1000, UTC).astimezone(self._zone).strftime(form)
