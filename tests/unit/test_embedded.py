"""The embedded Redis: one server for all its users, gone after the last, and nothing lost.

All of it with real processes: users are Python processes that hold the server until they are told
to leave, and what is looked at is the process table and the data, not the module's own word.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from budgets import embedded

REPOSITORY = Path(__file__).resolve().parents[2]
STOPPED_S = 60.0
"""How long the end of a server is waited for: longer than its supervisor waits for it."""

USER = """
import sys
from pathlib import Path
from budgets import embedded
print(embedded.ensure(Path(sys.argv[1])).url, flush=True)
sys.stdin.read()
"""


class User:
    """A process that uses the embedded server of `home` until it leaves or is killed."""

    def __init__(self, home: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", USER, str(home)],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def url(self) -> str:
        """Wait until this user has its server."""
        assert self.process.stdout is not None
        url = self.process.stdout.readline().strip()
        assert url, "the user ended without a server"
        return url

    def leave(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(timeout=30)
        self.process.stdout.close()

    def kill(self) -> None:
        self.process.kill()
        self.leave()


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for a condition, with a bound."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the awaited condition did not come"
        time.sleep(0.02)


def client_of(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, decode_responses=True)


def pid_of(url: str) -> int:
    with client_of(url) as client:
        return int(client.info("server")["process_id"])


def parent_of(pid: int) -> int:
    out = subprocess.run(
        ["ps", "-o", "ppid=", "-p", str(pid)], capture_output=True, text=True, check=True
    )
    return int(out.stdout)


def runs(pid: int) -> bool:
    out = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return bool(out.stdout.strip()) and not out.stdout.startswith("Z")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "state folder"
    yield folder
    embedded.release(folder)
    assert embedded.wait_stopped(folder, STOPPED_S)


def test_processes_that_start_together_share_one_server(home: Path) -> None:
    users = [User(home) for _ in range(6)]
    try:
        pids = {pid_of(user.url()) for user in users}
        assert len(pids) == 1
    finally:
        for user in users:
            user.leave()
    assert embedded.wait_stopped(home, STOPPED_S)
    assert not runs(pids.pop())


def test_the_server_ends_after_its_last_user_and_its_data_stay(home: Path) -> None:
    first, second = User(home), User(home)
    with client_of(first.url()) as client:
        client.set("kept", "yes")
    pid = pid_of(second.url())
    first.leave()
    assert not embedded.wait_stopped(home, STOPPED_S), "the second user still needs it"
    assert runs(pid)
    second.leave()
    assert embedded.wait_stopped(home, STOPPED_S)
    assert not runs(pid)
    with client_of(embedded.ensure(home).url) as client:
        assert client.get("kept") == "yes"


def test_a_killed_user_leaves_no_server_behind(home: Path) -> None:
    user = User(home)
    pid = pid_of(user.url())
    user.kill()
    assert embedded.wait_stopped(home, STOPPED_S)
    assert not runs(pid)


def test_a_killed_server_comes_back_with_its_data(home: Path) -> None:
    url = embedded.ensure(home).url
    with client_of(url) as client:
        client.set("kept", "yes")
    pid = pid_of(url)
    os.kill(pid, signal.SIGKILL)

    def is_back() -> bool:
        try:
            return pid_of(url) != pid
        except redis.ConnectionError:
            return False

    until(is_back)
    with client_of(url) as client:
        assert client.get("kept") == "yes"


def test_a_killed_supervisor_takes_its_server_along_and_is_replaced(home: Path) -> None:
    url = embedded.ensure(home).url
    with client_of(url) as client:
        client.set("kept", "yes")
    pid = pid_of(url)
    os.kill(parent_of(pid), signal.SIGKILL)
    if sys.platform == "linux":
        until(lambda: not runs(pid))
    again = embedded.ensure(home)
    assert again.url == url
    with client_of(url) as client:
        assert client.get("kept") == "yes"


def test_asking_the_supervisor_to_end_does_not_take_the_server_from_its_users(home: Path) -> None:
    url = embedded.ensure(home).url
    pid = pid_of(url)
    os.kill(parent_of(pid), signal.SIGTERM)
    os.kill(parent_of(pid), signal.SIGINT)
    assert pid_of(url) == pid


def test_asking_again_changes_nothing(home: Path) -> None:
    first = embedded.ensure(home)
    pid = pid_of(first.url)
    assert embedded.ensure(home) == first
    assert pid_of(first.url) == pid


def test_a_forked_child_keeps_the_server_after_its_parent_let_go(home: Path) -> None:
    url = embedded.ensure(home).url
    pid = pid_of(url)
    leave, stay = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(stay)
        os.read(leave, 1)
        os._exit(0)
    os.close(leave)
    embedded.release(home)
    assert not embedded.wait_stopped(home, STOPPED_S), "the child still holds it"
    assert runs(pid)
    os.close(stay)
    os.waitpid(child, 0)
    assert embedded.wait_stopped(home, STOPPED_S)


def test_the_server_listens_on_no_tcp_port_and_its_socket_is_private(home: Path) -> None:
    server = embedded.ensure(home)
    with client_of(server.url) as client:
        assert client.config_get("port") == {"port": "0"}
        assert client.config_get("appendonly") == {"appendonly": "yes"}
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    assert server.socket.stat().st_mode & 0o777 == 0o600
    assert server.folder.stat().st_mode & 0o777 == 0o700
    assert home.stat().st_mode & 0o777 == 0o700


def test_a_deep_folder_gets_its_socket_elsewhere(tmp_path: Path) -> None:
    home = tmp_path.joinpath(*["a-long-folder-name"] * 7)
    server = embedded.ensure(home)
    try:
        assert len(os.fsencode(server.socket)) <= 100
        assert server.socket.parent.stat().st_mode & 0o777 == 0o700
        assert pid_of(server.url) > 0
    finally:
        embedded.release(home)
        assert embedded.wait_stopped(home, STOPPED_S)
    assert not server.socket.parent.exists()


def test_appendfsync_always_can_be_chosen(home: Path) -> None:
    server = embedded.ensure(home, {**os.environ, "FAREBOX_APPENDFSYNC": "always"})
    with client_of(server.url) as client:
        assert client.config_get("appendfsync") == {"appendfsync": "always"}


def test_an_unknown_appendfsync_is_refused_with_the_choices(home: Path) -> None:
    with pytest.raises(embedded.EmbeddedRedisError, match=r"FAREBOX_APPENDFSYNC.*everysec, always"):
        embedded.ensure(home, {**os.environ, "FAREBOX_APPENDFSYNC": "sometimes"})


def fake_server(folder: Path, version: str) -> None:
    folder.mkdir(exist_ok=True)
    program = folder / "redis-server"
    program.write_text(f"#!/bin/sh\necho 'Redis server v={version} sha=0:0 bits=64'\n")
    program.chmod(0o755)


def test_a_server_that_is_too_old_is_passed_over(tmp_path: Path) -> None:
    fake_server(tmp_path / "bin", "5.0.14")
    found = embedded.find_server({"PATH": str(tmp_path / "bin")})
    assert found.version >= (6, 2, 0)


def test_the_path_comes_first(tmp_path: Path) -> None:
    fake_server(tmp_path / "bin", "7.4.1")
    found = embedded.find_server({"PATH": str(tmp_path / "bin")})
    assert found == embedded.ServerBinary(str(tmp_path / "bin" / "redis-server"), (7, 4, 1))


def test_a_server_that_dies_at_its_start_is_reported_with_the_remedy(home: Path) -> None:
    home.mkdir(mode=0o700)
    fake_server(home / "bin", "7.4.1")  # It prints its version and ends, whatever it is asked.
    with pytest.raises(embedded.EmbeddedRedisError, match="it ended right after its start"):
        embedded.ensure(home, {**os.environ, "PATH": str(home / "bin")})


def test_a_ledger_of_redis_7_is_not_opened_by_redis_6(home: Path) -> None:
    (home / "redis" / "appendonlydir").mkdir(parents=True)
    fake_server(home / "bin", "6.2.14")
    with pytest.raises(embedded.EmbeddedRedisError, match="written by Redis 7 or newer"):
        embedded.ensure(home, {**os.environ, "PATH": str(home / "bin")})
