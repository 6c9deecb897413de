"""What could not be told to the ledger yet, on disk: one file a process, each line synced.

    append ─► a line with a number and a checksum, on the disk when `append` returns
    read   ─► the lines that wait, for whoever tells the ledger
    done   ─► once every line has been told, the file is emptied

A process owns its file by a lock that dies with it. A file whose lock is free belonged to a process
that ended: `adopt` hands it to the next one that looks. Telling the ledger twice is harmless, since
every operation of it is idempotent, so a line may be told again after a crash between the telling
and the emptying.

A line that was torn by a crash was never confirmed to anybody; it is left out. Lines hold what
entries hold, and never a word of a prompt.

Beside it lies the process's slate (`leases.slate`), which whoever adopts the journal tells as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import uuid
from collections.abc import Awaitable, Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import structlog

from budgets.leases.slate import SUFFIX as SLATE_SUFFIX
from budgets.leases.slate import FilePages, Slate
from budgets.lines import Line, line_of, read_line

log = structlog.get_logger("farebox.journal")

SUFFIX = ".journal"


class JournalError(Exception):
    """The line is not on the disk; the text says why and what to do."""


class Disk(Protocol):
    """One journal's storage. Every call raises `OSError` where the disk does not do it."""

    def append(self, data: bytes) -> None:
        """Add bytes to the end; return when they are on the disk. All of them, or none."""

    def read(self, offset: int, size: int) -> bytes:
        """Return up to `size` bytes from `offset` on."""

    def size(self) -> int:
        """Return how many bytes there are."""

    def clear(self) -> None:
        """Forget everything."""

    def close(self, *, remove: bool) -> None:
        """Let go of the storage, and remove it where nothing in it is needed."""


class FileDisk:
    """A file of its own, locked while this process lives, readable by its owner alone."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    @classmethod
    def create(cls, folder: Path, owner: str) -> FileDisk:
        """Make a new file; the folder is made as well where it is missing."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / f"{owner}{SUFFIX}"
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _sync_folder(folder)
        return cls(path, descriptor)

    @classmethod
    def take(cls, path: Path) -> FileDisk | None:
        """Take a file whose process has ended; None where it lives, or somebody was faster."""
        flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC
        # A release without slates takes a journal and leaves the slate.
        flags |= os.O_CREAT if path.with_suffix(SLATE_SUFFIX).exists() else 0
        try:
            descriptor = os.open(path, flags, 0o600)
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Its last owner may have removed it between the opening and the locking.
            if os.fstat(descriptor).st_nlink == 0:
                raise BlockingIOError
        except OSError:
            os.close(descriptor)
            return None
        return cls(path, descriptor)

    def append(self, data: bytes) -> None:
        before = self.size()
        try:
            left = memoryview(data)
            while left:
                left = left[os.write(self._descriptor, left) :]
            os.fsync(self._descriptor)
        except OSError:
            # Half a line must not stand before the next one.
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, before)
            raise

    def read(self, offset: int, size: int) -> bytes:
        return os.pread(self._descriptor, size, offset)

    def size(self) -> int:
        return os.fstat(self._descriptor).st_size

    def clear(self) -> None:
        os.ftruncate(self._descriptor, 0)
        os.fsync(self._descriptor)

    def close(self, *, remove: bool) -> None:
        if remove:
            self.path.unlink(missing_ok=True)
        os.close(self._descriptor)


async def _in_thread(work: Callable[[], None]) -> None:
    await asyncio.to_thread(work)


class Journal:
    """The lines of one process.

    Args:
        owner: the name under which this process holds slices of allowances; the file's name.
        disk: where the lines go.
        run: how a blocking write is run; the default is a thread.
        slate: what this process has taken and admitted ahead of the store; None where it has none.

    `keep` leaves the file behind at the end, though nothing waits in it.
    """

    def __init__(
        self,
        owner: str,
        disk: Disk,
        run: Callable[[Callable[[], None]], Awaitable[None]] = _in_thread,
        slate: Slate | None = None,
    ) -> None:
        self.owner = owner
        self.slate = slate
        self._disk = disk
        self._run = run
        self._waiting: list[tuple[bytes, int, asyncio.Future[None]]] = []
        self._writer: asyncio.Task[None] | None = None
        self._places: dict[int, tuple[int, int]] = {}
        self._end = 0
        self._number = 0
        self._torn = False
        self.damaged = 0
        self.keep = False
        self._find_lines()

    @classmethod
    def open(cls, folder: Path) -> Journal:
        """Begin a journal for this process.

        Raises:
            JournalError: the folder cannot be written.
        """
        owner = uuid.uuid4().hex
        try:
            return cls(owner, FileDisk.create(folder, owner), slate=_slate(folder, owner))
        except OSError as error:
            raise _error(error, folder) from error

    @classmethod
    def adopt(cls, folder: Path) -> Iterator[Journal]:
        """Take the journals of processes that have ended, one after the other."""
        slates = (it.with_suffix(SUFFIX) for it in folder.glob(f"*{SLATE_SUFFIX}"))
        for path in sorted({*folder.glob(f"*{SUFFIX}"), *slates}):
            disk = FileDisk.take(path)
            if disk is not None:
                owner = path.name.removesuffix(SUFFIX)
                yield cls(owner, disk, slate=_slate(folder, owner))

    @property
    def depth(self) -> int:
        """How many lines wait to be told."""
        return len(self._places) + len(self._waiting)

    @property
    def bytes(self) -> int:
        """How large the file is, in bytes."""
        return self._end

    def _find_lines(self) -> None:
        offset, rest = 0, b""
        while chunk := self._disk.read(offset + len(rest), 1 << 20):
            *lines, rest = (rest + chunk).split(b"\n")
            for text in lines:
                line = read_line(text)
                if line is not None:
                    self._places[line.number] = (offset, len(text))
                    self._number = max(self._number, line.number)
                elif text:
                    self.damaged += 1
                offset += len(text) + 1
        self._end = offset + len(rest)
        # A crash tore the last line; the next one must not be glued to it. Nothing is written now:
        # a disk that is full must not keep the lines from being told.
        self._torn = bool(rest)
        if self.damaged:
            log.error("journal_lines_damaged", owner=self.owner, lines=self.damaged)

    # ── write ────────────────────────────────────────────────────────────────────────────────────

    async def append(self, operation: str, content: dict[str, Any]) -> int:
        """Write a line; return its number once it is on the disk.

        Lines that come while the disk is busy go together with one sync.

        Raises:
            JournalError: it is not on the disk.
        """
        self._number += 1
        number = self._number
        data = line_of(number, operation, content)
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((data, number, written))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write(), name="farebox-journal")
        try:
            await asyncio.shield(written)
        except OSError as error:
            raise _error(error, getattr(self._disk, "path", None)) from error
        return number

    async def _write(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            head = b"\n" if self._torn else b""
            data = head + b"".join(text for text, _, _ in batch)
            try:
                await self._run(partial(self._disk.append, data))
            except OSError as error:
                for _, _, written in batch:
                    _resolve(written, error)
                continue
            self._end += len(head)
            self._torn = False
            for text, number, written in batch:
                self._places[number] = (self._end, len(text) - 1)
                self._end += len(text)
                _resolve(written, None)
        if self._end and not self._places:
            # One that fails only means that a crash would make lines be told again.
            with contextlib.suppress(OSError):
                await self._run(self._disk.clear)
                self._end = 0
                self._torn = False
            if self._waiting:
                await self._write()

    # ── tell ─────────────────────────────────────────────────────────────────────────────────────

    def lines(self) -> Iterator[Line]:
        """Iterate over the lines that waited when this was called, in the order of writing."""
        for number in tuple(self._places):
            place = self._places.get(number)
            if place is None:
                continue
            line = read_line(self._disk.read(*place))
            if line is not None:
                yield line

    def done(self, numbers: Iterable[int]) -> None:
        """Take lines off the list; the file is emptied soon after the last one is gone."""
        for number in numbers:
            self._places.pop(number, None)
        if self._end and not self._places and (self._writer is None or self._writer.done()):
            self._writer = asyncio.create_task(self._write(), name="farebox-journal")

    async def close(self) -> None:
        """Finish writing and let go of the files; they are removed where nothing stands in them."""
        if self._writer is not None:
            await asyncio.gather(self._writer, return_exceptions=True)
        if self.slate is not None and not self.slate.close():
            self.keep = True
        self._disk.close(remove=not self._places and not self.keep)


def _slate(folder: Path, owner: str) -> Slate:
    return Slate(FilePages(folder / f"{owner}{SLATE_SUFFIX}"))


def waiting_in(folder: Path) -> tuple[int, int]:
    """Return how many lines and bytes wait in all journals of a folder, for a look from outside.

    Lines that were told and not emptied yet count as waiting.
    """
    lines = size = 0
    for path in folder.glob(f"*{SUFFIX}"):
        with contextlib.suppress(OSError):
            data = path.read_bytes()
            lines += data.count(b"\n")
            size += len(data)
    return lines, size


def _resolve(written: asyncio.Future[None], error: OSError | None) -> None:
    if written.done():
        return
    if error is None:
        written.set_result(None)
    else:
        written.set_exception(error)


def _error(error: OSError, path: Path | None) -> JournalError:
    reason = error.strerror or type(error).__name__
    return JournalError(
        f"The journal {path or ''} cannot be written ({reason}). "
        "Free space there, or set FAREBOX_HOME to a folder that can be written."
    )


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
