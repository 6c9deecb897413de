"""What was scored, counted from the ledger's entries in Redis, then judged by one worker.

The watch for drift reads every entry once (`budgets.drift.job`), and hands over those that the
router scored; every few seconds their counts are added to the open window of the artefact in Redis.
One worker leads (role `router`): it closes a window that has enough requests, judges it against the
profile (`drift`), and tells of a change. A worker that dies loses what it had counted in those
seconds: this is no money.

Fields of a window's hash: `s|BIN|TASK` and `l|BIN|TASK` are requests by score and by length,
`total` and `squares` sums of scores in millionths. All keys have an end, so that an artefact that
is no longer used leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import json
from bisect import bisect_left
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import structlog

from budgets.connection import AsyncClient
from budgets.errors import LedgerUnavailable
from budgets.ledger import Ledger
from budgets.redis_clients import STORE_ERRORS
from budgets.tally import LateGauge
from hooks.router import drift
from hooks.router.drift import Judged
from hooks.router.loading import Router, State

log = structlog.get_logger("farebox.router")

ROLE = "router"
INTERVAL_S = 5.0
LEASE_MS = 30_000
WINDOWS_KEPT = 20
KEPT_S = 60 * 86_400
FIELDS_MAX = 20_000
"""How many counters a worker holds at most between two flushes."""

DRIFTED = LateGauge(
    "farebox_router_drifted",
    "1 after a window of live requests that did not look like the profile, else 0; absent before.",
    "mostrecent",
)


class TrafficStore:
    """The windows of one ledger's routers in Redis."""

    def __init__(self, client: AsyncClient, ledger_name: str) -> None:
        self._client = client
        self._prefix = f"farebox:{{{ledger_name}}}:router"

    def _key(self, digest: str, part: str) -> str:
        return f"{self._prefix}:{digest[:16]}:{part}"

    async def add(self, digest: str, counts: Counter[str]) -> None:
        """Add to the open window."""
        key = self._key(digest, "window")
        pipe = self._client.pipeline(transaction=False)
        for name, count in counts.items():
            pipe.hincrby(key, name, count)
        pipe.expire(key, KEPT_S)
        await pipe.execute()

    async def waiting(self, digest: str) -> int:
        """Return how many requests are in the open window."""
        fields = await _all(self._client, self._key(digest, "window"))
        return _requests(fields)

    async def close(self, digest: str, requests: int) -> dict[str, str] | None:
        """Close the open window and return its fields; None while it has too few requests."""
        key, closing = self._key(digest, "window"), self._key(digest, "closing")
        if _requests(await _all(self._client, key)) < requests:
            return None
        # From here on, workers add to a new window.
        await self._client.rename(key, closing)
        fields = await _all(self._client, closing)
        await self._client.delete(closing)
        return fields

    async def keep(self, digest: str, judged: Judged) -> None:
        """Keep what became of a window, the newest first."""
        key = self._key(digest, "judged")
        pipe = self._client.pipeline(transaction=False)
        pipe.lpush(key, json.dumps(judged.as_dict(), separators=(",", ":")))
        pipe.ltrim(key, 0, WINDOWS_KEPT - 1)
        pipe.expire(key, KEPT_S)
        await pipe.execute()

    async def judged(self, digest: str) -> tuple[Judged, ...]:
        """Return the windows that were judged, the newest first."""
        rows = await cast(
            Awaitable[list[str]], self._client.lrange(self._key(digest, "judged"), 0, -1)
        )
        return tuple(_judged(json.loads(row)) for row in rows)

    async def first_time(self, digest: str, what: str) -> bool:
        """Say whether this is told for the first time in a day."""
        key = self._key(digest, f"told:{what}")
        return bool(await self._client.set(key, "1", nx=True, ex=86_400))


async def _all(client: AsyncClient, key: str) -> dict[str, str]:
    return await cast(Awaitable[dict[str, str]], client.hgetall(key))


def _requests(fields: dict[str, str]) -> int:
    return sum(int(value) for name, value in fields.items() if name.startswith("s|"))


def _judged(row: dict[str, Any]) -> Judged:
    return Judged(
        **{name: row[name] for name in Judged.__slots__ if name != "reasons"},
        reasons=tuple(row["reasons"]),
    )


@dataclass(slots=True)
class Traffic:
    """One worker's part. `router` returns the router in force, `note` adds an event to the ledger
    that alerts are made of, `drifted` takes what the newest window of an artefact gave as reasons
    for a drift, none for none."""

    store: TrafficStore
    ledger: Ledger
    router: Callable[[], Router]
    note: Callable[[str, str], Awaitable[None]]
    drifted: Callable[[str, tuple[str, ...]], None]
    worker: str
    _counts: Counter[str] = field(default_factory=Counter)
    _digest: str = ""

    def take(self, bodies: Sequence[Mapping[str, Any]]) -> None:
        """Count the entries that the artefact in use has scored."""
        artefact = self.router().artefact
        if artefact is None:
            return
        if artefact.digest != self._digest:
            self._counts, self._digest = Counter(), artefact.digest
        bins, counts = artefact.distribution, self._counts
        for body in bodies:
            said, task = body["router"], body.get("task_type")
            score, chars = said.get("score"), said.get("chars")
            if said.get("artefact") != artefact.id or score is None or chars is None:
                continue
            if len(counts) >= FIELDS_MAX:
                return
            counts[f"s|{bisect_left(bins.score_bounds, score)}|{task}"] += 1
            counts[f"l|{bisect_left(bins.length_bounds, chars)}|{task}"] += 1
            counts["total"] += round(score * 1e6)
            counts["squares"] += round(score**2 * 1e6)

    async def run(self) -> None:
        """Hand on what was counted and judge windows, for ever. Waits for a store that is away."""
        while True:
            await asyncio.sleep(INTERVAL_S)
            try:
                await self.flush()
                await self.look()
                await self.learn()
            except (*STORE_ERRORS, LedgerUnavailable):
                continue
            except Exception:
                log.exception("router_traffic_not_judged")

    async def flush(self) -> None:
        """Add what was counted to the open window; what Redis did not take is counted on."""
        counts, digest = self._counts, self._digest
        if not counts:
            return
        self._counts = Counter()
        try:
            await self.store.add(digest, counts)
        except STORE_ERRORS:
            if self._digest == digest:
                self._counts.update(counts)
            raise

    async def look(self) -> Judged | None:
        """Where this worker leads: close a full window, judge it, and tell of a change."""
        router = self.router()
        artefact = router.artefact
        if artefact is None or router.state is State.OFF:
            return None
        if not await self.ledger.lead(ROLE, self.worker, LEASE_MS):
            return None
        if (
            router.state is State.STALE
            and not router.drifted
            and await self.store.first_time(artefact.digest, "stale")
        ):
            await self._tell(artefact.id, router.problems)
        settings = router.drift
        fields = await self.store.close(artefact.digest, settings.window_requests)
        if fields is None:
            return None
        judged = drift.judge(
            artefact.distribution,
            drift.from_fields(artefact.distribution, fields),
            await self.ledger.now_ms(),
            settings.false_alarm_rate,
            settings.index_min,
        )
        await self.store.keep(artefact.digest, judged)
        DRIFTED.set(int(judged.drifted))
        log.info("router_window_judged", artefact=artefact.id, drifted=judged.drifted)
        if judged.drifted and await self.store.first_time(artefact.digest, "drift"):
            await self._tell(artefact.id, judged.reasons)
        return judged

    async def learn(self) -> None:
        """Tell this worker what the newest window said, whoever judged it."""
        artefact = self.router().artefact
        if artefact is None:
            return
        newest = (await self.store.judged(artefact.digest))[:1]
        self.drifted(artefact.digest, newest[0].reasons if newest else ())

    async def _tell(self, artefact: str, reasons: tuple[str, ...]) -> None:
        log.warning("router_needs_calibration", artefact=artefact, reasons=list(reasons))
        await self.note("recalibrate", json.dumps({"artefact": artefact, "reasons": reasons}))
