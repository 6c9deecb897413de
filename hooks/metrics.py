"""Figures for Prometheus that workers count or know themselves, and the text of them all.

What a request counts goes through `budgets.tally`: its sums are there for a scrape within a second.
Money, queue, outbox and drift are read from the ledger at a scrape: `hooks.metrics_store`. Other
counters stand where they are counted: `budgets.counters`, `budgets.alerts.counters`,
`hooks.router.notice`.

With several workers the values are summed over all of them, through the folder that
`PROMETHEUS_MULTIPROC_DIR` names (`./scripts/serve` gives each start one of its own). What a worker
counted stays there when it dies, so no counter goes back; what it *is* goes with it.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    disable_created_metrics,
    generate_latest,
    multiprocess,
)
from prometheus_client.registry import REGISTRY, Collector

from budgets.counters import ESCALATIONS, REQUESTS
from budgets.money import NANO_PER_USD
from budgets.runtime import Runtime, TraceCounts
from budgets.tally import Spread, Tally
from hooks import advice
from hooks.decision import Decision
from hooks.policy import Policy
from hooks.refusals import Code

POLICY_RELOADS = Counter(
    "farebox_policy_reloads",
    "Edits of the three configuration files, by what became of them.",
    ["result"],
)
ADMITTED = Tally("farebox_requests_admitted", "Requests that were sent, by category.", ["category"])
REFUSED = Tally("farebox_requests_refused", "Requests that were refused, by code.", ["code"])
MISMATCHES = Tally(
    "farebox_mismatches",
    "Admitted requests whose model is not of the tier that their task type needs: "
    "over (a stronger one than needed) or under.",
    ["task_type", "direction"],
)
DECISION_SECONDS = Spread(
    "farebox_decision_seconds",
    "How long a request was read, counted and decided on, before its hold.",
    [],
    (0.00025, 0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.5),
)
ADDED_SECONDS = Spread(
    "farebox_added_seconds",
    "What Farebox adds to a request that is sent: auth (who asks), before (all of the hook before "
    "the call, with the ledger's answer), after (the hooks between the answer and the client).",
    ["stage"],
    (0.00025, 0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.5, 2),
)
JOURNAL_LINES = Gauge(
    "farebox_journal_lines",
    "Lines that wait for the ledger, over all workers.",
    multiprocess_mode="livesum",
)
JOURNAL_UNWRITTEN = Gauge(
    "farebox_journal_unwritten_lines",
    "Those of them that the disk has not taken, over all workers.",
    multiprocess_mode="livesum",
)
REFUSALS_LOST = Counter(
    "farebox_refusals_lost", "Refusals that no journal had room for while the ledger was away."
)
LEDGER_AVAILABLE = Gauge(
    "farebox_ledger_available",
    "1 while every worker reaches the ledger, 0 while one does not.",
    multiprocess_mode="livemin",
)
OPEN_REQUESTS = Gauge(
    "farebox_open_requests",
    "Requests that were admitted and have not ended, over all workers.",
    multiprocess_mode="livesum",
)
LEASED_REQUESTS = Counter(
    "farebox_leased_requests",
    "Requests whose budgets may all be leased, by who admitted or refused them: the worker from "
    "its slices, or the ledger because no slice had room.",
    ["by"],
)
LEASED_USD = Gauge(
    "farebox_leased_usd",
    "What lies unused in leased slices, over all workers and budgets; it is held in the ledger.",
    multiprocess_mode="livesum",
)
TRACES = Counter(
    "farebox_traces",
    "Traces for Langfuse, by what became of them (sent, lost, sampled_out).",
    ["result"],
)
TRACE_SCORES = Counter(
    "farebox_trace_scores",
    "Scores for Langfuse, of traces that were sent, by what became of them (sent, lost).",
    ["result"],
)
COMPARISONS = Tally(
    "farebox_shadow_comparisons",
    "Live requests that were drawn for a shadow comparison, by what became of it.",
    ["result"],
)

for _result in ("taken", "rejected"):
    POLICY_RELOADS.labels(_result)
for _code in Code:
    if _code is not Code.QUALITY_GATE_FAILED:  # That one was sent.
        REFUSED.begin(_code.value)

# With several workers the library shows none: one worker looks the same.
disable_created_metrics()  # type: ignore[no-untyped-call]  # not annotated

_DIRECTIONS = {advice.ABOVE: "over", advice.BELOW: "under"}
_LIVE_FILE = re.compile(r"gauge_live[a-z]*_(\d+)\.db")


def count_admitted(policy: Policy, decision: Decision) -> None:
    """Count a request that is sent."""
    ADMITTED.add(decision.category)
    if decision.group is not None and decision.tier:
        found = advice.mismatch(policy, decision.task_type, decision.group)
        if found is not None:
            MISMATCHES.add(decision.task_type, _DIRECTIONS[found.side])
    if any(step.outcome == "taken" for step in decision.escalation):
        ESCALATIONS.add(decision.task_type, "budget")


def count_refused(code: Code, decision: Decision | None) -> None:
    """Count a request that is not sent, with what is known of it."""
    REFUSED.add(code.value)
    verdict = "queued" if code is Code.QUEUED else "refused"
    if decision is None:
        REQUESTS.add("", "", "", verdict)
    else:
        REQUESTS.add(decision.category, decision.task_type, decision.group or "", verdict)


class OwnFigures:
    """What one worker knows of itself, shown every few seconds."""

    def __init__(self) -> None:
        self._refusals_lost = Rise(REFUSALS_LOST)
        self._by_slices = Rise(LEASED_REQUESTS.labels("slices"))
        self._by_ledger = Rise(LEASED_REQUESTS.labels("ledger"))
        self._traces = [Rise(TRACES.labels(it)) for it in ("sent", "lost", "sampled_out")]
        self._scores = [Rise(TRACE_SCORES.labels(it)) for it in ("sent", "lost")]

    def show(self, runtime: Runtime, traces: TraceCounts) -> None:
        """Show how this worker stands now."""
        JOURNAL_LINES.set(runtime.outage.depth)
        JOURNAL_UNWRITTEN.set(runtime.outage.unwritten)
        LEDGER_AVAILABLE.set(int(runtime.available))
        OPEN_REQUESTS.set(len(runtime.requests))
        self._refusals_lost.to(runtime.outage.lost_refusals)
        self._by_slices.to(runtime.desk.admitted)
        self._by_ledger.to(runtime.desk.passed_on)
        LEASED_USD.set(runtime.desk.room_nano_usd / NANO_PER_USD)
        for rise, number in zip((*self._traces, *self._scores), traces, strict=True):
            rise.to(number)


class Rise:
    """Follows a number of this worker's that only rises, and adds what is new to a counter."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._told = 0

    def to(self, number: int) -> None:
        """Take in the number as it is now."""
        if number > self._told:
            self._counter.inc(number - self._told)
            self._told = number


def exposition(more: Collector | None = None) -> bytes:
    """Return all counters of this proxy in Prometheus' text format, LiteLLM's among them.

    `more` is what was read for this scrape. It reads the files of all workers, which takes
    milliseconds: call it in a thread.
    """
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if folder:
        registry = CollectorRegistry()
        _forget_dead(Path(folder))
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # not annotated
        text = generate_latest(registry)
    else:
        text = generate_latest(REGISTRY)
    if more is not None:
        read = CollectorRegistry()
        read.register(more)
        text += generate_latest(read)
    return text


def _forget_dead(folder: Path) -> None:
    """Take away what workers said of themselves that are no more; LiteLLM does so at a start."""
    pids = {int(m[1]) for it in folder.glob("gauge_live*.db") if (m := _LIVE_FILE.match(it.name))}
    for pid in pids - {os.getpid()}:
        if not _runs(pid):
            # Another worker's scrape may have done so this very moment.
            with contextlib.suppress(FileNotFoundError):
                multiprocess.mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
