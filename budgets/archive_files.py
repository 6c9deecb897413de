"""The files of the archive: written whole or not at all, named in order, and read back.

    FOLDER/ledger-NAME/2026-08-000001-8f2c41d09b7a3e55.jsonl.gz           one entry a line
    FOLDER/ledger-NAME/2026-08-000001-8f2c41d09b7a3e55.manifest.json      what must be in it

A name has the month of the entries, the part's number, and the beginning of the SHA-256 of the
file. So the names sort in the order of the entries, and two writers can never put different bytes
under one name. A line is an entry as Redis had it, all values texts: nothing is interpreted, so
nothing that a newer release added is lost. Bytes depend on the entries alone: who writes the same
part again, after a crash, writes the same file.

A file is written beside its place, flushed to the disk, renamed, and the folder flushed; then its
manifest likewise. A file without a manifest is a leftover of a crash and belongs to nothing.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import tempfile
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Literal
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, ValidationError

from budgets.archived import ArchivedPart, CounterName, EntryLine, Sums

TEMPORARY = ".farebox-archive-"
TEMPORARY_AGE_S_MAX = 86_400
"""Leftovers of a killed writer are removed once they are a day old; none is at work so long."""

PAGE_LINES = 500
COMPRESSION = 6
CHUNK_BYTES = 1 << 20


class ArchiveDamaged(Exception):
    """A file of the archive is missing or is not what was written; `file` and `problem` say it."""

    def __init__(self, file: str, problem: str) -> None:
        super().__init__(f"{file}: {problem}")
        self.file = file
        self.problem = problem


class Manifest(BaseModel):
    """What must be in a file of the archive.

    `sums` has [budget, period id, nanodollars], and `unreconciled` likewise what is part of them.
    """

    model_config = ConfigDict(frozen=True)

    format: Literal[1] = 1
    ledger: str
    month: str
    number: int
    file: str
    sha256: str
    bytes: int
    after: str
    first: str
    last: str
    entries: int
    sums: tuple[tuple[str, str, int], ...]
    unreconciled: tuple[tuple[str, str, int], ...] = ()

    @property
    def totals(self) -> Sums:
        """The sums by counter."""
        return Sums(_by_counter(self.sums), _by_counter(self.unreconciled))

    @property
    def part(self) -> ArchivedPart:
        """What the ledger records of the file."""
        return ArchivedPart(
            self.number, self.file, self.sha256, self.after, self.first, self.last, self.entries
        )


class ArchiveFolder:
    """The folder of one ledger's archive; every method blocks, so call it in a thread."""

    def __init__(self, sink: Path, ledger: str) -> None:
        self.ledger = ledger
        # Quoted, because a ledger's name may have a slash in it.
        self.path = sink / f"ledger-{quote(ledger, safe='')}"

    def prepare(self) -> None:
        """Make the folder, and clear it of what a killed writer left long ago.

        Raises:
            OSError: it cannot be made or written to.
        """
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in self.path.glob(f"{TEMPORARY}*"):
            # Another writer may have finished with its file since it was listed.
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > TEMPORARY_AGE_S_MAX:
                    path.unlink()

    def manifest(self, part: ArchivedPart) -> Manifest:
        """Return the manifest of a part that the ledger recorded; raises `ArchiveDamaged`."""
        path = _manifest_path(self.path / part.file)
        try:
            manifest = Manifest.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            raise ArchiveDamaged(path.name, "the file is missing") from None
        except OSError as error:
            raise ArchiveDamaged(path.name, f"it cannot be read: {error.strerror}") from None
        except ValidationError:
            raise ArchiveDamaged(path.name, "it is not a manifest of the archive") from None
        if manifest.part != part or manifest.ledger != self.ledger:
            raise ArchiveDamaged(path.name, "it does not say what Redis recorded of this part")
        return manifest

    def check_digest(self, part: ArchivedPart) -> None:
        """Prove that a file's bytes are those that were recorded; raises `ArchiveDamaged`."""
        digest = hashlib.sha256()
        with _reading(part.file), (self.path / part.file).open("rb") as raw:
            while chunk := raw.read(CHUNK_BYTES):
                digest.update(chunk)
        if digest.hexdigest() != part.sha256:
            raise ArchiveDamaged(part.file, "its SHA-256 is not the one that Redis recorded")

    def pages(self, part: ArchivedPart) -> Iterator[list[EntryLine]]:
        """Yield the entries of a part, some at a time. Who trusts them has checked the digest.

        Raises:
            ArchiveDamaged: the file is missing or damaged; perhaps only after some pages.
        """
        count, last, page = 0, "", list[EntryLine]()
        with _reading(part.file), gzip.open(self.path / part.file) as lines:
            for text in lines:
                line = _decode(text, part.file)
                page.append(line)
                count, last = count + 1, line.id
                if len(page) == PAGE_LINES:
                    yield page
                    page = []
        if page:
            yield page
        if (count, last) != (part.entries, part.last):
            raise ArchiveDamaged(part.file, f"it has {count} entries up to {last or 'nothing'}")

    def unrecorded(self, parts: Sequence[ArchivedPart]) -> list[str]:
        """Return the names of files here that are no part of the archive, in order."""
        recorded = {part.file for part in parts}
        return sorted(it.name for it in self.path.glob("*.jsonl.gz") if it.name not in recorded)


class PartWriter:
    """Writes one part. `add` lines, then `publish` it; `close` drops what is not published."""

    def __init__(self, folder: ArchiveFolder, month: str, number: int, after: str) -> None:
        self._folder = folder
        self._month = month
        self._number = number
        self._after = after
        self._first = self._last = ""
        self.entries = 0
        self._sums = Sums()
        self._temporary, self._raw = _temporary(folder.path)
        # Neither the time nor a name goes into the bytes: they depend on the entries alone.
        self._gzip = gzip.GzipFile(
            filename="", fileobj=self._raw, mode="wb", compresslevel=COMPRESSION, mtime=0
        )

    def add(self, lines: Iterable[EntryLine]) -> None:
        """Write some entries, in order."""
        for line in lines:
            self._gzip.write(_encode(line))
            self._sums.add(line)
            self._first = self._first or line.id
            self._last = line.id
            self.entries += 1

    def finish(self) -> None:
        """End the file and flush it to the disk."""
        self._gzip.close()
        _flush(self._raw)

    def publish(self) -> Manifest:
        """Give the file its name, and return its manifest, which is not written yet."""
        digest = hashlib.sha256()
        with self._temporary.open("rb") as raw:
            while chunk := raw.read(CHUNK_BYTES):
                digest.update(chunk)
        sha256 = digest.hexdigest()
        name = f"{self._month}-{self._number:06d}-{sha256[:16]}.jsonl.gz"
        manifest = Manifest(
            ledger=self._folder.ledger,
            month=self._month,
            number=self._number,
            file=name,
            sha256=sha256,
            bytes=self._temporary.stat().st_size,
            after=self._after,
            first=self._first,
            last=self._last,
            entries=self.entries,
            sums=_rows(self._sums.charged),
            unreconciled=_rows(self._sums.unreconciled),
        )
        _rename(self._temporary, self._folder.path / name)
        return manifest

    def seal(self, manifest: Manifest) -> None:
        """Write the manifest: now the file counts as a part."""
        temporary, raw = _temporary(self._folder.path)
        try:
            raw.write(manifest.model_dump_json(indent=1).encode() + b"\n")
            _flush(raw)
            _rename(temporary, _manifest_path(self._folder.path / manifest.file))
        finally:
            raw.close()
            temporary.unlink(missing_ok=True)

    def close(self) -> None:
        """Drop what was not published."""
        # A full disk fails a second time when what could not be written is flushed.
        with contextlib.suppress(OSError, ValueError):
            self._gzip.close()
        with contextlib.suppress(OSError, ValueError):
            self._raw.close()
        self._temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _reading(file: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise ArchiveDamaged(file, "the file is missing") from None
    except (OSError, EOFError, zlib.error) as error:
        raise ArchiveDamaged(file, f"it cannot be read: {error}") from None


def _by_counter(rows: Iterable[tuple[str, str, int]]) -> dict[CounterName, int]:
    return {(budget, period_id): nano_usd for budget, period_id, nano_usd in rows}


def _rows(sums: dict[CounterName, int]) -> tuple[tuple[str, str, int], ...]:
    return tuple((*name, nano_usd) for name, nano_usd in sorted(sums.items()))


def _manifest_path(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(".jsonl.gz") + ".manifest.json")


def _temporary(folder: Path) -> tuple[Path, IO[bytes]]:
    # Readable for its owner only, as mkstemp makes it, and the archive stays so.
    descriptor, name = tempfile.mkstemp(dir=folder, prefix=TEMPORARY)
    return Path(name), os.fdopen(descriptor, "wb")


def _flush(raw: IO[bytes]) -> None:
    raw.flush()
    os.fsync(raw.fileno())
    raw.close()


def _rename(temporary: Path, path: Path) -> None:
    temporary.replace(path)
    # The new name is on the disk only when the folder is.
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _encode(line: EntryLine) -> bytes:
    return json.dumps({"id": line.id, **line.fields}, separators=(",", ":")).encode() + b"\n"


def _decode(text: bytes, file: str) -> EntryLine:
    try:
        fields = json.loads(text)
        line = EntryLine(fields.pop("id"), fields)
        # Whoever adds up a damaged file must not fall over what it holds instead of figures.
        if line.time_ms < 0 or not all(isinstance(it, str) for it in fields.values()):
            raise ValueError
        Sums().add(line)
        return line
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ArchiveDamaged(file, "a line of it is no entry") from None
