"""One worker's leased slices: it admits from them without asking the store.

    admit ─► a slice of each budget has room ─► held here, sent at once; the store hears of it
      │                                         a moment later, in a batch (`endings`): `Adoption`
      └─► one has none ─► the store is asked, as without leases; a slice is taken in the background

    every second: slices in use are renewed, idle ones go back
    with every word of the store: slices of a budget near its limit, or called back, go back

A slice goes back only when everything that was admitted from it has been reported. What is admitted
and not reported stands on the slate, for whoever finds it when this worker was killed. And it is
bounded: `Slice.at_most_nano_usd` is what the store charges for a slice that nobody renews. So no
admission is ever forgotten, where the slate is lost with its machine neither.

Nothing is ever refused here: where a slice has no room, the store says yes or no.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Protocol

import structlog

from budgets.endings import Endings
from budgets.errors import ClockSkew, LedgerUnavailable
from budgets.holds import BudgetHold, BudgetState, Held, HoldRequest, Refused
from budgets.leases.room import Counter, Slice
from budgets.leases.slate import Slate
from budgets.leases.types import Adopted, Adoption, SliceReturn, SliceState, SliceTake
from budgets.ledger import Ledger, Write, Written
from budgets.money import AMOUNT_NANO_USD_MAX
from budgets.spool import of_adoption, of_return

log = structlog.get_logger("farebox.leases")

SLICE_LEASE_MS = 10_000
"""How long a slice lasts without a sign of life of its worker."""

TICK_S = 1.0
"""How often slices are renewed, and how long one may lie idle: up to two ticks."""

HOLDS_PER_SLICE = 8
"""The first slice of a budget has room for so many requests like the one that wanted it; a later
one for what two seconds took."""

NO_SLICE_S = 1.0
"""How long no slice is asked for after one was not given, or was given back."""

COUNTERS_MAX = 1_000
"""The most budgets of which one worker has slices; the requests of others ask the store."""

UNREPORTED_PART = 4
"""The part of a slice that may be admitted ahead of the store: a quarter."""

Key = tuple[str, str]
"""Budget and period id."""


class Settings(Protocol):
    """What the policy says about leases."""

    share_percent: int
    direct_below_percent: int

    def leased(self, rule: str) -> bool:
        """Whether slices of this rule's budgets may be leased."""


class Desk:
    """Admits requests from slices where it can, and asks the ledger where it can't.

    Args:
        ledger: where the slices are from.
        endings: by which it hears of what was admitted.
        settings: the policy's, at any moment; None where nothing is leased.
        spawn: runs something in the background.
        clock_s: seconds that never go back.
        new_id: makes the ids of slices.
        slate: where it stands what is ahead of the store; None where there is no disk for it.
    """

    def __init__(
        self,
        ledger: Ledger,
        endings: Endings,
        settings: Callable[[], Settings | None],
        spawn: Callable[[Awaitable[object]], None],
        *,
        clock_s: Callable[[], float] = lambda: asyncio.get_running_loop().time(),
        new_id: Callable[[], str] = lambda: uuid.uuid4().hex,
        slate: Slate | None = None,
    ) -> None:
        self._ledger = ledger
        self._endings = endings
        self._settings = settings
        self._spawn = spawn
        self._clock_s = clock_s
        self._new_id = new_id
        self._counters: dict[Key, Counter] = {}
        self._slate = slate
        self._places: dict[str, int] = {}
        self._unreported: dict[str, tuple[tuple[Slice, int], ...]] = {}
        self._store_ms: int | None = None
        self._store_at_s = 0.0
        self._ticked_s = 0.0
        self.holds_per_slice = HOLDS_PER_SLICE
        self.admitted = 0
        """Requests that were admitted from slices, for a status."""
        self.passed_on = 0
        """Requests that could have been, and for which no slice had room."""

    @property
    def room_nano_usd(self) -> int:
        """What lies unused in all slices here."""
        return sum(it.room_nano_usd for it in self._counters.values())

    # ── admission ────────────────────────────────────────────────────────────────────────────────

    async def hold(self, request: HoldRequest) -> Held | Refused:
        """Admit a request from slices, or ask the ledger, as `Ledger.hold`.

        Where the ledger finds too much held, what this worker holds in slices goes back first.
        """
        held = self.admit(request)
        if held is not None:
            return held
        answer = await self._ledger.hold(request)
        if isinstance(answer, Refused) and answer.code == "budget_busy":
            keys = [(it.budget, it.period.id) for it in request.budgets]
            came = await self._arrived(keys)
            if came or len(self._endings) or any(self._has_slices(key) for key in keys):
                await self.give_back(keys)
                answer = await self._ledger.hold(request)
        if isinstance(answer, Refused) and answer.code == "budget_busy":
            self._call_back(answer)
        return answer

    def admit(self, request: HoldRequest) -> Held | None:
        """Admit a request from this worker's slices; None where the ledger must be asked."""
        settings = self._settings()
        budgets = request.budgets
        if settings is None or request.approval is not None or not budgets:
            return None
        for it in budgets:
            # What is malformed is the ledger's to refuse.
            whole = 0 <= it.amount_nano_usd <= AMOUNT_NANO_USD_MAX
            if not (whole and it.enforced and settings.leased(it.rule)):
                return None
        now_s = self._clock_s()
        time_ms = self._time_ms(now_s)
        found: list[tuple[Counter, Slice, BudgetHold]] = []
        for it in budgets:
            counter = self._counter((it.budget, it.period.id))
            if counter is None:
                self.passed_on += 1
                return None
            amount = it.amount_nano_usd
            counter.asked_nano_usd += amount
            for slice_ in counter.slices:
                if slice_.has_room(amount):
                    break
            else:
                slice_ = None
            if slice_ is None:
                self._want(counter, it, request, settings, now_s)
            elif time_ms is not None and it.period.contains(time_ms):
                found.append((counter, slice_, it))
        if len(found) < len(budgets) or time_ms is None:
            self.passed_on += 1
            return None
        slices = {it.budget: slice_.wanted.slice_id for _, slice_, it in found}
        if len(slices) < len(budgets):
            return None
        adoption = Adoption(request, slices, time_ms)
        # Nobody waits for the disk here: see `slate`.
        if self._slate is not None and not self._note(
            request.hold_id, "adopt", of_adoption(adoption)
        ):
            return None
        if not self._endings.put_now(adoption, self.told):
            self._wipe(request.hold_id)
            return None
        states = []
        for counter, slice_, it in found:
            slice_.room_nano_usd -= it.amount_nano_usd
            slice_.unreported_nano_usd += it.amount_nano_usd
            slice_.used = True
            assert counter.state is not None  # It came with the slice.
            # What lies in this worker's slices is left to spend, though the store holds it.
            states.append(
                counter.state.with_held(counter.state.held_nano_usd - counter.room_nano_usd)
            )
            if 3 * slice_.room_nano_usd < slice_.granted_nano_usd:
                self._want(counter, it, request, settings, now_s)
        drawn = tuple((slice_, it.amount_nano_usd) for _, slice_, it in found)
        self._unreported[request.hold_id] = drawn
        self.admitted += 1
        return Held(request.hold_id, time_ms, tuple(states))

    def _note(self, name: str, operation: str, content: dict[str, Any]) -> bool:
        """Write on the slate what the store must hear of, whatever becomes of this process."""
        if self._slate is None:
            return True
        place = self._slate.write(operation, content)
        if place is not None:
            self._places[name] = place
        return place is not None

    def _wipe(self, name: str) -> None:
        """Take off the slate what the store knows."""
        place = self._places.pop(name, None)
        if place is not None and self._slate is not None:
            self._slate.wipe(place)

    def is_unreported(self, hold_id: str) -> bool:
        """Whether the store has yet to hear of this hold."""
        return hold_id in self._unreported

    def _counter(self, key: Key) -> Counter | None:
        counter = self._counters.get(key)
        if counter is None and len(self._counters) < COUNTERS_MAX:
            counter = self._counters[key] = Counter()
        return counter

    async def _arrived(self, keys: Iterable[Key]) -> bool:
        """Wait for the slices of these budgets that are on their way; say whether any were."""
        counters = [c for key in keys if (c := self._counters.get(key)) is not None]
        coming = [c.coming for c in counters if c.coming is not None]
        if coming:
            await asyncio.wait(coming)
        return bool(coming)

    def _has_slices(self, key: Key) -> bool:
        counter = self._counters.get(key)
        return counter is not None and bool(counter.slices)

    def _time_ms(self, now_s: float) -> int | None:
        """Return the ledger's time, or a little more; None where nobody has said it yet."""
        if self._store_ms is None:
            return None
        return self._store_ms + int((now_s - self._store_at_s) * 1000)

    # ── slices come ──────────────────────────────────────────────────────────────────────────────

    def _want(
        self,
        counter: Counter,
        it: BudgetHold,
        request: HoldRequest,
        settings: Settings,
        now_s: float,
    ) -> None:
        """Ask for a slice in the background; not while one is on its way, or just after a no."""
        if counter.coming is not None or now_s < counter.not_before_s:
            return
        left = [s for s in counter.slices if not s.closing]
        if len(left) >= 2:
            small = min(left, key=lambda s: s.room_nano_usd)
            if small.room_nano_usd >= it.amount_nano_usd:
                return
            # A rest that is too small for what comes would keep the next slice away.
            small.closing = True
        most = max(self.holds_per_slice * it.amount_nano_usd, 2 * counter.rate_nano_usd)
        slice_id = self._new_id()
        if not self._note(slice_id, "return_slice", of_return(SliceReturn(slice_id))):
            counter.not_before_s = now_s + NO_SLICE_S
            return
        counter.coming = asyncio.get_running_loop().create_future()
        wanted = SliceTake(
            slice_id=slice_id,
            budget=it.budget,
            rule=it.rule,
            period=it.period,
            most_nano_usd=most,
            least_nano_usd=it.amount_nano_usd,
            unreported_nano_usd=max(2 * it.amount_nano_usd, most // UNREPORTED_PART),
            share_percent=settings.share_percent,
            direct_below_percent=settings.direct_below_percent,
            lease_ms=SLICE_LEASE_MS,
            stats_period=request.stats_period,
        )
        self._spawn(self._take(counter, wanted))

    async def _take(self, counter: Counter, wanted: SliceTake) -> None:
        began_s = self._clock_s()
        try:
            taken = await self._ledger.take_slice(wanted)
        except (LedgerUnavailable, ClockSkew, asyncio.CancelledError) as error:
            # It may stand, or arrive yet.
            self._no_longer_coming(counter)
            counter.not_before_s = self._clock_s() + NO_SLICE_S
            self._put_return(wanted.slice_id)
            if isinstance(error, asyncio.CancelledError):
                raise
            return
        self._no_longer_coming(counter)
        if not taken.granted_nano_usd:
            counter.not_before_s = self._clock_s() + NO_SLICE_S
            self._wipe(wanted.slice_id)
        self._heard(taken.time_ms, began_s)
        counter.state = taken.state or counter.state
        if not taken.granted_nano_usd:
            return
        slice_ = Slice(
            wanted,
            taken.granted_nano_usd,
            min(taken.granted_nano_usd, wanted.unreported_nano_usd),
            taken.time_ms,
            taken.granted_nano_usd,
            closing=taken.state is None,
        )
        counter.slices.append(slice_)
        self._return_ended(counter)

    def _no_longer_coming(self, counter: Counter) -> None:
        """Wake who waits for the slice; they go on once it is among the others."""
        coming, counter.coming = counter.coming, None
        if coming is not None and not coming.done():
            coming.set_result(None)

    def _heard(self, time_ms: int, began_s: float) -> None:
        """Note the ledger's time: it was at most this when the call began, so it is no more now."""
        self._store_ms, self._store_at_s = time_ms, began_s

    # ── slices go ────────────────────────────────────────────────────────────────────────────────

    def told(self, write: Write, written: Written) -> None:
        """Take the store's answer to an adoption or a return, whoever told it."""
        self._wipe(write.hold_id)
        if not isinstance(write, Adoption):
            return
        for slice_, amount in self._unreported.pop(write.hold_id, ()):
            slice_.unreported_nano_usd -= amount
        if not isinstance(written, Adopted):
            return
        if written.unbacked_nano_usd and not written.repeated:
            log.warning(
                "leased_slice_lost",
                hold_id=write.hold_id,
                unbacked_nano_usd=written.unbacked_nano_usd,
            )
        for number, it in enumerate(write.request.budgets):
            counter = self._counters.get((it.budget, it.period.id))
            if counter is None:
                continue
            slice_id = write.slices.get(it.budget)
            for slice_ in counter.slices:
                if slice_.wanted.slice_id == slice_id and slice_id in written.ended:
                    slice_.closing = True
            self._learn(counter, written.states[number], written.recalled_ms[number])

    def _learn(self, counter: Counter, state: BudgetState | None, recalled_ms: int) -> None:
        """Take a budget's newest figures, and let go of slices where they say so."""
        settings = self._settings()
        if state is not None:
            counter.state = state
            left = state.remaining_nano_usd + counter.room_nano_usd
            direct_below = settings.direct_below_percent if settings is not None else 100
            near = left * 100 < state.bearable_nano_usd * direct_below
            if near or state.remaining_nano_usd < 0:
                self._close(counter)
        if any(it.taken_ms <= recalled_ms for it in counter.slices):
            self._close(counter)
        self._return_ended(counter)

    def _close(self, counter: Counter) -> None:
        """Admit from these slices no more."""
        for slice_ in counter.slices:
            slice_.closing = True
        counter.not_before_s = self._clock_s() + NO_SLICE_S

    def _return_ended(self, counter: Counter) -> None:
        """Give back what is used up or closing, once all of it is reported."""
        for slice_ in tuple(counter.slices):
            if slice_.room_nano_usd == 0:
                slice_.closing = True
            reported = not slice_.unreported_nano_usd
            if slice_.closing and reported and self._put_return(slice_.wanted.slice_id):
                counter.slices.remove(slice_)

    def _put_return(self, slice_id: str) -> bool:
        return self._endings.put_now(SliceReturn(slice_id), self.told)

    async def give_back(self, keys: Iterable[Key]) -> None:
        """Give back the slices of these budgets and tell all ends, so that the store has room."""
        counters = [c for key in keys if (c := self._counters.get(key)) is not None]
        for counter in counters:
            self._close(counter)
            self._return_ended(counter)
        while True:
            await self._endings.flush()
            waiting = [c for c in counters if c.slices]
            for counter in waiting:
                self._return_ended(counter)
            if not any(not c.slices for c in waiting):
                # What is left waits for a store that is away.
                break
        await self._endings.flush()

    async def give_all_back(self) -> None:
        """Give back every slice."""
        await self.give_back(tuple(self._counters))

    def abandon(self) -> None:
        """Admit from no slice any more: the store is away. They go back when it knows of all."""
        for counter in self._counters.values():
            self._close(counter)

    def _call_back(self, refused: Refused) -> None:
        """Ask the other workers for their slices, for the next who comes."""
        if self._settings() is not None:
            pairs = [(it.budget, it.period_id) for it in refused.states]
            self._spawn(_quietly(self._ledger.recall_slices(pairs)))

    # ── every second ─────────────────────────────────────────────────────────────────────────────

    async def run(self) -> None:
        """Renew what is used and give back what is not, until cancelled."""
        while True:
            await asyncio.sleep(TICK_S)
            try:
                await self.tick()
            except LedgerUnavailable as error:
                log.warning("slices_not_renewed", reason=str(error))

    async def tick(self) -> None:
        """Do what is due each second.

        Raises:
            LedgerUnavailable: the store did not answer.
        """
        settings, now_s = self._settings(), self._clock_s()
        passed_s = max(now_s - self._ticked_s, 0.001)
        self._ticked_s = now_s
        time_ms = self._time_ms(now_s)
        kept: list[tuple[Counter, Slice]] = []
        for key, counter in tuple(self._counters.items()):
            rate = int(counter.asked_nano_usd / passed_s)
            counter.rate_nano_usd = max(rate, counter.rate_nano_usd // 2)
            counter.idle_ticks = 0 if counter.asked_nano_usd else counter.idle_ticks + 1
            counter.asked_nano_usd = 0
            for slice_ in counter.slices:
                it = slice_.wanted
                over = time_ms is not None and not it.period.contains(time_ms)
                if over or not slice_.used or settings is None or not settings.leased(it.rule):
                    slice_.closing = True
                slice_.used = False
            self._return_ended(counter)
            kept += [(counter, slice_) for slice_ in counter.slices]
            if counter.idle_ticks > 10 and not counter.slices and counter.coming is None:
                del self._counters[key]
        if kept:
            await self._renew(kept)

    async def _renew(self, kept: Sequence[tuple[Counter, Slice]]) -> None:
        began_s = self._clock_s()
        asked = [slice_.wanted for _, slice_ in kept]
        found: tuple[SliceState, ...] = await self._ledger.renew_slices(asked, SLICE_LEASE_MS)
        for (counter, slice_), it in zip(kept, found, strict=True):
            self._heard(it.time_ms, began_s)
            if not it.granted_nano_usd:
                slice_.closing = True
            self._learn(counter, it.state, it.recalled_ms)


async def _quietly(work: Awaitable[object]) -> None:
    try:
        await work
    except LedgerUnavailable:
        # Whoever finds no room the next time asks again.
        return
