"""The cost log, a Markdown table that people keep in a repository: a line a day, session and model.

Entries come in the order of their time, so a day is written as soon as the next one begins, and
memory holds one day.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from scripts.cli.entry_view import EntryView
from scripts.cli.output import clean, cost, time_text

COLUMNS = ("Date", "Session", "Model", "Tasks", "Input Tokens", "Output Tokens", "Est. Cost")


@dataclass(slots=True)
class _Sums:
    tasks: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    unknown: int = 0
    charged: int = 0


class CostLog:
    """Turns entries into the lines of the table. Tokens that nobody reported show as `≥`, or a dash
    where none are known."""

    def __init__(self, zone: str) -> None:
        self._zone = zone
        self._day = ""
        self._sums: dict[tuple[str, str], _Sums] = {}

    def head(self) -> str:
        """Return the first two lines."""
        line = f"| {' | '.join(COLUMNS)} |"
        return f"{line}\n|---|---|---|---:|---:|---:|---:|\n"

    def add(self, line: EntryView) -> Iterator[str]:
        """Add an entry; yield the lines of a day that is over by it."""
        if line.entry.kind == "voided":
            return
        day = time_text(line.entry.time_ms, self._zone, "%Y-%m-%d")
        if day != self._day:
            yield from self.end()
            self._day = day
        model = line.body.get("serving_model") or line.body.get("group")
        key = (str(line.body.get("session") or "–"), str(model or "–"))
        sums = self._sums.setdefault(key, _Sums())
        sums.charged += line.charged_nano_usd
        sums.tasks += line.entry.kind != "corrected"
        usage = line.usage
        if usage is None:
            sums.unknown += 1
        else:
            sums.input_tokens += usage.input_tokens
            sums.output_tokens += usage.output_tokens

    def end(self) -> Iterator[str]:
        """Yield the lines of the last day."""
        for (session, model), sums in sorted(self._sums.items()):
            cells = (
                self._day,
                _cell(session),
                _cell(model),
                f"{sums.tasks:,}",
                _tokens(sums.input_tokens, sums),
                _tokens(sums.output_tokens, sums),
                cost(sums.charged),
            )
            yield f"| {' | '.join(cells)} |\n"
        self._sums = {}


def _tokens(count: int, sums: _Sums) -> str:
    if not sums.unknown:
        return f"{count:,}"
    return f"≥ {count:,}" if count else "–"


def _cell(text: str) -> str:
    shown = clean(text, 60).replace("\\", "\\\\").replace("|", "\\|")
    return shown.replace("<", "&lt;").replace("`", "'")
