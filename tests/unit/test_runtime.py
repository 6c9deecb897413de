"""A process and its store: what happens to those who wait when the store stops answering."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from budgets.errors import HoldIdReused, LedgerUnavailable
from budgets.holds import Held, HoldRequest
from budgets.inflight import InFlight
from budgets.journal import Journal
from budgets.memory import MemoryLedger
from budgets.open_requests import OpenRequest
from budgets.outage import NoSlice, Outage
from budgets.period import Period
from budgets.records import RefusalRecord
from budgets.runtime import Runtime
from budgets.settlements import Recovery, Settlement
from budgets.sweeper import Sweeper
from tests.ledger.modes import MemoryDisk
from tests.ledger.worlds import CENT, DAY_MS, LEASE_MS, USD, all_entries, policy, share

NOW_MS = 1_795_000_000_000
PERIOD = Period("P1", NOW_MS - DAY_MS, NOW_MS + DAY_MS)


class Store:
    """A store that hangs while `answers` is not set; a call that hung is done once it is."""

    def __init__(self) -> None:
        self.ledger = MemoryLedger(lambda: NOW_MS)
        self.answers = asyncio.Event()
        self.answers.set()
        self.late: set[asyncio.Task[Any]] = set()
        self.asked: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.ledger, name)

        async def call(*args: Any, **named: Any) -> Any:
            self.asked[name] += 1
            if not self.answers.is_set():
                # What has been sent is carried out, whether or not anybody still waits.
                task = asyncio.ensure_future(self._later(method, args, named))
                self.late.add(task)
                return await asyncio.shield(task)
            return await method(*args, **named)

        return call

    async def _later(self, method: Any, args: Any, named: Any) -> Any:
        await self.answers.wait()
        return await method(*args, **named)


@pytest.fixture
async def store() -> Store:
    made = Store()
    await made.ledger.publish(policy(10 * USD))
    return made


@pytest.fixture
async def runtime(store: Store) -> AsyncIterator[Runtime]:
    ledger: Any = store
    made = Runtime(
        ledger,
        InFlight(ledger, LEASE_MS),
        Sweeper(ledger),
        Outage(ledger, Journal("me", MemoryDisk()), None),
    )
    made.start()
    yield made
    store.answers.set()
    await made.stop()
    await asyncio.gather(*store.late, return_exceptions=True)


def request(hold_id: str, amount: int = CENT) -> HoldRequest:
    return HoldRequest(
        hold_id=hold_id,
        amount_nano_usd=amount,
        budgets=(share("team", amount, PERIOD),),
        lease_ms=LEASE_MS,
        expected_end_ms_in=1000,
        facts='{"marks":[]}',
        decision_id=f"d-{hold_id}",
        decision="{}",
        stats_period="2026-11",
    )


async def ask(runtime: Runtime, hold_id: str, offline: bool = False) -> Any:
    return await runtime.hold(request(hold_id), offline=offline, time_ms=NOW_MS)


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 (a background task's doing)
            await asyncio.sleep(0.01)


async def test_all_who_wait_are_told_as_soon_as_the_store_is_known_to_be_away(
    store: Store, runtime: Runtime
) -> None:
    store.answers.clear()
    answers = await asyncio.gather(
        *(ask(runtime, f"h{n}") for n in range(50)), return_exceptions=True
    )
    assert {type(answer) for answer in answers} == {LedgerUnavailable}
    assert not runtime.available
    # From now on nobody asks a store that is known to be away.
    asked = store.asked["hold"]
    with pytest.raises(LedgerUnavailable):
        await ask(runtime, "later")
    assert store.asked["hold"] == asked == 50


async def test_a_hold_that_arrives_late_stands_for_nobody(store: Store, runtime: Runtime) -> None:
    store.answers.clear()
    with pytest.raises(LedgerUnavailable):
        await ask(runtime, "h")
    store.answers.set()
    await until(lambda: runtime.available and runtime.outage.depth == 0)
    await asyncio.gather(*store.late, return_exceptions=True)
    (team,) = await store.ledger.states([("team", "team", "P1")])
    assert (team.spent_nano_usd, team.held_nano_usd, team.holds) == (0, 0, 0)
    with pytest.raises(HoldIdReused):
        await store.ledger.hold(request("h"))


async def test_a_client_that_leaves_while_its_hold_is_asked_for_holds_nothing(
    store: Store, runtime: Runtime
) -> None:
    store.answers.clear()
    waiting = asyncio.create_task(ask(runtime, "h"))
    await until(lambda: any(store.late))
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    store.answers.set()
    await until(lambda: runtime.available and runtime.outage.depth == 0)
    await until(lambda: all(it.done() for it in store.late))
    (team,) = await store.ledger.states([("team", "team", "P1")])
    assert (team.held_nano_usd, team.holds) == (0, 0)


async def test_the_store_is_found_again_without_any_request(store: Store, runtime: Runtime) -> None:
    store.answers.clear()
    await until(lambda: not runtime.available)
    store.answers.set()
    await until(lambda: runtime.available)
    answer, offline = await ask(runtime, "h")
    assert isinstance(answer, Held)
    assert not offline


async def test_after_an_outage_leases_are_renewed_before_anything_is_swept(
    store: Store, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert runtime.sweeper.may_sweep()
    store.answers.clear()
    await until(lambda: not runtime.available)
    assert not runtime.sweeper.may_sweep()
    store.answers.set()
    await until(lambda: runtime.available)
    assert not runtime.sweeper.may_sweep(), "other workers may not have renewed theirs yet"
    monkeypatch.setattr("budgets.runtime.SWEEP_AFTER_BACK_S", 0.0)
    assert runtime.sweeper.may_sweep()


async def test_a_worker_goes_on_by_its_slice_and_the_store_learns_of_it(
    store: Store, runtime: Runtime
) -> None:
    runtime.allowances = lambda _: [("team", PERIOD, USD, True)]
    await until(lambda: runtime.outage.allowance.slices() == {"team": USD})
    store.answers.clear()
    answer, offline = await ask(runtime, "h", offline=True)
    assert isinstance(answer, Held)
    assert offline
    sent = OpenRequest(
        request_id="h",
        decision_id="d-h",
        facts={},
        terms={},
        group="g",
        held_nano_usd=CENT,
        held_groups=[],
        headers={},
        stream=False,
        output_tokens_cap=None,
        offline=True,
    )
    await runtime.void(sent, "{}", {"requests": 1})
    store.answers.set()
    await until(lambda: runtime.outage.depth == 0)
    assert [it.kind for it in await all_entries(store.ledger)] == ["voided"]


async def test_without_a_slice_the_reason_is_told(store: Store, runtime: Runtime) -> None:
    store.answers.clear()
    await until(lambda: not runtime.available)
    with pytest.raises(NoSlice, match="team"):
        await ask(runtime, "h", offline=True)


async def test_an_answer_that_says_no_is_no_outage(store: Store, runtime: Runtime) -> None:
    unknown = request("h")
    other = (share("nobody", CENT, PERIOD),)
    with pytest.raises(LedgerUnavailable, match="nobody"):
        await runtime.hold(
            HoldRequest(**{**_fields(unknown), "budgets": other}), offline=False, time_ms=NOW_MS
        )
    assert runtime.available


def _fields(asked: HoldRequest) -> dict[str, Any]:
    return {name: getattr(asked, name) for name in asked.__slots__}


async def test_what_was_settled_before_an_outage_is_settled_again_after_it(
    store: Store, runtime: Runtime
) -> None:
    """What answers after an outage can be another master, which never had the last writes."""
    await ask(runtime, "h")
    opened = OpenRequest("h", "d-h", {}, {}, "g", CENT, [], {}, False, None)
    budgets = (share("team", CENT, PERIOD),)
    recovery = Recovery(CENT, budgets, NOW_MS, "d-h", "2026-11")
    await runtime.settle(opened, Settlement("h", 7, "{}", recovery=recovery))
    await runtime.endings.flush()
    runtime.lost(LedgerUnavailable("gone"))
    lost, store.ledger = store.ledger, MemoryLedger(lambda: NOW_MS)
    await store.ledger.publish(policy(10 * USD))
    await until(lambda: runtime.available and store.asked["settle"] == 1)
    (entry,) = await all_entries(store.ledger)
    assert (entry.kind, entry.cost_nano_usd) == ("recovered", 7)
    assert len(await all_entries(lost)) == 1


async def test_a_process_that_stops_writes_down_what_is_on_its_way(store: Store) -> None:
    ledger: Any = store
    disk = MemoryDisk()
    stopping = Runtime(
        ledger,
        InFlight(ledger, LEASE_MS),
        Sweeper(ledger),
        Outage(ledger, Journal("me", disk), None),
        available=False,
    )
    refusal = RefusalRecord("d", "ledger_unavailable", "{}", "{}", "2026-11", {})
    await stopping.refuse(refusal)
    await stopping.stop()
    assert [line.operation for line in Journal("me", disk).lines()] == ["refuse"]


async def test_the_lease_of_a_hold_lasts_until_the_ledger_knows_of_its_end(
    store: Store, runtime: Runtime
) -> None:
    """Otherwise an outage as long as a lease would charge it, to be corrected at once."""
    await ask(runtime, "h")
    runtime.leases.add("h")
    store.answers.clear()
    await runtime.settle(
        OpenRequest("h", "d-h", {}, {}, "g", CENT, [], {}, False, None), Settlement("h", 7, "{}")
    )
    await until(lambda: runtime.outage.depth == 1 and not len(runtime.endings))
    assert len(runtime.leases) == 1
    store.answers.set()
    await until(lambda: runtime.outage.depth == 0 and not len(runtime.leases))
    (entry,) = await all_entries(store.ledger)
    assert entry.kind == "settled"
