"""Seeds find what is wrong: each defect of `mutations`, put into the store or a worker."""

from __future__ import annotations

import os
from typing import Any

import pytest

from budgets.memory import MemoryLedger
from tests.simulation.books import Broken
from tests.simulation.mutations import LEASING_LEDGERS, LEASING_WORKERS, LEDGERS, WORKERS
from tests.simulation.proxy import Proxy
from tests.simulation.world import SeedFailed, run

SEEDS_MAX = 200
"""How many seeds a defect may take; the slowest to be found needs a fifth of them."""

FROM_THE_FIRST = bool(os.environ.get("FAREBOX_TEST_LEASES"))
"""Whether the search for a defect of leases begins at the first seed, as the nightly run does."""

pytestmark = pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")


@pytest.mark.parametrize("defect", LEDGERS, ids=lambda it: it.__name__)
def test_a_defect_of_the_store_is_found(defect: type[MemoryLedger]) -> None:
    assert seeds_until_found(make_ledger=defect) <= SEEDS_MAX


@pytest.mark.parametrize("defect", WORKERS, ids=lambda it: it.__name__)
def test_a_defect_of_a_worker_is_found(defect: type[Proxy]) -> None:
    assert seeds_until_found(proxy_type=defect) <= SEEDS_MAX


@pytest.mark.parametrize("defect", LEASING_LEDGERS, ids=lambda it: it.__name__)
def test_a_defect_of_slices_in_the_store_is_found(defect: type[MemoryLedger]) -> None:
    first = 0 if FROM_THE_FIRST else LEASING_LEDGERS[defect]
    assert seeds_until_found(first, make_ledger=defect, leased=True) <= SEEDS_MAX


@pytest.mark.parametrize("defect", LEASING_WORKERS, ids=lambda it: it.__name__)
def test_a_defect_of_a_workers_slices_is_found(defect: type[Proxy]) -> None:
    first = 0 if FROM_THE_FIRST else LEASING_WORKERS[defect]
    assert seeds_until_found(first, proxy_type=defect, leased=True) <= SEEDS_MAX


def seeds_until_found(first: int = 0, **world: Any) -> int:
    """Return how many seeds it takes to find what is wrong with this world."""
    for seed in range(first, first + SEEDS_MAX):
        try:
            run(seed, **world)
        except SeedFailed as failed:
            assert isinstance(failed.cause, Broken), failed
            return seed - first + 1
    return SEEDS_MAX + 1
