"""What of a request is kept, and what its client gets meanwhile."""

from __future__ import annotations

import gzip
import json
from typing import Any

import httpx
import pytest

from hooks.arrival import RUN, Arrival, Run
from hooks.gate import App, Receive, Scope, Send
from hooks.queue_answer import QueuedAnswers
from hooks.queue_desk import StoredRequest, as_it_will_run
from hooks.queue_send import send


def arrival(path: str, body: bytes, *headers: tuple[str, str]) -> Arrival:
    raw = [(name.encode(), value.encode()) for name, value in headers]
    return Arrival({"path": path, "headers": raw}, (body[:5], body[5:]))


def test_a_streamed_request_will_not_be_streamed() -> None:
    body = {"model": "auto", "stream": True, "stream_options": {"include_usage": True}, "n": 1}
    kept = as_it_will_run(arrival("/v1/chat/completions", json.dumps(body).encode()))
    assert kept is not None
    assert json.loads(kept.body) == {"model": "auto", "stream": False, "n": 1}


def test_what_steers_is_kept_and_no_key_is() -> None:
    kept = as_it_will_run(
        arrival(
            "/v1/messages",
            b'{"model": "auto"}',
            ("Authorization", "Bearer sk-secret"),
            ("x-api-key", "sk-secret"),
            ("cookie", "session=1"),
            ("x-farebox-task-type", "lookup"),
            ("x-farebox-queue", "true"),
            ("x-farebox-queue-webhook", "https://hooks.example.org"),
            ("anthropic-version", "2023-06-01"),
        )
    )
    assert kept is not None
    assert kept.headers == {"x-farebox-task-type": "lookup", "anthropic-version": "2023-06-01"}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/images/generations", b"{}"),
        ("/v1/chat/completions", b"no json"),
        ("/v1/embeddings", b"[]"),
    ],
)
def test_other_kinds_are_not_kept(path: str, body: bytes) -> None:
    assert as_it_will_run(arrival(path, body)) is None


def answering(status: int, headers: dict[str, str], body: bytes) -> App:
    async def app(scope: Scope, receive: Receive, reply: Send) -> None:
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        await reply({"type": "http.response.start", "status": status, "headers": raw})
        await reply({"type": "http.response.body", "body": body[:9], "more_body": True})
        await reply({"type": "http.response.body", "body": body[9:]})

    return app


async def post(app: App, path: str) -> httpx.Response:
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://proxy.test") as client:
        return await client.post(path, json={})


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("path", "empty"),
    [
        ("/v1/chat/completions", {"object": "chat.completion", "choices": []}),
        ("/v1/responses", {"object": "response", "output": []}),
        ("/v1/messages", {"type": "message", "content": []}),
        ("/v1/embeddings", {"object": "list", "data": []}),
        ("/v1/completions", {"object": "text_completion", "choices": []}),
    ],
)
async def test_a_queued_answer_has_the_fields_that_its_sdk_looks_at(
    path: str, empty: dict[str, Any], packed: bool
) -> None:
    detail = {"code": "queued", "queue_id": "q1"}
    made = json.dumps({"error": {"message": "It waits.", "farebox": detail}}).encode()
    headers = {"x-farebox-queue-id": "q1", "content-length": str(len(made))}
    if packed:
        made = gzip.compress(made)
        headers |= {"content-encoding": "gzip", "content-length": str(len(made))}
    answer = await post(QueuedAnswers(answering(202, headers, made)), path)
    body = answer.json()
    assert answer.status_code == 202
    assert {name: body[name] for name in empty} == empty
    assert (body["id"], body["queue_id"], body["status"]) == ("q1", "q1", "queued")
    assert body["error"]["code"] == "queued" and body["farebox"] == detail


@pytest.mark.parametrize("status", [200, 202, 402])
async def test_every_other_answer_passes_as_it_is(status: int) -> None:
    app = QueuedAnswers(answering(status, {"content-type": "text/plain"}, b"word by word"))
    answer = await post(app, "/v1/chat/completions")
    assert (answer.status_code, answer.text) == (status, "word by word")


async def test_a_run_is_marked_where_no_client_can_write() -> None:
    seen: list[object] = []

    async def app(scope: Scope, receive: Receive, reply: Send) -> None:
        seen.append((scope[RUN], scope["path"], await receive()))
        await answering(200, {"x-farebox-model": "haiku"}, b"{} and so on")(scope, receive, reply)

    run = Run("q1", "q1.1", "key1")
    request = StoredRequest("/v1/messages", {"x-farebox-task-type": "lookup"}, b"{}")
    reply = await send(app, run, request)
    assert (reply.status, reply.body, reply.headers["x-farebox-model"]) == (
        200, b"{} and so on", "haiku",
    )  # fmt: skip
    ((marked, path, message),) = seen  # type: ignore[misc]  # one call, three values
    assert marked is run and path == "/v1/messages" and message["body"] == b"{}"


async def test_a_defect_in_the_application_is_an_answer_with_status_500() -> None:
    async def app(scope: Scope, receive: Receive, reply: Send) -> None:
        raise RuntimeError("a defect")

    request = StoredRequest("/v1/messages", {}, b"{}")
    assert (await send(app, Run("q1", "q1.1", "key1"), request)).status == 500
