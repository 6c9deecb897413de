"""Lines on disk that say whether they are whole: a checksum, JSON, and the end of the line."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from typing import Any

import orjson


@dataclass(frozen=True, slots=True)
class Line:
    """One line: its number, its operation and what it says."""

    number: int
    operation: str
    content: dict[str, Any]


def line_of(number: int, operation: str, content: dict[str, Any]) -> bytes:
    """Return a line as it stands on disk."""
    try:
        text = orjson.dumps([number, operation, content])
    except TypeError:  # Half a surrogate pair.
        text = json.dumps([number, operation, content], separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def read_line(data: bytes) -> Line | None:
    """Return the line of its bytes without their end; None where they are not whole."""
    checksum, _, text = data.partition(b" ")
    try:
        if int(checksum, 16) != zlib.crc32(text):
            return None
        number, operation, content = json.loads(text)
    except ValueError:
        return None
    return Line(number, operation, content)
