"""The whole way of a request through two proxies: stock LiteLLM, and the same with Farebox.

Both run the pack's `litellm_config.yaml`; stock without the lines that Farebox adds (callbacks and
custom_auth). Both are one worker, both answer from LiteLLM's `mock_response`, so that what a
provider takes is not in the figures. The client asks for a group by its name, which Farebox
respects: both sides make the same call. Short bursts alternate between the two, and only bursts
that ran right after one another are compared.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks.figures import Comparison, alternating, compare, quantile
from benchmarks.inside import prompt
from tests.support.proxy import MASTER_KEY, Pack, ProxyProcess

GROUP = "gpt-4o-mini"
ANSWER = "The export starts before the load has been committed."
OUTPUT_TOKENS_MAX = 64
WARM_UP_REQUESTS = 60
SETTLED_S = 0.05
HEADERS = {"Authorization": f"Bearer {MASTER_KEY}"}


@dataclass(frozen=True, slots=True)
class Scenario:
    """A way of asking: `clients` at once, each `requests` one after the other, a burst."""

    name: str
    tokens: int
    stream: bool
    clients: int
    requests: int


SCENARIOS = (
    Scenario("chat, 120 tokens, 1 client", 120, False, 1, 25),
    Scenario("chat, 3,000 tokens, 1 client", 3_000, False, 1, 20),
    Scenario("stream, 120 tokens, 1 client", 120, True, 1, 20),
    Scenario("chat, 120 tokens, 16 clients", 120, False, 16, 6),
    Scenario("stream, 120 tokens, 16 clients", 120, True, 16, 3),
)


@dataclass(frozen=True, slots=True)
class Burst:
    """What one burst took: milliseconds of each request up to its last byte, and all together.

    `cpu_ms` is what the proxy's threads spent on a processor meanwhile: unlike the others it hardly
    depends on what else the machine does. None where the system does not tell.
    """

    latencies_ms: list[float]
    wall_s: float
    cpu_ms: float | None

    @property
    def p50_ms(self) -> float:
        """The median request."""
        return quantile(self.latencies_ms, 0.5)

    @property
    def per_second(self) -> float:
        """Requests a second."""
        return len(self.latencies_ms) / self.wall_s

    @property
    def cpu_ms_each(self) -> float | None:
        """The proxy's processor time for one request, in milliseconds."""
        return None if self.cpu_ms is None else self.cpu_ms / len(self.latencies_ms)


FIGURES: dict[str, Callable[[Burst], float | None]] = {
    "p50 (ms)": lambda burst: burst.p50_ms,
    "requests/s": lambda burst: burst.per_second,
    "proxy CPU (ms/request)": lambda burst: burst.cpu_ms_each,
}


def cpu_ms(pid: int) -> float | None:
    """Return the milliseconds that the threads of a process have run; None beyond Linux."""
    try:
        texts = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/schedstat")]
    except OSError:
        return None
    return sum(int(text.split()[0]) for text in texts) / 1e6 if texts else None


def _pack(folder: Path, *, farebox: bool) -> Pack:
    folder.mkdir()
    pack = Pack(folder, None)
    with pack.edit_litellm() as config:
        for entry in config["model_list"]:
            entry["litellm_params"] |= {"api_key": "sk-unused", "mock_response": ANSWER}
        if not farebox:
            del config["litellm_settings"]["callbacks"]
            del config["general_settings"]["custom_auth"]
            del config["general_settings"]["custom_auth_run_common_checks"]
    with pack.edit_budgets() as budgets:
        for budget in budgets["budgets"].values():
            budget["limit_usd"] = 1_000_000  # Nothing may be refused, however long this runs.
    return pack


async def _burst(proxy: ProxyProcess, scenario: Scenario) -> Burst:
    # Connections of its own: the proxy closes those that were idle during the other side's burst.
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(headers=HEADERS, connector=connector) as session:
        try:
            return await _measured(session, proxy, scenario)
        except aiohttp.ClientError as error:
            raise SystemExit(
                f"{proxy.pack.folder.name} failed with {type(error).__name__} "
                f"({'still running' if _runs(proxy.pid) else 'its process has ended'}); "
                f"its log ends:\n{proxy.log_text()[-3000:]}"
            ) from error


def _runs(pid: int) -> bool:
    """Say whether a child process of ours still runs."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    except ChildProcessError:
        return False


async def _measured(
    session: aiohttp.ClientSession, proxy: ProxyProcess, scenario: Scenario
) -> Burst:
    base_url = proxy.base_url
    governed = proxy.pack.folder.name == "farebox"
    bodies = [_body(scenario) for _ in range(scenario.clients * scenario.requests)]
    latencies_ms: list[float] = []

    async def client() -> None:
        for _ in range(scenario.requests):
            body = bodies.pop()
            start = time.perf_counter()
            async with session.post(f"{base_url}/v1/chat/completions", json=body) as response:
                text = await response.text()
                if response.status != 200 or (scenario.stream and "[DONE]" not in text):
                    raise SystemExit(f"{base_url} answered {response.status}: {text[:500]}")
            latencies_ms.append((time.perf_counter() - start) * 1000)
            if ("x-farebox-decision" in response.headers) != governed:
                raise SystemExit(
                    f"{base_url}: the header of a decision should be there: {governed}"
                )

    cpu = cpu_ms(proxy.pid)
    start = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(scenario.clients)))
    wall_s = time.perf_counter() - start
    await asyncio.sleep(SETTLED_S)  # The accounting of the last requests is part of their cost.
    after = cpu_ms(proxy.pid)
    spent = after - cpu if cpu is not None and after is not None else None
    return Burst(latencies_ms, wall_s, spent)


def _body(scenario: Scenario) -> dict[str, Any]:
    return {
        "model": GROUP,
        "messages": [
            {"role": "system", "content": "You are a careful engineer."},
            {"role": "user", "content": prompt(scenario.tokens)},
        ],
        "max_tokens": OUTPUT_TOKENS_MAX,
        "stream": scenario.stream,
    }


async def _measure(
    proxies: tuple[ProxyProcess, ProxyProcess], pairs: int, say: Callable[[str], None]
) -> dict[str, dict[str, Comparison]]:
    results: dict[str, dict[str, Comparison]] = {}
    warm_up = Scenario("", 120, False, 4, WARM_UP_REQUESTS // 4)
    for proxy in proxies:
        await _burst(proxy, warm_up)
    for scenario in SCENARIOS:
        taken: list[tuple[Burst, Burst]] = []
        for order in alternating(pairs):
            sides: dict[int, Burst] = {}
            for side in order:
                sides[side] = await _burst(proxies[side], scenario)
            taken.append((sides[0], sides[1]))
        results[scenario.name] = {}
        for name, figure in FIGURES.items():
            figures = [(figure(a), figure(b)) for a, b in taken]
            known = [(a, b) for a, b in figures if a is not None and b is not None]
            if known:
                results[scenario.name][name] = compare(known)
        slowest = [
            quantile([ms for pair in taken for ms in pair[side].latencies_ms], 0.99)
            for side in (0, 1)
        ]
        results[scenario.name]["p99 of all bursts (ms)"] = compare([(slowest[0], slowest[1])])
        p50 = results[scenario.name]["p50 (ms)"]
        say(f"{scenario.name}: p50 {p50.without.median:.2f} -> {p50.with_it.median:.2f} ms")
    return results


def run(pairs: int, say: Callable[[str], None]) -> dict[str, dict[str, Comparison]]:
    """Return for each scenario and figure the comparison of stock LiteLLM and Farebox.

    Raises:
        SystemExit: a proxy answered with something else than success.
    """
    os.environ.pop("REDIS_URL", None)  # Farebox's own embedded Redis, as `scripts/serve` has it.
    with tempfile.TemporaryDirectory(prefix="fb") as folder:
        say("starting two proxies")
        with (
            ProxyProcess(_pack(Path(folder, "stock"), farebox=False)) as stock,
            ProxyProcess(_pack(Path(folder, "farebox"), farebox=True)) as governed,
        ):
            return asyncio.run(_measure((stock, governed), pairs, say))
