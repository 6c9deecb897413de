"""`farebox router status`: the router in use, its promises, and whether live traffic has moved."""

from __future__ import annotations

import asyncio
from typing import Any

import typer

from budgets.errors import LedgerUnavailable
from hooks.router import loading
from hooks.router.drift import Judged
from hooks.router.loading import Router, State
from hooks.router.traffic import TrafficStore
from hooks.router.verdict import promise_text
from scripts.cli.context import home_of, open_ledger, policy_of
from scripts.cli.errors import ExitCode, command
from scripts.cli.options import AsJson, Config
from scripts.cli.output import console, facts, percent, table, time_text, write_json


@command
def status(config: Config = None, as_json: AsJson = False) -> None:
    """Show the router in use and whether its promise still fits.

    Read from routing.yaml, the artefact and the ledger's Redis: which models it is about, what was
    promised, how many live requests were compared with the profile, and what the last windows
    said. Exit code 1 if the router takes no part although it should, or if the last window drifted.

    Example: farebox router status
    """
    home = home_of(config)
    policy = policy_of(home)
    router = policy.router
    windows: tuple[Judged, ...] = ()
    open_requests: int | None = None
    if router.artefact is not None:
        try:
            windows, open_requests = asyncio.run(_traffic(config, router.artefact.digest))
        except LedgerUnavailable:
            open_requests = None
    drifted = bool(windows) and windows[0].drifted
    if as_json:
        write_json(
            dict(loading.told(router))
            | {
                "drifted": drifted,
                "open_window_requests": open_requests,
                "windows": [it.as_dict() for it in windows],
            }
        )
    else:
        _show(router, windows, open_requests, policy.budgets.time_zone)
    if router.state not in (State.READY, State.OFF) or drifted:
        raise typer.Exit(ExitCode.FALLS_SHORT)


async def _traffic(config: Any, digest: str) -> tuple[tuple[Judged, ...], int]:
    async with open_ledger(home_of(config)) as opened:
        store = TrafficStore(opened.client, opened.home.ledger)
        return await store.judged(digest), await store.waiting(digest)


def _show(router: Router, windows: tuple[Judged, ...], waiting: int | None, zone: str) -> None:
    out = console()
    if router.state is State.OFF:
        out.print("No router is in use: `router.mode` is off, or no artefact is named.")
        return
    artefact = router.artefact
    rows: dict[str, Any] = {
        "Router": f"{router.state.value}, mode {router.mode.value}",
        "File": str(router.path),
    }
    if router.problems:
        rows["Takes no part"] = "; ".join(router.problems)
    if artefact is not None:
        rows["Artefact"] = f"{artefact.id}, made {artefact.made}"
        rows["Between"] = f"{artefact.cheap.group} and {artefact.strong.group}"
        rows["Profile"] = f"{artefact.source.name}, {artefact.source.labels:,} labels"
        if waiting is not None:
            rows["Live"] = f"{waiting:,} requests in the open window"
    out.print(facts(rows))
    if artefact is not None and artefact.calibration is not None:
        promises = table("Task types", "To the cheap tier", "Promise", right=["To the cheap tier"])
        for it in artefact.calibration.promises:
            promises.add_row(
                ", ".join(it.task_types),
                percent(it.cheap_share),
                promise_text(artefact.calibration, it),
            )
        out.print(promises)
    if windows:
        shown = table("Window closed", "Requests", "Scores", "Lengths", "Mix", "Verdict")
        for window in windows:
            shown.add_row(
                time_text(window.time_ms, zone),
                f"{window.requests:,}",
                *(f"{it:.3f}" for it in (window.scores, window.lengths, window.mix)),
                "; ".join(window.reasons) or "as profiled",
            )
        out.print(shown)
