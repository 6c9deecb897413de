"""The watch itself: one worker reads the ledger's new entries and judges every series.

It is off every request's way: entries are read after they were written, a bounded number at a time,
and the event loop gets its turn between them. All that a look changes is kept in one step with its
cursor, so that a worker that dies, or two that lead for a moment, count no entry twice.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import structlog

from budgets.drift import judging
from budgets.drift.findings import Finding, series_id
from budgets.drift.observing import KINDS, Body, Series, observe
from budgets.drift.state import State
from budgets.drift.store import SERIES_MAX, Changes, DriftStore
from budgets.drift.watchlist import Watchlist
from budgets.errors import LedgerUnavailable
from budgets.jsontext import loads
from budgets.ledger import Ledger

log = structlog.get_logger("farebox.drift")

ROLE = "drift"
INTERVAL_S = 5.0
BUSY_PAUSE_S = 0.5
"""The pause between two looks while there are more entries than one look takes."""
LEASE_MS = 30_000
ENTRIES_MAX = 1_000
"""How many entries one look takes in."""
TURN_S = 0.004
"""How long the job works before others get their turn on the event loop."""
ALERT_AGE_MS_MAX = 86_400_000
"""What is older is found and not told: it is history, read when the watch begins."""
STALE_MS = 35 * 86_400_000
"""A series without an entry for so long makes room where there is none."""


@dataclass(slots=True)
class _Gathered:
    """What new entries say to one series, and when the first and the last were."""

    values: list[Any]
    first_ms: int
    last_ms: int = 0


@dataclass(slots=True)
class DriftJob:
    """The watch over one ledger; `watchlist` is by the policy in force, `worker` takes the role.

    `scored` gets the entries that the trained router scored, once they were taken in.
    """

    ledger: Ledger
    store: DriftStore
    watchlist: Callable[[], Watchlist]
    worker: str
    scored: Callable[[Sequence[Body]], None] = lambda _: None
    entries_max: int = ENTRIES_MAX
    _turn_ends: float = field(default=0.0)

    async def run(self) -> None:
        """Look for ever; waits for a store that is away."""
        while True:
            taken = 0
            try:
                taken = await self.look() or 0
            except LedgerUnavailable as error:
                log.debug("drift_not_watched", reason=str(error))
            except Exception:
                log.exception("drift_not_watched")
            await asyncio.sleep(BUSY_PAUSE_S if taken >= self.entries_max else INTERVAL_S)

    async def look(self) -> int | None:
        """Take in new entries; return how many, or None where another worker leads.

        Raises:
            LedgerUnavailable: the store did not answer.
        """
        if not await self.ledger.lead(ROLE, self.worker, LEASE_MS):
            return None
        watch = self.watchlist()
        before = await self.store.cursor()
        accepted = dict(await self.store.accepted())
        gathered: dict[Series, _Gathered] = {}
        scored: list[Body] = []
        after, taken = before, 0
        self._turn_ends = time.monotonic() + TURN_S
        async for entry in self.ledger.entries(after=before):
            after, taken = entry.id, taken + 1
            body = _read(entry.kind, entry.body)
            if body is not None:
                _gather(gathered, entry.kind, body, entry.time_ms, watch)
                if body.get("router"):
                    scored.append(body)
            if taken >= self.entries_max:
                break
            await self._turn()
        if not taken and not accepted:
            return 0
        changes = await self._judge(gathered, accepted, watch)
        if not await self.store.keep(before, after, changes):
            log.info("drift_look_was_late", entries=taken)
            return taken
        if scored:
            self.scored(scored)
        return taken

    async def _turn(self) -> None:
        if time.monotonic() > self._turn_ends:
            await asyncio.sleep(0)
            self._turn_ends = time.monotonic() + TURN_S

    async def _judge(
        self, gathered: dict[Series, _Gathered], accepted: dict[str, str], watch: Watchlist
    ) -> Changes:
        changes = Changes(accepted=accepted)
        by_id = {series_id(*series): series for series in gathered}
        wanted = [*by_id, *(it for it in accepted if it not in by_id)]
        states = await self.store.states(wanted)
        standing = await self.store.found(wanted)
        room = await self._room(states, changes)
        now_ms = await self.ledger.now_ms()
        for name in wanted:
            state = states[name]
            series = by_id.get(name)
            if name in accepted and state is not None:
                state = judging.accepted(_series_of(name), state)
                changes.series[name], changes.scores[name] = state, None
            if series is None:
                continue
            if state is None:
                if not room:
                    continue
                room -= 1
            given = gathered[series]
            look = judging.judge(series, state or State(), given.values, watch, given.first_ms)
            before = None if name in accepted else standing[name]
            kept = look.state
            if before is not None and look.back:
                changes.over.append(name)
                kept = judging.cleared(series, kept)
                log.info("drift_over", signal=series.signal, id=name)
            elif look.out or before is not None:
                found = judging.finding(series, look, given.last_ms)
                changes.findings[name] = (found, self._alert(found, before, now_ms))
            changes.series[name] = replace(kept, seen_ms=given.last_ms)
            # Without evidence either way a baseline is being gathered: that is no score of 0.
            known = look.statistic > 0 or series.signal in judging.BY_FACT
            changes.scores[name] = look.statistic / look.limit if known else None
            await self._turn()
        return changes

    def _alert(self, found: Finding, before: Finding | None, now_ms: int) -> str:
        """Return the body of the alert of a finding, empty where none is due."""
        if before is not None or now_ms - found.seen_ms > ALERT_AGE_MS_MAX:
            return ""
        log.warning("drift_found", signal=found.signal, id=found.id, text=found.text)
        return json.dumps({"id": found.id, **json.loads(found.to_json())})

    async def _room(self, states: dict[str, State | None], changes: Changes) -> int:
        """Return how many new series there is room for; stale ones make some where it is scarce."""
        wanted = sum(state is None for state in states.values())
        if not wanted:
            return 0
        room = SERIES_MAX - await self.store.count()
        if room < wanted:
            before_ms = await self.ledger.now_ms() - STALE_MS
            stale = [it for it in await self.store.stale(before_ms) if it not in states]
            changes.forget += stale[: wanted - room]
            room += len(changes.forget)
        if room < wanted:
            log.warning("drift_series_not_watched", series=wanted - max(0, room))
        return max(0, room)


def _read(kind: str, text: str) -> Body | None:
    """Return the body of an entry that can say anything; None for others."""
    if kind not in KINDS:
        return None
    try:
        body = loads(text)
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def _gather(
    gathered: dict[Series, _Gathered], kind: str, body: Body, time_ms: int, watch: Watchlist
) -> None:
    try:
        said = list(observe(kind, body, watch))
    except (ValueError, TypeError, KeyError, AttributeError):
        # An entry that another release or hand wrote otherwise: it says nothing here.
        return
    for series, value in said:
        if series.signal in watch.settings.unwatched:
            continue
        known = gathered.get(series)
        if known is None:
            known = gathered[series] = _Gathered([], time_ms)
        known.values.append(value)
        known.last_ms = time_ms


def _series_of(name: str) -> Series:
    return Series(name.split("/")[0])
