"""What the ledger takes of one Redis core, and how it grows.

Rates are per second of Redis's own processor time (INFO's), so that they hardly depend on what
else the machine does: a Redis that has a core to itself does so many. The admissions and settles
are the ledger's own, many at once through one client as a worker sends them. Each case has a Redis
of its own; the cases of one axis are measured in turns, and compared with the smallest of them.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import uvloop
from redis import asyncio as redis_asyncio

from benchmarks.figures import Spread
from benchmarks.filled import fill
from benchmarks.harness import FOLDER, Report, Steps, Table, against_first, spread, steps, turning
from benchmarks.ledger_readers import COMMANDS, LONG, page_s, read_with, restart_s
from benchmarks.servers import loopback_redis
from budgets.connection import connect
from budgets.errors import LedgerUnavailable
from budgets.holds import BudgetHold, HoldRequest
from budgets.period import Period, period_at
from budgets.published import Level, PublishedPolicy, PublishedRule, Threshold
from budgets.redis_store import RedisLedger
from budgets.settlements import Settlement
from tests.support.policies import default_policy

T = TypeVar("T")
AT_ONCE = 16
LEASE_MS = 3_600_000
EACH_ROUND = 100
TRIES = 100
FILE_ENTRIES_MAX = 1_000_000
"""Up to so many entries Redis keeps its file: ten million take ten gigabytes of it."""
LONG_ENTRIES_MAX = 1_000_000
"""With more, the commands that take minutes a million are left out, unless they are asked for."""

INTRO = """Admissions and settlements a second **of Redis's own processor time**, as its INFO tells
it: what one Redis core can do. Each has a decision of 1.2 kB and facts of 0.5 kB, as real ones
have. The cases of a table take turns, each on a Redis of its own; a ratio is that of the
processor time of an admission with its settlement to the first line's, within a round.
`./scripts/bench ledger` makes this page; `--only entries` one of its parts anew."""

FACTS = json.dumps({"request_id": "0" * 32, "decision_id": "0" * 32, "text": "f" * 420})
DECISION = json.dumps({"id": "0" * 32, "text": "d" * 1_150})
LIMIT_NANO_USD = 10**15
THRESHOLDS = tuple(map(Threshold, Level, (50, 80, 90, 100)))


@dataclass(frozen=True, slots=True)
class Options:
    """What is measured. `others` are budgets that are defined and do not match."""

    budgets: tuple[int, ...] = (1, 5, 20)
    others: tuple[int, ...] = (0, 10, 100, 1_000)
    holds: tuple[int, ...] = (10, 1_000, 10_000, 100_000)
    entries: tuple[int, ...] = (0, 1_000_000, 10_000_000)
    rounds: int = 24
    folder: Path | None = None
    only: tuple[str, ...] = ("budgets", "others", "holds", "entries")
    long: bool = False

    @classmethod
    def of(
        cls, *, quick: bool, entries: Sequence[int] | None, rounds: int | None, folder: Path | None,
        only: Sequence[str] | None, long: bool = False,
    ) -> Options:  # fmt: skip
        """Return the options of a run; `folder` is where Redis has its files."""
        if quick:
            made = cls((1, 5, 20), (0, 100), (10, 1_000), (0, 20_000), 6)
        else:
            made = cls()
        sizes = tuple(entries or made.entries)
        many = rounds or made.rounds
        axes = tuple(only or made.only)
        return cls(made.budgets, made.others, made.holds, sizes, many, folder, axes, long)


@dataclass(frozen=True, slots=True)
class Case:
    """One ledger: budgets that match, budgets that do not, live holds, entries."""

    budgets: int = 1
    others: int = 0
    holds: int = 10
    entries: int = 0


def _month() -> Period:
    return period_at("month", "UTC", time.time_ns() // 1_000_000)


class Store:
    """The ledger of a case, on a Redis of its own."""

    def __init__(self, port: int, case: Case) -> None:
        self.port = port
        self.client = connect(f"redis://127.0.0.1:{port}/0")
        self.raw = redis_asyncio.Redis(port=port, decode_responses=True)
        self.name = uuid.uuid4().hex[:8]
        self.ledger = RedisLedger(self.client, self.name)
        self.case = case
        self.rules = tuple(f"rule{number}" for number in range(case.budgets))
        self._next = 0

    async def start(self, step: Steps) -> None:
        """Fill the ledger, and publish limits so high that nothing is refused."""
        if self.case.entries:

            def watch(count: int) -> None:
                if count % 100_000 == 0:
                    step.done(f"{count:,} entries")

            await fill(self.client, self.name, default_policy(), self.case.entries, watch)
        names = (*self.rules, *(f"other{number}" for number in range(self.case.others)))
        rules = tuple(PublishedRule(name, LIMIT_NANO_USD, THRESHOLDS) for name in names)
        await self.ledger.publish(PublishedPolicy(self.name, rules))
        await self.hold(self.case.holds)

    def request(self, number: int) -> HoldRequest:
        """Return a request that the case's rules match."""
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

    async def hold(self, count: int) -> range:
        """Admit so many, `AT_ONCE` at a time; return their numbers."""
        first, self._next = self._next, self._next + count
        for start in range(first, first + count, AT_ONCE):
            numbers = range(start, min(start + AT_ONCE, first + count))
            await _patiently(self.ledger.hold, [self.request(n) for n in numbers])
        return range(first, first + count)

    async def settle(self, numbers: range) -> None:
        """Settle the admitted of these numbers."""
        charges = dict.fromkeys(self.rules, 1_000)
        counters = {f"all:{name}": 1 for name in ("requests", "actual_nano", "judged")}
        for start in range(0, len(numbers), AT_ONCE):
            endings = [
                Settlement(self.request(n).hold_id, 1_000, FACTS, charges, counters)
                for n in numbers[start : start + AT_ONCE]
            ]
            await _patiently(self.ledger.settle, endings)

    async def cpu_us(self) -> float:
        """Return the microseconds of processor time that Redis's main thread has taken."""
        info = await self.raw.info("cpu")
        names = ("used_cpu_user_main_thread", "used_cpu_sys_main_thread")
        if all(name in info for name in names):
            return sum(float(info[name]) for name in names) * 1e6
        return (float(info["used_cpu_user"]) + float(info["used_cpu_sys"])) * 1e6

    async def pair_us(self) -> tuple[float, float]:
        """Return what one admission and one settlement take of Redis, over some of each."""
        before = await self.cpu_us()
        numbers = await self.hold(EACH_ROUND)
        between = await self.cpu_us()
        await self.settle(numbers)
        after = await self.cpu_us()
        return (between - before) / EACH_ROUND, (after - between) / EACH_ROUND

    async def close(self) -> None:
        """Close the connections."""
        await self.client.aclose()
        await self.raw.aclose()


async def _patiently(call: Callable[[T], Awaitable[object]], each: Sequence[T]) -> None:
    """Make a call for each at once; again where a busy machine kept Redis from answering in time.

    A hold or settlement that is repeated changes nothing.
    """
    for _ in range(TRIES):
        try:
            await asyncio.gather(*map(call, each))
            return
        except LedgerUnavailable:
            await asyncio.sleep(0.2)
    raise SystemExit("bench: Redis did not answer in time, again and again")


async def compared(stores: Sequence[Store], options: Options, step: Steps) -> list[dict[str, Any]]:
    """Return what a pair takes in each store, and the ratio to the first one's."""
    for store in stores:
        await store.pair_us()
    holds: list[list[float]] = []
    settles: list[list[float]] = []
    for order in turning(len(stores), options.rounds):
        taken = {place: await stores[place].pair_us() for place in order}
        holds.append([taken[place][0] for place in range(len(stores))])
        settles.append([taken[place][1] for place in range(len(stores))])
        step.done("in turns")
    pairs = [
        [hold + settle for hold, settle in zip(*row, strict=True)]
        for row in zip(holds, settles, strict=True)
    ]
    rows = []
    for place, store in enumerate(stores):
        hold_us, settle_us, pair_us = (
            sorted(row[place] for row in taken)[len(taken) // 2]
            for taken in (holds, settles, pairs)
        )
        case = store.case
        rows.append({
            "budgets": case.budgets, "others": case.others, "holds": case.holds,
            "entries": case.entries, "hold_us": hold_us, "settle_us": settle_us,
            "pair_us": pair_us,
            "ratio": against_first(pairs)[place - 1].ratio if place else None,
        })  # fmt: skip
    return rows


def _stores(stack: ExitStack, cases: Sequence[Case], options: Options) -> list[Store]:
    made = []
    for case in cases:
        kept = "yes" if case.entries <= FILE_ENTRIES_MAX else "no"
        port = stack.enter_context(
            loopback_redis(
                "--maxmemory", "0", "--appendonly", kept, "--auto-aof-rewrite-percentage", "0",
                "--slowlog-max-len", "10000", folder=options.folder,
            )
        )  # fmt: skip
        made.append(Store(port, case))
    return made


async def _rates(stores: Sequence[Store], options: Options, step: Steps) -> list[dict[str, Any]]:
    for store in stores:
        await store.start(step)
        step.done("filled")
    rows = await compared(stores, options, step)
    for store in stores:
        await store.close()
    return rows


async def _grown(stores: Sequence[Store], options: Options, step: Steps) -> list[dict[str, Any]]:
    """Return rates, bytes and the times of readers, as the entries grow."""
    sizes: list[dict[str, Any]] = []
    for store in stores:
        memory = (await store.raw.info("memory"))["used_memory"]
        file = (await store.raw.info("persistence")).get("aof_current_size", 0)
        await store.start(step)
        row: dict[str, Any] = {}
        if count := store.case.entries:
            used = (await store.raw.info("memory"))["used_memory"] - memory
            row["bytes_each"] = used / count
            written = (await store.raw.info("persistence")).get("aof_current_size", 0) - file
            row["file_bytes_each"] = written / count if written else None
        sizes.append(row)
    rows = await compared(stores, options, step)
    for row, size, store in zip(rows, sizes, stores, strict=True):
        row |= size
        row["overview_s"] = await page_s(store.port, store.name)
        few = store.case.entries > LONG_ENTRIES_MAX and not options.long
        labels = [it for it in COMMANDS if not (few and it in LONG)]
        row["readers"] = await asyncio.to_thread(
            read_with, store.port, store.name, labels, step.say
        )
        if 0 < store.case.entries <= FILE_ENTRIES_MAX:
            row["restart_s"] = await asyncio.to_thread(restart_s, store.port)
        await store.close()
    return rows


def run(options: Options) -> Report:
    """Measure the ledger, each case on a Redis of its own."""
    smallest = Case(options.budgets[0], options.others[0], options.holds[0])
    axes = {
        "budgets": [Case(it, 0, smallest.holds) for it in options.budgets],
        "others": [Case(1, it, smallest.holds) for it in options.others],
        "holds": [Case(1, 0, it) for it in options.holds],
        "entries": [Case(entries=it) for it in options.entries],
    }
    chosen = {axis: axes[axis] for axis in options.only}
    total = sum(len(cases) + options.rounds for cases in chosen.values())
    if "entries" in chosen:
        total += sum(it // 100_000 for it in options.entries)
    found: dict[str, Any] = {}
    with steps("the ledger", total) as step:
        for axis, cases in chosen.items():
            measured = _grown if axis == "entries" else _rates
            with ExitStack() as stack:
                rows = uvloop.run(measured(_stores(stack, cases, options), options, step))
            found[axis] = {
                "rows": rows,
                "rounds": options.rounds,
                "at": datetime.now(UTC).isoformat(timespec="minutes"),
                "load_average": round(os.getloadavg()[2], 1),
            }
    figures = _with_earlier(found)
    return Report("ledger", "The ledger", INTRO, {"axes": figures}, tables(figures))


def _with_earlier(found: dict[str, Any]) -> dict[str, Any]:
    """Return the figures with those of the last results for parts and sizes not measured now."""
    path = FOLDER / "results" / "ledger.json"
    earlier = json.loads(path.read_text("utf-8")).get("axes", {}) if path.exists() else {}
    merged: dict[str, Any] = {}
    for axis in AXES:
        if axis not in found:
            merged |= {axis: earlier[axis]} if axis in earlier else {}
            continue
        sizes = {row[axis] for row in found[axis]["rows"]}
        kept = [it for it in earlier.get(axis, {"rows": []})["rows"] if it[axis] not in sizes]
        rows = sorted([*kept, *found[axis]["rows"]], key=lambda row: int(row[axis]))
        merged[axis] = {**found[axis], "rows": rows}
    return merged


AXES = {
    "budgets": ("One Redis core, by budgets that match", "matching budgets"),
    "others": ("By budgets that do not match", "other budgets"),
    "holds": ("By live holds", "live holds"),
    "entries": ("By entries", "entries"),
}


def tables(found: dict[str, Any]) -> list[Table]:
    """Return the page's tables."""
    made = []
    for axis, (title, name) in AXES.items():
        if axis not in found:
            continue
        part = found[axis]
        table = Table(
            title,
            (name, "admissions/s", "settlements/s", "both/s", "ratio of the time"),
            text=f"{part['rounds']} rounds of {EACH_ROUND}, until {part['at'][:16]} UTC; load "
            f"average of the last 15 minutes {part['load_average']}.",
        )
        for row in part["rows"]:
            rates = (f"{1e6 / row[it]:,.0f}" for it in ("hold_us", "settle_us", "pair_us"))
            ratio = "" if row["ratio"] is None else spread(_spread(row["ratio"]))
            table.add(f"{row[axis]:,}", *rates, ratio)
        made.append(table)
    rows = found.get("entries", {"rows": []})["rows"]
    return [*made, _sizes(rows), _readers(rows)] if rows else made


def _spread(found: Spread | dict[str, Any]) -> Spread:
    # What comes from an earlier run's results is JSON.
    return found if isinstance(found, Spread) else Spread(**found)


def _readers(rows: Sequence[dict[str, Any]]) -> Table:
    table = Table(
        "What reads all entries",
        ("entries", "command", "processor, s", "wall, s", "memory, MiB", "Redis, s",
         "longest Redis command, ms", "over 10 ms"),
        text="Whole commands with the start of Python in them; `--help` is the start alone. "
        "Longest is by Redis's slow log, which counts the time that others had the processor.",
    )  # fmt: skip
    for row in rows:
        for label, it in row["readers"].items():
            table.add(
                f"{row['entries']:,}", label, f"{it['cpu_s']:,.1f}", f"{it['wall_s']:,.1f}",
                f"{it['memory_mib']:,.0f}", f"{it['redis_s']:,.1f}", f"{it['longest_ms']:,.1f}",
                it["over_10_ms"],
            )  # fmt: skip
    return table


def _sizes(rows: Sequence[dict[str, Any]]) -> Table:
    table = Table(
        "Sizes and starts",
        ("entries", "bytes each", "in the file", "overview, first and again, ms",
         "Redis reads its file, s"),
    )  # fmt: skip
    for row in rows:
        first, again = (f"{it * 1000:,.1f}" for it in row["overview_s"])
        bytes_each = [
            f"{row[it]:,.0f}" if row.get(it) else "" for it in ("bytes_each", "file_bytes_each")
        ]
        restarted = f"{row['restart_s']:.1f}" if "restart_s" in row else ""
        table.add(f"{row['entries']:,}", *bytes_each, f"{first}, {again}", restarted)
    return table
