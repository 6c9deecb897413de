"""What can go wrong with a ledger, as exceptions: each says whether trying again can help."""

from __future__ import annotations


class LedgerUnavailable(Exception):
    """The store did not answer, or answered that it cannot serve; nothing is known to be done.

    Every operation is idempotent by its hold id, so a caller may repeat it later.
    """


class PolicyNotPublished(LedgerUnavailable):
    """The store has no limit for a rule: nobody published it, or the store lost its data."""

    def __init__(self, rule: str) -> None:
        super().__init__(f"the store has no limit for the budget rule {rule!r}; publish the policy")
        self.rule = rule


class LedgerPaused(LedgerUnavailable):
    """Admissions are paused for a moment while the counters are put right; nothing was done.

    The store is there: this is no outage, and settles go on. `retry_after_ms` is when the pause
    ends at the latest.
    """

    def __init__(self, retry_after_ms: int) -> None:
        super().__init__("admissions are paused while the ledger's counters are put right")
        self.retry_after_ms = retry_after_ms


class PolicyOutrun(Exception):
    """Another policy was published meanwhile: `revision` is current, and nothing was done."""

    def __init__(self, revision: int) -> None:
        super().__init__(f"another policy was published meanwhile, as revision {revision}")
        self.revision = revision


class ClockSkew(Exception):
    """A budget's period does not hold the instant it must hold by the store's clock.

    Nothing was done. The caller finds the periods anew at `now_ms` and repeats the call once. For a
    hold that is the store's time; for a top-up it is the time of the hold, whose periods it joins.
    """

    def __init__(self, now_ms: int) -> None:
        super().__init__(f"a budget's period does not hold the store's time {now_ms} (Unix ms)")
        self.now_ms = now_ms


class HoldIdReused(ValueError):
    """A hold with this id has ended already; its money cannot be admitted a second time."""

    def __init__(self, hold_id: str) -> None:
        super().__init__(f"the hold {hold_id!r} has ended; a new request needs a new hold id")
        self.hold_id = hold_id
