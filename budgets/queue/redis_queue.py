"""The queue in Redis, under the ledger's hash tag: each change is one small script.

`lua/queue_lib.lua` lists the keys. An item's constant part is JSON under `meta`, what changes has
fields of its own.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Mapping
from typing import Any, cast

from budgets.queue.items import (
    BODY_SLACK_MS,
    DEAD_MAX,
    KEPT_MS,
    Depth,
    Full,
    Item,
    Need,
    NewItem,
    Room,
    State,
    Totals,
)
from budgets.redis_scripts import RedisClient, redis_errors, run_script

_INDEX = {
    State.WAITING: ("waiting", "+"),
    State.RUNNING: ("running", "+"),
    State.DEAD: ("dead", "-"),
    State.DONE: ("ended", "-"),
    State.CANCELLED: ("ended", "-"),
}


class RedisQueue:
    """A `RequestQueue` in Redis.

    Args:
        client: made with `decode_responses=True`.
        name: the ledger's name, whose keys these stand beside.
        clock_offset_ms: added to Redis's time, for tests only.
    """

    def __init__(
        self, client: RedisClient, name: str = "default", *, clock_offset_ms: int = 0
    ) -> None:
        self.clock_offset_ms = clock_offset_ms
        self._client = client
        self._prefix = f"farebox:{{{name}}}:"

    async def _run(self, script: str, *args: str | int) -> Any:
        return await run_script(
            self._client, f"queue_{script}", self._prefix, self.clock_offset_ms, *args
        )

    async def add(self, item: NewItem, room: Room) -> Item | Full:
        reply = await self._run(
            "add", item.id, _meta(item), item.category, item.priority, item.expires_in_ms,
            item.attempts_max, item.answer_kept_ms, item.bytes, item.estimate_nano_usd, item.body,
            item.reason, room.requests_max, room.bytes_max, KEPT_MS, BODY_SLACK_MS, DEAD_MAX,
        )  # fmt: skip
        if reply[0] == "full":
            return Full(str(reply[1]))
        kept = await self.get(item.id)
        assert kept is not None
        return kept

    async def get(self, item_id: str) -> Item | None:
        fields = await self._run("get", item_id)
        return _item(item_id, _pairs(fields)) if fields else None

    async def body(self, item_id: str) -> str | None:
        return str(await self._run("text", "body", item_id, BODY_SLACK_MS)) or None

    async def answer(self, item_id: str) -> str | None:
        return str(await self._run("text", "answer", item_id, BODY_SLACK_MS)) or None

    async def waiting(self, count_max: int) -> tuple[Item, ...]:
        return await self.listed(State.WAITING, count_max)

    async def listed(self, state: State, count_max: int) -> tuple[Item, ...]:
        index, direction = _INDEX[state]
        found = await self._listed(index, count_max, direction, "+inf")
        return tuple(item for item in found if item.state is state)

    async def _listed(
        self, index: str, count_max: int, direction: str, most: str
    ) -> tuple[Item, ...]:
        _, rows = await self._run("list", index, count_max, direction, most)
        return tuple(_item(item_id, _pairs(fields)) for item_id, fields in rows)

    async def claim(self, item_id: str, runner: str, lease_ms: int) -> Item | None:
        moved = await self._move(item_id, {State.WAITING}, State.RUNNING, ms=lease_ms, next=runner)
        return await self.get(item_id) if moved else None

    async def renew(self, item_id: str, runner: str, lease_ms: int) -> bool:
        return int(await self._run("renew", item_id, runner, lease_ms)) == 1

    async def adopt(self, item_id: str, dead_runner: str, runner: str, lease_ms: int) -> bool:
        moved = await self._move(
            item_id, {State.RUNNING}, State.RUNNING, dead_runner, ms=lease_ms, next=runner,
            flags="l",
        )  # fmt: skip
        return moved is not None

    async def finish(self, item_id: str, runner: str, status: int, answer: str) -> bool:
        moved = await self._move(
            item_id, {State.RUNNING}, State.DONE, runner, answer=answer, status=status
        )
        return moved is not None

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
        flags = ("f" if failed else "") + ("n" if new_run else "") + ("i" if lost else "")
        return await self._move(
            item_id, {State.RUNNING}, State.WAITING, runner, ms=wait_ms, reason=reason, flags=flags
        )

    async def bury(self, item_id: str, runner: str, reason: str) -> bool:
        moved = await self._move(item_id, {State.RUNNING}, State.DEAD, runner, reason=reason)
        return moved is not None

    async def cancel(self, item_id: str) -> bool:
        moved = await self._move(
            item_id, {State.WAITING, State.DEAD}, State.CANCELLED, reason="cancelled"
        )
        return moved is not None

    async def retry(self, item_id: str) -> bool:
        moved = await self._move(
            item_id, {State.DEAD}, State.WAITING, reason="retried", flags="brn"
        )
        return moved is not None

    async def _move(
        self,
        item_id: str,
        states: set[State],
        to: State,
        runner: str = "",
        *,
        ms: int = 0,
        reason: str = "",
        flags: str = "",
        next: str = "",
        answer: str = "",
        status: int = 0,
    ) -> State | None:
        expected = "," + ",".join(sorted(states)) + ","
        moved = await self._run(
            "move", item_id, expected, runner, to.value, ms, reason, flags, next, answer, status,
            KEPT_MS, DEAD_MAX,
        )  # fmt: skip
        return State(moved) if moved else None

    async def hold_state(self, hold_id: str) -> str | None:
        with redis_errors():
            reply = self._client.hget(f"{self._prefix}hold:{hold_id}", "state")
            return await cast("Awaitable[str | None]", reply)

    async def expire(self, count_max: int) -> tuple[str, ...]:
        return tuple(await self._run("expire", count_max, KEPT_MS, DEAD_MAX))

    async def orphans(self, count_max: int) -> tuple[Item, ...]:
        return await self._listed("running", count_max, "+", "now")

    async def hurry(self) -> int:
        return int(await self._run("hurry"))

    async def totals(self) -> Totals:
        now, sizes, waiting, running, dead, oldest = await self._run("totals")
        figures = {name: int(figure) for name, figure in _pairs(sizes).items()}
        names = sorted({name.partition(":")[2] for name in figures})
        depths = tuple(
            Depth(
                name,
                figures.get(f"requests:{name}", 0),
                figures.get(f"bytes:{name}", 0),
                figures.get(f"estimate:{name}", 0),
            )
            for name in names
        )
        return Totals(
            time_ms=int(now),
            depths=tuple(depth for depth in depths if depth.requests),
            waiting=int(waiting),
            running=int(running),
            dead=int(dead),
            oldest_ms=int(float(oldest)) if oldest else None,
        )


def _meta(item: NewItem) -> str:
    return json.dumps(
        {
            "owner": item.owner,
            "key_name": item.key_name,
            "task_type": item.task_type,
            "priority": item.priority,
            "needs": [[n.budget, n.rule, n.amount_nano_usd] for n in item.needs],
            "sealed_by": item.sealed_by,
            "webhook": item.webhook,
            "decision_id": item.decision_id,
            "user": item.user,
            "approval_id": item.approval_id,
        },
        separators=(",", ":"),
    )


def _pairs(flat: list[str]) -> dict[str, str]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _item(item_id: str, fields: Mapping[str, str]) -> Item:
    meta = json.loads(fields["meta"])
    return Item(
        id=item_id,
        owner=meta["owner"],
        key_name=meta["key_name"],
        category=fields["category"],
        task_type=meta["task_type"],
        priority=meta["priority"],
        needs=tuple(Need(*need) for need in meta["needs"]),
        estimate_nano_usd=int(fields["estimate"]),
        attempts_max=int(fields["attempts_max"]),
        answer_kept_ms=int(fields["answer_kept"]),
        bytes=int(fields["bytes"]),
        sealed_by=meta["sealed_by"],
        state=State(fields["state"]),
        queued_ms=int(fields["queued"]),
        expires_ms=int(fields["expires"]),
        attempts=int(fields["attempts"]),
        run=int(fields["run"]),
        lost=int(fields.get("lost", 0)),
        reason=fields.get("reason", ""),
        not_before_ms=int(fields["not_before"]),
        changed_ms=int(fields.get("changed", 0)),
        runner=fields["runner"],
        webhook=meta["webhook"],
        decision_id=meta["decision_id"],
        status=int(fields["status"]),
        user=meta.get("user", ""),
        approval_id=meta.get("approval_id", ""),
    )
