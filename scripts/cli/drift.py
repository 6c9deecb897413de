"""`farebox drift`: what the watch over the ledger has found, and accepting it as the new normal.

Findings are read from the ledger's Redis. Accepting goes through the proxy, so that it bears the
name of the person's key.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any

import typer

from budgets.drift import findings
from budgets.drift.findings import Finding
from scripts.cli.context import home_of, open_ledger, zone_of
from scripts.cli.errors import ExitCode, Problem, command
from scripts.cli.http import KeyFileOption, ProxyOption, call, proxy_of
from scripts.cli.options import AsJson, Config
from scripts.cli.output import (
    console,
    duration_short,
    facts,
    percent,
    table,
    text,
    time_iso,
    time_text,
    write_json,
)

RUNBOOK = "docs/monitoring/runbooks.md"
TIME = "%Y-%m-%d %H:%M"

app = typer.Typer(help="Look at what degrades in silence, and accept it.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(metavar="ID", help="The finding: its id in `drift list`.")]


@app.callback()
def drift() -> None:
    """Look at what degrades in silence, and accept it. Example: farebox drift list"""


@app.command("list")
@command
def list_findings(
    everything: Annotated[
        bool, typer.Option("--all", help="Also how far what is in control is from its limit.")
    ] = False,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """List what is out of control: the signal, what it is about, since when, and by how much.

    Exit code 1 if anything is. A score is evidence over its limit: 1 or more is out of control.

    Example: farebox drift list --all --json
    """
    found, scores, now_ms = asyncio.run(_read(config))
    if as_json:
        document: dict[str, Any] = {"findings": [_as_dict(it) for it in found]}
        if everything:
            document["scores"] = [
                {"signal": signal, "task_type": task_type or None, "score": score}
                for (signal, task_type), score in sorted(scores.items())
            ]
        write_json(document)
    else:
        out = console()
        if found:
            out.print(_table(found, now_ms))
        else:
            out.print(text("Nothing is out of control.", "green"))
        if everything:
            out.print(_scores(scores))
        if found:
            out.print(text(f"farebox drift show {found[0].id}", "dim"), soft_wrap=True)
    if found:
        raise typer.Exit(ExitCode.FALLS_SHORT)


@app.command()
@command
def show(finding_id: Id, config: Config = None, as_json: AsJson = False) -> None:
    """Show one finding: what was found, the evidence, and where to read what to do.

    Example: farebox drift show escalation_rate/entity_extraction_structured
    """
    found, _, _ = asyncio.run(_read(config))
    one = next((it for it in found if it.id == finding_id), None)
    if one is None:
        raise Problem(
            f"There is no finding {finding_id!r}: it is over, or was accepted.",
            "See `farebox drift list`.",
            ExitCode.WRONG_USAGE,
        )
    if as_json:
        write_json({"finding": _as_dict(one)})
        return
    zone = zone_of(home_of(config))
    rows: dict[str, Any] = {
        "Found": one.text,
        "Task type": one.task_type or "all",
        "Since": f"{time_text(one.since_ms, zone, TIME)} {zone}, as far as can be told",
        "Seen last": f"{time_text(one.seen_ms, zone, TIME)} {zone}",
        "Evidence": f"{one.statistic:.1f}, where {one.limit:.1f} is enough",
        "Requests": f"{one.count:,}",
        "Expected": percent(one.expected),
        "Observed": percent(one.observed),
        "What to do": f"{RUNBOOK}#drift-{one.signal}",
    }
    if one.model:
        rows["Model"] = one.model
    if one.key_name:
        rows["Key"] = one.key_name
    console().print(text(one.id, "bold underline"))
    console().print(facts(rows))
    console().print(
        text(f'If this is the new normal: farebox drift accept {one.id} --reason "WHY"'),
        soft_wrap=True,
    )


@app.command()
@command
def accept(
    finding_id: Id,
    reason: Annotated[
        str, typer.Option("--reason", "-r", help="Why; it stands in the audit trail.")
    ],
    proxy: ProxyOption = None,
    key_file: KeyFileOption = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Accept a finding as the new normal: what follows is what later requests are held against.

    Needs the key of an approver or an admin.

    Example: farebox drift accept model_changed/-/claude-haiku --reason "profiled anew on Friday"
    """
    home = home_of(config)
    body = {"id": finding_id, "reason": reason}
    answer = call(proxy_of(proxy, key_file, home), "POST", "/farebox/drift/accept", body)
    if as_json:
        write_json(answer)
    else:
        console().print(text(f"{finding_id} is accepted; a new baseline begins.", "green"))


async def _read(
    config: Any,
) -> tuple[tuple[Finding, ...], Mapping[tuple[str, str], float], int]:
    async with open_ledger(home_of(config)) as opened:
        name = opened.home.ledger
        found = await findings.read(opened.client, name)
        return found, await findings.scores(opened.client, name), opened.now_ms


def _table(found: tuple[Finding, ...], now_ms: int) -> Any:
    made = table("Id", "Since", "Requests", "Expected", "Observed", "Found",
                 right=["Requests", "Expected", "Observed"])  # fmt: skip
    for it in found:
        made.add_row(
            text(it.id),
            duration_short(now_ms - it.since_ms),
            f"{it.count:,}",
            percent(it.expected),
            percent(it.observed),
            text(it.text),
        )
    return made


def _scores(scores: Mapping[tuple[str, str], float]) -> Any:
    made = table("Signal", "Task type", "Score", right=["Score"])
    for (signal, task_type), score in sorted(scores.items(), key=lambda it: -it[1]):
        made.add_row(text(signal), text(task_type or "all"), f"{score:.2f}")
    return made


def _as_dict(finding: Finding) -> dict[str, Any]:
    return {
        "id": finding.id,
        **asdict(finding),
        "since": time_iso(finding.since_ms),
        "seen": time_iso(finding.seen_ms),
    }
