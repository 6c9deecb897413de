"""What a process does while the store is away, and how the store learns of it afterwards.

    settle, void, refuse ─► a line in the journal ─────────────┐
    hold ─► the worker's slice ─► a line, synced ─► send       ├─► told, once the store is back
            its end            ─► a line ──────────────────────┘

Lines of processes that ended are told by whoever finds their journal. A request of theirs that was
admitted offline and whose end nobody saw is charged with what it held, as after every crash.

Where the disk does not take a line, an end waits in memory and nothing new is admitted.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from budgets import spool
from budgets.allowance import Allowance
from budgets.errors import LedgerUnavailable
from budgets.holds import BudgetHold, Held, HoldRequest
from budgets.journal import Journal, JournalError
from budgets.leases.slate import Slate
from budgets.leases.types import Adoption, SliceReturn
from budgets.ledger import Ledger, Write, Written
from budgets.lines import Line
from budgets.records import RefusalRecord
from budgets.settlements import Settled, Settlement, SettleStatus, Voiding
from budgets.slices import OfflineHold

log = structlog.get_logger("farebox.journal")

REFUSALS_BYTES_MAX = 256 << 20
"""How large a journal may become by refusals; beyond it they are counted as lost. Money is always
written."""

UNWRITTEN_MAX = 20_000
"""How many lines may wait in memory because the disk does not take them."""


ENDS = frozenset({"settle", "void"})
"""The operations of lines that end a request."""

MARK = "offline"
"""What the entry of a request says that was admitted while the store was away."""


class NoSlice(LedgerUnavailable):
    """The store is away, and this worker has nothing left to admit the request by."""


class Outage:
    """One process's journal and slices.

    `journal` is None where the disk takes none: then ends wait in memory, and nothing is admitted
    while the store is away. `adopt` takes the journals of processes that have ended; the default
    looks into `folder`.
    """

    def __init__(
        self,
        ledger: Ledger,
        journal: Journal | None,
        folder: Path | None,
        *,
        adopt: Callable[[], Iterable[Journal]] | None = None,
    ) -> None:
        self._ledger = ledger
        self._journal = journal
        self._adopt = adopt or partial(_journals_of, folder)
        self._unwritten: deque[tuple[str, dict[str, Any]]] = deque()
        self._offline: dict[str, tuple[OfflineHold, list[int]]] = {}
        self._telling = asyncio.Lock()
        self.allowance = Allowance()
        self.lost_refusals = 0
        self.ended: Callable[[str], None] = lambda _: None
        """Hears of each hold whose end the ledger was told from a journal."""
        self.adopted: Callable[[Write, Written], None] = lambda *_: None
        """Hears of each request from a leased slice, and of each slice that went back, that the
        ledger was told of from a journal."""

    @property
    def owner(self) -> str:
        """The name that this process holds slices under; empty where it can't hold any."""
        return self._journal.owner if self._journal is not None else ""

    @property
    def slate(self) -> Slate | None:
        """What this process has taken and admitted ahead of the store; None without a journal."""
        return self._journal.slate if self._journal is not None else None

    @property
    def depth(self) -> int:
        """How many lines wait to be told, on disk and in memory."""
        return len(self._unwritten) + (self._journal.depth if self._journal is not None else 0)

    @property
    def unwritten(self) -> int:
        """How many lines the disk has not taken."""
        return len(self._unwritten)

    # ── admit ────────────────────────────────────────────────────────────────────────────────────

    async def hold(self, request: HoldRequest, time_ms: int) -> Held:
        """Admit a request by this worker's slices.

        Raises:
            NoSlice: a budget's slice is too small, or the journal can't be written.
        """
        return await self._hold(
            OfflineHold(
                hold_id=request.hold_id,
                amount_nano_usd=request.amount_nano_usd,
                budgets=request.budgets,
                time_ms=time_ms,
                facts=_marked(request.facts),
                decision_id=request.decision_id,
                decision=request.decision,
                stats_period=request.stats_period,
                owner=self.owner,
            )
        )

    async def top_up(
        self, hold_id: str, amount_nano_usd: int, budgets: Sequence[BudgetHold]
    ) -> Held:
        """Raise an offline hold to the given absolute amounts; never lowers one.

        Raises:
            NoSlice: a budget's slice is too small, or the journal can't be written.
        """
        standing, _ = self._offline[hold_id]
        merged = {it.budget: it for it in standing.budgets}
        for it in budgets:
            old = merged.get(it.budget)
            if old is None or it.amount_nano_usd > old.amount_nano_usd:
                period = old.period if old is not None else it.period
                merged[it.budget] = replace(it, period=period)
        amount = max(amount_nano_usd, standing.amount_nano_usd)
        raised = replace(standing, amount_nano_usd=amount, budgets=tuple(merged.values()))
        return await self._hold(raised)

    async def _hold(self, offline: OfflineHold) -> Held:
        if self._journal is None or self._unwritten:
            raise NoSlice("the journal cannot be written")
        standing = self._offline.get(offline.hold_id)
        refuser = self.allowance.hold(offline.hold_id, offline.budgets)
        if refuser is not None:
            raise NoSlice(
                f"what the budget {refuser.budget} may spend without the ledger is used up here"
            )
        try:
            number = await self._journal.append("offline", spool.of_offline(offline))
        except JournalError as error:
            log.error("journal_not_written", reason=str(error))
            if standing is None:
                self.allowance.end(offline.hold_id, (), {})
            else:
                self.allowance.hold(offline.hold_id, standing[0].budgets)
            raise NoSlice("the journal cannot be written") from error
        numbers = standing[1] if standing is not None else []
        self._offline[offline.hold_id] = (offline, [*numbers, number])
        return Held(offline.hold_id, offline.time_ms, ())

    # ── the ends ─────────────────────────────────────────────────────────────────────────────────

    async def end(self, ending: Settlement, state: str) -> None:
        """End a request that was admitted offline; `state` is `settled` or `voided`."""
        offline, _ = self._offline[ending.hold_id]
        self.allowance.end(ending.hold_id, offline.budgets, _charges(offline, ending))
        await self._write("ended", {**spool.of_settlement(ending), "state": state})

    async def void(
        self, hold_id: str, body: str, counters: Mapping[str, int], *, ahead: bool = False
    ) -> None:
        """Note a void for later."""
        content = {"hold": hold_id, "body": body, "counters": dict(counters), "ahead": ahead}
        await self._write("void", content)

    async def end_later(self, ending: Write) -> None:
        """Note a settlement or a void for later."""
        await self._write(*_line_of(ending))

    async def keep(self, ending: Write) -> int | None:
        """Write an end that is on its way into the journal; None where the disk does not take it.

        It waits there like any line until it is `told`, so that it survives this process.
        """
        if self._journal is None:
            return None
        try:
            return await self._journal.append(*_line_of(ending))
        except JournalError as error:
            log.error("journal_not_written", reason=str(error))
            return None

    def note(self, ending: Write) -> int | None:
        """Write an end on the slate, which outlives this process; None where it has no place.

        It stands there until it is wiped off.
        """
        slate = self.slate
        return slate.write(*_line_of(ending)) if slate is not None else None

    def wipe(self, places: Iterable[int | None]) -> None:
        """Take ends off the slate that the ledger knows of, or the journal has."""
        slate = self.slate
        if slate is not None:
            for place in places:
                if place is not None:
                    slate.wipe(place)

    def told(self, numbers: Sequence[int]) -> None:
        """Take the lines of ends off the list that the ledger knows of by now."""
        if self._journal is not None and numbers:
            self._journal.done(numbers)

    async def refuse(self, refusal: RefusalRecord) -> None:
        """Note a refusal for later."""
        if self._journal is not None and self._journal.bytes > REFUSALS_BYTES_MAX:
            self.lost_refusals += 1
            return
        await self._write("refuse", spool.of_refusal(refusal))

    async def _write(self, operation: str, content: dict[str, Any]) -> None:
        if self._journal is not None and not self._unwritten:
            try:
                await self._journal.append(operation, content)
                return
            except JournalError as error:
                log.error("journal_not_written", reason=str(error))
        if len(self._unwritten) >= UNWRITTEN_MAX:
            # Its hold is left to its lease, which charges it; an offline one stays in the journal.
            log.error("ledger_write_given_up", operation=operation)
            return
        self._unwritten.append((operation, content))

    # ── tell ─────────────────────────────────────────────────────────────────────────────────────

    async def tell(self) -> None:
        """Tell the ledger everything that waits, this process's own and what others have left.

        Raises:
            LedgerUnavailable: the store is away again; what was told is off the list.
        """
        async with self._telling:
            if self._journal is not None:
                for line in self._journal.lines():
                    await self._tell_own(line)
            while self._unwritten:
                operation, content = self._unwritten[0]
                await self._tell_own(Line(0, operation, content))
                self._unwritten.popleft()
            for journal in self._adopt():
                try:
                    await self.tell_of(journal)
                finally:
                    await journal.close()

    async def _tell_own(self, line: Line) -> None:
        numbers = [line.number]
        match line.operation:
            case "offline":
                # Told with its end, unless a crash left it to others.
                return
            case "ended":
                found = self._offline.get(line.content["hold"])
                if found is not None:
                    offline, held_numbers = found
                    await self._tell_ended(offline, line)
                    charges = _charges(offline, spool.settlement(line.content))
                    self.allowance.told(offline.budgets, charges)
                    del self._offline[offline.hold_id]
                    numbers += held_numbers
            case _:
                await self._tell_line(line)
        if self._journal is not None:
            self._journal.done(numbers)

    async def tell_of(self, journal: Journal) -> None:
        """Tell everything in the journal of a process that has ended, and give its slices back.

        What stands on its slate comes first: the ends in the journal may be of those requests. An
        end that is on both is told twice, which changes nothing.

        Raises:
            LedgerUnavailable: the store is away again.
        """
        on_slate = [*journal.slate.lines()] if journal.slate is not None else []
        for line in on_slate:
            if line.operation == "adopt":
                await self._tell_line(line)
        for line in on_slate:
            if line.operation in ENDS:
                await self._tell_line(line)
        holds: dict[str, OfflineHold] = {}
        ended: set[str] = set()
        numbers: list[int] = []
        for line in journal.lines():
            numbers.append(line.number)
            match line.operation:
                case "offline":
                    hold = spool.offline(line.content)
                    holds[hold.hold_id] = hold
                case "ended" if line.content["hold"] in holds:
                    await self._tell_ended(holds[line.content["hold"]], line)
                    ended.add(line.content["hold"])
                case "ended":
                    # Its hold was told already, before a crash in the middle of emptying.
                    pass
                case _:
                    await self._tell_line(line)
        for hold_id, hold in holds.items():
            if hold_id not in ended:
                await self._ledger.replay(hold, _lost(hold), "unreconciled")
                log.warning(
                    "hold_unreconciled", hold_id=hold_id, charged_nano_usd=hold.amount_nano_usd
                )
        await self._ledger.release_slices(journal.owner)
        if journal.slate is not None:
            await self._tell_slices(journal.slate, on_slate)
        journal.done(numbers)
        if numbers or on_slate:
            log.warning(
                "journal_told", owner=journal.owner, lines=len(numbers), on_slate=len(on_slate)
            )

    async def _tell_slices(self, slate: Slate, lines: Sequence[Line]) -> None:
        """Give the leased slices back of a process all of whose requests have been told."""
        if slate.is_whole():
            for line in lines:
                if line.operation == "return_slice":
                    await self._tell_line(line)
        elif lines:
            # The machine has been down meanwhile: requests may be missing on the slate.
            log.warning("leased_slices_left", reason="the machine was started anew")
        slate.clear()

    async def _tell_ended(self, offline: OfflineHold, line: Line) -> Settled:
        ending = spool.settlement(line.content)
        return await self._ledger.replay(offline, ending, line.content["state"])

    async def _tell_line(self, line: Line) -> None:
        content = line.content
        match line.operation:
            case "settle":
                settlement = spool.settlement(content)
                tell_of_lost_hold(settlement, await self._ledger.settle(settlement))
                self.ended(settlement.hold_id)
            case "void":
                await self._ledger.void(
                    content["hold"],
                    content["body"],
                    content["counters"],
                    ahead=content.get("ahead", False),
                )
                self.ended(content["hold"])
            case "refuse":
                await self._ledger.refuse(spool.refusal(content))
            case "adopt":
                adoption = spool.adoption(content)
                (written,) = await self._ledger.write_all([adoption])
                self.adopted(adoption, written)
            case "return_slice":
                returned = SliceReturn(content["slice"])
                (written,) = await self._ledger.write_all([returned])
                self.adopted(returned, written)
            case unknown:
                # A newer release wrote it: it stays for that release to tell.
                log.error("journal_operation_unknown", operation=unknown)
                raise LedgerUnavailable(
                    f"a journal has the operation {unknown!r} of a newer release"
                )

    async def close(self) -> None:
        """Let go of the journal; with nothing waiting in it, of the slices as well."""
        if self._journal is None:
            return
        if not self.depth and not self._offline:
            try:
                await self._ledger.release_slices(self._journal.owner)
            except LedgerUnavailable:
                # Whoever finds the journal gives them back.
                self._journal.keep = True
        await self._journal.close()


def _line_of(write: Write) -> tuple[str, dict[str, Any]]:
    match write:
        case Settlement():
            return "settle", spool.of_settlement(write)
        case Voiding():
            counters = dict(write.counters)
            void = {"hold": write.hold_id, "body": write.body, "counters": counters}
            return "void", {**void, "ahead": write.ahead}
        case Adoption():
            return "adopt", spool.of_adoption(write)
        case SliceReturn():
            return "return_slice", spool.of_return(write)


def _journals_of(folder: Path | None) -> Iterable[Journal]:
    return Journal.adopt(folder) if folder is not None else ()


def tell_of_lost_hold(settlement: Settlement, settled: Settled) -> None:
    """Log where the store had lost a hold: charged all the same, or too old to be charged."""
    if settled.status is SettleStatus.RECOVERED:
        log.warning(
            "hold_recovered",
            hold_id=settlement.hold_id,
            charged_nano_usd=settled.charged_nano_usd,
        )
    elif settled.status is SettleStatus.UNKNOWN_HOLD:
        log.error(
            "hold_unknown", hold_id=settlement.hold_id, cost_nano_usd=settlement.cost_nano_usd
        )


def _marked(facts: str) -> str:
    known = json.loads(facts)
    known["marks"] = [*known.get("marks", ()), MARK]
    return json.dumps(known, separators=(",", ":"), ensure_ascii=False)


def _charges(offline: OfflineHold, ending: Settlement) -> dict[str, int]:
    """Return what each budget of an offline hold is charged, as the ledger will do it."""
    return {
        it.budget: ending.charges.get(it.budget, ending.cost_nano_usd) for it in offline.budgets
    }


def _lost(offline: OfflineHold) -> Settlement:
    """Return the ending of an offline hold whose end nobody saw: charged with what it held."""
    return Settlement(
        hold_id=offline.hold_id,
        cost_nano_usd=offline.amount_nano_usd,
        body=offline.facts,
        charges={it.budget: it.amount_nano_usd for it in offline.budgets},
    )
