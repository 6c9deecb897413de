"""The outbox: alerts that were raised, and their deliveries until each has ended.

    raise ─► take_raised ─► route ─► take_due ─► end: delivered
             (a worker)      │          ▲   │
                             │          └───┴─► end: waiting (later again), dead (given up)
                             └─► one delivery for each channel

An alert is raised once, by the ledger's own script or by `claim` and `gather` here, in the same
step as what it tells of. It is routed once, whoever does it. A delivery is handed to one worker at
a time; a worker that dies keeps it until its lease ends. So every alert reaches every channel at
least once; a second time only where a worker died, was stopped or hung between sending and saying
so. For that case the message carries the delivery's `key`, by which a receiver can tell.

Nothing here is money: losing it costs a message. Times are Unix milliseconds by the store's clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from budgets.holds import BudgetState
from budgets.period import Period

KEPT_S = 35 * 86_400
"""How long what became of an alert can be read."""

HOUR_MS = 3_600_000
HOURS_KEPT = 7 * 24
"""How many hours' sums of a budget's spending are kept, besides the current hour's."""

State = Literal["waiting", "delivered", "dead"]


@dataclass(frozen=True, slots=True)
class Raised:
    """An alert that nobody has routed yet.

    `line` is its place in the outbox, `id` that of its event in the ledger's event stream; `body`
    is the event's JSON text.
    """

    line: str
    id: str
    kind: str
    time_ms: int
    body: str


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert with its level and all that its message says (`facts`, JSON text)."""

    id: str
    kind: str
    level: str
    time_ms: int
    facts: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """An alert on its way to one channel, in this worker's hands until its lease ends.

    `attempts` failed before; `taken` tells this holder from earlier ones.
    """

    alert: Alert
    channel: str
    attempts: int
    taken: int

    @property
    def key(self) -> str:
        """The idempotency key: the same whenever this alert is sent to this channel."""
        return f"{self.alert.id}|{self.channel}"


@dataclass(frozen=True, slots=True)
class Progress:
    """What became of an alert in one channel, `ended_ms` when."""

    channel: str
    state: State
    attempts: int = 0
    error: str = ""
    ended_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Depths:
    """How much waits to be routed, to be delivered, and was given up; and counts by channel."""

    raised: int = 0
    waiting: int = 0
    dead: int = 0
    delivered: Mapping[str, int] = field(default_factory=dict)
    failed: Mapping[str, int] = field(default_factory=dict)
    given_up: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Dead:
    """A delivery that was given up at `time_ms`."""

    alert: Alert
    progress: Progress
    time_ms: int


@dataclass(frozen=True, slots=True)
class Watched:
    """A budget to sample: its counter in a period."""

    budget: str
    rule: str
    period: Period


@dataclass(frozen=True, slots=True)
class Sample:
    """A budget as it stands, with what was spent in each hour since `since_ms`, up to a week back.

    `hours` maps the number of an hour since 1970 to nanodollars; an hour without spending is not
    in it.
    """

    state: BudgetState
    time_ms: int
    since_ms: int
    hours: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Gathered:
    """How many events of a kind came, and what their amounts add up to."""

    kind: str
    count: int = 0
    sum_nano_usd: int = 0


class Outbox(Protocol):
    """The operations that every store of the outbox implements.

    Every method raises `LedgerUnavailable` where the store does not answer.
    """

    # ── raising ──────────────────────────────────────────────────────────────────────────────────

    async def note(self, kind: str, body: str) -> None:
        """Add a line to the ledger's event stream, which `gather` finds later."""

    async def raise_alert(self, kind: str, body: str) -> None:
        """Raise an alert that nothing in the ledger claims (a test message)."""

    async def counters_of(self, rule: str, period_id: str, count_max: int) -> tuple[str, ...]:
        """Return counters of a rule with `each` in a period, at most so many."""

    async def sample(self, watched: Sequence[Watched]) -> tuple[Sample, ...]:
        """Add what was spent since the last sample to this hour's sum, and return what is known.

        A budget that the store has no limit for is left out. Any number of workers may sample at
        once: each nanodollar is added once.
        """

    async def claim(
        self, watched: Watched, kind: str, mark: str, limit_epoch: int, body: str
    ) -> bool:
        """Raise an alert of `kind` unless this budget and period has it for `mark` already.

        False also where the limit epoch is not `limit_epoch` any more: who judged, judged by
        another limit. A new epoch arms it again.
        """

    async def gathered_to(self) -> str:
        """Return the id of the last event that `gather` was told of; empty at first."""

    async def gather(self, after: str, to: str, found: Sequence[Gathered], pause_ms: int) -> bool:
        """Add events of some kinds, those beyond the id `after` up to `to`, to what is told.

        For each kind with anything to tell, an alert of kind `gathered` is raised at once, and no
        second one within `pause_ms`: what comes meanwhile is told then. `found` names every kind,
        also those without an event. False, and nothing done, where somebody else came first.
        """

    # ── routing ──────────────────────────────────────────────────────────────────────────────────

    async def take_raised(self, count_max: int, lease_ms: int) -> tuple[Raised, ...]:
        """Take alerts to route: those that another worker has had for `lease_ms`, then new ones."""

    async def route(self, line: str, alert: Alert, channels: Sequence[str]) -> bool:
        """Make one delivery for each channel, due now; False where it was routed already."""

    # ── delivering ───────────────────────────────────────────────────────────────────────────────

    async def take_due(self, count_max: int, lease_ms: int) -> tuple[Delivery, ...]:
        """Take deliveries that are due; nobody else gets them before the lease has ended."""

    async def delivered(self, delivery: Delivery) -> bool:
        """Note that it arrived; False where it had ended already."""

    async def failed(self, delivery: Delivery, error: str, again_in_ms: int | None) -> bool:
        """Note that it failed: it is due again then, or given up (None).

        False where another worker has it by now.
        """

    async def postpone(self, delivery: Delivery, ms: int) -> bool:
        """Put it off without counting an attempt; False where another worker has it by now."""

    # ── for people ───────────────────────────────────────────────────────────────────────────────

    async def depths(self) -> Depths:
        """Return how much waits, and the counts."""

    async def progress(self, alert_id: str) -> tuple[str, tuple[Progress, ...]] | None:
        """Return an alert's level and what became of it in each channel; None: not routed."""

    async def dead(self) -> tuple[Dead, ...]:
        """Return what was given up, the newest first."""

    async def retry(self, keys: Sequence[str]) -> int:
        """Begin anew with deliveries that were given up, by their keys; return how many."""
