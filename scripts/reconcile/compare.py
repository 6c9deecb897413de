"""An export against the ledger: what each says of a day and model, and what is left over. Pure.

The ledger's side is what each provider should have billed: of a request that went on to another
provider, each attempt with its own cost. Simulated requests and cache hits are billed by nobody.
A residual is the export less the ledger: above zero, the provider bills more than Farebox knows of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from scripts.cli.entry_view import EntryView
from scripts.reconcile.invoices import Invoice, InvoiceLine, model_key

Place = tuple[str, str]
"""Provider and model."""
Key = tuple[str, str]
"""Day and model."""


_INPUT = ("input", "cached_read", "cache_write")


@dataclass(slots=True)
class Side:
    """What one side says of a day and model; `without_tokens` are requests whose usage is not
    known."""

    cost: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    requests: int = 0
    without_tokens: int = 0

    def add(self, more: Side) -> None:
        """Add another."""
        self.cost += more.cost
        self.input_tokens += more.input_tokens
        self.output_tokens += more.output_tokens
        self.requests += more.requests
        self.without_tokens += more.without_tokens


@dataclass(frozen=True, slots=True)
class Line:
    """Both sides of a day and model, or of a sum of them; `invoice` is None where it is silent."""

    day: str
    model: str
    invoice: Side | None
    ledger: Side | None

    def residual(self, costs: bool) -> int:
        """Return the export less the ledger: nanodollars, or tokens."""
        return _measure(self.invoice, costs) - _measure(self.ledger, costs)

    def share(self, costs: bool) -> float | None:
        """Return the residual's part of what the export says; None of nothing."""
        whole = _measure(self.invoice, costs)
        return abs(self.residual(costs)) / whole if whole else None

    def is_within(self, costs: bool, tolerance: float, least: int) -> bool:
        """Say whether the residual is a part of at most `tolerance`, or not above `least`."""
        residual = abs(self.residual(costs))
        share = self.share(costs)
        return residual <= least or (share is not None and share <= tolerance)


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """The comparison: by day and model, by model, and in all."""

    invoice: Invoice
    first_day: str
    last_day: str
    lines: tuple[Line, ...]
    models: tuple[Line, ...]
    total: Line
    simulated: int


class LedgerSide:
    """Adds up what a provider should have billed.

    Args:
        provider: whose share is wanted.
        place_of: the provider and model that a group sends to; None where it is not known.
    """

    def __init__(self, provider: str, place_of: Callable[[str], Place | None]) -> None:
        self._provider = provider
        self._place_of = place_of
        self.sides: dict[Key, Side] = {}
        self.simulated = 0

    def add(self, line: EntryView) -> None:
        """Add an entry."""
        if line.entry.kind == "voided" or "cache_hit" in line.marks:
            return
        if "simulated" in line.marks:
            self.simulated += 1
            return
        day = datetime.fromtimestamp(line.entry.time_ms / 1000, UTC).date().isoformat()
        served = self._served(line)
        rest = line.charged_nano_usd
        if line.entry.kind != "corrected":
            # What failed before the answer was billed by whoever it was sent to.
            for place, cost in self._failed(line, served):
                rest -= cost
                self._side(day, place).cost += cost
            for place, tokens in self._beside(line):
                side = self._side(day, place)
                side.requests += 1
                side.input_tokens += sum(tokens.get(name, 0) for name in _INPUT)
                side.output_tokens += tokens.get("output", 0)
        if served is None:
            return
        side = self._side(day, served)
        side.cost += rest
        usage = line.usage
        if line.entry.kind != "corrected":
            side.requests += 1
            side.without_tokens += usage is None
        if usage is not None:
            side.input_tokens += usage.input_tokens
            side.output_tokens += usage.output_tokens

    def _served(self, line: EntryView) -> Place | None:
        group = line.body.get("serving_group") or line.body.get("group")
        known = self._place_of(str(group)) if group else None
        provider = line.body.get("provider") or (known[0] if known else None)
        model = line.body.get("serving_model") or (known[1] if known else None)
        return (str(provider), str(model)) if provider and model else None

    def _failed(self, line: EntryView, served: Place | None) -> Iterable[tuple[Place, int]]:
        attempts = line.body.get("attempts")
        group = line.body.get("serving_group")
        for attempt in attempts if isinstance(attempts, list) else []:
            cost = attempt.get("cost_nano_usd") if isinstance(attempt, dict) else None
            if isinstance(cost, int) and cost and attempt.get("group") != group:
                place = self._place_of(str(attempt.get("group")))
                if place is not None and place != served:
                    yield place, cost

    def _beside(self, line: EntryView) -> Iterable[tuple[Place, Mapping[str, int]]]:
        """Yield the answers of a gated request besides the one that the entry's tokens are of."""
        gate, attempts = line.body.get("gate"), line.body.get("attempts")
        told = gate.get("send") if isinstance(gate, Mapping) else None
        if told is None or not isinstance(attempts, list):
            return
        for attempt in attempts:
            tokens = attempt.get("tokens")
            if isinstance(tokens, Mapping) and attempt.get("send") != told:
                place = self._place_of(str(attempt.get("group")))
                if place is not None:
                    yield (place[0], str(attempt.get("model") or place[1])), tokens

    def _side(self, day: str, place: Place) -> Side:
        if place[0] != self._provider:
            return Side()  # Another provider's bill; what is added to it is forgotten.
        return self.sides.setdefault((day, model_key(place[1])), Side())


def compare(invoice: Invoice, ledger: LedgerSide, first_day: str, last_day: str) -> Reconciliation:
    """Return both sides by day and model, for the days of the export."""
    sides: dict[Key, Side] = {}
    for line in invoice.lines:
        sides.setdefault((line.day, line.model), Side()).add(_side_of(line))
    days = {it: side for it, side in ledger.sides.items() if first_day <= it[0] <= last_day}
    lines = [
        Line(*key, sides.get(key), days.get(key)) for key in sorted(sides.keys() | days.keys())
    ]
    models = [
        Line("", model, _sum(it.invoice for it in group), _sum(it.ledger for it in group))
        for model in sorted({it.model for it in lines})
        if (group := [it for it in lines if it.model == model])
    ]
    total = Line("", "", _sum(it.invoice for it in lines), _sum(it.ledger for it in lines))
    return Reconciliation(
        invoice, first_day, last_day, tuple(lines), tuple(models), total, ledger.simulated
    )


def _side_of(line: InvoiceLine) -> Side:
    return Side(line.cost or 0, line.input_tokens or 0, line.output_tokens or 0, line.requests or 0)


def _sum(sides: Iterable[Side | None]) -> Side | None:
    found = [it for it in sides if it is not None]
    if not found:
        return None
    total = Side()
    for it in found:
        total.add(it)
    return total


def _measure(side: Side | None, costs: bool) -> int:
    if side is None:
        return 0
    return side.cost if costs else side.input_tokens + side.output_tokens
