"""What is scored about a request: its gates' verdicts, and how far its estimate was off. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

from callbacks.tracing.record import RequestTrace

GATE_VERDICT = "gate_verdict"
ESTIMATE_ERROR = "estimate_error"

COMMENT_CHARS_MAX = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One score. `of` is the key of the observation that it is of; None: of the whole trace.

    With `dataset_run` it is of that run and of no trace.
    """

    name: str
    value: float
    type: Literal["NUMERIC", "BOOLEAN"]
    of: str | None = None
    comment: str | None = None
    dataset_run: str | None = None

    def id(self, seed: str) -> str:
        """Return the id in a trace, the same one whenever it is scored, so that it stands once."""
        return hashlib.sha256(f"{seed}/{self.name}/{self.of}".encode()).hexdigest()[:32]


def scores(trace: RequestTrace) -> list[Score]:
    """Return the scores of a request; a verdict that was not given is none."""
    found = []
    for number, attempt in enumerate(trace.attempts):
        verdict = attempt.verdict or {}
        if verdict.get("verdict") not in ("passed", "failed"):
            continue
        reasons = "; ".join(verdict.get("reasons") or ())
        found.append(
            Score(
                name=GATE_VERDICT,
                value=1 if verdict["verdict"] == "passed" else 0,
                type="BOOLEAN",
                of=f"attempt/{number}",
                comment=f"{verdict.get('gate')}: {reasons or verdict['verdict']}"[
                    :COMMENT_CHARS_MAX
                ],
            )
        )
    if trace.estimate_error is not None:
        found.append(Score(name=ESTIMATE_ERROR, value=trace.estimate_error, type="NUMERIC"))
    return found
