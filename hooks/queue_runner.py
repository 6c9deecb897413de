"""Runs queued requests when there is budget for them, in whichever worker leads.

    every second, and when a run ends:
      lead ─► end what expired ─► take over from the dead ─► look what fits ─► run

Nothing announces budget: a grant, a turn of the month, a raised limit and a released hold all show
in the counters, so the leader reads those of the budgets that are waited for. Whether a request is
admitted is decided by its own hold, like any request's; the look only saves vain tries.

**Charged once.** The id of a run is the id of its hold. A run whose worker died is taken over when
its lease has ended, and what the ledger says of the hold decides:

    none, voided   nothing was charged: it runs again (after a void under a new id)
    open           it may still end: it is looked at again later
    unreconciled   charged by its lease: it runs again under the same id, which corrects that charge
    settled        it was answered, and the answer is lost: running it again would cost a second
                   time, so a person decides (`farebox queue retry`)
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from typing import Any

import structlog

from budgets.approvals.types import Who
from budgets.errors import LedgerUnavailable
from budgets.ledger import Ledger
from budgets.period import period_at
from budgets.queue.items import ANSWER_LOST, INTERRUPTED, RUNNER_DIED, Item, State, Totals
from budgets.queue.order import runnable
from budgets.queue.seal import SealError
from hooks.approvals import HEADER as APPROVAL_HEADER
from hooks.arrival import Run
from hooks.policy import Policy
from hooks.queue_desk import QueueDesk, StoredRequest
from hooks.queue_metrics import RUNS
from hooks.queue_outcome import Kind, Reply, judge
from hooks.queue_webhook import check_address
from hooks.values import InvalidRequest

log = structlog.get_logger("farebox.queue")

ROLE = "queue"
LEAD_MS = 10_000
LOOK_INTERVAL_S = 1.0
LEASE_MS = 10_000
SCANNED_MAX = 1_000
"""How many waiting requests one look goes through, from the first in order."""
BATCH_MAX = 100
APPROVALS_SOUGHT_MAX = 10
"""For how many requests that lack budget one look asks whether they are approved."""
SEALED_PAUSE_MS = 60_000

Sender = Callable[[Run, StoredRequest], Awaitable[Reply]]
Spawn = Callable[[Awaitable[object]], object]
Teller = Callable[[str, dict[str, Any]], Awaitable[bool]]


class QueueRunner:
    """The runner of one worker.

    Args:
        ledger: tells budgets and who leads.
        desk: the queue and its keys.
        policy: returns the policy in force.
        send: sends a request and returns its whole answer.
        spawn: runs work in the background, which a stop waits for.
        tell: calls a webhook.
        owner: the name under which it leads and runs; each worker has its own.
    """

    def __init__(
        self,
        ledger: Ledger,
        desk: QueueDesk,
        *,
        policy: Callable[[], Policy],
        send: Sender,
        spawn: Spawn,
        tell: Teller,
        owner: str,
        lease_ms: int = LEASE_MS,
    ) -> None:
        self._ledger = ledger
        self._desk = desk
        self._queue = desk.queue
        self._policy = policy
        self._send = send
        self._spawn = spawn
        self._tell = tell
        self._owner = owner
        self._lease_ms = lease_ms
        self.running: set[str] = set()
        self._ended_one = asyncio.Event()

    async def run(self) -> None:
        """Look again and again; never ends by itself."""
        while True:
            try:
                await self.look()
            except LedgerUnavailable as error:
                log.debug("queue_not_looked_at", reason=str(error))
            except Exception:
                log.exception("queue_not_looked_at")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ended_one.wait(), LOOK_INTERVAL_S)
            self._ended_one.clear()

    async def look(self) -> int:
        """Start what can run now, if this worker leads; return how many were started.

        Raises:
            LedgerUnavailable: Redis does not answer.
        """
        if not await self._ledger.lead(ROLE, self._owner, LEAD_MS):
            return 0
        totals = await self._queue.totals()
        if not totals.waiting and not totals.running:
            return 0
        for item_id in await self._queue.expire(BATCH_MAX):
            log.info("queued_request_expired", queue_id=item_id)
            if ended := await self._queue.get(item_id):
                self._spawn(self._tell_of(ended))
        for orphan in await self._queue.orphans(BATCH_MAX):
            await self._take_over(orphan)
        return await self._start(totals)

    async def _start(self, totals: Totals) -> int:
        free = self._policy().routing.queue.at_once - len(self.running)
        if free <= 0 or not totals.waiting:
            return 0
        waiting = await self._queue.waiting(SCANNED_MAX)
        left, periods = await self._left(waiting)
        approved = await self._approved(waiting, left, periods, totals.time_ms)
        chosen = runnable(
            waiting, left, totals.time_ms, free, self._desk.sealing.can_open, approved
        )
        for item in chosen:
            claimed = await self._queue.claim(item.id, self._owner, self._lease_ms)
            if claimed is not None:
                self.running.add(claimed.id)
                self._spawn(self._run(claimed, approved.get(claimed.id, "")))
        return len(chosen)

    async def _left(self, waiting: Iterable[Item]) -> tuple[dict[str, int], dict[str, str]]:
        """Return what each budget that is waited for has left, as far as it limits anything.

        The second value is the id of the period that it has it in.
        """
        budgets = self._policy().budgets
        now_ms = await self._ledger.now_ms()
        named: dict[str, tuple[str, str, str]] = {}
        for item in waiting:
            for need in item.needs:
                rule = budgets.budgets.get(need.rule)
                if rule is not None and rule.mode == "enforce":
                    period = period_at(rule.period, budgets.time_zone, now_ms)
                    named[need.budget] = (need.budget, need.rule, period.id)
        states = await self._ledger.states(list(named.values()))
        left = {state.budget: state.remaining_nano_usd for state in states}
        return left, {budget: period for budget, _, period in named.values()}

    async def _approved(
        self, waiting: Iterable[Item], left: dict[str, int], periods: dict[str, str], now_ms: int
    ) -> dict[str, str]:
        """Return those that may pass a limit by an approval, with the approval to name.

        Only of the first that lack budget, since each is a question to the ledger. Where an
        approval matches a request by itself, the hold finds it, and none need be named.
        """
        found: dict[str, str] = {}
        asked = 0
        for item in waiting:
            short = [
                (need.budget, periods[need.budget])
                for need in item.needs
                if need.budget in left and need.amount_nano_usd > left[need.budget]
            ]
            if not short or item.not_before_ms > now_ms:
                continue
            asked += 1
            if asked > APPROVALS_SOUGHT_MAX:
                break
            amount = item.amount_nano_usd
            ticket = await self._ledger.ticket(item.approval_id) if item.approval_id else None
            if ticket is not None and ticket.has_left(amount, now_ms):
                found[item.id] = ticket.approval_id
                continue
            who = Who(item.key_name, item.user)
            if await self._ledger.find_approval(who, item.task_type, short, amount):
                found[item.id] = ""
        return found

    # ── one run ──────────────────────────────────────────────────────────────────────────────────

    async def _run(self, item: Item, approval_id: str) -> None:
        renewing = asyncio.ensure_future(self._keep(item))
        try:
            await self._run_once(item, approval_id)
        except LedgerUnavailable as error:
            # Whoever takes it over finds out from the ledger what became of it.
            log.warning("queued_run_not_recorded", queue_id=item.id, reason=str(error))
        finally:
            renewing.cancel()
            self.running.discard(item.id)
            self._ended_one.set()  # There is a place for the next one.

    async def _keep(self, item: Item) -> None:
        while True:
            await asyncio.sleep(self._lease_ms / 3000)
            with contextlib.suppress(LedgerUnavailable):
                await self._queue.renew(item.id, self._owner, self._lease_ms)

    async def _run_once(self, item: Item, approval_id: str) -> None:
        sealed = await self._queue.body(item.id)
        if sealed is None:
            await self._bury(item, "expired")
            return
        try:
            request = self._desk.open_request(sealed, item.id)
        except SealError as error:
            log.error("queued_request_not_opened", queue_id=item.id, reason=str(error))
            await self._bury(item, "not_opened")
            return
        if approval_id:
            named = {**request.headers, APPROVAL_HEADER: approval_id}
            request = replace(request, headers=named)
        run = Run(item.id, item.hold_id, item.owner, item.lost)
        reply = await self._send(run, request)
        await self._record(item, reply)

    async def _record(self, item: Item, reply: Reply) -> None:
        outcome = judge(reply, item.attempts, await self._ledger.now_ms() - item.queued_ms)
        RUNS.labels(outcome.kind.name.lower()).inc()
        log.info(
            "queued_request_run",
            queue_id=item.id,
            run=item.run,
            outcome=outcome.kind.name.lower(),
            reason=outcome.reason,
            status=reply.status,
        )
        match outcome.kind:
            case Kind.ANSWERED:
                answer = self._desk.seal_answer(reply.status, reply.headers, reply.body, item)
                if await self._queue.finish(item.id, self._owner, reply.status, answer):
                    await self._ended(item.id)
            case Kind.NEVER:
                await self._bury(item, outcome.reason)
            case Kind.WAIT | Kind.FAILED:
                state = await self._queue.release(
                    item.id,
                    self._owner,
                    reason=outcome.reason,
                    wait_ms=outcome.wait_ms,
                    failed=outcome.kind is Kind.FAILED,
                    # What is charged already and was not sent goes on under its charge.
                    new_run=outcome.new_run and not (item.charged and outcome.kind is Kind.WAIT),
                )
                if state is State.DEAD:
                    await self._ended(item.id)

    async def _bury(self, item: Item, reason: str) -> None:
        if await self._queue.bury(item.id, self._owner, reason):
            await self._ended(item.id)

    async def _ended(self, item_id: str) -> None:
        ended = await self._queue.get(item_id)
        if ended is None:
            return
        if ended.state is State.DEAD:
            log.warning(
                "queued_request_dead",
                queue_id=item_id,
                reason=ended.reason,
                attempts=ended.attempts,
                category=ended.category,
            )
        self._spawn(self._tell_of(ended))

    async def _tell_of(self, item: Item) -> None:
        address = self._desk.webhook_of(item)
        if address is None:
            return
        try:
            check_address(address, self._policy().routing.queue.webhook_origins)
        except InvalidRequest:
            log.warning("queue_webhook_not_listed", queue_id=item.id)
            return
        content = {"queue_id": item.id, "state": item.state.value, "reason": item.reason or None}
        await self._tell(address, content)

    # ── runs whose worker died ───────────────────────────────────────────────────────────────────

    async def _take_over(self, item: Item) -> None:
        if item.id in self.running:
            return  # It is this worker's own, whose renewals came too late.
        state = await self._queue.hold_state(item.hold_id)
        if state == "open":
            return
        if not await self._queue.adopt(item.id, item.runner, self._owner, self._lease_ms):
            return
        log.warning("queued_run_taken_over", queue_id=item.id, run=item.run, hold=state or "none")
        if state == "settled":
            await self._bury(item, ANSWER_LOST)
            return
        charged = state == "unreconciled"
        after = await self._queue.release(
            item.id,
            self._owner,
            reason=INTERRUPTED if charged else RUNNER_DIED,
            wait_ms=0,
            failed=True,
            new_run=state == "voided",
            lost=charged,
        )
        if after is State.DEAD:
            await self._ended(item.id)
