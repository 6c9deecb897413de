"""Starts `litellm` processes from one that has imported LiteLLM already.

The import takes nine seconds of a core, and the tests start some thirty proxies. So a launcher
imports it once and forks: each proxy is a process of its own, which runs LiteLLM's own entry point
from its first line, with the environment, folder and arguments that it is given, and which imports
Farebox for itself. Where that would not be the same (several workers, metrics of several processes,
another system than Linux) the command is started as a reader would start it.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

_MAIN = Path(__file__).with_name("launcher_main.py")


class Process(Protocol):
    """What is asked of a process, as `subprocess.Popen` answers it."""

    pid: int

    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...


class _Launcher:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        # An empty folder, so that no `.env` of anybody's is read at the import.
        self._folder = tempfile.TemporaryDirectory(prefix="fblaunch")
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(_MAIN)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=self._folder.name,
            env=kept | {"LITELLM_LOCAL_MODEL_COST_MAP": "True"},
            text=True,
        )
        atexit.register(self.stop)

    def ask(self, **request: Any) -> Any:
        with self._lock:
            assert self._process.stdin is not None and self._process.stdout is not None
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
            assert line, "the launcher of proxies has ended"
            return json.loads(line)

    def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._folder.cleanup()


class _Forked:
    def __init__(self, launcher: _Launcher, pid: int) -> None:
        self._launcher, self.pid = launcher, pid
        self._code: int | None = None

    def poll(self) -> int | None:
        if self._code is None:
            self._code = self._launcher.ask(poll=self.pid)
        return self._code

    def wait(self, timeout: float | None = None) -> int:
        deadline = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("litellm", timeout or 0.0)
            time.sleep(0.02)
        return code


_launcher: _Launcher | None = None


def start(
    arguments: Sequence[str], environment: Mapping[str, str], cwd: Path, log: Path, workers: int
) -> Process:
    """Run `litellm` with these arguments in a session of its own, its output added to `log`."""
    global _launcher
    alike = sys.platform == "linux" and workers == 1
    if alike and "PROMETHEUS_MULTIPROC_DIR" not in environment:
        _launcher = _launcher or _Launcher()
        asked = {"arguments": arguments, "environment": dict(environment), "cwd": str(cwd)}
        return _Forked(_launcher, _launcher.ask(**asked, log=str(log)))
    with log.open("ab") as output:
        return subprocess.Popen(
            [str(Path(sys.executable).parent / "litellm"), *arguments],
            env=environment,
            cwd=cwd,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
