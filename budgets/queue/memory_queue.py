"""The queue as a model in memory, which says what a store has to do. For tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from budgets.queue.items import (
    BODY_SLACK_MS,
    DEAD_MAX,
    KEPT_MS,
    PRIORITY_MAX,
    Depth,
    Full,
    Item,
    NewItem,
    Room,
    State,
    Totals,
)

_LIVE = (State.WAITING, State.RUNNING)


@dataclass(slots=True)
class _Kept:
    item: Item
    order: tuple[int, int]
    body: str | None
    answer: str | None = None
    answer_until_ms: int = 0
    lease_until_ms: int = 0
    forgotten_ms: int = 0


class MemoryQueue:
    """A `RequestQueue` in memory; `clock` returns Unix milliseconds."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._kept: dict[str, _Kept] = {}
        self._arrived = 0
        self.hold_states: dict[str, str] = {}

    def _find(self, item_id: str) -> _Kept | None:
        kept = self._kept.get(item_id)
        if kept is not None and kept.forgotten_ms <= self._clock():
            del self._kept[item_id]
            return None
        return kept

    def _all(self) -> list[_Kept]:
        return [kept for item_id in list(self._kept) if (kept := self._find(item_id))]

    async def add(self, item: NewItem, room: Room) -> Item | Full:
        if standing := self._find(item.id):
            return standing.item
        now = self._clock()
        live = [
            k.item
            for k in self._all()
            if k.item.state in _LIVE and k.item.category == item.category
        ]
        if len(live) + 1 > room.requests_max:
            return Full("requests")
        if sum(it.bytes for it in live) + item.bytes > room.bytes_max:
            return Full("bytes")
        self._arrived += 1
        expires_ms = now + item.expires_in_ms
        made = Item(
            id=item.id,
            owner=item.owner,
            key_name=item.key_name,
            category=item.category,
            task_type=item.task_type,
            priority=item.priority,
            needs=item.needs,
            estimate_nano_usd=item.estimate_nano_usd,
            attempts_max=item.attempts_max,
            answer_kept_ms=item.answer_kept_ms,
            bytes=item.bytes,
            sealed_by=item.sealed_by,
            state=State.WAITING,
            queued_ms=now,
            expires_ms=expires_ms,
            reason=item.reason,
            changed_ms=now,
            webhook=item.webhook,
            decision_id=item.decision_id,
            user=item.user,
            approval_id=item.approval_id,
        )
        order = (PRIORITY_MAX - item.priority, self._arrived)
        forgotten_ms = expires_ms + KEPT_MS
        self._kept[item.id] = _Kept(made, order, item.body, forgotten_ms=forgotten_ms)
        return made

    async def get(self, item_id: str) -> Item | None:
        kept = self._find(item_id)
        return kept.item if kept else None

    async def body(self, item_id: str) -> str | None:
        kept = self._find(item_id)
        if kept is None or kept.item.expires_ms + BODY_SLACK_MS <= self._clock():
            return None
        return kept.body

    async def answer(self, item_id: str) -> str | None:
        kept = self._find(item_id)
        return kept.answer if kept and kept.answer_until_ms > self._clock() else None

    async def waiting(self, count_max: int) -> tuple[Item, ...]:
        return await self.listed(State.WAITING, count_max)

    async def listed(self, state: State, count_max: int) -> tuple[Item, ...]:
        found = [kept for kept in self._all() if kept.item.state is state]
        if state is State.WAITING:
            found.sort(key=lambda kept: kept.order)
        else:
            found.sort(key=lambda kept: kept.item.changed_ms, reverse=state is not State.RUNNING)
        return tuple(kept.item for kept in found[:count_max])

    async def claim(self, item_id: str, runner: str, lease_ms: int) -> Item | None:
        kept = self._find(item_id)
        if kept is None or kept.item.expires_ms <= self._clock():
            return None
        if not self._move(item_id, {State.WAITING}, State.RUNNING, lease_ms=lease_ms, next=runner):
            return None
        return kept.item

    async def renew(self, item_id: str, runner: str, lease_ms: int) -> bool:
        kept = self._find(item_id)
        if kept is None or kept.item.state is not State.RUNNING or kept.item.runner != runner:
            return False
        kept.lease_until_ms = self._clock() + lease_ms
        return True

    async def adopt(self, item_id: str, dead_runner: str, runner: str, lease_ms: int) -> bool:
        kept = self._find(item_id)
        if kept is None or kept.lease_until_ms > self._clock():
            return False
        moved = self._move(
            item_id, {State.RUNNING}, State.RUNNING, dead_runner, lease_ms=lease_ms, next=runner
        )
        return moved is not None

    async def finish(self, item_id: str, runner: str, status: int, answer: str) -> bool:
        if not self._move(item_id, {State.RUNNING}, State.DONE, runner):
            return False
        kept, now = self._kept[item_id], self._clock()
        kept.item = replace(kept.item, status=status, reason="")
        kept.answer, kept.answer_until_ms = answer, now + kept.item.answer_kept_ms
        kept.forgotten_ms = now + max(KEPT_MS, kept.item.answer_kept_ms)
        return True

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
        kept = self._find(item_id)
        if kept is None:
            return None
        item = kept.item
        last = failed and item.attempts + 1 >= item.attempts_max
        to = State.DEAD if last else State.WAITING
        if not self._move(item_id, {State.RUNNING}, to, runner, reason=reason):
            return None
        kept.item = replace(
            kept.item,
            attempts=item.attempts + failed,
            run=item.run + new_run,
            lost=0 if new_run else item.lost + lost,
            not_before_ms=self._clock() + wait_ms if wait_ms and not last else 0,
        )
        return to

    async def bury(self, item_id: str, runner: str, reason: str) -> bool:
        moved = self._move(item_id, {State.RUNNING}, State.DEAD, runner, reason=reason)
        return moved is not None

    async def cancel(self, item_id: str) -> bool:
        moved = self._move(
            item_id, {State.WAITING, State.DEAD}, State.CANCELLED, reason="cancelled"
        )
        return moved is not None

    async def retry(self, item_id: str) -> bool:
        kept = self._find(item_id)
        if kept is None or kept.body is None or kept.item.expires_ms <= self._clock():
            return False
        if not self._move(item_id, {State.DEAD}, State.WAITING, reason="retried"):
            return False
        kept.item = replace(kept.item, attempts=0, run=kept.item.run + 1, lost=0)
        return True

    def _move(
        self,
        item_id: str,
        states: set[State],
        to: State,
        runner: str = "",
        *,
        lease_ms: int = 0,
        reason: str = "",
        next: str = "",
    ) -> State | None:
        kept, now = self._find(item_id), self._clock()
        if kept is None or kept.item.state not in states:
            return None
        if runner and kept.item.runner != runner:
            return None
        kept.item = replace(
            kept.item,
            state=to,
            runner=next,
            reason=reason or kept.item.reason,
            not_before_ms=0,
            changed_ms=now,
        )
        kept.lease_until_ms = now + lease_ms
        kept.forgotten_ms = now + KEPT_MS
        if to in _LIVE:
            kept.forgotten_ms += max(0, kept.item.expires_ms - now)
        if to in (State.DONE, State.CANCELLED):
            kept.body = None
        if to is State.DEAD:
            self._bound_the_dead()
        return to

    def _bound_the_dead(self) -> None:
        dead = sorted(
            (k.item for k in self._all() if k.item.state is State.DEAD),
            key=lambda item: item.changed_ms,
        )
        for item in dead[:-DEAD_MAX]:
            del self._kept[item.id]

    async def hold_state(self, hold_id: str) -> str | None:
        return self.hold_states.get(hold_id)

    async def expire(self, count_max: int) -> tuple[str, ...]:
        now = self._clock()
        due = [
            kept
            for kept in self._all()
            if kept.item.state is State.WAITING and kept.item.expires_ms <= now
        ]
        due.sort(key=lambda kept: kept.item.expires_ms)
        for kept in due[:count_max]:
            self._move(kept.item.id, {State.WAITING}, State.DEAD, reason="expired")
            kept.body = None
        return tuple(kept.item.id for kept in due[:count_max])

    async def orphans(self, count_max: int) -> tuple[Item, ...]:
        now = self._clock()
        found = [
            kept
            for kept in self._all()
            if kept.item.state is State.RUNNING and kept.lease_until_ms <= now
        ]
        found.sort(key=lambda kept: kept.lease_until_ms)
        return tuple(kept.item for kept in found[:count_max])

    async def hurry(self) -> int:
        now, count = self._clock(), 0
        for kept in self._all():
            if kept.item.state is State.WAITING and kept.item.not_before_ms > now:
                kept.item = replace(kept.item, not_before_ms=0)
                count += 1
        return count

    async def totals(self) -> Totals:
        items = [kept.item for kept in self._all()]
        live = [item for item in items if item.state in _LIVE]
        names = sorted({item.category for item in live})
        return Totals(
            time_ms=self._clock(),
            depths=tuple(
                Depth(
                    name,
                    sum(1 for it in live if it.category == name),
                    sum(it.bytes for it in live if it.category == name),
                    sum(it.estimate_nano_usd for it in live if it.category == name),
                )
                for name in names
            ),
            waiting=sum(1 for it in items if it.state is State.WAITING),
            running=sum(1 for it in items if it.state is State.RUNNING),
            dead=sum(1 for it in items if it.state is State.DEAD),
            oldest_ms=min((it.queued_ms for it in live), default=None),
        )
