"""The ends of a hold: what it is charged with, and what the store answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from budgets.holds import BudgetHold, ThresholdEvent
from budgets.quick import quick


class SettleStatus(StrEnum):
    """The definite result of settle and void."""

    SETTLED = "settled"
    ALREADY_SETTLED = "already_settled"
    VOIDED = "voided"
    ALREADY_VOIDED = "already_voided"
    CORRECTED = "corrected"
    RECOVERED = "recovered"
    UNKNOWN_HOLD = "unknown_hold"


@quick
@dataclass(frozen=True, slots=True)
class OutputSample:
    """One observation for the learned output length of a (task type, group) pair.

    A pair's first observation moves the mean from `seed_tokens` (the policy's first guess; None:
    the observation itself) towards it by `rate`, as every later one does from where it stands.
    """

    key: str
    output_tokens: int
    seed_tokens: int | None = None
    rate: float = 0.1


@quick
@dataclass(frozen=True, slots=True)
class InputSample:
    """One observation of how a provider counted a request's input: see `margins`.

    `counted_tokens` is Farebox's count, above 0. The last three are the policy's: tokens that its
    bound adds to such a request, and its two factors.
    """

    key: str
    counted_tokens: int
    input_tokens: int
    extra_tokens: int
    estimate_factor: float
    bound_factor: float


@quick
@dataclass(frozen=True, slots=True)
class Recovery:
    """What its owner knows of a hold that the store may have lost, in a failover or a restart.

    With it, settling a hold that the store does not know charges `budgets`, with the definite
    result `recovered` and an entry of that kind; it is remembered like any ended hold, so that it
    happens once. `held_at_ms` is the store's time of the hold. A hold of longer ago than ended
    holds are remembered may have ended already and is not charged again.
    """

    amount_nano_usd: int
    budgets: tuple[BudgetHold, ...]
    held_at_ms: int
    decision_id: str
    stats_period: str


@quick
@dataclass(frozen=True, slots=True)
class Settlement:
    """What a request really cost.

    `charges` maps a budget's counter name to its amount; budgets of the hold that are missing there
    are charged `cost_nano_usd`; names that the hold does not have are ignored. `counters` are added
    to the running totals of the hold's `stats_period`. `samples` feed the learned output lengths,
    `input_samples` the learned margins. `recovery` is for a hold that the store has
    lost; without it such a hold is unknown.
    """

    hold_id: str
    cost_nano_usd: int
    body: str
    charges: Mapping[str, int] = field(default_factory=dict)
    counters: Mapping[str, int] = field(default_factory=dict)
    samples: tuple[OutputSample, ...] = ()
    input_samples: tuple[InputSample, ...] = ()
    recovery: Recovery | None = None


@quick
@dataclass(frozen=True, slots=True)
class Voiding:
    """The end of a hold whose request cost nothing, as `Ledger.void` takes it."""

    hold_id: str
    body: str
    counters: Mapping[str, int] = field(default_factory=dict)
    ahead: bool = False


Ending = Settlement | Voiding


@dataclass(frozen=True, slots=True)
class Settled:
    """The result of settle or void; `charged_nano_usd` is what the books say after the call.

    `overage_nano_usd` is the largest excess: of the cost over the whole hold, or of a budget's
    charge over that budget's share.
    """

    status: SettleStatus
    charged_nano_usd: int
    held_nano_usd: int
    overage_nano_usd: int
    time_ms: int
    events: tuple[ThresholdEvent, ...] = ()
