"""What judging an answer gives, for every kind of judge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from hooks.oracles import Verdict
from scripts.profile.records import PromptLine


class OracleError(ValueError):
    """An oracle that cannot be used: which file, what is wrong, what to write instead."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A verdict and what grading cost; no verdict where a person has yet to judge.

    `problem` says why there is no verdict although there should be one.
    """

    verdict: Verdict | None
    cost_nano_usd: int = 0
    problem: str = ""


class Judge(Protocol):
    """Judges answers; may wait for a process or a model."""

    async def judge(self, prompt: PromptLine, task_type: str, answer: str) -> Judged:
        """Return the verdict; nothing is raised for what an answer says."""
        ...

    def check(self, prompt: PromptLine, task_type: str) -> None:
        """Raise `OracleError` if this prompt's line lacks what judging needs."""
        ...
