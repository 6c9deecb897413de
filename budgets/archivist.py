"""Archives in the background, in whichever worker leads.

Every worker looks once an hour whether there is something old enough, and one of them has the role
`archivist` in the ledger, for some hours at a time. The role spares work and is not needed for
safety: `archive` may run twice at once. What failed is tried again at the next look.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from budgets.archive import Archived, ArchiveFailed, archive, cutoff_ms
from budgets.archive_files import ArchiveFolder
from budgets.errors import LedgerUnavailable
from budgets.ledger import Ledger

log = structlog.get_logger("farebox.archive")

ROLE = "archivist"
LOOK_INTERVAL_S = 3_600.0
LEASE_MS = 3 * 3_600_000
"""How long a worker that no longer looks keeps the role."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a policy says about the archive: the sink folder, the time zone, the live months."""

    sink: Path
    zone: str
    live_months: int


class Archivist:
    """The archive of one ledger, in the background.

    Args:
        ledger: whose entries are archived; `name` is its name.
        settings: returns what the policy in force says, None where there is no folder.
        worker: who takes the role; each worker has its own name.
    """

    def __init__(
        self, ledger: Ledger, name: str, settings: Callable[[], Settings | None], worker: str
    ) -> None:
        self._ledger = ledger
        self._name = name
        self._settings = settings
        self._worker = worker

    async def run(self) -> None:
        """Look now and then; never ends by itself."""
        while True:
            try:
                await self.look()
            except (ArchiveFailed, LedgerUnavailable, OSError) as error:
                log.error("not_archived", reason=str(error), error=type(error).__name__)
            except Exception:
                log.exception("not_archived")
            await asyncio.sleep(LOOK_INTERVAL_S)

    async def look(self) -> Archived | None:
        """Archive what is old enough; None where no folder is configured or another worker leads.

        Raises:
            ArchiveFailed, LedgerUnavailable, OSError: as for `archive`.
        """
        settings = self._settings()
        if settings is None or not await self._ledger.lead(ROLE, self._worker, LEASE_MS):
            return None
        now_ms = await self._ledger.now_ms()
        done = await archive(
            self._ledger,
            ArchiveFolder(settings.sink, self._name),
            zone=settings.zone,
            before_ms=cutoff_ms(settings.zone, settings.live_months, now_ms),
        )
        if done.entries:
            months = list(done.months)
            log.info("archived", entries=done.entries, files=len(done.parts), months=months)
        return done
