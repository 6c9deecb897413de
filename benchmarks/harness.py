"""What every benchmark here shares: the order of rounds, progress, and the pages with the figures.

A comparison has sides (stock LiteLLM, Farebox, …) that are measured in rounds, each side once a
round, the order turning by one every round: what the machine does meanwhile falls on all of them.
Ratios and differences are taken within a round and told as a median with quartiles.

A page is `benchmarks/NAME.md`: conditions and tables are written anew by every run that is kept,
and what a person wrote below the line `<!-- notes -->` stays. The figures are in
`results/NAME.json`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import machine
from benchmarks.figures import Comparison, Spread, compare

FOLDER = Path(__file__).resolve().parent
NOTES = "<!-- notes -->"


def turning(sides: int, rounds: int) -> list[tuple[int, ...]]:
    """Return the order of the sides in each round: each goes first equally often.

    Every other turn runs backwards, so that no side always follows the same one.
    """
    orders = []
    for i in range(rounds):
        order = [(place + i) % sides for place in range(sides)]
        orders.append(tuple(order if (i // sides) % 2 == 0 else reversed(order)))
    return orders


def against_first(taken: Sequence[Sequence[float]]) -> list[Comparison]:
    """Return each side's comparison with the first one; `taken` has a row of sides a round."""
    return [compare([(row[0], row[side]) for row in taken]) for side in range(1, len(taken[0]))]


@dataclass(slots=True)
class Table:
    """A table of a page: rows of cells that are written already, under a heading."""

    title: str
    head: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)
    text: str = ""

    def add(self, *cells: object) -> None:
        """Add a row."""
        self.rows.append(tuple(str(cell) for cell in cells))

    def markdown(self) -> str:
        """Return the table as Markdown, with its heading."""
        lines = [f"## {self.title}"]
        if self.text:
            lines.append(self.text)
        lines += ["", "| " + " | ".join(self.head) + " |", "|" + "---|" * len(self.head)]
        lines += ["| " + " | ".join(row) + " |" for row in self.rows]
        return "\n".join(lines)


@dataclass(slots=True)
class Report:
    """What one benchmark found: figures for JSON, tables for people."""

    name: str
    title: str
    intro: str
    figures: dict[str, Any]
    tables: list[Table]
    described: dict[str, Any] = field(default_factory=machine.describe)

    def markdown(self) -> str:
        """Return the page's written part, which a run makes."""
        parts = [f"# {self.title}", self.intro, conditions(self.described)]
        return "\n\n".join([*parts, *(table.markdown() for table in self.tables)]) + "\n"

    def keep(self, folder: Path = FOLDER) -> Path:
        """Write the page and the figures; return the page's path."""
        self.described["load_average_after"] = [round(load, 2) for load in os.getloadavg()]
        results = folder / "results"
        results.mkdir(parents=True, exist_ok=True)
        data = {"machine": self.described, **self.figures}
        text = json.dumps(data, indent=1, default=_plain) + "\n"
        (results / f"{self.name}.json").write_text(text, "utf-8")
        page = folder / f"{self.name}.md"
        before = page.read_text("utf-8") if page.exists() else ""
        notes = before.partition(NOTES)[2]
        page.write_text(f"{self.markdown()}\n{NOTES}{notes or chr(10)}", "utf-8")
        return page


def conditions(found: Mapping[str, Any]) -> str:
    """Return the sentence that says what was measured on what."""
    packages = ", ".join(f"{name} {number}" for name, number in found["packages"].items())
    edited = " with uncommitted changes" if found["edited"] else ""
    loads = found["load_average"]
    after = found.get("load_average_after")
    load = f"{loads[0]}" + (f" before and {after[0]} after" if after else "")
    return (
        f"**Conditions.** {found['date'][:10]}; {found['processors']} processors of "
        f"{found['processor'] or 'an unknown make'}, {found['system']}, Python {found['python']}, "
        f"{_short(found['redis_server'])}, {packages}. Revision {found['revision']}{edited}. Load "
        f"average {load}; clients, proxies and Redis share the processors."
    )


def _short(version: str | None) -> str:
    """Return `Redis 6.2.14` of what the server says about itself."""
    for word in (version or "").split():
        if word.startswith("v="):
            return f"Redis {word[2:]}"
    return "an unknown Redis"


def spread(it: Spread, digits: int = 2, sign: bool = False) -> str:
    """Return a median with its quartiles, or alone where there is one value."""
    form = f"{'+' if sign else ''},.{digits}f"
    told = format(it.median, form)
    if it.count == 1:
        return told
    return f"{told} ({format(it.quarter, form)} to {format(it.three_quarters, form)})"


def _plain(value: object) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(f"{type(value).__name__} is no figure")


class Steps:
    """A progress bar on standard error; one step is one burst, or whatever takes its time."""

    def __init__(self, progress: Progress, task: Any) -> None:
        self._progress, self._task = progress, task

    def more(self, count: int) -> None:
        """Expect so many steps more."""
        total = self._progress.tasks[0].total or 0
        self._progress.update(self._task, total=total + count)

    def done(self, what: str = "") -> None:
        """One step is done; `what` is shown beside the bar."""
        if what:
            self._progress.update(self._task, description=what)
        self._progress.advance(self._task)

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        self._progress.console.print(f"bench: {text}", markup=False, highlight=False)


@contextmanager
def steps(title: str, total: int = 0) -> Iterator[Steps]:
    """Show how far a benchmark is."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console) as progress:
        yield Steps(progress, progress.add_task(title, total=total))
