"""Overshoot and false refusals near a limit: LiteLLM's own budgets and Farebox, side by side.

Three proxies share one Redis and one limit, and a burst of requests comes at once. The truth is the
simulated provider's own bill. Overshoot is what was billed beyond the limit; a refusal was false if
its request would still have fitted under the limit once everything was settled. No client retries.
"""

from __future__ import annotations

import asyncio
import os
import random
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks.figures import Spread
from benchmarks.harness import Report, Steps, Table, spread, steps
from benchmarks.proxies import Setting, pack_of
from scripts.simulator.prices import bundled_prices
from scripts.simulator.process import SimulatorProcess
from tests.support.house import RedisProcess
from tests.support.proxy import MASTER_KEY, ProxyProcess

SIDES = ("litellm", "farebox")
PROXIES = 3
OUTPUT_TOKENS_MAX = 200
FIT = 20
"""About so many answers fit under the limit."""

ANSWER_NANO_USD = 130_000
"""What one answer of the simulator's costs, about: gpt-4o-mini, 200 tokens."""

LIMIT_USD = FIT * ANSWER_NANO_USD / 1e9
SETTLED_S = 3.0
EVENTS = ("calm", "Redis killed before", "a proxy killed in the middle")
INTRO = f"""Three proxies of one worker each on one Redis; a limit that about {FIT} answers fit
under; so many requests at once. Overshoot is what the provider (a simulator that bills) was owed
beyond the limit, in percent of it. A refusal is false if its request would have fitted once all was
settled; nobody retries, so what is refused as busy counts too. Where Redis is killed before the
burst, nothing is known of what was spent, and Farebox refuses by default.
`./scripts/bench admission` makes this page."""


async def volley(urls: list[str], count: int, kill: ProxyProcess | None) -> list[int]:
    """Send so many at once over all proxies; return their statuses, 0 for no answer."""
    headers = {"Authorization": f"Bearer {MASTER_KEY}"}
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(
        headers=headers, connector=connector, timeout=timeout
    ) as session:

        async def ask(number: int) -> int:
            body = {
                "model": "NORMAL",
                "messages": [{"role": "user", "content": f"Case {random.random()}: why so slow?"}],
                "max_tokens": OUTPUT_TOKENS_MAX,
            }
            url = f"{urls[number % len(urls)]}/v1/chat/completions"
            try:
                async with session.post(url, json=body) as response:
                    await response.read()
                    return response.status
            except (aiohttp.ClientError, TimeoutError):
                return 0

        asked = [asyncio.create_task(ask(number)) for number in range(count)]
        if kill is not None:
            await asyncio.sleep(0.3)
            kill.stop(9)
        return list(await asyncio.gather(*asked))


def one(side: str, event: str, count: int, step: Steps) -> dict[str, float]:
    """Return what one burst came to, on proxies and a Redis of its own."""
    os.environ["BENCH_BUDGET_USD"] = str(LIMIT_USD)
    redis = RedisProcess()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fb")))
        simulator = stack.enter_context(SimulatorProcess(bundled_prices(), first_token_ms=20))
        redis.start()
        stack.callback(redis.end)
        setting = Setting(1, simulator.base_url + "/v1", limit_usd=LIMIT_USD)
        pack = pack_of(folder / side, side, setting, redis.port)
        if side == "litellm":
            with pack.edit_litellm() as config:
                config["litellm_settings"]["cache_params"]["password"] = RedisProcess.PASSWORD
        proxies = []
        for number in range(PROXIES):
            url = redis.url if side == "farebox" else None
            proxy = ProxyProcess(pack, redis_url=url, home=folder / f"home{number}")
            proxies.append(stack.enter_context(proxy))
        urls = [proxy.base_url for proxy in proxies]
        # One request that no limit is near: connections, tokenizers and the ledger are there.
        asyncio.run(volley(urls, PROXIES, None))
        time.sleep(SETTLED_S)
        before = sum(int(call["cost_nano_usd"]) for call in simulator.calls())
        if event.startswith("Redis"):
            redis.kill()
            time.sleep(1.0)
        statuses = asyncio.run(volley(urls, count, proxies[0] if "proxy" in event else None))
        simulator.wait_until_idle()
        time.sleep(SETTLED_S)
        calls = simulator.calls()
        billed = sum(int(call["cost_nano_usd"]) for call in calls)
    limit = round(LIMIT_USD * 1e9)
    dearest = max((int(call["cost_nano_usd"]) for call in calls), default=ANSWER_NANO_USD)
    refused = sum(1 for status in statuses if status >= 400)
    room = max(0, limit - billed) // dearest
    step.done(f"{side}, {event}, {count}")
    return {
        "billed_before": before,
        "admitted": sum(1 for status in statuses if status == 200),
        "refused": refused,
        "unanswered": statuses.count(0),
        "overshoot": max(0, billed - limit) / limit,
        "false_refusals": min(refused, room),
    }


def run(counts: Sequence[int], *, quick: bool, rounds: int) -> Report:
    """Measure every side with so many at once, in every event; `quick` leaves the faults out."""
    events = EVENTS[:1] if quick else EVENTS
    found: dict[str, list[dict[str, Any]]] = {}
    with steps("admission", len(counts) * len(events) * rounds * len(SIDES)) as step:
        for event in events:
            for count in counts:
                for turn in range(rounds):
                    for side in SIDES if turn % 2 == 0 else reversed(SIDES):
                        key = f"{side}|{event}|{count}"
                        found.setdefault(key, []).append(one(side, event, count, step))
    table = Table(
        "Near the limit",
        ("", "event", "at once", "admitted", "refused", "overshoot, %", "false refusals"),
    )
    for key, rows in found.items():
        over = Spread.of([row["overshoot"] * 100 for row in rows])
        told = [
            spread(Spread.of([float(row[name]) for row in rows]), 0)
            for name in ("admitted", "refused", "false_refusals")
        ]
        table.add(*key.split("|"), told[0], told[1], spread(over, 1), told[2])
    figures = {"limit_usd": LIMIT_USD, "rounds": rounds, "runs": found}
    return Report("admission", "Near a limit", INTRO, figures, [table])
