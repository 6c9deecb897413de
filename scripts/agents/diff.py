"""A git diff as a list of changed files, each with a line that says what changed. No text of it is
kept beyond the changed lines, which only the triggers look at.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from unidiff.errors import UnidiffParseError
from unidiff.patch import PatchedFile, PatchSet

LINE_CHARS_MAX = 2_000
SECTIONS_MAX = 3
ABOUT_CHARS_MAX = 90

_HEADINGS = (
    re.compile(r'^\s*(?:[rRuU]?"""|\'\'\')\s*(\S.*?)(?:"""|\'\'\')?\s*$'),
    re.compile(r"^#{1,3}\s+(\S.*)$"),
    re.compile(r"^\s*(?://+|/\*\*?|--)\s*(\w.*?)(?:\*/)?\s*$"),
)
"""How a new file says what it is: a docstring, a heading, a comment."""


class NotADiff(ValueError):
    """The text is no git diff; the message says why."""


@dataclass(frozen=True, slots=True)
class Changed:
    """One file of a diff. `was` is its name before, where it was renamed."""

    path: str
    state: str
    added: int
    removed: int
    about: str
    touched: tuple[str, ...]
    was: str | None = None
    is_binary: bool = False

    @property
    def is_new(self) -> bool:
        """Whether the file was not there before."""
        return self.state == "new"

    @property
    def line(self) -> str:
        """What changed, in one line."""
        state = f"renamed from {self.was}" if self.was else self.state
        size = "binary" if self.is_binary else f"+{self.added} −{self.removed}"
        counts = f"{state}, {size}"
        return f"{counts}: {self.about}" if self.about else counts


def read_diff(text: str) -> tuple[Changed, ...]:
    """Return the changed files of a unified diff, in its order.

    Raises:
        NotADiff: it has no file in it, or is cut off.
    """
    try:
        patch = PatchSet(text)
    except UnidiffParseError as error:
        raise NotADiff(f"it cannot be read: {error}") from None
    if not len(patch) and text.strip():
        raise NotADiff("it has no changed file in it")
    return tuple(_changed(one) for one in patch)


def _changed(one: PatchedFile) -> Changed:
    touched = tuple(_touched(one))
    state = "new" if one.is_added_file else "deleted" if one.is_removed_file else "changed"
    was = _bare(one.source_file or "") if one.is_rename else None
    return Changed(
        path=one.path,
        state=state,
        added=one.added,
        removed=one.removed,
        about=_about(one),
        touched=touched,
        was=was,
        is_binary=one.is_binary_file,
    )


def _touched(one: PatchedFile) -> Iterator[str]:
    for hunk in one:
        for line in hunk:
            if line.is_added or line.is_removed:
                yield line.value[:LINE_CHARS_MAX]


def _about(one: PatchedFile) -> str:
    """Return what a new file says it is, or which places of an older one were touched."""
    if one.is_added_file:
        for hunk in one:
            for line in list(hunk)[:12]:
                for heading in _HEADINGS:
                    if match := heading.match(line.value[:LINE_CHARS_MAX]):
                        return _short(match[1])
        return ""
    sections = dict.fromkeys(_short(h.section_header.strip()) for h in one if h.section_header)
    named = [section for section in sections if section]
    more = f" and {len(named) - SECTIONS_MAX} more places" if len(named) > SECTIONS_MAX else ""
    return "; ".join(named[:SECTIONS_MAX]) + more


def _short(text: str) -> str:
    plain = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return plain if len(plain) <= ABOUT_CHARS_MAX else plain[: ABOUT_CHARS_MAX - 1] + "…"


def _bare(path: str) -> str:
    return path.removeprefix("a/")
