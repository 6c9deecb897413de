"""`farebox ledger leases`: what stands charged for slices of workers that nobody hears of again.

A worker that is killed leaves its slate, and whoever finds it takes back what its slices were
charged too much. Where the slate is lost with its machine, the worst case stays: here it is shown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer

from budgets.home import Home
from budgets.leases.types import MARK
from budgets.records import LedgerEntry
from scripts.cli.context import OpenLedger, home_of, open_ledger, zone_of
from scripts.cli.errors import command
from scripts.cli.options import AsJson, Config, moment_ms
from scripts.cli.output import (
    amount,
    console,
    cost,
    dollars,
    lines,
    table,
    text,
    time_iso,
    time_text,
    write_json,
)
from scripts.cli.time_bar import time_bar


@dataclass(slots=True)
class Charged:
    """One slice: when its lease ended, and what of it stands charged, by budget and period id."""

    slice_id: str
    time_ms: int
    charges: dict[tuple[str, str], int] = field(default_factory=dict)

    @property
    def nano_usd(self) -> int:
        """What stands charged for it in all."""
        return sum(self.charges.values())


def standing(entries: Iterable[LedgerEntry]) -> list[Charged]:
    """Return the slices of these entries, in any order, for which something stands charged."""
    found: dict[str, Charged] = {}
    for entry in entries:
        if f'"{MARK}"' not in entry.body:
            continue
        it = found.setdefault(entry.hold_id, Charged(entry.hold_id, entry.time_ms))
        it.time_ms = min(it.time_ms, entry.time_ms)
        for key, part in entry.charges.items():
            it.charges[key] = it.charges.get(key, 0) + part
    return sorted((it for it in found.values() if it.nano_usd > 0), key=lambda it: it.time_ms)


@command
def leases(
    since: Annotated[
        str, typer.Option(metavar="DATE", help="Look from then on, such as 2026-11-01 or 7d.")
    ] = "62d",
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Show what stands charged for leased slices of workers that were lost with their machine.

    It is at most so much more than their requests cost. What a worker of the same FAREBOX_HOME can
    find out is taken back by itself within seconds; wait for that first. Exits 1 where something
    stands charged.

    Example: farebox ledger leases --since 7d
    """
    home = home_of(config)
    found = asyncio.run(_read(home, since))
    if as_json:
        write_json({"slices": [_as_dict(it) for it in found]} | amount("charged", _sum(found)))
    else:
        _show(found, zone_of(home))
    if found:
        raise typer.Exit(1)


async def _read(home: Home, since: str) -> list[Charged]:
    async with open_ledger(home) as opened:
        since_ms = moment_ms(since, "--since", zone_of(home), opened.now_ms, past=True)
        return standing(await _entries(opened, since_ms))


async def _entries(opened: OpenLedger, since_ms: int) -> list[LedgerEntry]:
    """Return the entries of slices, the newest first."""
    found = []
    with time_bar("Reading", opened.now_ms) as bar:
        async for entry in opened.ledger.entries(newest_first=True):
            if entry.time_ms < since_ms:
                break
            bar(since_ms + opened.now_ms - entry.time_ms)
            if f'"{MARK}"' in entry.body:
                found.append(entry)
    return found


def _sum(found: list[Charged]) -> int:
    return sum(it.nano_usd for it in found)


def _as_dict(it: Charged) -> dict[str, Any]:
    ((budget, period_id),) = it.charges
    return {
        "slice": it.slice_id,
        "time": time_iso(it.time_ms),
        "budget": budget,
        "period": period_id,
        **amount("charged", it.nano_usd),
    }


def _show(found: list[Charged], zone: str) -> None:
    out = console()
    if not found:
        out.print(text("Nothing stands charged for a leased slice."))
        return
    made = table("Lease ended", "Budget", "Period", "Charged", right=["Charged"])
    of_budget: dict[str, int] = {}
    for it in found:
        ((budget, period_id),) = it.charges
        of_budget[budget] = of_budget.get(budget, 0) + it.nano_usd
        made.add_row(time_text(it.time_ms, zone), text(budget), text(period_id), cost(it.nano_usd))
    out.print(made)
    out.print(
        lines(
            "Charged as the worst case: what their workers had admitted is not known here. Where "
            "their FAREBOX_HOME still exists, start a proxy with it, and it is put right. Else "
            "compare with the provider's bill (farebox ledger reconcile), and grant what was too "
            "much:"
        )
    )
    for budget, nano_usd in of_budget.items():
        usd = dollars(nano_usd).replace("$", "").replace(",", "")
        said = f"  farebox budget grant {budget} {usd} --reason 'a lost worker'"
        out.print(text(said), soft_wrap=True)
