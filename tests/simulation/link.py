"""The network between one worker and the store, as a `Ledger`: what the worker's Redis client is.

It does what that client does. A broken connection is tried once more at once, so a call whose reply
was lost arrives twice. After a time-out the caller gives up, and the call may still be done later.
Where the store lost its limits, what this worker published last is published again; and each
publishing names the revision that it follows.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from budgets.audit.memory import MemoryTrail
from budgets.connection import SOCKET_TIMEOUT_S
from budgets.errors import LedgerUnavailable, PolicyNotPublished, PolicyOutrun
from budgets.holds import BudgetHold, Held, HoldRequest, Refused
from budgets.leases.types import SliceState, SliceTake
from budgets.ledger import Write, Written
from budgets.published import PublishedPolicy
from budgets.redis_store import PUBLISH_TRIES
from budgets.settlements import Settlement, Voiding
from budgets.slices import Slice, SliceRequest
from tests.simulation.faults import LinkFault, Plan
from tests.simulation.loop import VirtualLoop, outside
from tests.simulation.store import Answer, Store

LATE_S_MAX = 20.0
PROBES_SPARED = 0.8
"""The share of probes that no fault strikes: they are most of the calls, and the least of them."""


class Link:
    """A `Ledger` over a faulty network. `crash` kills the worker that this link belongs to."""

    def __init__(
        self,
        store: Store,
        plan: Plan,
        loop: VirtualLoop,
        chance: random.Random,
        crash: Callable[[str], None],
        note: Callable[[str], None],
    ) -> None:
        self._store = store
        self._plan = plan
        self._loop = loop
        self._chance = chance
        self._crash = crash
        self._note = note
        # What is on its way goes on when its sender dies.
        self._outside = outside()
        self._policy: PublishedPolicy | None = None
        self._revision = 0
        self.asked: list[str] = []
        """Every hold that this worker ever asked for."""
        self.asked_slices: set[str] = set()
        """Every slice that it ever asked for."""
        self.calm = False
        """Whether the network has stopped failing: for the end of a run."""

    async def _call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        fault = None if self.calm else self._plan.link_fault(self._chance)
        if name == "now_ms" and self._chance.random() < PROBES_SPARED:
            fault = None
        if fault is not None:
            self._note(f"link {fault} {name}")
        match fault:
            case LinkFault.CRASH_BEFORE:
                self._crash(f"before {name}")
                await self._loop.create_future()
            case LinkFault.REFUSED:
                await asyncio.sleep(self._plan.latency_s)
                raise LedgerUnavailable("Redis cannot be reached")
            case LinkFault.SWALLOWED:
                await asyncio.sleep(SOCKET_TIMEOUT_S)
                raise LedgerUnavailable("Redis did not answer in time")
            case LinkFault.LATE:
                delay_s = self._chance.uniform(0, LATE_S_MAX)
                self._later(delay_s, lambda: self._arrive(name, args, kwargs, None))
                await asyncio.sleep(SOCKET_TIMEOUT_S)
                raise LedgerUnavailable("Redis did not answer in time")
            case LinkFault.CUT_AFTER:
                await self._deliver(name, args, kwargs)
            case LinkFault.CUT_TWICE:
                await self._deliver(name, args, kwargs)
                raise LedgerUnavailable("Redis cannot be reached")
        answer = await self._deliver(name, args, kwargs)
        if fault is LinkFault.CRASH_AFTER:
            self._crash(f"after {name}")
            await self._loop.create_future()
        return answer.get()

    async def _deliver(self, name: str, args: Any, kwargs: Any) -> Answer:
        """Send a call and wait for its reply, for as long as the client waits."""
        reply: asyncio.Future[Answer] = self._loop.create_future()
        self._later(self._latency_s(), lambda: self._arrive(name, args, kwargs, reply))
        return await reply

    def _arrive(
        self, name: str, args: Any, kwargs: Any, reply: asyncio.Future[Answer] | None
    ) -> None:
        store = self._store
        if store.down:
            error = LedgerUnavailable("Redis cannot be reached")
            self._later(self._latency_s(), lambda: _set(reply, Answer(error=error)))
        elif store.paused:
            store.queue.append(lambda: self._arrive(name, args, kwargs, reply))
            late = Answer(error=LedgerUnavailable("Redis did not answer in time"))
            self._later(SOCKET_TIMEOUT_S, lambda: _set(reply, late))
        else:
            answer = store.execute(name, *args, **kwargs)
            self._later(self._latency_s(), lambda: _set(reply, answer))

    def _latency_s(self) -> float:
        return self._chance.uniform(0, 2 * self._plan.latency_s) if self._plan.latency_s else 0.0

    def _later(self, delay_s: float, work: Callable[[], None]) -> None:
        self._loop.call_later(delay_s, work, context=self._outside)

    async def _call_with_policy(self, name: str, *args: Any) -> Any:
        try:
            return await self._call(name, *args)
        except PolicyNotPublished:
            if self._policy is None:
                raise
            await self.publish(self._policy)
            return await self._call(name, *args)

    async def take_slice(self, wanted: SliceTake) -> SliceState:
        self.asked_slices.add(wanted.slice_id)
        taken: SliceState = await self._call_with_policy("take_slice", wanted)
        return taken

    async def renew_slices(
        self, slices: Sequence[SliceTake], lease_ms: int
    ) -> tuple[SliceState, ...]:
        if not slices:
            return ()
        found: tuple[SliceState, ...] = await self._call("renew_slices", tuple(slices), lease_ms)
        return found

    async def write_all(self, endings: Sequence[Write]) -> tuple[Written, ...]:
        """Send a batch: here a broken connection can strike between any two of its writes.

        The client then sends all of it once more, or says that the store was not reached. Redis
        does a batch in one step; no promise hangs on that.
        """
        fault = None if self.calm else self._plan.link_fault(self._chance)
        if fault in (LinkFault.CUT_BEFORE, LinkFault.REFUSED, LinkFault.CRASH_BEFORE):
            first = self._chance.randint(0, len(endings))
            self._note(f"link {fault} write_all after {first} of {len(endings)}")
            for it in endings[:first]:
                await self._deliver(*_operation(it))
        elif fault is not None:
            self._note(f"link {fault} write_all")
        match fault:
            case LinkFault.CRASH_BEFORE:
                self._crash("in a pipeline")
                await self._loop.create_future()
            case LinkFault.REFUSED:
                raise LedgerUnavailable("Redis cannot be reached")
            case LinkFault.SWALLOWED:
                await asyncio.sleep(SOCKET_TIMEOUT_S)
                raise LedgerUnavailable("Redis did not answer in time")
            case LinkFault.LATE:
                delay_s = self._chance.uniform(0, LATE_S_MAX)
                self._later(delay_s, lambda: self._arrive_all(endings, None))
                await asyncio.sleep(SOCKET_TIMEOUT_S)
                raise LedgerUnavailable("Redis did not answer in time")
            case LinkFault.CUT_AFTER | LinkFault.CUT_TWICE:
                await self._deliver_all(endings)
                if fault is LinkFault.CUT_TWICE:
                    raise LedgerUnavailable("Redis cannot be reached")
        answers = await self._deliver_all(endings)
        if fault is LinkFault.CRASH_AFTER:
            self._crash("after a pipeline")
            await self._loop.create_future()
        return tuple(answer.get() for answer in answers)

    async def _deliver_all(self, endings: Sequence[Write]) -> list[Answer]:
        replies: list[asyncio.Future[Answer]] = [self._loop.create_future() for _ in endings]
        self._later(self._latency_s(), lambda: self._arrive_all(endings, replies))
        return [await reply for reply in replies]

    def _arrive_all(
        self, endings: Sequence[Write], replies: Sequence[asyncio.Future[Answer]] | None
    ) -> None:
        for number, it in enumerate(endings):
            self._arrive(*_operation(it), replies[number] if replies is not None else None)

    # ── the ledger's operations ──────────────────────────────────────────────────────────────────

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        """Return an operation of the ledger that needs nothing but to be sent."""
        if name.startswith("_"):
            raise AttributeError(name)
        return partial(self._call, name)

    @property
    def trail(self) -> MemoryTrail:
        """The audit trail, without faults: what workers note there decides nothing here."""
        return self._store.ledger.trail

    async def publish(self, policy: PublishedPolicy, after: int | None = None) -> int:
        self._policy = policy
        for _ in range(PUBLISH_TRIES):
            expected = self._revision if after is None else after
            try:
                self._revision = await self._call("publish", policy, expected)
            except PolicyOutrun as outrun:
                self._revision = outrun.revision
                if after is not None:
                    raise
            else:
                return self._revision
        raise PolicyOutrun(self._revision)

    async def hold(self, request: HoldRequest) -> Held | Refused:
        self.asked.append(request.hold_id)
        answer: Held | Refused = await self._call_with_policy("hold", request)
        return answer

    async def top_up(
        self, hold_id: str, amount_nano_usd: int, budgets: tuple[BudgetHold, ...]
    ) -> Held | Refused | None:
        answer: Held | Refused | None = await self._call_with_policy(
            "top_up", hold_id, amount_nano_usd, budgets
        )
        return answer

    async def slices(self, owner: str, wanted: Sequence[SliceRequest]) -> tuple[Slice, ...]:
        if not wanted:
            return ()
        slices: tuple[Slice, ...] = await self._call("slices", owner, wanted)
        return slices


def _operation(it: Write) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
    """Return a write as the store is asked for it."""
    match it:
        case Settlement():
            return "settle", (it,), {}
        case Voiding():
            return "void", (it.hold_id, it.body, it.counters), {"ahead": it.ahead}
    return "write", (it,), {}


def _set(reply: asyncio.Future[Answer] | None, answer: Answer) -> None:
    if reply is not None and not reply.done():
        reply.set_result(answer)
