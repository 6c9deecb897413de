"""What every command prints with: safe texts, amounts, times, tables, JSON.

Names in a ledger come from callers, so nothing of it reaches the terminal raw: `clean` makes
control characters visible, and no text is ever read as Rich's markup. JSON goes to standard output
and is ASCII, notes and errors go to standard error.
"""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from budgets import money

TEXT_LENGTH_MAX = 2_000
BAR_CELLS = 8

# Cc: controls such as ESC. Cf: invisible marks, among them those that turn the reading direction.
# Zl, Zp: line ends that are not in Cc. Cs: half a character, which cannot be written at all.
_UNSAFE_CATEGORIES = frozenset({"Cc", "Cf", "Zl", "Zp", "Cs"})


def console() -> Console:
    """Return the console for what a command was asked for."""
    return Console(highlight=False, markup=False, emoji=False)


def notes() -> Console:
    """Return the console for notes, progress and errors: standard error."""
    return Console(stderr=True, highlight=False, markup=False, emoji=False)


def clean(value: object, length_max: int = TEXT_LENGTH_MAX) -> str:
    """Return a text that is safe to print on one line: control characters show as `\\x1b`."""
    text = str(value)
    if not text.isprintable():
        text = "".join(_visible(character) for character in text)
    return text if len(text) <= length_max else text[: length_max - 1] + "…"


def _visible(character: str) -> str:
    if unicodedata.category(character) not in _UNSAFE_CATEGORIES:
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def text(value: object, style: str = "") -> Text:
    """Return a cleaned text for Rich, in a style."""
    return Text(clean(value), style=style)


def lines(value: str, style: str = "") -> Text:
    """Return a cleaned text of several lines."""
    return Text("\n".join(clean(line) for line in value.split("\n")), style=style)


def as_json(document: Any) -> str:
    """Return JSON that is safe on any terminal: ASCII, without control characters."""
    return json.dumps(document, indent=2, default=str).replace("\x7f", "\\u007f")


def json_line(document: Any) -> str:
    """Return JSON on one line."""
    return json.dumps(document, default=str, separators=(",", ":")).replace("\x7f", "\\u007f")


def write_json(document: Any) -> None:
    """Print a document as JSON, unstyled and unwrapped."""
    sys.stdout.write(as_json(document) + "\n")


def write_json_line(document: Any) -> None:
    """Print a document as one line of JSON and pass it on at once, for whoever reads a pipe."""
    sys.stdout.write(json_line(document) + "\n")
    sys.stdout.flush()


def amount(name: str, nano_usd: int | None) -> dict[str, Any]:
    """Return an amount's two JSON fields: whole nanodollars, and exact decimal US dollars."""
    exact = None if nano_usd is None else money.plain(nano_usd)
    return {f"{name}_nano_usd": nano_usd, f"{name}_usd": exact}


def dollars(nano_usd: int | None) -> str:
    """Return an amount of a budget for people: cents, and more digits where cents show nothing."""
    return "–" if nano_usd is None else money.dollars(nano_usd)


def cost(nano_usd: int | None) -> str:
    """Return the cost of a request for people: to the microdollar below one dollar."""
    return "–" if nano_usd is None else money.cost(nano_usd)


def percent(share: Decimal | float | None, places: int = 1) -> str:
    """Return a fraction as percent; a dash where there is none."""
    return "–" if share is None else f"{share * 100:.{places}f} %"


def share(part: int, whole: int) -> float | None:
    """Return part / whole; None of nothing."""
    return part / whole if whole else None


def used(spent: int, limit: int, style: str = "") -> Text:
    """Return the percent of a limit that is spent. Nothing is rounded up to a full 100 %."""
    if limit <= 0:
        return Text("limit 0", style=style)
    percent_spent = spent * 100 // limit
    label = "<1" if spent and not percent_spent else str(percent_spent)
    return Text(f"{label} %", style=style)


def used_bar(spent: int, held: int, limit: int, style: str = "") -> Text:
    """Return a bar of what is spent (full) and held (light) of a limit, with the percent spent."""
    filled = _cells(spent, limit)
    light = _cells(spent + held, limit) - filled
    full, half, empty = "█▓░" if _is_unicode() else "#+."
    bar = Text(full * filled + half * light, style=style or "green")
    bar.append(empty * (BAR_CELLS - filled - light), style="dim")
    label = used(spent, limit, style)
    bar.append(" " * max(1, 6 - len(label)))
    return bar.append_text(label)


def _cells(part: int, limit: int) -> int:
    """Return the cells of a bar: one for anything at all, all of them only at the limit."""
    if part >= limit:
        return BAR_CELLS
    return 0 if part <= 0 else min(BAR_CELLS - 1, -(-part * BAR_CELLS // limit))


def _is_unicode() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "").startswith("utf")


def time_text(time_ms: int | None, zone: str = "UTC", form: str = "%Y-%m-%d %H:%M:%S") -> str:
    """Return an instant (Unix ms) for people, in the policy's time zone."""
    if time_ms is None:
        return "–"
    return datetime.fromtimestamp(time_ms / 1000, UTC).astimezone(ZoneInfo(zone)).strftime(form)


def time_iso(time_ms: int | None) -> str | None:
    """Return an instant (Unix ms) as ISO 8601 in UTC, to the millisecond."""
    if time_ms is None:
        return None
    moment = datetime.fromtimestamp(time_ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def duration_short(milliseconds: int) -> str:
    """Return a length of time in its largest unit, such as `2 d`."""
    return " ".join(duration_text(milliseconds).split(" ")[:2])


def duration_text(milliseconds: int) -> str:
    """Return a length of time in its two largest units, such as `2 d 4 h`."""
    seconds = max(0, milliseconds) // 1000
    units = [("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)]
    for position, (name, size) in enumerate(units):
        if seconds >= size:
            first = f"{seconds // size} {name}"
            rest = seconds % size
            if position + 1 < len(units) and rest >= units[position + 1][1]:
                after, after_size = units[position + 1]
                return f"{first} {rest // after_size} {after}"
            return first
    return "0 s"


def table(*columns: str, title: str = "", right: Sequence[str] = ()) -> Table:
    """Return a table in the house style; the columns named in `right` hold numbers."""
    made = Table(
        title=title or None,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        header_style="bold",
    )
    for name in columns:
        is_number = name in right
        made.add_column(
            name,
            justify="right" if is_number else "left",
            no_wrap=is_number,
            overflow="ellipsis" if is_number else "fold",
        )
    return made


def facts(rows: Mapping[str, Text | str]) -> Table:
    """Return a list of named facts, one a line."""
    made = Table.grid(padding=(0, 2))
    made.add_column(style="bold", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in rows.items():
        made.add_row(name, value if isinstance(value, Text) else text(value))
    return made
