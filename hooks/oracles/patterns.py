"""Patterns that no answer can make slow: RE2, with its memory and its program bounded.

RE2's time grows with the text's length times the pattern's size, whatever the text; backtracking
engines (`re`, `regex`) need exponential time for some patterns, and a time limit on them would make
the verdict depend on how busy the machine is. The price is that RE2 has neither look-around nor
back-references: such a pattern is refused when it is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass

import re2

PROGRAM_MAX = 1_000
"""Instructions of a compiled pattern."""

WORK_MAX = 25_000_000
"""Instructions times characters; at the worst a quarter of a second, usually under 1 ms."""

MEMORY_BYTES_MAX = 8 * 1024 * 1024

ANSWER_GROUP = "answer"


class PatternError(ValueError):
    """A pattern that cannot be used, with why and what to write instead."""


@dataclass(frozen=True, slots=True)
class Found:
    """A match, with what the group named `answer` holds, if there is one and it took part."""

    answer: str | None


class Pattern:
    """A compiled pattern."""

    def __init__(
        self,
        source: str,
        *,
        whole: bool = False,
        ignore_case: bool = False,
        multiline: bool = False,
        dot_all: bool = False,
    ) -> None:
        """Compile; raises `PatternError`."""
        flags = "".join(
            letter
            for letter, is_set in (("i", ignore_case), ("m", multiline), ("s", dot_all))
            if is_set
        )
        options = re2.Options()
        options.max_mem = MEMORY_BYTES_MAX
        options.log_errors = False
        # Keeping no positions lets RE2 stay on its quick automaton.
        options.never_capture = f"<{ANSWER_GROUP}>" not in source
        try:
            # Compiled as written first, so that an open bracket is told of as the author's own.
            re2.compile(source, options)
            body = f"(?:{source})"
            body = rf"\A{body}\z" if whole else body
            self._pattern = re2.compile(f"(?{flags}){body}" if flags else body, options)
        except re2.error as error:
            raise PatternError(_explained(error)) from None
        self._size = max(1, self._pattern.programsize)
        if self._size > PROGRAM_MAX:
            raise PatternError(
                f"the pattern is too large ({self._size:,} steps, at most {PROGRAM_MAX:,}): "
                "use smaller repetition counts"
            )
        self.has_answer = ANSWER_GROUP in self._pattern.groupindex

    def reads(self, text: str) -> bool:
        """Say whether a text is short enough for this pattern."""
        return bool(self._size * len(text) <= WORK_MAX)

    def search(self, text: str) -> Found | None:
        """Return what is found in a text that `reads` allows; None where nothing is."""
        match = self._pattern.search(text.encode("utf-8", "replace").decode())
        if match is None:
            return None
        return Found(match[ANSWER_GROUP] if self.has_answer else None)


def _explained(error: Exception) -> str:
    what = error.args[0] if error.args else "not a pattern"
    text = what.decode("utf-8", "replace") if isinstance(what, bytes) else str(what)
    if "(?=" in text or "(?!" in text or "(?<" in text:
        return (
            f"{text}: patterns are RE2's, which has no look-around (in a regex oracle `absent: "
            "true` says that something must not stand there)"
        )
    if "escape sequence" in text:
        return f"{text}: patterns are RE2's, which has no back-references"
    return text
