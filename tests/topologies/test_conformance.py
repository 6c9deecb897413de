"""The ledger's conformance suite on other topologies than one server, of which CI runs a part here.

The tests are those of `tests/ledger`; only what stands behind the fixture `world` is another. All
of them against any Redis: `FAREBOX_TEST_REDIS_URL=… ./scripts/test tests/ledger`.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ledger import test_admission, test_settling
from tests.ledger.modes import Leased
from tests.ledger.worlds import RedisWorld
from tests.topologies.ledgers import ledger_at
from tests.topologies.servers import Certificates, Topology, cluster, sentinel_set, single
from tests.topologies.test_access import documented_rights

for _module in (test_admission, test_settling):
    globals().update({name: it for name, it in vars(_module).items() if name.startswith("test_")})


def as_farebox(topology: Topology) -> str:
    """Make the documented user on every server; return the address that uses it."""
    for server in topology.servers:
        server.ask("ACL", "SETUSER", "farebox", ">secret", *documented_rights())
    return topology.url.replace("://", "://farebox:secret@", 1)


def _made(folder: Path, name: str) -> Path:
    made = folder / name
    made.mkdir()
    return made


@pytest.fixture(scope="module")
def confirmed_by_a_replica(folder: Path) -> Iterator[str]:
    """Return the address of a Sentinel's master whose writes a replica confirms."""
    with sentinel_set(_made(folder, "sentinel")) as redis_set:
        yield f"{redis_set.url}?wait_replicas=1"


@pytest.fixture(scope="module")
def three_masters(folder: Path) -> Iterator[str]:
    """Return the address of a cluster, with a user of few rights."""
    with cluster(_made(folder, "cluster")) as nodes:
        yield as_farebox(nodes)


@pytest.fixture(scope="module")
def client_certificate(folder: Path, certs: Certificates) -> Iterator[str]:
    """Return the address of a server that asks for a certificate, with a user of few rights."""
    with single(_made(folder, "tls"), certs=certs) as one:
        yield as_farebox(one)


@pytest.fixture(scope="module")
def valkey(folder: Path) -> Iterator[str]:
    """Return the address of a Valkey server, with a user of few rights."""
    path = shutil.which("valkey-server")
    if path is None:
        pytest.skip("there is no valkey-server on the PATH")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAREBOX_TEST_REDIS", path)
        with single(_made(folder, "valkey")) as one:
            yield as_farebox(one)


TOPOLOGIES = ("confirmed_by_a_replica", "three_masters", "client_certificate", "valkey")

LEASED = "leased_"
"""What stands before a topology where requests are admitted from leased slices."""

LEASED_SAMPLE = frozenset(
    {
        "test_twenty_requests_of_five_cents_fit_a_dollar_exactly",
        "test_all_budgets_admit_or_none_is_touched",
        "test_a_top_up_raises_a_hold_to_its_target",
        "test_a_second_settle_changes_nothing",
        "test_a_late_settle_corrects_an_expired_hold_once",
    }
)
"""The tests that are run so each time; all of them where `FAREBOX_TEST_LEASES` is set."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test once on each topology, and some once more with leases."""
    leased = metafunc.function.__name__ in LEASED_SAMPLE or os.environ.get("FAREBOX_TEST_LEASES")
    more = [f"{LEASED}{it}" for it in TOPOLOGIES] if leased else []
    metafunc.parametrize("world", [*TOPOLOGIES, *more], indirect=True)


@pytest.fixture
async def world(request: pytest.FixtureRequest) -> AsyncIterator[RedisWorld]:
    """Return a fresh ledger on a topology."""
    topology = request.param.removeprefix(LEASED)
    name = uuid.uuid4().hex
    async with ledger_at(request.getfixturevalue(topology), name) as ledger:
        made = RedisWorld(ledger, name)
        if topology != request.param:
            leased: Any = Leased(ledger)
            made.ledger = leased
        yield made
