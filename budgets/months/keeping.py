"""Where snapshots are kept: in Redis beside the ledger, and as files that are written once.

    FAREBOX_HOME/months/ledger-NAME/2026-10.json

The one in Redis is the first that anybody kept, whoever else tries: a file is only ever written
from it. A file is flushed to the disk, gets its name without replacing another, and is read back.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Awaitable
from pathlib import Path
from typing import Protocol, cast
from urllib.parse import quote

from budgets.home import make_private
from budgets.months.snapshot import Snapshot, SnapshotDamaged, read_snapshot
from budgets.redis_scripts import RedisClient, redis_errors


class Snapshots(Protocol):
    """The snapshots of one ledger. Raises `LedgerUnavailable` where the store does not answer."""

    async def keep(self, period_id: str, text: str) -> str:
        """Keep a snapshot unless there is one; return the one that is kept."""

    async def kept(self, period_id: str) -> str | None:
        """Return the snapshot of a period, if one is kept."""


class MemorySnapshots:
    """Snapshots in memory: the model for the one in Redis."""

    def __init__(self) -> None:
        self._kept: dict[str, str] = {}

    async def keep(self, period_id: str, text: str) -> str:
        return self._kept.setdefault(period_id, text)

    async def kept(self, period_id: str) -> str | None:
        return self._kept.get(period_id)


class RedisSnapshots:
    """Snapshots in Redis, under the keys of the ledger of that name."""

    def __init__(self, client: RedisClient, ledger: str) -> None:
        self._client = client
        self._prefix = f"farebox:{{{ledger}}}:month:"

    async def keep(self, period_id: str, text: str) -> str:
        with redis_errors():
            await cast("Awaitable[object]", self._client.set(self._key(period_id), text, nx=True))
        return await self.kept(period_id) or text

    async def kept(self, period_id: str) -> str | None:
        with redis_errors():
            return await cast("Awaitable[str | None]", self._client.get(self._key(period_id)))

    def _key(self, period_id: str) -> str:
        return self._prefix + period_id


class SnapshotFolder:
    """The files of one ledger's months; every method blocks, so call it in a thread."""

    def __init__(self, home: Path, ledger: str) -> None:
        # Quoted, because a ledger's name may have a slash in it.
        self.path = home / "months" / f"ledger-{quote(ledger, safe='')}"

    def file(self, period_id: str) -> Path:
        """Return the place of a month's snapshot."""
        return self.path / f"{period_id}.json"

    def read(self, period_id: str) -> Snapshot | None:
        """Return a month's snapshot; None where there is no file.

        Raises:
            SnapshotDamaged: the file cannot be read, or was changed.
        """
        path = self.file(period_id)
        try:
            return read_snapshot(path.read_bytes(), str(path))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SnapshotDamaged(str(path), f"it cannot be read: {error.strerror}") from None

    def write(self, text: str) -> Path:
        """Write a snapshot, once, and prove that the file holds it; return its place.

        Raises:
            SnapshotDamaged: another snapshot of this month stands there, or what was written
                cannot be read back. Nothing is replaced.
            OSError, HomeError: the disk does not take it.
        """
        snapshot = read_snapshot(text, "the snapshot to write")
        path = self.file(snapshot.period_id)
        make_private(self.path)
        descriptor, temporary = tempfile.mkstemp(dir=self.path, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text + "\n")
                file.flush()
                os.fsync(file.fileno())
            # A hard link fails where the name exists, so that no snapshot is ever replaced.
            os.link(temporary, path)
            _flush_folder(self.path)
        except FileExistsError:
            pass
        finally:
            os.unlink(temporary)
        if (found := self.read(snapshot.period_id)) is None or found.digest != snapshot.digest:
            raise SnapshotDamaged(str(path), "another snapshot of this month stands there")
        return path


def _flush_folder(folder: Path) -> None:
    # The new name is on the disk only when the folder is.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
