"""The record of one routing: its inputs, every candidate with its reasons, and the winner.

A decision says all of that about itself. It has no prompt in it, only counts and names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from operator import attrgetter
from typing import Any

from budgets.jsontext import compact
from budgets.quick import quick
from hooks.constraints import Drop
from hooks.estimate import CostEstimate
from hooks.levels import Mode
from hooks.router.verdict import Verdict
from hooks.sessions import SessionNote


@quick
@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, as authentication found it.

    `allowed_groups` empty allows all. A category's name among them allows that category's chain.
    """

    key_name: str | None = None
    team: str | None = None
    user: str | None = None
    allowed_groups: tuple[str, ...] = ()


@quick
@dataclass(frozen=True, slots=True)
class Candidate:
    """A group of the chain: kept, or dropped with every constraint that it failed."""

    group: str
    provider: str
    kept: bool
    drops: tuple[Drop, ...]
    cost: CostEstimate | None
    latency_ms: int | None = None

    @property
    def reason(self) -> str:
        """The reasons in one line; empty for a group that was kept."""
        return "; ".join([str(drop) for drop in self.drops]) if self.drops else ""


@quick
@dataclass(frozen=True, slots=True)
class Would:
    """What enforcement would have done, in shadow mode."""

    group: str | None
    code: str | None
    estimate_nano_usd: int


@dataclass(frozen=True, slots=True)
class Escalated:
    """One step that was tried after a budget had refused: see `escalation`.

    `outcome` is `taken` where it helped, else `refused` or, where it was clear without asking,
    `dropped`.
    """

    step: str
    outcome: str
    group: str | None = None
    detail: str = ""


@quick
@dataclass(frozen=True, slots=True)
class Decision:
    """The record of one routing.

    `task_source` is caller, rule, classifier, keywords, signals or default, and `task_why` the
    words behind it. `signals` are the facts about the request's form that were not zero.
    `tier_floor` is set where the consequence forbids a model of a lower tier, `session` where the
    request belongs to a session that was known.
    `code` is set where nothing is to be sent, with `message`; `group` is then None.
    `input_tokens_between` are the bounds of `input_tokens` where that is estimated (`counting`);
    `open` says that it depends on the place between them who is kept. That is never stored.
    `output_tokens_cap` is set where the caller gave no maximum and the policy caps.
    """

    id: str
    mode: Mode
    requested: str
    call_type: str
    task_type: str
    task_source: str
    task_why: str
    tier: str
    consequence: str
    input_tokens: int
    expected_output_tokens: int
    category_by_tokens: str
    floor: str
    category: str
    candidates: tuple[Candidate, ...]
    group: str | None
    fallbacks: tuple[str, ...]
    output_tokens_cap: int | None
    warnings: tuple[str, ...] = ()
    code: str | None = None
    message: str | None = None
    param: str | None = None
    would: Would | None = None
    stripped: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())
    escalation: tuple[Escalated, ...] = ()
    signals: Mapping[str, Any] = field(default_factory=dict)
    router: Verdict | None = None
    tier_floor: str | None = None
    session: SessionNote | None = None
    input_tokens_between: tuple[int, int] | None = None
    open: bool = False

    def candidate(self, group: str) -> Candidate | None:
        """Return the candidate of that name."""
        return next((c for c in self.candidates if c.group == group), None)

    @property
    def dropped(self) -> tuple[Candidate, ...]:
        """The candidates that failed a constraint."""
        return tuple(c for c in self.candidates if not c.kept)

    def as_dict(self) -> dict[str, Any]:
        """Return the decision as data for JSON."""
        # `asdict` copies every value deeply, which is most of what a decision costs: only what has
        # dataclasses in it is taken apart, and `json` reads the rest as it is.
        data: dict[str, Any] = {name: getattr(self, name) for name in _DECISION_FIELDS}
        data["candidates"] = [_candidate_as_dict(candidate) for candidate in self.candidates]
        data["would"] = asdict(self.would) if self.would is not None else None
        data["session"] = asdict(self.session) if self.session is not None else None
        data["escalation"] = [asdict(step) for step in self.escalation]
        data["router"] = self.router.as_dict() if self.router is not None else None
        return data

    def to_json(self) -> str:
        """Return the decision as compact JSON text; `explain` reads it back."""
        # What has no fields beside its dataclass's own is written from there.
        data: dict[str, Any] = dict(zip(_DECISION_FIELDS, _values_of(self), strict=True))
        data["candidates"] = [
            {
                "group": it.group,
                "provider": it.provider,
                "kept": it.kept,
                "drops": it.drops,
                "cost": it.cost,
                "latency_ms": it.latency_ms,
                "reason": it.reason,
            }
            for it in self.candidates
        ]
        data["router"] = self.router.as_dict() if self.router is not None else None
        return compact(data)


_DECISION_FIELDS = tuple(it.name for it in fields(Decision) if it.name != "open")
_values_of = attrgetter(*_DECISION_FIELDS)
_CANDIDATE_FIELDS = tuple(it.name for it in fields(Candidate))
_COST_FIELDS = tuple(it.name for it in fields(CostEstimate))


def _candidate_as_dict(candidate: Candidate) -> dict[str, Any]:
    data: dict[str, Any] = {name: getattr(candidate, name) for name in _CANDIDATE_FIELDS}
    data["drops"] = [asdict(drop) for drop in candidate.drops]
    cost = candidate.cost
    if cost is not None:
        data["cost"] = {name: getattr(cost, name) for name in _COST_FIELDS}
    data["reason"] = candidate.reason
    return data
