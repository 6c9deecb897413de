"""What one worker of the proxy holds: the policy in force, and the work beside the requests.

Beside the requests it watches the three files and takes valid edits, keeps the learned output
lengths at hand, and writes a status that `farebox status` reads. It knows nothing of LiteLLM: what
to do to the router at an edit, and which prices hold, is handed in.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import structlog

from budgets import runtime, tally, workers
from budgets.alerts.alerter import open_alerter
from budgets.alerts.redis_outbox import RedisOutbox
from budgets.archivist import Archivist, Settings
from budgets.audit.anchor import Anchorer
from budgets.connection import RedisUrlError
from budgets.daily import DailyWriter
from budgets.drift.job import DriftJob
from budgets.drift.store import DriftStore
from budgets.embedded import EmbeddedRedisError
from budgets.errors import LedgerUnavailable, PolicyOutrun
from budgets.home import Home
from budgets.learned import Learned
from budgets.ledger import Ledger
from budgets.matching import allowances_at
from budgets.months.closer import MonthCloser, Months, Rules
from budgets.months.keeping import RedisSnapshots, SnapshotFolder
from budgets.opening import open_runtime
from budgets.packer import Packer
from budgets.period import Period
from budgets.redis_scripts import preload
from budgets.runtime import Runtime
from budgets.workers import WorkerStatus
from budgets.yamlfile import ConfigErrors
from hooks import policy_trail
from hooks.drift_view import watchlist_of
from hooks.groups import PriceMap
from hooks.metrics import POLICY_RELOADS, OwnFigures
from hooks.month_report import write_report
from hooks.month_routes import Office
from hooks.policy import Policy, load_policy
from hooks.queue_desk import QueueDesk, open_desk
from hooks.router.loading import summary, with_drift
from hooks.router.notice import note_router
from hooks.router.traffic import Traffic, TrafficStore
from hooks.session_desk import Sessions, open_sessions
from hooks.watch import Watch

log = structlog.get_logger("farebox.worker")

WATCH_INTERVAL_S = 0.4
LEARNED_INTERVAL_S = 2.0
LEARNED_INTERVAL_LEAST_S = 0.05
STATUS_INTERVAL_S = 2.0
START_RETRY_S = 1.0
LIMITS_INTERVAL_S = 5.0


@dataclass(slots=True)
class Worker:
    """One worker's state. Everything that a request reads is replaced whole, never changed."""

    home: Home
    policy: Policy
    price_map: PriceMap
    apply_groups: Callable[[Policy], bool]
    taken: Callable[[Policy], None] = lambda _: None
    simulated: frozenset[str] = frozenset()
    runtime: Runtime | None = None
    queue: QueueDesk | None = None
    sessions: Sessions | None = None
    run_queue: Callable[[Worker], Awaitable[None]] | None = None
    learned: Learned = field(default_factory=Learned)
    errors: tuple[str, ...] = ()
    needs_restart: tuple[str, ...] = ()
    groups_applied: bool = False
    limits_revision: int | None = None
    name: str = field(default_factory=lambda: f"{socket.gethostname()}:{os.getpid()}")
    started_ms: int = field(default_factory=lambda: _wall_ms())
    policy_loaded_ms: int = field(default_factory=lambda: _wall_ms())
    _start_digest: str = ""
    _watch: Watch | None = None
    _retry: bool = False
    _started: asyncio.Event = field(default_factory=asyncio.Event)
    _starting: asyncio.Task[None] | None = None
    _counting: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Start in the background, once; needs a running event loop."""
        if self._starting is None:
            loop = asyncio.get_running_loop()
            self._starting = loop.create_task(self._start())
            self._counting = loop.create_task(tally.keep_flushing())

    async def ready(self) -> Runtime | None:
        """Return the runtime; None where the ledger has not been reached yet."""
        self.begin()
        if not self._started.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._started.wait(), 5.0)
        if not self.groups_applied:
            self.groups_applied = self.apply_groups(self.policy)
        return self.runtime

    async def _start(self) -> None:
        self.taken(self.policy)
        self._start_digest = self.policy.restart_digest
        self._watch = Watch(self.policy.files)
        note_router(self.policy.router)
        while self.runtime is None:
            try:
                opened = await open_runtime(self.home, self.policy.budgets.lease_ms)
            except (RedisUrlError, EmbeddedRedisError) as error:
                log.error("ledger_not_reached", reason=str(error))
                self._started.set()
                await asyncio.sleep(START_RETRY_S)
                continue
            try:
                self.limits_revision = await opened.ledger.publish(self.policy.budgets.published())
                if opened.client is not None:
                    await preload(opened.client)
            except LedgerUnavailable as error:
                # The first hold after its return publishes them.
                opened.lost(error)
            opened.allowances = self._allowances
            opened.lease_settings = lambda: self.policy.budgets.leasing
            opened.start()
            runtime.install(opened)
            self.queue = open_desk(self.home, opened)
            self.sessions = open_sessions(self.home, opened)
            self.runtime = opened
        self._started.set()
        for work in (self._watch_files, self.keep_limits, self._refresh_learned, self._report):
            self.runtime.spawn(work(), endless=True)
        self.runtime.spawn(self._archivist(self.runtime.ledger).run(), endless=True)
        if (office := await self.office()) is not None:
            closer = MonthCloser(office.months, self._rules, self.name, self._write_report)
            self.runtime.spawn(closer.run(), endless=True)
        self.runtime.spawn(self._anchorer(self.runtime.ledger).run(), endless=True)
        if (client := self.runtime.client) is not None:
            days = DailyWriter(client, self.runtime.ledger, self.home.ledger, self._zone, self.name)
            self.runtime.spawn(days.run(), endless=True)
            packer = Packer(client, self.runtime.ledger, self.home.ledger, self.name)
            self.runtime.spawn(packer.run(), endless=True)
        self.runtime.spawn(policy_trail.note_start(self.runtime.ledger.trail, self.policy))
        self._alert(self.runtime)
        if self.run_queue is not None:
            self.runtime.spawn(self.run_queue(self), endless=True)

    def _alert(self, running: Runtime) -> None:
        """Deliver alerts in the background, and look for them where this worker leads."""
        assert running.client is not None  # `open_runtime` has just made it.
        outbox = RedisOutbox(running.client, self.home.ledger)
        alerter = open_alerter(
            running.ledger,
            outbox,
            self.home,
            lambda: self.policy.budgets,
            lambda: running.available,
            self.name,
        )
        running.spawn(alerter.deliver(), endless=True)
        running.spawn(alerter.look(), endless=True)
        traffic = Traffic(
            TrafficStore(running.client, self.home.ledger),
            running.ledger,
            lambda: self.policy.router,
            outbox.note,
            self._note_drift,
            self.name,
        )
        running.spawn(traffic.run(), endless=True)
        drift = DriftJob(
            running.ledger,
            DriftStore(running.client, self.home.ledger),
            lambda: watchlist_of(self.policy),
            self.name,
            scored=traffic.take,
        )
        running.spawn(drift.run(), endless=True)

    def _note_drift(self, digest: str, reasons: tuple[str, ...]) -> None:
        """Take what the newest window of live requests says about the router."""
        router = with_drift(self.policy.router, digest, reasons)
        if router is not self.policy.router:
            self.policy = replace(self.policy, router=router)
            note_router(router)

    def _allowances(self, time_ms: int) -> Iterable[tuple[str, Period, int, bool]]:
        """Return the rules that may be passed while the ledger is away, as the policy has them."""
        return allowances_at(self.policy.budgets, time_ms)

    # ── the three files ──────────────────────────────────────────────────────────────────────────

    async def _watch_files(self) -> None:
        assert self._watch is not None
        while True:
            if not self.groups_applied:
                self.groups_applied = self.apply_groups(self.policy)
            if self._watch.changed() or self._retry:
                self._retry = False
                await self.reload()
            await asyncio.sleep(WATCH_INTERVAL_S)

    async def reload(self) -> None:
        """Take the files as they are now, if they are valid; otherwise keep the policy and say why.

        The new limits are published before the new policy decides, so that no request is admitted
        by new rules against old limits.
        """
        try:
            policy = await asyncio.to_thread(load_policy, self.policy.paths, self.price_map)
        except ConfigErrors as problems:
            self._reject(tuple(str(finding) for finding in problems.findings))
            return
        if policy.revision == self.policy.revision:
            self.errors = ()
            return
        await self.take(policy)

    async def take(self, policy: Policy) -> None:
        """Decide by `policy` from now on, once the store and LiteLLM have taken it too."""
        previous = self.policy
        try:
            if self.runtime is not None:
                self.limits_revision = await self.runtime.ledger.publish(policy.budgets.published())
            litellm_file = str(policy.paths.litellm)
            if policy.digests[litellm_file] != previous.digests[litellm_file]:
                self.apply_groups(policy)
        except LedgerUnavailable as error:
            self._reject((f"the ledger does not take the new limits now: {error}",))
            self._retry = True
            return
        except (
            Exception
        ) as error:  # LiteLLM's router did not take the groups: put the old ones back.
            self.apply_groups(previous)
            self._reject((f"LiteLLM does not take these groups: {type(error).__name__}",))
            return
        self.policy = policy
        if self._watch is not None:
            self._watch.follow(policy.files)
        if policy.router.problems != previous.router.problems:
            note_router(policy.router)
        if self.runtime is not None:
            trail = self.runtime.ledger.trail
            self.runtime.spawn(policy_trail.note_edit(trail, previous, policy))
        POLICY_RELOADS.labels("taken").inc()
        self.taken(policy)
        self.policy_loaded_ms = _wall_ms()
        self.errors = ()
        self.needs_restart = (
            ("litellm_config.yaml: callbacks, litellm_settings, general_settings or environment",)
            if policy.restart_digest != self._start_digest
            else ()
        )
        log.info(
            "policy_reloaded",
            revision=policy.revision,
            previous=previous.revision,
            needs_restart=bool(self.needs_restart),
        )

    async def keep_limits(self) -> None:
        """See to it that the store's limits do not go back, for as long as this worker lives.

        A failover can lose the last writes, and so an edit of the limits; an older policy can
        arrive late. Nobody else would notice. A newer edit than this worker's is left alone at
        first: the files will tell of it.
        """
        assert self.runtime is not None
        ledger = self.runtime.ledger
        met: int | None = None
        insisted: Policy | None = None
        while True:
            known = self.limits_revision
            await asyncio.sleep(START_RETRY_S if known is None else LIMITS_INTERVAL_S)
            published = self.policy.budgets.published()
            with contextlib.suppress(LedgerUnavailable):
                try:
                    # The store was away when this worker started: its limits may be none of ours.
                    self.limits_revision = await ledger.publish(published, known)
                except PolicyOutrun as outrun:
                    lost = known is None or outrun.revision < known
                    # Met twice it is no edit that this worker has yet to read. It insists once for
                    # each policy: two workers with other files must not take turns for ever.
                    stays = outrun.revision == met and insisted is not self.policy
                    met = outrun.revision
                    if not lost and stays:
                        insisted = self.policy
                    if lost or stays:
                        self.limits_revision = await ledger.publish(published)
                        log.warning("limits_published_again", revision=self.limits_revision)
                    if lost:
                        # What forgot the limits has forgotten the audit trail's last lines too.
                        await policy_trail.note_start(ledger.trail, self.policy)

    def _reject(self, problems: tuple[str, ...]) -> None:
        self.errors = problems
        POLICY_RELOADS.labels("rejected").inc()
        log.error("policy_rejected", kept=self.policy.revision, problems=list(problems[:20]))

    # ── what is looked at beside the requests ────────────────────────────────────────────────────

    async def _refresh_learned(self) -> None:
        assert self.runtime is not None
        while True:
            with contextlib.suppress(LedgerUnavailable):
                self.learned = await self.runtime.ledger.learned()
            await asyncio.sleep(LEARNED_INTERVAL_LEAST_S)
            # An overage raises a margin: the requests that come now need it, not those in two
            # seconds.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.runtime.overage.wait(), LEARNED_INTERVAL_S)
            self.runtime.overage.clear()

    async def _report(self) -> None:
        assert self.runtime is not None
        figures = OwnFigures()
        while True:
            figures.show(self.runtime, runtime.trace_counts())
            if self.runtime.available and self.runtime.client is not None:
                with contextlib.suppress(Exception):  # A status is never worth a failure.
                    await workers.publish(self.runtime.client, self.home.ledger, self.status())
            await asyncio.sleep(STATUS_INTERVAL_S)

    def _anchorer(self, ledger: Ledger) -> Anchorer:
        def folders() -> tuple[Path, ...]:
            named = self.policy.budgets.audit.folders(self.policy.paths.budgets)
            return (self.home.audit, *named)

        return Anchorer(ledger, ledger.trail, self.home.ledger, folders, self.name)

    def _archivist(self, ledger: Ledger) -> Archivist:
        def settings() -> Settings | None:
            budgets = self.policy.budgets
            sink = budgets.archive.sink(self.policy.paths.budgets)
            if sink is None:
                return None
            return Settings(sink, budgets.time_zone, budgets.archive.live_months)

        return Archivist(ledger, self.home.ledger, settings, self.name)

    def _zone(self) -> str:
        return self.policy.budgets.time_zone

    def _rules(self) -> Rules:
        return Rules(self.policy.budgets, self.policy.revision)

    async def office(self) -> Office | None:
        """Return what closes months; None where the ledger has not been reached yet."""
        opened = self.runtime
        if opened is None or opened.client is None:
            return None
        months = Months(
            opened.ledger,
            self.home.ledger,
            RedisSnapshots(opened.client, self.home.ledger),
            SnapshotFolder(self.home.folder, self.home.ledger),
        )
        return Office(months, self._rules())

    async def _write_report(self, period_id: str) -> None:
        await write_report(self.home, period_id)

    def status(self) -> WorkerStatus:
        """Return what this worker says about itself."""
        traces = runtime.trace_counts()
        return WorkerStatus(
            worker=self.name,
            host=socket.gethostname(),
            pid=os.getpid(),
            time_ms=_wall_ms(),
            started_ms=self.started_ms,
            mode=self.policy.routing.mode.value,
            policy_digest=self.policy.revision,
            policy_loaded_ms=self.policy_loaded_ms,
            policy_errors=self.errors,
            needs_restart=self.needs_restart,
            open_requests=len(self.runtime.requests) if self.runtime else 0,
            journal_depth=self.runtime.outage.depth if self.runtime else 0,
            journal_unwritten=self.runtime.outage.unwritten if self.runtime else 0,
            refusals_lost=self.runtime.outage.lost_refusals if self.runtime else 0,
            simulated_groups=tuple(sorted(self.simulated)),
            traces_sent=traces.sent,
            traces_lost=traces.lost,
            scores_lost=traces.scores_lost,
            litellm_version=_version("litellm"),
            farebox_version=_version("farebox"),
            router=summary(self.policy.router),
        )


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


@cache
def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
