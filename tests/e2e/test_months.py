"""The month's end on a running proxy: who leads it, and who may close a month."""

from __future__ import annotations

import asyncio

import httpx

from budgets.connection import connect
from budgets.months.closer import ROLE
from budgets.redis_store import RedisLedger
from tests.support.house import LEDGER, House
from tests.support.proxy import MASTER_KEY, wait_until


def _ask(house: House, method: str, path: str, key: str = MASTER_KEY) -> httpx.Response:
    headers = {"authorization": f"Bearer {key}"}
    return httpx.request(method, house.proxy.base_url + path, headers=headers, timeout=30)


def test_a_worker_leads_the_months_end(house: House) -> None:
    async def roles() -> set[str]:
        client = connect(house.redis.url)
        try:
            return {it.role for it in await RedisLedger(client, LEDGER).leaders()}
        finally:
            await client.aclose()

    wait_until(lambda: ROLE in asyncio.run(roles()), what="a worker leads the month's end")


def test_a_month_is_closed_through_the_proxy_by_admins_and_only_once_it_has_ended(
    house: House,
) -> None:
    running = _ask(house, "POST", "/farebox/months/2999-01/close").json()
    assert (running["closed"], running["reason"]) == (False, "not_ended")
    unknown = _ask(house, "GET", "/farebox/months/2999-01")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "unknown_month")
    wrong = _ask(house, "POST", "/farebox/months/2026-W01/close")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (422, "invalid_request")
    caller = house.make_key("month-caller")
    assert _ask(house, "POST", "/farebox/months/2026-01/close", caller).status_code == 403
    assert _ask(house, "GET", "/farebox/months/2026-01", caller).status_code == 403
