"""Keeps one `redis-server` alive for as long as any process of this machine needs it.

A script of its own, started by `budgets.embedded.ensure` and never imported by it: it uses the
standard library only, so that it starts in a few milliseconds and no edit of Farebox can break a
server that is running.

Two lock files in the server's folder carry the whole protocol; both vanish with their owners,
whatever ends them:

`in-use`       Every user holds it shared. The supervisor asks for it exclusively, again and again,
               and gets it only when nobody uses the server any more. It then stops the server and
               keeps the lock until the server has ended, so that nobody connects to one that goes.
`server.lock`  Held exclusively by the supervisor AND by its server, which inherits the descriptor.
               Two servers can therefore never write one append-only file, not even while the
               server of a killed supervisor is still on its way out.

Usage: embedded_supervisor.py FOLDER SERVER APPENDFSYNC LOCK_DESCRIPTOR
"""

import contextlib
import ctypes
import fcntl
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time

IDLE_POLL_S = 0.1
# A server that ends sooner than this has failed to start (a damaged file, no disk space).
SHORT_LIFE_S = 2.0
SHORT_LIVES_MAX = 4
BACKOFF_FIRST_S = 0.1
BACKOFF_MAX_S = 5.0
STOP_TIMEOUT_S = 20.0
# Linux allows 107 bytes in the address of a socket, macOS 103.
SOCKET_PATH_BYTES_MAX = 100
PR_SET_PDEATHSIG = 1


def say(message: str) -> None:
    """Write one line to the supervisor's log, which is its standard error."""
    print(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), message, file=sys.stderr, flush=True)


def quoted(text: str) -> str:
    """Quote a value for redis.conf, so that a path may hold spaces."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def socket_path(folder: str) -> str:
    """Choose where the server listens and record it in the file `socket`.

    Beside the data where the path is short enough, else in a private temporary folder. A recorded
    folder is used again after a crash, since the users that are still there know that address.
    """
    path = os.path.join(folder, "redis.sock")
    record = os.path.join(folder, "socket")
    if len(os.fsencode(path)) > SOCKET_PATH_BYTES_MAX:
        path = recorded_socket(record) or os.path.join(
            tempfile.mkdtemp(prefix="farebox-", dir=short_temporary_folder()), "redis.sock"
        )
    with open(record + ".new", "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(path)
    os.replace(record + ".new", record)
    return path


def short_temporary_folder() -> str:
    """Return the temporary folder, or /tmp where its own path is too long for a socket."""
    folder = tempfile.gettempdir()
    return folder if len(os.fsencode(folder)) <= SOCKET_PATH_BYTES_MAX - 30 else "/tmp"


def recorded_socket(record: str) -> str | None:
    """Return the recorded address if its folder is still there and nobody else's."""
    try:
        with open(record, encoding="utf-8", errors="surrogateescape") as file:
            path = file.read()
        facts = os.lstat(os.path.dirname(path))
    except OSError:
        return None
    private = stat.S_ISDIR(facts.st_mode) and stat.S_IMODE(facts.st_mode) == 0o700
    return path if private and facts.st_uid == os.getuid() else None


def write_config(folder: str, socket: str, appendfsync: str) -> str:
    """Write redis.conf and return its path."""
    lines = [
        "# Written anew at every start: edits are lost.",
        "port 0",
        f"unixsocket {quoted(socket)}",
        "unixsocketperm 600",
        f"dir {quoted(folder)}",
        "daemonize no",
        f"logfile {quoted(os.path.join(folder, 'redis.log'))}",
        "loglevel warning",
        'save ""',
        "appendonly yes",
        f"appendfsync {appendfsync}",
        # Money is never evicted: a server without memory has to refuse instead.
        "maxmemory-policy noeviction",
    ]
    path = os.path.join(folder, "redis.conf")
    with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write("\n".join(lines) + "\n")
    return path


def start_server(server: str, config: str, folder: str, lock: int) -> "subprocess.Popen[bytes]":
    """Start the server as a child that inherits `server.lock` and ends when this process ends."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    supervisor = os.getpid()

    def in_child() -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        if libc is not None:
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
            if os.getppid() != supervisor:
                os._exit(1)

    return subprocess.Popen(
        [server, config],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        pass_fds=(lock,),
        preexec_fn=in_child,  # Safe here: this process has a single thread.
    )


def stop_server(child: "subprocess.Popen[bytes]") -> None:
    """Stop the server as SHUTDOWN does: SIGTERM writes and syncs the append-only file first."""
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while child.poll() is None and time.monotonic() < deadline:
        # Asked again each second: the server refuses while it writes its first file.
        child.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(timeout=1.0)
    if child.poll() is None:
        say("the server did not stop when asked: it is killed")
        child.kill()
        child.wait()


def nobody_uses(in_use: int) -> bool:
    """Take the lock `in-use` exclusively if no user holds it."""
    try:
        fcntl.flock(in_use, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def supervise(folder: str, server: str, appendfsync: str, lock: int) -> int:
    """Run the server until nobody uses it. Returns the exit code: 1 if it cannot be started."""
    in_use = os.open(os.path.join(folder, "in-use"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    socket = socket_path(folder)
    config = write_config(folder, socket, appendfsync)
    short_lives = 0
    code = 0
    while True:
        started = time.monotonic()
        child = start_server(server, config, folder, lock)
        idle = False
        while child.poll() is None and not idle:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(timeout=IDLE_POLL_S)
            idle = nobody_uses(in_use)
        if idle or nobody_uses(in_use):
            stop_server(child)
            break
        say(f"the server ended by itself with code {child.returncode}")
        short_lives = short_lives + 1 if time.monotonic() - started < SHORT_LIFE_S else 0
        if short_lives >= SHORT_LIVES_MAX:
            say("the server does not start: giving up")
            code = 1
            break
        time.sleep(min(BACKOFF_FIRST_S * 2**short_lives, BACKOFF_MAX_S))
    with contextlib.suppress(OSError):
        os.unlink(socket)
    if os.path.dirname(socket) != folder:
        shutil.rmtree(os.path.dirname(socket), ignore_errors=True)
    with contextlib.suppress(OSError):
        os.unlink(os.path.join(folder, "socket"))
    return code


def main() -> None:
    """Detach from whoever started this, then supervise. The locks end with this process."""
    folder, server, appendfsync, lock = sys.argv[1:]
    # Away from the terminal's Ctrl-C and from the process that happened to come first.
    os.setsid()
    if os.fork():
        os._exit(0)
    # Asking this process to end is asking at the wrong door: it ends with its users. When the
    # machine goes down, they still have to settle what is in flight.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.umask(0o077)
    os._exit(supervise(folder, server, appendfsync, int(lock)))


if __name__ == "__main__":
    main()
