"""What a request costs on its path, in counts that no load of the machine changes.

Calls of functions, Python's and C's, of the pure part, and calls of scripts in Redis. Times are for
`benchmarks/`. A bound here may be raised by who adds to the path on purpose, with a word on why;
lower it when the path gets shorter.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks.inside import Bench, prompt, redis_socket
from budgets.config import LeaseSettings
from budgets.endings import Endings
from budgets.holds import BudgetHold, Held, HoldRequest
from budgets.learned import Learned
from budgets.leases.desk import Desk
from budgets.leases.slate import FilePages, Slate
from budgets.memory import MemoryLedger
from budgets.outage import Outage
from budgets.period import Period
from budgets.published import PublishedPolicy, PublishedRule
from hooks import tokens
from hooks.case import Case
from hooks.decide import decide
from hooks.decision import Caller
from hooks.request import read_request
from hooks.terms import terms_of_all

TOLERANCE = 1.15
"""What a small change may add; versions of Python and of libraries differ by less."""

CALLS = {"read": 250, "count": 23, "decide": 250, "terms": 40, "decision as JSON": 13}
"""Calls for a chat of 500 tokens by the pack's policy, when they were counted last."""

LEASED_HOLD_CALLS = 64
"""Calls for a hold of two budgets from leased slices, with its line on the slate."""

NOW_MS = 1_795_000_000_000


def calls_of(work: Callable[[], Any]) -> Counter[str]:
    """Return how often each function was called; a first run fills what is remembered."""
    work()
    found: Counter[str] = Counter()

    def note(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            found[frame.f_code.co_qualname] += 1
        elif event == "c_call":
            found[getattr(argument, "__qualname__", str(argument))] += 1

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(before)
    return found


def test_the_pure_part_of_the_path_takes_no_more_calls_than_it_did() -> None:
    random.seed(7)
    bench = Bench("/nowhere")
    incoming = bench.incoming(prompt(500))
    caller = Caller("bench", "bench", None)
    view = read_request(incoming.data, incoming.call_type, incoming.headers)
    counts = tokens.count_request(view)
    decision = decide(bench.policy, view, counts, caller, Learned(), "d")
    case = Case(incoming, bench.policy, "r", "d", NOW_MS, caller, view, decision)
    learned = Learned()
    work: dict[str, Callable[[], Any]] = {
        "read": lambda: read_request(incoming.data, incoming.call_type, incoming.headers),
        "count": lambda: tokens.count_request(view),
        "decide": lambda: decide(bench.policy, view, counts, caller, learned, "d"),
        "terms": lambda: terms_of_all(case)[str(decision.group)],
        "decision as JSON": decision.to_json,
    }
    found = {name: calls_of(it) for name, it in work.items()}
    for name, by_function in found.items():
        total = sum(by_function.values())
        told = f"{name}: {total} calls, {CALLS[name]} known; most: {by_function.most_common(12)}"
        assert total <= CALLS[name] * TOLERANCE, told
    assert len(decision.candidates) >= 3, "so much work is what was counted"


async def test_a_hold_from_slices_takes_no_more_calls_than_it_did(tmp_path: Path) -> None:
    """It asks nobody, and builds nothing that its report can build later."""
    ledger = MemoryLedger(lambda: NOW_MS)
    rules = tuple(PublishedRule(it, 10**12, ()) for it in ("team", "key"))
    await ledger.publish(PublishedPolicy("d", rules), 0)
    endings = Endings(ledger.write_all, lambda: True, Outage(ledger, None, None))
    tasks: list[asyncio.Future[object]] = []
    desk = Desk(
        ledger,
        endings,
        lambda: LeaseSettings(budgets="all"),
        lambda work: tasks.append(asyncio.ensure_future(work)),
        slate=Slate(FilePages(tmp_path / "a.slate")),
    )
    period = Period("P", NOW_MS - 10**9, NOW_MS + 10**9)
    budgets = tuple(BudgetHold(it, it, period, 10**6) for it in ("team", "key"))
    requests = [
        HoldRequest(f"h{n}", 10**6, budgets, 60_000, 5_000, "{}", f"d{n}", "{}", "P")
        for n in range(3)
    ]
    assert isinstance(await desk.hold(requests[0]), Held)
    await asyncio.gather(*tasks)
    waiting = iter(requests[1:])
    found = calls_of(lambda: desk.admit(next(waiting)))
    assert desk.admitted == 2
    total = sum(found.values())
    told = f"{total} calls, {LEASED_HOLD_CALLS} known; most: {found.most_common(12)}"
    assert total <= LEASED_HOLD_CALLS * TOLERANCE, told
    await endings.close(5)


async def test_a_request_asks_redis_once_before_it_is_sent_and_once_after() -> None:
    async with redis_socket() as socket:
        bench = Bench(socket)
        await bench.start()
        first = await bench.governor.admit(bench.incoming("warm up"))
        await bench.settle(first.request_id)
        await bench.told()
        known_modules = set(sys.modules)

        async def scripts() -> int:
            stats = await bench.client.info("commandstats")
            return sum(
                int(stats[f"cmdstat_{name}"]["calls"])
                for name in ("evalsha", "eval")
                if f"cmdstat_{name}" in stats
            )

        before = await scripts()
        admitted = [
            await bench.governor.admit(bench.incoming(f"Summarize case {number}."))
            for number in range(10)
        ]
        assert await scripts() - before == 10, "one round trip before the call"
        before = await scripts()
        for admission in admitted:
            await bench.settle(admission.request_id)
        await bench.told()
        assert await scripts() - before <= 10
        assert set(sys.modules) == known_modules, "nothing is imported on the path"
        await bench.client.aclose()
