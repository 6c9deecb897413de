"""Money as whole nanodollars: one US dollar is 1,000,000,000 of them.

Everything between the edges is an `int`. `Decimal` is used only where text is parsed or printed,
and floats only where a library hands one over (LiteLLM's `response_cost`): such a figure is rounded
to the nearest nanodollar at once. Not for prices per token, which can be finer: see `prices`.
"""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal, InvalidOperation

NANO_PER_USD = 1_000_000_000

AMOUNT_NANO_USD_MAX = 9_000_000 * NANO_PER_USD
"""The largest amount that the ledger handles, 9 million dollars a budget and period.

Lua compares numbers as IEEE doubles, which are exact up to 2**53 (about 9.007e15 nanodollars).
"""


class AmountError(ValueError):
    """A text or number that is not an amount of money the ledger can hold."""


_AMOUNT_USD_MAX = Decimal(AMOUNT_NANO_USD_MAX) / NANO_PER_USD

_NEARLY_EXACT_USD = 1_000.0
"""Below it a float's nanodollars are off by less than 0.0003 of one: two roundings of 2**-53."""
_HALF_LEAST, _HALF_MOST = 0.499, 0.501


def from_usd(value: str | int | float | Decimal) -> int:
    """Return the nanodollars of an amount in US dollars, rounded half up to the nearest one.

    Floats are read by their shortest decimal form, so `0.1` is ten cents and not a little more.

    Raises:
        AmountError: the value is not a number, not finite, or beyond `AMOUNT_NANO_USD_MAX`.
    """
    if type(value) is float and 0 <= value < _NEARLY_EXACT_USD:
        # Every request's cost comes this way. Only what is nearly half a nanodollar needs decimals.
        nano = value * NANO_PER_USD
        whole = int(nano)
        if not _HALF_LEAST < nano - whole < _HALF_MOST:
            return whole + (nano - whole > 0.5)
    if isinstance(value, bool):
        raise AmountError(f"{value!r} is not an amount in US dollars")
    try:
        if type(value) is float:
            amount = Decimal(repr(value))
        else:
            text = str(value).strip().removeprefix("$")
            amount = Decimal(text.replace("_", "").replace(",", ""))
    except InvalidOperation:
        raise AmountError(
            f"{value!r} is not an amount in US dollars; write it like 12.50"
        ) from None
    if not amount.is_finite():
        raise AmountError(f"{value!r} is not a finite amount in US dollars")
    # Compared before it is multiplied: the integer of `1e999999` would take the machine's memory.
    if abs(amount) > _AMOUNT_USD_MAX:
        raise AmountError(f"{value!r} is beyond the largest amount of $9,000,000")
    return int((amount * NANO_PER_USD).to_integral_value(rounding=ROUND_HALF_UP))


def to_usd(nano_usd: int) -> Decimal:
    """Return the exact amount in US dollars, as a `Decimal` with nine places."""
    return Decimal(nano_usd).scaleb(-9)


def plain(nano_usd: int) -> str:
    """Return the exact amount as plain digits for headers and JSON, such as `0.0012` or `50`."""
    whole, part = divmod(abs(nano_usd), NANO_PER_USD)
    text = f"{whole}.{part:09d}".rstrip("0") if part else str(whole)
    return f"-{text}" if nano_usd < 0 else text


def dollars(nano_usd: int, places: int = 2) -> str:
    """Return the amount for people, such as `$49.98`; small amounts keep their first digits.

    An amount that `places` would show as zero is shown with up to six places instead, so that a
    cost of a hundredth of a cent does not look free.
    """
    amount = to_usd(abs(nano_usd))
    if amount and amount < Decimal(1).scaleb(-places):
        places = 6
    sign = "-" if nano_usd < 0 else ""
    return f"{sign}${amount:,.{places}f}"


def cost(nano_usd: int) -> str:
    """Return the cost of a request for people: to the microdollar below one dollar."""
    if nano_usd == 0:
        return "$0"
    if abs(nano_usd) >= NANO_PER_USD:
        return dollars(nano_usd, 4)
    if abs(nano_usd) < 1_000:
        return f"{'-' if nano_usd < 0 else ''}${abs(to_usd(nano_usd)):.9f}"
    return dollars(nano_usd, 6)
