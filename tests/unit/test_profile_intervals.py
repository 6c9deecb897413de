"""Exact intervals: against published values, against exact sums, and against what they promise."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest

from scripts.profile.intervals import (
    beta_quantile,
    clopper_pearson,
    samples_needed,
    weighted,
)


@pytest.mark.parametrize(
    ("passed", "samples", "lower", "upper"),
    [
        # Agresti and Coull (1998), American Statistician 52: 0 of n has the upper end
        # 1 - (alpha / 2)^(1 / n), and n of n the lower end (alpha / 2)^(1 / n).
        (0, 10, 0.0, 0.3085),
        (10, 10, 0.6915, 1.0),
        # R's documentation of binom.test: Conover (1971), p. 97: 682 of 925.
        (682, 925, 0.7076683, 0.7654066),
        # Newcombe (1998), Statistics in Medicine 17, table I, the Clopper-Pearson method.
        (81, 263, 0.2527, 0.3676),
        (15, 148, 0.0578, 0.1617),
        (0, 20, 0.0, 0.1684),
        (1, 29, 0.0009, 0.1776),
    ],
)
def test_the_interval_is_as_published(
    passed: int, samples: int, lower: float, upper: float
) -> None:
    """To the digits that were printed."""
    found = clopper_pearson(passed, samples)
    assert found.lower == pytest.approx(lower, abs=5.1e-5)
    assert found.upper == pytest.approx(upper, abs=5.1e-5)


def _tail(least: int, samples: int, rate: Fraction) -> float:
    """The exact probability of at least so many passes."""
    return float(
        sum(
            math.comb(samples, k) * rate**k * (1 - rate) ** (samples - k)
            for k in range(least, samples + 1)
        )
    )


@pytest.mark.parametrize(("passed", "samples"), [(1, 5), (40, 44), (97, 100), (190, 200)])
def test_at_its_ends_what_was_seen_has_the_probability_of_a_tail(passed: int, samples: int) -> None:
    """The definition, with exact fractions in place of the beta function."""
    found = clopper_pearson(passed, samples)
    assert _tail(passed, samples, Fraction(found.lower)) == pytest.approx(0.025, abs=1e-9)
    assert 1 - _tail(passed + 1, samples, Fraction(found.upper)) == pytest.approx(0.025, abs=1e-9)


def test_the_promise_is_kept_for_every_true_rate() -> None:
    """Of 60 samples, the true rate lies below the lower end in at most 2.5 % of all cases."""
    ends = [clopper_pearson(passed, 60).lower for passed in range(61)]
    for percent in range(1, 100):
        rate = Fraction(percent, 100)
        missed = sum(
            float(math.comb(60, k) * rate**k * (1 - rate) ** (60 - k))
            for k in range(61)
            if ends[k] > rate
        )
        assert missed <= 0.025 + 1e-12


def test_how_many_samples_a_mark_needs() -> None:
    """With no failure (alpha / 2)^(1 / n) must reach the mark: 72 for 95 %, 23 for 85 %."""
    assert samples_needed(0.95) == 72
    assert samples_needed(0.85) == 23
    needed = samples_needed(0.95, failures=3)
    assert needed is not None
    assert clopper_pearson(needed - 3, needed).lower >= 0.95
    assert clopper_pearson(needed - 4, needed - 1).lower < 0.95


def test_equal_weights_change_nothing_and_unequal_ones_widen() -> None:
    """The effective number of samples is at most the number of prompts."""
    outcomes = [(index % 10 != 0, 1.0) for index in range(100)]
    plain = clopper_pearson(90, 100)
    assert weighted([(passed, 2.5) for passed, _ in outcomes]) == plain
    uneven = weighted(
        [(passed, 1.0 + index // 10 % 5) for index, (passed, _) in enumerate(outcomes)]
    )
    assert uneven.samples < 100
    assert uneven.upper - uneven.lower > plain.upper - plain.lower


def test_nothing_seen_is_everything_possible() -> None:
    """No sample: the interval is 0 to 1, and the rate is unknown."""
    found = clopper_pearson(0, 0)
    assert (found.lower, found.upper) == (0.0, 1.0)
    assert math.isnan(found.rate)
    with pytest.raises(ValueError, match="3 of 2"):
        clopper_pearson(3, 2)


@pytest.mark.parametrize(("a", "b"), [(0.5, 0.5), (2, 3), (900_000, 100_000), (99_999, 1)])
def test_quantiles_are_in_order(a: float, b: float) -> None:
    """Also far out, where a careless sum would lose its digits."""
    found = [beta_quantile(share, a, b) for share in (0.025, 0.5, 0.975)]
    assert 0 < found[0] < found[1] < found[2] < 1
