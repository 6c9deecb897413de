"""The disk that journals are on, in memory: it can be full, and a crash can tear what it writes.

Like the real one it knows who holds a file's lock: a process that died holds none.
"""

from __future__ import annotations

import asyncio
import errno
import random
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

from budgets.journal import Journal
from tests.simulation.loop import Process

Run = Callable[[Callable[[], None]], Awaitable[None]]


@dataclass
class File:
    """One journal's bytes, and the process that has locked it."""

    data: bytearray = field(default_factory=bytearray)
    holder: Process | None = None

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
        self.full = False
        self.tear = tear
        self._chance = chance
        self._write_s = write_s

    def open(self, owner: str, process: Process, crash: Callable[[str], None]) -> Journal | None:
        """Begin a journal, as a worker does at its start; None where the disk is full."""
        if self.full:
            return None
        file = self.files[owner] = File(holder=process)
        return Journal(owner, MemoryDisk(self, owner, file, crash), self._run_of(process))

    def adopt(self, process: Process, crash: Callable[[str], None]) -> Iterator[Journal]:
        """Take the journals of processes that have died, as `Journal.adopt` does."""
        for owner, file in tuple(self.files.items()):
            if file.free and owner in self.files:
                file.holder = process
                disk = MemoryDisk(self, owner, file, crash)
                yield Journal(owner, disk, self._run_of(process))

    def waiting(self) -> int:
        """Return how many bytes wait in the journals of the dead."""
        return sum(len(file.data) for file in self.files.values() if file.free)

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
