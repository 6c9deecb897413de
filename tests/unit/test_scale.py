"""The figures of docs/scale.md follow from what was measured; the simulations keep a limit."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

from benchmarks import scale
from benchmarks.scale import Assumed

RESULTS = json.loads(scale.RESULTS.read_text(encoding="utf-8"))


def test_the_committed_results_follow_from_the_measured_figures() -> None:
    """If this fails: `python -m benchmarks.scale --output benchmarks/results/scale.json`."""
    measured, assumed = RESULTS["measured"], Assumed()
    assert RESULTS["assumed"] == asdict(assumed)
    assert RESULTS["rates"] == scale.rates(measured, assumed)
    assert RESULTS["memory"] == scale.memory(measured, assumed)
    assert RESULTS["skew"][0] == scale.skew(assumed, 2)
    assert RESULTS["leases"][-1] == scale.leases(assumed, 0.5, 20_000)


def test_slices_that_are_given_back_refuse_hardly_more_than_asking_each_time() -> None:
    """And those that are kept do: that is what giving back is for."""
    assumed = replace(Assumed(), regions=2, workers_per_region=4)
    asking = scale.leases(assumed, None, 2_000)
    kept = scale.leases(assumed, 0.25, 2_000, give_back=False)
    given_back = scale.leases(assumed, 0.25, 2_000)
    assert asking["false_refusals"] == 0
    assert (kept["false_refusals"] or 0) > 20 * max(given_back["false_refusals"] or 0, 1)
    assert (given_back["round_trips_early"] or 1) < 0.5


def test_a_busier_store_waits_longer() -> None:
    rows = scale.waits(RESULTS["measured"], 2_000)
    assert [row["p99_ms"] for row in rows] == sorted(row["p99_ms"] for row in rows)
