"""What a report is made of: types only. Texts are plain: whoever shows them escapes them."""

from __future__ import annotations

from dataclasses import dataclass, field

DASH = "–"
"""What shows where nothing is known."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A measure against its target; `state` is `good`, `bad`, or `unknown`."""

    name: str
    value: str
    target: str
    state: str


@dataclass(frozen=True, slots=True)
class Table:
    """A table; the columns at the places in `right` hold numbers."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: frozenset[int]


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the report: sentences before its chart and tables, notes after them."""

    title: str
    sentences: tuple[str, ...] = ()
    chart: str = ""
    tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Document:
    """The report."""

    title: str
    facts: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]
    verdicts: tuple[Verdict, ...]
    sections: tuple[Section, ...] = field(default_factory=tuple)
