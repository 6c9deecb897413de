"""The disk that journals are on, in memory: it can be full, and a crash can tear what it writes.

Like the real one it knows who holds a file's lock: a process that died holds none. Where a process
dies with its machine, what it wrote without a sync is lost in part: that is its slate.
"""

from __future__ import annotations

import asyncio
import errno
import random
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

from budgets.journal import Journal
from budgets.leases.slate import HEAD, Slate
from budgets.lines import line_of
from tests.simulation.loop import Process

Run = Callable[[Callable[[], None]], Awaitable[None]]


@dataclass
class File:
    """One journal's bytes with its slate, whose they are, and the process that has locked them."""

    of: str
    data: bytearray = field(default_factory=bytearray)
    holder: Process | None = None
    slate: dict[int, bytes] = field(default_factory=dict)

    @property
    def free(self) -> bool:
        """Whether nobody who lives holds the lock."""
        return self.holder is None or not self.holder.alive


class Folder:
    """A folder of journals on a disk of its own.

    `tear` is the chance that a worker dies while it writes. Writing takes up to `write_s` seconds.
    """

    def __init__(self, chance: random.Random, tear: float, write_s: float) -> None:
        self.files: dict[str, File] = {}
        self.slated: set[str] = set()
        """The processes that have a slate with nothing missing on it."""
        self.full = False
        self.tear = tear
        self._chance = chance
        self._write_s = write_s

    def open(self, owner: str, process: Process, crash: Callable[[str], None]) -> Journal | None:
        """Begin a journal, as a worker does at its start; None where the disk is full."""
        if self.full:
            return None
        file = self.files[owner] = File(process.name, holder=process)
        self.slated.add(process.name)
        return self._journal(owner, file, process, crash)

    def _journal(
        self, owner: str, file: File, process: Process, crash: Callable[[str], None]
    ) -> Journal:
        disk = MemoryDisk(self, owner, file, crash)
        slate = Slate(MemoryPages(self, file, crash), "this machine")
        return Journal(owner, disk, self._run_of(process), slate)

    def adopt(self, process: Process, crash: Callable[[str], None]) -> Iterator[Journal]:
        """Take the journals of processes that have died, as `Journal.adopt` does."""
        for owner, file in tuple(self.files.items()):
            if file.free and owner in self.files:
                file.holder = process
                yield self._journal(owner, file, process, crash)

    def power_off(self, process: Process) -> None:
        """Lose what of a dead process's slates was not on the disk yet: its machine goes down."""
        for file in self.files.values():
            if file.holder is process:
                self.slated.discard(file.of)
                kept = [it for it in file.slate if self._chance.random() < 0.5]
                file.slate = {it: file.slate[it] for it in kept if it}
                file.slate[0] = line_of(0, HEAD, {"boot": "another start"})

    def waiting(self) -> int:
        """Return how many bytes wait in the journals of the dead, those being told with them."""
        return sum(
            len(file.data) + len(file.slate)
            for file in self.files.values()
            if file.holder is None or not file.holder.alive or file.holder.name != file.of
        )

    def torn(self, data: bytes) -> bytes | None:
        """Return the part that a crash leaves of a write, or None for a write that goes well."""
        if self._chance.random() >= self.tear:
            return None
        return data[: self._chance.randint(0, len(data))]

    def _run_of(self, process: Process) -> Run:
        async def run(work: Callable[[], None]) -> None:
            await asyncio.sleep(self._chance.uniform(0, self._write_s))
            try:
                work()
            finally:
                if not process.alive:
                    await asyncio.get_running_loop().create_future()

        return run


class MemoryDisk:
    """One journal's storage, as `budgets.journal.Disk` has it."""

    def __init__(self, folder: Folder, name: str, file: File, crash: Callable[[str], None]) -> None:
        self._folder = folder
        self._name = name
        self._file = file
        self._crash = crash

    def append(self, data: bytes) -> None:
        if self._folder.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        torn = self._folder.torn(data)
        if torn is None:
            self._file.data += data
            return
        self._file.data += torn
        self._crash(f"after {len(torn)} of {len(data)} bytes of its journal")

    def read(self, offset: int, size: int) -> bytes:
        return bytes(self._file.data[offset : offset + size])

    def size(self) -> int:
        return len(self._file.data)

    def clear(self) -> None:
        self._file.data.clear()

    def close(self, *, remove: bool) -> None:
        if remove:
            self._folder.files.pop(self._name, None)
        self._file.holder = None


class MemoryPages:
    """One slate's storage, as `budgets.leases.slate.Pages` has it."""

    def __init__(self, folder: Folder, file: File, crash: Callable[[str], None]) -> None:
        self._folder = folder
        self._file = file
        self._crash = crash

    def write(self, offset: int, data: bytes) -> None:
        if self._folder.full and offset not in self._file.slate:
            raise OSError(errno.ENOSPC, "No space left on device")
        torn = self._folder.torn(data)
        old = self._file.slate.get(offset, b"")
        if torn is not None:
            self._file.slate[offset] = torn + old[len(torn) :]
            self._crash(f"after {len(torn)} of {len(data)} bytes of its slate")
            # The worker must not go on as if it had been written; it does so no more.
            raise OSError(errno.EINTR, "Killed")
        self._file.slate[offset] = data + old[len(data) :]

    def read(self, offset: int, size: int) -> bytes:
        return self._file.slate.get(offset, b"")[:size]

    def close(self, *, remove: bool) -> None:
        if remove:
            self._file.slate.clear()
