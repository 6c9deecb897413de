"""Archives once a day, from whichever worker takes the turn.

The turn is a key in Redis with a time to live: who sets it archives, and the others find it there
until it is gone. It spares work and is not needed for safety: `archive` may run twice at once. A
failure gives the turn up early, so that an archive that failed for want of disk is tried again
within the hour and not only tomorrow.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from budgets.archive import Archived, ArchiveFailed, archive, cutoff_ms
from budgets.archive_files import ArchiveFolder
from budgets.ledger import Ledger, LedgerUnavailable
from budgets.redis_scripts import RedisClient, redis_errors

log = structlog.get_logger("farebox.archive")

LOOK_INTERVAL_S = 600.0
TURN_S = 86_400
TURN_AFTER_FAILURE_S = 3_600


@dataclass(frozen=True, slots=True)
class Settings:
    """What a policy says about the archive: the sink folder, the time zone, the live months."""

    sink: Path
    zone: str
    live_months: int


class Archivist:
    """The daily archive of one ledger.

    Args:
        ledger: whose entries are archived; `name` is its name.
        client: the Redis that holds the turn.
        settings: returns what the policy in force says, None where there is no folder.
        worker: who takes the turn, for people who look at the key.
    """

    def __init__(
        self,
        ledger: Ledger,
        client: RedisClient,
        name: str,
        settings: Callable[[], Settings | None],
        worker: str,
    ) -> None:
        self._ledger = ledger
        self._client = client
        self._name = name
        self._turn = f"farebox:{{{name}}}:archive_turn"
        self._settings = settings
        self._worker = worker

    async def run(self) -> None:
        """Look now and then whether it is time; never ends by itself."""
        while True:
            try:
                await self.look()
            except LedgerUnavailable as error:
                log.warning("not_archived", reason=str(error))
            except Exception:
                log.exception("not_archived")
            await asyncio.sleep(LOOK_INTERVAL_S)

    async def look(self) -> Archived | None:
        """Archive if it is this worker's turn; None where it is not, or where it failed.

        Raises:
            LedgerUnavailable: the store did not answer.
        """
        settings = self._settings()
        if settings is None or not await self._take_turn():
            return None
        now_ms = await self._ledger.now_ms()
        try:
            done = await archive(
                self._ledger,
                ArchiveFolder(settings.sink, self._name),
                zone=settings.zone,
                before_ms=cutoff_ms(settings.zone, settings.live_months, now_ms),
            )
        except (ArchiveFailed, LedgerUnavailable, OSError) as error:
            log.error("archive_failed", reason=str(error), error=type(error).__name__)
            with redis_errors():
                await self._client.expire(self._turn, TURN_AFTER_FAILURE_S)
            return None
        log.info("archived", entries=done.entries, files=len(done.parts), months=list(done.months))
        return done

    async def _take_turn(self) -> bool:
        with redis_errors():
            taken = await self._client.set(self._turn, self._worker, nx=True, ex=TURN_S)
        return bool(taken)
