"""A worker whose clock and the ledger's disagree about the day: the ledger's counts."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from budgets.errors import ClockSkew
from budgets.holds import BudgetHold, Held, HoldRequest
from budgets.holds import Refused as LedgerRefused
from budgets.home import Home
from budgets.inflight import InFlight
from budgets.journal import Journal
from budgets.memory import MemoryLedger
from budgets.outage import Outage
from budgets.runtime import Runtime
from budgets.sweeper import Sweeper
from hooks.admission import Refused
from hooks.case import Incoming
from hooks.governor import Governor
from hooks.underway import may_fall_back
from hooks.worker import Worker
from tests.support.policies import PATHS, default_policy, price_map

DECEMBER_MS = int(datetime(2026, 12, 1, tzinfo=UTC).timestamp() * 1000)


class Watched(MemoryLedger):
    """A ledger that counts how often it was asked, and can be made to disagree for ever."""

    asked = 0
    turning = False

    async def hold(self, request: HoldRequest) -> Held | LedgerRefused:
        self.asked += 1
        if self.turning:
            raise ClockSkew(DECEMBER_MS)
        return await super().hold(request)

    async def top_up(
        self, hold_id: str, amount_nano_usd: int, budgets: tuple[BudgetHold, ...]
    ) -> Held | LedgerRefused | None:
        if self.turning:
            raise ClockSkew(DECEMBER_MS)
        return await super().top_up(hold_id, amount_nano_usd, budgets)


async def governor(ledger: MemoryLedger, worker_ms: int, folder: Path) -> Governor:
    """Return a governor on the default policy whose own clock stands at `worker_ms`."""
    policy = default_policy()
    await ledger.publish(policy.budgets.published())
    home = Home(folder, PATHS.litellm, PATHS.routing, PATHS.budgets, None, "test")
    outage = Outage(ledger, Journal.open(folder), folder)
    runtime = Runtime(ledger, InFlight(ledger, 60_000), Sweeper(ledger), outage)
    worker = Worker(home, policy, price_map(), lambda _: True, runtime=runtime)
    return Governor(worker, lambda: worker_ms)


def incoming() -> Incoming:
    body = {"model": "auto", "messages": [{"role": "user", "content": "Fix this typo: teh"}]}
    names = frozenset(body)
    return Incoming(body, "acompletion", names, {}, "key", None, None, "caller", ())


async def held_in(ledger: MemoryLedger, period_id: str) -> int:
    (found,) = await ledger.states([("total", "total", period_id)])
    return found.held_nano_usd


@pytest.mark.parametrize(
    ("worker_ms", "ledger_ms", "period", "other"),
    [
        (DECEMBER_MS - 1, DECEMBER_MS, "2026-12", "2026-11"),
        (DECEMBER_MS + 500, DECEMBER_MS - 1, "2026-11", "2026-12"),
    ],
)
async def test_the_request_is_held_in_the_period_of_the_ledger_s_time(
    tmp_path: Path, worker_ms: int, ledger_ms: int, period: str, other: str
) -> None:
    ledger = Watched(lambda: ledger_ms)
    admission = await (await governor(ledger, worker_ms, tmp_path)).admit(incoming())
    assert admission.group
    assert ledger.asked == 2
    assert await held_in(ledger, period) > 0
    assert await held_in(ledger, other) == 0


async def test_clocks_that_agree_take_one_call(tmp_path: Path) -> None:
    ledger = Watched(lambda: DECEMBER_MS - 1)
    await (await governor(ledger, DECEMBER_MS - 60_000, tmp_path)).admit(incoming())
    assert ledger.asked == 1


async def test_a_period_that_turns_twice_within_one_request_is_refused_and_not_sent(
    tmp_path: Path,
) -> None:
    ledger = Watched(lambda: DECEMBER_MS)
    ledger.turning = True
    asking = await governor(ledger, DECEMBER_MS, tmp_path)
    with pytest.raises(Refused) as refused:
        await asking.admit(incoming())
    assert refused.value.refusal.code.value == "ledger_unavailable"
    assert ledger.asked == 2
    assert await held_in(ledger, "2026-12") == 0


async def test_a_fallback_whose_budget_turned_its_period_is_skipped(tmp_path: Path) -> None:
    ledger = Watched(lambda: DECEMBER_MS)
    asking = await governor(ledger, DECEMBER_MS, tmp_path)
    admission = await asking.admit(incoming())
    runtime = asking._worker.runtime
    assert runtime is not None
    ledger.turning = True
    request = runtime.requests.get(admission.request_id)
    assert request is not None
    dearest = max(admission.fallbacks, key=lambda it: request.terms[it].hold_nano_usd)
    assert request.terms[dearest].hold_nano_usd > request.held_nano_usd
    assert not await may_fall_back(runtime, admission.request_id, dearest)
    assert "turned" in request.skipped[-1]
    ledger.turning = False
    assert await may_fall_back(runtime, admission.request_id, dearest)
