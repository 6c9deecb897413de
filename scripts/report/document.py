"""A month's figures as a document: facts, warnings, verdicts and sections, the same in every form.

Templates lay it out and decide nothing.
"""

from __future__ import annotations

from budgets.months.lines import Figures
from budgets.months.snapshot import Snapshot
from scripts.cli.output import clean, dollars, time_text
from scripts.report.sections import sections
from scripts.report.shape import Document
from scripts.report.verdicts import verdicts


def document(found: Figures, snapshot: Snapshot | None) -> Document:
    """Return the report of a month."""
    return Document(
        title=f"Month report {found.period_id}",
        facts=_facts(found, snapshot),
        warnings=_warnings(found),
        verdicts=verdicts(found),
        sections=sections(found),
    )


def _facts(found: Figures, snapshot: Snapshot | None) -> tuple[tuple[str, str], ...]:
    if found.closed_ms is not None:
        state = f"closed {time_text(found.closed_ms, found.zone, '%Y-%m-%d %H:%M')}"
    elif found.ended:
        state = "ended, not closed yet"
    else:
        state = f"running; as of {time_text(found.now_ms, found.zone, '%Y-%m-%d %H:%M')}"
    facts = [
        ("State", state),
        ("Time zone", found.zone),
        ("Days that the ledger saw", f"{found.days_seen} of {len(found.days)}"),
        ("Spent", dollars(found.total.charged)),
        ("Requests", f"{found.total.requests:,}"),
        ("Tokens", f"{found.total.input_tokens:,} in, {found.total.output_tokens:,} out"),
    ]
    if snapshot is not None:
        facts += [("Closed by", clean(snapshot.closed_by, 80)), ("Snapshot", snapshot.digest)]
    return tuple(facts)


def _warnings(found: Figures) -> tuple[str, ...]:
    warnings = []
    if found.missing_entries:
        warnings.append(
            f"{found.missing_entries:,} archived entries could not be read: what is said here of "
            "single requests is without them. The budgets are complete."
        )
    if found.unreadable:
        warnings.append(f"{found.unreadable:,} entries have no details that can be read.")
    for mark, sentence in (
        ("simulated", "were answered by the simulator, and no provider bills them"),
        ("unreconciled", "ended without word, and are charged with their hold until a late settle"),
        ("estimated", "are charged by a local count, because no usage was reported"),
    ):
        cell = found.marks.get(mark)
        if cell is not None and cell.requests:
            warnings.append(f"{cell.requests:,} requests ({dollars(cell.charged)}) {sentence}.")
    if found.addenda:
        warnings.append(f"{found.addenda:,} entries came after the closing, as addenda.")
    return tuple(warnings)
