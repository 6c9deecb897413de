"""A real LiteLLM proxy with Farebox in it, as a process, on a configuration of the test's own.

The configuration is the pack's, copied into a folder of its own, with every group sent to the fake
upstream as a real provider would be: by `api_base` and `api_key` in the file.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import httpx

from tests.support import launcher, quick_yaml

ROOT = Path(__file__).resolve().parents[2]
MASTER_KEY = "sk-farebox-tests-9f2c77b1e0d84c55"
READY_S_MAX = 150.0
STOP_S_MAX = 30.0
PORTS_FROM = 20_000
PORTS_EACH = 1_000
_port_counter = itertools.count(os.getpid() % PORTS_EACH)
_T = TypeVar("_T")


def free_port() -> int:
    """Return a port of the loopback that nobody listens on, and that nobody else is given.

    The system never hands these out by itself, and each process of a test run has its own: a port
    that is promised to a proxy does not become a neighbour's before the proxy listens on it.
    """
    for _ in range(PORTS_EACH):
        port = _next_port()
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port
    raise AssertionError("no port is free")


def _next_port() -> int:
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    return PORTS_FROM + worker % 8 * PORTS_EACH + next(_port_counter) % PORTS_EACH


def wait_until(condition: Callable[[], _T], timeout_s: float = 15.0, what: str = "") -> _T:
    """Return the condition's value once it is true; fail with `what` after the bound."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s} s: {what or condition}")
        time.sleep(0.05)


class Pack:
    """A copy of the configuration pack in a folder, with short ways to edit it."""

    def __init__(self, folder: Path, upstream: str | None) -> None:
        self.folder = folder
        for name in ("litellm_config.yaml", "hooks/routing.yaml", "budgets/budgets.yaml"):
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target)
        if upstream is not None:
            with self.edit("litellm_config.yaml") as config:
                for entry in config["model_list"]:
                    entry["litellm_params"] |= {"api_base": upstream, "api_key": "sk-upstream"}

    def path(self, name: str) -> Path:
        """Return one of the three files by its name in the pack."""
        return self.folder / name

    @contextlib.contextmanager
    def edit(self, name: str) -> Iterator[Any]:
        """Give the file's data to change, and write it back as an editor would: by a rename."""
        path = self.path(name)
        data = quick_yaml.load(path.read_text())
        yield data
        fresh = path.with_suffix(".new")
        fresh.write_text(quick_yaml.dump(data))
        fresh.replace(path)

    def edit_budgets(self) -> contextlib.AbstractContextManager[Any]:
        """Edit budgets.yaml."""
        return self.edit("budgets/budgets.yaml")

    def edit_routing(self) -> contextlib.AbstractContextManager[Any]:
        """Edit routing.yaml."""
        return self.edit("hooks/routing.yaml")

    def edit_litellm(self) -> contextlib.AbstractContextManager[Any]:
        """Edit litellm_config.yaml."""
        return self.edit("litellm_config.yaml")


class ProxyProcess:
    """`litellm --config …` with Farebox, on a free port of the loopback."""

    def __init__(
        self,
        pack: Pack,
        *,
        redis_url: str | None = None,
        workers: int = 1,
        environment: Mapping[str, str] | None = None,
        home: Path | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.pack = pack
        self.cwd = cwd or pack.folder
        self.port = free_port()
        self.base_url = f"http://127.0.0.1:{self.port}"
        self.workers = workers
        self.log = pack.folder / f"proxy-{self.port}.log"
        self._process: launcher.Process | None = None
        self._environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("LANGFUSE_", "FAREBOX_"))},
            "LITELLM_MASTER_KEY": MASTER_KEY,
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "FAREBOX_HOME": str(home or pack.folder / ".farebox"),
            "PYTHONPATH": str(ROOT),
            **({"REDIS_URL": redis_url} if redis_url else {}),
            **(environment or {}),
        }

    @property
    def pid(self) -> int:
        """The process that was started; with several workers it is their parent."""
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self, wait: bool = True) -> None:
        """Start it, and wait until it serves."""
        arguments = [
            "--config",
            str(self.pack.path("litellm_config.yaml")),
            "--host",
            "127.0.0.1",
            "--port",
            str(self.port),
            "--keepalive_timeout",
            "75",
            "--num_workers",
            str(self.workers),
        ]
        if self.workers > 1:
            # A worker that starts for longer than uvicorn's five seconds would be killed.
            arguments += ["--timeout_worker_healthcheck", "120"]
        self._process = launcher.start(
            arguments, self._environment, self.cwd, self.log, self.workers
        )
        if wait:
            self.wait_ready()

    def wait_ready(self) -> None:
        """Wait until the proxy answers, or fail with the end of its log."""
        deadline = time.monotonic() + READY_S_MAX
        while time.monotonic() < deadline:
            assert self._process is not None
            if self._process.poll() is not None:
                break
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.base_url}/health/liveliness", timeout=2).status_code == 200:
                    return
            time.sleep(0.1)
        raise AssertionError(f"the proxy does not serve:\n{self.log_text()[-4000:]}")

    def stop(self, sig: int = signal.SIGTERM) -> None:
        """Stop it as a supervisor would, and its workers with it."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        os.killpg(process.pid, sig)
        try:
            process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def __enter__(self) -> ProxyProcess:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def log_text(self) -> str:
        """Return everything that the proxy wrote."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def post(self, path: str, body: Any, key: str = MASTER_KEY, **options: Any) -> httpx.Response:
        """POST JSON with a key."""
        headers = {"Authorization": f"Bearer {key}", **options.pop("headers", {})}
        return httpx.post(self.base_url + path, json=body, headers=headers, timeout=60, **options)

    def get(self, path: str, key: str = MASTER_KEY) -> httpx.Response:
        """GET with a key."""
        headers = {"Authorization": f"Bearer {key}"}
        return httpx.get(self.base_url + path, headers=headers, timeout=60)

    def chat(
        self, text: str, model: str = "auto", key: str = MASTER_KEY, **fields: Any
    ) -> httpx.Response:
        """Send one chat completion without retries."""
        body = {"model": model, "messages": [{"role": "user", "content": text}], **fields}
        return self.post("/v1/chat/completions", body, key)
