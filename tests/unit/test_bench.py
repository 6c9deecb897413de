"""The arithmetic of the benchmarks. Nothing here measures a time, and nothing asserts one."""

from __future__ import annotations

import pytest

from benchmarks import margins
from benchmarks.figures import Spread, alternating, compare, quantile


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


def test_the_simulation_of_margins_counts_what_passes_the_policy_and_what_was_learned() -> None:
    alone = margins.simulate(margins.Case("a", "gpt-4o-mini", 1.6, learn=False), 1_200)
    learned = margins.simulate(margins.Case("b", "gpt-4o-mini", 1.6, under_way=5), 1_200)
    assert alone.overage_share > 0.9 and alone.hold_to_cost_last_block < 1
    assert 5 <= learned.overages < 20 and learned.bounds[-1] > 1.6
    assert learned.overages_last_half <= 2 and learned.hold_to_cost_last_block > 1
    assert margins.simulate(margins.Case("b", "gpt-4o-mini", 1.6, under_way=5), 1_200) == learned
    assert learned.case.name in margins.table([alone, learned])
