"""The dashboard on a large ledger: how long a view takes, and what it asks Redis.

    python -m benchmarks.board                       a thousand and a million entries
    python -m benchmarks.board --entries 100000      one size
    python -m benchmarks.board --output FILE         where the JSON goes; nowhere by default

Each size has its own Redis and its own proxy, one worker, as `litellm` starts it. The first view is
that of a worker that has shown no page yet: it loads Jinja2 and the templates. Later views are
two seconds and more apart, so that every panel is read anew. In the browser it is the time from
the navigation to the first paint of what the page shows, and to the end of its loading.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
from redis import Redis
from redis.exceptions import RedisError

from benchmarks import machine
from benchmarks.figures import Spread
from benchmarks.filled import fill
from benchmarks.inside import redis_binary
from budgets.connection import connect
from budgets.home import resolve
from budgets.redis_store import RedisLedger
from hooks.access import Role
from hooks.board.panels import PAGES, Panels
from hooks.board.sources import Sources
from tests.support.policies import PATHS, default_policy
from tests.support.proxy import MASTER_KEY, Pack, ProxyProcess, free_port, wait_until

SIZES = (1_000, 1_000_000)
VIEWS = 5
APART_S = 2.1
LISTENERS = (1, 20)
LISTENED_S = 10.0
LEDGER = "bench"
FIRST_PAINT = """() => new Promise((done) => {
  new PerformanceObserver((list) => {
    const found = list.getEntriesByName("first-contentful-paint")[0];
    if (found) done(found.startTime);
  }).observe({ type: "paint", buffered: true });
})"""
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync")


def main() -> None:
    """Measure what the arguments ask for."""
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--entries", type=int, action="append")
    arguments.add_argument("--output", type=Path)
    given = arguments.parse_args()
    results: dict[str, Any] = {"machine": machine.describe(), "entries": {}}
    for entries in given.entries or SIZES:
        results["entries"][str(entries)] = measure(entries)
        print(json.dumps(results["entries"][str(entries)], indent=1))
    if given.output is not None:
        given.output.write_text(json.dumps(results, indent=1) + "\n", "utf-8")


def measure(entries: int) -> dict[str, Any]:
    """Return the figures of one size."""
    with tempfile.TemporaryDirectory(prefix="fb") as name, _redis(Path(name)) as url:
        began = time.monotonic()
        asyncio.run(_fill(url, entries))
        with Redis.from_url(url, decode_responses=True) as redis:
            stored: Any = redis.info("memory")
            found: dict[str, Any] = {
                "fill_s": round(time.monotonic() - began, 1),
                "redis_mb": round(stored["used_memory"] / 1e6),
            }
            found["processor"] = asyncio.run(_processor(url))
            pack = Pack(Path(name), None)
            environment = {"FAREBOX_LEDGER": LEDGER}
            with ProxyProcess(pack, redis_url=url, environment=environment) as proxy:
                found |= _views(proxy, redis)
                found["browser"] = _in_browser(proxy)
                found["listeners"] = _listened(proxy, redis)
    return found


async def _fill(url: str, entries: int) -> None:
    client = connect(url)
    try:
        await fill(client, LEDGER, default_policy(), entries, _say)
    finally:
        await client.aclose()


def _say(count: int) -> None:
    if count % 100_000 == 0:
        print(f"board: {count:,} entries", file=sys.stderr)


@contextmanager
def _redis(folder: Path) -> Iterator[str]:
    port = free_port()
    command = [redis_binary(), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]
    process = subprocess.Popen([*command, "--save", "", "--appendonly", "no"],
                               stdout=subprocess.DEVNULL)  # fmt: skip
    url = f"redis://127.0.0.1:{port}/0"
    try:
        with Redis.from_url(url) as client:
            wait_until(lambda: _answers(client), what="Redis answers")
        yield url
    finally:
        process.terminate()
        process.wait()


def _answers(client: Redis) -> bool:
    with suppress(RedisError):
        return bool(client.ping())
    return False


# ── over HTTP ────────────────────────────────────────────────────────────────────────────────────


def _session(proxy: ProxyProcess) -> httpx.Client:
    http = httpx.Client(base_url=proxy.base_url, timeout=60)
    form = http.get("/farebox/").text
    found = re.search(r'name="csrf" value="([0-9a-f]+)"', form)
    assert found is not None
    fields = {"csrf": found[1], "key": MASTER_KEY}
    answer = http.post("/farebox/board/login", data=fields, headers={"origin": proxy.base_url})
    assert answer.status_code == 303, answer.text
    return http


def _views(proxy: ProxyProcess, redis: Redis) -> dict[str, Any]:
    found: dict[str, Any] = {"pages": {}}
    with closing(_session(proxy)) as http:
        for page in PAGES:
            path = f"/farebox/{'board/' if page.path else ''}{page.path}"
            first, size = _view(http, path)
            times = []
            before = _commands(redis)
            for _ in range(VIEWS):
                time.sleep(APART_S)
                times.append(_view(http, path)[0])
            asked = _difference(before, _commands(redis))
            spread = Spread.of(times)
            found["pages"][page.title] = {
                "first_ms": round(first, 1),
                "median_ms": round(spread.median, 1),
                "quartiles_ms": [round(spread.quarter, 1), round(spread.three_quarters, 1)],
                "most_ms": round(max(times), 1),
                "bytes": size,
                "stream_reads_per_view": round(asked.get("xrevrange", 0) / VIEWS, 1),
            }
    return found


def _view(http: httpx.Client, path: str) -> tuple[float, int]:
    began = time.perf_counter()
    answer = http.get(path)
    took = (time.perf_counter() - began) * 1000
    assert answer.status_code == 200, answer.text
    return took, len(answer.content)


def _commands(redis: Redis) -> dict[str, int]:
    stats: Any = redis.info("commandstats")
    return {name.removeprefix("cmdstat_"): it["calls"] for name, it in stats.items()}


def _difference(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    return {name: count - before.get(name, 0) for name, count in after.items()}


def _listened(proxy: ProxyProcess, redis: Redis) -> dict[str, Any]:
    """Return how many commands a second Redis gets from nobody, one and many that listen."""
    return {
        str(count): round(asyncio.run(_listen(proxy, redis, count)), 1) for count in (0, *LISTENERS)
    }


async def _listen(proxy: ProxyProcess, redis: Redis, count: int) -> float:
    # As many sessions as it takes: each may have a few streams only.
    sessions = [_session(proxy) for _ in range(-(-max(1, count) // 8))]

    async def one(number: int) -> None:
        cookies = sessions[number // 8].cookies
        async with (
            httpx.AsyncClient(base_url=proxy.base_url, cookies=cookies, timeout=None) as http,
            http.stream("GET", "/farebox/board/events?page=") as stream,
        ):
            assert stream.status_code == 200
            async for _ in stream.aiter_bytes():
                pass

    tasks = [asyncio.create_task(one(number)) for number in range(count)]
    await asyncio.sleep(2)
    before = await asyncio.to_thread(_commands, redis)
    await asyncio.sleep(LISTENED_S)
    asked = _difference(before, await asyncio.to_thread(_commands, redis))
    for task in tasks:
        task.cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(it, asyncio.CancelledError) for it in ended), ended
    for session in sessions:
        session.close()
    return sum(asked.values()) / LISTENED_S


# ── processor time ───────────────────────────────────────────────────────────────────────────────


async def _processor(url: str) -> dict[str, Any]:
    """Return the processor time of each page, read and rendered in this process.

    Unlike the times of views it says little about what else the machine has to do.
    """
    client, policy = connect(url), default_policy()
    try:
        home = replace(resolve(config=PATHS.litellm), redis_url=url, ledger=LEDGER)
        ledger = RedisLedger(client, LEDGER)
        await ledger.publish(policy.budgets.published())
        panels = Panels(Sources(home, client, ledger, lambda: policy, _nothing, _nothing))
        found: dict[str, Any] = {}
        for page in PAGES:
            times = []
            for _ in range(VIEWS):
                panels.changed(*page.panels)
                began = time.process_time()
                await asyncio.gather(*(panels.render(it, Role.ADMIN, "") for it in page.panels))
                times.append((time.process_time() - began) * 1000)
            first, *later = times
            median = round(Spread.of(later).median, 1)
            found[page.title] = {"first_ms": round(first, 1), "median_ms": median}
        return found
    finally:
        await client.aclose()


async def _nothing() -> None:
    return None


# ── in a browser ─────────────────────────────────────────────────────────────────────────────────


def _in_browser(proxy: ProxyProcess) -> dict[str, Any] | None:
    """Return the times of the overview in Chromium; None where there is none."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return None
    if path is None:
        return None
    paints, loads = [], []
    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=path, args=list(FLAGS))
        for _ in range(VIEWS):
            page = browser.new_page()
            page.goto(f"{proxy.base_url}/farebox/")
            page.fill("#key", MASTER_KEY)
            page.press("#key", "Enter")
            page.wait_for_selector("nav")
            time.sleep(APART_S)
            page.goto(f"{proxy.base_url}/farebox/")
            paints.append(page.evaluate(FIRST_PAINT))
            loads.append(page.evaluate(
                "performance.getEntriesByType('navigation')[0].loadEventEnd"
            ))  # fmt: skip
            page.close()
        browser.close()
    return {
        "first_paint_median_ms": round(Spread.of(paints).median, 1),
        "first_paint_most_ms": round(max(paints), 1),
        "load_median_ms": round(Spread.of(loads).median, 1),
        "load_most_ms": round(max(loads), 1),
    }


if __name__ == "__main__":
    main()
