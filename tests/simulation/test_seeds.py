"""Over thousands of seeds no promise breaks, and each run replays exactly.

`python -m tests.simulation --seeds N` runs more, and `--seed X --trace` tells the story of one.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.simulation.world import run
from tests.support.policies import REPOSITORY

SEEDS = 2_000
SEEDS_AT_ONCE = 100
LEASED_SEEDS = int(os.environ.get("FAREBOX_TEST_LEASED_SEEDS", "40"))
LEASED_SEEDS_AT_ONCE = 20
"""Some in every run, thousands by the variable or by `python -m tests.simulation --leased`."""

# What a killed process never got to do is no mistake here.
pytestmark = pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")


@pytest.mark.parametrize("start", range(0, SEEDS, SEEDS_AT_ONCE))
def test_no_seed_breaks_a_promise(start: int) -> None:
    for seed in range(start, start + SEEDS_AT_ONCE):
        run(seed)


@pytest.mark.parametrize("start", range(0, LEASED_SEEDS, LEASED_SEEDS_AT_ONCE))
def test_no_seed_breaks_a_promise_where_slices_are_leased(start: int) -> None:
    for seed in range(start, start + LEASED_SEEDS_AT_ONCE):
        run(seed, leased=True)


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
