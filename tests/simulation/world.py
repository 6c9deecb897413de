"""One run: clients, workers, a store and a provider under one clock, and faults that strike them.

    plan (from the seed) ─► active: clients ask, faults strike ─► drain: all is mended, the leases
                            of the dead run out ─► the books are held against the provider's bill

`run` raises what broke, with the seed and the last lines of what happened before it.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections import Counter, deque
from dataclasses import dataclass, field, replace
from typing import Any

import structlog

from budgets.config import LeaseSettings
from budgets.connection import SOCKET_TIMEOUT_S
from budgets.memory import MemoryLedger
from hooks.policy import Policy
from tests.simulation import house
from tests.simulation.books import Broken
from tests.simulation.disk import Folder
from tests.simulation.ending import check_books
from tests.simulation.faults import Event, Plan, draw
from tests.simulation.link import Link
from tests.simulation.loop import Process, VirtualLoop, outside
from tests.simulation.provider import Provider
from tests.simulation.proxy import Job, Proxy
from tests.simulation.slices import SliceCheck
from tests.simulation.store import READ_ONLY, Answer, MakeLedger, Operation, Store

TRACE_LINES = 60
RESTART_S_MAX = 3.0
POWER_OFF = 0.5
"""The share of crashes that take the machine along, where slices are leased."""
DRAIN_S_MAX = 120.0
RECOVERY_S_MAX = SOCKET_TIMEOUT_S + 1.0
"""A probe that was under way at the end of an outage may time out first; then it takes 1 s."""
REFUSED_FOR_GOOD_MS = 2_000
"""How long a client waits that was told not to try again; it has other things to ask."""
UNEXPECTED = frozenset({"background_work_failed", "ledger_write_given_up"})
"""Log lines that stand for a defect of ours, whatever the store does."""


@dataclass(frozen=True)
class Outcome:
    """What a run came to. Two runs of one seed have the same digest."""

    seed: int
    digest: str
    operations: int
    faults: Counter[str]
    codes: Counter[str]
    outcomes: Counter[str]


class SeedFailed(AssertionError):
    """A run broke a promise, or itself."""

    def __init__(self, seed: int, cause: BaseException, trace: list[str]) -> None:
        lines = "\n  ".join(trace)
        super().__init__(
            f"seed {seed}: {type(cause).__name__}: {cause}\n  {lines}\n"
            f"replay: python -m tests.simulation --seed {seed} --trace, with --leased for leases"
        )
        self.seed = seed
        self.cause = cause


@dataclass
class Machine:
    """Where a worker runs: what is left of it after a crash, and its clock."""

    name: str
    clock_offset_ms: int = 0
    proxy: Proxy | None = None
    starts: int = 0


@dataclass
class World:
    """The state of one run."""

    plan: Plan
    make_ledger: MakeLedger = MemoryLedger
    proxy_type: type[Proxy] = Proxy
    trace_all: bool = False
    leased: bool = False
    loop: VirtualLoop = field(default_factory=VirtualLoop)
    jobs: list[Job] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    lost: list[Operation] = field(default_factory=list)
    links: list[tuple[Process, Link]] = field(default_factory=list)
    trace: deque[str] = field(default_factory=lambda: deque(maxlen=TRACE_LINES))

    def __post_init__(self) -> None:
        if self.leased:
            # Slices go back where nobody comes for a second or two, and none is handed out where
            # little is left: requests come often, and end soon.
            plan = self.plan
            self.plan = replace(
                plan,
                pause_s=plan.pause_s / 6,
                clients=plan.clients + 3,
                slow_s=min(plan.slow_s, 0.5),
                active_s=min(plan.active_s, 8.0),
            )
        self._digest = hashlib.blake2b(digest_size=16)
        if self.trace_all:
            self.trace = deque()
        self._chances: dict[str, random.Random] = {}
        self.store_offset_ms = self.plan.start_ms
        self.calm = False
        self.allowances = (
            house.draw_allowances(self.chance("allowances")) if self.plan.allow else {}
        )
        self.leases = house.draw_leases(self.chance("leases")) if self.leased else LeaseSettings()
        self.folder = Folder(self.chance("disk"), self.plan.tear, self.plan.write_s)
        self.thresholds = house.draw_thresholds(self.chance("policy"))
        self.store = Store(self.store_ms, self.make_ledger, self._told)
        self.policy = self._draw_policy()
        self.slices = SliceCheck(self.allowances, self._is_online)
        self.provider = Provider(self.plan, house.rates(), self.chance("provider"))
        self.machines = [Machine(f"worker-{number}") for number in range(self.plan.workers)]
        if self.leased and Event.WORKER_CLOCK in self.plan.events:
            # One that is late still asks for the period that is over.
            for machine in self.machines:
                machine.clock_offset_ms = self.chance("clock").choice((-3_000, -500, 0, 500))

    def chance(self, name: str) -> random.Random:
        """Return a source of chance of its own for each part, so that parts do not shift others."""
        return self._chances.setdefault(name, random.Random(f"{name} {self.plan.seed}"))

    def store_ms(self) -> int:
        """Return the store's clock, in Unix ms."""
        return self.store_offset_ms + round(self.loop.time() * 1000)

    def note(self, line: str) -> None:
        """Keep one line of what happens."""
        line = f"{self.loop.time():9.3f} {line}"
        self._digest.update(line.encode())
        self.trace.append(line)

    def fault(self, name: str, detail: str = "") -> None:
        """Note and count a fault."""
        self.faults[name] += 1
        self.note(f"! {name} {detail}")

    def _told(self, operation: Operation, answer: Answer) -> None:
        if operation.name in READ_ONLY:
            return
        brief = _brief(operation, answer)
        if brief:
            self.note(brief)

    # ── policy ───────────────────────────────────────────────────────────────────────────────────

    def _draw_policy(self) -> Policy:
        used: Counter[str] = Counter()
        checker = self.store.checker
        for figures in (checker.spent, checker.held):
            for (budget, _), amount in figures.items():
                used[budget.partition(":")[0]] += amount
        limits = house.draw_limits(self.chance("policy"), used)
        return house.policy_of(
            limits,
            self.plan.zone,
            self.plan.lease_ms,
            self.thresholds,
            self.allowances,
            self.leases,
        )

    def _is_online(self, hold_id: str) -> bool:
        """Say whether a request admitted without the store counts there all the same.

        Its hold did arrive, or what was handed out is lost with the writes of a failover.
        """
        hold = self.store.checker.holds.get(hold_id)
        lost = any(it.name in ("slices", "release_slices", "replay") for it in self.lost)
        return lost or (hold is not None and not hold.offline)

    # ── workers ──────────────────────────────────────────────────────────────────────────────────

    def start(self, machine: Machine) -> None:
        """Start a worker on a machine."""
        machine.starts += 1
        process = Process(f"{machine.name}.{machine.starts}", self.loop)
        self.note(f"{process.name} starts")
        link = Link(
            self.store,
            self.plan,
            self.loop,
            self.chance("link"),
            lambda why: self.crash(machine, why),
            lambda line: self.fault(*line.split(" ", 2)[1:]),
        )
        link.calm = self.calm
        self.links.append((process, link))
        machine.proxy = self.proxy_type(
            process,
            self.loop,
            link,
            self.folder,
            lambda why: self.crash(machine, why),
            self.slices,
            self.provider,
            self.policy,
            lambda: self.policy,
            lambda: self.store_ms() + machine.clock_offset_ms,
            self.chance("proxy"),
            self.plan.settle_delay_s,
        )

    def crash(self, machine: Machine, why: str) -> None:
        """Kill a worker where it stands; it is started again in a while."""
        proxy, machine.proxy = machine.proxy, None
        if proxy is None:
            return
        self.fault("crash", f"{proxy.process.name} {why}")
        proxy.process.kill()
        if self.leased and self.chance("power").random() < POWER_OFF:
            self.fault("power_off", machine.name)
            self.folder.power_off(proxy.process)
        for job in self.jobs:
            if job.process is proxy.process:
                job.end("lost")
        delay_s = self.chance("restart").uniform(0, RESTART_S_MAX)
        self.loop.call_later(delay_s, self.start, machine, context=outside())

    # ── the run ──────────────────────────────────────────────────────────────────────────────────

    async def run(self) -> None:
        """Live through the plan, drain, and check the books."""
        for machine in self.machines:
            self.start(machine)
        work = [self._client(number) for number in range(self.plan.clients)]
        work += [self._strike(event, mean_s) for event, mean_s in self.plan.events.items()]
        await asyncio.gather(*work)
        await self._drain()

    async def _client(self, number: int) -> None:
        chance = self.chance(f"client {number}")
        while self.loop.time() < self.plan.active_s:
            await asyncio.sleep(chance.expovariate(1 / self.plan.pause_s))
            job = await self.ask(chance)
            if job.code not in ("ok", "error", "lost"):
                wait_s = (job.retry_after_ms or REFUSED_FOR_GOOD_MS) / 1000
                await asyncio.sleep(min(wait_s, 2.0) * chance.uniform(0.5, 1.5))

    async def ask(self, chance: random.Random, machine: Machine | None = None) -> Job:
        """Send one request to a worker and wait for what comes of it."""
        job = Job(
            number=len(self.jobs),
            body=dict(chance.choice(house.BODIES)),
            key=chance.choice(house.KEYS[:1] if self.leased else house.KEYS),
            team=chance.choice(house.TEAMS),
            done=self.loop.create_future(),
        )
        running = [it for it in self.machines if it.proxy is not None]
        chosen = machine or (chance.choice(running) if running else None)
        if chosen is None or chosen.proxy is None:
            job.end("lost")
            return job
        self.jobs.append(job)
        job.process = chosen.proxy.process
        job.process.spawn(chosen.proxy.serve(job))
        await job.done
        self.note(f"job {job.number} {job.request_id or job.decision_id}: {job.code}")
        return job

    async def _strike(self, event: Event, mean_s: float) -> None:
        chance = self.chance(event)
        while True:
            await asyncio.sleep(chance.expovariate(1 / mean_s))
            if self.loop.time() >= self.plan.active_s:
                return
            await self._happen(event, chance)

    async def _happen(self, event: Event, chance: random.Random) -> None:
        store = self.store
        match event:
            case Event.DOWN if not store.down:
                self.fault(event)
                store.down = True
                await asyncio.sleep(chance.uniform(0.1, 6))
                store.down = False
            case Event.PAUSE if not store.paused:
                self.fault(event)
                store.paused = True
                await asyncio.sleep(chance.uniform(0.1, 10))
                store.resume()
            case Event.FAILOVER if not store.down:
                lost = store.fail_over(chance.randint(0, self.plan.writes_lost_max))
                self.lost += lost
                self.fault(event, f"loses {[it.name for it in lost]}")
                store.down = True
                await asyncio.sleep(chance.uniform(0, 2))
                store.down = False
            case Event.STORE_CLOCK:
                self.store_offset_ms += (step := chance.choice((-5_000, -500, 500, 5_000)))
                self.fault(event, f"{step} ms")
            case Event.WORKER_CLOCK:
                machine = chance.choice(self.machines)
                machine.clock_offset_ms = chance.choice((-5_000, -500, 0, 500, 5_000))
                self.fault(event, f"{machine.name} {machine.clock_offset_ms} ms")
            case Event.RELOAD:
                self.policy = self._draw_policy()
                self.fault(event)
            case Event.DISK_FULL if not self.folder.full:
                self.fault(event)
                self.folder.full = True
                await asyncio.sleep(chance.uniform(0.1, 8))
                self.folder.full = False
            case Event.CRASH:
                self.crash(chance.choice(self.machines), "at large")
            case _:
                pass

    async def _drain(self) -> None:
        """Mend everything, let all ends be told and all leases of the dead run out."""
        self.note("drain")
        self.calm = True
        self.folder.tear = 0.0
        began = self.loop.time()
        for machine in self.machines:
            if machine.proxy is not None:
                machine.proxy.link.calm = True
        await asyncio.sleep(RECOVERY_S_MAX)
        for machine in self.machines:
            if machine.proxy is not None and not machine.proxy.runtime.available:
                raise Broken(11, f"{machine.name} has not noticed that the store is back")
        for machine in self.machines:
            if machine.proxy is not None:
                job = await self.ask(self.chance("burst"), machine)
                if job.code == "ledger_unavailable" and not job.unstarted:
                    raise Broken(11, f"{machine.name} still refuses after the store is back")
        while not self._quiet():
            if self.loop.time() - began > DRAIN_S_MAX:
                if self._all_told():
                    raise Broken(2, "a hold stands for good: nobody is left to tell its end")
                raise AssertionError(f"not at rest {DRAIN_S_MAX} s after the last fault")
            await asyncio.sleep(0.5)
        check_books(self)

    def _quiet(self) -> bool:
        held = any(not it.outcome for it in self.store.checker.holds.values())
        return self._all_told() and not held

    def _all_told(self) -> bool:
        """Whether every worker has told all that it knows, and works by the policy in force."""
        proxies = [it.proxy for it in self.machines]
        if any(it is None or it.worker.policy is not self.policy for it in proxies):
            return False
        published = self.store.checker.policy
        if published is None or published.digest != self.policy.budgets.published().digest:
            return False
        told = all(
            it is not None and not it.runtime.outage.depth and not len(it.runtime.endings)
            for it in proxies
        )
        told = told and not self.folder.waiting()
        ended = all(
            job.closed or job.code not in ("", "ok", "error")
            for job in self.jobs
            if job.process is not None and job.process.alive
        )
        return told and ended

    def outcome(self) -> Outcome:
        """Return what the run came to."""
        return Outcome(
            self.plan.seed,
            self._digest.hexdigest(),
            self.store.operations,
            self.faults,
            Counter(job.code for job in self.jobs),
            Counter(it.outcome for it in self.store.checker.holds.values()),
        )


def run(seed: int, *, trace_all: bool = False, **world: Any) -> Outcome:
    """Run one seed.

    Raises:
        SeedFailed: with what broke and what went before.
    """
    lived = World(draw(seed), trace_all=trace_all, **world)
    before = structlog.get_config()
    structlog.configure(processors=[_listen(lived)])
    try:
        lived.loop.run(lived.run())
    except Exception as cause:
        raise SeedFailed(seed, cause, list(lived.trace)) from cause
    finally:
        structlog.configure(**before)
    if trace_all:
        print("\n".join(lived.trace))
    return lived.outcome()


def _listen(world: World) -> Any:
    """Return a log processor that keeps the lines as part of the run."""

    def keep(logger: Any, method: str, event: dict[str, Any]) -> Any:
        world.note(f"log {event['event']} {event.get('detail') or event.get('reason') or ''}")
        if event["event"] in UNEXPECTED or method == "exception":
            world.loop.fail(AssertionError(f"logged: {event}"))
        raise structlog.DropEvent

    return keep


def _brief(operation: Operation, answer: Answer) -> str:
    """Return a line that tells an operation and its answer, empty for one that did nothing."""
    first = operation.args[0] if operation.args else ""
    name = (
        getattr(first, "slice_id", None)
        or getattr(first, "hold_id", None)
        or getattr(first, "decision_id", None)
        or first
    )
    value = answer.value
    if operation.name == "expire":
        return f"store expire {[it.hold_id[:8] for it in value]}" if value else ""
    if operation.name in ("renew", "publish"):
        return f"store {operation.name} {value}"
    told = type(answer.error or value).__name__
    told = getattr(value, "code", None) or getattr(value, "status", None) or told
    return f"store {operation.name} {str(name)[:8]} {told}"
