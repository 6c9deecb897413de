"""Adds a month's entries, refusals and events up, one at a time: memory depends on the policy only.

Nothing is kept of a single request. Names that callers choose (sessions, teams) are bounded: of
many, those that cost most are kept, and the report says that others were left out.

An entry counts as one request but for `corrected`, which changes an earlier one by a difference,
and `voided`, of which nothing was sent or billed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from budgets.audit.trail import TrailLine
from budgets.jsontext import loads
from budgets.period import Period, kind_of
from budgets.prices import Price, TokenUsage
from budgets.records import LedgerEntry, LedgerEvent

NAMES_MAX = 5_000
TIERS = ("execute", "generate", "reason")
QUEUED = "queued"
"""The code of a request that waits for budget: it is recorded like a refusal, and is none."""
LACK_CODES = frozenset({"budget_exceeded", "approval_required", QUEUED})
"""The codes of requests that a budget was too small for."""
TRAIL_ACTIONS = ("approval", "grant", "transfer", "loan")
"""What the actions of the audit trail begin with that a month's report counts."""
QUEUE_EVENTS = "queue_"


@dataclass(frozen=True, slots=True)
class Setting:
    """What a month is judged by.

    `primaries` has each category's base group, `tiers` each group's tier, `price_of` its price
    (None: unknown), `frontier` the group that stands for all-frontier.
    """

    month: Period
    zone: str
    primaries: Mapping[str, str]
    tiers: Mapping[str, str]
    price_of: Callable[[str], Price | None]
    frontier: str | None


@dataclass(slots=True)
class Cell:
    """Sums of some requests: nanodollars and tokens. `without_tokens` had no usage reported;
    `judged` are answers whose estimate can be compared, with its two sums."""

    requests: int = 0
    charged: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    without_tokens: int = 0
    judged: int = 0
    judged_actual: int = 0
    judged_estimate: int = 0
    fallbacks: int = 0

    @property
    def estimate_error(self) -> float | None:
        """Return (actual - estimate) / actual over the judged; None where there is none."""
        if not self.judged_actual:
            return None
        return (self.judged_actual - self.judged_estimate) / self.judged_actual


class Names:
    """Cells by a name that callers choose; beyond `NAMES_MAX` the cheapest are left out."""

    def __init__(self) -> None:
        self.cells: dict[str, Cell] = {}
        self.left_out = 0

    def of(self, name: str) -> Cell:
        """Return the cell of a name."""
        if name not in self.cells and len(self.cells) >= 2 * NAMES_MAX:
            kept = sorted(self.cells.items(), key=lambda it: it[1].charged, reverse=True)
            self.left_out += len(kept) - NAMES_MAX
            self.cells = dict(kept[:NAMES_MAX])
        return self.cells.setdefault(name, Cell())

    def top(self, count: int) -> list[tuple[str, Cell]]:
        """Return the names that cost most."""
        return sorted(self.cells.items(), key=lambda it: (-it[1].charged, it[0]))[:count]


@dataclass(slots=True)
class Finding:
    """Requests of one task type that one group of another tier served.

    `instead` is what they would have cost at `instead_group`, for those whose tokens are known.
    """

    requests: int = 0
    charged: int = 0
    instead: int = 0
    instead_requests: int = 0
    high_consequence: int = 0


FindingKey = tuple[str, str, str, str, str]
"""Task type, its tier, the group that served, that group's tier, and why it was that one."""


@dataclass(slots=True)
class Tally:
    """The sums of one month."""

    setting: Setting
    total: Cell = field(default_factory=Cell)
    voided: int = 0
    corrected: int = 0
    addenda: int = 0
    unreadable: int = 0
    categories: dict[str, Cell] = field(default_factory=dict)
    models: dict[str, Cell] = field(default_factory=dict)
    task_types: dict[str, Cell] = field(default_factory=dict)
    teams: Names = field(default_factory=Names)
    sessions: Names = field(default_factory=Names)
    marks: dict[str, Cell] = field(default_factory=dict)
    days: dict[str, Counter[str]] = field(default_factory=dict)
    mix: dict[str, Counter[str]] = field(default_factory=dict)
    roles: dict[str, Counter[str]] = field(default_factory=dict)
    fallback_reasons: Counter[str] = field(default_factory=Counter)
    escalations: Counter[str] = field(default_factory=Counter)
    frontier_charged: int = 0
    frontier_instead: int = 0
    frontier_requests: int = 0
    over: dict[FindingKey, Finding] = field(default_factory=dict)
    under: dict[FindingKey, Finding] = field(default_factory=dict)
    refusals: dict[str, Counter[str]] = field(default_factory=dict)
    refused_estimate: Counter[str] = field(default_factory=Counter)
    refused_days: dict[str, set[str]] = field(default_factory=dict)
    queued: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    trail: Counter[str] = field(default_factory=Counter)
    by_approval: Cell = field(default_factory=Cell)
    first_ms: int | None = None
    _day_of: dict[int, str] = field(default_factory=dict)

    def wants(self, entry: LedgerEntry) -> bool:
        """Whether an entry belongs to the month: that of its charges, else that of its time."""
        months = {period_id for _, period_id in entry.charges if kind_of(period_id) == "month"}
        if months:
            return self.setting.month.id in months
        return self.setting.month.contains(entry.time_ms)

    def add(self, entry: LedgerEntry) -> None:
        """Add an entry that belongs to the month."""
        body = _object(entry.body)
        if not body:
            self.unreadable += 1
        if self.first_ms is None or entry.time_ms < self.first_ms:
            self.first_ms = entry.time_ms
        self.addenda += entry.addendum
        if entry.kind == "voided":
            self.voided += 1
            return
        corrects = entry.kind == "corrected"
        self.corrected += corrects
        charged = charged_of(entry)
        usage = usage_of(body)
        category = _name(body.get("category"))
        served = _text(body.get("serving_group"))
        group = served or _name(body.get("group"))
        day = self.day(entry.time_ms)
        cells = [
            self.total,
            self.categories.setdefault(category, Cell()),
            self.models.setdefault(group, Cell()),
            self.task_types.setdefault(_name(body.get("task_type")), Cell()),
            self.teams.of(_name(body.get("team"))),
        ]
        if session := _text(body.get("session")):
            cells.append(self.sessions.of(session))
        cells += [self.marks.setdefault(mark, Cell()) for mark in _marks(body)]
        if body.get("approval"):
            cells.append(self.by_approval)
        if entry.kind == "unreconciled":
            cells.append(self.marks.setdefault("unreconciled", Cell()))
        error = body.get("estimate_error")
        judged = isinstance(error, int | float) and not corrects and entry.cost_nano_usd > 0
        role = self._role(body, category, served) if not corrects else ""
        for cell in cells:
            cell.requests += not corrects
            cell.charged += charged
            if usage is not None:
                cell.input_tokens += usage.input_tokens
                cell.output_tokens += usage.output_tokens
            elif not corrects:
                cell.without_tokens += 1
            if judged:
                cell.judged += 1
                cell.judged_actual += entry.cost_nano_usd
                cell.judged_estimate += round(entry.cost_nano_usd * (1 - float(error or 0)))
            cell.fallbacks += role == "fallback"
        spent = self.days.setdefault(day, Counter())
        spent[""] += charged
        spent[category] += charged
        if corrects:
            return
        self.mix.setdefault(day, Counter())[group] += 1
        if role:
            self.roles.setdefault(category, Counter())[role] += 1
        self._escalation(body)
        if served and usage is not None:
            self._frontier(charged, usage)
            self._tiers(body, served, charged, usage, role)

    def refuse(self, refusal: LedgerEvent) -> None:
        """Add a refusal, if it is of the month."""
        if not self.setting.month.contains(refusal.time_ms):
            return
        body = _object(refusal.body)
        category = _name(body.get("category"))
        self._escalation(body)
        if refusal.kind == QUEUED:
            self.queued[category] += 1
        else:
            self.refusals.setdefault(refusal.kind, Counter())[category] += 1
        if refusal.kind in LACK_CODES - {QUEUED}:
            # What is queued runs later, and is charged then.
            estimate = body.get("estimate_nano_usd")
            self.refused_estimate[category] += estimate if isinstance(estimate, int) else 0
        if refusal.kind in LACK_CODES:
            self.refused_days.setdefault(category, set()).add(self.day(refusal.time_ms))

    def happen(self, event: LedgerEvent) -> None:
        """Add an event, if it is of the month."""
        if self.setting.month.contains(event.time_ms):
            self.events[event.kind] += 1

    def note(self, line: TrailLine) -> None:
        """Add a line of the audit trail, if it is of the month."""
        if self.setting.month.contains(line.time_ms):
            self.trail[line.action] += 1

    def day(self, time_ms: int) -> str:
        """Return the day of the month that an instant belongs to; what comes late, to the last."""
        month = self.setting.month
        quarter = min(max(time_ms, month.start_ms), month.end_ms - 1) // 900_000
        if quarter not in self._day_of:
            instant = datetime.fromtimestamp(
                max(quarter * 900, -(-month.start_ms // 1000)), UTC
            ).astimezone(ZoneInfo(self.setting.zone))
            self._day_of[quarter] = instant.date().isoformat()
        return self._day_of[quarter]

    def _role(self, body: Mapping[str, Any], category: str, served: str | None) -> str:
        """Return how a group came to serve: `named` by the caller, `primary` of the category, or a
        `fallback`, whose reason is counted; empty where nothing served."""
        if served is None:
            return ""
        if body.get("requested_model") == served:
            return "named"
        primary = self.setting.primaries.get(category)
        if primary is None or served == primary:
            return "primary" if primary else "unknown"
        self.fallback_reasons[_fallback_reason(body, primary, served)] += 1
        return "fallback"

    def _escalation(self, body: Mapping[str, Any]) -> None:
        """Count what was tried after a budget had refused, and what came of it."""
        steps = body.get("escalation")
        for step in steps if isinstance(steps, list) else []:
            if isinstance(step, Mapping):
                self.escalations[f"{_name(step.get('step'))}: {_name(step.get('outcome'))}"] += 1

    def _frontier(self, charged: int, usage: TokenUsage) -> None:
        price = self._price(self.setting.frontier)
        if price is not None:
            self.frontier_requests += 1
            self.frontier_charged += charged
            self.frontier_instead += price.cost(usage)

    def _tiers(
        self, body: Mapping[str, Any], served: str, charged: int, usage: TokenUsage, role: str
    ) -> None:
        """Note a request whose group is of a higher or lower tier than its task type needs."""
        needed, given = _text(body.get("tier")), self.setting.tiers.get(served)
        if needed not in TIERS or given not in TIERS or needed == given:
            return
        is_under = TIERS.index(given) < TIERS.index(needed)
        why = {"named": "named by the caller", "primary": "by size"}.get(role, "as a fallback")
        if is_under and role != "named":
            why = "in the chain, above the quality floor"
        key = (_name(body.get("task_type")), needed, served, given, why)
        found = (self.under if is_under else self.over).setdefault(key, Finding())
        found.requests += 1
        found.charged += charged
        found.high_consequence += body.get("consequence") == "high"
        price = self._price(self._group_of(needed))
        if price is not None:
            found.instead += price.cost(usage)
            found.instead_requests += 1

    def _group_of(self, tier: str) -> str | None:
        """Return the base group of the largest category whose base group is of that tier."""
        groups = [
            it for it in self.setting.primaries.values() if self.setting.tiers.get(it) == tier
        ]
        return groups[-1] if groups else None

    def _price(self, group: str | None) -> Price | None:
        return None if group is None else self.setting.price_of(group)


def charged_of(entry: LedgerEntry) -> int:
    """Return what an entry added to the books: of a correction the difference."""
    if entry.kind != "corrected":
        return entry.cost_nano_usd
    return max(entry.charges.values(), key=abs, default=0)


def usage_of(body: Mapping[str, Any]) -> TokenUsage | None:
    """Return an entry's tokens as a price takes them; None where they are not known."""
    counts = body.get("tokens")
    if not isinstance(counts, Mapping) or "input" not in counts or "output" not in counts:
        return None
    count = {name: number for name, number in counts.items() if isinstance(number, int)}
    read, write = count.get("cached_read", 0), count.get("cache_write", 0)
    return TokenUsage(
        input_tokens=count.get("input", 0) + read + write,
        output_tokens=count.get("output", 0),
        cache_read_tokens=read,
        cache_write_tokens=write,
        reasoning_tokens=count.get("reasoning", 0),
    )


def _fallback_reason(body: Mapping[str, Any], primary: str, served: str) -> str:
    """Return why the base group did not serve: the constraint that dropped it, its failure, or a
    budget that refused it."""
    steps = body.get("escalation")
    for it in steps if isinstance(steps, list) else []:
        if isinstance(it, Mapping) and it.get("outcome") == "taken":
            return f"escalated: {_name(it.get('step'))}"
    dropped = body.get("dropped")
    for it in dropped if isinstance(dropped, list) else []:
        if isinstance(it, Mapping) and it.get("group") == primary:
            return f"dropped: {_name(it.get('reason')).partition(':')[0]}"
    attempts = body.get("attempts")
    for it in attempts if isinstance(attempts, list) else []:
        if isinstance(it, Mapping) and it.get("group") == primary and it.get("status") != "ok":
            return f"failed: {_name(it.get('status'))}"
    if body.get("group") == served:
        return "another group was preferred"
    return "not recorded"


def _marks(body: Mapping[str, Any]) -> list[str]:
    marks = body.get("marks")
    return [str(mark) for mark in marks] if isinstance(marks, list) else []


def _object(text: str) -> Mapping[str, Any]:
    try:
        found = loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _name(value: object) -> str:
    return _text(value) or "(none)"
