"""What an oracle says of one answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

ANSWER_CHARS_MAX = 262_144
"""A longer answer fails unread: about 60,000 tokens, more than any task of one answer needs."""

REASONS_MAX = 5
"""How many reasons a verdict keeps; the rest is a count."""


class ExpectedMissing(ValueError):
    """An oracle that compares was given nothing to compare with: the prompt's line lacks it."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an answer is acceptable, how good it is from 0 to 1, and why it is not.

    The score is for reports and training; `passed` is what counts.
    """

    passed: bool
    score: float
    reasons: tuple[str, ...] = ()


class Oracle(Protocol):
    """Judges answers. The same answer always gets the same verdict."""

    @property
    def needs_expected(self) -> bool:
        """Whether `judge` must be given what is expected; such an oracle cannot be a gate."""
        ...

    def judge(self, answer: str, expected: object | None = None) -> Verdict:
        """Judge the text of an answer.

        Raises:
            ExpectedMissing: nothing is expected, and the oracle only compares.
        """
        ...


GOOD = Verdict(True, 1.0)


def bad(*reasons: str, score: float = 0.0) -> Verdict:
    """Return a failing verdict with its first reasons."""
    kept = reasons[:REASONS_MAX]
    if len(reasons) > REASONS_MAX:
        kept = (*kept, f"and {len(reasons) - REASONS_MAX} more")
    return Verdict(False, max(0.0, min(1.0, score)), kept)


def too_long(answer: str) -> Verdict | None:
    """Return the verdict on an answer that is too long to be read; None where it is not."""
    if len(answer) <= ANSWER_CHARS_MAX:
        return None
    return bad(f"the answer is over {ANSWER_CHARS_MAX:,} characters")
