"""The queue's operations, as types and one Protocol that every store implements.

Times are Unix milliseconds by the store's clock, amounts nanodollars. Texts that a person wrote
(bodies, answers, webhook addresses) come and go sealed: the store cannot read them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

PRIORITY_MAX = 9
PRIORITY_USUAL = 5
"""Ten priorities, 9 first. What runs first among equals is what came first."""

KEPT_MS = 7 * 86_400_000
"""How long it is remembered that a queued request ended, and how: the metadata, not the texts."""
DEAD_MAX = 1_000
"""The bound of the dead-letter list; beyond it the oldest are forgotten."""
BODY_SLACK_MS = 3_600_000
"""How long a sealed body outlives its request's expiry: one that runs just then needs it."""


NO_BUDGET = frozenset({"budget_exceeded", "budget_busy", "approval_required"})
"""Reasons of a request that waits for budget, and in its place."""
INTERRUPTED = "interrupted"
"""The reason of a request whose worker died after its hold was made: it is charged already."""
RUNNER_DIED = "runner_died"
"""The reason of one whose worker died before anything was charged."""
ANSWER_LOST = "answer_lost"
"""The reason of one that was answered and charged, and whose worker died with the answer."""


class State(StrEnum):
    """Where a queued request stands."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    DEAD = "dead"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Need:
    """What a request needs of one budget to be admitted: `amount_nano_usd` of its hold."""

    budget: str
    rule: str
    amount_nano_usd: int


@dataclass(frozen=True, slots=True)
class NewItem:
    """A request to keep.

    `owner` is the id of the key that asked, `user` the user that this key names. `sealed_by` names
    the key that the texts are sealed with. `bytes` is the size of the body before it was sealed.
    `approval_id` is the ticket that asks for this request, where one was opened.
    """

    id: str
    owner: str
    key_name: str
    category: str
    task_type: str
    priority: int
    needs: tuple[Need, ...]
    estimate_nano_usd: int
    expires_in_ms: int
    attempts_max: int
    answer_kept_ms: int
    bytes: int
    sealed_by: str
    body: str
    webhook: str = ""
    decision_id: str = ""
    reason: str = ""
    user: str = ""
    approval_id: str = ""


@dataclass(frozen=True, slots=True)
class Room:
    """How much of a category may be kept at once, waiting or running."""

    requests_max: int
    bytes_max: int


@dataclass(frozen=True, slots=True)
class Item:
    """A queued request as it stands, without its texts.

    `attempts` counts the sends that failed; waiting for budget is none. `run` counts the ids that
    the request was held under: a new one is taken only once the last is known to have ended.
    `lost` counts the sends of this run that a worker died in, after its hold was made: they may
    have been billed. `reason` is the code that it waits or died for. `status` is the answer's HTTP
    status.
    """

    id: str
    owner: str
    key_name: str
    category: str
    task_type: str
    priority: int
    needs: tuple[Need, ...]
    estimate_nano_usd: int
    attempts_max: int
    answer_kept_ms: int
    bytes: int
    sealed_by: str
    state: State
    queued_ms: int
    expires_ms: int
    attempts: int = 0
    run: int = 1
    lost: int = 0
    reason: str = ""
    not_before_ms: int = 0
    changed_ms: int = 0
    runner: str = ""
    webhook: str = ""
    decision_id: str = ""
    status: int = 0
    user: str = ""
    approval_id: str = ""

    @property
    def hold_id(self) -> str:
        """The idempotency key: whatever sends this run, the ledger charges it once."""
        return f"{self.id}.{self.run}"

    @property
    def amount_nano_usd(self) -> int:
        """What its hold takes of a budget at the most."""
        return max((need.amount_nano_usd for need in self.needs), default=0)

    @property
    def charged(self) -> bool:
        """Whether what it may cost is in the books already: then it needs no budget to run."""
        return self.lost > 0


@dataclass(frozen=True, slots=True)
class Full:
    """Nothing was kept: the category's room is used up by `by` (`requests` or `bytes`)."""

    by: str


@dataclass(frozen=True, slots=True)
class Depth:
    """How much of one category is kept, waiting or running, and what it will probably cost."""

    category: str
    requests: int
    bytes: int
    estimate_nano_usd: int


@dataclass(frozen=True, slots=True)
class Totals:
    """The whole queue at one moment."""

    time_ms: int
    depths: tuple[Depth, ...]
    waiting: int
    running: int
    dead: int
    oldest_ms: int | None
    """When the request that has waited longest was queued."""

    @property
    def estimate_nano_usd(self) -> int:
        """What everything that waits or runs will probably cost."""
        return sum(depth.estimate_nano_usd for depth in self.depths)

    def age_ms(self) -> int:
        """Return how long the oldest has waited; 0 where none waits."""
        return 0 if self.oldest_ms is None else max(0, self.time_ms - self.oldest_ms)


class RequestQueue(Protocol):
    """The operations that every store implements; `tests/queue` holds each to the same promises.

    Whatever changes a request names the state that it expects: of two that change it at once, one
    does and the other is told False. Every method raises `LedgerUnavailable` where the store does
    not answer.
    """

    async def add(self, item: NewItem, room: Room) -> Item | Full:
        """Keep a request, if its category has room; keeping the same id again changes nothing."""

    async def get(self, item_id: str) -> Item | None:
        """Return a request as it stands."""

    async def body(self, item_id: str) -> str | None:
        """Return the sealed body; None once the request has ended or expired."""

    async def answer(self, item_id: str) -> str | None:
        """Return the sealed answer; None before it is there and after it has expired."""

    async def waiting(self, count_max: int) -> tuple[Item, ...]:
        """Return those that wait, in the order in which they run."""

    async def listed(self, state: State, count_max: int) -> tuple[Item, ...]:
        """Return requests in a state: those that wait in their order, others the newest first."""

    async def claim(self, item_id: str, runner: str, lease_ms: int) -> Item | None:
        """Take a waiting request to run it; None where somebody else was first."""

    async def renew(self, item_id: str, runner: str, lease_ms: int) -> bool:
        """Keep a claim; False where it is lost."""

    async def adopt(self, item_id: str, dead_runner: str, runner: str, lease_ms: int) -> bool:
        """Take over a running request whose runner's lease has ended."""

    async def finish(self, item_id: str, runner: str, status: int, answer: str) -> bool:
        """Record the answer, and forget the body."""

    async def release(
        self,
        item_id: str,
        runner: str,
        *,
        reason: str,
        wait_ms: int,
        failed: bool,
        new_run: bool,
        lost: bool = False,
    ) -> State | None:
        """Put a running request back to where it waited, not to run for `wait_ms`.

        With `failed` the attempt counts, with `lost` as one that a worker died in. With `new_run`
        its hold is known to have ended without a
        charge, or to be charged and closed, so that the next run needs an id of its own. Returns
        where it stands now: `dead` after the last attempt; None where the claim is lost.
        """

    async def bury(self, item_id: str, runner: str, reason: str) -> bool:
        """Put a running request on the dead-letter list; its body stays until it expires."""

    async def cancel(self, item_id: str) -> bool:
        """End a waiting or dead request, and forget its body."""

    async def retry(self, item_id: str) -> bool:
        """Let a dead request wait again, its attempts uncounted; False where its body is gone."""

    async def hold_state(self, hold_id: str) -> str | None:
        """Return the state of the ledger's hold of this id, None where there is none."""

    async def expire(self, count_max: int) -> tuple[str, ...]:
        """End up to `count_max` waiting requests whose time is over; return their ids."""

    async def orphans(self, count_max: int) -> tuple[Item, ...]:
        """Return running requests whose runner's lease has ended."""

    async def hurry(self) -> int:
        """Let nothing wait for a pause between attempts; return how many waited for one."""

    async def totals(self) -> Totals:
        """Return how much is kept."""
