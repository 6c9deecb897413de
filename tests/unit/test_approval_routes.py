"""The routes of approvals and grants over a ledger in memory: who may, and what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient

from budgets import runtime
from budgets.approvals.types import NewTicket, TicketBudget, TicketKind, Who
from budgets.config import BudgetsFile
from budgets.errors import LedgerUnavailable
from budgets.inflight import InFlight
from budgets.memory import MemoryLedger
from budgets.outage import Outage
from budgets.runtime import Runtime
from budgets.sweeper import Sweeper
from hooks import approval_routes, grant_routes
from hooks.access import Role
from hooks.guard import Person
from tests.ledger.worlds import MemoryWorld

PEOPLE = {
    "ann": Person("ann", Role.ADMIN, user="ann@x"),
    "ben": Person("ben", Role.ADMIN),
    "bob": Person("bob", Role.APPROVER, user="bob@x"),
    "vic": Person("vic", Role.VIEWER),
}
MS_A_DAY = 86_400_000


class Site:
    """The routes, a ledger behind them, and the finance owner's file that a test may change."""

    def __init__(self) -> None:
        self.clock = MemoryWorld.start_clock()
        self.ledger = MemoryLedger(lambda: self.clock[0])
        self.given: dict[str, Any] = {
            "version": 1,
            "time_zone": "UTC",
            "budgets": {
                "team": {"limit_usd": 10},
                "other": {"limit_usd": 10},
                "daily": {"limit_usd": 10, "period": "day"},
                "users": {"limit_usd": 10, "each": "user"},
            },
            "approvals": {"two_person_above_usd": 100},
        }
        app = FastAPI()

        async def door(request: Request) -> Person:
            return PEOPLE[request.headers["x-person"]]

        for module in (approval_routes, grant_routes):
            app.include_router(module.build_router(door, lambda: self.budgets))
        self.client = TestClient(app)
        asyncio.run(self.ledger.publish(self.budgets.published()))

    @property
    def budgets(self) -> BudgetsFile:
        return BudgetsFile.model_validate(self.given)

    def ticket(self) -> str:
        """Open a ticket of Dora's; return its id."""
        new = NewTicket(
            approval_id="a-1",
            kind=TicketKind.CALL,
            breach="b",
            asker=Who("dora"),
            task_type="chat",
            budgets=(TicketBudget("team", "team", "P"),),
            requested_nano_usd=10**9,
            expires_in_ms=MS_A_DAY,
            valid_to_ms=self.clock[0] + 2 * MS_A_DAY,
        )
        return asyncio.run(self.ledger.open_ticket(new)).approval_id

    def send(
        self, person: str, path: str, body: dict[str, Any] | None = None
    ) -> tuple[int, dict[str, Any]]:
        method = "GET" if body is None else "POST"
        url, headers = f"/farebox/{path}", {"x-person": person}
        answer = self.client.request(method, url, headers=headers, json=body)
        return answer.status_code, answer.json()


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    ledger = made.ledger
    before = runtime.current()
    runtime.install(
        Runtime(ledger, InFlight(ledger, 1000), Sweeper(ledger), Outage(ledger, None, None))
    )
    yield made
    runtime.install(before)


def test_an_approval_is_by_default_for_one_call_of_what_was_asked_for_and_a_day(site: Site) -> None:
    status, answer = site.send("bob", f"approvals/{site.ticket()}/approve", {"reason": "yes"})
    terms = answer["approval"]["terms"]
    assert (status, terms["uses"], terms["amount_nano_usd"]) == (200, 1, 10**9)
    assert terms["until_ms"] == site.clock[0] + MS_A_DAY and terms["by"] == "header"
    assert answer["approval"]["left"] == {"uses": 1, "amount_nano_usd": 10**9}


def test_only_the_named_approvers_answer_and_only_with_the_role(site: Site) -> None:
    ticket = site.ticket()
    site.given["approvals"]["approvers"] = ["bob@x", "vic"]
    status, answer = site.send("ann", f"approvals/{ticket}/approve", {"reason": "yes"})
    assert (status, answer["error"]["code"]) == (403, "forbidden")
    assert "approvals.approvers" in answer["error"]["message"]
    assert site.send("vic", f"approvals/{ticket}/deny", {"reason": "no"})[0] == 403
    assert site.send("bob", f"approvals/{ticket}/deny", {"reason": "no"})[0] == 200


def test_viewers_read_and_nobody_less_than_an_admin_grants(site: Site) -> None:
    site.ticket()
    status, listed = site.send("vic", "approvals")
    assert (status, len(listed["approvals"])) == (200, 1)
    assert site.send("vic", "approvals?state=denied")[1]["approvals"] == []
    assert site.send("vic", "budget/grants")[1]["grants"] == []
    body = {"budget": "team", "amount_usd": 1, "reason": "r"}
    assert [site.send(it, "budget/grants", body)[0] for it in PEOPLE] == [201, 201, 403, 403]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"budget": "teem"}, "team"),
        ({"budget": "team:ann"}, "counts everybody together"),
        ({"budget": "users"}, "users:NAME"),
        ({"amount_usd": 0}, "above 0"),
        ({"amount_usd": "-1"}, "below zero"),
        ({"amount_usd": "NaN"}, "finite"),
        ({"reason": ""}, "reason"),
        ({"reason": "   "}, "reason"),
        ({"until": "2099-01-01T00:00:00Z"}, "period"),
        ({"until": "2001-01-01T00:00:00Z"}, "past"),
        ({"until": "2099-01-01T00:00:00"}, "timezone"),
        ({"actor": "somebody"}, "actor"),
    ],
    ids=str,
)
def test_a_grant_that_cannot_be_is_refused_with_its_reason(
    site: Site, change: dict[str, Any], says: str
) -> None:
    body = {"budget": "team", "amount_usd": 1, "reason": "r", **change}
    status, answer = site.send("ann", "budget/grants", body)
    assert (status, answer["error"]["code"]) == (422, "invalid_request")
    assert says in answer["error"]["message"]
    assert site.send("ann", "budget/grants")[1]["grants"] == []


def test_a_grant_to_one_value_of_a_budget_with_each(site: Site) -> None:
    body = {"budget": "users:ann smith", "amount_usd": 1, "reason": "r"}
    status, answer = site.send("ann", "budget/grants", body)
    assert (status, answer["budgets"][0]["budget"]) == (201, "users:ann%20smith")


def test_transfers_are_between_two_budgets_of_one_period(site: Site) -> None:
    def said(source: str, target: str, amount: int) -> tuple[int, str]:
        body = {"from": source, "to": target, "amount_usd": amount, "reason": "r"}
        status, answer = site.send("ann", "budget/transfers", body)
        return status, answer.get("error", {}).get("code", "")

    assert said("team", "daily", 1) == (422, "invalid_request")
    assert said("team", "team", 1) == (422, "invalid_request")
    assert said("team", "other", 11) == (409, "insufficient")
    assert said("team", "other", 10) == (201, "")


def test_a_large_grant_waits_for_another_admin_and_is_made_once(site: Site) -> None:
    body = {"budget": "team", "amount_usd": 101, "reason": "r"}
    status, answer = site.send("ann", "budget/grants", body)
    assert status == 202
    assert site.send("ann", "budget/grants", {**body, "reason": "  "})[0] == 422
    path = f"approvals/{answer['approval_id']}/approve"
    assert site.send("bob", path, {"reason": "r"})[0] == 403
    assert site.send("ann", path, {"reason": "r"})[1]["error"]["code"] == "own_request"
    assert site.send("ben", path, {"reason": "r", "amount_usd": 500})[0] == 422
    answers = [site.send("ben", path, {"reason": "r"}) for _ in range(2)]
    assert [status for status, _ in answers] == [200, 200]
    (made,) = site.send("ann", "budget/grants")[1]["grants"]
    assert (made["actor"], made["approver"], made["id"]) == (
        "ann",
        "ben",
        answers[1][1]["grant"]["id"],
    )


def test_while_the_ledger_is_away_the_answer_is_a_clean_503(site: Site) -> None:
    class Away(MemoryLedger):
        async def now_ms(self) -> int:
            raise LedgerUnavailable("Redis cannot be reached")

    ledger = Away(lambda: 0)
    runtime.install(
        Runtime(ledger, InFlight(ledger, 1000), Sweeper(ledger), Outage(ledger, None, None))
    )
    for path in ("approvals", "budget/grants"):
        status, answer = site.send("ann", path)
        assert (status, answer["error"]["code"]) == (503, "ledger_unavailable")
    runtime.install(None)
    assert site.send("ann", "approvals")[0] == 503
