"""What one process of the proxy holds of the ledger: the connection and the requests under way.

One `Runtime` a process, made by `opening`, shared by the hook before a call and the callback after
it. It ends what cannot wait for a request: renewing the leases of what is under way, ending leases
that nobody renewed, telling the ledger what waits in the journal, and finding out whether the store
is there (no user's request is used as a probe).
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar, NamedTuple, TypeVar

import structlog

from budgets.announcing import announce, announce_overage
from budgets.background import end
from budgets.connection import AsyncClient, RedisServerError
from budgets.endings import Endings
from budgets.errors import LedgerPaused, LedgerUnavailable
from budgets.holds import BudgetHold, Held, HoldRequest, Refused
from budgets.inflight import InFlight
from budgets.leases.desk import Desk, Settings
from budgets.ledger import Ledger, Write, Written
from budgets.open_requests import OpenRequest, OpenRequests
from budgets.outage import NoSlice, Outage, tell_of_lost_hold
from budgets.period import Period
from budgets.recent import Recent
from budgets.records import RefusalRecord
from budgets.settlements import Settled, Settlement, Voiding
from budgets.sweeper import Sweeper
from budgets.waits import Waits

log = structlog.get_logger("farebox.ledger")

_T = TypeVar("_T")

PROBE_INTERVAL_S = 0.25
PROBE_TIMEOUT_S = 0.5
ANSWER_TIMEOUT_S = 2.0
"""How long a request waits for the ledger, and until the next probe; less where a probe finds it
away sooner."""
JOURNAL_INTERVAL_S = 2.0
SLICES_INTERVAL_S = 1.0
SWEEP_AFTER_BACK_S = 2.0
"""How long nothing is swept after an outage: every worker renews its leases first."""
STOP_S_MAX = 5.0
"""How long a process that stops waits for what is on its way."""

Allowances = Callable[[int], Iterable[tuple[str, Period, int, bool]]]
"""At a time (Unix ms): the rules with an allowance, as `Allowance.wanted` takes them."""


@dataclass(slots=True)
class Runtime:
    """The ledger's side of one process. Made on the event loop that uses it (`open_runtime`).

    `check` looks at the server before it is used for the first time, where it could not be looked
    at when the process started. `overage` is set when a request cost more than its hold, for
    whoever can learn from it.
    """

    ledger: Ledger
    leases: InFlight
    sweeper: Sweeper
    outage: Outage
    check: Callable[[], Awaitable[None]] | None = None
    client: AsyncClient | None = None
    requests: OpenRequests = field(default_factory=OpenRequests)
    desk_type: ClassVar[type[Desk]] = Desk
    available: bool = True
    allowances: Allowances = lambda _: ()
    new_id: Callable[[], str] = lambda: uuid.uuid4().hex
    lease_settings: Callable[[], Settings | None] = lambda: None
    overage: asyncio.Event = field(default_factory=asyncio.Event)
    recent: Recent = field(init=False)
    endings: Endings = field(init=False)
    desk: Desk = field(init=False)
    _waits: Waits = field(default_factory=lambda: Waits(ANSWER_TIMEOUT_S))
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _back_since: float = -math.inf
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _endless: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.recent = Recent(self.ledger)
        self.endings = Endings(self._end_all, lambda: self.available, self.outage)
        self.outage.ended = self.leases.remove
        self.sweeper.may_sweep = self._may_sweep
        self.desk = self.desk_type(
            self.ledger,
            self.endings,
            lambda: self.lease_settings(),
            self.spawn,
            new_id=lambda: self.new_id(),
            slate=self.outage.slate,
        )
        self.outage.adopted = self.desk.told

    def start(self) -> None:
        """Start the background work; it runs until `stop`."""
        self.leases.start()
        self.sweeper.start()
        self.endings.start()
        for work in (self._probe, self._tell, self._keep_slices, self.desk.run):
            self.spawn(work(), endless=True)

    async def stop(self) -> None:
        """Stop the background work, tell what waits, and close the connection."""
        await self.leases.stop()
        await self.sweeper.stop()
        await end(*self._endless)
        if self._tasks:
            # Ends and refusals on their way to the ledger or the journal.
            await asyncio.wait(tuple(self._tasks), timeout=STOP_S_MAX)
        await end(*self._tasks)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.desk.give_all_back(), STOP_S_MAX)
        await self.endings.close(STOP_S_MAX)
        if self.available and self.outage.depth:
            with contextlib.suppress(LedgerUnavailable):
                await self.outage.tell()
        await self.outage.close()
        if self.client is not None:
            await self.client.aclose()

    def spawn(self, work: Awaitable[object], *, endless: bool = False) -> None:
        """Run `work` in the background; a failure is logged and never lost silently.

        `stop` cuts off what is endless, and waits for the rest.
        """
        tasks = self._endless if endless else self._tasks
        task = asyncio.ensure_future(_logged(work))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    def lost(self, error: LedgerUnavailable) -> None:
        """Note that the store does not answer; it counts as away until the probe reaches it.

        Whoever waits for an answer is told at once. An error that the store itself answered with
        (a limit that was not published) says that it is there.
        """
        if type(error) is not LedgerUnavailable:
            return
        if self.available:
            log.warning("ledger_unavailable", reason=str(error))
        self.available = False
        self.desk.abandon()
        self._waits.let_go()

    async def ask(self, call: Awaitable[_T]) -> _T:
        """Ask the ledger something on the way of a request.

        Raises:
            LedgerUnavailable: the store is away.
        """
        try:
            return await self._ask(call)
        except LedgerUnavailable as error:
            self.lost(error)
            raise

    async def _ask(self, call: Awaitable[_T]) -> _T:
        """Wait for the store, but no longer than it is known to be there."""
        try:
            return await self._waits.bounded(call)
        except TimeoutError as error:
            raise LedgerUnavailable("the store did not answer in time") from error

    # ── the beginning of a request ───────────────────────────────────────────────────────────────

    async def hold(
        self, request: HoldRequest, *, offline: bool, time_ms: int, anew: bool = True
    ) -> tuple[Held | Refused, bool]:
        """Admit a request; by this worker's slices while the store is away, if `offline` allows it.

        Not `anew` is a request that the ledger may know already. Returns the answer, and whether
        it was given while the store was away.

        Raises:
            LedgerUnavailable: the store is away, and there is no slice to admit it by.
            ClockSkew, HoldIdReused: as the ledger does.
        """
        asked = False
        reason = LedgerUnavailable("the store is away")
        if self.available:
            try:
                hold = self.desk.hold if anew else self.ledger.hold
                return await self._ask(hold(request)), False
            except LedgerPaused as error:
                # A definite answer: nothing is held, and there is nothing to forbid.
                asked, reason = False, error
            except LedgerUnavailable as error:
                self.lost(error)
                asked = type(error) is LedgerUnavailable
                reason = error
            except asyncio.CancelledError:
                self._forbid(request)
                raise
        if offline:
            try:
                return await self.outage.hold(request, time_ms), True
            except NoSlice as error:
                reason = error
        if asked:
            self._forbid(request)
        raise reason

    def _forbid(self, request: HoldRequest) -> None:
        self.spawn(self._void_ahead(request.hold_id, request.facts))

    async def top_up(
        self, request: OpenRequest, amount_nano_usd: int, budgets: tuple[BudgetHold, ...]
    ) -> Held | Refused | None:
        """Raise a request's hold before a dearer attempt, as `Ledger.top_up` does.

        Raises:
            LedgerUnavailable: the store is away, or the slices don't bear it.
        """
        if request.offline:
            return await self.outage.top_up(request.request_id, amount_nano_usd, budgets)
        if not self.available:
            raise LedgerUnavailable("the store is away")
        try:
            if self.desk.is_unreported(request.request_id):
                await self._ask(self.endings.flush())
            return await self._ask(self.ledger.top_up(request.request_id, amount_nano_usd, budgets))
        except LedgerUnavailable as error:
            self.lost(error)
            raise

    # ── the end of a request ─────────────────────────────────────────────────────────────────────

    async def settle(self, request: OpenRequest, settlement: Settlement) -> None:
        """Charge a request: soon, together with others; by the journal while the store is away."""
        self._ended(request)
        if request.offline:
            await self.outage.end(settlement, "settled")
            self._news.set()
            return
        await self.endings.put(settlement, partial(self._settled, request))

    def _settled(self, request: OpenRequest, ending: Write, settled: Written) -> None:
        assert isinstance(ending, Settlement) and isinstance(settled, Settled)
        self.leases.remove(ending.hold_id)
        announce(settled.events)
        tell_of_lost_hold(ending, settled)
        self.recent.remember(ending)
        if announce_overage(request, settled):
            self.overage.set()

    async def void(self, request: OpenRequest, body: str, counters: Mapping[str, int]) -> None:
        """Release a request that cost nothing, as `settle` charges one."""
        self._ended(request)
        if request.offline:
            ending = Settlement(request.request_id, 0, body, counters=counters)
            await self.outage.end(ending, "voided")
            self._news.set()
            return
        await self.endings.put(
            Voiding(request.request_id, body, counters, ahead=True),
            lambda ending, _: self.leases.remove(ending.hold_id),
        )

    async def _end_all(self, writes: Sequence[Write]) -> tuple[Written, ...]:
        return await self.ask(self.ledger.write_all(writes))

    async def _void_ahead(self, hold_id: str, body: str) -> None:
        """Forbid a hold that may stand, or arrive yet, though nothing is sent for it."""
        if self.available:
            try:
                await self._ask(self.ledger.void(hold_id, body, {}, ahead=True))
                return
            except LedgerUnavailable as error:
                self.lost(error)
        await self.outage.void(hold_id, body, {}, ahead=True)

    async def refuse(self, record: RefusalRecord) -> None:
        """Record a refusal; while the store is away, in the journal."""
        if self.available:
            try:
                await self._ask(self.ledger.refuse(record))
                return
            except LedgerUnavailable as error:
                self.lost(error)
        # Nobody waits for the disk because of a refusal.
        self.spawn(self.outage.refuse(record))

    def _ended(self, request: OpenRequest) -> None:
        """Note an end. The lease of its hold is renewed until the ledger knows of it."""
        self.requests.remove(request.request_id)

    # ── background work ──────────────────────────────────────────────────────────────────────────

    async def _probe(self) -> None:
        """Find out that the store is away before a request does, and when it is back.

        One late answer is no outage: this process may have been busy itself.
        """
        late = 0
        while True:
            await asyncio.sleep(PROBE_INTERVAL_S)
            self._waits.look()
            try:
                if self.check is not None:
                    await self.check()
                    self.check = None
                async with asyncio.timeout(PROBE_TIMEOUT_S):
                    await self.ledger.now_ms()
            except (LedgerUnavailable, TimeoutError, RedisServerError) as error:
                late = late + 1 if isinstance(error, TimeoutError) else 2
                if late >= 2:
                    self.lost(LedgerUnavailable(str(error) or "the store did not answer in time"))
                continue
            late = 0
            if not self.available:
                await self._back()

    async def _back(self) -> None:
        # Their leases may have ended meanwhile: they come before any sweeper.
        with contextlib.suppress(LedgerUnavailable):
            await self.leases.renew()
            self._back_since = asyncio.get_running_loop().time()
            self.available = True
            self._news.set()
            log.warning("ledger_back", journal_lines=self.outage.depth)
            self.spawn(self._settle_again())

    def _may_sweep(self) -> bool:
        now = asyncio.get_running_loop().time()
        return self.available and now - self._back_since >= SWEEP_AFTER_BACK_S

    async def _settle_again(self) -> None:
        """Repeat the last settlements: what answers now may be another master, without them."""
        try:
            await self.recent.repeat()
        except LedgerUnavailable as error:
            # They are repeated when it is back the next time.
            self.lost(error)

    async def _tell(self) -> None:
        """Tell the ledger what waits, as soon as it is there, and what others have left behind."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), JOURNAL_INTERVAL_S)
            self._news.clear()
            if not self.available:
                continue
            try:
                await self.outage.tell()
            except LedgerUnavailable as error:
                self.lost(error)
            except OSError as error:
                log.error("journal_not_read", reason=error.strerror or type(error).__name__)

    async def _keep_slices(self) -> None:
        """Keep this worker's slices of the allowances at hand for a time without the store."""
        while True:
            if self.available and self.outage.owner:
                with contextlib.suppress(LedgerUnavailable):
                    await self._take_slices()
            await asyncio.sleep(SLICES_INTERVAL_S)

    async def _take_slices(self) -> None:
        if not self.allowances(0):
            return
        now_ms = await self.ledger.now_ms()
        wanted = self.outage.allowance.wanted(self.allowances(now_ms))
        self.outage.allowance.take(await self.ledger.slices(self.outage.owner, wanted))


async def _logged(work: Awaitable[object]) -> None:
    try:
        await work
    except asyncio.CancelledError:
        raise
    except Exception as error:
        log.error("background_work_failed", error=type(error).__name__, detail=str(error)[:200])


_current: Runtime | None = None


class TraceCounts(NamedTuple):
    """Traces by what became of them, and the scores of those that were sent."""

    sent: int = 0
    lost: int = 0
    sampled_out: int = 0
    scores_sent: int = 0
    scores_lost: int = 0


trace_counts: Callable[[], TraceCounts] = TraceCounts
"""What became of this process's traces, for its status; the tracing side replaces it."""


def install(runtime: Runtime | None) -> None:
    """Make `runtime` the one of this process."""
    global _current
    _current = runtime


def current() -> Runtime | None:
    """Return this process's runtime, or None before it has been started."""
    return _current
