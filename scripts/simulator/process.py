"""The simulator as a child process, for tests and for `./scripts/serve`."""

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

READY_S_MAX = 30.0
STOP_S_MAX = 5.0
IDLE_S_MAX = 10.0
POLL_S = 0.01
_ROOT = Path(__file__).resolve().parents[2]


class SimulatorError(RuntimeError):
    """The simulator did not start, or did not do as asked."""


class SimulatorProcess:
    """Start it with `with SimulatorProcess() as simulator:`; it is stopped at the end.

    It runs in a session of its own, so that Ctrl-C reaches its owner alone, who stops it last;
    should the owner be killed, it notices and ends by itself.
    """

    def __init__(
        self,
        prices: Mapping[str, Mapping[str, object]] | None = None,
        *,
        prices_file: Path | None = None,
        port: int = 0,
        first_token_ms: float | None = None,
        token_ms: float | None = None,
    ) -> None:
        """`prices`: model -> USD a token; without it and a file, LiteLLM's bundled map."""
        self._prices = prices
        self._prices_file = prices_file
        self._options = ["--port", str(port)]
        if first_token_ms is not None:
            self._options += ["--first-token-ms", str(first_token_ms)]
        if token_ms is not None:
            self._options += ["--token-ms", str(token_ms)]
        self._process: subprocess.Popen[bytes] | None = None
        self._client: httpx.Client | None = None
        self.base_url = ""
        """Without a path: `http://127.0.0.1:PORT`."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        if self._process is None:
            raise SimulatorError("The simulator is not running: call start() first.")
        return self._process.pid

    def start(self) -> None:
        """Start and wait until it listens. Raises SimulatorError after 30 s."""
        with tempfile.TemporaryDirectory(prefix="farebox-simulator-") as folder:
            options = [*self._options, "--parent-pid", str(os.getpid())]
            prices_file = self._prices_file
            if self._prices is not None:
                prices_file = Path(folder) / "prices.json"
                prices_file.write_text(json.dumps(self._prices, default=str), encoding="utf-8")
            if prices_file is not None:
                options += ["--prices", str(prices_file)]
            with tempfile.TemporaryFile() as errors:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "scripts.simulator", *options],
                    cwd=_ROOT,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    start_new_session=True,
                )
                line = self._first_line(self._process)
                if not line:
                    self.stop()
                    errors.seek(0)
                    reason = errors.read().decode(errors="replace").strip()[-2000:]
                    raise SimulatorError(f"The simulator did not start: {reason or 'no reason'}")
        self.base_url = str(json.loads(line)["base_url"])
        # `trust_env`: a proxy set for this machine must not get between.
        self._client = httpx.Client(base_url=self.base_url, timeout=30.0, trust_env=False)

    @staticmethod
    def _first_line(process: subprocess.Popen[bytes]) -> bytes:
        assert process.stdout is not None
        deadline = time.monotonic() + READY_S_MAX
        line = b""
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([process.stdout], [], [], deadline - time.monotonic())
            part = os.read(process.stdout.fileno(), 4096) if ready else b""
            if not part:
                return b""
            line += part
        return line

    def stop(self) -> None:
        """Stop it; a second stop does nothing."""
        if self._client is not None:
            self._client.close()
            self._client = None
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()

    def _call(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        if self._client is None:
            raise SimulatorError("The simulator is not running: call start() first.")
        response = self._client.request(method, path, json=body)
        if response.status_code != 200:
            raise SimulatorError(f"{path} answered {response.status_code}: {response.text[:500]}")
        answer: dict[str, Any] = response.json()
        return answer

    def bill(self) -> dict[str, Any]:
        """Totals: calls, in_flight, billed_nano_usd, by_model, by_flag."""
        return self._call("GET", "/_sim/bill")

    def calls(self, since: int = 0) -> list[dict[str, Any]]:
        """The calls that ended after call number `since`, oldest first."""
        calls: list[dict[str, Any]] = self._call("GET", f"/_sim/calls?since={since}")["calls"]
        return calls

    def script(self, model: str, *behaviours: Mapping[str, Any] | str) -> None:
        """Queue one behaviour for each of the next calls of `model` (`*`: of any)."""
        items = [item if isinstance(item, str) else dict(item) for item in behaviours]
        self._call("POST", "/_sim/script", {"model": model, "behaviours": items})

    def reset(self) -> None:
        """Forget the bill and the script."""
        self._call("POST", "/_sim/reset")

    def wait_until_idle(self, calls_min: int = 0, timeout_s: float = IDLE_S_MAX) -> dict[str, Any]:
        """The bill once nothing is in flight and at least so many calls have ended."""
        deadline = time.monotonic() + timeout_s
        while True:
            bill = self.bill()
            if bill["in_flight"] == 0 and bill["calls"] >= calls_min:
                return bill
            if time.monotonic() > deadline:
                raise SimulatorError(
                    f"Not idle after {timeout_s} s: {bill['in_flight']} calls in flight, "
                    f"{bill['calls']} of at least {calls_min} ended."
                )
            time.sleep(POLL_S)
