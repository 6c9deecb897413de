"""The LiteLLM proxy as a child process: started, watched, stopped, its log followed."""

from __future__ import annotations

import contextlib
import ctypes
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

READY_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 20.0
POLL_S = 0.1
LOG_BYTES_MAX = 20_000_000
TAIL_LINES = 20
TAIL_BYTES = 16_384
_PR_SET_PDEATHSIG = 1


class ProxyError(RuntimeError):
    """The proxy cannot be started; the text says why and how to mend it."""


class Proxy:
    """One `litellm` process with its workers, in a process group of its own.

    Ctrl-C in the terminal does not reach that group: `stop` decides when it ends. On Linux it also
    ends when this process is killed.
    """

    def __init__(self, arguments: list[str], environ: Mapping[str, str], log: Path) -> None:
        """Start it. `environ` is its whole environment; `log` is appended to."""
        self.log = log
        self._file = _open_log(log)
        self._read_from = self._file.seek(0, os.SEEK_END)
        self._rest = b""
        libc = ctypes.CDLL(None) if sys.platform == "linux" else None

        def in_child() -> None:
            if libc is not None:
                libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)

        self._process = subprocess.Popen(
            [str(Path(sys.executable).with_name("litellm")), *arguments],
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=self._file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=in_child,  # Safe: nothing has started a thread yet.
        )
        self._started_at = self._read_from

    def is_running(self) -> bool:
        """Say whether the main process lives."""
        return self._process.poll() is None

    def wait_ready(self, host: str, port: int, stopped: Callable[[], bool]) -> None:
        """Wait until the proxy answers, or until `stopped()`. Raises `ProxyError`."""
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not stopped():
            if not self.is_running():
                raise ProxyError(f"The proxy ended while it started.\n{self.tail()}")
            if _is_alive(host, port):
                return
            if time.monotonic() > deadline:
                raise ProxyError(
                    f"The proxy did not answer within {READY_TIMEOUT_S:.0f} s.\n{self.tail()}"
                )
            time.sleep(POLL_S)

    def new_lines(self) -> list[str]:
        """Return the lines of its log that were not returned before."""
        # Read by position: the file's own offset belongs to the processes that write to it.
        chunk = os.pread(self._file.fileno(), 1 << 20, self._read_from)
        self._read_from += len(chunk)
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        return [line.decode(errors="replace") for line in lines]

    def tail(self) -> str:
        """Return the last lines that this proxy logged, with the place of the rest."""
        start = max(self._started_at, os.fstat(self._file.fileno()).st_size - TAIL_BYTES)
        text = os.pread(self._file.fileno(), TAIL_BYTES, start).decode(errors="replace")
        lines = [f"  {line}" for line in text.splitlines()[-TAIL_LINES:]]
        return "\n".join([f"The last lines of {self.log}:", *(lines or ["  (none)"])])

    def stop(self, hurry: Callable[[], bool]) -> bool:
        """Let requests in flight finish, then end it. Returns False if it had to be killed.

        Waits 20 s at most, and no longer than until `hurry()`.
        """
        deadline = time.monotonic() + STOP_TIMEOUT_S
        if self.is_running():
            self._process.terminate()
        while self.is_running() and time.monotonic() < deadline and not hurry():
            time.sleep(POLL_S)
        in_time = not self.is_running()
        # Workers outlive a main process that was killed.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._file.close()
        return in_time


def free_port(host: str, port: int) -> int:
    """Check that `port` can be listened on, or find one if it is 0. Raises `ProxyError`."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            return int(probe.getsockname()[1])
    except OSError as error:
        raise ProxyError(
            f"Cannot listen on {host}:{port}: {error.strerror}. "
            "Stop what uses it, or choose another port with --port."
        ) from error


def reachable_host(host: str) -> str:
    """Return the address under which this machine reaches a proxy that listens on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)


def _is_alive(host: str, port: int) -> bool:
    connection = http.client.HTTPConnection(reachable_host(host), port, timeout=2.0)
    try:
        connection.request("GET", "/health/liveliness")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _open_log(path: Path) -> IO[bytes]:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size > LOG_BYTES_MAX:
            path.replace(path.with_name(path.name + ".1"))
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    return os.fdopen(descriptor, "r+b", buffering=0)
