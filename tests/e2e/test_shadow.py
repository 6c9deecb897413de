"""Shadow mode: everything is recorded and nothing is changed, but spend is real."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from budgets import connection
from budgets.redis_store import RedisLedger
from scripts.cli.shadow import ShadowTotals
from tests.support.house import LEDGER, House

_numbers = itertools.count()


@pytest.fixture(scope="module")
def shadow(house: House) -> Iterator[House]:
    """The house, in shadow mode for the tests of this file."""
    with house.edited("hooks/routing.yaml", lambda routing: routing.update(mode="shadow")):
        yield house


def fresh(text: str = "Please fix this typo in teh text") -> str:
    return f"{text}, number {next(_numbers)}"


def totals(house: House) -> ShadowTotals:
    async def read() -> dict[str, int]:
        client = connection.connect(house.redis.url)
        try:
            ledger = RedisLedger(client, LEDGER)
            keys = [key async for key in client.scan_iter(f"farebox:{{{LEDGER}}}:stats:*")]
            assert len(keys) == 1, keys
            return await ledger.counters(keys[0].rpartition(":")[2])
        finally:
            await client.aclose()

    return ShadowTotals.read(asyncio.run(read()))


def spent(house: House, budget: str, entry: dict[str, Any]) -> int:
    period = next(period for name, period in entry["charges"] if name == budget)
    return house.books.state(budget, period).spent_nano_usd


def test_auto_goes_to_the_default_and_what_would_have_been_is_recorded(shadow: House) -> None:
    before = shadow.last_call()
    answer = shadow.proxy.chat(fresh())
    assert answer.status_code == 200
    assert answer.headers["x-farebox-mode"] == "shadow"
    assert answer.headers["x-farebox-model"] == "claude-sonnet"
    assert [call["model"] for call in shadow.calls_since(before)] == ["claude-sonnet-5-5"]
    entry = shadow.entry_of(answer)
    assert entry["mode"] == "shadow"
    assert entry["would"]["group"] == "gemini-flash"
    assert entry["would"]["code"] is None
    assert entry["would"]["estimate_nano_usd"] > 0


def test_a_category_goes_to_its_own_group_without_a_cap(shadow: House) -> None:
    before = shadow.last_call()
    answer = shadow.proxy.chat(fresh(), model="FAST")
    assert answer.status_code == 200
    calls = shadow.calls_since(before)
    assert [call["model"] for call in calls] == ["gemini-3.8-flash"]
    assert calls[0]["output_tokens_max"] is None
    assert "x-farebox-output-cap" not in answer.headers


def test_fields_are_not_stripped(shadow: House) -> None:
    before = shadow.last_call()
    answer = shadow.proxy.chat(fresh(), model="gpt-4o-mini", service_tier="flex")
    assert answer.status_code == 200
    assert "service_tier" in shadow.calls_since(before)[0]["body_keys"]


def test_an_empty_budget_refuses_nothing_and_counts(shadow: House) -> None:
    key = shadow.make_key("shadow-pauper", user="pauper")
    answer = shadow.proxy.chat(fresh(), key=key)
    assert answer.status_code == 200
    entry = shadow.entry_of(answer)
    assert entry["would"]["code"] == "budget_exceeded"
    assert ("pauper", next(p for b, p in entry["charges"] if b == "pauper")) in entry["charges"]
    assert spent(shadow, "pauper", entry) >= entry["cost"] > 0


def test_a_cap_for_one_request_refuses_nothing(shadow: House) -> None:
    key = shadow.make_key("shadow-careful", user="careful")
    answer = shadow.proxy.chat(fresh(), model="claude-opus", key=key, max_tokens=4000)
    assert answer.status_code == 200
    assert shadow.entry_of(answer)["would"]["code"] == "per_call_cap_exceeded"


def test_spend_counts_in_the_real_counters(shadow: House) -> None:
    first = shadow.entry_of(shadow.proxy.chat(fresh()))
    before = spent(shadow, "total", first)
    second = shadow.entry_of(shadow.proxy.chat(fresh()))
    assert spent(shadow, "total", second) == before + second["cost"]


def test_the_status_totals_add_up(shadow: House) -> None:
    before = totals(shadow)
    entries = [shadow.entry_of(shadow.proxy.chat(fresh())) for _ in range(3)]
    key = shadow.make_key("shadow-poorer", user="pauper")
    entries.append(shadow.entry_of(shadow.proxy.chat(fresh(), key=key)))
    after = totals(shadow)
    assert after.requests - before.requests == 4
    assert after.refused - before.refused == 1
    assert after.rerouted - before.rerouted == 3
    cost = sum(entry["cost"] for entry in entries)
    assert after.actual_nano_usd - before.actual_nano_usd == cost
    routed = sum(entry["cost"] for entry in entries[:3])
    assert after.routed_actual_nano_usd - before.routed_actual_nano_usd == routed
    would = sum(entry["would"]["estimate_nano_usd"] for entry in entries[:3])
    assert after.would_nano_usd - before.would_nano_usd == would


def test_an_unknown_model_is_still_not_served(shadow: House) -> None:
    answer = shadow.proxy.chat(fresh(), model="nobody")
    assert 400 <= answer.status_code < 500
