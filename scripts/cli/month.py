"""`farebox month`: close a month, and report on one.

Closing goes through the running proxy, so that the snapshot says who did it. A report only reads:
it works beside a running proxy and without one.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.progress import BarColumn, Progress, TextColumn

from budgets.config import BudgetsFile
from budgets.home import Home
from budgets.months.keeping import RedisSnapshots, SnapshotFolder
from budgets.months.snapshot import SnapshotDamaged
from budgets.period import Period, period_at, period_of_id
from budgets.queue.redis_queue import RedisQueue
from scripts.cli.context import (
    archive_of,
    budgets_of,
    home_of,
    open_ledger,
    policy_of,
    zone_of,
)
from scripts.cli.errors import ExitCode, Problem, command, wrong_usage
from scripts.cli.http import KeyFileOption, ProxyOption, call, proxy_of
from scripts.cli.options import AsJson, Config
from scripts.cli.output import (
    as_json,
    console,
    dollars,
    notes,
    table,
    text,
    time_text,
    write_json,
)

ROUTE = "/farebox/months"

app = typer.Typer(help="Close a month, and report on one.", no_args_is_help=True)


class ReportFormat(StrEnum):
    """The form of a report; `all` writes the three as files."""

    MARKDOWN = "md"
    HTML = "html"
    JSON = "json"
    ALL = "all"


@app.callback()
def month() -> None:
    """Close a month, and report on one. Example: farebox month report --period 2026-10"""


# ── close ────────────────────────────────────────────────────────────────────────────────────────


@app.command()
@command
def close(
    period: Annotated[
        str | None,
        typer.Option(metavar="MONTH", help="Such as 2026-10. Default: the month before this one."),
    ] = None,
    with_open_holds: Annotated[
        bool,
        typer.Option(
            "--with-open-holds",
            help="Close although holds are open: they count as spent, their ends become addenda.",
        ),
    ] = False,
    proxy: ProxyOption = None,
    key_file: KeyFileOption = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Close a month: freeze its statement, hand on what its budgets carry, and keep a snapshot.

    A running proxy does this by itself once the month's last hold has ended. Closing a month again
    changes nothing. Exit code 1 while it cannot be closed; what is still open is listed.

    Example: farebox month close --period 2026-10
    """
    home = home_of(config)
    at = _month_of(period, zone_of(home), _wall_ms(), before=True)
    target = proxy_of(proxy, key_file, home)
    body = {"with_open_holds": with_open_holds}
    answer = call(target, "POST", f"{ROUTE}/{quote(at.id, safe='')}/close", body)
    if as_json:
        write_json({"period": at.id, **answer})
    elif answer.get("closed"):
        _show_closed(at, answer)
    else:
        _show_open(at, answer, zone_of(home))
    if not answer.get("closed"):
        raise typer.Exit(ExitCode.FALLS_SHORT)


def _show_closed(at: Period, answer: dict[str, Any]) -> None:
    out = console()
    snapshot = answer.get("snapshot") or {}
    out.print(text(f"{at.id} is closed.", "green"))
    rows = table("Budget", "Limit", "Spent", "Held", "Handed on", right=("Limit", "Spent", "Held"))
    for row in snapshot.get("budgets", []):
        rows.add_row(
            text(row["budget"]),
            dollars(row["limit_nano_usd"]),
            dollars(row["spent_nano_usd"]),
            dollars(row["held_nano_usd"]),
            dollars(row["carried_nano_usd"]),
        )
    out.print(rows)
    out.print(text(f"Closed by {snapshot.get('closed_by')}, digest {snapshot.get('digest')}"))
    out.print(text(f"Snapshot: {answer.get('file')}"), soft_wrap=True)


def _show_open(at: Period, answer: dict[str, Any], zone: str) -> None:
    out = notes()
    if answer.get("reason") == "not_ended":
        until = time_text(answer.get("end_ms"), zone, "%Y-%m-%d %H:%M")
        out.print(text(f"{at.id} is not closed: it runs until {until} ({zone}).", "yellow"))
        return
    count = int(answer.get("count") or 0)
    out.print(text(f"{at.id} is not closed: {count} of its holds are open.", "yellow"))
    rows = table("Hold", "Amount", "Since", "Lease ends", right=("Amount",))
    for hold in answer.get("holds", []):
        rows.add_row(
            text(hold["hold_id"]),
            dollars(hold["amount_nano_usd"]),
            time_text(hold["time_ms"], zone),
            time_text(hold["lease_until_ms"], zone),
        )
    out.print(rows)
    out.print(
        text("A hold ends with its request, or is charged when its lease ends. Then run it again.")
    )


# ── report ───────────────────────────────────────────────────────────────────────────────────────


@app.command()
@command
def report(
    period: Annotated[
        str | None,
        typer.Option(metavar="MONTH", help="Such as 2026-10. Default: this month."),
    ] = None,
    form: Annotated[
        ReportFormat,
        typer.Option("--format", help="Markdown, one HTML page, JSON, or all as files."),
    ] = ReportFormat.MARKDOWN,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="Default: standard output. With `all`, the name without its ending.",
        ),
    ] = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Report on a month: spend against budgets, forecast, savings, model mix, findings.

    For a month that runs, what is known so far. What cannot be known is said to be unknown. The
    HTML page has its charts in it; Markdown has them as SVG files beside the file of --out.

    Example: farebox month report --period 2026-10 --format html --out october.html
    """
    home = home_of(config)
    at = _month_of(period, zone_of(home), _wall_ms(), before=False)
    if as_json:
        form = ReportFormat.JSON
    if form is ReportFormat.ALL and out is None:
        raise wrong_usage("--format all writes files.", "Name them with --out, such as october.")
    if out is not None and not out.parent.is_dir():
        raise wrong_usage(f"--out: there is no folder {out.parent}.", "Name a folder that exists.")
    asyncio.run(_report(home, at, form, out))


async def _report(home: Home, at: Period, form: ReportFormat, out: Path | None) -> None:
    # Matplotlib and Jinja2 take a second to import: no other command waits for them.
    from scripts.report import render
    from scripts.report.document import document
    from scripts.report.gather import gather

    policy = policy_of(home)
    budgets = budgets_of(home)
    archive = archive_of(home, budgets) if isinstance(budgets, BudgetsFile) else None
    async with open_ledger(home) as opened:
        if at.start_ms > opened.now_ms:
            raise wrong_usage(f"--period: {at.id} has not begun.")
        snapshots = RedisSnapshots(opened.client, home.ledger)
        with _progress() as progress:
            task = progress.add_task("Reading", total=max(1, opened.now_ms - at.start_ms))
            try:
                found = await gather(
                    opened.ledger,
                    snapshots,
                    archive,
                    RedisQueue(opened.client, home.ledger),
                    policy,
                    at,
                    lambda ms: progress.update(task, completed=max(0, ms - at.start_ms)),
                )
                SnapshotFolder(home.folder, home.ledger).read(at.id)
            except SnapshotDamaged as error:
                raise Problem(
                    f"The snapshot of {at.id} is damaged: {error}.",
                    "Compare the file with the one in Redis, and put the right one back.",
                    kind="snapshot_damaged",
                ) from None
    doc = document(found.figures, found.snapshot)
    texts: dict[Path, str] = {}
    printed = ""
    if form in (ReportFormat.JSON, ReportFormat.ALL):
        printed = as_json(render.as_dict(found.figures, found.snapshot)) + "\n"
        _take(texts, out, ".json", form, printed)
    if form is not ReportFormat.JSON:
        drawn = {}
        if out is not None or form is ReportFormat.HTML:
            from scripts.report.charts import charts

            drawn = charts(found.figures)
        if form in (ReportFormat.HTML, ReportFormat.ALL):
            printed = render.html(doc, drawn)
            _take(texts, out, ".html", form, printed)
        if form in (ReportFormat.MARKDOWN, ReportFormat.ALL):
            files = {} if out is None else {it: f"{_stem(out, form)}-{it}.svg" for it in drawn}
            printed = render.markdown(doc, files)
            _take(texts, out, ".md", form, printed)
            for name, file in files.items():
                assert out is not None
                texts[out.parent / file] = drawn[name] + "\n"
    if out is None:
        sys.stdout.write(printed)
        return
    for path, content in texts.items():
        _write(path, content)
    console().print(text("Wrote " + ", ".join(str(path) for path in texts)), soft_wrap=True)


def _stem(out: Path, form: ReportFormat) -> str:
    return out.name if form is ReportFormat.ALL else out.stem


def _take(
    texts: dict[Path, str], out: Path | None, ending: str, form: ReportFormat, content: str
) -> None:
    if out is not None:
        texts[out.with_name(out.name + ending) if form is ReportFormat.ALL else out] = content


def _write(path: Path, content: str) -> None:
    """Write a file whole or not at all."""
    temporary: str | None = None
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise wrong_usage(
            f"--out: {path} cannot be written: {error.strerror or error}.",
            "Name a file in a folder that you can write to.",
        ) from None


def _progress() -> Progress:
    out = notes()
    return Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"),
        console=out, disable=not out.is_terminal, transient=True,
    )  # fmt: skip


def _month_of(given: str | None, zone: str, now_ms: int, *, before: bool) -> Period:
    """Return the month that an option names, else this one or the one before it."""
    if given is None:
        this = period_at("month", zone, now_ms)
        return period_at("month", zone, this.start_ms - 1) if before else this
    found = period_of_id(given, zone) if len(given) == len("2026-10") else None
    if found is None:
        raise wrong_usage(f"--period: {given!r} is not a month.", "Write it like 2026-10.")
    return found


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000
