"""Proxy, Redis and fake upstream together, and the two sides of the account: bill and books.

The bill is what the fake upstream says it served. The books are what the ledger in Redis says. The
proxy's own word counts for neither.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import anthropic
import openai

from budgets.alerts.outbox import Depths
from budgets.alerts.redis_outbox import RedisOutbox
from budgets.connection import AsyncClient, connect
from budgets.embedded import EmbeddedRedis
from budgets.holds import BudgetState
from budgets.learned import Learned
from budgets.records import Difference, LedgerEntry, LedgerEvent
from budgets.redis_store import RedisLedger
from scripts.simulator.process import SimulatorProcess
from tests.support.proxy import MASTER_KEY, Pack, ProxyProcess, wait_until

_T = TypeVar("_T")


class Books:
    """The ledger in Redis, read from outside the proxy."""

    def __init__(self, redis_url: str, name: str) -> None:
        self._url, self._name = redis_url, name

    def entries(self, after: str = "") -> list[LedgerEntry]:
        """Return the entries beyond the id `after`, oldest first."""

        async def read(ledger: RedisLedger) -> list[LedgerEntry]:
            return [entry async for entry in ledger.entries(after)]

        return self._ask(read)

    def refusals(self, after: str = "") -> list[LedgerEvent]:
        """Return the refusals beyond the id `after`, oldest first."""

        async def read(ledger: RedisLedger) -> list[LedgerEvent]:
            return [event async for event in ledger.refusals(after)]

        return self._ask(read)

    def events(self, kind: str) -> list[LedgerEvent]:
        """Return the events of a kind, oldest first."""

        async def read(ledger: RedisLedger) -> list[LedgerEvent]:
            return [event async for event in ledger.events() if event.kind == kind]

        return self._ask(read)

    def learned(self) -> Learned:
        """Return what the ledger has learned."""
        return self._ask(lambda ledger: ledger.learned())

    def state(self, budget: str, period: str) -> BudgetState:
        """Return the counters of a budget that counts for everybody together."""
        return self._ask(lambda ledger: ledger.states([(budget, budget, period)]))[0]

    def verify(self) -> tuple[Difference, ...]:
        """Recompute every counter; return the differences."""
        return self._ask(lambda ledger: ledger.verify())

    def holds(self) -> int:
        """Return how many holds are open."""

        async def run() -> int:
            async with self._client() as client:
                return int(await client.zcard(f"farebox:{{{self._name}}}:leases"))

        return asyncio.run(run())

    def slices(self) -> int:
        """Return how many leased slices are open."""

        async def run() -> int:
            async with self._client() as client:
                prefix = f"farebox:{{{self._name}}}:"
                ids = await client.zrange(f"{prefix}leases", 0, -1)
                found = [await client.hget(f"{prefix}hold:{it}", "lease") for it in ids]  # type: ignore[misc] # Asynchronous.
                return sum(it is not None for it in found)

        return asyncio.run(run())

    def alerts(self) -> Depths:
        """Return how many alerts wait, and what became of the others."""

        async def run() -> Depths:
            async with self._client() as client:
                return await RedisOutbox(client, self._name).depths()

        return asyncio.run(run())

    def decision(self, decision_id: str) -> dict[str, Any]:
        """Return a stored decision."""
        text = self._ask(lambda ledger: ledger.decision(decision_id))
        assert text is not None, f"no decision {decision_id}"
        decision: dict[str, Any] = json.loads(text)
        return decision

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[AsyncClient]:
        client = connect(self._url)
        try:
            yield client
        finally:
            await client.aclose()

    def _ask(self, question: Callable[[RedisLedger], Awaitable[_T]]) -> _T:
        async def run() -> _T:
            async with self._client() as client:
                return await question(RedisLedger(client, self._name))

        return asyncio.run(run())


@dataclass(frozen=True)
class Line:
    """One entry, with its body as data."""

    entry: LedgerEntry
    body: dict[str, Any]

    @property
    def cost(self) -> int:
        """What was charged, in nanodollars."""
        return self.entry.cost_nano_usd

    @property
    def marks(self) -> list[str]:
        """The entry's marks."""
        marks: list[str] = self.body["marks"]
        return marks

    @property
    def attempts(self) -> list[tuple[str, str]]:
        """Group and status of each attempt."""
        return [(a["group"], a["status"]) for a in self.body["attempts"]]


@dataclass(frozen=True)
class Account:
    """What happened between two moments, on both sides."""

    lines: list[Line]
    calls: list[dict[str, Any]]
    refusals: list[LedgerEvent]

    @property
    def charged(self) -> int:
        """The sum of the entries, in nanodollars."""
        return sum(line.cost for line in self.lines)

    @property
    def billed(self) -> int:
        """The sum of the upstream's bill, in nanodollars."""
        return sum(int(call["cost_nano_usd"]) for call in self.calls)

    @property
    def only(self) -> Line:
        """The one entry."""
        assert len(self.lines) == 1, [line.body for line in self.lines]
        return self.lines[0]


class Stack:
    """A proxy (or several on the same configuration), its ledger and its upstream."""

    def __init__(
        self, pack: Pack, simulator: SimulatorProcess, redis: EmbeddedRedis, ledger: str
    ) -> None:
        self.pack = pack
        self.simulator = simulator
        self.home = redis.folder.parent
        self.ledger = ledger
        self.books = Books(redis.url, ledger)
        self.proxies: list[ProxyProcess] = []

    def add_proxies(self, count: int, workers: int = 1) -> None:
        """Start more proxies, side by side, and wait until all serve."""
        fresh = [
            ProxyProcess(
                self.pack,
                home=self.home,
                workers=workers,
                environment={"FAREBOX_LEDGER": self.ledger},
            )
            for _ in range(count)
        ]
        self.proxies += fresh
        for proxy in fresh:
            proxy.start(wait=False)
        for proxy in fresh:
            proxy.wait_ready()

    def stop(self) -> None:
        """Stop every proxy."""
        for proxy in self.proxies:
            proxy.stop()

    @property
    def proxy(self) -> ProxyProcess:
        """The first proxy."""
        return self.proxies[0]

    def openai(self, **options: Any) -> openai.OpenAI:
        """An OpenAI client without retries of its own."""
        return openai.OpenAI(
            base_url=f"{self.proxy.base_url}/v1",
            api_key=MASTER_KEY,
            **{"max_retries": 0, "timeout": 30, **options},
        )

    def anthropic(self, **options: Any) -> anthropic.Anthropic:
        """An Anthropic client without retries of its own."""
        return anthropic.Anthropic(
            base_url=self.proxy.base_url,
            api_key=MASTER_KEY,
            **{"max_retries": 0, "timeout": 30, **options},
        )

    @contextmanager
    def accounting(self, entries: int = 1, wait_s: float = 8.0) -> Iterator[Callable[[], Account]]:
        """Account for what happens inside: give a function that ends and returns the account.

        It waits until that many entries stand, no new hold is open and the upstream is idle, and
        then holds every counter against the entries.
        """
        holds_before = self.books.holds()
        before = self.books.entries()
        after = before[-1].id if before else ""
        told = self.books.refusals()
        refused_after = told[-1].id if told else ""
        calls = self.simulator.calls()
        since = calls[-1]["seq"] if calls else 0

        def account() -> Account:
            def ended() -> bool:
                fresh = self.books.entries(after)
                return len(fresh) >= entries and self.books.holds() <= holds_before

            wait_until(ended, wait_s, f"{entries} entries and no new hold")
            self.simulator.wait_until_idle()
            lines = [Line(e, json.loads(e.body)) for e in self.books.entries(after)]
            assert len(lines) == entries, [line.body for line in lines]
            assert self.books.verify() == ()
            self._check_total(lines, holds_before)
            return Account(lines, self.simulator.calls(since), self.books.refusals(refused_after))

        yield account

    def _check_total(self, lines: list[Line], holds: int) -> None:
        """The budget that matches everything has spent what all entries charge."""
        if not lines:
            return
        period = next(p for b, p in lines[-1].entry.charges if b == "total")
        state = self.books.state("total", period)
        charged = sum(e.charges.get(("total", period), 0) for e in self.books.entries())
        assert state.spent_nano_usd == charged
        assert state.holds <= holds
