"""The arithmetic of the benchmarks. Nothing here measures a time, and nothing asserts one."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from benchmarks import estimates, margins
from benchmarks.figures import Spread, alternating, compare, quantile
from benchmarks.harness import Report, Table, against_first, turning
from benchmarks.proxy import Options, scenarios


def test_a_quantile_lies_between_its_neighbours() -> None:
    assert quantile([30.0, 10.0, 20.0, 40.0], 0.5) == 25.0
    assert quantile([30.0, 10.0, 20.0, 40.0], 0.0) == 10.0
    assert quantile([30.0, 10.0, 20.0, 40.0], 1.0) == 40.0
    assert quantile([7.0], 0.99) == 7.0


@pytest.mark.parametrize(("values", "share"), [([], 0.5), ([1.0], 1.1), ([1.0], -0.1)])
def test_a_quantile_of_nothing_or_beyond_the_ends_is_refused(
    values: list[float], share: float
) -> None:
    with pytest.raises(ValueError, match="at least one value"):
        quantile(values, share)


def test_a_spread_is_a_median_with_quartiles() -> None:
    assert Spread.of([1.0, 2.0, 3.0, 4.0, 5.0]) == Spread(3.0, 2.0, 4.0, 5)


def test_a_slow_phase_of_the_machine_does_not_change_the_ratio() -> None:
    """Both sides of a pair run in the same phase, so what slows both leaves their ratio alone."""
    quiet = [(4.0, 5.0)] * 3
    busy = [(40.0, 50.0)] * 4
    found = compare(quiet + busy)
    assert found.ratio == Spread(1.25, 1.25, 1.25, 7)
    assert found.of_medians == 10.0
    assert found.difference.quarter == 1.0


def test_a_comparison_needs_pairs_with_a_figure_to_compare_to() -> None:
    for pairs in ([], [(0.0, 1.0)]):
        with pytest.raises(ValueError, match="above zero"):
            compare(pairs)


def test_neither_side_always_goes_first() -> None:
    assert alternating(4) == [(0, 1), (1, 0), (0, 1), (1, 0)]


def test_every_side_of_several_goes_first_equally_often_and_after_changing_others() -> None:
    orders = turning(3, 6)
    assert all(sorted(order) == [0, 1, 2] for order in orders)
    assert Counter(order[0] for order in orders) == {0: 2, 1: 2, 2: 2}
    assert orders[0] == (0, 1, 2) and orders[3] == (2, 1, 0)


def test_each_side_is_compared_with_the_first_one_in_its_round() -> None:
    second, third = against_first([(4.0, 5.0, 8.0), (40.0, 50.0, 80.0)])
    assert (second.ratio.median, third.ratio.median) == (1.25, 2.0)


def test_a_page_is_written_anew_down_to_what_a_person_wrote(tmp_path: Path) -> None:
    table = Table("Speed", ("side", "ms"))
    table.add("bare", "3.7")
    described = {
        "date": "2026-11-21T00:00:00", "processors": 2, "processor": None, "system": "Linux",
        "python": "3.11", "redis_server": "Redis server v=6.2.14 sha=0", "packages": {},
        "revision": "abc", "edited": "", "load_average": [1.0, 1.0, 1.0],
    }  # fmt: skip
    report = Report("proxy", "Proxy", "What it is.", {"a": 1}, [table], described)
    page = report.keep(tmp_path)
    page.write_text(page.read_text() + "What I saw.\n")
    table.add("farebox", "4.0")
    text = report.keep(tmp_path).read_text()
    assert "| farebox | 4.0 |" in text and "Redis 6.2.14" in text
    assert text.count("What I saw.") == 1 and text.count("# Proxy") == 1
    assert json.loads((tmp_path / "results" / "proxy.json").read_text())["a"] == 1


def test_without_a_choice_no_scenario_comes_twice_and_every_setting_comes() -> None:
    found = list(scenarios(Options()))
    assert len(found) == len(set(found))
    assert {it.clients for it in found} == {1, 16, 64}
    assert {it.workers for it in found} == {1, 2} and any(it.upstream for it in found)
    assert {it.tokens for it in found if it.clients == 1} == {100, 500, 3_000, 10_000, 100_000}
    assert any(it.stream for it in found)


def test_a_series_of_answers_that_never_change_is_learned_to_the_token() -> None:
    calls = [estimates.Call("a", "m", 100.0)]
    for kind in ("stationary", "in blocks"):
        errors = [
            estimates.error_of(way, estimates.series(kind, calls, 2_000, Random(1)))
            for way in ("seed", "Farebox", "1/n first")
        ]
        assert errors[0] == 4.0 and 0 < errors[2] < errors[1] < 0.03


def test_the_simulation_of_margins_counts_what_passes_the_policy_and_what_was_learned() -> None:
    alone = margins.simulate(margins.Case("a", "gpt-4o-mini", 1.6, learn=False), 1_200)
    learned = margins.simulate(margins.Case("b", "gpt-4o-mini", 1.6, under_way=5), 1_200)
    assert alone.overage_share > 0.9 and alone.hold_to_cost_last_block < 1
    assert 5 <= learned.overages < 20 and learned.bounds[-1] > 1.6
    assert learned.overages_last_half <= 2 and learned.hold_to_cost_last_block > 1
    assert margins.simulate(margins.Case("b", "gpt-4o-mini", 1.6, under_way=5), 1_200) == learned
    assert learned.case.name in margins.table([alone, learned])
