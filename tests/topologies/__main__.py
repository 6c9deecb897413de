"""Runs a command beside a topology of real Redis servers, named to it by `REDIS_URL`.

    python -m tests.topologies sentinel -- python -m pytest tests/ledger

`FAREBOX_TEST_REDIS_URL` is set as well, so that this runs the whole conformance suite of the ledger
against Sentinel; `FAREBOX_TEST_REDIS=/path/to/valkey-server` makes it Valkey's.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from tests.topologies.servers import Topology, certificates, cluster, sentinel_set, single

KINDS: dict[str, Callable[[Path], AbstractContextManager[Topology]]] = {
    "single": single,
    "sentinel": sentinel_set,
    "cluster": cluster,
    "cluster-with-replicas": lambda folder: cluster(folder, replicas=1),
    "tls": lambda folder: single(folder, certs=certificates(folder)),
}


def main(arguments: list[str]) -> int:
    """Start what the first argument names and run what stands behind `--`."""
    if len(arguments) < 3 or arguments[0] not in KINDS or arguments[1] != "--":
        print(f"usage: python -m tests.topologies {'|'.join(KINDS)} -- COMMAND …", file=sys.stderr)
        return 2
    with (
        tempfile.TemporaryDirectory(prefix="fb") as folder,
        KINDS[arguments[0]](Path(folder)) as it,
    ):
        return _run(arguments[2:], it)


def _run(command: list[str], topology: Topology) -> int:
    names = {"REDIS_URL": topology.url, "FAREBOX_TEST_REDIS_URL": topology.url}
    return subprocess.run(command, env=os.environ | names, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
