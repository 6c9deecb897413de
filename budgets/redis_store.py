"""The ledger in Redis: one Lua script an operation, one round trip each, Redis's own clock.

What the scripts do stands in `lua/`, what each operation promises in `ledger`, and the model that
this store is held to in `memory`. Redis must not evict (`maxmemory-policy noeviction`): live money
has no TTL, and a key that vanishes shows in `verify` as a difference.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, cast

from budgets import packed
from budgets import redis_codec as codec
from budgets.approvals.redis import RedisApprovals, use_args
from budgets.archived import ArchivedPart, ArchivedSums, ArchiveState, EntryLine, Sums
from budgets.audit.redis import RedisTrail
from budgets.checks import (
    check_budgets,
    check_closing,
    check_counters,
    check_hold,
    check_lead,
    check_policy,
    check_refusal,
    check_settlement,
)
from budgets.clock import StepWatch
from budgets.errors import ClockSkew, HoldIdReused, LedgerPaused, PolicyNotPublished, PolicyOutrun
from budgets.grants.redis import RedisGrants
from budgets.holds import BudgetHold, BudgetState, Held, HoldRequest, Refused
from budgets.learned import Learned
from budgets.leases.redis import RedisLeases, adopt_args, adopted, return_args
from budgets.leases.types import Adoption, SliceReturn
from budgets.ledger import SLICE_OWNER_ACTIVE_MS, Leader, Write, Written, unwatched
from budgets.period import Period
from budgets.published import PublishedPolicy
from budgets.records import Difference, LedgerEntry, LedgerEvent, RefusalRecord
from budgets.redis_audit import RedisAudit
from budgets.redis_carry import carry_differences
from budgets.redis_scripts import RedisClient, redis_errors, run_batch, run_script
from budgets.settlements import Settled, Settlement, Voiding
from budgets.slices import OfflineHold, Slice, SliceRequest
from budgets.statements import Addendum, OpenHold, PeriodOpen, Statement
from budgets.verify import next_order_id, rebuilt

PAGE_LINES = 500
PUBLISH_TRIES = 10
"""The first finds out the revision; each other one means that somebody else published just then."""
BATCH_MAX = 200
"""The most holds or budgets in one script call: it bounds how long others wait for Redis."""

DECISION_TTL_S = 35 * 86_400


class RedisLedger(RedisGrants, RedisApprovals, RedisLeases):
    """A `Ledger` in Redis.

    Args:
        client: made with `decode_responses=True`. Its own retries are safe: a repeated operation
            answers that it is done already.
        name: the ledger's name; all keys start with `farebox:{name}:`.
        clock_offset_ms: added to Redis's time. For tests and simulations only, which change the
            attribute of the same name to let time pass; TTLs go on by Redis's own time.
        decision_ttl_s: how long decisions are kept, in seconds.
    """

    def __init__(
        self,
        client: RedisClient,
        name: str = "default",
        *,
        clock_offset_ms: int = 0,
        decision_ttl_s: int = DECISION_TTL_S,
    ) -> None:
        if not name or "{" in name or "}" in name:
            raise ValueError(f"the ledger name {name!r} is empty or has braces; use letters")
        self.clock_offset_ms = clock_offset_ms
        self._client = client
        self._prefix = f"farebox:{{{name}}}:"
        self._decision_ttl_s = decision_ttl_s
        self._policy: PublishedPolicy | None = None
        self._revision = 0
        self._step_watch = StepWatch()

    @property
    def trail(self) -> RedisTrail:
        """The audit trail of this ledger."""
        return RedisTrail(self._client, self._prefix, self.clock_offset_ms)

    async def _run(self, script: str, *args: str | int) -> Any:
        return await run_script(self._client, script, self._prefix, self.clock_offset_ms, *args)

    async def _run_with_policy(self, script: str, *args: str | int) -> Any:
        """Run a script that needs the published limits.

        Where Redis lost them, the policy that this process published last is published again, once.
        """
        reply = await self._run(script, *args)
        if reply[0] == "unpublished" and self._policy is not None:
            await self.publish(self._policy)
            reply = await self._run(script, *args)
        if reply[0] == "unpublished":
            raise PolicyNotPublished(reply[1])
        if reply[0] == "paused":
            raise LedgerPaused(int(reply[1]))
        return reply

    async def publish(self, policy: PublishedPolicy, after: int | None = None) -> int:
        check_policy(policy)
        # Remembered first: if Redis is down now, the first hold after its return publishes it.
        self._policy = policy
        for _ in range(PUBLISH_TRIES):
            # Every try names the revision that it follows: should it arrive late, it is void.
            expected = self._revision if after is None else after
            reply = await self._run("publish", *codec.policy_args(policy, expected))
            if isinstance(reply, int):
                self._revision = reply
                return reply
            self._revision = int(reply[1])
            if after is not None:
                break
        raise PolicyOutrun(self._revision)

    async def hold(self, request: HoldRequest) -> Held | Refused:
        check_hold(request)
        reply = await self._run_with_policy(
            "hold",
            request.hold_id,
            request.amount_nano_usd,
            request.lease_ms,
            request.expected_end_ms_in,
            request.facts,
            request.decision_id,
            request.decision,
            self._decision_ttl_s,
            request.stats_period,
            *use_args(request.approval),
            *codec.budget_args(request.budgets),
        )
        match reply[0]:
            case "clock":
                raise ClockSkew(int(reply[1]))
            case "reused":
                raise HoldIdReused(request.hold_id)
            case "refused":
                return codec.refused(request.budgets, reply)
        return codec.held(request.hold_id, reply)

    async def top_up(
        self, hold_id: str, amount_nano_usd: int, budgets: tuple[BudgetHold, ...]
    ) -> Held | Refused | None:
        check_budgets(amount_nano_usd, budgets)
        reply = await self._run_with_policy(
            "top_up", hold_id, amount_nano_usd, *codec.budget_args(budgets)
        )
        match reply[0]:
            case "none":
                return None
            case "clock":
                raise ClockSkew(int(reply[1]))
            case "refused":
                return codec.refused(budgets, reply)
        return codec.held(hold_id, reply)

    async def settle(self, settlement: Settlement) -> Settled:
        check_settlement(settlement)
        return codec.settled(await self._run("settle", *codec.settle_args(settlement)))

    async def void(
        self, hold_id: str, body: str, counters: Mapping[str, int], *, ahead: bool = False
    ) -> Settled:
        check_counters(counters)
        reply = await self._run("void", hold_id, body, int(ahead), *codec.pair_args(counters))
        return codec.settled(reply)

    async def write_all(self, writes: Sequence[Write]) -> tuple[Written, ...]:
        calls = [self._call_of(it) for it in writes]
        if not writes:
            return ()
        replies = await run_batch(self._client, self._prefix, self.clock_offset_ms, calls)
        return tuple(_written(it, reply) for it, reply in zip(writes, replies, strict=True))

    def _call_of(self, it: Write) -> tuple[str, codec.Args]:
        match it:
            case Settlement():
                check_settlement(it)
                return "settle", codec.settle_args(it)
            case Voiding():
                check_counters(it.counters)
                return "void", [it.hold_id, it.body, int(it.ahead), *codec.pair_args(it.counters)]
            case Adoption():
                check_hold(it.request)
                return "lease_adopt", adopt_args(it, self._decision_ttl_s)
            case SliceReturn():
                return "lease_return", return_args(it)

    async def renew(self, hold_ids: Sequence[str], lease_ms: int) -> int:
        count = 0
        for start in range(0, len(hold_ids), BATCH_MAX):
            count += int(await self._run("renew", lease_ms, *hold_ids[start : start + BATCH_MAX]))
        return count

    async def expire(self, count_max: int) -> tuple[LedgerEntry, ...]:
        entries: list[LedgerEntry] = []
        left = count_max
        while left > 0:
            batch = min(left, BATCH_MAX)
            seen, rows = await self._run("expire", batch)
            entries += [codec.expired_entry(row) for row in rows]
            left -= batch
            if int(seen) < batch:
                break
        return tuple(entries)

    async def refuse(self, refusal: RefusalRecord) -> None:
        check_refusal(refusal)
        await self._run(
            "refuse",
            refusal.decision_id,
            refusal.code,
            refusal.body,
            refusal.decision,
            self._decision_ttl_s,
            refusal.stats_period,
            *codec.pair_args(refusal.counters),
        )

    async def slices(self, owner: str, wanted: Sequence[SliceRequest]) -> tuple[Slice, ...]:
        if not wanted:
            return ()
        rows = await self._run("slices", owner, SLICE_OWNER_ACTIVE_MS, *codec.slice_args(wanted))
        return codec.slices(rows)

    async def release_slices(self, owner: str) -> None:
        await self._run("release_slices", owner)

    async def replay(self, offline: OfflineHold, ending: Settlement, state: str) -> Settled:
        check_settlement(ending)
        reply = await self._run(
            "replay",
            offline.hold_id,
            state,
            ending.cost_nano_usd,
            ending.body,
            offline.amount_nano_usd,
            offline.time_ms,
            offline.decision_id,
            offline.decision,
            self._decision_ttl_s,
            offline.stats_period,
            offline.owner,
            len(offline.budgets),
            len(ending.counters),
            *codec.replayed_args(offline.budgets, ending),
            *codec.pair_args(ending.counters),
        )
        return codec.settled(reply)

    async def close_period(
        self, period: Period, following: Period, budgets: Sequence[tuple[str, str]] = ()
    ) -> Statement | PeriodOpen:
        check_closing(period, following, budgets)
        names = [name for pair in budgets for name in pair]
        reply = await self._run_with_policy(
            "close_period", period.id, period.start_ms, period.end_ms, following.id, *names
        )
        if reply[0] == "open":
            return PeriodOpen(period.id, int(reply[1]), period.end_ms)
        return codec.statement(reply)

    async def open_holds(self, period_id: str, count_max: int) -> tuple[int, tuple[OpenHold, ...]]:
        count, rows = await self._run("open_holds", period_id, count_max)
        return int(count), tuple(codec.open_hold(row) for row in rows)

    async def statement(self, period_id: str) -> Statement | None:
        kept = await self._read_hash(f"closed:{period_id}")
        if not kept:
            return None
        fields = [kept[name] for name in ("start", "end", "following", "time", "rows")]
        return codec.statement(["closed", period_id, *fields])

    async def lead(self, role: str, owner: str, lease_ms: int) -> bool:
        check_lead(role, owner, lease_ms)
        won, time_ms = await self._run("lead", role, owner, lease_ms)
        self._step_watch.saw(int(time_ms))
        return bool(won == "1")

    async def resign(self, role: str, owner: str) -> bool:
        return int(await self._run("resign", role, owner)) == 1

    async def leaders(self) -> tuple[Leader, ...]:
        rows = await self._run("leaders")
        return tuple(
            sorted(
                (Leader(role, owner, int(until)) for role, owner, until in rows),
                key=lambda it: it.role,
            )
        )

    async def states(self, budgets: Sequence[tuple[str, str, str]]) -> tuple[BudgetState, ...]:
        states: list[BudgetState] = []
        for start in range(0, len(budgets), BATCH_MAX):
            names = [name for row in budgets[start : start + BATCH_MAX] for name in row]
            _, rows = await self._run_with_policy("states", *names)
            states += codec.budget_states(rows)
        return tuple(states)

    async def counters(self, stats_period: str) -> dict[str, int]:
        totals = await self._read_hash(f"stats:{stats_period}")
        # See `add_counters` in `lua/lib.lua`.
        totals.pop("_", None)
        return {name: int(figure) for name, figure in totals.items()}

    async def learned(self) -> Learned:
        return codec.learned(await self._read_hash("learned"))

    async def decision(self, decision_id: str) -> str | None:
        (found,) = await packed.decisions(self._client, self._prefix, [decision_id])
        return found

    async def _read_hash(self, key: str) -> dict[str, str]:
        with redis_errors():
            reply = self._client.hgetall(self._prefix + key)
            return await cast("Awaitable[dict[str, str]]", reply)

    async def entries(
        self, after: str = "", newest_first: bool = False
    ) -> AsyncIterator[LedgerEntry]:
        async for line_id, fields in self._lines("entries", after, newest_first):
            yield codec.stream_entry(line_id, fields)

    async def events(
        self, after: str = "", newest_first: bool = False
    ) -> AsyncIterator[LedgerEvent]:
        async for line_id, fields in self._lines("events", after, newest_first):
            yield codec.stream_event(line_id, fields)

    async def refusals(
        self, after: str = "", newest_first: bool = False
    ) -> AsyncIterator[LedgerEvent]:
        async for line_id, fields in self._lines("refusals", after, newest_first):
            yield codec.stream_event(line_id, fields)

    async def addenda(self, after: str = "", newest_first: bool = False) -> AsyncIterator[Addendum]:
        async for line_id, fields in self._lines("addenda", after, newest_first):
            yield codec.stream_addendum(line_id, fields)

    async def _lines(
        self, stream: str, after: str, newest_first: bool
    ) -> AsyncIterator[tuple[str, dict[str, str]]]:
        """Read a stream a page at a time; lines that are added meanwhile are read as well."""
        key = self._prefix + stream
        while True:
            beyond = f"({after}" if after else None
            with redis_errors():
                if newest_first:
                    reply = self._client.xrevrange(key, beyond or "+", "-", count=PAGE_LINES)
                else:
                    reply = self._client.xrange(key, beyond or "-", "+", count=PAGE_LINES)
                page = await cast("Awaitable[list[tuple[str, dict[str, str]]]]", reply)
            for line_id, fields in page:
                yield line_id, fields
            if len(page) < PAGE_LINES:
                return
            after = page[-1][0]

    async def lines(self, after: str = "") -> AsyncIterator[EntryLine]:
        async for line_id, fields in self._lines("entries", after, newest_first=False):
            yield EntryLine(line_id, fields)

    async def archive_state(self) -> ArchiveState:
        to, entries, parts = await self._run("archive_state")
        return ArchiveState(to, int(entries), tuple(map(ArchivedPart.from_json, parts)))

    async def trim(self, part: ArchivedPart, sums: Sums) -> bool:
        done = await self._run(
            "trim",
            part.after,
            part.last,
            next_order_id(part.last),
            part.entries,
            part.to_json(),
            len(sums.charged),
            *codec.sum_args(sums.charged),
            *codec.sum_args(sums.unreconciled),
        )
        return bool(done)

    def _audit(self, watch: Callable[[int], None]) -> RedisAudit:
        return RedisAudit(
            self._client, self._prefix, self.clock_offset_ms, self.lines, self.archive_state, watch
        )

    async def verify(
        self,
        archived: ArchivedSums | None = None,
        *,
        every_hold: bool = False,
        watch: Callable[[int], None] = unwatched,
    ) -> tuple[Difference, ...]:
        found = await self._audit(watch).verify(archived, every_hold=every_hold)
        return found + await carry_differences(self._client, self._prefix, self.addenda)

    async def rebuild(
        self,
        actor: str,
        *,
        archived: ArchivedSums | None = None,
        lease_ms: int,
        pause_ms: int,
        watch: Callable[[int], None] = unwatched,
    ) -> tuple[Difference, ...]:
        async def pause(begins: bool) -> None:
            await self.pause(pause_ms if begins else 0)

        changed = await self._audit(watch).rebuild(archived, lease_ms, pause)
        if changed:
            await self._run("note", "rebuilt", json.dumps(rebuilt(actor, changed)))
            await self.trail.append(actor, "rebuilt", {"counters": len(changed)})
        return changed

    async def pause(self, ms: int) -> None:
        await self._run("pause", ms)

    async def now_ms(self) -> int:
        return int(await self._run("now"))


def _written(it: Write, reply: Any) -> Written:
    match it:
        case Adoption():
            return adopted(reply)
        case SliceReturn():
            return None
    return codec.settled(reply)
