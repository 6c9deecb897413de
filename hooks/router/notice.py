"""What is told of the router beside its decisions: a log line at each change, and metrics."""

from __future__ import annotations

import structlog

from budgets.tally import LateGauge, Tally
from hooks.router.loading import Router, State, told
from hooks.router.verdict import Verdict

log = structlog.get_logger("farebox.router")

READY = LateGauge(
    "farebox_router_ready",
    "1 while the trained router takes part, 0 while it cannot although it should; absent without.",
    "livemin",
)
VERDICTS = Tally(
    "farebox_router_verdicts",
    "What the trained router said about requests, and whether they went by it.",
    ["side", "followed"],
)


def note_router(router: Router) -> None:
    """Tell once what became of the router, at the start and when that changes."""
    if router.state is State.OFF:
        return
    READY.set(int(router.state is State.READY))
    if router.state is State.READY:
        log.info("router_ready", **told(router))
    else:
        log.warning("router_takes_no_part", **told(router))


def count(verdict: Verdict | None) -> None:
    """Count a verdict."""
    if verdict is not None:
        VERDICTS.add(verdict.side, str(verdict.followed).lower())
