"""What a trace says about one request, before anybody thinks of Langfuse.

A `RequestTrace` is put together from the books on the tracing thread (`books`), laid out as
observations (`tree`) and written in Langfuse's words (`attributes`). Money is `int` nanodollars,
times are aware. What is not known is None and stays absent: it never becomes a zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Content:
    """The prompt and the answer, in any shape that JSON can hold or a Pydantic model.

    `of_sends` are the answers of a request with several sends, by their number. All are read later,
    on another thread, so whoever hands them over leaves them as they are.
    """

    prompt: Any = None
    answer: Any = None
    of_sends: Mapping[int, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TraceUsage:
    """Tokens of one answer. Input counts the cached ones too, output the reasoning ones too."""

    input: int
    output: int
    cached_read: int = 0
    cache_write: int = 0
    reasoning: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceAttempt:
    """One send to a provider.

    `model` is the provider's own name for what answered, known only where something did. `send` and
    `role` say what it was for, where a request had several sends; `verdict` is what a gate said of
    its answer, with the gate's kind and its reasons. `served` is true for the answer that the
    client got. `estimated` is true where nobody but ourselves counted what it cost.
    """

    group: str
    status: str
    cost_nano_usd: int
    started: datetime
    ended: datetime
    model: str | None = None
    usage: TraceUsage | None = None
    estimated: bool = False
    error: str | None = None
    send: int = 0
    role: str | None = None
    verdict: Mapping[str, Any] | None = None
    served: bool = False

    @property
    def answered(self) -> bool:
        """Whether an answer came of it."""
        return self.status == "ok"


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestTrace:
    """One request, from its arrival to its end, as one trace.

    `name` is the task type, or the refusal's code where no task type was found. `group` is the
    decided group, `serving_group` the one that answered. `decision` is the record of the routing,
    as the ledger keeps it. `decided`, `held` and `settled` are when each of these was done, where
    it was. `actual_nano_usd` is what the ledger charged, None where nobody knows yet. `outcome` is
    what became of the hold: settled, voided, unreconciled or none. `budgets` are the hold's shares
    and `charges` what each budget was charged.
    """

    request_id: str
    name: str
    started: datetime
    ended: datetime
    status: str
    mode: str
    decision_id: str | None = None
    queue_id: str | None = None
    category: str | None = None
    task_type: str | None = None
    tier: str | None = None
    consequence: str | None = None
    requested_model: str | None = None
    group: str | None = None
    serving_group: str | None = None
    serving_model: str | None = None
    call_type: str | None = None
    stream: bool = False
    session: str | None = None
    user: str | None = None
    tags: tuple[str, ...] = ()
    key_name: str | None = None
    team: str | None = None
    decision: Mapping[str, Any] = field(default_factory=dict)
    decided: datetime | None = None
    held: datetime | None = None
    settled: datetime | None = None
    outcome: str = "none"
    estimate_nano_usd: int | None = None
    estimate_error: float | None = None
    actual_nano_usd: int | None = None
    hold_nano_usd: int | None = None
    budgets: tuple[Mapping[str, Any], ...] = ()
    charges: Mapping[str, int] = field(default_factory=dict)
    marks: tuple[str, ...] = ()
    attempts: tuple[TraceAttempt, ...] = ()
    skipped: tuple[str, ...] = ()
    """Fallbacks that a budget had no room for."""
    escalation: tuple[Mapping[str, Any], ...] = ()
    """What was tried after a budget had refused, in order."""
    gate: Mapping[str, Any] | None = None
    """What came of the quality gate, and whether another group was asked."""
    cascade: Mapping[str, Any] | None = None
    approval: str | None = None
    """The approval by which it passed a limit."""
    error: str | None = None
    """The kind of failure, such as `RateLimitError`; never an upstream's own words."""
    refusal_code: str | None = None
    refusal: Mapping[str, Any] = field(default_factory=dict)
    """The refusal's message and arithmetic."""
    content: Content = field(default_factory=Content)

    @property
    def seed(self) -> str:
        """What the trace's id is made of: the decision's id, which the client is told as well.

        A queued request can be sent again after its worker died, by another decision; it is one
        request and one trace all the same.
        """
        return self.decision_id if self.decision_id and not self.queue_id else self.request_id
