"""Whether a proxy's memory grows: resident memory over many requests, with and without Farebox.

    python -m benchmarks.memory                            100,000 requests of each side
    python -m benchmarks.memory --requests 20000 --output FILE
    python -m benchmarks.memory --inside                   Farebox's own path, without a proxy

The sides take turns, `EACH` requests at a time, and what was found so far is in the file after each
turn: a run can be ended at any time. LiteLLM itself may grow, so that what matters is the slope of
both after the first requests, in which caches fill: MiB for ten thousand requests, by least
squares. The ledger's Redis is a process of its own, which grows by its entries, and is not counted.
`--inside` admits and settles in one process without LiteLLM, a worker's own objects around it: what
grows there is Farebox's, and it takes a fraction of the time.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvloop

from benchmarks import machine
from benchmarks.inside import Bench, prompt, redis_socket
from benchmarks.proxies import Proxies, Setting
from benchmarks.proxy import Scenario, burst, memory_mib

SIDES = ("farebox", "bare")
EACH = 500
CLIENTS = 10
SETTLED_AFTER = 20_000
"""Requests after which memory should no longer grow."""

Row = tuple[int, float]


def main() -> None:
    """Measure what the arguments ask for."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--requests", type=int, default=100_000)
    arguments.add_argument("--sides", nargs="+", choices=SIDES, default=SIDES)
    arguments.add_argument("--output", type=Path)
    arguments.add_argument("--inside", action="store_true", help="without LiteLLM")
    given = arguments.parse_args()
    described = machine.describe()
    if given.inside:
        rows = uvloop.run(_inside(given.requests))
        _keep(given.output, {"machine": described, **summary({"inside": rows})})
        return
    found: dict[str, list[Row]] = {side: [] for side in given.sides}
    with (
        tempfile.TemporaryDirectory(prefix="fb") as folder,
        Proxies(Path(folder), tuple(given.sides), Setting(), None) as proxies,
    ):
        for side in given.sides:
            asyncio.run(_ask(proxies, side))
            found[side].append((0, memory_mib(proxies.by_side[side].pid)))
        for turn in range(given.requests // EACH):
            began = time.monotonic()
            for side in given.sides:
                asyncio.run(_ask(proxies, side))
                row = ((turn + 1) * EACH, round(memory_mib(proxies.by_side[side].pid), 2))
                found[side].append(row)
            _tell(found, time.monotonic() - began)
            _keep(given.output, {"machine": described, **summary(found)})


def _keep(path: Path | None, results: dict[str, Any]) -> None:
    if path is not None:
        path.write_text(json.dumps(results, indent=1) + "\n", "utf-8")


async def _inside(count: int) -> list[Row]:
    """Admit and settle so many requests in this process; return its memory by their number."""
    async with redis_socket() as socket:
        bench = Bench(socket)
        await bench.start()
        rows: list[Row] = []
        for number in range(count + 1):
            if number % EACH == 0:
                await bench.told()
                gc.collect()
                rows.append((number, round(memory_mib(os.getpid()), 2)))
                if number % 2_500 == 0:
                    _tell({"inside": rows}, 0)
            incoming = bench.incoming(prompt(500))
            await bench.settle((await bench.governor.admit(incoming)).request_id)
        await bench.client.aclose()
    return rows


async def _ask(proxies: Proxies, side: str) -> None:
    scenario = Scenario(500, False, CLIENTS, EACH // CLIENTS)
    await burst(proxies.by_side[side], side, scenario)


def _tell(found: dict[str, list[Row]], took_s: float) -> None:
    count = next(iter(found.values()))[-1][0]
    if count % 2_500 == 0:
        sizes = ", ".join(f"{side} {rows[-1][1]:.1f} MiB" for side, rows in found.items())
        print(f"memory: {count:,} requests, {sizes} ({took_s:.0f} s a turn)", flush=True)


def slope(rows: Sequence[Row], after: int) -> float | None:
    """Return MiB for ten thousand requests, by least squares over what came after so many.

    None where fewer than two were measured.
    """
    kept = [row for row in rows if row[0] >= after]
    if len(kept) < 2:
        return None
    mean_x = sum(x for x, _ in kept) / len(kept)
    mean_y = sum(y for _, y in kept) / len(kept)
    spread = sum((x - mean_x) ** 2 for x, _ in kept)
    return sum((x - mean_x) * (y - mean_y) for x, y in kept) / spread * 10_000


def summary(found: dict[str, list[Row]]) -> dict[str, Any]:
    """Return each side's memory, some of its course, and its slope early and late."""
    return {
        side: {
            "requests": rows[-1][0],
            "mib": [list(row) for row in rows if row[0] % 2_500 == 0 or row == rows[-1]],
            "mib_per_10_000_at_first": slope([it for it in rows if it[0] <= SETTLED_AFTER], 0),
            "mib_per_10_000_later": slope(rows, SETTLED_AFTER),
        }
        for side, rows in found.items()
    }


if __name__ == "__main__":
    main()
