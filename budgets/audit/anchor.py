"""The anchors of the audit trail: its head, written down outside the store.

An anchor says which digest the line of a number had at a time. It stands as one line of JSON in
`anchors-<ledger>.jsonl`, in the state folder and in every folder that `budgets.yaml` names under
`audit.anchor_folders`. Such a folder protects the better the fewer of those who may write to Redis
may write there. One worker at a time has the role `anchor`; it looks every minute and writes
when the head has moved and an hour has gone by.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

import structlog

from budgets.audit.trail import Head, Trail
from budgets.errors import LedgerUnavailable

log = structlog.get_logger("farebox.audit")

ROLE = "anchor"
FIRST_LOOK_S = 2.0
"""When a worker looks first: by then it has noted the policy that it starts with."""

LOOK_INTERVAL_S = 60.0
ANCHOR_INTERVAL_MS = 3_600_000
LEASE_MS = 180_000
"""How long a worker that no longer looks keeps the role: three looks."""


@dataclass(frozen=True, slots=True)
class Anchor:
    """A head of the trail at a time (Unix ms), and the file that says so."""

    seq: int
    digest: str
    time_ms: int
    file: str = ""


def file_in(folder: Path, ledger: str) -> Path:
    """Return the anchors' file of a ledger in a folder."""
    return folder / f"anchors-{quote(ledger, safe='')}.jsonl"


def write(path: Path, head: Head, time_ms: int) -> None:
    """Add an anchor to a file, on the disk when this returns. Raises `OSError`."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    line = json.dumps({"seq": head.seq, "digest": head.digest, "time_ms": time_ms}) + "\n"
    with path.open("ab+") as file:
        # A line that a crash cut short must not swallow this one.
        file.seek(0, os.SEEK_END)
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                line = "\n" + line
        file.write(line.encode())
        file.flush()
        os.fsync(file.fileno())


def read(path: Path) -> tuple[tuple[Anchor, ...], int]:
    """Return a file's anchors, and how many of its lines are none. A missing file has no anchor.

    Raises:
        OSError: the file cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return (), 0
    found: list[Anchor] = []
    broken = 0
    for line in text.splitlines():
        try:
            given = json.loads(line)
            anchor = Anchor(
                int(given["seq"]), str(given["digest"]), int(given["time_ms"]), str(path)
            )
            found.append(anchor)
        except (ValueError, KeyError, TypeError):
            broken += bool(line.strip())
    return tuple(found), broken


class Leading(Protocol):
    """The part of the ledger that is needed here."""

    async def lead(self, role: str, owner: str, lease_ms: int) -> bool:
        """As `Ledger.lead`."""

    async def now_ms(self) -> int:
        """As `Ledger.now_ms`."""


class Anchorer:
    """Anchors one ledger's trail in the background, in whichever worker leads.

    Args:
        ledger, trail: whose head is anchored; `name` is the ledger's name.
        folders: returns where to, as the policy in force says; the state folder is the first.
        worker: who takes the role.
    """

    def __init__(
        self,
        ledger: Leading,
        trail: Trail,
        name: str,
        folders: Callable[[], Sequence[Path]],
        worker: str,
    ) -> None:
        self._ledger = ledger
        self._trail = trail
        self._name = name
        self._folders = folders
        self._worker = worker

    async def run(self) -> None:
        """Look now and then; never ends by itself."""
        await asyncio.sleep(FIRST_LOOK_S)
        while True:
            try:
                await self.look()
            except (LedgerUnavailable, OSError) as error:
                log.error("audit_not_anchored", reason=str(error), error=type(error).__name__)
            except Exception:
                log.exception("audit_not_anchored")
            await asyncio.sleep(LOOK_INTERVAL_S)

    async def look(self, interval_ms: int = ANCHOR_INTERVAL_MS) -> tuple[Path, ...]:
        """Write the head where it is due; return the files that got an anchor.

        Raises:
            LedgerUnavailable: the store does not answer.
            OSError: a folder cannot be written; the others have been.
        """
        if not await self._ledger.lead(ROLE, self._worker, LEASE_MS):
            return ()
        head, now_ms = await self._trail.head(), await self._ledger.now_ms()
        if head.seq == 0:
            return ()
        files = [file_in(folder, self._name) for folder in self._folders()]
        return await asyncio.to_thread(_write_due, files, head, now_ms, interval_ms)


def _write_due(
    files: Iterable[Path], head: Head, now_ms: int, interval_ms: int
) -> tuple[Path, ...]:
    written: list[Path] = []
    failure: OSError | None = None
    for path in files:
        try:
            anchors, _ = read(path)
            last = anchors[-1] if anchors else None
            moved = last is None or (last.seq, last.digest) != (head.seq, head.digest)
            if moved and (last is None or now_ms - last.time_ms >= interval_ms):
                write(path, head, now_ms)
                written.append(path)
        except OSError as error:
            failure = error
    if failure is not None:
        raise failure
    return tuple(written)
