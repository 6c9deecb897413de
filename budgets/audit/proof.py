"""Proof of the audit trail: that its chain holds from the first line to the head and the anchors.

Reads the lines once, in bounded memory. What it finds names the line at which it breaks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from budgets.audit.anchor import Anchor
from budgets.audit.trail import Head, Trail

PROBLEMS_MAX = 50
"""How many problems are told: one broken line is enough to distrust what follows it."""


@dataclass(frozen=True, slots=True)
class TrailProblem:
    """Where the trail breaks. `kind` is `missing` (a line is not there), `altered` (its content is
    not what its digest says), `unlinked` (it does not follow the line before it), `head` (the
    store's own note of the end is another) or `anchor` (an anchor knew another line)."""

    kind: str
    seq: int
    message: str


@dataclass(frozen=True, slots=True)
class TrailProof:
    """What a proof found: the number of lines and of anchors, the end, and the problems."""

    lines: int
    head: Head
    anchors: int
    problems: tuple[TrailProblem, ...]


async def prove(trail: Trail, anchors: Iterable[Anchor] = ()) -> TrailProof:
    """Check every line, the head and the anchors."""
    wanted: dict[int, list[Anchor]] = {}
    count = 0
    for anchor in anchors:
        wanted.setdefault(anchor.seq, []).append(anchor)
        count += 1
    # The head is read first: lines that are added meanwhile only make the chain longer.
    noted = await trail.head()
    problems: list[TrailProblem] = []
    last, lines, at_noted = Head(), 0, ""

    def found(kind: str, seq: int, message: str) -> None:
        if len(problems) < PROBLEMS_MAX:
            problems.append(TrailProblem(kind, seq, message))

    async for line in trail.lines():
        if line.seq != last.seq + 1:
            gap = f"line {last.seq + 1}"
            if line.seq > last.seq + 2:
                gap = f"lines {last.seq + 1} to {line.seq - 1}"
            found("missing", last.seq + 1, f"{gap} of the audit trail: missing")
        elif line.prev != last.digest:
            found("unlinked", line.seq, f"line {line.seq} does not follow line {last.seq}")
        if line.digest != line.expected_digest():
            found("altered", line.seq, f"line {line.seq} was changed after it was written")
        for anchor in wanted.pop(line.seq, ()):
            if anchor.digest != line.digest:
                found(
                    "anchor",
                    line.seq,
                    f"line {line.seq} is not the one that was anchored in {anchor.file}",
                )
        if line.seq == noted.seq:
            at_noted = line.digest
        last, lines = Head(line.seq, line.digest), lines + 1
    if noted.seq > last.seq:
        found("missing", last.seq + 1, f"the trail ends at line {last.seq}, not at {noted.seq}")
    elif noted.seq and at_noted != noted.digest:
        found("head", noted.seq, f"line {noted.seq} is not the end that the store has noted")
    elif noted.seq == 0 and last.seq and (await trail.head()).seq == 0:
        found("head", last.seq, "the store's note of the trail's end is missing")
    for seq, known in sorted(wanted.items()):
        found(
            "anchor",
            seq,
            f"line {seq} was anchored in {known[0].file}, and the trail does not have it",
        )
    return TrailProof(lines, last, count, _in_order(problems))


def _in_order(problems: Sequence[TrailProblem]) -> tuple[TrailProblem, ...]:
    return tuple(sorted(problems, key=lambda it: it.seq))
