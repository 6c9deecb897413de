"""Callers and roles on a real LiteLLM proxy: a process of its own, a real Redis, mocked answers."""

import json
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import anthropic
import httpx
import openai
import pytest

from budgets import connection
from budgets.embedded import find_server
from hooks.access import Role
from hooks.key_store import KeyStore
from tests.support import launcher
from tests.support.proxy import free_port

REPOSITORY = Path(__file__).resolve().parents[2]
MASTER_KEY = "sk-integration-master-key-2f9c71d0"
START_TIMEOUT_S = 200.0

CONFIG = """\
model_list:
  - model_name: FAST
    litellm_params: {model: openai/gpt-4o-mini, api_key: none, mock_response: hello}
general_settings:
  custom_auth: entry.authenticate
  master_key: os.environ/LITELLM_MASTER_KEY
"""

# LiteLLM looks for the module beside its configuration and executes it as a new module object, as
# it does with hooks/auth.py in a checkout. The route shows what a role gets on Farebox's own paths.
ENTRY = """\
import runpy
from fastapi import APIRouter, Depends
from litellm.proxy import proxy_server
from hooks import key_runtime, litellm_auth
from hooks.access import Role
from hooks.guard import CleanRoute, Person, require
from hooks.key_routes import build_router
authenticate = runpy.run_path({auth!r})["authenticate"]
router = APIRouter(route_class=CleanRoute)
@router.get("/farebox/whoami")
async def whoami(person: Person = Depends(require(Role.VIEWER, litellm_auth.doorkeeper))):
    return {{"name": person.name, "role": person.role}}
proxy_server.app.include_router(router)
proxy_server.app.include_router(build_router(key_runtime.store, litellm_auth.doorkeeper))
"""


@dataclass(frozen=True)
class Proxy:
    url: str
    redis_url: str
    pid: int
    log: Path

    def get(self, path: str, key: str | None = None) -> httpx.Response:
        return self.request("GET", path, key)

    def post(self, path: str, key: str | None = None, body: object = None) -> httpx.Response:
        return self.request("POST", path, key, body)

    def request(
        self, method: str, path: str, key: str | None, body: object = None
    ) -> httpx.Response:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        return httpx.request(method, self.url + path, headers=headers, json=body, timeout=30)

    def chat(self, key: str | None) -> httpx.Response:
        return self.post("/v1/chat/completions", key, CHAT)

    def make_key(self, name: str, role: Role = Role.CALLER) -> str:
        answer = self.post("/farebox/keys", MASTER_KEY, {"name": name, "role": role})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["secret_key"])


CHAT = {"model": "FAST", "messages": [{"role": "user", "content": "hi"}]}


def wait_for(condition: Callable[[], bool], within_s: float, what: str) -> None:
    end = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not within {within_s} s: {what}")
        time.sleep(0.05)


@contextmanager
def running_redis(folder: Path) -> Iterator[str]:
    path = folder / "redis.sock"
    server = subprocess.Popen(
        [find_server().path, "--port", "0", "--unixsocket", str(path), "--save", ""],
        stdout=subprocess.DEVNULL,
        cwd=folder,
    )
    try:
        wait_for(path.exists, 10, "the Redis socket")
        yield f"unix://{path}"
    finally:
        server.terminate()
        server.wait()


@contextmanager
def running_proxy(
    folder: Path, redis_url: str, workers: int = 1, entry_tail: str = ""
) -> Iterator[Proxy]:
    (folder / "config.yaml").write_text(CONFIG)
    entry = ENTRY.format(auth=str(REPOSITORY / "hooks" / "auth.py")) + entry_tail
    (folder / "entry.py").write_text(entry)
    environment = {k: v for k, v in os.environ.items() if k != "DATABASE_URL"} | {
        "PYTHONPATH": str(REPOSITORY),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_MASTER_KEY": MASTER_KEY,
        "REDIS_URL": redis_url,
        "FAREBOX_LEDGER": "test",
        "FAREBOX_HOME": str(folder / "home"),
    }
    port = free_port()
    log = folder / "proxy.log"
    arguments = [
        *("--config", "config.yaml", "--host", "127.0.0.1"),
        *("--port", str(port), "--num_workers", str(workers)),
        # Uvicorn kills a worker that is silent for 5 s, as one that imports LiteLLM on a busy
        # machine does, and starts it anew, for ever.
        *("--timeout_worker_healthcheck", "120"),
    ]
    process = launcher.start(arguments, environment, folder, log, workers)
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        if process.poll() is not None:
            raise AssertionError(f"the proxy ended: {log.read_text()[-3000:]}")
        try:
            return httpx.get(f"{url}/health/liveliness", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    try:
        wait_for(answers, START_TIMEOUT_S, "the proxy's liveliness")
        yield Proxy(url, redis_url, process.pid, log)
    finally:
        os.kill(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


# A start imports LiteLLM once for each worker, which takes long where other tests share the cores.
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def proxy() -> Iterator[Proxy]:
    with tempfile.TemporaryDirectory(prefix="fbx") as name:
        folder = Path(name)
        with running_redis(folder) as redis_url, running_proxy(folder, redis_url, 2) as made:
            yield made


@pytest.fixture
async def store(proxy: Proxy) -> AsyncIterator[KeyStore]:
    client = connection.connect(proxy.redis_url)
    yield KeyStore(client, "test")
    await client.aclose()


def test_the_official_sdks_work_with_a_farebox_key(proxy: Proxy) -> None:
    key = proxy.make_key("sdk")
    with openai.OpenAI(base_url=f"{proxy.url}/v1", api_key=key, max_retries=0) as client:
        answer = client.chat.completions.create(
            model="FAST", messages=[{"role": "user", "content": "hi"}]
        )
        assert answer.choices[0].message.content == "hello"
        assert [model.id for model in client.models.list()] == ["FAST"]
    with anthropic.Anthropic(base_url=proxy.url, api_key=key, max_retries=0) as other:
        message = other.messages.create(
            model="FAST", max_tokens=9, messages=[{"role": "user", "content": "hi"}]
        )
        assert message.content[0].type == "text"


def test_a_wrong_key_is_an_authentication_error_in_both_sdks(proxy: Proxy) -> None:
    bad = "sk-fbx-aaaaaaaaaa-" + "b" * 43
    with (
        openai.OpenAI(base_url=f"{proxy.url}/v1", api_key=bad) as client,
        pytest.raises(openai.AuthenticationError) as refused,
    ):
        client.chat.completions.create(model="FAST", messages=[{"role": "user", "content": "hi"}])
    assert refused.value.code == "unknown_key"
    with (
        anthropic.Anthropic(base_url=proxy.url, api_key=bad) as other,
        pytest.raises(anthropic.AuthenticationError) as refused_too,
    ):
        other.messages.create(
            model="FAST", max_tokens=9, messages=[{"role": "user", "content": "hi"}]
        )
    assert "not known here" in refused_too.value.message
    for path in ("/v1/chat/completions", "/v1/messages", "/v1/models", "/model/info"):
        answer = proxy.request("GET" if "mode" in path else "POST", path, None, CHAT)
        assert answer.status_code == 401, (path, answer.text)
    assert "b" * 43 not in proxy.log.read_text()


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer KEY"},
        {"authorization": "bearer KEY"},
        {"x-api-key": "KEY"},
        {"x-api-key": "KEY", "authorization": "Basic abc"},
        {"api-key": "KEY"},
        {"x-litellm-api-key": "Bearer KEY"},
    ],
)
def test_a_key_is_found_in_every_usual_header(proxy: Proxy, headers: dict[str, str]) -> None:
    sent = {name: value.replace("KEY", MASTER_KEY) for name, value in headers.items()}
    answer = httpx.post(f"{proxy.url}/v1/chat/completions", headers=sent, json=CHAT, timeout=30)
    assert answer.status_code == 200, answer.text


async def test_a_revoked_key_stops_in_every_worker_within_two_seconds(
    proxy: Proxy, store: KeyStore
) -> None:
    made = await store.create(name="short-lived", created_by="test")
    assert {proxy.chat(made.key).status_code for _ in range(12)} == {200}
    await store.revoke(made.record.id)
    end = time.monotonic() + 2
    while time.monotonic() < end and {proxy.chat(made.key).status_code for _ in range(6)} != {401}:
        pass
    assert {proxy.chat(made.key).status_code for _ in range(24)} == {401}
    assert proxy.chat(made.key).json()["error"]["code"] == "revoked_key"


REFUSED_FOR_A_CALLER = [
    ("GET", "/health", 422),
    ("GET", "/health/services", 422),
    ("POST", "/health/test_connection", 422),
    ("GET", "/model/info", 403),
    ("GET", "/v1/model/info", 403),
    ("GET", "/router/settings", 403),
    ("GET", "/get/config/callbacks", 403),
    ("GET", "/config/list", 403),
    ("GET", "/routes", 403),
    ("POST", "/key/generate", 403),
    ("GET", "/key/info", 403),
    ("POST", "/model/new", 403),
    ("POST", "/config/update", 403),
    ("POST", "/cache/flushall", 403),
    ("GET", "/cache/ping", 403),
    ("GET", "/spend/logs", 403),
    ("POST", "/utils/token_counter", 422),
    ("POST", "/utils/transform_request", 422),
    ("POST", "/v1/images/generations", 422),
    ("POST", "/v1/audio/speech", 422),
    ("POST", "/v1/batches", 422),
    ("GET", "/v1/files", 422),
    ("POST", "/v1/moderations", 422),
    ("POST", "/v1/rerank", 422),
    ("POST", "/anthropic/v1/messages", 422),
    ("POST", "/openai/v1/chat/completions", 422),
    ("POST", "/openai_passthrough/v1/chat/completions", 422),
    ("POST", "/vllm/v1/chat/completions", 422),
    ("POST", "/v1beta/models/FAST:generateContent", 422),
    ("POST", "/engines/FAST/chat/completions", 422),
    ("POST", "/openai/deployments/FAST/chat/completions", 422),
    ("POST", "/cursor/chat/completions", 422),
    ("POST", "/queue/chat/completions", 422),
    ("GET", "/v1/responses/resp_1", 422),
    ("DELETE", "/v1/responses/resp_1", 422),
    ("GET", "/v1/assistants", 422),
    ("POST", "/model/v1/batches", 422),
    ("POST", "/prompts/test", 422),
]


@pytest.mark.parametrize(("method", "path", "status"), REFUSED_FOR_A_CALLER)
def test_a_caller_is_refused_with_a_clean_body(
    proxy: Proxy, caller_key: str, method: str, path: str, status: int
) -> None:
    answer = proxy.request(method, path, caller_key, CHAT if method == "POST" else None)
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error["code"] == ("forbidden" if status == 403 else "unsupported_request")
    assert error["message"]
    assert answer.headers["x-should-retry"] == "false"
    if status == 422:
        assert proxy.request(method, path, MASTER_KEY, CHAT).status_code == 422


def test_a_key_in_the_address_opens_no_forwarding_route(proxy: Proxy, caller_key: str) -> None:
    path = f"/gemini/v1beta/models/x:generateContent?key={caller_key}"
    assert proxy.request("POST", path, None, CHAT).status_code == 422
    assert proxy.request("POST", f"/v1/chat/completions?key={caller_key}", None, CHAT).is_error


@pytest.fixture(scope="module")
def caller_key(proxy: Proxy) -> str:
    return proxy.make_key("caller")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/chat/completions/",
        "//v1/chat/completions",
        "/V1/chat/completions",
        "/v1/chat/../../health",
        "/v1%2Fchat/completions/%2e%2e/health",
        "/HEALTH",
        "/health/",
        "/%68ealth",
        "/anthropic//v1/messages",
        "/x/mcp",
    ],
)
def test_a_bent_path_wins_nothing(proxy: Proxy, caller_key: str, path: str) -> None:
    """Sent as raw bytes, since HTTP clients tidy such paths up."""
    for method in ("GET", "POST"):
        status, body = raw_request(proxy, method, path, caller_key)
        assert status in (307, 401, 403, 404, 405, 422), (method, path, status, body)
        assert "hello" not in body
        assert "healthy_endpoints" not in body


def raw_request(proxy: Proxy, method: str, path: str, key: str) -> tuple[int, str]:
    host, port = proxy.url.removeprefix("http://").split(":")
    body = json.dumps(CHAT)
    with closing(socket.create_connection((host, int(port)), 10)) as wire:
        wire.sendall(
            f"{method} {path} HTTP/1.1\r\nhost: {host}/?x=1\r\nauthorization: Bearer {key}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
            f"connection: close\r\n\r\n{body}".encode()
        )
        answer = b""
        while chunk := wire.recv(65536):
            answer += chunk
    return int(answer.split(b" ", 2)[1]), answer.decode(errors="replace")


def test_a_viewer_reads_what_is_listed_and_no_more(proxy: Proxy) -> None:
    key = proxy.make_key("viewer", Role.VIEWER)
    assert proxy.get("/model/info", key).status_code == 200
    assert proxy.get("/router/settings", key).status_code == 403
    assert proxy.get("/farebox/whoami", key).json() == {"name": "viewer", "role": "viewer"}
    assert proxy.get("/farebox/keys", key).status_code == 403
    assert proxy.get("/farebox/whoami", proxy.make_key("plain")).status_code == 403


def test_the_master_key_is_an_admin(proxy: Proxy) -> None:
    assert proxy.chat(MASTER_KEY).status_code == 200
    assert proxy.get("/router/settings", MASTER_KEY).status_code == 200
    assert proxy.get("/farebox/whoami", MASTER_KEY).json() == {"name": "master", "role": "admin"}
    assert proxy.get("/health/readiness").status_code == 200


@pytest.mark.parametrize("path", ["/v1/responses", "/responses", "/v1/realtime?model=FAST"])
def test_web_sockets_are_refused(proxy: Proxy, caller_key: str, path: str) -> None:
    answer = httpx.get(
        proxy.url + path,
        headers={
            "authorization": f"Bearer {caller_key}",
            "connection": "Upgrade",
            "upgrade": "websocket",
            "sec-websocket-version": "13",
            "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
        },
        timeout=10,
    )
    assert answer.status_code == 403


def test_with_a_database_litellms_own_authentication_takes_over() -> None:
    """Without Postgres only the hand-over can be seen: LiteLLM answers in place of Farebox."""
    tail = "litellm_auth.database_in_use = lambda: True\n"
    with tempfile.TemporaryDirectory(prefix="fbx") as name:
        folder = Path(name)
        with (
            running_redis(folder) as redis_url,
            running_proxy(folder, redis_url, entry_tail=tail) as proxy,
        ):
            assert proxy.chat(MASTER_KEY).status_code == 200
            refused = proxy.chat("sk-fbx-aaaaaaaaaa-" + "b" * 43)
            assert refused.status_code in (400, 401)
            assert "x-farebox-code" not in refused.headers
            assert proxy.get("/health", MASTER_KEY).status_code == 422
            assert proxy.get("/farebox/whoami", MASTER_KEY).json()["role"] == "admin"
            assert proxy.get("/farebox/whoami", "sk-wrong").status_code == 401
