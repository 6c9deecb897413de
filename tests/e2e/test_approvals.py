"""Approvals, grants and the audit trail through a running proxy, by routes and by the command."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from budgets.audit import anchor
from budgets.connection import connect
from scripts.cli.main import app
from tests.support.house import LEDGER, House
from tests.support.proxy import MASTER_KEY, wait_until

MESSAGES = [{"role": "user", "content": "Fix this typo: teh"}]


@dataclass
class Person:
    """Somebody with a key of their own."""

    house: House
    name: str
    key: str

    def http(self, method: str, path: str, **more: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.key}", **more.pop("headers", {})}
        url = self.house.proxy.base_url + path
        return httpx.request(method, url, headers=headers, timeout=30, **more)

    def chat(self, approval: str = "", **body: Any) -> httpx.Response:
        headers = {"x-farebox-approval": approval} if approval else {}
        given = {"model": "FAST", "messages": MESSAGES, **body}
        return self.http("POST", "/v1/chat/completions", json=given, headers=headers)

    def approve(self, approval_id: str, **terms: Any) -> httpx.Response:
        path = f"/farebox/approvals/{approval_id}/approve"
        return self.http("POST", path, json={"reason": "it pays", **terms})

    def run(self, *words: str, code: int = 0) -> Any:
        """Run the command with this person's key; return its JSON."""
        env = {
            "FAREBOX_PROXY": self.house.proxy.base_url,
            "FAREBOX_KEY": self.key,
            "REDIS_URL": self.house.redis.url,
            "FAREBOX_HOME": str(self.house.pack.folder / ".farebox"),
            **self.house.environment(),
        }
        config = str(self.house.pack.path("litellm_config.yaml"))
        done = CliRunner().invoke(app, [*words, "--config", config, "--json"], env=env)
        assert done.exit_code == code, done.output
        return json.loads(done.output)


@dataclass
class People:
    """Callers of the team whose budget asks, two approvers, and two admins."""

    alice: Person
    mallory: Person
    bob: Person
    carol: Person
    ann: Person
    ben: Person


@pytest.fixture(scope="module")
def people(house: House) -> People:
    def made(name: str, **more: Any) -> Person:
        return Person(house, name, house.make_key(name, **more))

    return People(
        alice=made("alice-asks", team="asking", user="alice"),
        mallory=made("mallory", team="asking", user="mallory"),
        bob=made("bob-approves", role="approver", user="bob"),
        carol=made("carol-approves", role="approver", user="carol"),
        ann=made("ann-admin", role="admin", user="ann"),
        ben=made("ben-admin", role="admin", user="ben"),
    )


@pytest.fixture
def alice(house: House, people: People) -> Iterator[Person]:
    """A caller of her own for each test, so that no breach has a ticket yet."""
    name = f"alice-{uuid.uuid4().hex[:8]}"
    yield Person(house, name, house.make_key(name, team="asking", user=name))
    house.wait_settled()


def asked(answer: httpx.Response) -> str:
    """Return the approval that a refusal asks for."""
    assert answer.status_code == 402, answer.text
    error = answer.json()["error"]
    assert (error["code"], answer.headers["x-farebox-code"]) == ("approval_required",) * 2
    assert answer.headers["x-should-retry"] == "false"
    return str(error["farebox"]["approval_id"])


def code_of(answer: httpx.Response) -> str:
    return str(answer.json()["error"]["code"])


def test_a_breach_is_asked_for_approved_used_and_charged(
    house: House, people: People, alice: Person
) -> None:
    first = alice.chat()
    approval_id = asked(first)
    assert asked(alice.chat()) == approval_id
    detail = first.json()["error"]["farebox"]
    assert (detail["budget"], detail["approval_state"]) == ("asking", "open")
    assert f"Approval {approval_id} is asked for." in first.json()["error"]["message"]
    assert f"approvals approve {approval_id}" in detail["next_step"]

    shown = people.bob.run("approvals", "show", approval_id)["approval"]
    assert shown["asker"] == {"key": alice.name, "user": alice.name}
    assert (shown["requests"], shown["kind"], shown["state"]) == (2, "call", "open")
    assert shown["task_type"] and shown["context"]["estimate_nano_usd"] > 0
    assert shown["context"]["budgets"][0]["budget"] == "asking"
    listed = people.bob.run("approvals", "list")["approvals"]
    assert approval_id in {it["approval_id"] for it in listed}

    done = people.bob.run("approvals", "approve", approval_id, "--uses", "2", "-r", "release")
    assert done["status"] == "approved"
    # Not by itself: the approver left it to the header.
    told = alice.chat()
    assert asked(told) == approval_id
    assert "send the request again" in told.json()["error"]["farebox"]["next_step"]
    served = alice.chat(approval_id)
    assert served.status_code == 200, served.text
    entry = house.entry_of(served)
    assert entry["approval"] == approval_id
    assert entry["charges"][next(it for it in entry["charges"] if it[0] == "asking")] > 0
    house.wait_settled()
    shown = people.bob.run("approvals", "show", approval_id)["approval"]
    assert (shown["uses"], shown["used_nano_usd"]) == (1, entry["cost"])
    assert shown["decided_by"] == "bob-approves"
    assert house.books.verify() == ()


def test_of_three_n_requests_at_once_exactly_n_are_sent(
    house: House, people: People, alice: Person
) -> None:
    approval_id = asked(alice.chat())
    assert people.bob.approve(approval_id, uses=3).status_code == 200
    since = house.last_call()
    with ThreadPoolExecutor(9) as pool:
        answers = list(pool.map(lambda _: alice.chat(approval_id), range(9)))
    assert sorted(it.status_code for it in answers) == [200] * 3 + [402] * 6
    house.wait_settled()
    assert len(house.calls_since(since)) == 3


def test_an_approval_for_a_key_needs_no_header(people: People, alice: Person) -> None:
    approval_id = asked(alice.chat())
    assert people.bob.approve(approval_id, by="key", uses=None, amount_usd=0.5).status_code == 200
    assert alice.chat().status_code == 200
    assert asked(people.mallory.chat()) != approval_id


def test_a_denied_request_is_refused_without_asking_again(people: People, alice: Person) -> None:
    approval_id = asked(alice.chat())
    people.bob.run("approvals", "deny", approval_id, "--reason", "too dear")
    refused = alice.chat()
    assert (refused.status_code, code_of(refused)) == (402, "budget_exceeded")
    detail = refused.json()["error"]["farebox"]
    assert (detail["approval_id"], detail["approval_state"]) == (approval_id, "denied")


def test_forged_and_borrowed_approvals_send_nothing(
    house: House, people: People, alice: Person
) -> None:
    approval_id = asked(alice.chat())
    assert people.bob.approve(approval_id, uses=50).status_code == 200
    since = house.last_call()
    hostile = ["a-" + "0" * 32, "*", "x" * 5000, "a-1\tb", f"{approval_id} ", "' OR 1", "a:b;c"]
    for forged in hostile[:4] + hostile[5:]:
        assert alice.chat(forged).status_code == 402
    # Another caller, even one who claims to be her.
    for body in ({}, {"user": alice.name}, {"metadata": {"user": alice.name, "team": "x"}}):
        answer = people.mallory.chat(approval_id, **body)
        assert answer.status_code == 402, answer.text
        assert "no approval of this id for this key" in answer.json()["error"]["message"]
    assert house.calls_since(since) == []


def test_nobody_but_an_approver_answers_and_nobody_their_own(
    house: House, people: People, alice: Person
) -> None:
    approval_id = asked(alice.chat())
    for caller in (alice, people.mallory):
        for method, path in (
            ("POST", f"/farebox/approvals/{approval_id}/approve"),
            ("POST", f"/farebox/approvals/{approval_id}/deny"),
            ("GET", "/farebox/approvals"),
            ("POST", "/farebox/budget/grants"),
        ):
            assert caller.http(method, path, json={"reason": "me"}).status_code == 403
    grant = {"budget": "asking", "amount_usd": 1, "reason": "r"}
    assert people.bob.http("POST", "/farebox/budget/grants", json=grant).status_code == 403
    # An approver who asks for herself, with a second key of the same user.
    key = house.make_key(f"{alice.name}-approver", role="approver", user=alice.name)
    own = Person(house, "own", key).approve(approval_id)
    assert (own.status_code, code_of(own)) == (403, "own_request")
    assert people.carol.approve("a-none").status_code == 404
    assert people.carol.approve(approval_id, uses=0).status_code == 422
    assert people.carol.approve(approval_id, until="2099-01-01T00:00:00Z").status_code == 422
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda it: it.approve(approval_id), (people.bob, people.carol)))
    assert sorted(it.status_code for it in both) == [200, 409]


def test_above_the_amount_two_persons_approve(people: People, alice: Person) -> None:
    approval_id = asked(alice.chat())
    terms = {"uses": None, "amount_usd": 150}
    first = people.bob.approve(approval_id, **terms)
    assert (first.status_code, first.json()["status"]) == (202, "first")
    assert alice.chat(approval_id).status_code == 402
    again = people.bob.approve(approval_id)
    assert (again.status_code, code_of(again)) == (403, "same_person")
    other = people.carol.approve(approval_id, uses=None, amount_usd=1)
    assert (other.status_code, code_of(other)) == (409, "terms_differ")
    assert people.carol.approve(approval_id).json()["status"] == "approved"
    assert alice.chat(approval_id).status_code == 200


def test_grants_and_transfers(house: House, people: People, alice: Person) -> None:
    made = people.ann.run("budget", "grant", "giver", "0.5", "--until", "1h", "-r", "the demo")
    (state,) = made["budgets"]
    assert state["granted_nano_usd"] == 500_000_000
    over = people.ann.run("budget", "transfer", "giver", "getter", "9", "-r", "much", code=2)
    assert over["error"]["kind"] == "insufficient"
    # What the grant adds ends sooner than a transfer to the end of the day would.
    moved = people.ann.run("budget", "transfer", "giver", "getter", "0.01", "-r", "a little")
    assert [it["granted_nano_usd"] for it in moved["budgets"]] == [490_000_000, 10_000_000]
    wrong = people.ann.run("budget", "transfer", "giver", "total", "0.01", "-r", "r", code=2)
    assert "different periods" in wrong["error"]["message"]
    unknown = people.ann.run("budget", "grant", "givr", "1", "-r", "r", code=2)
    assert "giver" in unknown["error"]["message"]
    shown = people.ann.run("budget", "show", "giver")["budgets"][0]
    assert shown["granted_usd"] == "0.49"
    listed = people.ann.run("budget", "grants")["grants"]
    assert {(it["kind"], it["actor"]) for it in listed} >= {
        ("grant", "ann-admin"),
        ("transfer", "ann-admin"),
    }


def test_a_large_grant_is_made_once_a_second_admin_approves(people: People) -> None:
    waiting = people.ann.run("budget", "grant", "giver", "101", "-r", "a large month")
    approval_id = waiting["approval_id"]
    before = people.ann.run("budget", "show", "giver")["budgets"][0]
    assert people.ann.approve(approval_id).status_code == 403
    assert people.bob.approve(approval_id).status_code == 403
    changed = people.ben.approve(approval_id, amount_usd=1000)
    assert changed.status_code == 422, changed.text
    done = people.ben.approve(approval_id)
    assert done.status_code == 200, done.text
    assert (done.json()["grant"]["actor"], done.json()["grant"]["approver"]) == (
        "ann-admin",
        "ben-admin",
    )
    again = people.ben.approve(approval_id)
    assert again.json()["grant"]["id"] == done.json()["grant"]["id"]
    after = people.ann.run("budget", "show", "giver")["budgets"][0]
    assert after["granted_nano_usd"] == before["granted_nano_usd"] + 101 * 10**9


def test_the_trail_tells_it_all_and_tampering_shows(house: House, people: People) -> None:
    def change(budgets: Any) -> None:
        budgets["budgets"]["careful"]["limit_usd"] = 6

    with house.edited("budgets/budgets.yaml", change):
        pass
    lines = people.ann.run("ledger", "audit", "-n", "10000")["lines"]
    seen = {(it["actor"], it["action"]) for it in lines}
    assert seen >= {
        ("ann-admin", "grant"),
        ("ann-admin", "transfer"),
        ("bob-approves", "approval_first"),
        ("carol-approves", "approval_approved"),
        ("bob-approves", "approval_denied"),
        ("master", "key_created"),
        ("files", "policy_edit"),
        ("files", "policy_start"),
    }
    edits = [it["detail"] for it in lines if it["action"] == "policy_edit"]
    assert "budgets.yaml: budgets.careful.limit_usd" in edits[-1]["changed"]
    assert edits[-1]["from"] != edits[-1]["to"]
    shown = json.dumps(lines)
    assert "sk-" not in shown and MASTER_KEY not in shown
    file = anchor.file_in(house.pack.folder / ".farebox" / "audit", LEDGER)
    wait_until(file.exists, what="the worker's first anchor")
    proved = people.ann.run("ledger", "verify")["audit"]
    # Another file's test may have wiped this Redis, which the anchors then tell.
    assert {it["kind"] for it in proved["problems"]} <= {"anchor"} and proved["anchors"] >= 1

    async def tamper() -> None:
        client: Any = connect(house.redis.url)
        key = f"farebox:{{{LEDGER}}}:trail"
        await client.xdel(key, "2-0")
        await client.aclose()

    asyncio.run(tamper())
    found = people.ann.run("ledger", "verify", code=1)
    problems = {(it["kind"], it["line"]) for it in found["audit"]["problems"]}
    assert ("missing", 2) in problems


def test_open_tickets_are_in_the_metrics_and_the_status(people: People, alice: Person) -> None:
    asked(alice.chat())
    status = people.ann.run("status")
    assert status["approvals_open"] >= 1
    metrics = people.ann.http("GET", "/farebox/metrics").text
    assert "farebox_approvals_open" in metrics
