"""What the simulator finds: nothing in Farebox over many seeds, and every defect put in on purpose.

`python -m tests.simulation --seeds N` runs more, and replays one.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from budgets.memory import MemoryLedger
from tests.simulation.checks import Broken
from tests.simulation.mutations import LEDGERS, WORKERS
from tests.simulation.proxy import Proxy
from tests.simulation.world import SeedFailed, run
from tests.support.policies import REPOSITORY

SEEDS = 1_000
SEEDS_FOR_A_DEFECT = 150


@pytest.mark.parametrize("start", range(0, SEEDS, 250))
def test_no_seed_breaks_a_promise(start: int) -> None:
    for seed in range(start, start + 250):
        run(seed)


def test_a_seed_replays_exactly_in_another_process() -> None:
    """A set's order differs between processes; nothing of a run may hang on it."""
    replay = "from tests.simulation.world import run\nfor seed in range(6): print(run(seed).digest)"
    told = set()
    for hash_seed in ("1", "2"):
        environ = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(REPOSITORY)}
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", replay],
            env=environ,
            capture_output=True,
            text=True,
            check=True,
        )
        told.add(done.stdout)
    assert len(told) == 1 and len(set(told.pop().split())) == 6


@pytest.mark.parametrize("defect", LEDGERS, ids=lambda it: it.__name__)
def test_a_defect_of_the_store_is_found(defect: type[MemoryLedger]) -> None:
    assert seeds_until_found(make_ledger=defect) <= SEEDS_FOR_A_DEFECT


@pytest.mark.parametrize("defect", WORKERS, ids=lambda it: it.__name__)
def test_a_defect_of_a_worker_is_found(defect: type[Proxy]) -> None:
    assert seeds_until_found(proxy_type=defect) <= SEEDS_FOR_A_DEFECT


def seeds_until_found(**world: object) -> int:
    """Return how many seeds it takes to find what is wrong with this world."""
    for seed in range(SEEDS_FOR_A_DEFECT):
        try:
            run(seed, **world)
        except SeedFailed as failed:
            assert isinstance(failed.cause, Broken), failed
            return seed + 1
    return SEEDS_FOR_A_DEFECT + 1
