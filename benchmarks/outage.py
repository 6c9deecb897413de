"""How long a refusal takes while Redis is away, and how soon the first answer is good afterwards.

python -m benchmarks.outage                      one client and sixteen, Redis killed and stopped
python -m benchmarks.outage --output FILE        the figures as JSON; nowhere by default

One proxy on the loopback interface, a real Redis, the simulated upstream. Redis is ended by SIGKILL
(its port is closed) or stopped by SIGSTOP (its port takes connections and says nothing). The first
refusals, which find out, are given apart from those after the outage is known. The time is the
client's, from sending to the whole answer. Beside it stands what a refusal by a full budget takes,
with Redis there.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from benchmarks import machine
from scripts.simulator.prices import bundled_prices
from scripts.simulator.process import SimulatorProcess
from tests.support.house import RedisProcess
from tests.support.proxy import MASTER_KEY, Pack, ProxyProcess, wait_until

REQUESTS = 400
KNOWN_AFTER_S = 3.0


def body(model: str) -> dict[str, Any]:
    """Return a short request for a group."""
    return {"model": model, "messages": [{"role": "user", "content": "Fix this typo: teh"}]}


async def ask(proxy: ProxyProcess, model: str, clients: int, requests: int) -> list[Any]:
    """Send requests from so many clients; return (milliseconds, status) of each."""
    found: list[Any] = []
    left = iter(range(requests))
    headers = {"authorization": f"Bearer {MASTER_KEY}"}

    async def client() -> None:
        async with httpx.AsyncClient(timeout=60, headers=headers) as http:
            for _ in left:
                began = time.perf_counter()
                answer = await http.post(f"{proxy.base_url}/v1/chat/completions", json=body(model))
                found.append(((time.perf_counter() - began) * 1000, answer.status_code))

    await asyncio.gather(*(client() for _ in range(clients)))
    return found


def figures(answers: list[Any], status: int) -> dict[str, Any]:
    """Return the quantiles of the times; every answer must have the status."""
    assert {code for _, code in answers} == {status}, {code for _, code in answers}
    times = sorted(ms for ms, _ in answers)
    last = len(times) - 1
    return {
        "answers": len(times),
        "p50_ms": round(times[last // 2], 2),
        "p99_ms": round(times[last * 99 // 100], 2),
        "max_ms": round(times[-1], 2),
    }


def measure(redis: RedisProcess, proxy: ProxyProcess, way: str, clients: int) -> dict[str, Any]:
    """Measure one outage, from before it until after it."""
    asyncio.run(ask(proxy, "gpt-4o-mini", clients, 50))
    full = figures(asyncio.run(ask(proxy, "minimax", clients, REQUESTS)), 402)
    assert redis.process is not None
    if way == "killed":
        redis.process.kill()
        redis.process.wait()
        redis.process = None
    else:
        redis.process.send_signal(signal.SIGSTOP)
    finding_out = figures(asyncio.run(ask(proxy, "gpt-4o-mini", clients, clients)), 503)
    time.sleep(KNOWN_AFTER_S)
    known = figures(asyncio.run(ask(proxy, "gpt-4o-mini", clients, REQUESTS)), 503)
    if way == "killed":
        redis.start()
    else:
        assert redis.process is not None
        redis.process.send_signal(signal.SIGCONT)
    back = time.monotonic()
    good = lambda: proxy.chat("hello", model="gpt-4o-mini").status_code == 200  # noqa: E731
    wait_until(good, 30, "the ledger is known to be back")
    return {
        "redis": way,
        "clients": clients,
        "full_budget_402": full,
        "finding_out_503": finding_out,
        "known_503": known,
        "first_good_answer_s": round(time.monotonic() - back, 2),
    }


def main() -> None:
    """Measure, print, and write where asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.outage")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    results = []
    with (
        tempfile.TemporaryDirectory(prefix="fbout") as name,
        SimulatorProcess(bundled_prices(), first_token_ms=1) as simulator,
    ):
        pack = Pack(Path(name), simulator.base_url)
        with pack.edit_budgets() as budgets:
            budgets["budgets"]["tiny"] = {
                "match": {"model": "minimax"},
                "limit_usd": 0.000001,
                "period": "day",
            }
        redis = RedisProcess()
        redis.start()
        try:
            with ProxyProcess(pack, redis_url=redis.url) as proxy:
                for way in ("killed", "stopped"):
                    for clients in (1, 16):
                        results.append(measure(redis, proxy, way, clients))
                        print(json.dumps(results[-1]), flush=True)
        finally:
            redis.end()
    if given.output is not None:
        found = {"machine": machine.describe(), "results": results}
        given.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
