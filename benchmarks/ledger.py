"""What the ledger takes of one Redis core, and how it grows.

Rates are per second of Redis's own processor time (INFO's), so that they hardly depend on what
else the machine does: a Redis that has a core to itself does so many. The admissions and settles
are the ledger's own, many at once through one client as a worker sends them.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

import uvloop
from redis import asyncio as redis_asyncio

from benchmarks.harness import Report, Steps, Table, steps
from benchmarks.servers import loopback_redis
from budgets.connection import connect
from budgets.holds import BudgetHold, HoldRequest
from budgets.period import Period, period_at
from budgets.published import PublishedPolicy, PublishedRule
from budgets.redis_store import RedisLedger
from budgets.settlements import Settlement
from tests.support.proxy import ROOT

AT_ONCE = 16
LEASE_MS = 3_600_000
INTRO = """Admissions and settlements a second **of Redis's own processor time**, as its INFO tells
it: what one Redis core can do. Each has a decision of 1.2 kB and facts of 0.5 kB, as real ones
have. Bytes are those of `used_memory` and of the append-only file. `./scripts/bench ledger` makes
this page."""

FACTS = json.dumps({"request_id": "0" * 32, "decision_id": "0" * 32, "text": "f" * 420})
DECISION = json.dumps({"id": "0" * 32, "text": "d" * 1_150})

_FILL = """
local shares = cjson.encode({{ARGV[1], ARGV[2], 1000}})
for i = 1, tonumber(ARGV[3]) do
  redis.call('XADD', KEYS[1] .. 'entries', '*', 'kind', 'settled', 'hold', ARGV[5] .. i,
    'time', ARGV[6], 'cost', '1000', 'held', '2000', 'charges',
    '[["' .. ARGV[1] .. '","' .. ARGV[2] .. '","1000"]]', 'body', ARGV[4])
end
redis.call('HINCRBY', KEYS[1] .. 'budget:' .. ARGV[2] .. ':' .. ARGV[1], 'spent',
  string.format('%.0f', 1000 * tonumber(ARGV[3])))
"""


@dataclass(frozen=True, slots=True)
class Options:
    """What is measured."""

    budgets: tuple[int, ...] = (1, 5, 20)
    holds: tuple[int, ...] = (10, 1_000, 10_000, 100_000)
    entries: tuple[int, ...] = (0, 100_000, 1_000_000, 10_000_000)
    requests: int = 4_000

    @classmethod
    def of(cls, *, quick: bool, entries: int | None) -> Options:
        """Return the options of a run."""
        if quick:
            made = cls((1, 5, 20), (10, 1_000), (0, 20_000), 1_000)
        else:
            made = cls()
        if entries is None:
            return made
        below = tuple(it for it in made.entries if it < entries)
        return cls(made.budgets, made.holds, (*below, entries), made.requests)


def _month() -> Period:
    return period_at("month", "UTC", time.time_ns() // 1_000_000)


class Store:
    """A ledger with so many budgets on a Redis of its own."""

    def __init__(self, port: int, rules: int) -> None:
        self.client = connect(f"redis://127.0.0.1:{port}/0")
        self.raw = redis_asyncio.Redis(port=port, decode_responses=True)
        self.name = uuid.uuid4().hex[:8]
        self.ledger = RedisLedger(self.client, self.name)
        self.rules = tuple(f"rule{number}" for number in range(rules))

    async def start(self) -> None:
        """Publish limits so high that nothing is refused, and open the quick way."""
        rules = tuple(PublishedRule(rule, 10**15, ()) for rule in self.rules)
        await self.ledger.publish(PublishedPolicy(self.name, rules))
        await asyncio.sleep(0.05)

    def request(self, number: int) -> HoldRequest:
        """Return a request that all budgets match."""
        month = _month()
        budgets = tuple(BudgetHold(rule, rule, month, 2_000, True) for rule in self.rules)
        return HoldRequest(
            hold_id=f"{self.name}{number:026}",
            amount_nano_usd=2_000,
            budgets=budgets,
            lease_ms=LEASE_MS,
            expected_end_ms_in=10_000,
            facts=FACTS,
            decision_id=f"d{self.name}{number}",
            decision=DECISION,
            stats_period=month.id,
        )

    async def hold(self, first: int, count: int) -> None:
        """Admit so many, `AT_ONCE` at a time."""
        for start in range(first, first + count, AT_ONCE):
            numbers = range(start, min(start + AT_ONCE, first + count))
            await asyncio.gather(*(self.ledger.hold(self.request(n)) for n in numbers))

    async def settle(self, first: int, count: int) -> None:
        """Settle so many of the admitted."""
        charges = dict.fromkeys(self.rules, 1_000)
        counters = {f"all:{name}": 1 for name in ("requests", "actual_nano", "judged")}
        for start in range(first, first + count, AT_ONCE):
            numbers = range(start, min(start + AT_ONCE, first + count))
            endings = [
                Settlement(self.request(n).hold_id, 1_000, FACTS, charges, counters)
                for n in numbers
            ]
            await asyncio.gather(*(self.ledger.settle(ending) for ending in endings))

    async def cpu_s(self) -> float:
        """Return the seconds of processor time that Redis's main thread has taken."""
        info = await self.raw.info("cpu")
        names = ("used_cpu_user_main_thread", "used_cpu_sys_main_thread")
        if all(name in info for name in names):
            return sum(float(info[name]) for name in names)
        return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])

    async def fill(self, count: int, step: Steps) -> None:
        """Write entries as a settled request leaves them, with the sums that prove them."""
        batch = 5_000
        script = self.raw.register_script(_FILL)
        prefix = f"farebox:{{{self.name}}}:"
        month, body = _month(), FACTS
        for start in range(0, count, batch):
            args = (self.rules[0], month.id, min(batch, count - start), body, f"f{start}-",
                    time.time_ns() // 1_000_000)  # fmt: skip
            await script(keys=[prefix], args=list(args))
            if start % 100_000 == 0:
                step.done(f"{start:,} entries")

    async def close(self) -> None:
        """Close the connections."""
        await self.client.aclose()
        await self.raw.aclose()


async def rates(port: int, options: Options, step: Steps) -> list[dict[str, Any]]:
    """Return the rates by budgets and by live holds."""
    found: list[dict[str, Any]] = []
    cases = [(budgets, options.holds[0]) for budgets in options.budgets]
    cases += [(options.budgets[0], holds) for holds in options.holds[1:]]
    for budgets, holds in cases:
        store = Store(port, budgets)
        await store.start()
        await store.hold(0, holds)
        found.append({"budgets": budgets, "holds": holds, **await _rate(store, holds, options)})
        step.done(f"{budgets} budgets, {holds:,} holds")
        await store.raw.flushall()
        await store.close()
    return found


async def _rate(store: Store, first: int, options: Options) -> dict[str, float]:
    count = options.requests
    before = await store.cpu_s()
    await store.hold(first, count)
    between = await store.cpu_s()
    await store.settle(first, count)
    after = await store.cpu_s()
    return {
        "holds_per_cpu_s": count / max(between - before, 1e-6),
        "settles_per_cpu_s": count / max(after - between, 1e-6),
        "pairs_per_cpu_s": count / max(after - before, 1e-6),
    }


async def grown(port: int, options: Options, step: Steps) -> list[dict[str, Any]]:
    """Return rates, bytes and the times of readers, as the entries grow."""
    found: list[dict[str, Any]] = []
    for entries in options.entries:
        store = Store(port, 1)
        await store.start()
        memory = (await store.raw.info("memory"))["used_memory"]
        file = (await store.raw.info("persistence")).get("aof_current_size", 0)
        await store.fill(entries, step)
        row: dict[str, Any] = {"entries": entries}
        if entries:
            used = (await store.raw.info("memory"))["used_memory"] - memory
            written = (await store.raw.info("persistence")).get("aof_current_size", 0) - file
            row |= {"bytes_each": used / entries, "file_bytes_each": written / entries}
        row |= await _rate(store, 0, options)
        row |= await asyncio.to_thread(_readers, port, store.name)
        found.append(row)
        step.done(f"{entries:,} entries read")
        await store.raw.flushall()
        await store.close()
    return found


COMMANDS: dict[str, Sequence[str]] = {
    "status": ("status", "--json"),
    "verify": ("ledger", "verify", "--json"),
    "export as CSV": ("ledger", "export", "--format", "csv", "--output", os.devnull),
    "month report": ("month", "report", "--format", "json"),
}


def _readers(port: int, name: str) -> dict[str, float]:
    """Return the wall seconds of each command, with its start; `help` is the start alone."""
    environment = {
        **os.environ,
        "REDIS_URL": f"redis://127.0.0.1:{port}/0",
        "FAREBOX_LEDGER": name,
        "PYTHONPATH": str(ROOT),
    }
    took = {}
    for label, arguments in {"help": ("--help",), **COMMANDS}.items():
        start = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "scripts.cli.main", *arguments],
            env=environment, cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode not in (0, 1):
            raise SystemExit(f"bench: farebox {label} failed: {done.stderr[-800:]}")
        took[f"{label}_s"] = time.monotonic() - start
    return took


def run(options: Options) -> Report:
    """Measure the ledger on a Redis of its own."""
    total = len(options.budgets) + len(options.holds) - 1 + len(options.entries)
    total += sum(-(-entries // 100_000) for entries in options.entries)
    with steps("the ledger", total) as step, loopback_redis("--maxmemory", "0") as port:
        by_size = uvloop.run(rates(port, options, step))
        by_entries = uvloop.run(grown(port, options, step))
    figures = {"rates": by_size, "entries": by_entries, "at": datetime.now(UTC).isoformat()}
    return Report("ledger", "The ledger", INTRO, figures, _tables(by_size, by_entries))


def _tables(by_size: list[dict[str, Any]], by_entries: list[dict[str, Any]]) -> list[Table]:
    names = ("holds_per_cpu_s", "settles_per_cpu_s", "pairs_per_cpu_s")
    first = Table(
        "One Redis core, a second",
        ("matching budgets", "live holds", "admissions", "settlements", "both"),
    )
    for row in by_size:
        cells = (f"{row[name]:,.0f}" for name in names)
        first.add(row["budgets"], f"{row['holds']:,}", *cells)
    second = Table(
        "As entries grow",
        ("entries", "both, a second", "bytes each", "in the file", *(f"{it}, s" for it in (
            "help", *COMMANDS))),
        text="The last columns are whole commands with the start of Python in them; `help` is the "
        "start alone.",
    )  # fmt: skip
    for row in by_entries:
        sizes = [f"{row[it]:,.0f}" if it in row else "" for it in ("bytes_each", "file_bytes_each")]
        times = [f"{cast(float, row[f'{it}_s']):.1f}" for it in ("help", *COMMANDS)]
        second.add(f"{row['entries']:,}", f"{row['pairs_per_cpu_s']:,.0f}", *sizes, *times)
    return [first, second]
