"""What admitting from leased slices brings and costs: time of our own code, refusals at the limit.

    python -m benchmarks.leases             prints the page
    python -m benchmarks.leases --write     writes benchmarks/leases.md and results/leases.json

Time: one worker, one request after the other, a real Redis; asking it and admitting from slices
take turns in one run. The desk's own code is measured by itself, in processor time, with requests
as the hook before a call makes them: what it takes to admit one, with and without its line on the
slate, beside what the same process computes to ask Redis.

Refusals: three workers' desks on one Redis spend one budget to its end, 30 requests under way, each
costing what it holds. What was really committed is counted here, beside the ledger: a refusal is
false where it would have fitted, and a budget is overshot where an admission did not fit.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Awaitable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.figures import Spread
from benchmarks.harness import Report, Table, spread, steps
from benchmarks.inside import LEASE_MS, Bench, prompt, redis_socket
from budgets.config import LeaseSettings
from budgets.connection import connect
from budgets.endings import Endings
from budgets.holds import BudgetHold, Held, HoldRequest
from budgets.leases.desk import Desk
from budgets.leases.slate import FilePages, Slate
from budgets.ledger import Ledger
from budgets.outage import Outage
from budgets.period import Period
from budgets.published import PublishedPolicy, PublishedRule
from budgets.redis_store import RedisLedger
from budgets.settlements import Settlement

ROUNDS = 10
REQUESTS = 400
WARMING = 200
"""Requests of a burst that are not timed: meanwhile slices grow to what the burst asks for."""
PROMPT_TOKENS = 500
CENT = 10_000_000
DESKS = 3
CLIENTS = 30
HOLDS_IN_LIMIT = 2_000
REFUSED_WAIT_S = 0.1
LEASED = LeaseSettings(budgets="all", share_percent=50, direct_below_percent=1)


@dataclass(frozen=True, slots=True)
class Times:
    """Microseconds of one way of admitting. `local` is the share that asked nobody."""

    hold: Spread
    admit: Spread
    local: float


@dataclass(frozen=True, slots=True)
class Spending:
    """How one budget was spent to its end. `first_false` is the share of the limit that was
    committed when something that fitted was refused for the first time."""

    asked: int
    admitted: int
    local: int
    false_refusals: int
    first_false: float | None
    committed_most: float
    spent: float


# ── time ─────────────────────────────────────────────────────────────────────────────────────────


async def times(rounds: int) -> dict[str, Times]:
    """Measure both ways in turns."""
    with tempfile.TemporaryDirectory(prefix="fb") as folder:
        return await _times(rounds, Slate(FilePages(Path(folder) / "a.slate")))


async def _times(rounds: int, slate: Slate) -> dict[str, Times]:
    async with redis_socket() as socket:
        bench = Bench(socket)
        await bench.start()
        bench.runtime.desk._slate = slate  # As that of a worker with a journal.
        settings: dict[str, LeaseSettings | None] = {"asking Redis": None, "from slices": LEASED}
        holds: dict[str, list[float]] = {it: [] for it in settings}
        admits: dict[str, list[float]] = {it: [] for it in settings}
        local: Counter[str] = Counter()
        ticking = asyncio.create_task(bench.runtime.desk.run())
        with steps("time", rounds * 2) as progress:
            for number in range(rounds):
                order = list(settings.items())
                for name, chosen in order if number % 2 else reversed(order):
                    bench.runtime.lease_settings = lambda chosen=chosen: chosen  # type: ignore[misc] # A default argument.
                    found = await _burst(bench)
                    holds[name] += found.holds[WARMING:]
                    admits[name] += found.admits[WARMING:]
                    local[name] += found.local
                    await bench.runtime.desk.give_all_back()
                    progress.done(name)
        ticking.cancel()
        await bench.runtime.endings.close(5)
        await bench.client.aclose()
        return {
            name: Times(
                Spread.of(holds[name]),
                Spread.of(admits[name]),
                local[name] / (rounds * (REQUESTS - WARMING)),
            )
            for name in settings
        }


@dataclass(slots=True)
class _Burst:
    holds: list[float]
    admits: list[float]
    local: int


async def _burst(bench: Bench) -> _Burst:
    """Send requests one after the other; time the hold in each, and all of the admission."""
    found = _Burst([], [], 0)
    asked = bench.runtime.hold
    took_us = 0.0

    async def timed(*args: Any, **named: Any) -> Any:
        nonlocal took_us
        began = time.perf_counter_ns()
        answer = await asked(*args, **named)
        took_us = (time.perf_counter_ns() - began) / 1000
        return answer

    hold_method = type(bench.runtime).hold
    type(bench.runtime).hold = lambda _, *args, **named: timed(*args, **named)  # type: ignore[method-assign,assignment] # A stopwatch.
    try:
        for number in range(REQUESTS):
            incoming = bench.incoming(prompt(PROMPT_TOKENS))
            began = time.perf_counter_ns()
            admission = await bench.governor.admit(incoming)
            found.admits.append((time.perf_counter_ns() - began) / 1000)
            found.holds.append(took_us)
            if number >= WARMING:
                found.local += bench.runtime.desk.is_unreported(admission.request_id)
            await bench.settle(admission.request_id)
            await asyncio.sleep(0.002)
    finally:
        type(bench.runtime).hold = hold_method  # type: ignore[method-assign] # As above.
    return found


# ── the desk's own code ──────────────────────────────────────────────────────────────────────────

WAYS_TO_HOLD = (
    "asking Redis, without the waiting",
    "from slices, without a slate",
    "from slices",
)
OWN_REQUESTS = 200


async def own_code(rounds: int) -> dict[str, Spread]:
    """Return the processor time of one hold in this process, in microseconds, by way."""
    with tempfile.TemporaryDirectory(prefix="fb") as folder:
        async with redis_socket() as socket:
            bench = Bench(socket)
            await bench.start()
            asked = await _asked(bench)
            slate = Slate(FilePages(Path(folder) / "a.slate"))
            ways = {
                WAYS_TO_HOLD[0]: _Way(bench, None, None),
                WAYS_TO_HOLD[1]: _Way(bench, LEASED, None),
                WAYS_TO_HOLD[2]: _Way(bench, LEASED, slate),
            }
            took: dict[str, list[float]] = {name: [] for name in ways}
            with steps("the desk's own code", rounds) as progress:
                for number in range(rounds):
                    order = list(ways.items())
                    for name, way in order if number % 2 else reversed(order):
                        took[name] += await way.took(asked)
                    progress.done("")
            for way in ways.values():
                await way.end()
            await bench.client.aclose()
    return {name: Spread.of(times) for name, times in took.items()}


async def _asked(bench: Bench) -> HoldRequest:
    """Return what the hook asks for, for a prompt of the usual size."""
    found: list[HoldRequest] = []
    runtime_type = type(bench.runtime)
    hold = runtime_type.hold

    async def listen(runtime: Any, request: HoldRequest, **named: Any) -> Any:
        found.append(request)
        return await hold(runtime, request, **named)

    runtime_type.hold = listen  # type: ignore[method-assign] # To see what passes.
    try:
        await bench.governor.admit(bench.incoming(prompt(PROMPT_TOKENS)))
    finally:
        runtime_type.hold = hold  # type: ignore[method-assign] # As above.
    return found[0]


class _Way:
    """One way to hold: a desk of its own on the ledger of all."""

    def __init__(self, bench: Bench, settings: LeaseSettings | None, slate: Slate | None) -> None:
        self._tasks: list[asyncio.Future[object]] = []
        outage = Outage(bench.ledger, None, None)
        self.endings = Endings(bench.ledger.write_all, lambda: True, outage)
        self.leased = settings is not None
        self.desk = Desk(bench.ledger, self.endings, lambda: settings, self._spawn, slate=slate)
        self.desk.holds_per_slice = 20 * OWN_REQUESTS

    def _spawn(self, work: Awaitable[object]) -> None:
        self._tasks.append(asyncio.ensure_future(work))

    async def took(self, asked: HoldRequest) -> list[float]:
        """Return what each of some holds took, for which slices were there before."""
        requests = [
            replace(asked, hold_id=uuid.uuid4().hex, decision_id=uuid.uuid4().hex)
            for _ in range(OWN_REQUESTS + 1)
        ]
        await self.desk.hold(requests[0])
        while self._tasks:
            await self._tasks.pop()
        found = []
        for request in requests[1:]:
            began_ns = time.thread_time_ns()
            await self.desk.hold(request)
            found.append((time.thread_time_ns() - began_ns) / 1000)
            assert self.desk.is_unreported(request.hold_id) == self.leased
        await self.endings.flush()
        return found

    async def end(self) -> None:
        """Give everything back."""
        await self.desk.give_all_back()
        await self.endings.close(5)


# ── refusals ─────────────────────────────────────────────────────────────────────────────────────


async def spend(settings: LeaseSettings | None, seed: int) -> Spending:
    """Spend a budget to its end through several desks."""
    async with redis_socket() as socket:
        client = connect(f"unix://{socket}")
        ledger = RedisLedger(client, "bench")
        limit = HOLDS_IN_LIMIT * CENT
        rule = PublishedRule("team", limit, ())
        await ledger.publish(PublishedPolicy("one", (rule,)))
        run = _Spending(ledger, settings, limit, random.Random(seed))
        await run.to_the_end()
        state = (await ledger.states([("team", "team", run.period.id)]))[0]
        await client.aclose()
        return Spending(
            asked=run.asked,
            admitted=run.admitted,
            local=sum(desk.admitted for desk in run.desks),
            false_refusals=run.false_refusals,
            first_false=run.first_false,
            committed_most=run.committed_most / limit,
            spent=state.spent_nano_usd / limit,
        )


class _Spending:
    """Clients of several desks, and the count of what is committed."""

    def __init__(
        self, ledger: Ledger, settings: LeaseSettings | None, limit: int, chance: random.Random
    ) -> None:
        now = time.time_ns() // 1_000_000
        self.period = Period("P", now - 10**9, now + 10**9)
        self.limit = limit
        self.chance = chance
        self.tasks: set[asyncio.Future[object]] = set()
        self.desks: list[Desk] = []
        self.endings: list[Endings] = []
        for _ in range(DESKS):
            outage = Outage(ledger, None, None)
            endings = Endings(ledger.write_all, lambda: True, outage)
            self.endings.append(endings)
            self.desks.append(Desk(ledger, endings, lambda: settings, self._spawn))
        self.asked = self.admitted = self.false_refusals = 0
        self.first_false: float | None = None
        self.committed = self.committed_most = 0
        self.over = False

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def to_the_end(self) -> None:
        ticking = [asyncio.create_task(desk.run()) for desk in self.desks]
        await asyncio.gather(*(self._client(number) for number in range(CLIENTS)))
        for task in ticking:
            task.cancel()
        for desk in self.desks:
            await desk.give_all_back()
        for endings in self.endings:
            await endings.close(5)

    async def _client(self, number: int) -> None:
        desk, endings = self.desks[number % DESKS], self.endings[number % DESKS]
        while not self.over:
            amount = self.chance.choice((CENT // 2, CENT, CENT * 3 // 2))
            request = self._request(amount)
            fitted = self.committed + amount <= self.limit
            self.asked += 1
            answer = await desk.hold(request)
            if isinstance(answer, Held):
                self.admitted += 1
                self.committed += amount
                self.committed_most = max(self.committed_most, self.committed)
                await asyncio.sleep(self.chance.uniform(0.005, 0.05))
                settlement = Settlement(request.hold_id, amount, "{}")
                await endings.put(settlement, lambda *_: None)
                continue
            if fitted and self.committed + amount <= self.limit:
                self.false_refusals += 1
                if self.first_false is None:
                    self.first_false = self.committed / self.limit
            self.over = self.over or self.committed > self.limit - CENT // 2
            await asyncio.sleep(REFUSED_WAIT_S)

    def _request(self, amount: int) -> HoldRequest:
        hold_id = uuid.uuid4().hex
        return HoldRequest(
            hold_id=hold_id,
            amount_nano_usd=amount,
            budgets=(BudgetHold("team", "team", self.period, amount),),
            lease_ms=LEASE_MS,
            expected_end_ms_in=50,
            facts="{}",
            decision_id=hold_id,
            decision="{}",
            stats_period="2026-11",
        )


# ── the page ─────────────────────────────────────────────────────────────────────────────────────

WAYS: dict[str, LeaseSettings | None] = {
    "asking Redis": None,
    "slices of 5 %, direct below 20 % (the default)": LeaseSettings(budgets="all"),
    "slices of 50 %, direct below 1 %": LeaseSettings(
        budgets="all", share_percent=50, direct_below_percent=1
    ),
}


async def report(rounds: int, seeds: int) -> Report:
    """Measure all of it."""
    took = await times(rounds)
    own = await own_code(rounds)
    spent: dict[str, list[Spending]] = {name: [] for name in WAYS}
    with steps("refusals", seeds * len(WAYS)) as progress:
        for seed in range(seeds):
            for name, settings in WAYS.items():
                spent[name].append(await spend(settings, seed))
                progress.done(name)
    speed = Table(
        f"Time of one admission, {PROMPT_TOKENS} tokens, microseconds",
        ("", "the hold alone", "all of the admission", "admitted from slices"),
        text="Medians with quartiles. The hold alone is what a lease replaces; all of the "
        "admission is reading, counting, deciding and the hold.",
    )
    for name, it in took.items():
        speed.add(name, spread(it.hold, 0), spread(it.admit, 0), f"{it.local:.0%}")
    desk = Table(
        "The hold alone, processor time of the worker, microseconds",
        ("", "median with quartiles"),
        text="What this process computes for one hold, with requests as the hook before a call "
        f"makes them for {PROMPT_TOKENS} tokens. A hold from slices waits for nothing; the report "
        "that follows it goes with others in a batch, off the request's path. Waiting for Redis "
        "comes on top where it is asked.",
    )
    for name, it in own.items():
        desk.add(name, spread(it, 0))
    refusals = Table(
        f"One budget of {HOLDS_IN_LIMIT} requests, {DESKS} workers, {CLIENTS} clients",
        ("", "asked", "admitted", "from slices", "false refusals", "the first at", "most", "spent"),
        text=f"Sums over {seeds} runs. A refusal is false where it would have fitted when it was "
        "asked and when it was refused; `the first at` is the share of the limit that was "
        "committed then, the least of all runs. `most` is the most that was ever committed, "
        "`spent` what the ledger says in the end, both as shares of the limit and the largest of "
        "all runs: above 100 % would be an overshoot.",
    )
    for name, runs in spent.items():
        asked = sum(it.asked for it in runs)
        false = sum(it.false_refusals for it in runs)
        firsts = [it.first_false for it in runs if it.first_false is not None]
        refusals.add(
            name,
            asked,
            sum(it.admitted for it in runs),
            sum(it.local for it in runs),
            f"{false} ({false / asked:.1%})",
            f"{min(firsts):.1%}" if firsts else "–",
            f"{max(it.committed_most for it in runs):.2%}",
            f"{max(it.spent for it in runs):.2%}",
        )
    figures = {
        "microseconds": {name: asdict(it) for name, it in took.items()},
        "own_code_microseconds": {name: asdict(it) for name, it in own.items()},
        "spending": {name: [asdict(it) for it in runs] for name, runs in spent.items()},
    }
    return Report(
        "leases",
        "What leases bring and cost",
        "`python -m benchmarks.leases --write` makes this page. What leases are: "
        "[leases and batches](../docs/explanation/leases.md).",
        figures,
        [speed, desk, refusals],
    )


def main() -> None:
    """Measure, and write or print the page."""
    arguments = argparse.ArgumentParser(prog="python -m benchmarks.leases", description=__doc__)
    arguments.add_argument("--rounds", type=int, default=ROUNDS)
    arguments.add_argument("--seeds", type=int, default=10)
    arguments.add_argument("--write", action="store_true")
    given = arguments.parse_args()
    made = asyncio.run(report(given.rounds, given.seeds))
    if given.write:
        made.keep()
    print(made.markdown())


if __name__ == "__main__":
    main()
