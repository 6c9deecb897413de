"""What becomes of a queued request after a run, from the answer alone. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from budgets.queue.items import NO_BUDGET

FAILED_PAUSE_MS = 5_000
NO_BUDGET_PAUSE_MS = 5_000
NO_BUDGET_PAUSE_PART = 20
"""The pause after a hold that was refused after all: this part of the time waited so far."""
PAUSE_MS_MAX = 600_000
AWAY_PAUSE_MS = 2_000

_AGAIN = frozenset({401, 403, 404, 408, 409, 425, 429})
"""Statuses of a provider below 500 that a later attempt may mend: a key or quota of the house."""


class Kind(Enum):
    """What to do next."""

    ANSWERED = auto()
    WAIT = auto()
    FAILED = auto()
    NEVER = auto()


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a run, whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Outcome:
    """What to do, why, and after which pause. `new_run`: the next run needs an id of its own."""

    kind: Kind
    reason: str = ""
    wait_ms: int = 0
    new_run: bool = False


def judge(reply: Reply, attempts: int, waited_ms: int) -> Outcome:
    """Return what becomes of a request that failed `attempts` times and has waited for so long.

    Farebox's own refusals carry a code. Waiting for budget or for the ledger is no attempt; what
    can never be sent is not tried again; what a provider failed at is, after a growing pause.
    """
    code = reply.headers.get("x-farebox-code", "")
    if code in NO_BUDGET:
        # It seemed to fit and did not: what it needs is more than it was. Each vain try leaves a
        # refusal in the ledger, so that they become rarer.
        pause_ms = max(NO_BUDGET_PAUSE_MS, waited_ms // NO_BUDGET_PAUSE_PART)
        return Outcome(Kind.WAIT, code, min(pause_ms, PAUSE_MS_MAX))
    if code in ("ledger_unavailable", "keys_unavailable"):
        # The hold may have been made without an answer: it is voided, and its id is used up.
        return Outcome(Kind.WAIT, code, AWAY_PAUSE_MS, new_run=True)
    if code:
        return Outcome(Kind.NEVER, code)
    if 200 <= reply.status < 300:
        return Outcome(Kind.ANSWERED)
    pause_ms = min(FAILED_PAUSE_MS * 2 ** min(attempts, 16), PAUSE_MS_MAX)
    if reply.status >= 500 or reply.status in _AGAIN:
        return Outcome(Kind.FAILED, f"http_{reply.status}", pause_ms, new_run=True)
    return Outcome(Kind.NEVER, f"http_{reply.status}")
