"""`python -m tests.simulation`: run seeds, and print the first that breaks a promise.

--seeds N    how many (default 1000)
--start S    the first one (default 0)
--seed X     this one only; with --trace, every line of what happened
--jobs J     how many processes (default 1)
--leased     workers lease slices of every budget
"""

from __future__ import annotations

import argparse
import re
import sys
import time
import warnings
from collections import Counter
from functools import partial
from multiprocessing import Pool

from tests.simulation.world import Outcome, SeedFailed, run


def main() -> int:
    """Run what the arguments say; return 1 where a seed failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--trace", action="store_true")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--keep-going", action="store_true", help="count failures, show the first")
    parser.add_argument("--leased", action="store_true", help="lease slices of every budget")
    given = parser.parse_args()
    # What a killed process never got to do is no mistake here.
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
    if given.seed is not None:
        return _one(given.seed, given.trace, given.leased)
    seeds = range(given.start, given.start + given.seeds)
    return _many(seeds, given.jobs, given.keep_going, given.leased)


def _one(seed: int, trace: bool, leased: bool) -> int:
    try:
        outcome = run(seed, trace_all=trace, leased=leased)
    except SeedFailed as failed:
        print(failed)
        return 1
    print(outcome)
    return 0


def _many(seeds: range, jobs: int, keep_going: bool, leased: bool) -> int:
    began = time.monotonic()
    faults: Counter[str] = Counter()
    codes: Counter[str] = Counter()
    outcomes: Counter[str] = Counter()
    operations = done = 0
    failures: list[str] = []
    with Pool(jobs) as pool:
        for found in pool.imap(partial(_try, leased=leased), seeds, chunksize=8):
            done += 1
            if isinstance(found, str):
                failures.append(found)
                if not keep_going:
                    break
                continue
            faults += found.faults
            codes += found.codes
            outcomes += found.outcomes
            operations += found.operations
        pool.terminate()
    seconds = time.monotonic() - began
    print(f"{done} seeds in {seconds:.1f} s ({done / seconds:.0f} a second)")
    print(f"{operations} operations of the store, {sum(faults.values())} faults: {dict(faults)}")
    print(f"{sum(codes.values())} requests: {dict(codes)}; holds: {dict(outcomes)}")
    by_kind: dict[str, list[str]] = {}
    for failure in failures:
        kind = re.sub(r"\d+", "N", failure.split("\n")[0].split(": ", 1)[1])[:70]
        by_kind.setdefault(kind, []).append(failure)
    for kind, same in by_kind.items():
        print(f"{len(same)} seeds failed: {kind}\n{same[0]}")
    return 1 if failures else 0


def _try(seed: int, leased: bool) -> Outcome | str:
    try:
        return run(seed, leased=leased)
    except SeedFailed as failed:
        return str(failed)


if __name__ == "__main__":
    sys.exit(main())
