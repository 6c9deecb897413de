"""What a worker takes and admits ahead of the store, written down for the case that it is killed.

    a slice is asked for ─► a line ─► it went back, and the store knows ─► wiped
    a request is admitted from it ─► a line ─► it is sent … the store knows of it ─► wiped

The slate lies beside the worker's journal. Whoever finds the journal of a process that has ended
tells the store what stands on the slate: first the requests, which get their own holds, then the
slices, which go back. So the books are what they would be if the worker had lived to report, and
what the end of a slice's lease has charged as the worst case is taken back.

A line is written, and not synced: a request would wait a millisecond for it. What a process has
written outlives the process, but not the machine. So the slate says since which start of the
machine it is kept; where that was another one, lines may be missing, and slices are left to their
leases, which charge the worst case.

It never fills up with what is done: a line's place is used again.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from budgets.lines import Line, line_of, read_line

SUFFIX = ".slate"

PLACE_BYTES = 32 << 10
"""The room for one line; a longer one is not written, and its request asks the store."""

PLACES_MAX = 4_096
"""The most lines; beyond it requests ask the store. A file has holes where nothing was written."""

READ_BYTES = 4 << 10
"""How much is read of a line at first: most are shorter."""

HEAD = "machine"
"""The operation of the first line: since which start of the machine the slate is kept."""

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Pages(Protocol):
    """A slate's storage. What is written outlives the process. Every call may raise `OSError`."""

    def write(self, offset: int, data: bytes) -> None:
        """Write bytes at a place, all of them."""

    def read(self, offset: int, size: int) -> bytes:
        """Return up to `size` bytes from a place; none beyond the end, or without a file."""

    def close(self, *, remove: bool) -> None:
        """Let go of the storage, and remove it where nothing in it is needed."""


class FilePages:
    """A file of its own, made when it is first written to, readable by its owner alone."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = -1

    def write(self, offset: int, data: bytes) -> None:
        if self._descriptor < 0:
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if os.pwrite(self._descriptor, data, offset) < len(data):
            raise OSError("only a part of the line was written")

    def read(self, offset: int, size: int) -> bytes:
        if self._descriptor < 0:
            try:
                self._descriptor = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
            except FileNotFoundError:
                return b""
        return os.pread(self._descriptor, size, offset)

    def close(self, *, remove: bool) -> None:
        if remove:
            self.path.unlink(missing_ok=True)
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


@cache
def boot_id() -> str:
    """Return what names this start of the machine; empty where the system does not say."""
    with contextlib.suppress(OSError):
        return BOOT_ID.read_text("ascii").strip()
    return ""


class Slate:
    """The lines of one process.

    Args:
        pages: where they are.
        boot: what names this start of the machine.
    """

    def __init__(self, pages: Pages, boot: str | None = None) -> None:
        self._pages = pages
        self._boot = boot_id() if boot is None else boot
        self._free: list[int] = []
        self._places = 0

    def write(self, operation: str, content: dict[str, Any]) -> int | None:
        """Write a line; return its place, or None where there is none, or no disk for it."""
        if not self._places:
            if not self._put(0, line_of(0, HEAD, {"boot": self._boot})):
                return None
            self._places = 1
        place = self._free.pop() if self._free else self._places
        if place < PLACES_MAX and self._put(place, line_of(place, operation, content)):
            if place == self._places:
                self._places += 1
            return place
        if place < self._places:
            self._free.append(place)
        return None

    def wipe(self, place: int) -> None:
        """Take a line off, whose matter the store knows by now."""
        # One that stays because of the disk would be told once more, which changes nothing.
        self._put(place, b"\n")
        self._free.append(place)

    def lines(self) -> Iterator[Line]:
        """Iterate over what stands on it."""
        for place in range(1, PLACES_MAX):
            data = self._pages.read(place * PLACE_BYTES, READ_BYTES)
            if not data:
                return
            if b"\n" not in data:
                data = self._pages.read(place * PLACE_BYTES, PLACE_BYTES)
            line = read_line(data.partition(b"\n")[0])
            if line is not None:
                yield line

    def is_whole(self) -> bool:
        """Whether nothing that was written can be missing: the machine has run since then."""
        head = read_line(self._pages.read(0, READ_BYTES).partition(b"\n")[0])
        if head is None or head.operation != HEAD or not self._boot:
            return False
        return bool(head.content["boot"] == self._boot)

    def clear(self) -> None:
        """Wipe everything: the store knows all of it."""
        for line in tuple(self.lines()):
            self.wipe(line.number)

    def close(self) -> bool:
        """Let go of the file, and remove it if nothing stands on it; say whether that is so."""
        empty = next(self.lines(), None) is None
        self._pages.close(remove=empty)
        return empty

    def _put(self, place: int, data: bytes) -> bool:
        if len(data) > PLACE_BYTES:
            return False
        try:
            self._pages.write(place * PLACE_BYTES, data)
        except OSError:
            return False
        return True
