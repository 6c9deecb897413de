"""The keys as one worker sees them: all in memory, so that a request needs no round trip.

A background task asks Redis for the keys' version every half second and reloads them when it moved,
so a revocation acts in every worker well within two seconds. Expiry is judged by the clock at every
look-up. While Redis is down the last snapshot stays in force, and `stale_for_s` says for how long.

A key that the snapshot does not know may have been made a moment ago: its look-up waits for one
fresh reading. Such readings are shared and at least 250 ms apart, so that unknown keys cost Redis
at most four small reads a second for each worker, however many are tried.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import structlog

from budgets.background import end
from budgets.yamlfile import ConfigErrors
from hooks.key_file import load_key_file
from hooks.key_store import KeyStore, KeysUnavailable
from hooks.keys import (
    EXPIRED,
    MISSING,
    REVOKED,
    UNAVAILABLE,
    UNKNOWN,
    Clock,
    KeyProblem,
    KeyRecord,
    parse_key,
    unix_ms,
    utc_now,
)

_log = structlog.get_logger(__name__)


class KeyBook:
    """`await start()` once inside the event loop, then `await lookup(key)`."""

    def __init__(
        self,
        store: KeyStore,
        *,
        file: Path | None = None,
        clock: Clock = utc_now,
        poll_s: float = 0.5,
        refresh_gap_s: float = 0.25,
    ) -> None:
        self._store = store
        self._file = file
        self._clock = clock
        self._poll_s = poll_s
        self._refresh_gap_s = refresh_gap_s
        self._stored: dict[str, KeyRecord] = {}
        self._fixed: dict[str, KeyRecord] = {}
        self._version: str | None = None  # None: nothing has ever been read
        self._file_stamp: tuple[int, int] | None = None
        self._file_problem: str | None = None
        self._read_ok_s: float | None = None
        self._failing = False
        self._last_read_s = float("-inf")
        self._waiting: asyncio.Task[None] | None = None
        self._reading = asyncio.Lock()
        self._poller: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read once and begin to poll. Redis being down is no error: the poll tries again."""
        if self._poller is None:
            self._poller = asyncio.create_task(self._poll(), name="farebox-keys")
            await self._read()

    async def stop(self) -> None:
        tasks = self._poller, self._waiting
        self._poller = self._waiting = None
        await end(*tasks)

    async def lookup(self, key: str) -> KeyRecord | KeyProblem:
        """The record of a presented key, or why it is not accepted."""
        if not key:
            return MISSING
        parsed = parse_key(key)
        if parsed is None:
            return UNKNOWN
        key_id, secret = parsed
        record = self._find(key_id)
        if record is None:
            await self._fresh_reading()
            record = self._find(key_id)
        if record is None:
            # While Redis is down this may be a good key that nobody here has seen yet.
            return UNAVAILABLE if self._failing else UNKNOWN
        if not record.matches(secret):
            return UNKNOWN
        match record.state(unix_ms(self._clock())):
            case "revoked":
                return REVOKED
            case "expired":
                return EXPIRED
            case "live":
                return record

    def record_of(self, key_id: str) -> KeyRecord | KeyProblem:
        """The record of a key that was accepted once, by its id, or why it is not any more."""
        record = self._find(key_id)
        if record is None:
            return UNAVAILABLE if self._failing or self._version is None else UNKNOWN
        match record.state(unix_ms(self._clock())):
            case "revoked":
                return REVOKED
            case "expired":
                return EXPIRED
            case "live":
                return record

    @property
    def stale_for_s(self) -> float | None:
        """Seconds since Redis last answered, or None if it never has."""
        return None if self._read_ok_s is None else time.monotonic() - self._read_ok_s

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong now, in sentences for `farebox status`; empty when all is well."""
        found = []
        if self._failing:
            seconds = self.stale_for_s
            since = "never read" if seconds is None else f"last read {seconds:.0f} s ago"
            found.append(f"keys: Redis does not answer; the last snapshot is in force ({since})")
        if self._file_problem is not None:
            found.append(f"keys: {self._file_problem}; the last good set is in force")
        return tuple(found)

    def _find(self, key_id: str) -> KeyRecord | None:
        return self._fixed.get(key_id) or self._stored.get(key_id)

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(self._poll_s)
            try:
                await self._read()
            except Exception as error:  # A poll that died would let revoked keys live on.
                _log.error("farebox_keys_poll_failed", error=type(error).__name__)

    async def _fresh_reading(self) -> None:
        """Wait for a reading that begins after this call; all who wait share one."""
        if self._waiting is None:
            self._waiting = asyncio.create_task(self._read_when_due())
        # Shielded: one client that leaves must not cancel the reading of the others.
        await asyncio.shield(self._waiting)

    async def _read_when_due(self) -> None:
        await asyncio.sleep(max(0.0, self._last_read_s + self._refresh_gap_s - time.monotonic()))
        async with self._reading:
            # From here on a newcomer needs another reading: this one may miss its key.
            self._waiting = None
            self._last_read_s = time.monotonic()
            await self._read_now()

    async def _read(self) -> None:
        async with self._reading:
            await self._read_now()

    async def _read_now(self) -> None:
        self._read_file()
        try:
            # The version is read first: a change between the two reads is seen at the next poll.
            version = await self._store.version()
            if version != self._version:
                self._stored = await self._store.all()
                self._version = version
        except KeysUnavailable as error:
            if not self._failing:
                _log.warning("farebox_keys_stale", reason=str(error))
            self._failing = True
            return
        if self._failing:
            _log.info("farebox_keys_fresh_again")
        self._failing = False
        self._read_ok_s = time.monotonic()

    def _read_file(self) -> None:
        if self._file is None:
            return
        try:
            status = self._file.stat()
            stamp = (status.st_mtime_ns, status.st_size)
        except OSError:
            stamp = (0, 0)
        if stamp == self._file_stamp:
            return
        self._file_stamp = stamp
        try:
            self._fixed = load_key_file(self._file)
            self._file_problem = None
        except ConfigErrors as error:
            self._file_problem = str(error)
            _log.error("farebox_keys_file_invalid", problem=str(error))
