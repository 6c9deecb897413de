"""The ledger's operations, as types and one Protocol that every store implements.

The flow of a request's money:

    hold ──┬─► settle   charged with what it really cost, in the period of the hold
           ├─► void     released, because nothing was sent or nothing was billed
           └─► expire   its lease ended: charged with the hold, marked `unreconciled`,
                        until a late settle corrects it

Admission implies dispatched: there is no way out of a hold that forgets it. Each of settle and
void may be called any number of times and by anyone; the first call decides and the others get a
definite result. All amounts are `int` nanodollars, all times Unix milliseconds by the store's
clock. What goes into an entry's `body` is the caller's affair (see `entries`); the ledger keeps it
whole.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from budgets.approvals.types import Approvals, ApprovalUse
from budgets.archived import ArchivedPart, ArchivedSums, ArchiveState, EntryLine, Sums
from budgets.audit.trail import Trail
from budgets.carry import NONE, Carry
from budgets.grants.types import Grants
from budgets.period import Period
from budgets.statements import Addendum, OpenHold, PeriodOpen, Statement

SLICE_OWNER_ACTIVE_MS = 10_000
"""How long a worker counts as one that slices of an allowance are kept for, after it last asked."""


class Level(StrEnum):
    """The severity of a threshold, in rising order."""

    INFORMATIONAL = "informational"
    WARNING = "warning"
    CRITICAL = "critical"
    EMERGENCY = "emergency"


class LedgerUnavailable(Exception):
    """The store did not answer, or answered that it cannot serve; nothing is known to be done.

    Every operation is idempotent by its hold id, so a caller may repeat it later.
    """


class PolicyNotPublished(LedgerUnavailable):
    """The store has no limit for a rule: nobody published it, or the store lost its data."""

    def __init__(self, rule: str) -> None:
        super().__init__(f"the store has no limit for the budget rule {rule!r}; publish the policy")
        self.rule = rule


class LedgerPaused(LedgerUnavailable):
    """Admissions are paused for a moment while the counters are put right; nothing was done.

    The store is there: this is no outage, and settles go on. `retry_after_ms` is when the pause
    ends at the latest.
    """

    def __init__(self, retry_after_ms: int) -> None:
        super().__init__("admissions are paused while the ledger's counters are put right")
        self.retry_after_ms = retry_after_ms


class PolicyOutrun(Exception):
    """Another policy was published meanwhile: `revision` is current, and nothing was done."""

    def __init__(self, revision: int) -> None:
        super().__init__(f"another policy was published meanwhile, as revision {revision}")
        self.revision = revision


class ClockSkew(Exception):
    """A budget's period does not hold the instant it must hold by the store's clock.

    Nothing was done. The caller finds the periods anew at `now_ms` and repeats the call once. For a
    hold that is the store's time; for a top-up it is the time of the hold, whose periods it joins.
    """

    def __init__(self, now_ms: int) -> None:
        super().__init__(f"a budget's period does not hold the store's time {now_ms} (Unix ms)")
        self.now_ms = now_ms


class HoldIdReused(ValueError):
    """A hold with this id has ended already; its money cannot be admitted a second time."""

    def __init__(self, hold_id: str) -> None:
        super().__init__(f"the hold {hold_id!r} has ended; a new request needs a new hold id")
        self.hold_id = hold_id


# ── what a policy publishes ──────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Threshold:
    """A level that is claimed once when `spent` reaches `percent` of the limit."""

    level: Level
    percent: int

    def reached_at_nano_usd(self, limit_nano_usd: int) -> int:
        """Return the least `spent` that claims this level, rounded up to a whole nanodollar.

        Emergency never waits beyond the limit itself. A limit of 0 is reached by the first
        nanodollar and not by nothing.
        """
        percent = min(self.percent, 100) if self.level is Level.EMERGENCY else self.percent
        return max(1, -(-limit_nano_usd * percent // 100))


@dataclass(frozen=True, slots=True)
class PublishedRule:
    """The part of one budget rule that admission and settling need inside the store."""

    rule: str
    limit_nano_usd: int
    thresholds: tuple[Threshold, ...]
    carry: Carry = NONE

    def rising_thresholds(self) -> list[Threshold]:
        """Return the thresholds in the order in which they fire when several are crossed."""
        levels = list(Level)
        return sorted(self.thresholds, key=lambda it: (it.percent, levels.index(it.level)))


@dataclass(frozen=True, slots=True)
class PublishedPolicy:
    """All budget rules of one policy; `digest` names their content.

    Publishing the digest that is already current changes nothing. Publishing another one advances
    the revision; a rule whose limit rose gets a new limit epoch, which re-arms its thresholds. A
    rule that is no longer named keeps its limit in the store: a worker that has not reloaded yet
    still admits against it, and a rule that comes back does not start over.
    """

    digest: str
    rules: tuple[PublishedRule, ...]


# ── hold ─────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class BudgetHold:
    """One budget's share in a hold.

    `budget` is the counter's name: the rule's own name, or `rule:value` where a rule keeps one
    counter for each caller. `rule` names the limit. A budget with `enforced` false (shadow mode)
    counts and never refuses.
    """

    budget: str
    rule: str
    period: Period
    amount_nano_usd: int
    enforced: bool = True


@dataclass(frozen=True, slots=True)
class HoldRequest:
    """Money to set aside for one request, against every matching budget, all or nothing.

    `expected_end_ms_in` is how long the request will probably take: it only feeds `retry-after` of
    others. `facts` is the JSON text of what is known so far (an entry's body), kept so that a hold
    whose owner died still leaves a full entry. `decision` is the JSON text of the decision, stored
    under `decision_id`. `stats_period` names the hash of running totals that the end of this
    request will be added to. `approval` is what to pass limits by, where they would refuse.
    """

    hold_id: str
    amount_nano_usd: int
    budgets: tuple[BudgetHold, ...]
    lease_ms: int
    expected_end_ms_in: int
    facts: str
    decision_id: str
    decision: str
    stats_period: str
    approval: ApprovalUse | None = None


@dataclass(frozen=True, slots=True)
class BudgetState:
    """One budget's counters in one period. `remaining` may be below zero after an overage.

    `carry_nano_usd` is what closed periods handed on: it adds to the limit, or takes from it. So
    does `granted_nano_usd`, by the grants and transfers that are in force.
    """

    budget: str
    rule: str
    period_id: str
    limit_nano_usd: int
    limit_epoch: int
    spent_nano_usd: int
    held_nano_usd: int
    holds: int
    claimed: tuple[Level, ...] = ()
    carry_nano_usd: int = 0
    granted_nano_usd: int = 0

    @property
    def bearable_nano_usd(self) -> int:
        """What may be spent in this period: the limit with what was carried and granted."""
        return self.limit_nano_usd + self.carry_nano_usd + self.granted_nano_usd

    @property
    def remaining_nano_usd(self) -> int:
        """What a new hold may take: limit with carry and grants, less spent, less held."""
        return self.bearable_nano_usd - self.spent_nano_usd - self.held_nano_usd


@dataclass(frozen=True, slots=True)
class ThresholdEvent:
    """A threshold claimed by this very call; nobody else gets the same one.

    Its limit is the one that its percentage is of: with what was carried and granted.
    """

    level: Level
    percent: int
    budget: str
    rule: str
    period_id: str
    limit_epoch: int
    limit_nano_usd: int
    spent_nano_usd: int
    time_ms: int


@dataclass(frozen=True, slots=True)
class Held:
    """The hold stands. `states` are the budgets right after it, in the order of the request.

    `would_refuse` is the refusal code where a budget in shadow mode would have refused. `repeated`
    is true when this hold id was open already and nothing was done (a retry after a lost reply).
    `approval_id` is the approval that it passed by, if it needed one: a use of it is recorded.
    """

    hold_id: str
    time_ms: int
    states: tuple[BudgetState, ...]
    events: tuple[ThresholdEvent, ...] = ()
    would_refuse: str | None = None
    repeated: bool = False
    approval_id: str | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing was held. `code` is `budget_exceeded` or `budget_busy`; `state` is the budget that
    refused (of several, the one with least left), as it stands.

    `retry_after_ms` is when the next hold of that budget should end, for `budget_busy` only.
    `approval_problem` is why the approval that the hold named did not help: `unknown` (none of this
    id for this caller), `not_approved`, `over`, `used_up`, or `other_budget` (it does not name all
    budgets that refuse).
    """

    code: str
    time_ms: int
    state: BudgetState
    requested_nano_usd: int
    period_end_ms: int
    retry_after_ms: int | None
    states: tuple[BudgetState, ...]
    events: tuple[ThresholdEvent, ...] = ()
    approval_problem: str = ""


# ── while the store is away ──────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class SliceRequest:
    """What one worker asks of a rule's allowance, for one period.

    `have_nano_usd` is the slice that the worker reckons with now: it may be less than the ledger
    has noted, where the worker was asked to give some back. Where `counts_alone` is true the rule
    keeps one counter for everybody, and a budget that is used up gives no more slices.
    """

    rule: str
    period: Period
    allowance_nano_usd: int
    have_nano_usd: int
    counts_alone: bool


@dataclass(frozen=True, slots=True)
class Slice:
    """A worker's part of an allowance as the ledger has noted it, and the part that it should have.

    A worker above its target lowers what it reckons with, and says so at its next call.
    """

    rule: str
    period_id: str
    granted_nano_usd: int
    target_nano_usd: int


@dataclass(frozen=True, slots=True)
class OfflineHold:
    """A hold that a worker admitted by its slices while the store was away.

    `owner` had the slices. `time_ms` is the worker's clock; the rest is as in `HoldRequest`.
    """

    hold_id: str
    amount_nano_usd: int
    budgets: tuple[BudgetHold, ...]
    time_ms: int
    facts: str
    decision_id: str
    decision: str
    stats_period: str
    owner: str


# ── the ends of a hold ───────────────────────────────────────────────────────────────────────────


class SettleStatus(StrEnum):
    """The definite result of settle and void."""

    SETTLED = "settled"
    ALREADY_SETTLED = "already_settled"
    VOIDED = "voided"
    ALREADY_VOIDED = "already_voided"
    CORRECTED = "corrected"
    RECOVERED = "recovered"
    UNKNOWN_HOLD = "unknown_hold"


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


@dataclass(frozen=True, slots=True)
class RefusalRecord:
    """A request that was not sent, for the refusal stream, with its decision."""

    decision_id: str
    code: str
    body: str
    decision: str
    stats_period: str
    counters: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One immutable line. `charges` maps (budget, period id) to the nanodollars it added.

    `kind` is `settled`, `voided`, `unreconciled` (a lease ended), `corrected` (a late settle or
    void; its charges are the differences, possibly negative, and its cost is the real one) or
    `recovered` (settled although the store had lost the hold).
    `addendum` is true where a period that it charges was closed by then. `unreconciled` is what it
    added to the part of spent that ended leases were charged with and nobody has settled since.
    """

    id: str
    kind: str
    hold_id: str
    time_ms: int
    cost_nano_usd: int
    held_nano_usd: int
    charges: Mapping[tuple[str, str], int]
    body: str
    addendum: bool = False
    unreconciled: Mapping[tuple[str, str], int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LedgerEvent:
    """One line of the event stream (`threshold`, `overage`, `unreconciled`, `recovered`,
    `clock_stepped`, `period_closed`, `granted`, `queue_dead`) or of the refusals.

    `body` is JSON text; a refusal's `kind` is its code.
    """

    id: str
    kind: str
    time_ms: int
    body: str


@dataclass(frozen=True, slots=True)
class Leader:
    """Who has a role, until the end of its lease (Unix ms by the ledger's time)."""

    role: str
    owner: str
    until_ms: int


@dataclass(frozen=True, slots=True)
class LearnedOutput:
    """The learned output length of a (task type, group) pair, in tokens, over `count` requests."""

    mean_tokens: float
    quantile95_tokens: float
    count: int


@dataclass(frozen=True, slots=True)
class LearnedInput:
    """How a group or provider counts input, over `count` requests, as factors on Farebox's count.

    `factor` is the likely one, `bound` the one for holds.
    """

    factor: float
    bound: float
    count: int


@dataclass(frozen=True, slots=True)
class Learned:
    """All that the ledger has learned: output lengths and input margins, by key."""

    outputs: Mapping[str, LearnedOutput] = field(default_factory=dict)
    inputs: Mapping[str, LearnedInput] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Difference:
    """A counter that does not equal what the entries and open holds add up to.

    `counter` is `spent`, `held`, `unreconciled`, `archived` (the recorded sum of the archived
    entries), `carry` (what a period was handed), `carried` (what a closed one handed on) or
    `granted` (what its grants add up to, by their records); or
    `holds`, `leases` and `expected_ends`, whose figures are numbers of holds and not amounts. Stray
    leases belong to no budget: their names are empty. `where` says where the sums part, if entries
    of this ledger are archived.
    """

    counter: str
    budget: str
    period_id: str
    stored_nano_usd: int
    recomputed_nano_usd: int
    where: str = ""


def unwatched(time_ms: int) -> None:
    """Watch nothing: for who need not know how far a long reading is."""


class Ledger(Grants, Approvals, Protocol):
    """The operations that every store implements; `tests/ledger` holds each to the same promises.

    Every method raises `LedgerUnavailable` where the store does not answer.
    """

    @property
    def trail(self) -> Trail:
        """The audit trail; grants, approvals, closings and repairs write to it by themselves."""

    async def publish(self, policy: PublishedPolicy, after: int | None = None) -> int:
        """Make the policy's limits current and return the revision.

        With `after`, only while that revision is current (0: none yet). So a call that a slow
        network delivers late, after a newer policy was published, brings no old limits back.

        Raises:
            PolicyOutrun: another revision is current than `after`.
        """

    async def hold(self, request: HoldRequest) -> Held | Refused:
        """Admit against every budget, or change nothing and say why.

        A refusal writes nothing but the claim of the emergency threshold, with its event.

        Raises:
            LedgerPaused: the counters are being put right; a hold that is open already is told so.
            ClockSkew: a period does not hold the store's time.
            HoldIdReused: this hold id was settled, voided or expired.
            PolicyNotPublished: the store knows no limit for a rule.
        """

    async def top_up(
        self, hold_id: str, amount_nano_usd: int, budgets: tuple[BudgetHold, ...]
    ) -> Held | Refused | None:
        """Raise an open hold to the given absolute amounts, all or nothing; never lowers one.

        Budgets that the hold did not have are added, in the period of the hold; those that it has
        keep theirs. The states are of the budgets given. A refused top-up claims no threshold,
        because its request goes on without it. None: there is no such open hold.

        Raises:
            LedgerPaused: the counters are being put right.
            ClockSkew: an added budget's period does not hold the time of the hold.
            PolicyNotPublished: the store knows no limit for a rule.
        """

    async def settle(self, settlement: Settlement) -> Settled:
        """Charge a hold with its actual cost, however large."""

    async def void(
        self, hold_id: str, body: str, counters: Mapping[str, int], *, ahead: bool = False
    ) -> Settled:
        """Release a hold without a charge, leaving an entry of cost 0.

        With `ahead`, a hold that is not there yet is forbidden to come: the answer is
        `unknown_hold`, and a `hold` of this id that arrives late raises `HoldIdReused`. For a
        caller that gave up waiting for the answer to `hold` and sent nothing.
        """

    async def renew(self, hold_ids: Sequence[str], lease_ms: int) -> int:
        """Extend the leases of open holds to `lease_ms` from now; return how many were open."""

    async def expire(self, count_max: int) -> tuple[LedgerEntry, ...]:
        """Charge up to `count_max` holds whose lease has ended; return their entries."""

    async def refuse(self, refusal: RefusalRecord) -> None:
        """Record a request that was not sent; repeating a decision id within the hour is void."""

    async def slices(self, owner: str, wanted: Sequence[SliceRequest]) -> tuple[Slice, ...]:
        """Hand a worker its slices of the allowances; in the order of asking.

        Every worker that asked within `SLICE_OWNER_ACTIVE_MS` should have the same part. All slices
        of a rule in a period, with what was spent by them, are never more than the allowance.
        """

    async def release_slices(self, owner: str) -> None:
        """Take back all slices of a worker that has ended and whose journal has been told."""

    async def replay(self, offline: OfflineHold, ending: Settlement, state: str) -> Settled:
        """Write down a request that was admitted while the store was away, once.

        `state` is `settled`, `voided`, or `unreconciled` for one whose end nobody saw. What it cost
        moves from the owner's slices to the spent part of the allowances. Where the store does have
        a hold of this id, as its answer was lost, that hold ends like this.
        """

    async def close_period(
        self, period: Period, following: Period, budgets: Sequence[tuple[str, str]] = ()
    ) -> Statement | PeriodOpen:
        """Freeze a period that has ended and hand its balances on to the one that follows it.

        The statement has a row for every budget with a counter in the period and for each of the
        given (budget, rule) pairs. Closing it again, whatever the arguments, returns the first
        statement. `PeriodOpen`: it has not ended, and nothing was done. What still happens to its
        holds is charged to it all the same, by entries marked as addenda. See `statements`.

        Raises:
            PolicyNotPublished: the store knows no limit for a rule.
        """

    async def open_holds(self, period_id: str, count_max: int) -> tuple[int, tuple[OpenHold, ...]]:
        """Return how many holds of a period are open, and some of them, by the end of their lease.

        What a closing waits for: it looks at every open hold, so it is not for a request's path.
        """

    async def statement(self, period_id: str) -> Statement | None:
        """Return a closed period's statement; None where it has not been closed."""

    def addenda(self, after: str = "", newest_first: bool = False) -> AsyncIterator[Addendum]:
        """Iterate over the changes of closed periods, of all of them."""

    async def lead(self, role: str, owner: str, lease_ms: int) -> bool:
        """Take a role that only one owner has at a time, or keep it for `lease_ms` from now.

        False while another owner's lease runs. An owner that dies is replaced once it has ended.
        """

    async def resign(self, role: str, owner: str) -> bool:
        """Give a role up at once; False where this owner does not have it."""

    async def leaders(self) -> tuple[Leader, ...]:
        """Return who leads, by role; roles whose lease has ended have nobody."""

    async def states(self, budgets: Sequence[tuple[str, str, str]]) -> tuple[BudgetState, ...]:
        """Return the counters of (budget, rule, period id) triples.

        Raises:
            PolicyNotPublished: the store knows no limit for a rule.
        """

    async def counters(self, stats_period: str) -> dict[str, int]:
        """Return the running totals of a stats period."""

    async def learned(self) -> Learned:
        """Return every learned output length and input margin."""

    async def decision(self, decision_id: str) -> str | None:
        """Return a stored decision's JSON text."""

    def entries(self, after: str = "", newest_first: bool = False) -> AsyncIterator[LedgerEntry]:
        """Iterate over the entries, from the oldest or the newest, beyond the id `after`."""

    def events(self, after: str = "", newest_first: bool = False) -> AsyncIterator[LedgerEvent]:
        """Iterate over the event stream."""

    def refusals(self, after: str = "", newest_first: bool = False) -> AsyncIterator[LedgerEvent]:
        """Iterate over the refusal stream."""

    # ── the archive, the proof and the repair ────────────────────────────────────────────────────

    def lines(self, after: str = "") -> AsyncIterator[EntryLine]:
        """Iterate over the entries as they are stored, the oldest first, beyond the id `after`."""

    async def archive_state(self) -> ArchiveState:
        """Return how far the archive reaches."""

    async def trim(self, part: ArchivedPart, sums: Sums) -> bool:
        """Record a part of the archive with its sums and drop its entries, all in one step.

        False, and nothing done: the archive does not end where the part begins (somebody else was
        first), or its last entry is not there.
        """

    async def verify(
        self,
        archived: ArchivedSums | None = None,
        *,
        every_hold: bool = False,
        watch: Callable[[int], None] = unwatched,
    ) -> tuple[Difference, ...]:
        """Recompute every counter from the entries and open holds; return each difference.

        Archived entries count with their recorded sums or, where `archived` gives them, with the
        sums of the files, which the recorded ones are then compared with too. With `every_hold` it
        looks, as `rebuild` does, for open holds that no list of holds names any more. `watch` is
        told the time (Unix ms) of entries as they are read.

        Raises:
            ArchiveMoved: `archived` does not reach as far as the archive does.
        """

    async def rebuild(
        self,
        actor: str,
        *,
        archived: ArchivedSums | None = None,
        lease_ms: int,
        pause_ms: int,
        watch: Callable[[int], None] = unwatched,
    ) -> tuple[Difference, ...]:
        """Set every counter that differs to what entries and open holds add up to.

        A closed period then hands on what a wrong counter kept back; of carries that differ for
        another reason only `verify` speaks.

        Returns what was changed, and leaves an event `rebuilt` with it and with `actor`. Each
        counter is compared and set in one step, so that it is right whatever settles go on;
        admissions are paused meanwhile, for `pause_ms` at the most. An open hold without a lease
        gets one of `lease_ms`.

        Raises:
            ArchiveMoved: as for `verify`, or the archive grew meanwhile.
        """

    async def pause(self, ms: int) -> None:
        """Refuse new holds and top-ups with `LedgerPaused` for so long; 0 ends a pause at once."""

    async def now_ms(self) -> int:
        """Return the ledger's time in Unix ms: the store's clock, guarded as `clock` says."""
