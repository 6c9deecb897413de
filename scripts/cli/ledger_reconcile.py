"""`farebox ledger reconcile`: a provider's export against the ledger, with the residual named."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from budgets.config import BudgetsFile
from budgets.home import Home
from budgets.months.reading import Missing, entries_between
from budgets.yamlfile import ConfigErrors
from hooks.policy import Policy
from scripts.cli import entry_view
from scripts.cli.context import archive_of, budgets_of, home_of, open_ledger, policy_of
from scripts.cli.errors import ExitCode, command, wrong_usage
from scripts.cli.options import AsJson, Config
from scripts.cli.output import amount, console, dollars, notes, percent, table, text, write_json
from scripts.reconcile.compare import LedgerSide, Line, Place, Reconciliation, Side, compare
from scripts.reconcile.invoices import Invoice, InvoiceError, read_invoice

CENT_NANO_USD = 10_000_000
TOKENS_LEAST = 100
DAY_MS = 86_400_000


@command
def reconcile(
    invoice: Annotated[
        Path, typer.Argument(metavar="INVOICE.csv", help="OpenAI's or Anthropic's export.")
    ],
    tolerance: Annotated[
        float,
        typer.Option(
            min=0, max=100, metavar="PERCENT", help="The largest residual that is no finding."
        ),
    ] = 1.0,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Compare a provider's usage or cost export with the ledger, by day and model.

    Costs are compared where the export has costs, else tokens. The residual is the export less the
    ledger: above zero, the provider bills for what Farebox does not know. Days are UTC. Exit code 1
    where the residual of a model, or of all of them, is beyond the tolerance (and beyond a cent, or
    100 tokens).

    Example: farebox ledger reconcile claude_api_cost_2026_10.csv --tolerance 0.5
    """
    home = home_of(config)
    found = _read(invoice)
    if not found.lines:
        raise wrong_usage(f"{invoice} has no line with an amount or tokens in it.")
    result, missing = asyncio.run(_compare(home, found))
    costs = found.has_costs
    least = CENT_NANO_USD if costs else TOKENS_LEAST
    beyond = [
        it
        for it in (*result.models, result.total)
        if not it.is_within(costs, tolerance / 100, least)
    ]
    if as_json:
        write_json(_as_dict(result, beyond, tolerance, missing))
    else:
        _show(result, beyond, tolerance, missing)
    if beyond:
        raise typer.Exit(ExitCode.FALLS_SHORT)


def _read(path: Path) -> Invoice:
    try:
        return read_invoice(path)
    except InvoiceError as error:
        raise wrong_usage(
            f"{path} cannot be compared: {error}.",
            "Export usage or costs by model as CSV; see docs/how-to/reconcile-an-invoice.md.",
        ) from None
    except OSError as error:
        raise wrong_usage(f"{path} cannot be read: {error.strerror or error}.") from None
    except (UnicodeDecodeError, ValueError):
        raise wrong_usage(f"{path} is not a CSV file in UTF-8.") from None


async def _compare(home: Home, invoice: Invoice) -> tuple[Reconciliation, int]:
    first, last = min(it.day for it in invoice.lines), max(it.day for it in invoice.lines)
    start_ms = _ms(first)
    end_ms = _ms(last) + DAY_MS
    side = LedgerSide(invoice.provider, _places(home))
    budgets = budgets_of(home)
    archive = archive_of(home, budgets) if isinstance(budgets, BudgetsFile) else None
    missing = 0
    async with open_ledger(home) as opened:
        async for entry in entries_between(opened.ledger, archive, start_ms, end_ms):
            if isinstance(entry, Missing):
                missing += entry.entries
            elif start_ms <= entry.time_ms < end_ms:
                side.add(entry_view.view(entry))
    return compare(invoice, side, first, last), missing


def _ms(day: str) -> int:
    midnight = datetime.combine(date.fromisoformat(day), datetime.min.time(), UTC)
    return (midnight - datetime.fromtimestamp(0, UTC)) // timedelta(milliseconds=1)


def _places(home: Home) -> Callable[[str], Place | None]:
    """Return what tells a group's provider and model, as far as the files are valid."""
    try:
        policy: Policy | None = policy_of(home)
    except ConfigErrors:
        policy = None

    def place_of(name: str) -> Place | None:
        group = policy.groups.groups.get(name) if policy is not None else None
        return (group.provider, group.deployments[0].model) if group is not None else None

    return place_of


def _show(result: Reconciliation, beyond: list[Line], tolerance: float, missing: int) -> None:
    costs = result.invoice.has_costs
    out = console()
    span = f"{result.first_day} to {result.last_day} (UTC)"
    out.print(text(f"{result.invoice.form} against the ledger, {span}", "bold"))
    unit = "" if costs else " tokens"
    head = ("Day", "Model", f"Export{unit}", f"Ledger{unit}", "Residual", "%")
    made = table(*head, right=head[2:])
    for it in result.lines:
        made.add_row(text(it.day), text(it.model), *_cells(it, costs))
    for it in result.models:
        style = "red" if it in beyond else ""
        made.add_row(text("all days", style), text(it.model, style), *_cells(it, costs))
    style = "red" if result.total in beyond else "green"
    made.add_row(text("all days", style), text("all models", style), *_cells(result.total, costs))
    out.print(made)
    for sentence in _sentences(result, missing):
        out.print(text(sentence), soft_wrap=True)
    if beyond:
        names = ", ".join(it.model or "all models" for it in beyond)
        notes().print(text(f"Beyond the tolerance of {tolerance:g} %: {names}.", "red"))
    else:
        out.print(text(f"The residual is within {tolerance:g} %.", "green"))


def _sentences(result: Reconciliation, missing: int) -> list[str]:
    found = []
    costs = result.invoice.has_costs
    only_invoice = [it.model for it in result.models if it.ledger is None]
    only_ledger = [it.model for it in result.models if it.invoice is None]
    if only_invoice:
        found.append(
            f"Only in the export: {', '.join(only_invoice)}. Something else uses that account, or "
            "its key."
        )
    if only_ledger:
        found.append(
            f"Only in the ledger: {', '.join(only_ledger)}. The export is of another account, or "
            "the model has another name there."
        )
    without = result.total.ledger.without_tokens if result.total.ledger else 0
    if without and not costs:
        found.append(f"{without:,} requests of the ledger have no reported tokens.")
    if result.simulated:
        found.append(f"{result.simulated:,} simulated requests were left out: nobody bills them.")
    if missing:
        found.append(f"{missing:,} archived entries could not be read, and are not in it.")
    return found


def _cells(it: Line, costs: bool) -> list[Any]:
    def shown(side: Side | None) -> str:
        if side is None:
            return "–"
        return dollars(side.cost) if costs else f"{side.input_tokens + side.output_tokens:,}"

    residual = it.residual(costs)
    named = dollars(residual) if costs else f"{residual:,}"
    return [shown(it.invoice), shown(it.ledger), named, percent(it.share(costs))]


def _as_dict(
    result: Reconciliation, beyond: list[Line], tolerance: float, missing: int
) -> dict[str, Any]:
    costs = result.invoice.has_costs

    def side(of: Side | None) -> dict[str, Any] | None:
        if of is None:
            return None
        tokens = {"input_tokens": of.input_tokens, "output_tokens": of.output_tokens}
        return {**amount("cost", of.cost), **tokens, "requests": of.requests}

    def line(it: Line) -> dict[str, Any]:
        name = "residual_nano_usd" if costs else "residual_tokens"
        return {
            "day": it.day or None,
            "model": it.model or None,
            "export": side(it.invoice),
            "ledger": side(it.ledger),
            name: it.residual(costs),
            "residual_share": it.share(costs),
        }

    return {
        "form": result.invoice.form,
        "compared": "cost" if costs else "tokens",
        "first_day": result.first_day,
        "last_day": result.last_day,
        "tolerance_percent": tolerance,
        "within_tolerance": not beyond,
        "beyond": [it.model or None for it in beyond],
        "lines": [line(it) for it in result.lines],
        "models": [line(it) for it in result.models],
        "total": line(result.total),
        "simulated_left_out": result.simulated,
        "archived_entries_not_read": missing,
    }
