"""The requests that this worker has sent and not settled yet.

The hook before a call opens one, the callback after it closes it; both live in the same process, as
a request never changes workers. What a crash would lose here is in the hold as well (its facts and
its lease), so the books need nothing of this to be right.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from budgets.holds import BudgetHold
from budgets.prices import Price
from budgets.quick import quick
from budgets.sends import Sends
from budgets.settlements import Recovery
from budgets.traced import Routed

OPEN_REQUESTS_MAX = 100_000
"""Bound of the registry. Beyond it the oldest is forgotten here, and its lease ends its hold."""

ENDED_REQUESTS_MAX = 1_000


@quick
@dataclass(frozen=True, slots=True)
class InputTerms:
    """Farebox's count of the input, and the policy's figures beside it, for learning margins.

    `keys` are those that it is learned under; none where such a request teaches nothing.
    `estimated` says that the count is one, and its exact figure is not known yet.
    """

    counted_tokens: int
    extra_tokens: int
    estimate_factor: float
    bound_factor: float
    keys: tuple[str, ...] = ()
    estimated: bool = False

    @property
    def teaches(self) -> tuple[str, ...]:
        """The keys that the count is learned under: margins learn from exact counts alone."""
        return () if self.estimated else self.keys


@quick
@dataclass(frozen=True, slots=True)
class Terms:
    """What this request costs on one group: its price, the local counts, the hold it would need.

    `budgets` are all budgets that a send to this group is charged to, with the amounts of its hold.
    `output_tokens_seed` is the policy's first guess for one choice, for learning; `input` says how
    the input was counted.
    """

    group: str
    price: Price
    input_tokens: int
    output_tokens_expected: int
    estimate_nano_usd: int
    hold_nano_usd: int
    budgets: tuple[BudgetHold, ...]
    output_tokens_seed: int | None = None
    input: InputTerms | None = None


@dataclass(slots=True)
class Attempt:
    """One send to a provider. `cost_nano_usd` is known once it has ended.

    One that was `answered` has ended but for its cost. `send` is the number of the send that it
    belongs to and `terms` are that one's, where a request has several (`budgets.sends`).
    """

    group: str
    started_ns: int
    status: str = "open"
    cost_nano_usd: int = 0
    estimated: bool = False
    error: str | None = None
    latency_ms: int = 0
    send: int = 0
    terms: Terms | None = None
    clock_ns: Callable[[], int] = field(default=time.monotonic_ns, repr=False, compare=False)

    def answered(self) -> None:
        """Note that its answer has come, while its cost is yet to be told."""
        if self.status == "open":
            self.status = "answered"
            self.latency_ms = (self.clock_ns() - self.started_ns) // 1_000_000

    def end(self, status: str, cost_nano_usd: int = 0, *, estimated: bool = False) -> None:
        """Close the attempt with its outcome and cost."""
        if self.status != "answered":
            self.latency_ms = (self.clock_ns() - self.started_ns) // 1_000_000
        self.status = status
        self.cost_nano_usd = cost_nano_usd
        self.estimated = estimated


@dataclass(slots=True)
class OpenRequest:
    """One admitted request on its way.

    `facts` are the entry's fields that are known beforehand. `offline` is true where it was
    admitted while the store was away. `held_at_ms` is the store's time of its hold, `stats_period`
    the running totals it adds to: with them the hold can be charged even if the store loses it.
    `stream_object` is LiteLLM's stream, kept to see whether the provider reported usage. `failing`
    is awaited while a stream that died waits for its partial count; `watch` is the time by which
    the end must have come. `clock_ns` never goes back, and `started_ns` is by it.
    `partials_due` counts the streams that died and are charged by their words while LiteLLM's own
    count of them is yet to come.
    `sends` is given where more than one answer may be asked for; `held_budgets` are then the shares
    of its hold, which is for all of them. `ended` is set once its costs are known, for who waits.
    `routed` is how it came to be sent, for its trace.
    """

    request_id: str
    decision_id: str
    facts: dict[str, Any]
    terms: Mapping[str, Terms]
    group: str
    held_nano_usd: int
    held_groups: list[str]
    headers: dict[str, str]
    stream: bool
    output_tokens_cap: int | None
    offline: bool = False
    choices: int = 1
    learning_rate: float = 0.1
    held_at_ms: int | None = None
    stats_period: str = ""
    clock_ns: Callable[[], int] = field(default=time.monotonic_ns, repr=False, compare=False)
    started_ns: int = -1
    attempts: list[Attempt] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    answer_started: bool = False
    capped: bool = False
    closing: bool = False
    finished: bool = False
    stream_object: object = None
    partials_due: int = 0
    failing: asyncio.Event | None = None
    watch: asyncio.TimerHandle | None = None
    sends: Sends | None = None
    held_budgets: tuple[BudgetHold, ...] = ()
    ended: asyncio.Event | None = None
    routed: Routed | None = None

    def __post_init__(self) -> None:
        if self.started_ns < 0:
            self.started_ns = self.clock_ns()

    async def end(self, timeout_s: float) -> None:
        """Wait until its costs are known; raises `TimeoutError`."""
        if not self.finished:
            self.ended = self.ended or asyncio.Event()
            await asyncio.wait_for(self.ended.wait(), timeout_s)

    def begin_attempt(self, group: str) -> Attempt:
        """Note that a send to `group` begins. One that is still open is returned instead."""
        if self.attempts and self.attempts[-1].status == "open":
            return self.attempts[-1]
        attempt = Attempt(group, self.clock_ns(), clock_ns=self.clock_ns)
        if self.sends is not None:
            send = self.sends.current
            attempt.send = send.number
            attempt.terms = send.terms if send.group == group else None
        self.attempts.append(attempt)
        return attempt

    def open_attempt(self) -> Attempt | None:
        """Return the attempt that has not ended, if there is one."""
        return self.attempts[-1] if self.attempts and self.attempts[-1].status == "open" else None

    @property
    def call_type(self) -> str:
        """LiteLLM's call type of what is under way; a verifier is always asked by chat."""
        return self.sends.current.call_type if self.sends is not None else self.facts["call_type"]

    def last_attempt_of(self, send: int) -> Attempt | None:
        """Return the last attempt of a send: the one that answered, if any did."""
        return next((a for a in reversed(self.attempts) if a.send == send), None)

    def serving_attempt(self) -> Attempt | None:
        """Return the attempt whose answer the client gets; the last one where there is one send."""
        if self.sends is not None:
            served = self.sends.served
            return self.last_attempt_of(served if served is not None else 0)
        return self.attempts[-1] if self.attempts else None

    def asked_group(self) -> str:
        """Return the group that was asked for the answer that the client gets."""
        if self.sends is not None:
            return self.sends.sends[self.sends.served or 0].group
        return self.group

    def ended_cost_nano_usd(self) -> int:
        """Return what the attempts that have ended cost together."""
        return sum(a.cost_nano_usd for a in self.attempts)

    def recovery(self) -> Recovery | None:
        """Return what the store needs to charge this request's hold, should it have lost it."""
        if self.held_at_ms is None or self.offline:
            return None
        shares: dict[str, BudgetHold] = {it.budget: it for it in self.held_budgets}
        for group in self.held_groups:
            for hold in self.terms[group].budgets:
                known = shares.get(hold.budget)
                if known is None or known.amount_nano_usd < hold.amount_nano_usd:
                    shares[hold.budget] = hold
        return Recovery(
            amount_nano_usd=self.held_nano_usd,
            budgets=tuple(shares.values()),
            held_at_ms=self.held_at_ms,
            decision_id=self.decision_id,
            stats_period=self.stats_period,
        )

    def charges(self) -> dict[str, int]:
        """Return each budget's share: the attempts on groups that the budget is charged for."""
        shares: dict[str, int] = {}
        for group in self.held_groups:
            for hold in self.terms[group].budgets:
                shares.setdefault(hold.budget, 0)
        for attempt in self.attempts:
            terms = self.terms.get(attempt.group) or self.terms[self.group]
            for hold in terms.budgets:
                if hold.budget in shares:
                    shares[hold.budget] += attempt.cost_nano_usd
        return shares

    def latency_ms(self) -> int:
        """Return the milliseconds since the request was admitted."""
        return (self.clock_ns() - self.started_ns) // 1_000_000


class OpenRequests:
    """The registry, by request id; ids are Farebox's own, never the client's."""

    def __init__(self) -> None:
        self._open: dict[str, OpenRequest] = {}
        self._ended: dict[str, OpenRequest] = {}

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[OpenRequest]:
        return iter(tuple(self._open.values()))

    def add(self, request: OpenRequest) -> None:
        """Register a request; at the bound, the oldest one is forgotten."""
        if len(self._open) >= OPEN_REQUESTS_MAX:
            self._open.pop(next(iter(self._open)))
        self._open[request.request_id] = request

    def get(self, request_id: object) -> OpenRequest | None:
        """Return an open request, or None for anything that is not an open request's id."""
        return self._open.get(request_id) if isinstance(request_id, str) else None

    def recent(self, request_id: str) -> OpenRequest | None:
        """Return a request that is open or has just ended: its headers may be asked for late."""
        return self._open.get(request_id) or self._ended.get(request_id)

    def remove(self, request_id: str) -> None:
        """Close a request; unknown ids are fine."""
        ended = self._open.pop(request_id, None)
        if ended is not None:
            self._ended[request_id] = ended
            if len(self._ended) > ENDED_REQUESTS_MAX:
                self._ended.pop(next(iter(self._ended)))
