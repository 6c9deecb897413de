"""Grading by a person, blind: the answers in an order of chance, without tier, model or price.

The order is fixed by the profile's name, so that a person who stops goes on where they stopped, and
it keeps the answers to one prompt apart from each other only by chance. Every judgement is on the
disk before the next answer is shown.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scripts.profile.answers import KeptAnswer
from scripts.profile.records import Profile, PromptLine, Record


@dataclass(frozen=True, slots=True)
class Task:
    """One answer to judge. What a grader must not see is only in `record`."""

    record: Record
    prompt: PromptLine
    answer: str


def tasks(
    profile: Profile,
    prompts: Sequence[PromptLine],
    answers: Mapping[tuple[str, str], KeptAnswer],
) -> list[Task]:
    """Return what is still to be judged, in its order of chance."""
    by_digest = {prompt.digest: prompt for prompt in prompts}
    found = []
    for record in profile.records:
        kept = answers.get(record.key)
        prompt = by_digest.get(record.digest)
        if record.judged or record.error is not None or kept is None or prompt is None:
            continue
        found.append(Task(record, prompt, kept.answer.text or ""))
    return sorted(found, key=lambda task: _chance(profile.header.name, task.record))


def judged(record: Record, passed: bool) -> Record:
    """Return the record with a person's judgement."""
    return record.model_copy(
        update={
            "passed": passed,
            "score": 1.0 if passed else 0.0,
            "judged": True,
            "reasons": () if passed else ("a person found it not acceptable",),
        }
    )


def _chance(name: str, record: Record) -> bytes:
    return hashlib.sha256(f"{name}|{record.digest}|{record.tier}".encode()).digest()
