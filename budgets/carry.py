"""What a budget hands on when its period is closed: its balance, within two bounds. Pure.

    none               nothing
    balance            all that it has left, or is over
    LEAST:MOST         the balance, but not below LEAST and not above MOST (nanodollars); a bound
                       that is left out does not bound

So `:0` hands on a debt and nothing else, and `0:20000000000` what is left, up to $20. The texts
stand in the store, where an older release that does not know bounds takes them for `none`.
"""

from __future__ import annotations

import re
from typing import Final

from budgets.money import AMOUNT_NANO_USD_MAX

Carry = str
"""`none`, `balance`, or the bounds of what is handed on."""

NONE: Final = "none"
BALANCE: Final = "balance"
DEBT: Final = ":0"

_BOUNDS = re.compile(r"(-?\d*):(-?\d*)")


def unused_up_to(nano_usd: int, *, debt: bool = False) -> Carry:
    """Return the carry of what is left, up to an amount; with `debt` that of an overage too."""
    return f"{'' if debt else 0}:{nano_usd}"


def check_carry(carry: Carry) -> None:
    """Raise `ValueError` for a text that is no carry."""
    match = _BOUNDS.fullmatch(carry)
    if carry in (NONE, BALANCE):
        return
    if match is None or "-" in match.groups():
        raise ValueError(f"{carry!r} is no carry: `none`, `balance` or bounds like `0:500`")
    least, most = bounds(carry)
    if max(abs(least or 0), abs(most or 0)) > AMOUNT_NANO_USD_MAX:
        raise ValueError(f"a bound of the carry {carry!r} is beyond what the ledger can hold")
    if least is not None and most is not None and least > most:
        raise ValueError(f"the carry {carry!r} has no amount between its bounds")


def carries(carry: Carry) -> bool:
    """Say whether a budget hands anything on at all."""
    return carry != NONE


def bounds(carry: Carry) -> tuple[int | None, int | None]:
    """Return the least and the most that is handed on; None: no bound."""
    if carry == NONE:
        return 0, 0
    if carry == BALANCE:
        return None, None
    least, _, most = carry.partition(":")
    return int(least) if least else None, int(most) if most else None


def handed_on(carry: Carry, balance_nano_usd: int) -> int:
    """Return what of a balance is handed on."""
    least, most = bounds(carry)
    if most is not None:
        balance_nano_usd = min(balance_nano_usd, most)
    return balance_nano_usd if least is None else max(balance_nano_usd, least)
