"""The whole way of a request through several proxies that are measured in turns.

Short bursts go round the sides; only bursts of one round are compared. A request's time is from
its sending to the last byte of its answer, as the client sees it. The client asks Farebox for
`auto`, LiteLLM's router by its own name for that, and a bare proxy for a group.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks.figures import Comparison, Spread, quantile
from benchmarks.harness import Report, Steps, Table, against_first, spread, steps, turning
from benchmarks.inside import prompt
from benchmarks.proxies import GOVERNED, SIDES, SMART, Proxies, Setting
from benchmarks.servers import loopback_redis, loopback_upstream
from tests.support.proxy import MASTER_KEY, ProxyProcess

OUTPUT_TOKENS_MAX = 64
WARM_UP_REQUESTS = 60
SETTLED_S = 0.05
TOLD_EVERY = 2_500
HEADERS = {"Authorization": f"Bearer {MASTER_KEY}"}
TITLE = "Through the proxy"
INTRO = """What a request takes from sending to the last byte, with and without Farebox around it:
short bursts go round the sides, and ratios and differences are taken within a round (medians, with
quartiles over the rounds). `./scripts/bench proxy` makes this page.

**bare** is stock LiteLLM, **litellm** the same with its own budgets in Redis and its complexity
router, **noop** a plugin with two empty hooks, **shadow** and **farebox** Farebox in its two modes.
CPU is the processor time of the proxy for one request, its accounting and its own Redis included;
LiteLLM's Redis is a process of the benchmark's and not in it."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A way of asking: `clients` at once, each `requests` one after the other, a burst."""

    tokens: int
    stream: bool
    clients: int
    requests: int
    workers: int = 1
    upstream: bool = False

    @property
    def name(self) -> str:
        """The scenario in words."""
        kind = "stream" if self.stream else "chat"
        many = "client" if self.clients == 1 else "clients"
        told = f"{kind}, {self.tokens:,} tokens, {self.clients} {many}"
        told += f", {self.workers} workers" if self.workers > 1 else ""
        return told + (", loopback upstream" if self.upstream else "")


@dataclass(frozen=True, slots=True)
class Options:
    """What is to be measured: every combination, but for those that say nothing new."""

    sides: tuple[str, ...] = SIDES
    clients: tuple[int, ...] = (1, 16, 64)
    tokens: tuple[int, ...] = (100, 500, 3_000, 10_000, 100_000)
    streams: tuple[bool, ...] = (False, True)
    workers: tuple[int, ...] = (1, 2)
    upstreams: tuple[bool, ...] = (False, True)
    rounds: int = 10
    whole: bool = False
    growth: int = 0


def scenarios(options: Options) -> Iterator[Scenario]:
    """Yield the scenarios; without `whole`, many clients ask with 500 tokens alone, and streams,
    two workers and the upstream are measured at one length."""
    for workers in options.workers:
        for upstream in options.upstreams:
            for stream in options.streams:
                for tokens in options.tokens:
                    for clients in options.clients:
                        special = sum((workers > 1, upstream, stream))
                        usual = tokens == 500 or len(options.tokens) == 1
                        plain = special == 0 and clients == 1
                        if options.whole or plain or (usual and special <= 1):
                            each = max(2, (20 if clients == 1 else 96) // clients)
                            each = max(1, each // 4) if tokens >= 100_000 else each
                            yield Scenario(tokens, stream, clients, each, workers, upstream)


def replaced(options: Options, named: Mapping[str, Any]) -> Options:
    """Return the options with those that were named in place of the usual ones."""
    return replace(options, **named)


@dataclass(frozen=True, slots=True)
class Burst:
    """What one burst took: milliseconds of each request up to its last byte, and all together.

    `cpu_ms` is what the proxy's threads spent on a processor meanwhile: unlike the others it hardly
    depends on what else the machine does. None where the system does not tell.
    """

    latencies_ms: list[float]
    wall_s: float
    cpu_ms: float | None


FIGURES: dict[str, Callable[[Burst], float | None]] = {
    "p50 (ms)": lambda it: quantile(it.latencies_ms, 0.5),
    "requests/s": lambda it: len(it.latencies_ms) / it.wall_s,
    "CPU (ms/request)": lambda it: None if it.cpu_ms is None else it.cpu_ms / len(it.latencies_ms),
}


def processes(pid: int) -> list[int]:
    """Return a process and its children; a proxy with several workers is a family."""
    found = [pid]
    for folder in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in folder.read_text().split():
            found += processes(int(child))
    return found


@cache
def own_redis(home: Path) -> tuple[int, ...]:
    """Return the embedded Redis of a proxy's home: a process of its own, and nobody's child."""
    places = [folder for folder in Path("/proc").iterdir() if folder.name.isdigit()]
    return tuple(int(folder.name) for folder in places if _runs_in(folder, home))


def _runs_in(process: Path, home: Path) -> bool:
    try:
        if "redis-server" not in (process / "comm").read_text():
            return False
        return (process / "cwd").resolve().is_relative_to(home.resolve())
    except OSError:
        return False  # It has ended meanwhile, or is somebody else's.


def cpu_ms(proxy: ProxyProcess) -> float | None:
    """Return the milliseconds that a proxy's threads have run; None beyond Linux.

    The time of its embedded Redis is Farebox's too.
    """
    try:
        texts = [
            path.read_text()
            for one in (*processes(proxy.pid), *own_redis(proxy.pack.folder))
            for path in Path(f"/proc/{one}/task").glob("*/schedstat")
        ]
    except OSError:
        return None
    return sum(int(text.split()[0]) for text in texts) / 1e6 if texts else None


def memory_mib(pid: int) -> float:
    """Return the resident memory of a proxy without its Redis, in MiB."""
    total = 0
    for one in processes(pid):
        if "redis" not in Path(f"/proc/{one}/comm").read_text():
            pages = int(Path(f"/proc/{one}/statm").read_text().split()[1])
            total += pages * os.sysconf("SC_PAGE_SIZE")
    return total / 2**20


async def burst(proxy: ProxyProcess, side: str, scenario: Scenario) -> Burst:
    """Send one burst and return what it took.

    Raises:
        SystemExit: the proxy answered with something else than success.
    """
    # Connections of its own: the proxy closes those that were idle during the others' bursts.
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(headers=HEADERS, connector=connector) as session:
        try:
            return await _measured(session, proxy, side, scenario)
        except aiohttp.ClientError as error:
            raise SystemExit(
                f"{side} failed with {type(error).__name__} "
                f"({'still running' if proxy.running else 'its process has ended'}); "
                f"its log ends:\n{proxy.log_text()[-3000:]}"
            ) from error


async def _measured(
    session: aiohttp.ClientSession, proxy: ProxyProcess, side: str, scenario: Scenario
) -> Burst:
    bodies = [body(side, scenario) for _ in range(scenario.clients * scenario.requests)]
    latencies_ms: list[float] = []

    async def client() -> None:
        for _ in range(scenario.requests):
            asked = bodies.pop()
            start = time.perf_counter()
            url = f"{proxy.base_url}/v1/chat/completions"
            async with session.post(url, json=asked) as response:
                text = await response.text()
                took_ms = (time.perf_counter() - start) * 1000
                if response.status != 200 or (scenario.stream and "[DONE]" not in text):
                    raise SystemExit(f"{side} answered {response.status}: {text[:500]}")
            latencies_ms.append(took_ms)
            if ("x-farebox-decision" in response.headers) != (side in GOVERNED):
                raise SystemExit(f"{side}: a decision's header is where none belongs, or lacks")

    cpu = cpu_ms(proxy)
    start = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(scenario.clients)))
    wall_s = time.perf_counter() - start
    await asyncio.sleep(SETTLED_S)  # The accounting of the last requests is part of their cost.
    after = cpu_ms(proxy)
    spent = after - cpu if cpu is not None and after is not None else None
    return Burst(latencies_ms, wall_s, spent)


def body(side: str, scenario: Scenario) -> dict[str, Any]:
    """Return a body whose text never came before."""
    model = "auto" if side in GOVERNED else SMART if side == "litellm" else "NORMAL"
    return {
        "model": model,
        "messages": [
            {"role": "system", "content": "You are a careful engineer."},
            {"role": "user", "content": prompt(scenario.tokens)},
        ],
        "max_tokens": OUTPUT_TOKENS_MAX,
        "stream": scenario.stream,
    }


async def compared(
    proxies: Proxies, scenario: Scenario, rounds: int, done: Callable[[str], None]
) -> dict[str, list[Comparison]]:
    """Return each figure's comparisons with the first side, one a side after it."""
    sides = proxies.sides
    taken: list[list[Burst]] = []
    for order in turning(len(sides), rounds):
        row: dict[int, Burst] = {}
        for place in order:
            row[place] = await burst(proxies.by_side[sides[place]], sides[place], scenario)
            done(scenario.name)
        taken.append([row[place] for place in range(len(sides))])
    found: dict[str, list[Comparison]] = {}
    for name, figure in FIGURES.items():
        rows = [[figure(one) for one in row] for row in taken]
        known = [[value for value in row if value is not None] for row in rows]
        known = [row for row in known if len(row) == len(sides)]
        if known:
            found[name] = against_first(known)
    # One p99 of all rounds: a burst is too short for one of its own.
    slowest = [
        quantile([ms for row in taken for ms in row[place].latencies_ms], 0.99)
        for place in range(len(sides))
    ]
    found["p99 of all rounds (ms)"] = against_first([slowest])
    return found


async def _warm_up(proxies: Proxies, lengths: Sequence[int]) -> None:
    for side, proxy in proxies.by_side.items():
        await burst(proxy, side, Scenario(100, False, 4, WARM_UP_REQUESTS // 4))
        await burst(proxy, side, Scenario(100, True, 2, 4))
        for tokens in lengths:
            await burst(proxy, side, Scenario(tokens, False, 1, 2))


async def growth(proxies: Proxies, count: int, step: Steps) -> dict[str, list[tuple[int, float]]]:
    """Return each side's memory (MiB) by the number of requests answered, up to `count`."""
    each = 500
    found: dict[str, list[tuple[int, float]]] = {}
    step.more(len(proxies.sides) * (count // each))
    for side, proxy in proxies.by_side.items():
        row = [(0, memory_mib(proxy.pid))]
        for i in range(count // each):
            await burst(proxy, side, Scenario(500, False, 10, each // 10))
            row.append(((i + 1) * each, memory_mib(proxy.pid)))
            step.done(f"memory of {side}")
            if row[-1][0] % TOLD_EVERY == 0:
                step.say(f"{side}: {row[-1][1]:.1f} MiB after {row[-1][0]:,} requests")
        found[side] = row
    return found


def run(options: Options) -> Report:
    """Measure what the options ask for.

    Raises:
        SystemExit: a proxy answered with something else than success.
    """
    os.environ.pop("REDIS_URL", None)  # Farebox's own embedded Redis, as `scripts/serve` has it.
    wanted = list(scenarios(options))
    found: dict[str, dict[str, list[Comparison]]] = {}
    memory: dict[str, list[tuple[int, float]]] = {}
    settings = dict.fromkeys((one.workers, one.upstream) for one in wanted)
    total = len(wanted) * options.rounds * len(options.sides)
    with steps("proxies", total) as step, loopback_redis() as redis_port:
        for workers, upstream in settings:
            step.say(f"starting {len(options.sides)} proxies, {workers} worker(s) each")
            with (
                tempfile.TemporaryDirectory(prefix="fb") as folder,
                loopback_upstream(upstream) as base,
                Proxies(Path(folder), options.sides, Setting(workers, base), redis_port) as proxies,
            ):
                these = [it for it in wanted if (it.workers, it.upstream) == (workers, upstream)]
                asyncio.run(_warm_up(proxies, sorted({it.tokens for it in these})))
                for scenario in these:
                    found[scenario.name] = asyncio.run(
                        compared(proxies, scenario, options.rounds, step.done)
                    )
                    step.say(_line(options.sides, scenario.name, found[scenario.name]))
                if options.growth and (workers, upstream) == (1, False):
                    memory = asyncio.run(growth(proxies, options.growth, step))
    figures = {"options": asdict(options), "scenarios": found, "memory_mib": memory}
    return Report("proxy", TITLE, INTRO, figures, _tables(options, found, memory))


def _line(sides: Sequence[str], name: str, found: dict[str, list[Comparison]]) -> str:
    p50 = found["p50 (ms)"]
    if not p50:
        return f"{name}: nothing to compare {sides[0]} with"
    parts = [f"{sides[0]} {p50[0].without.median:.2f} ms"]
    parts += [
        f"{side} {spread(it.difference, sign=True)}"
        for side, it in zip(sides[1:], p50, strict=True)
    ]
    return f"{name}: p50 " + ", ".join(parts)


def _tables(
    options: Options,
    found: dict[str, dict[str, list[Comparison]]],
    memory: dict[str, list[tuple[int, float]]],
) -> list[Table]:
    first, others = options.sides[0], options.sides[1:]
    tables = []
    for figure in (*FIGURES, "p99 of all rounds (ms)"):
        tells_ratio = figure == "requests/s"
        title = f"{figure}: {'ratio to' if tells_ratio else 'more than'} {first}"
        table = Table(title, ("", first, *others))
        for name, figures in found.items():
            if figure not in figures:
                continue
            row = figures[figure]
            cells: list[str] = []
            for it in row:
                cells.append(
                    spread(it.ratio)
                    if tells_ratio
                    else f"{spread(it.difference, sign=True)}; ×{spread(_alone(it.ratio))}"
                )
            table.add(name, f"{row[0].without.median:,.2f}", *cells)
        tables.append(table)
    if memory:
        table = Table(
            "Resident memory (MiB), one worker", ("requests answered", *memory),
            text="500 tokens, ten clients. The ledger's Redis is not in it.",
        )  # fmt: skip
        for rows in zip(*memory.values(), strict=True):
            table.add(f"{rows[0][0]:,}", *(f"{it[1]:.1f}" for it in rows))
        tables.append(table)
    return tables


def _alone(it: Spread) -> Spread:
    return Spread(it.median, it.median, it.median, 1)
