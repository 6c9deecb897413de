"""One worker of the proxy: Farebox's own code, with LiteLLM's part played around it.

Real are the governor with all that it decides by, the runtime, the renewing of leases, the sweeper,
fallbacks, the closing of a request and the taking of a policy. Played is what LiteLLM does between
them: it asks before each fallback, sends, and tells of the end in its own time.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from budgets.errors import LedgerUnavailable
from budgets.holds import BudgetHold
from budgets.home import Home
from budgets.inflight import InFlight
from budgets.matching import allowances_at
from budgets.open_requests import Attempt, OpenRequest
from budgets.outage import Outage
from budgets.prices import TokenUsage
from budgets.runtime import Runtime
from budgets.sweeper import Sweeper
from callbacks.closing import Answer, answer_cost, close, lost_answer_cost, terms_of
from hooks import underway
from hooks.admission import Refused
from hooks.case import Incoming
from hooks.governor import Governor
from hooks.policy import Policy
from hooks.worker import Worker
from tests.simulation import provider
from tests.simulation.disk import Folder
from tests.simulation.link import Link
from tests.simulation.loop import Process, VirtualLoop
from tests.simulation.provider import Fate, Provider
from tests.simulation.slices import SliceCheck

NOWHERE = Path("/nowhere")
HOME = Home(NOWHERE, NOWHERE, NOWHERE, NOWHERE, "redis://nowhere", "simulated")
SWEEP_S = 1.0
WATCH_S = 1.0


@dataclass
class Job:
    """One request of a client, and what became of it.

    `code` is how it ended for the client: `ok`, `error`, `lost` (its worker died), or a refusal's
    code. `unstarted` is true where the worker had not started yet, `offline` where the request was
    admitted without the store; `leased` are its shares where it was admitted from slices, at
    `leased_s`. `due` is what its attempts cost by the rule. `closed` is true once its worker knows
    its end, and may still have to tell the ledger.
    """

    number: int
    body: dict[str, Any]
    key: str
    team: str
    done: asyncio.Future[str]
    process: Process | None = None
    request_id: str | None = None
    decision_id: str | None = None
    code: str = ""
    retry_after_ms: int | None = None
    seconds: float = 0.0
    known_down: bool = False
    unstarted: bool = False
    offline: bool = False
    leased: tuple[BudgetHold, ...] = ()
    leased_s: float = 0.0
    due: list[int] = field(default_factory=list)
    sent: bool = False
    closed: bool = False

    def end(self, code: str) -> None:
        """Answer the client."""
        if not self.done.done():
            self.code = code
            self.done.set_result(code)


class Proxy:
    """A worker process from its start to its death. Its memory dies with it."""

    runtime_type: type[Runtime] = Runtime
    outage_type: type[Outage] = Outage

    def __init__(
        self,
        process: Process,
        loop: VirtualLoop,
        link: Link,
        folder: Folder,
        crash: Callable[[str], None],
        slices: SliceCheck,
        served_by: Provider,
        policy: Policy,
        policy_of_files: Callable[[], Policy],
        clock_ms: Callable[[], int],
        chance: random.Random,
        settle_delay_s: float,
    ) -> None:
        self.process = process
        self.link = link
        self._loop = loop
        self._provider = served_by
        self._policy_of_files = policy_of_files
        self._chance = chance
        self._settle_delay_s = settle_delay_s
        self._slices = slices
        owner = f"{process.name}.{chance.getrandbits(32):08x}"
        self.runtime = self.runtime_type(
            link,
            InFlight(link, policy.budgets.lease_ms, clock=loop.time),
            Sweeper(link, SWEEP_S, owner=owner),
            self.outage_type(
                link,
                folder.open(owner, process, crash),
                None,
                adopt=lambda: folder.adopt(process, crash),
            ),
        )
        self.runtime.new_id = lambda: f"{chance.getrandbits(64):016x}-slice"
        # Small ones are used up within a run.
        self.runtime.desk.holds_per_slice = chance.choice((1, 2, 8))
        self.worker = Worker(
            home=HOME,
            policy=policy,
            price_map={},
            apply_groups=lambda _: True,
            name=process.name,
            started_ms=0,
            policy_loaded_ms=0,
        )
        self.governor = Governor(
            self.worker,
            clock_ms,
            clock_ns=lambda: round(loop.time() * 1e9),
            new_id=lambda: f"{chance.getrandbits(128):032x}",
        )
        process.spawn(self._start())

    async def _start(self) -> None:
        """Begin as `Worker` does."""
        published = self.worker.policy.budgets.published()
        try:
            self.worker.limits_revision = await self.link.publish(published)
        except LedgerUnavailable as error:
            self.runtime.lost(error)
        self.runtime.allowances = lambda now: allowances_at(self.worker.policy.budgets, now)
        self.runtime.lease_settings = lambda: self.worker.policy.budgets.leasing
        self.runtime.start()
        self.worker.runtime = self.runtime
        self.runtime.spawn(self._watch_files(), endless=True)
        self.runtime.spawn(self.worker.keep_limits(), endless=True)

    async def _watch_files(self) -> None:
        while True:
            policy = self._policy_of_files()
            if policy is not self.worker.policy:
                await self.worker.take(policy)
            await asyncio.sleep(WATCH_S)

    # ── LiteLLM's part ───────────────────────────────────────────────────────────────────────────

    async def serve(self, job: Job) -> None:
        """Take one request through the hook, to the provider and back to the client."""
        began = self._loop.time()
        job.unstarted = self.worker.runtime is None
        job.known_down = job.unstarted or not self.runtime.available
        names = frozenset(job.body)
        incoming = Incoming(
            job.body, "acompletion", names, {}, job.key, job.team, None, "caller", ()
        )
        try:
            admission = await self.governor.admit(incoming)
        except Refused as refused:
            job.decision_id = refused.decision_id
            job.retry_after_ms = refused.refusal.retry_after_ms
            job.seconds = self._loop.time() - began
            # One that saw the store come back has waited for it, though it went again meanwhile.
            came_back = self.runtime.available or self.runtime._back_since >= began
            job.known_down = job.known_down and not came_back
            job.end(refused.refusal.code.value)
            return
        job.request_id = admission.request_id
        request = self.runtime.requests.get(admission.request_id)
        assert request is not None
        job.offline = request.offline
        if self.runtime.desk.is_unreported(admission.request_id):
            job.leased = request.terms[admission.group].budgets
            job.leased_s = self._loop.time()
        self._check_slices(request)
        ended = await self._send(job, request, (admission.group, *admission.fallbacks))
        answer = _answer_of(ended)
        job.end("ok" if answer is not None else "error")
        # LiteLLM tells of an end from a queue of its own, long after the client has its answer.
        if self._settle_delay_s:
            await asyncio.sleep(self._chance.expovariate(1 / self._settle_delay_s))
        await self._close(job, request, ended, answer)

    async def _send(
        self, job: Job, request: OpenRequest, groups: tuple[str, ...]
    ) -> provider.Attempt | None:
        """Try each group of the chain; return the attempt that ends it, None if none was sent."""
        served: provider.Attempt | None = None
        for number, group in enumerate(groups):
            if number and not await self._may_fall_back(request, group):
                continue
            attempt = request.begin_attempt(group)
            terms = terms_of(request, attempt)
            served = await self._provider.serve(
                request.request_id,
                group,
                terms.input_tokens,
                terms.output_tokens_expected,
                request.output_tokens_cap or 100,
            )
            job.sent = job.sent or served.fate is not Fate.NOT_SENT
            job.due.append(served.due_nano_usd)
            if served.fate in (Fate.REPORTED, Fate.UNREPORTED):
                return served
            _end_failed(request, attempt, served)
            if served.fate is Fate.CUT_OFF:
                return served  # The client has part of the answer: nobody else may go on.
        return served

    async def _may_fall_back(self, request: OpenRequest, group: str) -> bool:
        try:
            may = await underway.may_fall_back(self.runtime, request.request_id, group)
        except LedgerUnavailable:
            return False
        self._check_slices(request)
        return may

    def _check_slices(self, request: OpenRequest) -> None:
        if request.offline:
            offline, _ = self.runtime.outage._offline[request.request_id]
            self._slices.admitted(request.request_id, offline.budgets)

    async def _close(
        self,
        job: Job,
        request: OpenRequest,
        ended: provider.Attempt | None,
        answer: Answer | None,
    ) -> None:
        attempt = request.open_attempt()
        if answer is not None and attempt is not None:
            cost = answer_cost(answer, terms_of(request, attempt))
            attempt.end("ok", cost.nano_usd, estimated=cost.estimated)
        status = "ok" if answer is not None else "error"
        ending = close(request, status=status, answer=answer, error=None if answer else "Failed")
        job.closed = True
        charges = ending.settlement.charges if ending.settlement is not None else {}
        self._slices.ended(request.request_id, ending.cost_nano_usd, charges)
        if ending.settlement is not None:
            await self.runtime.settle(request, ending.settlement)
        else:
            await self.runtime.void(request, ending.body, ending.counters)


def _answer_of(ended: provider.Attempt | None) -> Answer | None:
    if ended is None or ended.fate not in (Fate.REPORTED, Fate.UNREPORTED):
        return None
    usage = TokenUsage(ended.input_tokens, ended.output_tokens)
    return Answer(None, usage, usage_reported=ended.fate is Fate.REPORTED)


def _end_failed(request: OpenRequest, attempt: Attempt, served: provider.Attempt) -> None:
    match served.fate:
        case Fate.NOT_SENT:
            attempt.end("not_sent")
        case Fate.ERROR:
            attempt.end("refused")
        case Fate.SILENT:
            cost = lost_answer_cost(terms_of(request, attempt))
            attempt.end("cut_off", cost.nano_usd, estimated=True)
        case _:
            cost = lost_answer_cost(terms_of(request, attempt), served.output_tokens)
            attempt.end("cut_off", cost.nano_usd, estimated=True)
