"""Two proxies on one Redis that a test may kill, pause and start again, and a load on them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from budgets.journal import waiting_in
from budgets.records import LedgerEntry
from scripts.simulator.process import SimulatorProcess
from tests.support.exact import INPUT_TOKENS, OUTPUT_TOKENS, body
from tests.support.proxy import MASTER_KEY, Pack, ProxyProcess, wait_until
from tests.support.stack import Books

LEASE_S = 5
PRICE_NANO_USD = 11_000_000
EXACT = f"prompt_tokens={INPUT_TOKENS} output_tokens={OUTPUT_TOKENS}"
BODY = body("round", EXACT)
"""A request that holds and costs exactly $0.011."""


@dataclass
class Answers:
    """What the clients of a load saw."""

    statuses: Counter[int] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    unanswered: int = 0
    seconds_of_503: list[float] = field(default_factory=list)

    @property
    def total(self) -> int:
        return sum(self.statuses.values()) + self.unanswered


class Site:
    """Proxies that share a Redis, each with a home of its own, as on machines of their own."""

    def __init__(
        self,
        folder: Path,
        pack: Pack,
        simulator: SimulatorProcess,
        redis_url: str,
        ledger: str,
        environments: tuple[Mapping[str, str], ...] = ({}, {}),
    ) -> None:
        self.folder, self.pack, self.simulator = folder, pack, simulator
        self.redis_url, self.ledger = redis_url, ledger
        self.books = Books(redis_url, ledger)
        self.proxies = [
            ProxyProcess(
                pack,
                redis_url=redis_url,
                home=folder / f"home-{number}",
                environment={"FAREBOX_LEDGER": ledger, **more},
            )
            for number, more in enumerate(environments)
        ]
        self.calls_before = 0

    def start(self) -> None:
        """Start every proxy that does not run, and wait until all serve."""
        fresh = [proxy for proxy in self.proxies if not proxy.running]
        for proxy in fresh:
            proxy.start(wait=False)
        for proxy in fresh:
            proxy.wait_ready()

    def stop(self) -> None:
        for proxy in self.proxies:
            proxy.stop()

    def kill(self, number: int) -> None:
        """Kill a proxy with everything in it, as a machine's memory would run out."""
        os.killpg(self.proxies[number].pid, signal.SIGKILL)
        wait_until(lambda: not self.proxies[number].running, what="the proxy is dead")

    def ask(self, number: int = 0, data: Mapping[str, Any] = BODY) -> httpx.Response:
        """Send one request to a proxy."""
        return self.proxies[number].post("/v1/chat/completions", dict(data))

    async def send(self, client: httpx.AsyncClient, proxy: ProxyProcess, answers: Answers) -> None:
        """Send one request to its end and note what came of it."""
        headers = {"authorization": f"Bearer {MASTER_KEY}"}
        started = time.monotonic()
        try:
            answer = await client.post(
                f"{proxy.base_url}/v1/chat/completions", json=BODY, headers=headers
            )
        except httpx.TransportError:
            answers.unanswered += 1
            return
        answers.statuses[answer.status_code] += 1
        if answer.status_code == 503:
            answers.seconds_of_503.append(time.monotonic() - started)
        if answer.status_code != 200:
            answers.codes[answer.headers.get("x-farebox-code", "")] += 1

    @asynccontextmanager
    async def load(self, clients: int = 8, pause_s: float = 0.05) -> AsyncIterator[Answers]:
        """Keep clients busy on both proxies until the block ends, then wait for their answers."""
        answers = Answers()
        ending = asyncio.Event()

        async def client(number: int) -> None:
            async with httpx.AsyncClient(timeout=60) as http:
                while not ending.is_set():
                    await self.send(http, self.proxies[number % len(self.proxies)], answers)
                    await asyncio.sleep(pause_s)

        async with asyncio.TaskGroup() as group:
            for number in range(clients):
                group.create_task(client(number))
            try:
                yield answers
            finally:
                ending.set()

    # ── the account ──────────────────────────────────────────────────────────────────────────────

    def begin(self) -> None:
        """Remember where the upstream's bill stands."""
        calls = self.simulator.calls()
        self.calls_before = calls[-1]["seq"] if calls else 0

    def billed(self) -> int:
        """Return what the upstream has billed since `begin`, in nanodollars."""
        self.simulator.wait_until_idle()
        return sum(int(it["cost_nano_usd"]) for it in self.simulator.calls(self.calls_before))

    def wait_settled(self, timeout_s: float = 30) -> list[LedgerEntry]:
        """Wait until no hold is open and nothing waits in a journal; return the entries."""
        wait_until(lambda: self.books.holds() == 0, timeout_s, "no hold is open")
        wait_until(lambda: self.waiting_lines() == 0, timeout_s, "every journal is empty")
        assert self.books.verify() == ()
        return self.books.entries()

    def waiting_lines(self) -> int:
        """Return how many lines wait in the journals of all homes."""
        folders = [path for path in self.folder.glob("home-*/journal/*") if path.is_dir()]
        return sum(waiting_in(folder)[0] for folder in folders)


def charged(entries: list[LedgerEntry]) -> int:
    """Return what entries charge in all, corrections taken as the differences that they are."""
    return sum(
        amount for it in entries for (budget, _), amount in it.charges.items() if budget == "round"
    )


def marks_of(entry: LedgerEntry) -> list[str]:
    found: list[str] = json.loads(entry.body).get("marks", [])
    return found
