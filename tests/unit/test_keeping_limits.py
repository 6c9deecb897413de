"""A worker sees to it that the store has the limits that it decides by, on virtual time."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from budgets.errors import LedgerUnavailable
from budgets.inflight import InFlight
from budgets.memory import MemoryLedger
from budgets.outage import Outage
from budgets.published import PublishedPolicy
from budgets.runtime import Runtime
from budgets.sweeper import Sweeper
from hooks.policy import Policy
from hooks.worker import LIMITS_INTERVAL_S, START_RETRY_S, Worker
from tests.simulation.loop import VirtualLoop
from tests.simulation.proxy import HOME
from tests.support.policies import default_policy

OLD = default_policy()
NEW = replace(OLD, budgets=OLD.budgets.model_copy(update={"budgets": {}}))


class Store(MemoryLedger):
    """A model that can be away, and whose publications are counted."""

    def __init__(self) -> None:
        super().__init__(lambda: 0)
        self.away = False
        self.digests: list[str] = []

    async def publish(self, policy: PublishedPolicy, after: int | None = None) -> int:
        if self.away:
            raise LedgerUnavailable("away")
        revision = await super().publish(policy, after)
        self.digests.append(policy.digest)
        return revision


def keeping(store: Store, policy: Policy, revision: int | None, seconds: float) -> None:
    """Let a worker that published last as `revision` keep its limits for so long."""
    loop = VirtualLoop()

    async def live() -> None:
        ledger = store
        worker = Worker(HOME, policy, {}, lambda _: True)
        worker.runtime = Runtime(
            ledger, InFlight(ledger, 1000), Sweeper(ledger), Outage(ledger, None, None)
        )
        worker.limits_revision = revision
        task = asyncio.ensure_future(worker.keep_limits())
        await asyncio.sleep(seconds)
        task.cancel()

    loop.run(live())


def published(store: Store, *policies: Policy) -> None:
    async def publish() -> None:
        for policy in policies:
            await store.publish(policy.budgets.published())

    VirtualLoop().run(publish())
    store.digests.clear()


def test_an_edit_that_a_failover_lost_is_published_again() -> None:
    store = Store()
    published(store, OLD)
    keeping(store, NEW, revision=2, seconds=LIMITS_INTERVAL_S + 1)
    assert store.digests == [NEW.budgets.published().digest]


def test_a_newer_edit_of_another_worker_stays_for_the_files_to_tell_of() -> None:
    store = Store()
    published(store, OLD, NEW)
    keeping(store, OLD, revision=1, seconds=1.5 * LIMITS_INTERVAL_S)
    assert store.digests == []


def test_a_policy_that_no_file_tells_of_is_replaced_once() -> None:
    store = Store()
    published(store, OLD, NEW)
    keeping(store, OLD, revision=1, seconds=2.5 * LIMITS_INTERVAL_S)
    assert store.digests == [OLD.budgets.published().digest]


def test_a_worker_that_started_without_the_store_publishes_once_it_is_there() -> None:
    store = Store()
    published(store, OLD)
    store.away = True
    keeping(store, NEW, revision=None, seconds=3 * START_RETRY_S)
    assert store.digests == []
    store.away = False
    keeping(store, NEW, revision=None, seconds=START_RETRY_S + 0.5)
    assert store.digests == [NEW.budgets.published().digest]
