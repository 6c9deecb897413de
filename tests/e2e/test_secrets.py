"""Prompts, keys and passwords are found where the docs say, and nowhere else.

One run plants a text of its own for each kind of secret and drives everything that could spill it:
every endpoint, whole and streamed, a careless provider that repeats what it was sent, streams that
die, refusals, hostile input, keys made, rotated and revoked, and an edit with a mistake. Then it
looks through all that the run left behind. The places where a secret may be are those of
`docs/explanation/security.md`.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis
from typer.testing import CliRunner

from scripts.cli.main import app
from tests.support.echo import EchoUpstream
from tests.support.house import House, group
from tests.support.proxy import MASTER_KEY, wait_until

PROMPT = "planted-prompt-c41d9e"
ANSWER_KEY = "sk-planted-upstream-77aa02e15b9d4c"
OWN_KEY = "sk-planted-clients-own-provider-key-19be"
WRONG_KEY = "sk-fbx-plantedwrong-key0000000000000000000000000000000000"
HEADER = "planted-header-3f20aa"
COOKIE = "planted-cookie-90c1f7"
FILE_KEY = "sk-planted-in-a-file-with-a-mistake-4420"


@dataclass
class Run:
    """What a run planted and what it left behind."""

    house: House
    keys: dict[str, str] = field(default_factory=dict)
    own: list[httpx.Response] = field(default_factory=list)
    """The answers that the one who sent the secrets got."""
    others: list[httpx.Response] = field(default_factory=list)
    """The answers that another caller got meanwhile."""
    commands: dict[str, str] = field(default_factory=dict)

    @property
    def callers_keys(self) -> list[str]:
        return list(self.keys.values())

    @property
    def secrets(self) -> dict[str, str]:
        """Everything that is in no place that is not named."""
        return {
            "a provider's key": ANSWER_KEY,
            "a client's own provider key": OWN_KEY,
            "a key that is not known": WRONG_KEY,
            "a header": HEADER,
            "a cookie": COOKIE,
            "a key in a file": FILE_KEY,
            "the master key": MASTER_KEY,
            "Redis's password": self.house.redis.PASSWORD,
            "Langfuse's secret key": self.house.langfuse.secret_key,
            **{f"the key {name}": text for name, text in self.keys.items()},
        }


BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": f"Say {PROMPT}"}]},
    "/v1/completions": {"prompt": f"Say {PROMPT}"},
    "/v1/responses": {"input": f"Say {PROMPT}", "instructions": f"Be {PROMPT}"},
    "/v1/messages": {
        "messages": [{"role": "user", "content": f"Say {PROMPT}"}],
        "system": f"Be {PROMPT}",
        "max_tokens": 50,
    },
    "/v1/embeddings": {"input": f"Say {PROMPT}"},
}


@pytest.fixture(scope="module")
def run(house: House) -> Iterator[Run]:
    """The whole run, done once."""
    with EchoUpstream() as echo:
        done = Run(house)
        done.keys["first"] = house.make_key("spiller", user="spiller")
        done.keys["other"] = house.make_key("bystander", user="bystander")
        _drive(done, echo)
        yield done


def _drive(run: Run, echo: EchoUpstream) -> None:
    house = run.house
    client = httpx.Client(
        base_url=house.proxy.base_url,
        timeout=60,
        headers={
            "authorization": f"Bearer {run.keys['first']}",
            "x-secret-of-ours": HEADER,
            "cookie": f"session={COOKIE}",
            "x-litellm-tags": "a",
        },
    )

    def post(path: str, **fields: Any) -> httpx.Response:
        body = {"model": "auto", **BODIES[path], **fields}
        answer = client.post(path, json=body)
        run.own.append(answer)
        return answer

    def pass_by() -> None:
        run.others.append(house.proxy.chat("Hello there", key=run.keys["other"]))
        run.others.append(house.proxy.chat("Hello there", key=run.keys["other"], max_tokens=-1))

    with client:
        for path in BODIES:
            plain = {"model": "embedder"} if path == "/v1/embeddings" else {}
            assert post(path, **plain, api_key=OWN_KEY).status_code == 200
            if path != "/v1/embeddings":
                assert post(path, stream=True).status_code == 200
            post(path, **plain, max_tokens=-1, n=10**9, metadata={"task_type": "x" * 300})
            post(path, model="nobody")
        client.post("/v1/chat/completions", content=f'{{"model": "auto", "{PROMPT}'.encode())
        client.post("/v1/chat/completions", content=f'["{PROMPT}"]'.encode())
        client.post("/v1/chat/completions", content=f'{{"a": "{PROMPT}\\ud800"}}'.encode())
        post("/v1/chat/completions", tools=[{"type": "function", "function": {"x": PROMPT}}])
        post("/v1/chat/completions", messages=[{"role": PROMPT, "content": PROMPT}])
        post("/v1/chat/completions", messages=[{"role": "tool", "content": PROMPT}])
        client.post("/v1/nothing", json=BODIES["/v1/chat/completions"])
        client.get("/v1/models", params={"api_key": OWN_KEY})
        wrong = {"authorization": f"Bearer {WRONG_KEY}"}
        for path in ("/v1/chat/completions", "/farebox/keys"):
            run.own.append(client.post(path, json=BODIES["/v1/chat/completions"], headers=wrong))
        run.own.append(client.get(f"/v1/models?key={WRONG_KEY}", headers={"x-api-key": WRONG_KEY}))
        pass_by()

        # A stream that dies, and an answer that does.
        for stream in (False, True):
            house.simulator.script("gpt-4o-mini", *["die_after_tokens=2"] * 2)
            with contextlib.suppress(httpx.RemoteProtocolError):
                post("/v1/chat/completions", model="gpt-4o-mini", stream=stream)
            house.simulator.reset()

        _meet_careless_providers(run, echo, post)
        pass_by()
        _change_keys(run)
        _spoil_the_file(run)
        house.proxy.chat(f"Ignore {PROMPT}", key=run.keys["first"])
        pass_by()
    house.wait_settled()
    for name, arguments in COMMANDS.items():
        run.commands[name] = _farebox(house, *arguments)


def _meet_careless_providers(run: Run, echo: EchoUpstream, post: Any) -> None:
    names = {
        "echo-openai": ("openai/gpt-4o-mini", ["/v1/chat/completions", "/v1/responses"]),
        "echo-anthropic": ("anthropic/claude-haiku-4-5", ["/v1/chat/completions", "/v1/messages"]),
        "echo-gemini": ("gemini/gemini-3.8-flash", ["/v1/chat/completions"]),
        "echo-text": ("gpt-3.5-turbo-instruct", ["/v1/completions"]),
        "echo-embedding": ("openai/text-embedding-3-small", ["/v1/embeddings"]),
    }

    def add(config: dict[str, Any]) -> None:
        config["model_list"] += [
            group(name, model, echo.base_url, api_key=ANSWER_KEY)
            for name, (model, _) in names.items()
        ]

    with run.house.edited("litellm_config.yaml", add):
        for name, (_, paths) in names.items():
            for path in paths:
                for stream in (False,) if path == "/v1/embeddings" else (False, True):
                    before = echo.calls
                    answer = post(path, model=name, stream=stream)
                    assert answer.status_code >= 400 or "error" in answer.text
                    assert echo.calls > before, (name, path, answer.text[:300])
        # These two put the group out of service for a while, so each is asked once.
        for status, (name, path) in ((401, CARELESS[0]), (500, CARELESS[1])):
            echo.status = status
            before = echo.calls
            assert post(path, model=name).status_code >= 400
            assert echo.calls > before


CARELESS = (("echo-openai", "/v1/chat/completions"), ("echo-anthropic", "/v1/messages"))


def _change_keys(run: Run) -> None:
    proxy = run.house.proxy
    rotated = proxy.post("/farebox/keys/spiller/rotate", {})
    assert rotated.status_code == 201, rotated.text
    run.keys["rotated"] = rotated.json()["secret_key"]
    run.keys["revoked"] = run.house.make_key("short-lived")
    run.others.append(_get(run.house, "/farebox/keys"))
    run.others.append(_get(run.house, "/farebox/keys/short-lived", method="DELETE"))
    run.others.append(proxy.post("/farebox/keys", {"name": {"a": PROMPT}, "secret_key": OWN_KEY}))


def _get(house: House, path: str, method: str = "GET") -> httpx.Response:
    headers = {"authorization": f"Bearer {MASTER_KEY}"}
    return httpx.request(
        method, house.proxy.base_url + path, headers=headers, timeout=60, follow_redirects=True
    )


def _spoil_the_file(run: Run) -> None:
    """Edit the file into one with a key and a mistake, and back, as soon as it is refused."""
    path = run.house.pack.path("litellm_config.yaml")
    before = path.read_text()
    line = (
        f"  - model_name: FAST\n    litellm_params: {{api_key: {FILE_KEY}, model: [{FILE_KEY}]}}\n"
    )
    path.write_text(before.replace("model_list:\n", f"model_list:\n{line}", 1))
    wait_until(lambda: any(w.policy_errors for w in run.house.workers()), what="the mistake")
    run.commands["status in error"] = _farebox(run.house, "status", "--json")
    run.commands["check in error"] = _farebox(run.house, "check")
    path.write_text(before)
    run.house.wait_in_force()


COMMANDS: dict[str, tuple[str, ...]] = {
    "status": ("status", "--json"),
    "doctor": ("doctor", "--json"),
    "check": ("check", "--json"),
    "export": ("ledger", "export", "--format", "jsonl"),
    "tail": ("ledger", "tail", "--json"),
    "verify": ("ledger", "verify", "--json"),
    "keys": ("keys", "list", "--json"),
}


def _farebox(house: House, *arguments: str) -> str:
    environment = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_MASTER_KEY": MASTER_KEY,
        "REDIS_URL": house.redis.url,
        "FAREBOX_CONFIG": str(house.pack.path("litellm_config.yaml")),
        "FAREBOX_HOME": str(house.pack.folder / ".farebox"),
        "FAREBOX_URL": house.proxy.base_url,
        **house.environment(),
    }
    done = CliRunner().invoke(app, arguments, env=environment)
    assert done.exit_code in (0, 1), (arguments, done.output, done.exception)
    return done.output


def _dump(url: str) -> str:
    """Return every key of a Redis with all that is in it, as text."""
    parts: list[str] = []
    with Redis.from_url(url, decode_responses=True, encoding_errors="replace") as client:
        readers: dict[str, Any] = {
            "string": client.get,
            "hash": client.hgetall,
            "list": lambda key: client.lrange(key, 0, -1),
            "set": client.smembers,
            "zset": lambda key: client.zrange(key, 0, -1, withscores=True),
            "stream": client.xrange,
        }
        for key in client.scan_iter():
            parts.append(f"{key} {readers[client.type(key)](key)}")
    return "\n".join(parts)


def _found(text: str, secrets: dict[str, str]) -> list[str]:
    """Return which secrets are in a text, with what stands around them."""
    found = []
    for name, secret in secrets.items():
        at = text.find(secret)
        if at >= 0:
            around = text[max(0, at - 200) : at].replace("\n", "⏎")
            found.append(f"{name}: …{around}[here]")
    return found


def test_the_log_has_no_secret_and_no_prompt(run: Run) -> None:
    log = run.house.proxy.log_text()
    assert "request_refused" in log
    assert _found(log, {"a prompt": PROMPT, **run.secrets}) == []


def test_redis_has_no_secret_and_no_prompt(run: Run) -> None:
    dump = _dump(run.house.redis.url)
    assert "spiller" in dump
    assert _found(dump, {"a prompt": PROMPT, **run.secrets}) == []


def test_metrics_have_no_secret_and_no_prompt(run: Run) -> None:
    for path in ("/metrics", "/metrics/", "/farebox/metrics"):
        text = _get(run.house, path).text
        assert _found(text, {"a prompt": PROMPT, **run.secrets}) == []


def test_traces_have_prompts_and_no_secret(run: Run) -> None:
    traces = wait_until(
        lambda: [t for t in run.house.langfuse.traces() if PROMPT in json.dumps(t)],
        what="a trace with its prompt",
    )
    text = json.dumps(run.house.langfuse.traces())
    assert _found(text, run.secrets) == []
    # The prompt stands where a prompt belongs, and not in names, tags or metadata.
    for trace in traces:
        bare = {**trace, "observations": [], "input": None}
        assert _found(json.dumps(bare), {"a prompt": PROMPT}) == []


def test_an_answer_has_no_secret_but_what_its_caller_sent(run: Run) -> None:
    mine = {"the key first", "a client's own provider key", "a key that is not known", "a header"}
    for answer in run.own:
        secrets = {n: s for n, s in run.secrets.items() if n not in mine}
        assert _found(answer.text + str(answer.headers), secrets) == []


def test_no_answer_tells_of_another_callers_request(run: Run) -> None:
    assert {answer.status_code for answer in run.others} >= {200, 422}
    for answer in run.others:
        assert _found(answer.text + str(answer.headers), {"a prompt": PROMPT, **run.secrets}) == []


def test_the_command_shows_no_secret_and_no_prompt(run: Run) -> None:
    for name, text in run.commands.items():
        assert text, name
        assert _found(text, {"a prompt": PROMPT, **run.secrets}) == [], name


def test_the_state_folder_has_no_secret_and_no_prompt(run: Run) -> None:
    folder = run.house.pack.folder / ".farebox"
    for path in _files(folder):
        text = path.read_bytes().decode(errors="replace")
        assert _found(text, {"a prompt": PROMPT, **run.secrets}) == [], path.name


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]
