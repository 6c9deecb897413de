"""A part of the ledger's conformance suite on each topology; CI runs the whole of it on one server.

The whole suite on any Redis: `FAREBOX_TEST_REDIS_URL=… ./scripts/test tests/ledger`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.topologies.servers import (
    Certificates,
    Topology,
    cluster,
    sentinel_set,
    single,
)
from tests.topologies.test_access import documented_rights

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("test_settling.py",)


def conforms(url: str) -> None:
    """Run the part of the suite in a process of its own, against an address."""
    files = [str(ROOT / "tests" / "ledger" / part) for part in PARTS]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-k",
        "redis",
        *files,
    ]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"FAREBOX_TEST_REDIS_URL": url, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout


def test_sentinel_whose_writes_a_replica_confirms(own: Path) -> None:
    with sentinel_set(own) as redis_set:
        conforms(f"{redis_set.url}?wait_replicas=1")


def test_a_cluster_of_three_masters(own: Path) -> None:
    with cluster(own) as nodes:
        conforms(nodes.url)


def test_tls_with_a_clients_certificate_and_a_user_with_few_rights(
    own: Path, certs: Certificates
) -> None:
    with single(own, certs=certs) as one:
        conforms(as_farebox(one))


def as_farebox(topology: Topology) -> str:
    """Make the documented user on every server; return the address that uses it."""
    for server in topology.servers:
        server.ask("ACL", "SETUSER", "farebox", ">secret", *documented_rights())
    return topology.url.replace("://", "://farebox:secret@", 1)


@pytest.mark.skipif(shutil.which("valkey-server") is None, reason="no valkey-server on the PATH")
def test_valkey(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAREBOX_TEST_REDIS", str(shutil.which("valkey-server")))
    with single(own) as one:
        conforms(as_farebox(one))
