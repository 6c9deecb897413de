"""Money is whole nanodollars: what is read, what is shown, and what is not an amount."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budgets.money import AMOUNT_NANO_USD_MAX, AmountError, dollars, from_usd, plain, to_usd


@pytest.mark.parametrize(
    ("value", "nano"),
    [
        (1, 1_000_000_000),
        ("12.50", 12_500_000_000),
        ("$1,234.5", 1_234_500_000_000),
        ("1_000", 1_000_000_000_000),
        (0.1, 100_000_000),
        (Decimal("0.0000000005"), 1),
        ("0.0000000004", 0),
        ("1e-9", 1),
        ("-2", -2_000_000_000),
        (9_000_000, AMOUNT_NANO_USD_MAX),
    ],
)
def test_an_amount_is_read_to_the_nearest_nanodollar(
    value: str | float | Decimal, nano: int
) -> None:
    assert from_usd(value) == nano


@pytest.mark.parametrize("value", ["", "ten", "1.2.3", "$", True, None])
def test_what_is_no_amount_says_how_to_write_one(value: str) -> None:
    with pytest.raises(AmountError, match="is not an amount in US dollars"):
        from_usd(value)


@pytest.mark.parametrize("value", ["nan", "inf", float("-inf")])
def test_an_amount_is_finite(value: str | float) -> None:
    with pytest.raises(AmountError, match="finite"):
        from_usd(value)


@pytest.mark.parametrize("value", ["9000000.000000001", "-1e30", "1e999999", 1e300])
def test_an_amount_beyond_the_ledgers_reach_is_refused_at_once(value: str | float) -> None:
    with pytest.raises(AmountError, match="largest amount"):
        from_usd(value)


@given(st.integers(-AMOUNT_NANO_USD_MAX, AMOUNT_NANO_USD_MAX))
def test_amounts_survive_the_way_to_text_and_back(nano: int) -> None:
    assert from_usd(plain(nano)) == nano
    assert from_usd(to_usd(nano)) == nano


@given(
    st.floats(0, 2_000)
    | st.integers(0, 2_000_000).map(lambda nano: (nano + 0.5) / 1e9)
    | st.decimals(0, 1, places=10).map(float)
)
def test_a_float_is_rounded_as_its_shortest_decimal_form(value: float) -> None:
    exact = (Decimal(repr(value)) * 10**9).to_integral_value(rounding=ROUND_HALF_UP)
    assert from_usd(value) == exact


@pytest.mark.parametrize(
    ("nano", "text"),
    [
        (0, "0"),
        (1, "0.000000001"),
        (1_200_000, "0.0012"),
        (50_000_000_000, "50"),
        (-5, "-0.000000005"),
    ],
)
def test_plain_amounts_have_no_exponent_and_no_trailing_zero(nano: int, text: str) -> None:
    assert plain(nano) == text


@pytest.mark.parametrize(
    ("nano", "text"),
    [
        (0, "$0.00"),
        (49_980_000_000, "$49.98"),
        (1_234_567_890_000_000, "$1,234,567.89"),
        (120_000, "$0.000120"),
        (-1_500_000_000, "-$1.50"),
    ],
)
def test_amounts_for_people_keep_their_first_digits(nano: int, text: str) -> None:
    assert dollars(nano) == text
