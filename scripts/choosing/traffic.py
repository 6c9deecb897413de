"""What the ledger says of the traffic: tokens, costs and times by task type and group, by day.

Nothing is kept of a single request, and memory depends on the policy and the number of days. What a
simulator answered is counted apart: its times and lengths are no measurement of a model.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pydantic import ValidationError

from budgets.archive_files import ArchiveFolder
from budgets.entries import EntryBody
from budgets.ledger import Ledger, unwatched
from budgets.months.reading import Missing, entries_between
from budgets.records import LedgerEntry

LATENCIES_MAX = 4_096
UNTOLD = "unclassified"


@dataclass(slots=True)
class Load:
    """Sums of some requests. Input counts the cached tokens too."""

    requests: int = 0
    cost_nano_usd: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0

    def add(self, body: EntryBody, cost_nano_usd: int) -> None:
        """Add one request."""
        tokens = body.tokens
        self.requests += 1
        self.cost_nano_usd += cost_nano_usd
        self.input_tokens += tokens.input + tokens.cached_read + tokens.cache_write
        self.cached_tokens += tokens.cached_read
        self.output_tokens += tokens.output

    def add_up(self, more: Load) -> None:
        """Add other sums."""
        self.requests += more.requests
        self.cost_nano_usd += more.cost_nano_usd
        self.input_tokens += more.input_tokens
        self.cached_tokens += more.cached_tokens
        self.output_tokens += more.output_tokens


@dataclass(slots=True)
class Times:
    """Times of answers; of many, evenly spaced ones are kept."""

    kept: list[int] = field(default_factory=list)
    every: int = 1
    seen: int = 0

    def add(self, ms: int) -> None:
        """Add one time."""
        if self.seen % self.every == 0:
            self.kept.append(ms)
            if len(self.kept) >= LATENCIES_MAX:
                self.kept, self.every = self.kept[::2], self.every * 2
        self.seen += 1

    @property
    def median_ms(self) -> int | None:
        """The median; None of nothing."""
        return round(statistics.median(self.kept)) if self.kept else None


@dataclass(slots=True)
class Span:
    """How long something was seen: first and last time (Unix ms), and how often."""

    first_ms: int
    last_ms: int
    count: int = 0

    @property
    def days(self) -> float:
        """The days between the first and the last time."""
        return (self.last_ms - self.first_ms) / 86_400_000


@dataclass(slots=True)
class Traffic:
    """The traffic of a stretch of time.

    `cells` and `days` have what was answered: by (task type, group), and by date and task type.
    `fallbacks` are (category, group) where a group served that had not been decided on, `modes`
    says how long each mode was seen. `simulated` counts what a simulator answered, whose sums,
    times and modes are left out unless `include_simulated`. `missing` counts archived entries that
    could not be read.
    """

    start_ms: int
    end_ms: int
    include_simulated: bool = False
    cells: dict[tuple[str, str], Load] = field(default_factory=dict)
    days: dict[str, dict[str, Load]] = field(default_factory=dict)
    times: dict[str, Times] = field(default_factory=dict)
    task_types: Counter[str] = field(default_factory=Counter)
    modes: dict[str, Span] = field(default_factory=dict)
    fallbacks: Counter[tuple[str, str]] = field(default_factory=Counter)
    simulated_fallbacks: Counter[tuple[str, str]] = field(default_factory=Counter)
    entries: int = 0
    simulated: int = 0
    unreadable: int = 0
    missing: int = 0

    def add(self, entry: LedgerEntry) -> None:
        """Add one entry; a correction changes sums that stand already and is left out."""
        if entry.kind == "corrected":
            return
        try:
            body = EntryBody.from_json(entry.body)
        except ValidationError:
            self.unreadable += 1
            return
        self.entries += 1
        simulated = "simulated" in body.marks
        self.simulated += simulated
        task = body.task_type or UNTOLD
        self.task_types[task] += 1
        if not simulated or self.include_simulated:
            span = self.modes.setdefault(body.mode, Span(entry.time_ms, entry.time_ms))
            span.last_ms, span.count = entry.time_ms, span.count + 1
        group = body.serving_group or body.group
        if body.category and group and body.group and group != body.group:
            which = self.simulated_fallbacks if simulated else self.fallbacks
            which[body.category, group] += 1
        if body.status != "ok" or group is None or (simulated and not self.include_simulated):
            return
        if "cache_hit" in body.marks:
            return  # LiteLLM answered it: no model was asked.
        day = datetime.fromtimestamp(entry.time_ms / 1000, UTC).date().isoformat()
        self.cells.setdefault((task, group), Load()).add(body, entry.cost_nano_usd)
        self.days.setdefault(day, {}).setdefault(task, Load()).add(body, entry.cost_nano_usd)
        if body.latency_ms is not None:
            self.times.setdefault(group, Times()).add(body.latency_ms)

    @property
    def total(self) -> Load:
        """The sums of everything that was answered."""
        total = Load()
        for load in self.cells.values():
            total.add_up(load)
        return total

    def by_task_type(self) -> dict[str, Load]:
        """Return the sums of each task type."""
        found: dict[str, Load] = {}
        for (task, _), load in self.cells.items():
            found.setdefault(task, Load()).add_up(load)
        return found

    def as_told(self) -> str:
        """Return a sentence on what this rests on."""
        used = self.total.requests
        parts = [f"{used:,} answered requests of {self.entries:,} entries"]
        if self.simulated:
            how = "counted too" if self.include_simulated else "left out"
            parts.append(f"{self.simulated:,} simulated {how}")
        if self.unreadable:
            parts.append(f"{self.unreadable:,} entries could not be read")
        if self.missing:
            parts.append(f"{self.missing:,} archived ones could not be read")
        return ", ".join(parts)


async def read_traffic(
    ledger: Ledger,
    archive: ArchiveFolder | None,
    start_ms: int,
    end_ms: int,
    *,
    include_simulated: bool = False,
    watch: Callable[[int], None] = unwatched,
) -> Traffic:
    """Read the traffic between two instants (Unix ms).

    Raises:
        LedgerUnavailable: Redis does not answer.
    """
    traffic = Traffic(start_ms, end_ms, include_simulated)
    async for found in entries_between(ledger, archive, start_ms, end_ms):
        if isinstance(found, Missing):
            traffic.missing += found.entries
        elif start_ms <= found.time_ms < end_ms:
            watch(found.time_ms)
            traffic.add(found)
    return traffic
