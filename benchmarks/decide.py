"""The time from a request to its decision, without LiteLLM: by prompt size, part by part.

Each run is a process of its own (`benchmarks.inside`), on an event loop like the proxy's and a
Redis on a Unix socket. With a revision to compare with, its runs and this tree's take turns.
Beside that: how long counting takes by method, and how long the event loop stands still.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.figures import Comparison, Spread, alternating, compare
from benchmarks.harness import Report, Steps, Table, spread, steps
from benchmarks.inside import SIZES, Bench, prompt, redis_socket
from hooks import sampled, tokens

ROOT = Path(__file__).resolve().parents[1]
INTRO = """The request path without LiteLLM around it: microseconds of each part of admitting and
settling, medians of each run, with quartiles over the runs. `admit` is what a client waits for
before its request is sent; `settle` comes after the answer. CPU is this process's own time in it,
which depends little on what else the machine does, and leaves out the waiting for Redis. No text
comes twice but where it says so. `./scripts/bench decide` makes this page."""
STALL_EVERY_S = 0.0005


def inside_once(tree: Path, count: int, sizes: Sequence[int]) -> dict[str, dict[str, float]]:
    """Run the request path's benchmark on the code of a tree, in a process of its own."""
    done = subprocess.run(
        [
            sys.executable, "-m", "benchmarks.inside", "--count", str(count),
            "--sizes", *map(str, sizes),
        ],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree)},
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )  # fmt: skip
    medians: dict[str, dict[str, float]] = json.loads(done.stdout)
    return medians


def _spreads(runs: Sequence[dict[str, dict[str, float]]]) -> dict[str, dict[str, Spread]]:
    return {
        size: {part: Spread.of([run[size][part] for run in runs]) for part in runs[0][size]}
        for size in runs[0]
    }


def against(
    revision: str, count: int, sizes: Sequence[int], rounds: int, step: Steps
) -> dict[str, dict[str, Comparison]]:
    """Compare the request path of a revision with this tree's; this tree's benchmark runs both."""
    with tempfile.TemporaryDirectory(prefix="fb") as folder:
        archive = Path(folder) / "tree.tar"
        subprocess.run(["git", "archive", "--output", archive, revision], cwd=ROOT, check=True)
        tree = Path(folder) / "tree"
        shutil.unpack_archive(archive, tree, filter="data")
        shutil.copytree(ROOT / "benchmarks", tree / "benchmarks", dirs_exist_ok=True)
        pairs: list[tuple[dict[str, dict[str, float]], dict[str, dict[str, float]]]] = []
        for order in alternating(rounds):
            sides = {}
            for side in order:
                sides[side] = inside_once((tree, ROOT)[side], count, sizes)
                step.done(f"{revision} and this tree")
            pairs.append((sides[0], sides[1]))
    first = pairs[0][0]
    return {
        size: {part: compare([(a[size][part], b[size][part]) for a, b in pairs]) for part in parts}
        for size, parts in first.items()
    }


def methods() -> dict[str, Callable[[str], int]]:
    """Return the ways of counting a text's tokens that can be had here, by name."""
    import litellm

    encoding = tokens.encoding()

    def estimate(text: str) -> sampled.Interval:
        found = sampled.interval(text)
        assert found is not None
        return found

    found: dict[str, Callable[[str], int]] = {
        "litellm.token_counter": lambda text: int(litellm.token_counter(model="gpt-4o", text=text)),
        "tiktoken, o200k": lambda text: len(encoding.encode_ordinary(text)),
        "Farebox, new text": tokens.count_text,
        "Farebox, by a sample": lambda text: estimate(text).estimate,
    }
    return found


def counting(sizes: Sequence[int], rounds: int, step: Steps) -> dict[str, dict[str, Spread]]:
    """Return the microseconds that each way of counting takes on new texts, taking turns."""
    found: dict[str, dict[str, Spread]] = {}
    step.more(len(sizes))
    for size in sizes:
        taken: dict[str, list[float]] = {name: [] for name in (*methods(), _AGAIN)}
        for _ in range(rounds):
            for name, count in methods().items():
                text = prompt(size)
                start = time.perf_counter_ns()
                count(text)
                taken[name].append((time.perf_counter_ns() - start) / 1000)
            text = prompt(size)
            tokens.count_text(text)
            start = time.perf_counter_ns()
            tokens.count_text(text)
            taken[_AGAIN].append((time.perf_counter_ns() - start) / 1000)
        found[f"{size:,} tokens"] = {name: Spread.of(values) for name, values in taken.items()}
        step.done("counting")
    return found


_AGAIN = "Farebox, text seen before"


async def _stalls(size: int, count: int) -> list[float]:
    """Return for each of `count` admissions how long the event loop stood still, in ms."""
    async with redis_socket() as socket:
        bench = Bench(socket)
        await bench.start()
        worst = [0.0]

        async def watch() -> None:
            last = time.perf_counter()
            while True:
                await asyncio.sleep(STALL_EVERY_S)
                now = time.perf_counter()
                worst[0] = max(worst[0], (now - last - STALL_EVERY_S) * 1000)
                last = now

        watching = asyncio.create_task(watch())
        found = []
        for number in range(count + 3):
            incoming = bench.incoming(prompt(size))
            await asyncio.sleep(0.005)
            worst[0] = 0.0
            await bench.governor.admit(incoming)
            await asyncio.sleep(0.002)
            if number >= 3:  # The first ones load and connect.
                found.append(worst[0])
        watching.cancel()
        await bench.client.aclose()
        return found


def run(rounds: int, count: int, sizes: Sequence[int] = SIZES, revision: str = "") -> Report:
    """Measure the request path; against a revision too, where one is named."""
    compared: dict[str, dict[str, Comparison]] = {}
    runs = []
    with steps("the request path", rounds * (2 if revision else 1) + len(sizes)) as step:
        if revision:
            compared = against(revision, count, sizes, rounds, step)
        else:
            for _ in range(rounds):
                runs.append(inside_once(ROOT, count, sizes))
                step.done()
        by_method = counting(sizes, max(5, rounds), step)
        stalls = {}
        for size in sizes:
            stalls[f"{size:,} tokens"] = Spread.of(uvloop.run(_stalls(size, 20)))
            step.done("the event loop")
    tables = [_parts(_spreads(runs))] if runs else _compared(compared, revision)
    tables += [_table_of_methods(by_method), _table_of_stalls(stalls)]
    figures: dict[str, Any] = {
        "revision": revision, "compared": compared, "microseconds": _spreads(runs) if runs else {},
        "counting_microseconds": by_method, "stalls_ms": stalls,
    }  # fmt: skip
    name = f"decide-against-{revision}" if revision else "decide"
    return Report(name, "From request to decision", INTRO, figures, tables)


def _parts(found: dict[str, dict[str, Spread]]) -> Table:
    table = Table("Parts, microseconds", ("part", *found))
    for part in next(iter(found.values())):
        table.add(part, *(spread(by_part[part], 0) for by_part in found.values()))
    return table


def _compared(found: dict[str, dict[str, Comparison]], revision: str) -> list[Table]:
    tables = []
    for size, by_part in found.items():
        title = f"{size}, microseconds: {revision} and this tree"
        table = Table(title, ("part", "before", "after", "ratio (quartiles)"))
        for part, it in by_part.items():
            table.add(
                part, f"{it.without.median:.0f}", f"{it.with_it.median:.0f}", spread(it.ratio)
            )
        tables.append(table)
    return tables


def _table_of_methods(found: dict[str, dict[str, Spread]]) -> Table:
    table = Table(
        "Counting tokens, microseconds", ("method", *found),
        text="Each on a text that is new to it, in turns; what Farebox has counted lately it "
        "remembers by digest.",
    )  # fmt: skip
    for name in next(iter(found.values())):
        table.add(name, *(spread(by_name[name], 0) for by_name in found.values()))
    return table


def _table_of_stalls(found: dict[str, Spread]) -> Table:
    table = Table(
        "How long the event loop stands still, milliseconds", ("prompt", "longest in an admission"),
        text="Beside each admission a task asks to be woken every half millisecond. On a shared "
        "machine other processes are in this too: the first quartile is the nearer one.",
    )  # fmt: skip
    for size, it in found.items():
        table.add(size, spread(it))
    return table
