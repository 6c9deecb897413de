"""The proxy that the tests of behaviour share, and a pair of workers for what concerns several.

A `House` is the pack with budgets that single tests need, on a Redis that can be stopped and
started, with its traces going to a Langfuse of ours. The `Pair` is the pack as a stranger starts
it: two workers, the embedded Redis, from another folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
from redis import Redis
from redis.exceptions import RedisError

from budgets import connection, workers
from budgets.workers import WorkerStatus
from scripts.simulator.process import SimulatorProcess
from tests.ledger.conftest import redis_server_binary
from tests.support.langfuse_receiver import LangfuseReceiver
from tests.support.proxy import MASTER_KEY, Pack, ProxyProcess, free_port, wait_until
from tests.support.stack import Books

LEDGER = "house"


class RedisProcess:
    """A Redis server on a fixed port, with its data on disk, that a test may stop and start."""

    PASSWORD = "redis-password-5b1e07"

    def __init__(self, appendonly: bool = True) -> None:
        self.appendonly = "yes" if appendonly else "no"
        self.port = free_port()
        self.url = f"redis://:{self.PASSWORD}@127.0.0.1:{self.port}/0"
        self._folder = tempfile.TemporaryDirectory(prefix="fb")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, wipe: bool = False) -> None:
        """Start it and wait until it answers; with `wipe`, without the data that it had."""
        if wipe:
            self._folder.cleanup()
            self._folder = tempfile.TemporaryDirectory(prefix="fb")
        command = [redis_server_binary(), "--port", str(self.port), "--bind", "127.0.0.1"]
        command += ["--dir", self._folder.name, "--save", "", "--appendonly", self.appendonly]
        command += ["--requirepass", self.PASSWORD]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        wait_until(self._answers, what="Redis answers")

    def stop(self) -> None:
        """Stop it; what it was told stays on disk."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(timeout=10)
            self.process = None

    def kill(self) -> None:
        """Kill it without a chance to write anything."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(timeout=10)
        self.process = None

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Stop its clock, as it were: it holds its connections and answers nobody."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        """Stop it for good."""
        self.stop()
        self._folder.cleanup()

    def _answers(self) -> bool:
        with Redis.from_url(self.url) as client, contextlib.suppress(RedisError):
            return bool(client.ping())
        return False


def read_workers(url: str, ledger: str) -> tuple[WorkerStatus, ...]:
    """Return what the living workers of a ledger say about themselves."""

    async def read() -> tuple[WorkerStatus, ...]:
        client = connection.connect(url)
        try:
            return await workers.read(client, ledger, time.time_ns() // 1_000_000)
        finally:
            await client.aclose()

    return asyncio.run(read())


class Gate:
    """What a client of either kind needs of a running proxy."""

    proxy: ProxyProcess
    simulator: SimulatorProcess

    def openai(self, key: str = MASTER_KEY, **options: Any) -> openai.OpenAI:
        """An OpenAI client with the SDK's own retries, as a user has it."""
        return openai.OpenAI(
            base_url=f"{self.proxy.base_url}/v1", api_key=key, **{"timeout": 60, **options}
        )

    def anthropic(self, key: str = MASTER_KEY, **options: Any) -> anthropic.Anthropic:
        """An Anthropic client with the SDK's own retries, as a user has it."""
        return anthropic.Anthropic(
            base_url=self.proxy.base_url, api_key=key, **{"timeout": 60, **options}
        )

    def last_call(self) -> int:
        """Return the number of the last call, once none is in flight."""
        self.simulator.wait_until_idle()
        calls = self.simulator.calls()
        return int(calls[-1]["seq"]) if calls else 0

    def calls_since(self, seq: int) -> list[dict[str, Any]]:
        """Return the calls that ended after call number `seq`, once none is in flight."""
        self.simulator.wait_until_idle()
        return self.simulator.calls(seq)

    def make_key(self, name: str, **more: Any) -> str:
        """Make a caller's key."""
        answer = self.proxy.post("/farebox/keys", {"name": name, **more})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["secret_key"])


class House(Gate):
    """One proxy with everything around it."""

    def __init__(self, folder: Path, simulator: SimulatorProcess) -> None:
        self.simulator = simulator
        self.redis = RedisProcess()
        self.langfuse = LangfuseReceiver()
        self.pack = _pack(folder, simulator.base_url)
        self.books = Books(self.redis.url, LEDGER)
        self.proxy = ProxyProcess(
            self.pack,
            redis_url=self.redis.url,
            environment=self.environment(),
        )

    def __enter__(self) -> House:
        with contextlib.ExitStack() as stack:
            stack.callback(self.redis.end)
            self.redis.start()
            stack.enter_context(self.langfuse)
            stack.callback(self.proxy.stop)
            self.proxy.start()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def environment(self) -> dict[str, str]:
        """Return what the proxy, and the command beside it, are told by variables of their own."""
        return {"FAREBOX_LEDGER": LEDGER, **self.langfuse.environment()}

    def entry_of(self, response: Any) -> dict[str, Any]:
        """Return the entry of an answered request, by its decision, once it stands."""
        return self.entry(response.headers["x-farebox-decision"])

    def entry(self, decision_id: str) -> dict[str, Any]:
        """Return the body of a decision's entry, once it stands, with the cost in the books."""

        def find() -> dict[str, Any] | None:
            for entry in reversed(self.books.entries()):
                body: dict[str, Any] = json.loads(entry.body)
                if body.get("decision_id") == decision_id:
                    return {**body, "cost": entry.cost_nano_usd, "charges": entry.charges}
            return None

        found = wait_until(find, what=f"the entry of {decision_id}")
        assert found is not None
        return found

    def wait_settled(self) -> None:
        """Wait until no hold is open."""
        wait_until(lambda: self.books.holds() == 0, 20, "no hold is open")

    def refusal(self, decision_id: str) -> dict[str, Any]:
        """Return the refusal event of a decision."""
        for event in reversed(self.books.refusals()):
            body: dict[str, Any] = json.loads(event.body)
            if body.get("decision_id") == decision_id:
                return body
        raise AssertionError(f"no refusal with the decision {decision_id}")

    def trace(self, decision_id: str) -> dict[str, Any]:
        """Return the one trace of a decision, once Langfuse has it."""

        def find() -> list[dict[str, Any]]:
            return [
                trace
                for trace in self.langfuse.traces()
                if trace["metadata"].get("decision_id") == decision_id
            ]

        found = wait_until(find, 20, what=f"the trace of {decision_id}")
        assert len(found) == 1, found
        return found[0]

    def workers(self) -> tuple[WorkerStatus, ...]:
        """Return what the worker says about itself."""
        return read_workers(self.redis.url, LEDGER)

    @contextlib.contextmanager
    def edited(self, name: str, change: Callable[[Any], object]) -> Iterator[None]:
        """Edit a file of the pack until the end of the block, in force at its beginning."""
        path = self.pack.path(name)
        before = path.read_text()
        with self.pack.edit(name) as data:
            change(data)
        self.wait_in_force()
        try:
            yield
        finally:
            path.write_text(before)
            self.wait_in_force()

    def wait_in_force(self) -> None:
        """Wait until the worker says that it decides by the files as they are."""
        wanted = revision_of(self.pack)
        wait_until(
            lambda: any(w.policy_digest == wanted for w in self.workers()),
            what="the policy in force",
        )


def revision_of(pack: Pack) -> str:
    """Return the revision that a worker reports for the pack's files as they are now."""
    from hooks.policy import PolicyPaths, load_policy
    from tests.support.policies import price_map

    return load_policy(
        PolicyPaths(
            pack.path("litellm_config.yaml"),
            pack.path("hooks/routing.yaml"),
            pack.path("budgets/budgets.yaml"),
        ),
        price_map(),
    ).revision


def group(name: str, model: str, base_url: str, **params: Any) -> dict[str, Any]:
    """Return a model list's entry, pinned and without health checks."""
    return {
        "model_name": name,
        "litellm_params": {"model": model, "api_base": base_url, "api_key": "sk-up", **params},
        "model_info": {"id": f"test-{name}", "disable_background_health_check": True},
    }


TINY_BUDGETS: Mapping[str, Mapping[str, Any]] = {
    # Nothing fits into it.
    "pauper": {"match": {"user": "pauper"}, "limit_usd": 0.000001, "period": "day"},
    # Nothing by the group that FAST prefers fits into it.
    "thrifty": {
        "match": {"user": "thrifty", "model": "gemini-flash"},
        "limit_usd": 0.000001,
        "period": "day",
    },
    # One request at a time fits into it.
    "narrow": {"match": {"user": "narrow"}, "limit_usd": 0.02, "period": "day"},
    # Nothing fits into it either, and a person may be asked.
    "asking": {
        "match": {"team": "asking"},
        "limit_usd": 0.000001,
        "period": "day",
    },
    # For grants and transfers; nothing else asks for them.
    "giver": {"match": {"user": "giver"}, "limit_usd": 0.02, "period": "day"},
    "getter": {"match": {"user": "getter"}, "limit_usd": 0.02, "period": "day"},
    "careful": {"match": {"user": "careful"}, "limit_usd": 5, "per_request_cap_usd": 0.0001},
}


def _pack(folder: Path, base_url: str) -> Pack:
    pack = Pack(folder, base_url)
    with pack.edit_litellm() as config:
        config["model_list"] += [
            group("embedder", "openai/text-embedding-3-small", base_url),
            group("writer", "gpt-3.5-turbo-instruct", base_url),
            group("first", "openai/gpt-4o-mini", base_url),
            group("second", "anthropic/claude-sonnet-5-5", base_url),
            group("plain", "openai/gpt-3.5-turbo", base_url),
        ]
        config["router_settings"]["fallbacks"].append({"first": ["second"]})
    with pack.edit_budgets() as budgets:
        budgets["budgets"] |= {name: dict(rule) for name, rule in TINY_BUDGETS.items()}
        budgets["escalation"]["budgets"] = {"asking": ["approval", "queue"]}
    with pack.edit_routing() as routing:
        # A task type that no other test names, with a gate whose first answer can fail.
        routing["task_types"]["judged"] = {
            "tier": "execute",
            "floor": "COMPLEX",
            "expected_output_tokens": 100,
            "cascade": {
                "steps": ["gpt-4o-mini", "claude-haiku"],
                "gate": {"kind": "contains", "all": ["good"]},
            },
        }
    return pack


class Pair(Gate):
    """Two workers on the embedded Redis, started from a folder that is not the pack's."""

    LEDGER = "default"

    def __init__(self, folder: Path, simulator: SimulatorProcess) -> None:
        self.simulator = simulator
        self.folder = folder
        self.pack = Pack(folder / "pack", simulator.base_url)
        self.home = self.pack.folder / ".farebox"
        # An address without keys: nothing may connect to it.
        self.nobody = LangfuseReceiver()
        self.proxy = self._fresh()

    def _fresh(self) -> ProxyProcess:
        # As `serve` does for several workers.
        metrics = self.folder / "prometheus"
        metrics.mkdir(exist_ok=True)
        return ProxyProcess(
            self.pack,
            workers=2,
            cwd=self.folder,
            environment={
                "LANGFUSE_HOST": self.nobody.url,
                "LANGFUSE_BASE_URL": self.nobody.url,
                "PROMETHEUS_MULTIPROC_DIR": str(metrics),
            },
        )

    def __enter__(self) -> Pair:
        self.nobody.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.proxy.stop()
        self.nobody.__exit__()

    def running(self) -> Pair:
        """Start the proxy unless it runs, and wait until both workers say so."""
        if not self.proxy.running:
            self.proxy = self._fresh()
            self.proxy.start()
        wait_until(lambda: len(self.workers()) == 2, 60, "two workers")
        return self

    @property
    def redis_url(self) -> str:
        """The embedded server's address, as its folder says; holds nothing."""
        socket = (self.home / "redis" / "socket").read_text()
        return f"unix://{socket}"

    def workers(self) -> tuple[WorkerStatus, ...]:
        """Return what the workers say about themselves."""
        return read_workers(self.redis_url, self.LEDGER)

    @property
    def books(self) -> Books:
        """The ledger as it stands."""
        return Books(self.redis_url, self.LEDGER)

    def ask(self, text: str, **fields: Any) -> httpx.Response:
        """Send one chat completion on a connection of its own, so that any worker may take it."""
        return self.proxy.chat(text, **fields)
