"""Starts `litellm` processes from one that has imported LiteLLM already.

The import takes ten seconds of a core, and the tests start some forty proxies. So a launcher, which
all processes of a test run share, imports it once and forks: each proxy is a process of its own,
which runs LiteLLM's own entry point from its first line, with the environment, folder and arguments
that it is given, and which imports Farebox for itself. Several workers of a proxy are forked in the
same way. On another system than Linux the command is started as a reader would start it.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import json
import os
import socket
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
    """A connection to the run's launcher, which ends with the last of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        run = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
        folder = Path(tempfile.gettempdir()) / f"fblaunch-{run[:12]}"
        # One at a time, so that one starts it and the others find it.
        with folder.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._socket = _connected(folder / "socket") or _started(folder)
        self._stream = self._socket.makefile("rw")
        atexit.register(folder.with_suffix(".lock").unlink, missing_ok=True)

    def ask(self, **request: Any) -> Any:
        with self._lock:
            self._stream.write(json.dumps(request) + "\n")
            self._stream.flush()
            line = self._stream.readline()
            assert line, "the launcher of proxies has ended"
            return json.loads(line)


def _connected(address: Path) -> socket.socket | None:
    connection = socket.socket(socket.AF_UNIX)
    with contextlib.suppress(OSError):
        connection.connect(str(address))
        return connection
    connection.close()
    return None


def _started(folder: Path) -> socket.socket:
    """Start a launcher; wait until it listens, which is before it imports anything."""
    folder.mkdir(mode=0o700, exist_ok=True)
    (folder / "socket").unlink(missing_ok=True)
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    process = subprocess.Popen(
        [sys.executable, "-P", str(_MAIN), str(folder)],
        stdin=subprocess.DEVNULL,
        # An empty folder, so that no `.env` of anybody's is read at the import.
        cwd=folder,
        env=kept | {"LITELLM_LOCAL_MODEL_COST_MAP": "True"},
        start_new_session=True,
    )
    while (connection := _connected(folder / "socket")) is None:
        assert process.poll() is None, "the launcher of proxies does not start"
        time.sleep(0.02)
    return connection


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
    if sys.platform == "linux":
        _launcher = _launcher or _Launcher()
        asked = {"arguments": arguments, "environment": dict(environment), "cwd": str(cwd)}
        return _Forked(_launcher, _launcher.ask(**asked, log=str(log), workers=workers))
    with log.open("ab") as output:
        return subprocess.Popen(
            [str(Path(sys.executable).parent / "litellm"), *arguments],
            env=environment,
            cwd=cwd,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
