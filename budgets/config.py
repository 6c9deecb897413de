"""The finance owner's file, `budgets.yaml`, as models: limits, periods, thresholds, caps.

Amounts are US dollars in the file and whole nanodollars here. Which budgets match a request is in
`matching`; that a budget names a category or group that exists is checked where those are known.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from enum import StrEnum
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from budgets import carry as carrying
from budgets import money
from budgets.alerts.settings import AlertSettings
from budgets.by_value import RulesByValue
from budgets.period import PeriodKind
from budgets.published import Level, PublishedPolicy, PublishedRule, Threshold
from budgets.yamlfile import Strict, YamlFile, read_yaml, validate

BUDGETS_MAX = 500
"""How many rules one file may have: each matching one costs time in every hold."""


def _nano(value: object) -> int:
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        raise ValueError(f"{value!r} is not an amount in US dollars; write it like 12.50")
    nano = money.from_usd(value)
    if nano < 0:
        raise ValueError(f"{value!r} is below zero")
    return nano


NanoUsd = Annotated[
    int,
    BeforeValidator(_nano),
    WithJsonSchema({"type": ["number", "string"], "description": "US dollars, such as 12.50"}),
]
"""An amount that the file gives in US dollars, as nanodollars."""


def _as_tuple(value: object) -> object:
    return (value,) if isinstance(value, str | int | float) else value


Values = Annotated[tuple[str, ...], BeforeValidator(_as_tuple), Field(min_length=1)]
"""One value, or a list of which any may match."""

Each = Literal["user", "key", "team", "tag", "task_type", "category", "model"]


class Match(Strict):
    """What a request must be to count against a budget: all that is given must hold.

    `tag`, and `user` where the key names none, are what the caller claims: such a budget only ever
    adds a restriction.
    """

    category: Values | None = None
    team: Values | None = None
    key: Values | None = None
    user: Values | None = None
    tag: Values | None = None
    task_type: Values | None = None
    model: Values | None = None

    @cached_property
    def wanted(self) -> tuple[tuple[str, frozenset[str]], ...]:
        """The dimensions that are restricted, each with its values: asked for every request."""
        given = ((name, getattr(self, name)) for name in type(self).model_fields)
        return tuple((name, frozenset(values)) for name, values in given if values is not None)


class Thresholds(Strict):
    """Percent of the limit at which each level is claimed; `null` switches a level off.

    `forecast` is the percent that the spending expected by the period's end reaches, `rate` how
    many times the usual hour's spending an hour has; see `alerts.outlook`.
    """

    informational: int | None = Field(default=50, ge=1, le=100)
    warning: int | None = Field(default=80, ge=1, le=100)
    critical: int | None = Field(default=95, ge=1, le=100)
    emergency: int | None = Field(default=100, ge=1, le=100)
    forecast: int | None = Field(default=100, ge=1, le=1000)
    rate: float | None = Field(default=5, gt=1, le=1000)

    @model_validator(mode="after")
    def _rising(self) -> Thresholds:
        given = [(level.value, getattr(self, level.value)) for level in Level]
        known = [(name, percent) for name, percent in given if percent is not None]
        for (lower, below), (higher, above) in pairwise(known):
            if above <= below:
                raise ValueError(
                    f"`{higher}` at {above} % must be above `{lower}` at {below} %; "
                    "the levels rise: informational, warning, critical, emergency"
                )
        return self

    def as_ledger(self) -> tuple[Threshold, ...]:
        """Return the levels that are switched on, in rising order."""
        return tuple(
            Threshold(level, percent)
            for level in Level
            if (percent := getattr(self, level.value)) is not None
        )


class CarryRule(Strict):
    """What a closed period hands on to the next one, where one word does not say it.

    With `debt`, what was spent over the limit is taken from the next period as well.
    """

    unused_up_to_nano_usd: NanoUsd = Field(alias="unused_up_to_usd")
    debt: bool = False


CarryWord = Literal["none", "balance", "debt"]


def _carry_form(value: object) -> str:
    # Brackets keep the name out of the places that errors name.
    return "[rule]" if isinstance(value, Mapping | CarryRule) else "[word]"


class Budget(Strict):
    """One budget rule: a limit in US dollars over a calendar period, for the requests it matches.

    With `each`, every value has its own counter under the same limit (each user, each team). With
    `carry`, closing a period hands what is left of it, or what it is over, to the next.
    `allowance_usd` is what all workers together may spend beyond the limit in a period while the
    ledger cannot be asked; with `each`, for all values together.
    """

    limit_nano_usd: NanoUsd = Field(alias="limit_usd")
    period: PeriodKind = "month"
    match: Match = Match()
    each: Each | None = None
    thresholds: Thresholds | None = None
    per_request_cap_nano_usd: NanoUsd | None = Field(default=None, alias="per_request_cap_usd")
    allowance_nano_usd: NanoUsd | None = Field(default=None, alias="allowance_usd")
    mode: Literal["shadow", "enforce"] = "enforce"
    carry: Annotated[
        Annotated[CarryWord, Tag("[word]")] | Annotated[CarryRule, Tag("[rule]")],
        Discriminator(_carry_form),
    ] = "none"
    description: str = ""

    @property
    def published_carry(self) -> carrying.Carry:
        """Return `carry` as the ledger takes it."""
        match self.carry:
            case CarryRule() as rule:
                return carrying.unused_up_to(rule.unused_up_to_nano_usd, debt=rule.debt)
            case "debt":
                return carrying.DEBT
        return self.carry


class ArchiveSettings(Strict):
    """Where entries go that are older than the live months; without a folder they stay in Redis.

    A relative folder is one beside this file.
    """

    folder: str | None = None
    live_months: int = Field(default=2, ge=1, le=120)

    @field_validator("folder")
    @classmethod
    def _folder(cls, value: str | None) -> str | None:
        if value is not None and (not value.strip() or "\0" in value):
            raise ValueError("a folder has a name; leave `folder` out to keep entries in Redis")
        return value

    def sink(self, file: Path) -> Path | None:
        """Return the folder that this file, `budgets.yaml` at `file`, means."""
        return None if self.folder is None else file.parent / Path(self.folder).expanduser()


class Step(StrEnum):
    """A way out for a request that a budget has no room for; the last of all is its refusal."""

    NEXT_GROUP = "next_group"
    """Serve it with the next group of its chain that meets every constraint and that fits."""
    LOAN = "loan"
    """Let the budget borrow what another one has not used, where `loans` permits it."""
    APPROVAL = "approval"
    """Ask a person: the refusal carries the ticket's id, and the steps after it go on."""
    QUEUE = "queue"
    """Let it wait, if the request asks for that and its category permits it."""


class Loan(Strict):
    """Which budget may lend what it has not used to which other one, and how much in a period.

    Both are budgets of the same period and have one counter for everybody.
    """

    lender: str = Field(alias="from")
    borrower: str = Field(alias="to")
    up_to_nano_usd: NanoUsd = Field(alias="up_to_usd", gt=0)


class Escalation(Strict):
    """What is tried, in order, where a budget that is used up refuses a request.

    A budget's own list comes before its category's, and that before `default`. Where no step helps
    the request is refused; an empty list refuses at once.
    """

    default: tuple[Step, ...] = (Step.NEXT_GROUP, Step.LOAN, Step.QUEUE)
    categories: dict[str, tuple[Step, ...]] = Field(default_factory=dict)
    budgets: dict[str, tuple[Step, ...]] = Field(default_factory=dict)
    loans: tuple[Loan, ...] = Field(default=(), max_length=100)

    def steps(self, rule: str, category: str | None) -> tuple[Step, ...]:
        """Return the steps for a request of this category that this budget rule refused."""
        if rule in self.budgets:
            return self.budgets[rule]
        return self.categories.get(category or "", self.default)


class ApprovalSettings(Strict):
    """Who answers tickets, for how long they wait, and what takes two persons.

    Without `approvers` every key with the role approver or admin may answer; with it only the keys
    and users that it names, which need the role all the same. `two_person_above_usd` counts for
    approvals, grants and transfers.
    """

    expires_hours: float = Field(default=24, gt=0, le=744)
    lasts_hours: float = Field(default=24, gt=0, le=8784)
    two_person_above_nano_usd: NanoUsd | None = Field(default=None, alias="two_person_above_usd")
    approvers: tuple[str, ...] = ()

    def two_persons(self, amount_nano_usd: int) -> bool:
        """Whether two persons must approve such an amount."""
        above = self.two_person_above_nano_usd
        return above is not None and amount_nano_usd > above


class LeaseSettings(Strict):
    """Which budgets workers may lease slices of, to admit requests without asking the ledger.

    `budgets` names them, or says `all`. A slice is `share_percent` of what is left of its budget at
    most; with less than `direct_below_percent` of the limit left, every request asks the ledger.
    """

    budgets: Literal["all"] | tuple[str, ...] = ()
    share_percent: int = Field(default=5, ge=1, le=50)
    direct_below_percent: int = Field(default=20, ge=1, le=100)

    def leased(self, rule: str) -> bool:
        """Whether slices of this budget may be leased."""
        return self.budgets == "all" or rule in self.budgets


class AuditSettings(Strict):
    """Where the head of the audit trail is written to every hour, beside the state folder.

    A relative folder is one beside this file.
    """

    anchor_folders: tuple[str, ...] = Field(default=(), max_length=10)

    @field_validator("anchor_folders")
    @classmethod
    def _folders(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any(not it.strip() or "\0" in it for it in value):
            raise ValueError("a folder has a name")
        return value

    def folders(self, file: Path) -> tuple[Path, ...]:
        """Return the folders that this file, `budgets.yaml` at `file`, means."""
        return tuple(file.parent / Path(it).expanduser() for it in self.anchor_folders)


class BudgetsFile(Strict):
    """The whole of `budgets.yaml`."""

    version: Literal[1]
    time_zone: str
    budgets: dict[str, Budget] = Field(max_length=BUDGETS_MAX)
    thresholds: Thresholds = Thresholds()
    per_request_cap_nano_usd: NanoUsd | None = Field(default=None, alias="per_request_cap_usd")
    baseline_nano_usd_per_month: NanoUsd | None = Field(
        default=None, alias="baseline_usd_per_month"
    )
    on_ledger_unavailable: Literal["refuse", "allow"] = "refuse"
    lease_seconds: float = Field(default=120, ge=5, le=86_400)
    leases: LeaseSettings = LeaseSettings()
    archive: ArchiveSettings = ArchiveSettings()
    escalation: Escalation = Escalation()
    alerts: AlertSettings = AlertSettings()
    approvals: ApprovalSettings = ApprovalSettings()
    audit: AuditSettings = AuditSettings()

    @field_validator("time_zone")
    @classmethod
    def _zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError):
            raise ValueError(
                f"{value!r} is not a time zone; use a name such as UTC, Europe/Berlin"
            ) from None
        return value

    @field_validator("budgets")
    @classmethod
    def _names(cls, value: dict[str, Budget]) -> dict[str, Budget]:
        for name in value:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", name):
                raise ValueError(
                    f"{name!r} is not a budget's name: letters, digits, `_`, `.` and `-`, up to 64"
                )
        return value

    def thresholds_of(self, rule: str) -> Thresholds:
        """Return a rule's own thresholds, or the file's."""
        return self.budgets[rule].thresholds or self.thresholds

    @cached_property
    def by_model(self) -> bool:
        """Whether any rule depends on the group that serves."""
        rules = self.budgets.values()
        return any(rule.each == "model" or rule.match.model is not None for rule in rules)

    @cached_property
    def asked_about(self) -> frozenset[str]:
        """What the rules look at: the dimensions that any of them names or counts by."""
        rules = self.budgets.values()
        each = {rule.each for rule in rules if rule.each is not None}
        return frozenset(each.union(what for rule in rules for what, _ in rule.match.wanted))

    @cached_property
    def by_value(self) -> RulesByValue:
        """The rules by one value that a request must have to match them."""
        return RulesByValue.of(self.budgets)

    @property
    def leasing(self) -> LeaseSettings | None:
        """What is leased; None where nothing is."""
        return self.leases if self.leases.budgets else None

    @property
    def lease_ms(self) -> int:
        """How long a hold lasts without a renewal."""
        return int(self.lease_seconds * 1000)

    def published(self) -> PublishedPolicy:
        """Return what the ledger needs of these rules; its digest changes only when they do."""
        rules = tuple(
            PublishedRule(
                name,
                budget.limit_nano_usd,
                self.thresholds_of(name).as_ledger(),
                budget.published_carry,
            )
            for name, budget in sorted(self.budgets.items())
        )
        content: list[Any] = [
            [r.rule, r.limit_nano_usd, [[t.level.value, t.percent] for t in r.thresholds], r.carry]
            for r in rules
        ]
        return PublishedPolicy(hashlib.sha256(json.dumps(content).encode()).hexdigest(), rules)


def load_budgets(path: Path) -> tuple[YamlFile, BudgetsFile]:
    """Read and validate `budgets.yaml`; raises `ConfigErrors`."""
    file = read_yaml(path)
    return file, validate(BudgetsFile, file)


def json_schema() -> Mapping[str, Any]:
    """Return the JSON Schema of `budgets.yaml`, for editors."""
    return BudgetsFile.model_json_schema(by_alias=True)
