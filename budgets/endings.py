"""The ends of requests on their way to the ledger: no request waits for them, and they go together.

    settle, void ─► put ─► a short while ─► one script in the store ─► told
                     │                          └─ no answer soon: a line each in the journal
                     └─ the queue is full: whoever puts waits; nothing is ever dropped

Until an end is told, its hold stands, with its money and its lease, and a line of it stands on the
process's slate (`leases.slate`): whoever finds that of a process that was killed tells it. What
waits longer than `JOURNAL_AFTER_S` for its answer is in the journal too, synced, and so is
everything behind it. Only a machine that goes down takes with it what is not in the journal yet:
such a hold is charged as it stands when its lease ends, like that of any request whose end nobody
saw. Telling twice is harmless, since each end is told by its hold's id and has a definite result.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import islice

import structlog

from budgets.background import end
from budgets.errors import LedgerUnavailable
from budgets.ledger import Write, Written
from budgets.outage import Outage
from budgets.settlements import Settlement, Voiding

log = structlog.get_logger("farebox.ledger")

LINGER_S = 0.04
"""How long the first end of a batch waits for others: what a batch takes by itself is worth three
ends or four. Its hold keeps its money for so much longer; a request that finds no room because of
it makes the batch go at once, and is asked again."""

REPORT_LINGER_S = 0.01
"""The same for what came from a leased slice: how much may be unreported there is bounded."""

BATCH_MAX = 64
"""The most ends in one script: it bounds how long another command waits behind it in Redis."""

QUEUE_MAX = 10_000
"""The most ends that wait in memory. Beyond it callers wait too."""

JOURNAL_AFTER_S = 0.02
"""How long a batch may wait for its answer before it goes to the journal, with all that waits."""

Tell = Callable[[Sequence[Write]], Awaitable[tuple[Written, ...]]]
"""Tells the store; raises `LedgerUnavailable` where it does not answer."""

Told = Callable[[Write, Written], None]
"""Hears of an end that the store has taken."""


@dataclass(slots=True)
class _Waiting:
    """One end, its place on the slate, and its line in the journal once it has one."""

    ending: Write
    told: Told
    place: int | None
    line: int | None = None


class Endings:
    """The ends of one process that have not been told yet, and the task that tells them."""

    def __init__(self, tell: Tell, available: Callable[[], bool], outage: Outage) -> None:
        self._tell = tell
        self._available = available
        self._outage = outage
        self._queue: deque[_Waiting] = deque()
        self._put_count = 0
        self._done_count = 0
        self._due = asyncio.Event()
        self._linger: asyncio.TimerHandle | None = None
        self._progress = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._queue)

    def start(self) -> None:
        """Start telling in the background of the running event loop; once is enough."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="farebox-endings")

    async def put(self, ending: Write, told: Told) -> None:
        """Take an end; returns at once unless the queue is full."""
        while len(self._queue) >= QUEUE_MAX:
            self._due.set()
            await self._progress.wait()
        self._append(ending, told)

    def put_now(self, ending: Write, told: Told) -> bool:
        """Take an end, or say that the queue is full."""
        if len(self._queue) >= QUEUE_MAX:
            return False
        self._append(ending, told)
        return True

    def _append(self, ending: Write, told: Told) -> None:
        # What is asked of a slice has stood on the slate since it was taken.
        is_end = isinstance(ending, (Settlement, Voiding))
        place = self._outage.note(ending) if is_end else None
        self._queue.append(_Waiting(ending, told, place))
        self._put_count += 1
        self._wait(LINGER_S if is_end else REPORT_LINGER_S)
        self.start()

    async def flush(self) -> None:
        """Return once everything that was put before has been told, or is in the journal."""
        target = self._put_count
        while self._done_count < target:
            self._due.set()
            await self._progress.wait()

    async def close(self, timeout_s: float) -> None:
        """Tell what waits; what cannot be told in time goes to the journal."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.flush(), timeout_s)
        task, self._task = self._task, None
        await end(task)
        await self._leave(tuple(self._queue))

    def _wait(self, linger_s: float) -> None:
        """Have what is in the queue told: soon, or at once where there is nothing to wait for."""
        if len(self._queue) >= BATCH_MAX or not self._available():
            self._due.set()
        elif not self._due.is_set():
            loop = asyncio.get_running_loop()
            if self._linger is not None:
                if linger_s == LINGER_S or self._linger.when() <= loop.time() + linger_s:
                    return
                self._linger.cancel()
            # One timer for a batch: a task that waits with a time-out costs more than all the rest.
            self._linger = loop.call_later(linger_s, self._due.set)

    async def _run(self) -> None:
        while True:
            await self._due.wait()
            self._due.clear()
            if self._linger is not None:
                self._linger.cancel()
                self._linger = None
            if self._queue:
                await self._send(tuple(islice(self._queue, BATCH_MAX)))
            if self._queue:
                self._wait(LINGER_S)

    async def _send(self, batch: tuple[_Waiting, ...]) -> None:
        """Tell the first ones of the queue; they stay in it until they are told or kept."""
        if not self._available():
            await self._leave(batch)
            return
        try:
            settled = await self._told([it.ending for it in batch])
        except LedgerUnavailable:
            await self._leave(batch)
            return
        except Exception as error:
            if len(batch) == 1:
                # Left to its lease, which charges its hold.
                log.error("end_not_told", hold_id=batch[0].ending.hold_id, reason=repr(error)[:200])
                self._remove(batch)
                return
            # One of them is at fault: the others are told without it.
            for it in batch:
                await self._send((it,))
            return
        self._outage.told([it.line for it in batch if it.line is not None])
        self._remove(batch)
        for it, result in zip(batch, settled, strict=True):
            it.told(it.ending, result)

    async def _told(self, endings: Sequence[Write]) -> tuple[Written, ...]:
        loop, answered = asyncio.get_running_loop(), asyncio.Event()
        keeping: list[asyncio.Task[None]] = []
        late = loop.call_later(
            JOURNAL_AFTER_S, lambda: keeping.append(loop.create_task(self._keep_until(answered)))
        )
        try:
            return await self._tell(endings)
        except asyncio.CancelledError:
            await end(*keeping)
            raise
        except GeneratorExit:
            # The event loop has gone for good: there is nobody left to wait for.
            keeping.clear()
            raise
        finally:
            late.cancel()
            answered.set()
            if keeping:
                # What is being written gets a line, and that line is told as well.
                await asyncio.gather(*keeping)

    async def _keep_until(self, answered: asyncio.Event) -> None:
        """Keep all that waits, and what comes meanwhile, until there is an answer."""
        while not answered.is_set():
            await self._keep(tuple(self._queue))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(answered.wait(), JOURNAL_AFTER_S)

    async def _keep(self, waiting: Sequence[_Waiting]) -> None:
        """Write those into the journal that are not in it yet: one sync for all of them."""

        async def keep(it: _Waiting) -> None:
            it.line = await self._outage.keep(it.ending)

        await asyncio.gather(*(keep(it) for it in waiting if it.line is None))

    async def _leave(self, batch: Sequence[_Waiting]) -> None:
        """Leave them to the journal, which is told once the store is back."""
        await self._keep(batch)
        for it in batch:
            if it.line is None:
                # The disk did not take it: it waits in memory.
                await self._outage.end_later(it.ending)
        self._remove(batch)

    def _remove(self, batch: Sequence[_Waiting]) -> None:
        self._outage.wipe(it.place for it in batch)
        for _ in batch:
            self._queue.popleft()
        self._done_count += len(batch)
        progress, self._progress = self._progress, asyncio.Event()
        progress.set()
