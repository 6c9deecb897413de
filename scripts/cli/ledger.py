"""`farebox ledger`: read the entries as they come, and take everything out.

Proving and repairing is in `ledger_proof`, the archive in `ledger_archive`, the audit trail in
`ledger_audit`, what killed workers' slices stand charged with in `ledger_leases`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from budgets.home import Home
from budgets.records import LedgerEntry, LedgerEvent
from budgets.verify import line_order
from scripts.cli import (
    entry_view,
    ledger_archive,
    ledger_audit,
    ledger_leases,
    ledger_proof,
    ledger_reconcile,
)
from scripts.cli.context import OpenLedger, home_of, open_ledger, zone_of
from scripts.cli.entry_view import EntryView
from scripts.cli.errors import command
from scripts.cli.export import Export, export_to
from scripts.cli.export_writers import ExportFormat
from scripts.cli.options import AsJson, Config
from scripts.cli.output import (
    console,
    cost,
    notes,
    text,
    time_text,
    write_json,
    write_json_line,
)

FOLLOW_INTERVAL_S = 0.5
WIDE_MIN = 110
"""From so many columns on a line has room for tokens and the caller."""

app = typer.Typer(help="Read, prove, repair, archive and export the ledger.", no_args_is_help=True)


@app.callback()
def ledger() -> None:
    """Read, prove, repair, archive and export the ledger. Example: farebox ledger tail --follow"""


# ── tail ─────────────────────────────────────────────────────────────────────────────────────────


@app.command()
@command
def tail(
    count: Annotated[
        int, typer.Option("--lines", "-n", min=0, max=100_000, help="How many to begin with.")
    ] = 20,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")
    ] = False,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Show the newest entries and refusals, the oldest of them first.

    With --json each of them is one line of JSON.

    Example: farebox ledger tail -n 50 --follow
    """
    asyncio.run(_tail(home_of(config), count, follow, as_json))


async def _tail(home: Home, count: int, follow: bool, as_json: bool) -> None:
    async with open_ledger(home) as opened:
        lines = _Lines(console(), zone_of(home), as_json)
        newest = await _newest(opened, count)
        last = {
            LedgerEntry: await _last(opened.ledger.entries(newest_first=True)),
            LedgerEvent: await _last(opened.ledger.refusals(newest_first=True)),
        }
        lines.show(newest)
        if not newest and not follow and not as_json:
            lines.out.print(text("The ledger has no entry yet. Send a request: farebox demo"))
        while follow:
            await asyncio.sleep(FOLLOW_INTERVAL_S)
            found: list[LedgerEntry | LedgerEvent] = [
                entry async for entry in opened.ledger.entries(after=last[LedgerEntry])
            ]
            found += [it async for it in opened.ledger.refusals(after=last[LedgerEvent])]
            for one in found:
                if line_order(one.id) > line_order(last[type(one)]):
                    last[type(one)] = one.id
            lines.show(sorted(found, key=_order))


async def _newest(opened: OpenLedger, count: int) -> list[LedgerEntry | LedgerEvent]:
    found: list[LedgerEntry | LedgerEvent] = []
    for stream in (opened.ledger.entries, opened.ledger.refusals):
        taken = 0
        async for one in stream(newest_first=True):
            if taken == count:
                break
            found.append(one)
            taken += 1
    found.sort(key=_order)
    return found[-count:] if count else []


async def _last(stream: Any) -> str:
    async for one in stream:
        return str(one.id)
    return ""


def _order(one: LedgerEntry | LedgerEvent) -> tuple[int, tuple[int, int]]:
    return (one.time_ms, line_order(one.id))


class _Lines:
    """Prints entries and refusals in columns of one width, so that later ones stand below."""

    def __init__(self, out: Console, zone: str, as_json: bool) -> None:
        self.out = out
        self._zone = zone
        self._as_json = as_json
        self._with_header = True

    def show(self, found: Sequence[LedgerEntry | LedgerEvent]) -> None:
        """Print some lines, the header before the first."""
        if not found:
            return
        if self._as_json:
            for one in found:
                if isinstance(one, LedgerEntry):
                    shown = entry_view.view(one)
                    write_json_line(shown.as_dict() | shown.routed() | shown.gated())
                else:
                    write_json_line(entry_view.refusal_as_dict(one))
            return
        made = self._table()
        for one in found:
            if isinstance(one, LedgerEntry):
                self._entry(made, entry_view.view(one))
            else:
                self._refusal(made, one)
        self.out.print(made)
        self._with_header = False

    def _table(self) -> Table:
        wide = self.out.width >= WIDE_MIN
        made = Table(
            box=None, padding=(0, 1, 0, 0), pad_edge=False, show_header=self._with_header,
            header_style="bold",
        )  # fmt: skip
        widths = {"Time": 14, "Kind": 12, "Category": 12, "Task type": 10, "Group": 15}
        if wide:
            widths |= {"In": 7, "Out": 6, "Caller": 12}
        widths["Cost"] = 11
        # Fixed widths, so that the lines of a later page stand below those of the first.
        widths["Task type"] += max(0, self.out.width - sum(widths.values()) - len(widths) + 1)
        for name, width in widths.items():
            made.add_column(
                name,
                width=width,
                justify="right" if name in ("In", "Out", "Cost") else "left",
                no_wrap=True,
                overflow="ellipsis",
            )
        return made

    def _entry(self, made: Table, line: EntryView) -> None:
        body, kind = line.body, line.entry.kind
        styles = {
            "settled": "",
            "voided": "dim",
            "unreconciled": "yellow",
            "corrected": "cyan",
            "recovered": "yellow",
        }
        status = body.get("status")
        shown = kind if kind != "settled" or status in (None, "ok") else f"{kind}: {status}"
        cells: list[Text | str] = [
            time_text(line.entry.time_ms, self._zone, "%m-%d %H:%M:%S"),
            text(shown, styles.get(kind, "yellow")),
            text(body.get("category") or "–"),
            text(body.get("task_type") or "–"),
            text(body.get("serving_group") or body.get("group") or "–"),
        ]
        if self.out.width >= WIDE_MIN:
            counts = [line.tokens("input_tokens"), line.tokens("output_tokens")]
            cells += [text("–" if one is None else f"{one:,}") for one in counts]
            cells.append(text(body.get("key_name") or body.get("user") or "–"))
        made.add_row(*cells, cost(line.charged_nano_usd))

    def _refusal(self, made: Table, refusal: LedgerEvent) -> None:
        body = entry_view.refusal_as_dict(refusal)
        cells: list[Text | str] = [
            time_text(refusal.time_ms, self._zone, "%m-%d %H:%M:%S"),
            text("refused", "red"),
            text(body.get("category") or "–"),
            text(body.get("task_type") or "–"),
            text(refusal.kind, "red"),
        ]
        if self.out.width >= WIDE_MIN:
            cells += ["–", "–", text(body["key_name"] or body["user"] or "–")]
        made.add_row(*cells, "–")


# ── export ───────────────────────────────────────────────────────────────────────────────────────


@app.command()
@command
def export(
    form: Annotated[
        ExportFormat,
        typer.Option(
            "--format",
            help="JSON Lines, CSV for spreadsheets, FinOps FOCUS 1.2 (CSV), the cost log "
            "(Markdown), or Parquet.",
        ),
    ] = ExportFormat.JSONL,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Default: standard output."),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="DATE", help="Entries from then on, such as 2026-11-01 or 7d."),
    ] = None,
    period: Annotated[
        str | None,
        typer.Option(
            metavar="PERIOD",
            help="Entries of one period: 2026-11 (month), 2026-W47 (week), 2026-11-21 (day).",
        ),
    ] = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Write out the entries, one a line: exact US dollars and nanodollars, never a prompt.

    An entry belongs to the period of its hold, as in the budgets. Amounts are decimal digits
    without rounding. In CSV a text that a spreadsheet would run as a formula starts with an
    apostrophe. FOCUS and the cost log leave voided entries out, FOCUS simulated ones as well.
    Parquet needs --output. With --json and --output a summary is printed as JSON.

    Example: farebox ledger export --format csv --period 2026-11 --output november.csv
    """
    home = home_of(config)
    wanted = Export.parse(
        form, since=since, period=period, zone=zone_of(home),
        now_ms=time.time_ns() // 1_000_000,
    )  # fmt: skip
    summary = asyncio.run(export_to(home, wanted, output))
    if summary.not_read:
        left_out = f"{summary.not_read:,} older entries are archived in files that were not found"
        hint = "see `archive` in budgets.yaml"
        notes().print(text(f"{left_out}, and are not in it: {hint}.", "yellow"), soft_wrap=True)
    if summary.left_out:
        reason = f"{summary.left_out:,} entries have no place in the form {form.value}"
        notes().print(text(f"{reason}: voided or simulated."), soft_wrap=True)
    if output is None:
        return
    if as_json:
        write_json({"file": str(output), "format": form.value} | summary.as_dict())
    else:
        console().print(
            text(f"Wrote {summary.entries:,} entries, {cost(summary.charged_nano_usd)} charged, to "
                 f"{output}"),
            soft_wrap=True,
        )  # fmt: skip


app.command("verify")(ledger_proof.verify)
app.command("rebuild")(ledger_proof.rebuild)
app.command("audit")(ledger_audit.audit)
app.command("archive")(ledger_archive.move)
app.command("reconcile")(ledger_reconcile.reconcile)
app.command("leases")(ledger_leases.leases)
