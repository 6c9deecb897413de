"""Real Redis servers of every topology, as processes on the loopback interface.

    with sentinel_set(folder) as redis: connect(redis.url) …

Each function starts one topology in a folder of its own and stops every process of it at the end.
With `FAREBOX_TEST_REDIS=/path/to/valkey-server` all of them are made of that server.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis

from budgets.embedded import find_server

DEBIAN_BINARY = "/usr/bin/redis-check-rdb"
"""Debian's package `redis-tools` carries the whole server under this name, without a service."""

FAST_SENTINEL_MS = 500
FAST_CLUSTER_MS = 1000
START_TIMEOUT_S = 20.0


def until(condition: Callable[[], Any], what: str, seconds: float = 20.0) -> None:
    """Wait for a condition, with a bound; an error of Redis counts as not yet."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except redis.RedisError:
            pass
        assert time.monotonic() < deadline, f"this did not come: {what}"
        time.sleep(0.02)


def free_ports(count: int) -> list[int]:
    """Return ports that are free, as are those 10,000 above: a cluster's nodes take both."""
    with ExitStack() as probes:
        ports: list[int] = []
        while len(ports) < count:
            probe = probes.enter_context(socket.socket())
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
            if port > 50_000:
                continue
            with socket.socket() as bus:
                try:
                    bus.bind(("127.0.0.1", port + 10_000))
                except OSError:
                    continue
            ports.append(port)
    return ports


def program(folder: Path, *, tls: bool = False) -> str | None:
    """Return the server to test with, or None where none on this machine speaks TLS.

    `FAREBOX_TEST_REDIS` comes first, then the one that Farebox itself would start; for TLS, which
    the latter may lack, Debian's binary as well.
    """
    paths = [os.environ.get("FAREBOX_TEST_REDIS"), find_server().path, _debian(folder)]
    return next((path for path in paths if path and (not tls or _speaks_tls(path))), None)


def _debian(folder: Path) -> str | None:
    if not os.access(DEBIAN_BINARY, os.X_OK):
        return None
    # The binary goes by its name: under this one it is the server.
    link = folder / "redis-server"
    if not link.is_symlink():
        link.symlink_to(DEBIAN_BINARY)
    return str(link)


def _speaks_tls(path: str) -> bool:
    said = subprocess.run(
        [path, "--port", "0", "--tls-port", "bad"], capture_output=True, text=True, check=False
    )
    return "Bad directive" not in said.stdout + said.stderr


@dataclass
class Server:
    """One server process; `options` are those of the client that looks after it."""

    folder: Path
    port: int
    command: list[str]
    options: dict[str, Any] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process, or start it again with what it kept."""
        with (self.folder / "out.log").open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log)
        try:
            until(lambda: self.ask("PING"), f"an answer of {self.command}", START_TIMEOUT_S)
        except AssertionError:
            self.kill()
            raise

    def ask(self, *command: str | int) -> Any:
        """Run one command as the administrator."""
        with redis.Redis(
            port=self.port, decode_responses=True, socket_timeout=2, retry=None, **self.options
        ) as client:
            return client.execute_command(*command)

    def kill(self) -> None:
        """End the process as a power cut would; a stopped one is ended too."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def pause(self) -> None:
        """Stop the process: its connections stay open and nothing answers."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused process go on."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGCONT)


@dataclass
class Topology:
    """Servers that belong together, and the `REDIS_URL` that names them."""

    url: str
    servers: list[Server]
    sentinels: list[Server] = field(default_factory=list)

    def master(self) -> Server:
        """Return the server that Sentinel names as the master now."""
        _, port = self.sentinels[0].ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster")
        return next(server for server in self.servers if server.port == int(port))

    def owner(self, key: str) -> Server:
        """Return the master of the cluster that has a key's slot, as a living node sees it."""
        for server in self.servers:
            if server.process is None or server.process.poll() is not None:
                continue
            slot = int(server.ask("CLUSTER", "KEYSLOT", key))
            for first, last, node, *_ in server.ask("CLUSTER", "SLOTS"):
                if int(first) <= slot <= int(last):
                    return next(it for it in self.servers if it.port == int(node[1]))
        raise AssertionError("no node of the cluster knows the slot")


def make(
    folder: Path, name: str, port: int, lines: Sequence[str], certs: Certificates | None = None
) -> Server:
    """Prepare a server with its configuration; it is not started."""
    home = folder / name
    home.mkdir()
    config = home / "redis.conf"
    where = [f"port {port}"] if certs is None else certs.lines(port)
    text = ["bind 127.0.0.1", f"dir {home}", *where, *lines, ""]
    config.write_text("\n".join(text), encoding="utf-8")
    binary = program(folder, tls=certs is not None)
    assert binary is not None, "no redis-server on this machine speaks TLS"
    return Server(home, port, [binary, str(config)], certs.options() if certs else {})


@contextmanager
def running(servers: Sequence[Server]) -> Iterator[None]:
    """Run servers until the end of the block."""
    try:
        for server in servers:
            server.start()
        yield
    finally:
        for server in servers:
            server.kill()


@contextmanager
def single(folder: Path, *lines: str, certs: Certificates | None = None) -> Iterator[Topology]:
    """Run one server."""
    (port,) = free_ports(1)
    server = make(folder, "one", port, ['save ""', *lines], certs)
    with running([server]):
        yield Topology(_url("", [port], "/0", certs), [server])


@contextmanager
def sentinel_set(
    folder: Path, *lines: str, replicas: int = 1, certs: Certificates | None = None
) -> Iterator[Topology]:
    """Run a master, its replicas and three sentinels that fail over after half a second."""
    ports = free_ports(1 + replicas + 3)
    of_servers, of_sentinels = ports[: 1 + replicas], ports[1 + replicas :]
    common = ['save ""', "repl-diskless-sync-delay 0", "repl-ping-replica-period 1", *lines]
    servers = [make(folder, "master", of_servers[0], common, certs)]
    for number, port in enumerate(of_servers[1:]):
        follow = f"replicaof 127.0.0.1 {of_servers[0]}"
        servers.append(make(folder, f"replica{number}", port, [*common, follow], certs))
    watch = [
        f"sentinel monitor mymaster 127.0.0.1 {of_servers[0]} 2",
        f"sentinel down-after-milliseconds mymaster {FAST_SENTINEL_MS}",
        "sentinel failover-timeout mymaster 3000",
    ]
    sentinels = [make(folder, f"sentinel{port}", port, watch, certs) for port in of_sentinels]
    for sentinel in sentinels:
        sentinel.command.append("--sentinel")
    with running(servers), running(sentinels):
        until(lambda: _linked(servers[0]) == replicas, "the replicas at their master")
        until(lambda: all(_sees(it, replicas) for it in sentinels), "sentinels that know all")
        yield Topology(_url("+sentinel", of_sentinels, "/mymaster", certs), servers, sentinels)


def _url(kind: str, ports: Sequence[int], path: str, certs: Certificates | None) -> str:
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
    if certs is None:
        return f"redis{kind}://{hosts}{path}"
    return f"rediss{kind}://{hosts}{path}{certs.query()}"


def _linked(master: Server) -> int:
    info = master.ask("INFO", "replication")
    states = [value for name, value in info.items() if name.startswith("slave")]
    return sum(isinstance(it, dict) and it.get("state") == "online" for it in states)


def _sees(sentinel: Server, replicas: int) -> bool:
    master = sentinel.ask("SENTINEL", "MASTER", "mymaster")
    if isinstance(master, list):
        master = dict(zip(master[::2], master[1::2], strict=True))
    return (
        int(master["num-other-sentinels"]) == 2
        and int(master["num-slaves"]) == replicas
        and master["flags"] in ("master", {"master"})
    )


@contextmanager
def cluster(
    folder: Path, *lines: str, replicas: int = 0, certs: Certificates | None = None
) -> Iterator[Topology]:
    """Run a cluster of three masters, each with so many replicas."""
    ports = free_ports(3 * (1 + replicas))
    common = [
        'save ""',
        "cluster-enabled yes",
        f"cluster-node-timeout {FAST_CLUSTER_MS}",
        "repl-diskless-sync-delay 0",
        *lines,
    ]
    servers = [make(folder, f"node{port}", port, common, certs) for port in ports]
    masters = servers[:3]
    with running(servers):
        for number, master in enumerate(masters):
            master.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            first, last = 16384 * number // 3, 16384 * (number + 1) // 3
            master.ask("CLUSTER", "ADDSLOTS", *range(first, last))
        for server in servers[1:]:
            servers[0].ask("CLUSTER", "MEET", "127.0.0.1", server.port)
        known = len(servers)
        until(lambda: all(_known(it) == known for it in servers), "nodes that know each other")
        for number, replica in enumerate(servers[3:]):
            replica.ask("CLUSTER", "REPLICATE", masters[number % 3].ask("CLUSTER", "MYID"))
        until(lambda: all(_whole(it) for it in servers), "a cluster that is whole")
        until(lambda: all(_linked(it) == replicas for it in masters), "the masters' replicas")
        yield Topology(_url("+cluster", ports[:3], "", certs), servers)


def _known(server: Server) -> int:
    return int(server.ask("CLUSTER INFO")["cluster_known_nodes"])


def _whole(server: Server) -> bool:
    return server.ask("CLUSTER INFO")["cluster_state"] == "ok"


@dataclass(frozen=True)
class Certificates:
    """PEM files of an authority, a server's pair and a client's pair."""

    ca: Path
    server: tuple[Path, Path]
    client: tuple[Path, Path]

    def query(self) -> str:
        """Return the client's side as parameters of `REDIS_URL`."""
        certificate, key = self.client
        return f"?ssl_ca_certs={self.ca}&ssl_certfile={certificate}&ssl_keyfile={key}"

    def lines(self, port: int) -> list[str]:
        """Return the server's side as lines of its configuration; no port is left without TLS."""
        certificate, key = self.server
        return [
            "port 0",
            f"tls-port {port}",
            f"tls-cert-file {certificate}",
            f"tls-key-file {key}",
            f"tls-ca-cert-file {self.ca}",
            "tls-auth-clients yes",
            "tls-replication yes",
            "tls-cluster yes",
        ]

    def options(self) -> dict[str, Any]:
        """Return the client's side as redis-py's options."""
        certificate, key = self.client
        return {
            "ssl": True,
            "ssl_ca_certs": str(self.ca),
            "ssl_certfile": str(certificate),
            "ssl_keyfile": str(key),
        }


def certificates(folder: Path) -> Certificates:
    """Make an authority and two certificates for 127.0.0.1 with the openssl program."""
    openssl = shutil.which("openssl")
    assert openssl is not None

    def run(*args: str) -> None:
        subprocess.run([openssl, *args], check=True, capture_output=True, cwd=folder)

    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    run("req", "-x509", *curve, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2",
        "-subj", "/CN=Farebox test authority")  # fmt: skip
    (folder / "names.cnf").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n", "utf-8")
    for name in ("server", "client"):
        run("req", *curve, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        run("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
            "-CAcreateserial", "-days", "2", "-extfile", "names.cnf",
            "-out", f"{name}.pem")  # fmt: skip
    pairs = [(folder / f"{name}.pem", folder / f"{name}.key") for name in ("server", "client")]
    return Certificates(folder / "ca.pem", pairs[0], pairs[1])
