"""The outbox in Redis: one Lua script an operation, on the keys of the ledger.

What the scripts do stands in `lua/alert_*.lua`, what each operation promises in `outbox`. All
workers share one name in the consumer group, so that nothing has to be cleaned up after a dead one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Mapping, Sequence
from typing import Any, cast

from budgets.alerts.outbox import (
    HOUR_MS,
    HOURS_KEPT,
    KEPT_S,
    Alert,
    Dead,
    Delivery,
    Depths,
    Gathered,
    Progress,
    Raised,
    Sample,
    State,
    Watched,
)
from budgets.redis_codec import Args, budget_states
from budgets.redis_scripts import RedisClient, redis_errors, run_script
from budgets.redis_store import BATCH_MAX

SAMPLE_BATCH_MAX = 50
"""Budgets in one call of `alert_sample`."""
UNWATCHED_KEPT_S = 8 * 86_400
"""How long the hours of a budget are kept that nobody samples any more."""

DEAD_SHOWN_MAX = 1_000
"""How many of those that were given up are read at most."""


class RedisOutbox:
    """An `Outbox` in Redis.

    Args:
        client, name: as for `RedisLedger`.
        clock_offset_ms: as for `RedisLedger`; for tests.
    """

    def __init__(
        self, client: RedisClient, name: str = "default", *, clock_offset_ms: int = 0
    ) -> None:
        self.clock_offset_ms = clock_offset_ms
        self._client = client
        self._prefix = f"farebox:{{{name}}}:"

    async def _run(self, script: str, *args: str | int) -> Any:
        return await run_script(self._client, script, self._prefix, self.clock_offset_ms, *args)

    async def _ask(self, reply: Any) -> Any:
        """Return the answer to a plain command."""
        with redis_errors():
            return await cast("Awaitable[Any]", reply)

    # ── raising ──────────────────────────────────────────────────────────────────────────────────

    async def note(self, kind: str, body: str) -> None:
        await self._run("note", kind, body)

    async def raise_alert(self, kind: str, body: str) -> None:
        await self._run("alert_raise", kind, body)

    async def counters_of(self, rule: str, period_id: str, count_max: int) -> tuple[str, ...]:
        # A rule's name and a period's id are made of letters, digits and `_.-`: no pattern signs.
        key, start = f"{self._prefix}counters", f"{period_id}:"
        found: set[str] = set()
        with redis_errors():
            names = cast(Any, self._client).sscan_iter(key, match=f"{start}{rule}:*", count=500)
            async for name in names:
                found.add(str(name).removeprefix(start))
                if len(found) >= count_max:
                    break
        return tuple(sorted(found))

    async def sample(self, watched: Sequence[Watched]) -> tuple[Sample, ...]:
        samples: list[Sample] = []
        for start in range(0, len(watched), SAMPLE_BATCH_MAX):
            args: Args = []
            for it in watched[start : start + SAMPLE_BATCH_MAX]:
                args += [it.budget, it.rule, it.period.id]
            now, rows = await self._run("alert_sample", UNWATCHED_KEPT_S, *args)
            for row, since in rows:
                (state,) = budget_states([row])
                hours = await self._hours(state.budget, int(now) // HOUR_MS)
                samples.append(Sample(state, int(now), int(since), hours))
        return tuple(samples)

    async def _hours(self, budget: str, hour: int) -> dict[int, int]:
        """Return what a budget spent in each hour, and forget what is too old."""
        key = f"{self._prefix}hours:{budget}"
        fields: Mapping[str, str] = await self._ask(self._client.hgetall(key))
        hours = {
            int(name.removeprefix("h:")): int(spent)
            for name, spent in fields.items()
            if name.startswith("h:")
        }
        if old := [it for it in hours if it < hour - HOURS_KEPT]:
            await self._ask(self._client.hdel(key, *(f"h:{it}" for it in old)))
        return {it: spent for it, spent in hours.items() if it >= hour - HOURS_KEPT}

    async def claim(
        self, watched: Watched, kind: str, mark: str, limit_epoch: int, body: str
    ) -> bool:
        args: Args = [watched.budget, watched.rule, watched.period.id]
        return bool(await self._run("alert_claim", *args, kind, mark, limit_epoch, body))

    async def gathered_to(self) -> str:
        return await self._ask(self._client.hget(f"{self._prefix}alert_gathered", "cursor")) or ""

    async def gather(self, after: str, to: str, found: Sequence[Gathered], pause_ms: int) -> bool:
        args: Args = []
        for it in found:
            args += [it.kind, it.count, it.sum_nano_usd]
        return bool(await self._run("alert_gather", after, to, pause_ms, *args))

    # ── routing ──────────────────────────────────────────────────────────────────────────────────

    async def take_raised(self, count_max: int, lease_ms: int) -> tuple[Raised, ...]:
        rows = await self._run("alert_take", count_max, lease_ms)
        return tuple(
            Raised(line, alert_id, kind, int(time_ms), body)
            for line, alert_id, kind, time_ms, body in rows
        )

    async def route(self, line: str, alert: Alert, channels: Sequence[str]) -> bool:
        fields: Args = [alert.id, alert.kind, alert.level, alert.time_ms, alert.facts, KEPT_S]
        return bool(await self._run("alert_route", line, *fields, *channels))

    # ── delivering ───────────────────────────────────────────────────────────────────────────────

    async def take_due(self, count_max: int, lease_ms: int) -> tuple[Delivery, ...]:
        rows = await self._run("alert_due", count_max, lease_ms)
        return tuple(
            Delivery(
                Alert(alert_id, kind, level, int(time_ms), facts),
                channel,
                int(attempts),
                int(taken),
            )
            for alert_id, kind, level, time_ms, facts, channel, attempts, taken in rows
        )

    async def delivered(self, delivery: Delivery) -> bool:
        return await self._end(delivery, "delivered")

    async def failed(self, delivery: Delivery, error: str, again_in_ms: int | None) -> bool:
        if again_in_ms is None:
            return await self._end(delivery, "dead", error)
        return await self._end(delivery, "failed", error, again_in_ms)

    async def postpone(self, delivery: Delivery, ms: int) -> bool:
        return await self._end(delivery, "postponed", "", ms)

    async def _end(
        self, delivery: Delivery, outcome: str, error: str = "", again_in_ms: int = 0
    ) -> bool:
        args: Args = [delivery.alert.id, delivery.channel, delivery.taken, outcome]
        return bool(await self._run("alert_end", *args, error, again_in_ms, KEPT_S))

    # ── for people ───────────────────────────────────────────────────────────────────────────────

    async def depths(self) -> Depths:
        key = f"{self._prefix}alert_counts"
        counts: Mapping[str, str] = await self._ask(self._client.hgetall(key))
        return Depths(
            raised=int(await self._ask(self._client.xlen(f"{self._prefix}outbox"))),
            waiting=int(await self._ask(self._client.zcard(f"{self._prefix}alert_due"))),
            dead=int(await self._ask(self._client.zcard(f"{self._prefix}alert_dead"))),
            delivered=_counts(counts, "delivered"),
            failed=_counts(counts, "failed"),
            given_up=_counts(counts, "dead"),
        )

    async def _alert(self, alert_id: str) -> Mapping[str, str]:
        key = f"{self._prefix}alert:{alert_id}"
        found: Mapping[str, str] = await self._ask(self._client.hgetall(key))
        return found

    async def progress(self, alert_id: str) -> tuple[str, tuple[Progress, ...]] | None:
        fields = await self._alert(alert_id)
        if not fields:
            return None
        channels = sorted(
            name.removeprefix("state:") for name in fields if name.startswith("state:")
        )
        return fields["level"], tuple(_progress(fields, channel) for channel in channels)

    async def dead(self) -> tuple[Dead, ...]:
        key = f"{self._prefix}alert_dead"
        rows: Iterable[tuple[str, float]] = await self._ask(
            self._client.zrange(key, 0, DEAD_SHOWN_MAX - 1, withscores=True)
        )
        found: list[Dead] = []
        for name, time_ms in rows:
            alert_id, _, channel = name.partition("|")
            fields = await self._alert(alert_id)
            if fields:
                alert = Alert(
                    alert_id,
                    fields["kind"],
                    fields["level"],
                    int(fields["time"]),
                    fields["facts"],
                )
                found.append(Dead(alert, _progress(fields, channel), int(time_ms)))
        return tuple(reversed(found))

    async def retry(self, keys: Sequence[str]) -> int:
        begun = 0
        for start in range(0, len(keys), BATCH_MAX):
            begun += int(await self._run("alert_retry", KEPT_S, *keys[start : start + BATCH_MAX]))
        return begun


def _counts(counts: Mapping[str, str], outcome: str) -> dict[str, int]:
    return {
        name.partition(":")[2]: int(number)
        for name, number in sorted(counts.items())
        if name.startswith(f"{outcome}:")
    }


def _progress(fields: Mapping[str, str], channel: str) -> Progress:
    ended = fields.get(f"ended:{channel}")
    return Progress(
        channel=channel,
        state=cast(State, fields.get(f"state:{channel}", "waiting")),
        attempts=int(fields.get(f"attempts:{channel}", 0)),
        error=fields.get(f"error:{channel}", ""),
        ended_ms=int(ended) if ended else None,
    )
