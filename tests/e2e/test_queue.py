"""A refused request waits for budget, runs by itself and is charged once; nobody else reads it."""

from __future__ import annotations

import contextlib
import itertools
import json
import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx
import pytest
from redis import Redis

from tests.support.house import LEDGER, House
from tests.support.proxy import MASTER_KEY, wait_until

pytestmark = pytest.mark.timeout(240)

_numbers = itertools.count()
USERS = ("waiter", "stranger", "gone", "orderly", "unlucky")
NOTHING, PLENTY = 0.000001, 5


class Receiver:
    """A webhook's receiver on the loopback: keeps what it is told."""

    def __init__(self) -> None:
        told: list[dict[str, Any]] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                told.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.told = told
        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.origin = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> Receiver:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


@pytest.fixture(scope="module")
def queue_house(house: House, receiver: Receiver) -> Iterator[House]:
    """The shared proxy, with a queue for FAST, and a budget without room for each of the users."""

    def routing(data: dict[str, Any]) -> None:
        data["categories"]["FAST"]["queue"] = {"attempts_max": 2, "body_bytes_max": 4096}
        data["queue"] = {"at_once": 1, "webhook_origins": [receiver.origin]}

    def budgets(data: dict[str, Any]) -> None:
        data["lease_seconds"] = 5
        for user in USERS:
            data["budgets"][user] = {"match": {"user": user}, "limit_usd": NOTHING, "period": "day"}

    with (
        house.edited("hooks/routing.yaml", routing),
        house.edited("budgets/budgets.yaml", budgets),
    ):
        yield house


@pytest.fixture(scope="module")
def keys(queue_house: House) -> dict[str, str]:
    return {user: queue_house.make_key(f"the-{user}", user=user) for user in USERS}


@contextlib.contextmanager
def budget_for(house: House, user: str) -> Iterator[None]:
    """There is budget for a user until the end of the block."""

    def change(data: dict[str, Any]) -> None:
        data["budgets"][user]["limit_usd"] = PLENTY

    with house.edited("budgets/budgets.yaml", change):
        yield


def prompt() -> str:
    return f"Say hello to the zebra, number {next(_numbers)}"


def queued(house: House, key: str, text: str, **metadata: Any) -> httpx.Response:
    answer = house.proxy.chat(text, key=key, metadata={"queue": True, **metadata})
    assert answer.status_code == 202, answer.text
    return answer


def item(house: House, queue_id: str, key: str = MASTER_KEY) -> dict[str, Any]:
    answer = house.proxy.get(f"/farebox/queue/{queue_id}", key)
    assert answer.status_code == 200, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


def ended(house: House, queue_id: str, key: str, state: str = "done") -> dict[str, Any]:
    """Return a request once it is in a state."""
    wait_until(lambda: item(house, queue_id, key)["state"] == state, 40, f"{queue_id} is {state}")
    return item(house, queue_id, key)


def entries_of(house: House, queue_id: str) -> list[tuple[str, int, dict[str, Any]]]:
    """Return kind, cost and body of the entries of a queued request."""
    found = [(e.kind, e.cost_nano_usd, json.loads(e.body)) for e in house.books.entries()]
    return [(kind, cost, body) for kind, cost, body in found if body.get("queue_id") == queue_id]


# ── who is queued, and what they are told ────────────────────────────────────────────────────────


def test_a_client_that_does_not_ask_gets_402(queue_house: House, keys: dict[str, str]) -> None:
    answer = queue_house.proxy.chat(prompt(), key=keys["waiter"])
    assert answer.status_code == 402
    assert answer.json()["error"]["code"] == "budget_exceeded"


def test_a_category_that_permits_no_queue_refuses_and_says_so(
    queue_house: House, keys: dict[str, str]
) -> None:
    answer = queue_house.proxy.chat(
        prompt(), model="NORMAL", key=keys["waiter"], metadata={"queue": True}
    )
    assert answer.status_code == 402
    assert answer.json()["error"]["farebox"]["queue"] == "not_permitted"


def test_a_body_above_the_bound_is_not_queued(queue_house: House, keys: dict[str, str]) -> None:
    body = {"queue": True, "note": "x" * 5_000}
    answer = queue_house.proxy.chat(prompt(), key=keys["waiter"], metadata=body)
    assert answer.status_code == 402
    assert answer.json()["error"]["farebox"]["queue"] == "too_large"


def test_a_webhook_beyond_the_allow_list_is_refused(
    queue_house: House, keys: dict[str, str]
) -> None:
    answer = queue_house.proxy.chat(
        prompt(),
        key=keys["waiter"],
        metadata={"queue": True, "queue_webhook": "http://169.254.169.254/latest/meta-data"},
    )
    assert answer.status_code == 422
    assert answer.json()["error"]["param"] == "metadata.queue_webhook"
    assert "169.254" not in answer.text


def test_the_openai_sdk_reads_what_a_queued_request_gets(
    queue_house: House, keys: dict[str, str]
) -> None:
    before = queue_house.last_call()
    client = queue_house.openai(keys["waiter"])
    messages: Any = [{"role": "user", "content": prompt()}]
    with client:
        raw = client.chat.completions.with_raw_response.create(
            model="auto", messages=messages, extra_headers={"x-farebox-queue": "true"}
        )
        chat: Any = raw.parse()
        streamed = client.chat.completions.create(
            model="auto",
            messages=messages,
            stream=True,
            stream_options={"include_usage": True},
            extra_body={"metadata": {"queue": True}},
        )
        assert streamed.response.status_code == 202
        assert streamed.response.headers["content-type"] == "application/json"
        assert list(streamed) == []
        response: Any = client.responses.create(
            model="auto", input=prompt(), extra_headers={"x-farebox-queue": "true"}
        )
    assert raw.status_code == 202
    assert raw.headers["x-farebox-code"] == "queued"
    assert raw.headers["x-farebox-queue-id"] == chat.queue_id == chat.id
    assert chat.choices == [] and chat.status == "queued"
    assert chat.error["code"] == "queued"
    assert chat.farebox["because"] == "budget_exceeded"
    assert chat.farebox["budget"] == "waiter"
    assert chat.farebox["poll"] == f"/farebox/queue/{chat.queue_id}"
    assert response.status == "queued" and response.output_text == ""
    assert item(queue_house, response.id, keys["waiter"])["state"] == "waiting"
    assert queue_house.calls_since(before) == []
    (told,) = [
        e for e in queue_house.books.refusals() if json.loads(e.body).get("decision_id")
        == raw.headers["x-farebox-decision"]
    ]  # fmt: skip
    assert told.kind == "queued"
    cancel_all(queue_house)


def test_the_anthropic_sdk_reads_it_too(queue_house: House, keys: dict[str, str]) -> None:
    with queue_house.anthropic(keys["waiter"]) as client:
        message: Any = client.messages.create(
            model="auto",
            max_tokens=10,
            messages=[{"role": "user", "content": prompt()}],
            extra_headers={"x-farebox-queue": "true"},
        )
    assert message.content == [] and message.queue_id == message.id
    assert item(queue_house, message.id, keys["waiter"])["state"] == "waiting"
    cancel_all(queue_house)


def cancel_all(house: House) -> None:
    for waiting in house.proxy.get("/farebox/queue").json()["requests"]:
        answer = house.proxy.post(f"/farebox/queue/{waiting['queue_id']}/cancel", {})
        assert answer.json()["request"]["state"] == "cancelled"


# ── from waiting to the answer ───────────────────────────────────────────────────────────────────


def test_a_queued_request_runs_once_there_is_budget_and_only_its_key_reads_the_answer(
    queue_house: House, keys: dict[str, str], receiver: Receiver
) -> None:
    text = prompt()
    before = queue_house.last_call()
    answer = queued(
        queue_house, keys["waiter"], text, queue_webhook=f"{receiver.origin}/farebox?for=waiter"
    )
    queue_id = answer.headers["x-farebox-queue-id"]
    assert item(queue_house, queue_id, keys["waiter"])["state"] == "waiting"
    stored = everything_in_redis(queue_house)
    assert queue_id in stored
    assert text not in stored and "zebra" not in stored and receiver.origin not in stored
    with budget_for(queue_house, "waiter"):
        done = ended(queue_house, queue_id, keys["waiter"])
    stored_answer = done["answer"]
    assert stored_answer["status"] == 200
    assert stored_answer["body"]["choices"][0]["message"]["content"]
    assert stored_answer["headers"]["x-farebox-category"] == "FAST"
    (call,) = queue_house.calls_since(before)
    queue_house.wait_settled()
    ((kind, cost, body),) = entries_of(queue_house, queue_id)
    assert (kind, cost) == ("settled", call["cost_nano_usd"])
    assert (body["key_name"], body["user"]) == ("the-waiter", "waiter")
    assert queue_house.books.verify() == ()
    wait_until(lambda: receiver.told, what="the webhook is called")
    assert receiver.told == [{"queue_id": queue_id, "state": "done", "reason": None}]

    viewer = queue_house.make_key("the-queue-viewer", role="viewer")
    shown = item(queue_house, queue_id, viewer)
    assert shown["state"] == "done" and "answer" not in shown
    assert "answer" not in item(queue_house, queue_id, MASTER_KEY)
    for path in ("", "/cancel", "/retry"):
        address = f"/farebox/queue/{queue_id}{path}"
        proxy = queue_house.proxy
        refused = proxy.post(address, {}, keys["stranger"]) if path else proxy.get(
            address, keys["stranger"]
        )  # fmt: skip
        assert refused.status_code == 404, path
    assert queue_house.proxy.get("/farebox/queue", keys["stranger"]).status_code == 403


def everything_in_redis(house: House) -> str:
    """Return every value of the ledger in Redis as one text."""
    found: list[str] = []
    with Redis.from_url(house.redis.url, decode_responses=True) as client:
        for key in client.scan_iter(f"farebox:{{{LEDGER}}}:*"):
            kind = client.type(key)
            if kind == "string":
                value: Any = client.get(key)
            elif kind == "hash":
                value = client.hgetall(key)
            elif kind == "stream":
                value = client.xrange(key)
            elif kind == "zset":
                value = client.zrange(key, 0, -1)
            elif kind == "set":
                value = client.smembers(key)
            else:
                value = client.lrange(key, 0, -1)
            found.append(f"{key} {value}")
    return "\n".join(found)


def test_requests_run_by_priority_and_then_by_arrival(
    queue_house: House, keys: dict[str, str]
) -> None:
    before = queue_house.last_call()
    ids: dict[str, str] = {}
    for name, priority in (("a", 5), ("b", 1), ("c", 9), ("d", 5)):
        answer = queued(queue_house, keys["orderly"], f"{name} {prompt()}", queue_priority=priority)
        ids[name] = answer.headers["x-farebox-queue-id"]
    with budget_for(queue_house, "orderly"):
        for queue_id in ids.values():
            ended(queue_house, queue_id, keys["orderly"])
    answered = sorted(ids, key=lambda name: item(queue_house, ids[name])["changed_at"])
    assert answered == ["c", "a", "d", "b"]
    assert len(queue_house.calls_since(before)) == 4


def test_a_revoked_key_s_requests_do_not_run(queue_house: House, keys: dict[str, str]) -> None:
    before = queue_house.last_call()
    queue_id = queued(queue_house, keys["gone"], prompt()).headers["x-farebox-queue-id"]
    proxy = queue_house.proxy
    answer = httpx.delete(
        f"{proxy.base_url}/farebox/keys/the-gone",
        headers={"Authorization": f"Bearer {MASTER_KEY}"},
    )
    assert answer.status_code == 200
    with budget_for(queue_house, "gone"):
        dead = ended(queue_house, queue_id, MASTER_KEY, "dead")
    assert dead["reason"] == "revoked_key"
    assert queue_house.calls_since(before) == []


def test_a_request_that_fails_is_tried_a_bounded_number_of_times(
    queue_house: House, keys: dict[str, str]
) -> None:
    text = f"{prompt()} [[sim: status=500]]"
    queue_id = queued(queue_house, keys["unlucky"], text).headers["x-farebox-queue-id"]
    before = queue_house.last_call()
    with budget_for(queue_house, "unlucky"):
        wait_until(
            lambda: item(queue_house, queue_id)["attempts"] == 1, 20, "the first attempt failed"
        )
        assert item(queue_house, queue_id)["reason"] == "http_500"
        queue_house.proxy.post("/farebox/queue/drain", {})
        dead = ended(queue_house, queue_id, MASTER_KEY, "dead")
    assert (dead["attempts"], dead["run"]) == (2, 3)
    assert len(queue_house.calls_since(before)) > 1
    queue_house.wait_settled()
    assert all(cost == 0 for _, cost, _ in entries_of(queue_house, queue_id))
    # Its key may have it tried again.
    retried = queue_house.proxy.post(f"/farebox/queue/{queue_id}/retry", {}, keys["unlucky"])
    assert retried.json()["request"]["state"] == "waiting"
    cancel_all(queue_house)


def test_the_queue_shows_in_the_metrics(queue_house: House) -> None:
    text = queue_house.proxy.get("/farebox/metrics").text
    assert 'farebox_queue_depth{category="FAST"}' in text
    for name in ("farebox_queue_age_seconds", "farebox_queue_expected_usd", "farebox_queue_dead"):
        assert name in text
    assert 'farebox_queue_runs_total{outcome="answered"}' in text


# ── a worker that dies ───────────────────────────────────────────────────────────────────────────


def test_a_request_whose_worker_is_killed_runs_again_and_is_charged_once(
    queue_house: House, keys: dict[str, str]
) -> None:
    """The upstream bills the send that the worker died in; the entry has both sends."""
    queue_id = queued(queue_house, keys["waiter"], prompt()).headers["x-farebox-queue-id"]
    before = queue_house.last_call()
    queue_house.simulator.script("*", "delay_ms=60000")
    with budget_for(queue_house, "waiter"):
        wait_until(
            lambda: queue_house.simulator.bill()["in_flight"], 20, "the upstream works on it"
        )
        queue_house.proxy.stop(signal.SIGKILL)
        queue_house.proxy.start()
        done = ended(queue_house, queue_id, keys["waiter"])
        queue_house.wait_settled()
    assert done["answer"]["status"] == 200 and done["run"] == 1
    entries = entries_of(queue_house, queue_id)
    assert [kind for kind, _, _ in entries] == ["unreconciled", "corrected"]
    calls = queue_house.calls_since(before)
    assert len(calls) == 2
    charged = sum(entry_charges(queue_house, queue_id))
    assert charged == entries[-1][1]
    assert [a["status"] for a in entries[-1][2]["attempts"]] == ["lost", "ok"]
    assert queue_house.books.verify() == ()


def entry_charges(house: House, queue_id: str) -> list[int]:
    """Return what each entry of a queued request added to the budget `total`."""
    return [
        charge
        for entry in house.books.entries()
        if json.loads(entry.body).get("queue_id") == queue_id
        for (budget, _), charge in entry.charges.items()
        if budget == "total"
    ]
