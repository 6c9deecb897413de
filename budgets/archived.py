"""What the ledger knows of its archive: lines as they are stored, parts, and their sums.

Entries that are old enough leave Redis for files (see `archive`). The ledger keeps of them the id
up to which they are archived, one record for each file, and the sum of each counter's charges in
them: so the books can be proved without the files, and the files against the books.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from budgets.jsontext import loads

CounterName = tuple[str, str]
"""A counter's budget and period id."""

IN_REDIS = "the sums recorded in Redis"
LIVE = "the live stream"


@dataclass(slots=True)
class Sums:
    """What entries have added to each counter, in nanodollars: to `spent`, and to the part of it
    that is `unreconciled`. Grows by `add` and `add_up`."""

    charged: dict[CounterName, int] = field(default_factory=dict)
    unreconciled: dict[CounterName, int] = field(default_factory=dict)

    def add(self, line: EntryLine) -> None:
        """Add one entry."""
        _add(self.charged, line.charges)
        _add(self.unreconciled, line.unreconciled)

    def add_up(self, more: Sums) -> None:
        """Add other sums."""
        _add(self.charged, more.charged)
        _add(self.unreconciled, more.unreconciled)

    def names(self) -> set[CounterName]:
        """Return the counters that anything was added to."""
        return self.charged.keys() | self.unreconciled.keys()

    def parts_from(self, other: Sums) -> set[CounterName]:
        """Return the counters that these sums tell something else about."""
        return {name for name in self.names() | other.names() if self.of(name) != other.of(name)}

    def of(self, name: CounterName) -> tuple[int, int]:
        """Return what was charged to a counter, and how much of it is unreconciled."""
        return self.charged.get(name, 0), self.unreconciled.get(name, 0)


def _add(sums: dict[CounterName, int], more: Mapping[CounterName, int]) -> None:
    for name, amount in more.items():
        sums[name] = sums.get(name, 0) + amount


class ArchiveMoved(Exception):
    """The archive has grown since the caller looked at it: nothing was done, look again."""


@dataclass(frozen=True, slots=True)
class EntryLine:
    """An entry as it is stored: its id and its fields as texts, those of newer releases too."""

    id: str
    fields: Mapping[str, str]

    @property
    def time_ms(self) -> int:
        """When it was written (Unix ms, by the ledger's clock)."""
        return int(self.fields["time"])

    @property
    def charges(self) -> dict[CounterName, int]:
        """What it added to each counter, in nanodollars."""
        return charges_of(self.fields["charges"])

    @property
    def unreconciled(self) -> dict[CounterName, int]:
        """What it added to the unreconciled part of each counter, in nanodollars."""
        text = self.fields.get("unreconciled")
        return charges_of(text) if text else {}


@dataclass(frozen=True, slots=True)
class ArchivedPart:
    """One file of the archive: the `entries` beyond the id `after`, from `first` to `last`.

    `number` counts the parts of a ledger from 1. `sha256` is of the file's bytes, in hex.
    """

    number: int
    file: str
    sha256: str
    after: str
    first: str
    last: str
    entries: int

    def to_json(self) -> str:
        """Return the text for the store."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ArchivedPart:
        """Return the part of a text from the store; what a newer release added is left out."""
        known = {name: value for name, value in json.loads(text).items() if name in cls.__slots__}
        return cls(**known)


@dataclass(frozen=True, slots=True)
class ArchiveState:
    """How far the archive reaches: the id of its last entry (empty: nothing), and its parts."""

    to: str
    entries: int
    parts: tuple[ArchivedPart, ...]


@dataclass(frozen=True, slots=True)
class ArchivedSums:
    """The sums of the archive up to the id `to`, as added up from its files.

    `damaged` is the first file that is missing or not as it was written, empty where all are sound;
    `parted` names, for each counter that such a file tells something else about, that file.
    """

    to: str
    sums: Sums
    damaged: str = ""
    parted: Mapping[CounterName, str] = field(default_factory=dict)


def charges_of(text: str) -> dict[CounterName, int]:
    """Return the charges of an entry's stored text."""
    return {(budget, period_id): int(amount) for budget, period_id, amount in loads(text)}


def charges_text(charges: Mapping[CounterName, int]) -> str:
    """Return charges as they are stored: a JSON list of [budget, period, amount as a text]."""
    return json.dumps(
        [[*name, str(amount)] for name, amount in charges.items()], separators=(",", ":")
    )
