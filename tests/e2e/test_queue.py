"""A refused request waits for budget, runs by itself and is charged once; nobody else reads it."""

from __future__ import annotations

import itertools
import json
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx
import pytest
from redis import Redis

from tests.support.house import LEDGER, House
from tests.support.proxy import MASTER_KEY, wait_until

pytestmark = pytest.mark.timeout(240)

_numbers = itertools.count()
USERS = ("waiter", "stranger", "gone", "orderly", "unlucky", "doomed")
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
    names = ("hooks/routing.yaml", "budgets/budgets.yaml")
    before = {name: house.pack.path(name).read_text() for name in names}
    with house.pack.edit_routing() as routing:
        routing["categories"]["FAST"]["queue"] = {"attempts_max": 2, "body_bytes_max": 4096}
        routing["queue"] = {"at_once": 1, "webhook_origins": [receiver.origin]}
    set_limits(house, NOTHING)
    try:
        yield house
    finally:
        for name, text in before.items():
            house.pack.path(name).write_text(text)
        house.wait_in_force()


def set_limits(house: House, limit_usd: float) -> None:
    """Give each of the users so much."""
    with house.pack.edit_budgets() as budgets:
        budgets["lease_seconds"] = 5
        for user in USERS:
            match = {"match": {"user": user}, "limit_usd": limit_usd, "period": "day"}
            budgets["budgets"][user] = match
    house.wait_in_force()


@pytest.fixture(scope="module")
def keys(queue_house: House) -> dict[str, str]:
    return {user: queue_house.make_key(f"the-{user}", user=user) for user in USERS}


def prompt() -> str:
    return f"Hello zebra, number {next(_numbers)}"


def queued(house: House, key: str, text: str, **metadata: Any) -> httpx.Response:
    answer = house.proxy.chat(text, key=key, metadata={"queue": True, **metadata})
    assert answer.status_code == 202, answer.text
    return answer


def item(house: House, queue_id: str, key: str = MASTER_KEY) -> dict[str, Any]:
    answer = house.proxy.get(f"/farebox/queue/{queue_id}", key)
    assert answer.status_code == 200, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


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


@dataclass(frozen=True)
class Story:
    """Requests that were queued before there was budget, and what was there to see meanwhile.

    The first to run was `doomed`: the proxy was killed while the upstream worked on it.
    """

    ids: dict[str, str]
    text: str
    stored: str
    calls: list[dict[str, Any]]


@pytest.fixture(scope="module")
def story(queue_house: House, keys: dict[str, str], receiver: Receiver) -> Story:
    """Queue requests, give budget, kill the proxy in the first run, and wait until all have ended.

    It is one story because each of its parts would need edits, and the death a start.
    """
    cancel_all(queue_house)
    before, text, ids = queue_house.last_call(), prompt(), {}
    address = f"{receiver.origin}/farebox?for=waiter"
    asked: list[tuple[str, str, str, dict[str, Any]]] = [
        ("a", "orderly", prompt(), {"queue_priority": 5}),
        ("b", "orderly", prompt(), {"queue_priority": 1}),
        ("doomed", "doomed", prompt(), {"queue_priority": 9}),
        ("c", "orderly", prompt(), {"queue_priority": 8}),
        ("d", "orderly", prompt(), {"queue_priority": 5}),
        ("gone", "gone", prompt(), {}),
        ("unlucky", "unlucky", f"{prompt()} [[sim: status=500]]", {}),
        ("waiter", "waiter", text, {"queue_webhook": address}),
    ]
    for name, user, words, metadata in asked:
        answer = queued(queue_house, keys[user], words, **metadata)
        ids[name] = answer.headers["x-farebox-queue-id"]
        assert item(queue_house, ids[name], keys[user])["state"] == "waiting"
    stored = everything_in_redis(queue_house)
    revoked = httpx.delete(
        f"{queue_house.proxy.base_url}/farebox/keys/the-gone",
        headers={"Authorization": f"Bearer {MASTER_KEY}"},
    )
    assert revoked.status_code == 200
    queue_house.simulator.script("*", "delay_ms=60000")
    set_limits(queue_house, PLENTY)
    wait_until(lambda: queue_house.simulator.bill()["in_flight"], 20, "the upstream works on it")
    queue_house.proxy.stop(signal.SIGKILL)
    queue_house.proxy.start()
    wait_until(lambda: unended(queue_house) <= 1, 90, "only the unlucky one is left")
    assert item(queue_house, ids["unlucky"])["reason"] == "http_500"
    # Its pause need not be waited for, if it is not over by now.
    assert queue_house.proxy.post("/farebox/queue/drain", {}).status_code == 200
    wait_until(lambda: unended(queue_house) == 0, 30, "every request has ended")
    queue_house.wait_settled()
    calls = [c for c in queue_house.calls_since(before) if c["dialect"] != "unknown"]
    return Story(ids, text, stored, calls)


def unended(house: House) -> int:
    """Return how many requests wait or run. Redis is asked: it is the cheaper one to ask often."""
    with Redis.from_url(house.redis.url) as client:
        names = [f"farebox:{{{LEDGER}}}:queue:{index}" for index in ("waiting", "running")]
        return sum(client.zcard(name) for name in names)


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


def test_what_waits_is_in_redis_and_cannot_be_read_there_or_in_the_log(
    queue_house: House, story: Story, receiver: Receiver
) -> None:
    assert story.ids["waiter"] in story.stored
    log = queue_house.proxy.log_text()
    for secret in (story.text, "zebra", receiver.origin):
        assert secret not in story.stored
        assert secret not in log


def test_a_queued_request_runs_once_there_is_budget(
    queue_house: House, story: Story, keys: dict[str, str]
) -> None:
    done = item(queue_house, story.ids["waiter"], keys["waiter"])
    assert (done["state"], done["run"], done["attempts"]) == ("done", 1, 0)
    answer = done["answer"]
    assert answer["status"] == 200
    assert answer["body"]["choices"][0]["message"]["content"]
    assert answer["headers"]["x-farebox-category"] == "FAST"
    ((kind, cost, body),) = entries_of(queue_house, story.ids["waiter"])
    assert kind == "settled" and cost > 0
    assert (body["key_name"], body["user"]) == ("the-waiter", "waiter")


def test_what_was_answered_is_charged_as_the_upstream_billed_it(
    queue_house: House, story: Story
) -> None:
    doomed = story.ids["doomed"]
    charged = sum(
        sum(entry_charges(queue_house, queue_id))
        for queue_id in story.ids.values()
        if queue_id != doomed
    )
    whole = [call for call in story.calls if "abandoned" not in call["flags"]]
    billed = sum(call["cost_nano_usd"] for call in whole)
    ((*_, last),) = [entries_of(queue_house, doomed)]
    answered = last[2]["attempts"][-1]["cost_nano_usd"]
    assert charged + answered == billed
    assert len(story.calls) == len(whole) + 1
    assert queue_house.books.verify() == ()


def test_the_webhook_is_told_that_it_has_ended_and_not_how_it_was_answered(
    story: Story, receiver: Receiver
) -> None:
    wait_until(lambda: receiver.told, what="the webhook is called")
    told = {"queue_id": story.ids["waiter"], "state": "done", "reason": None}
    assert receiver.told == [told]


def test_only_the_key_that_asked_reads_the_answer(
    queue_house: House, story: Story, keys: dict[str, str]
) -> None:
    viewer = queue_house.make_key("the-queue-viewer", role="viewer")
    queue_id = story.ids["waiter"]
    for other in (viewer, MASTER_KEY):
        shown = item(queue_house, queue_id, other)
        assert shown["state"] == "done" and "answer" not in shown
    stranger, proxy = keys["stranger"], queue_house.proxy
    assert proxy.get(f"/farebox/queue/{queue_id}", stranger).status_code == 404
    for action in ("cancel", "retry"):
        path = f"/farebox/queue/{queue_id}/{action}"
        assert proxy.post(path, {}, stranger).status_code == 404
        assert proxy.post(path, {}, viewer).status_code == 403
    assert proxy.get("/farebox/queue", stranger).status_code == 403
    assert proxy.post("/farebox/queue/drain", {}, viewer).status_code == 403
    assert httpx.get(f"{proxy.base_url}/farebox/queue/{queue_id}").status_code == 401


def test_requests_run_by_priority_and_then_by_arrival(queue_house: House, story: Story) -> None:
    names = ("a", "b", "c", "d")
    ended_at = {name: item(queue_house, story.ids[name])["changed_at"] for name in names}
    assert sorted(names, key=lambda name: ended_at[name]) == ["c", "a", "d", "b"]


def test_a_revoked_key_s_requests_do_not_run(queue_house: House, story: Story) -> None:
    dead = item(queue_house, story.ids["gone"])
    assert (dead["state"], dead["reason"]) == ("dead", "revoked_key")
    assert entries_of(queue_house, story.ids["gone"]) == []


def test_a_request_that_fails_is_tried_a_bounded_number_of_times(
    queue_house: House, story: Story, keys: dict[str, str]
) -> None:
    queue_id = story.ids["unlucky"]
    dead = item(queue_house, queue_id)
    assert (dead["state"], dead["reason"]) == ("dead", "http_500")
    assert (dead["attempts"], dead["run"]) == (2, 3)
    assert sum(entry_charges(queue_house, queue_id)) == 0
    # Its key may have it tried again.
    retried = queue_house.proxy.post(f"/farebox/queue/{queue_id}/retry", {}, keys["unlucky"])
    assert retried.json()["request"]["state"] in ("waiting", "running")


def test_a_request_whose_worker_was_killed_runs_again_and_is_charged_once(
    queue_house: House, story: Story, keys: dict[str, str]
) -> None:
    """The upstream bills the send that the worker died in: the one charge covers both sends."""
    queue_id = story.ids["doomed"]
    done = item(queue_house, queue_id, keys["doomed"])
    assert done["answer"]["status"] == 200
    assert (done["run"], done["attempts"]) == (1, 1)
    entries = entries_of(queue_house, queue_id)
    assert [kind for kind, _, _ in entries] == ["unreconciled", "corrected"]
    assert sum(entry_charges(queue_house, queue_id)) == entries[-1][1]
    assert [a["status"] for a in entries[-1][2]["attempts"]] == ["lost", "ok"]


def test_the_queue_shows_in_the_metrics(queue_house: House, story: Story) -> None:
    text = queue_house.proxy.get("/farebox/metrics").text
    assert 'farebox_queue_depth{category="FAST"}' in text
    for name in ("farebox_queue_age_seconds", "farebox_queue_expected_usd", "farebox_queue_dead"):
        assert name in text
    assert 'farebox_queue_runs_total{outcome="answered"}' in text


def entry_charges(house: House, queue_id: str) -> list[int]:
    """Return what each entry of a queued request added to the budget `total`."""
    return [
        charge
        for entry in house.books.entries()
        if json.loads(entry.body).get("queue_id") == queue_id
        for (budget, _), charge in entry.charges.items()
        if budget == "total"
    ]
