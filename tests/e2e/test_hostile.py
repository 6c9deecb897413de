"""Requests that mean harm or make no sense: a clean refusal or no effect, never a bare 500.

Whatever a request says, it is charged to the key that sent it, by the policy, and nothing of its
text reaches the proxy's log.
"""

from __future__ import annotations

import contextlib
import gzip
import itertools
import json
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from redis import Redis

from tests.support.house import House

_numbers = itertools.count()

PLANTED = "planted-prompt-4711-do-not-log"


@pytest.fixture(scope="module")
def key(house: House) -> str:
    """An ordinary caller's key."""
    return house.make_key("villain", user="villain")


@pytest.fixture(scope="module", autouse=True)
def _clean_log(house: House, key: str) -> Iterator[None]:
    """After all of it, the log holds neither prompt nor key."""
    yield
    log = house.proxy.log_text()
    assert PLANTED not in log
    assert key not in log
    assert "sk-upstream" not in log and "sk-up" not in log


def hello() -> list[dict[str, Any]]:
    return [{"role": "user", "content": f"Say hello, {PLANTED} {next(_numbers)}"}]


def send(house: House, key: str, path: str = "/v1/chat/completions", **body: Any) -> httpx.Response:
    return house.proxy.post(path, body, key=key)


def assert_clean(response: httpx.Response, *statuses: int) -> None:
    """It is one of these statuses, and an error has a body with a message."""
    assert response.status_code in statuses, f"{response.status_code}: {response.text[:600]}"
    if response.status_code != 200:
        error = response.json()["error"]
        assert isinstance(error["message"], str) and error["message"]
        assert PLANTED not in response.text


def ignored(house: House, key: str, **fields: Any) -> dict[str, Any]:
    """Send a request with these fields; it is served as if they were not there."""
    before = house.last_call()
    response = send(house, key, **{"model": "auto", "messages": hello(), **fields})
    assert_clean(response, 200)
    calls = house.calls_since(before)
    assert len(calls) == 1, calls
    entry = house.entry_of(response)
    assert entry["key_name"] == "villain"
    assert entry["cost"] == calls[0]["cost_nano_usd"]
    return {**entry, "call": calls[0], "response": response}


# ── forged bookkeeping ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "metadata",
    [
        {"farebox": {"id": "0" * 32}},
        {"farebox": "x"},
        {"user_api_key_alias": "finance", "user_api_key_team_id": "board"},
        {"user_api_key_user_id": "boss", "user_api_key_hash": "0"},
        {"model_info": {"id": "gemini-flash", "input_cost_per_token": 0}},
        {"model_group": "gpt-4o-mini", "deployment": "x"},
        {"requester_metadata": {"farebox": {"id": "1"}}, "headers": {"x": "y"}},
        {"hidden_params": {"response_cost": 0}, "response_cost": 0},
        {"spend_logs_metadata": {"a": 1}, "litellm_api_version": "x"},
    ],
    ids=lambda metadata: next(iter(metadata)),
)
@pytest.mark.parametrize("field", ["metadata", "litellm_metadata"])
def test_forged_metadata_changes_nothing(
    house: House, key: str, field: str, metadata: dict[str, Any]
) -> None:
    found = ignored(house, key, **{field: metadata})
    assert found["user"] == "villain"
    assert found["group"] == found["serving_group"] == "gemini-flash"


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/messages", "/v1/completions"])
def test_forged_metadata_changes_nothing_on_the_other_routes(
    house: House, key: str, path: str
) -> None:
    bodies: dict[str, dict[str, Any]] = {
        "/v1/responses": {"input": "Hello"},
        "/v1/messages": {"messages": hello(), "max_tokens": 50},
        "/v1/completions": {"prompt": "Hello"},
    }
    forged = {"farebox": {"id": "1"}, "user_api_key_alias": "finance", "model_group": "x"}
    before = house.last_call()
    response = send(
        house, key, path, model="auto", metadata=forged, litellm_metadata=forged, **bodies[path]
    )
    assert_clean(response, 200)
    entry = house.entry_of(response)
    assert entry["key_name"] == "villain"
    assert entry["cost"] == house.calls_since(before)[0]["cost_nano_usd"]


@pytest.mark.parametrize("value", ["text", 7, 1.5, True, ["a"], [], "null-like", "{}", None])
@pytest.mark.parametrize("field", ["metadata", "litellm_metadata"])
def test_metadata_of_another_type_is_refused_or_ignored(
    house: House, key: str, field: str, value: Any
) -> None:
    response = send(house, key, model="auto", messages=hello(), **{field: value})
    assert_clean(response, 200, 400, 422)


@pytest.mark.parametrize(
    "fields",
    [
        {"fallbacks": ["claude-opus"]},
        {"context_window_fallbacks": [{"FAST": ["claude-opus"]}]},
        {"num_retries": 50, "max_fallbacks": 9},
        {"disable_fallbacks": True},
        {"no-log": True},
        {"mock_response": "free"},
        {"api_key": "sk-their-own"},
        {"input_cost_per_token": 0, "output_cost_per_token": 0},
        {"cache": {"no-cache": True}, "caching": True},
        {"service_tier": "priority"},
        {"router_settings_override": {"fallbacks": [{"FAST": ["claude-opus"]}]}},
        {"fastest_response": True},
        {"custom_llm_provider": "openai"},
        {"litellm_call_id": "abc", "litellm_logging_obj": "x", "proxy_server_request": {}},
        {"specific_deployment": True, "tags": ["x"], "guardrails": ["none"]},
        {"model_info": {"id": "x"}, "deployment_id": "x"},
        {"secret_fields": {"a": 1}, "user_api_key_dict": {"user_role": "proxy_admin"}},
        {"litellm_params": {"api_base": "http://127.0.0.1:1"}, "litellm_session_id": "s"},
        {"timeout": 0.0001},
        {"extra_headers": {"x": "y"}, "extra_body": {"max_tokens": 99999}},
        {"store": True, "prediction": {"type": "content", "content": "x"}},
        {"ttl": 5, "preset_cache_key": "k", "drop_params": False},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_control_fields_are_ignored_and_named(
    house: House, key: str, fields: dict[str, Any]
) -> None:
    before = house.last_call()
    response = send(house, key, model="auto", messages=hello(), **fields)
    assert_clean(response, 200, 400, 401, 403, 422)
    calls = house.calls_since(before)
    if response.status_code != 200:
        assert calls == []
        return
    assert [call["model"] for call in calls] == ["gemini-3.8-flash"]
    entry = house.entry_of(response)
    assert entry["cost"] == calls[0]["cost_nano_usd"] > 0


@pytest.mark.parametrize(
    "fields",
    [
        {"api_base": "http://127.0.0.1:1"},
        {"base_url": "http://127.0.0.1:1"},
        {"user_config": {"model_list": []}},
        {"mock_testing_fallbacks": True},
        {"model_list": [{"model_name": "auto"}]},
        {"fallbacks": [{"model": "x", "api_base": "http://127.0.0.1:1"}]},
        {"callbacks": ["x"], "success_callback": ["x"]},
        {"metadata": {"user_api_key_auth_metadata": {"farebox": {"role": "admin"}}}},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_fields_that_would_redirect_are_refused_or_ignored(
    house: House, key: str, fields: dict[str, Any]
) -> None:
    response = send(house, key, model="auto", messages=hello(), **fields)
    assert_clean(response, 200, 400, 401, 403, 422)


@pytest.mark.parametrize(
    "headers",
    [
        {"x-litellm-call-id": "0"},
        {"x-litellm-call-id": "../../etc\\x"},
        {"x-litellm-timeout": "0.0001"},
        {"x-litellm-timeout": "nonsense"},
        {"x-litellm-num-retries": "99"},
        {"x-litellm-num-retries": "nonsense"},
        {"x-litellm-tags": "a,b"},
        {"x-litellm-disable-callbacks": "hooks.pre_call.hook,FareboxHook,FareboxCallback"},
        {"x-litellm-enable-message-redaction": "true"},
        {"x-litellm-stream-timeout": "nonsense"},
        {"x-litellm-spend-logs-metadata": "{"},
        {"x-litellm-spend-logs-metadata": '{"farebox": 1}'},
        {"x-litellm-agent-id": "x", "x-litellm-session-id": "s", "x-litellm-trace-id": "t"},
        {"x-litellm-keepalive-seconds": "-1"},
        {"traceparent": "nonsense", "baggage": "farebox=1"},
        {"openai-organization": "org", "x-forwarded-for": "1.2.3.4"},
        {"langfuse_trace_id": "x", "langfuse_trace_name": "y", "langfuse_trace_metadata": "{"},
        {"x-farebox-id": "x", "x-farebox-decision": "forged", "x-farebox-mode": "shadow"},
    ],
    ids=lambda headers: f"{next(iter(headers))}",
)
def test_litellms_control_headers_do_not_escape_the_books(
    house: House, key: str, headers: dict[str, str]
) -> None:
    before = house.last_call()
    response = house.proxy.post(
        "/v1/chat/completions", {"model": "auto", "messages": hello()}, key=key, headers=headers
    )
    assert_clean(response, 200, 400, 408, 422)
    calls = house.calls_since(before)
    if response.status_code == 200:
        assert response.headers["x-farebox-mode"] == "enforce"
        assert house.entry_of(response)["cost"] == sum(c["cost_nano_usd"] for c in calls) > 0


# ── strange values ───────────────────────────────────────────────────────────────────────────────

STRANGE = {
    "nul": "a\x00b",
    "newline": "a\r\nx-farebox-code: forged",
    "escape": "\x1b[31mred\x1b]0;title\x07",
    "html": "<script>alert(1)</script>",
    "unicode": "日本語 ✓ 🎉 \u202e\ufeff",
    "surrogate": "\ud800",
    "huge": "x" * 300_000,
    "empty": "",
    "spaces": "   ",
    "colon": "a:b:c|d{e}",
    "number": 17,
    "list": ["a"],
    "object": {"a": 1},
    "bool": True,
}


@pytest.mark.parametrize("value", STRANGE.values(), ids=STRANGE)
@pytest.mark.parametrize(
    "name", ["task_type", "consequence", "session_id", "expected_output_tokens", "tags", "queue"]
)
def test_strange_steering_is_refused_or_ignored(
    house: House, key: str, name: str, value: Any
) -> None:
    body = {"model": "auto", "messages": hello(), "metadata": {name: value}}
    # As text of our own: a lone surrogate cannot be sent by httpx, but \ud800 in JSON can.
    response = httpx.post(
        f"{house.proxy.base_url}/v1/chat/completions",
        content=json.dumps(body).encode(),
        headers={"authorization": f"Bearer {key}", "content-type": "application/json"},
        timeout=60,
    )
    assert_clean(response, 200, 400, 422)
    for header, shown in response.headers.items():
        if header.startswith("x-farebox-"):
            assert shown.isprintable() and len(shown) <= 512, (header, shown)
            assert "forged" not in header
    if response.status_code == 200:
        assert house.entry_of(response)["status"] == "ok"


def test_a_strange_user_or_header_is_refused_or_ignored(house: House, key: str) -> None:
    for value in (*STRANGE.values(), 10**400):
        response = httpx.post(
            f"{house.proxy.base_url}/v1/chat/completions",
            content=json.dumps({"model": "auto", "messages": hello(), "user": value}).encode(),
            headers={"authorization": f"Bearer {key}", "content-type": "application/json"},
            timeout=60,
        )
        assert_clean(response, 200, 400, 422)
    for text in (b"\xff\xfe", b"<b>", b"x" * 5000, b"\x1b[31m"):
        answer = httpx.post(
            f"{house.proxy.base_url}/v1/chat/completions",
            json={"model": "auto", "messages": hello()},
            headers=[(b"authorization", f"Bearer {key}".encode()), (b"x-farebox-task-type", text)],
            timeout=60,
        )
        assert answer.status_code in (200, 400, 422), answer.text[:300]


BIG = 10**9

BAD_NUMBERS: list[dict[str, Any]] = [
    {"max_tokens": -5},
    {"max_tokens": 0},
    {"max_tokens": "many"},
    {"max_tokens": 1e400},
    {"max_tokens": 10**30},
    {"max_tokens": BIG},
    {"max_tokens": 1.5},
    {"max_tokens": [1]},
    {"max_tokens": True},
    {"n": 0},
    {"n": -1},
    {"n": BIG},
    {"n": "3"},
    {"n": 129},
]


@pytest.mark.parametrize("fields", BAD_NUMBERS, ids=str)
def test_absurd_numbers_are_refused_before_they_cost_anything(
    house: House, key: str, fields: dict[str, Any]
) -> None:
    before = house.last_call()
    text = json.dumps({"model": "auto", "messages": hello(), **fields})
    response = httpx.post(
        f"{house.proxy.base_url}/v1/chat/completions",
        content=text.encode(),
        headers={"authorization": f"Bearer {key}", "content-type": "application/json"},
        timeout=60,
    )
    assert_clean(response, 400, 402, 422)
    assert house.calls_since(before) == []


def _nested(depth: int) -> Any:
    value: Any = "x"
    for _ in range(depth):
        value = [{"type": "text", "content": value}]
    return value


BAD_BODIES: dict[str, dict[str, Any]] = {
    "no messages": {"model": "auto"},
    "empty messages": {"model": "auto", "messages": []},
    "messages text": {"model": "auto", "messages": "hi"},
    "messages object": {"model": "auto", "messages": {"role": "user"}},
    "messages of text": {"model": "auto", "messages": ["hi"]},
    "messages of null": {"model": "auto", "messages": [None]},
    "nested": {"model": "auto", "messages": [{"role": "user", "content": _nested(200)}]},
    "no model": {"messages": [{"role": "user", "content": "hi"}]},
    "model number": {"model": 7, "messages": [{"role": "user", "content": "hi"}]},
    "model list": {"model": ["auto"], "messages": [{"role": "user", "content": "hi"}]},
    "model object": {"model": {"a": 1}, "messages": [{"role": "user", "content": "hi"}]},
    "model null": {"model": None, "messages": [{"role": "user", "content": "hi"}]},
    "model empty": {"model": "", "messages": [{"role": "user", "content": "hi"}]},
    "model long": {"model": "m" * 9999, "messages": [{"role": "user", "content": "hi"}]},
    "two models": {"model": "auto,auto", "messages": [{"role": "user", "content": "hi"}]},
    "deployment id": {"model": "test-first", "messages": [{"role": "user", "content": "hi"}]},
    "provider model": {
        "model": "openai/gpt-4o-mini",
        "messages": [{"role": "user", "content": "hi"}],
    },
    "wildcard": {"model": "*", "messages": [{"role": "user", "content": "hi"}]},
    "nul model": {"model": "auto\x00", "messages": [{"role": "user", "content": "hi"}]},
    "tools text": {
        "model": "auto",
        "tools": "all",
        "messages": [{"role": "user", "content": "hi"}],
    },
    "tools true": {
        "model": "auto",
        "tools": True,
        "messages": [{"role": "user", "content": "hi"}],
    },
    "web search of no object": {
        "model": "auto",
        "web_search_options": True,
        "messages": [{"role": "user", "content": "hi"}],
    },
    "tools of text": {
        "model": "auto",
        "tools": ["a"],
        "messages": [{"role": "user", "content": "hi"}],
    },
    "web search": {
        "model": "auto",
        "tools": [{"type": "web_search_preview"}],
        "messages": [{"role": "user", "content": "hi"}],
    },
    "anthropic search": {
        "model": "auto",
        "tools": [{"type": "web_search_20250305", "name": "web_search"}],
        "messages": [{"role": "user", "content": "hi"}],
    },
    "gemini search": {
        "model": "auto",
        "tools": [{"googleSearch": {}}],
        "messages": [{"role": "user", "content": "hi"}],
    },
    "code interpreter": {
        "model": "auto",
        "tools": [{"type": "code_interpreter", "container": {"type": "auto"}}],
        "messages": [{"role": "user", "content": "hi"}],
    },
    "file": {
        "model": "auto",
        "messages": [
            {"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1"}}]}
        ],
    },
    "audio": {
        "model": "auto",
        "modalities": ["audio"],
        "audio": {"voice": "x"},
        "messages": [{"role": "user", "content": "hi"}],
    },
}


@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
def test_a_body_that_makes_no_sense_is_refused(
    house: House, key: str, path: str, body: dict[str, Any]
) -> None:
    before = house.last_call()
    response = send(house, key, path, **{"max_tokens": 50, **body})
    assert_clean(response, 400, 422)
    assert house.calls_since(before) == []


@pytest.mark.parametrize(
    "fields",
    [
        {"input": "hi", "previous_response_id": "resp_1"},
        {"input": "hi", "conversation": "conv_1"},
        {"input": "hi", "background": True},
        {"prompt": {"id": "pmpt_1"}},
        {"input": [{"type": "item_reference", "id": "x"}]},
        {"input": "hi", "tools": [{"type": "mcp", "server_url": "https://x"}]},
        {"input": "hi", "tools": [{"type": "file_search", "vector_store_ids": ["v"]}]},
        {"input": "hi", "tools": [{"type": "image_generation"}]},
        {"input": 7},
        {"input": {"a": 1}},
        {"input": [7]},
    ],
    ids=str,
)
def test_a_response_that_cannot_be_bounded_is_refused(
    house: House, key: str, fields: dict[str, Any]
) -> None:
    before = house.last_call()
    response = send(house, key, "/v1/responses", model="auto", **fields)
    assert_clean(response, 400, 422)
    assert house.calls_since(before) == []


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"null", b'"text"', b"7", b"\xff\xfe", b"{}"])
@pytest.mark.parametrize(
    "path",
    [
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/responses",
        "/v1/messages",
        "/v1/embeddings",
    ],
)
def test_what_is_no_json_object_is_refused(house: House, key: str, path: str, raw: bytes) -> None:
    response = httpx.post(
        house.proxy.base_url + path,
        content=raw,
        headers={"authorization": f"Bearer {key}", "content-type": "application/json"},
        timeout=60,
    )
    assert_clean(response, 400, 415, 422)


def test_five_megabytes_of_prompt_are_refused_with_their_arithmetic(house: House, key: str) -> None:
    before = house.last_call()
    text = "lorem ipsum " * 430_000
    response = send(house, key, model="auto", messages=[{"role": "user", "content": text}])
    assert_clean(response, 402, 413, 422)
    assert house.calls_since(before) == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/images/generations"),
        ("POST", "/v1/batches"),
        ("POST", "/v1/audio/speech"),
        ("POST", "/openai/v1/chat/completions"),
        ("POST", "/anthropic/v1/messages"),
        ("POST", "/gemini/v1beta/models/x:generateContent"),
        ("POST", "/v1beta/models/gemini-flash:generateContent"),
        ("POST", "/engines/gpt-4o-mini/chat/completions"),
        ("POST", "/openai/deployments/gpt-4o-mini/chat/completions"),
        ("GET", "/health"),
        ("GET", "/health/services"),
        ("POST", "/v1/rerank"),
        ("POST", "/v1/moderations"),
        ("GET", "/config/yaml"),
        ("GET", "/router/settings"),
        ("GET", "/get/config/callbacks"),
        ("POST", "/key/generate"),
        ("POST", "/model/new"),
        ("GET", "/farebox/keys"),
        ("POST", "/farebox/keys"),
        ("GET", "/farebox/metrics"),
        ("POST", "//v1/chat/completions"),
        ("POST", "/v1/chat/completions/"),
        ("POST", "/V1/chat/completions"),
    ],
)
def test_no_other_route_is_served_to_a_caller(
    house: House, key: str, method: str, path: str
) -> None:
    before = house.last_call()
    response = httpx.request(
        method,
        house.proxy.base_url + path,
        json={"model": "gpt-4o-mini", "messages": hello(), "prompt": "x", "input": "x"},
        headers={"authorization": f"Bearer {key}"},
        timeout=60,
    )
    assert response.status_code in (307, 401, 403, 404, 405, 422), response.text[:300]
    assert house.calls_since(before) == []


# ── what is no HTTP request of a client library ──────────────────────────────────────────────────

CHAT = json.dumps({"model": "auto", "messages": [{"role": "user", "content": "hi"}]}).encode()


def raw(
    house: House,
    key: str,
    path: str = "/v1/chat/completions",
    headers: bytes = b"",
    body: bytes = CHAT,
    length: bytes | None = None,
) -> int:
    """Send bytes as they stand; return the status, 0 where the connection was only closed."""
    address = ("127.0.0.1", house.proxy.port)
    length = b"content-length: %d\r\n" % len(body) if length is None else length
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n".encode()
    with socket.create_connection(address, timeout=30) as connection:
        with contextlib.suppress(OSError):  # It may be closed while we still send.
            connection.sendall(head + length + headers + b"\r\n" + body)
        with contextlib.suppress(ConnectionResetError):
            answer = connection.recv(65_536)
            return int(answer.split(b" ")[1]) if answer else 0
    return 0


@pytest.mark.parametrize(
    "path",
    [
        "//v1/chat/completions",
        "/v1//chat/completions",
        "/v1/./chat/completions",
        "/v1/x/../chat/completions",
        "/v1/chat/completions/",
        "/v1/chat/completions%00",
        "/v1/chat/completions;x",
        "/v1/chat/completions%20",
        "http://127.0.0.1:1/v1/images/generations",
        "/v1/engines/auto/completions",
        "/v1/responses/compact",
        "*",
    ],
)
def test_a_path_that_plays_tricks_is_not_served(house: House, key: str, path: str) -> None:
    before = house.last_call()
    assert raw(house, key, path) in (307, 400, 403, 404, 405, 422)
    assert house.calls_since(before) == []


@pytest.mark.parametrize("path", ["/v1%2fchat%2fcompletions", "/%761/chat/completions"])
def test_another_spelling_of_a_governed_path_is_governed(house: House, key: str, path: str) -> None:
    before = house.last_call()
    assert raw(house, key, path) == 200
    assert [call["model"] for call in house.calls_since(before)] == ["gemini-3.8-flash"]


def test_a_model_in_the_query_is_the_one_that_is_governed(house: House, key: str) -> None:
    """LiteLLM lets it stand above the body's."""
    before = house.last_call()
    response = send(
        house, key, "/v1/chat/completions?model=claude-haiku", model="auto", messages=hello()
    )
    assert_clean(response, 200)
    calls = house.calls_since(before)
    entry = house.entry_of(response)
    assert [call["model"] for call in calls] == ["claude-haiku-4-5"]
    assert entry["group"] == entry["serving_group"] == "claude-haiku"
    assert entry["cost"] == calls[0]["cost_nano_usd"]


@pytest.mark.parametrize(
    ("headers", "length"),
    [
        (b"x-a: " + b"a" * 1_000_000 + b"\r\n", None),
        (b"".join(b"x-%d: a\r\n" % n for n in range(4_000)), None),
        (b"".join(b"x-%d: a\r\n" % n for n in range(40_000)), None),
        (b"", b"content-length: -1\r\n"),
        (b"", b"content-length: 99999999999999999999999\r\n"),
        (b"", b"content-length: 50000000\r\n"),
        (b"\x00\xff: a\r\n", None),
        (b"content-encoding: gzip\r\n", b"content-length: 0\r\n"),
    ],
    ids=["1 MB", "4000", "40000", "negative", "absurd", "50 MB", "binary", "empty"],
)
def test_a_head_that_makes_no_sense_is_refused(
    house: House, key: str, headers: bytes, length: bytes | None
) -> None:
    before = house.last_call()
    status = raw(house, key, headers=headers, length=length)
    assert status == 0 or 400 <= status < 500
    assert house.calls_since(before) == []


def test_a_client_that_leaves_inside_its_body_leaves_nothing(house: House, key: str) -> None:
    before, refused = house.last_call(), len(house.books.refusals())
    with socket.create_connection(("127.0.0.1", house.proxy.port), timeout=10) as connection:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n"
        connection.sendall(head.encode() + b'transfer-encoding: chunked\r\n\r\n5\r\n{"mod\r\n')
    assert raw(house, key) == 200
    assert len(house.calls_since(before)) == 1
    assert len(house.books.refusals()) == refused


JSON_ATTACKS: dict[str, bytes] = {
    "NaN": b'{"model":"auto","temperature":NaN,"messages":[{"role":"user","content":"hi"}]}',
    "Infinity": b'{"model":"auto","top_p":-Infinity,"messages":[{"role":"user","content":"hi"}]}',
    "1e999": b'{"model":"auto","temperature":1e999,"messages":[{"role":"user","content":"hi"}]}',
    "10,000 digits": b'{"model":"auto","seed":' + b"9" * 10_000 + b',"messages":[]}',
    "3,000 digits": b'{"model":"auto","seed":' + b"9" * 3_000 + b',"messages":[]}',
    "100,000 levels": b'{"model":"auto","messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "500 levels": b'{"model":"auto","metadata":' + b'{"a":' * 500 + b"1" + b"}" * 500 + b"}",
    "a million lists": b'{"model":"auto","x":[' + b"[]," * 1_000_000 + b'1],"messages":[]}',
    "names": json.dumps({"model": "auto", **{f"n{n}": n for n in range(60_000)}}).encode(),
    "UTF-16": CHAT.decode().encode("utf-16"),
    "Latin-1": b'{"model":"auto","messages":[{"role":"user","content":"\xe9"}]}',
    "gzip": gzip.compress(CHAT),
    "two values": CHAT + CHAT,
    "a byte order mark": b"\xef\xbb\xbf" + CHAT,
    "half a surrogate": b'{"model":"auto","messages":[{"role":"user","content":"\\ud800"}]}',
    "50 MB": b'{"model":"auto","messages":[{"role":"user","content":"' + b"x " * 25_000_000,
}


@pytest.mark.parametrize("content", JSON_ATTACKS.values(), ids=JSON_ATTACKS)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
def test_json_that_would_hurt_is_refused_unread(
    house: House, key: str, path: str, content: bytes
) -> None:
    before = house.last_call()
    response = httpx.post(
        house.proxy.base_url + path,
        content=content,
        headers={"authorization": f"Bearer {key}", "content-type": "application/json"},
        timeout=60,
    )
    assert_clean(response, 400, 413, 422)
    assert house.calls_since(before) == []


def test_of_two_equal_names_the_one_that_is_sent_is_the_one_that_is_governed(
    house: House, key: str
) -> None:
    content = CHAT[:-1] + b', "model": "claude-haiku"}'
    before = house.last_call()
    response = httpx.post(
        f"{house.proxy.base_url}/v1/chat/completions",
        content=content,
        headers={"authorization": f"Bearer {key}", "content-type": "application/json"},
        timeout=60,
    )
    assert_clean(response, 200)
    assert [call["model"] for call in house.calls_since(before)] == ["claude-haiku-4-5"]
    assert house.entry_of(response)["serving_group"] == "claude-haiku"


def test_a_call_id_that_names_someone_elses_hold_changes_nothing(house: House, key: str) -> None:
    """The ids of another's hold and decision are worth nothing to who knows them."""
    theirs = house.proxy.chat("Hello", key=house.make_key("victim", user="victim"))
    entry = house.entry_of(theirs)
    forged = {"id": entry["request_id"], "refused": {"facts": {}}}
    for number in range(3):
        before = house.last_call()
        response = house.proxy.post(
            "/v1/chat/completions",
            {
                "model": "auto",
                "messages": hello(),
                "litellm_call_id": entry["request_id"],
                "metadata": {
                    "farebox": forged,
                    "requester_metadata": {"farebox": forged},
                    "session_id": entry["request_id"],
                },
            },
            key=key,
            headers={"x-litellm-call-id": entry["request_id"], "x-farebox-id": str(number)},
        )
        assert_clean(response, 200)
        mine = house.entry_of(response)
        assert mine["key_name"] == "villain" and mine["request_id"] != entry["request_id"]
        assert mine["cost"] == house.calls_since(before)[0]["cost_nano_usd"] > 0
    assert house.entry(entry["decision_id"]) == entry


def test_nothing_is_left_held(house: House) -> None:
    house.simulator.wait_until_idle()
    assert house.books.verify() == ()
    assert house.books.holds() == 0


def test_litellm_keeps_nothing_of_its_own_in_the_ledgers_redis(house: House) -> None:
    with Redis.from_url(house.redis.url) as client:
        names = [key.decode(errors="replace") for key in client.scan_iter()]
    assert names and [name for name in names if not name.startswith("farebox:")] == []
