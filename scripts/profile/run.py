"""Sending a plan: tiers in parallel, each answer kept, judged and recorded at once.

    queue of a tier ─► send ─► keep the answer ─► judge ─► append the record

A run that is killed loses what was on its way at that moment, at most `parallel` requests a tier:
those may have been charged, and are sent again. Everything else is on the disk. A run that stops by
itself, or by one Ctrl-C, waits for what is on its way.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from scripts.profile.answers import AnswerFile, KeptAnswer
from scripts.profile.judged import Judge, Judged
from scripts.profile.plan import GRADING_TAG, TAG, Cell
from scripts.profile.records import Header, ProfileWriter, Record, TierHeader, TierName
from scripts.profile.rubric import OUTPUT_TOKENS_MAX, Graded, Grader
from scripts.profile.sending import Answer, Sender, Stopped

GATE_CODE = "quality_gate_failed"


@dataclass
class Outcome:
    """What a run did. `stopped` says why it ended early."""

    records: list[Record] = field(default_factory=list)
    sent: int = 0
    waits: int = 0
    stopped: Stopped | None = None


class StaleRun(ValueError):
    """A profile that cannot be gone on with: it was made with something else."""


def left_to_do(
    cells: Sequence[Cell], records: Sequence[Record], *, by_person: bool, retry_errors: bool
) -> list[Cell]:
    """Return the cells that have no usable record yet.

    What was answered and could not be judged is judged again, unless it waits for a person.
    """
    done = {
        record.key
        for record in records
        if record.counts
        or (record.error is not None and not retry_errors)
        or (not record.judged and record.error is None and by_person)
    }
    return [cell for cell in cells if (cell.digest, cell.tier) not in done]


def check_header(old: Header, new: Header) -> None:
    """Raise `StaleRun` where a profile was made with another oracle, or other models or prices."""
    if old.oracle.sha256 != new.oracle.sha256:
        raise StaleRun("its oracle was another one: what passed then may not pass now")
    for tier, header in new.tiers.items():
        before = old.tiers.get(tier)
        if before is None:
            raise StaleRun(f"it has no tier {tier}")
        if before.group != header.group:
            raise StaleRun(f"its {tier} was the group {before.group}, not {header.group}")
        if before.models != header.models:
            raise StaleRun(f"{header.group} was {', '.join(before.models)} then")
        if before.prices != header.prices:
            raise StaleRun(f"{header.group} had other prices then")


async def run(
    cells: Sequence[Cell],
    tiers: Mapping[TierName, TierHeader],
    sender: Sender,
    judge: Judge,
    writer: ProfileWriter,
    answers: AnswerFile,
    *,
    tags: tuple[str, ...],
    parallel: int,
    tell: Callable[[Record], None],
) -> Outcome:
    """Send and judge the cells; returns when they are done, or nothing more can be."""
    outcome = Outcome()
    queues: dict[TierName, deque[Cell]] = {tier: deque() for tier in tiers}
    for cell in cells:
        queues[cell.tier].append(cell)
    stop = asyncio.Event()

    async def work(tier: TierName) -> None:
        queue = queues[tier]
        while queue and not stop.is_set():
            cell = queue.popleft()
            try:
                record = await _one(cell, tiers[tier], sender, judge, answers, tags, outcome)
            except Stopped as error:
                outcome.stopped = outcome.stopped or error
                stop.set()
                return
            writer.write(record)
            outcome.records.append(record)
            tell(record)

    with _one_interrupt_stops(stop, outcome):
        await asyncio.gather(*(work(tier) for tier in queues for _ in range(parallel)))
    outcome.waits = sender.waits
    return outcome


async def _one(
    cell: Cell,
    header: TierHeader,
    sender: Sender,
    judge: Judge,
    answers: AnswerFile,
    tags: tuple[str, ...],
    outcome: Outcome,
) -> Record:
    kept = answers.kept.get((cell.digest, cell.tier))
    if kept is not None:
        answer = kept.answer
    else:
        outcome.sent += 1
        answer = await sender.send(
            header, cell.prompt.as_messages(), task_type=cell.prompt.task_type, tags=(TAG, *tags)
        )
        if answer.text is not None:
            answers.write(KeptAnswer(cell.digest, cell.tier, answer))
    task_type = answer.task_type or cell.task_type
    judged: Judged | None = None
    if answer.text is not None:
        judged = await judge.judge(cell.prompt, task_type, answer.text)
    return record_of(cell, answer, task_type, judged)


def record_of(cell: Cell, answer: Answer, task_type: str, judged: Judged | None) -> Record:
    """Return the line for one cell; an answer that a quality gate withheld is one that failed."""
    withheld = answer.error == GATE_CODE
    verdict = judged.verdict if judged is not None else None
    reasons: tuple[str, ...] = (GATE_CODE,) if withheld else ()
    if verdict is not None:
        reasons = verdict.reasons
    elif judged is not None and judged.problem:
        reasons = (judged.problem,)
    return Record(
        digest=cell.digest,
        task_type=task_type,
        tier=cell.tier,
        group=cell.group,
        passed=verdict.passed if verdict is not None else False,
        score=verdict.score if verdict is not None else 0.0,
        input_tokens=answer.input_tokens,
        output_tokens=answer.output_tokens,
        latency_ms=answer.latency_ms,
        cost_nano_usd=answer.cost_nano_usd,
        cost_basis=answer.cost_basis,
        error=None if withheld else answer.error,
        source=cell.prompt.source,
        id=cell.prompt.id,
        weight=cell.prompt.weight or 1.0,
        judged=verdict is not None or withheld,
        cut=answer.cut,
        grading_nano_usd=judged.cost_nano_usd if judged is not None else 0,
        reasons=reasons,
        decision=answer.decision,
        time=datetime.now(UTC),
    )


def grader(sender: Sender, headers: Mapping[str, TierHeader], tags: tuple[str, ...]) -> Grader:
    """Return what asks a grading model; `headers` are those of the grading groups."""

    async def grade(group: str, question: str) -> Graded:
        answer = await sender.send(
            headers[group],
            [{"role": "user", "content": question}],
            task_type=None,
            tags=(GRADING_TAG, *tags),
            output_max=OUTPUT_TOKENS_MAX,
        )
        problem = f"grading failed: {answer.error}" if answer.error else ""
        return Graded(answer.text, answer.cost_nano_usd, problem)

    return grade


@contextlib.contextmanager
def _one_interrupt_stops(stop: asyncio.Event, outcome: Outcome) -> Iterator[None]:
    loop = asyncio.get_running_loop()

    def interrupted() -> None:
        outcome.stopped = Stopped(
            "Stopped by hand.", "Run the same command again: it goes on where it stopped."
        )
        stop.set()
        # The next one ends the process, as ever.
        loop.remove_signal_handler(signal.SIGINT)

    try:
        loop.add_signal_handler(signal.SIGINT, interrupted)
    except (NotImplementedError, RuntimeError, ValueError):
        # Not the main thread (a test), or a system without signals.
        yield
        return
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)
