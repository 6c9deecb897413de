"""The commands of a page of documentation: which are there, and which of them a test runs.

A fenced block of bash or Python stands behind a comment that says what becomes of it:

    <!-- run -->              it is run, and must succeed
    <!-- run: NAME -->        the same, and a check of that name looks at what it printed
    <!-- not run: REASON -->  it is not

A fenced block of YAML can be put into a file, as the page tells its reader to do:

    <!-- edit: FILE under KEY -->   its lines go below the line `KEY`, indented as they are shown
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_COMMENT = re.compile(r"<!-- (?P<verb>run|not run|edit)(?:: (?P<rest>.+))? -->")
_FENCE = re.compile(r"```(?P<language>bash|python|yaml)$")


class UnmarkedBlock(Exception):
    """A block of commands has no comment that says whether it is run."""


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block. `verb` is `run`, `not run`, or `edit`; `rest` is what follows the verb."""

    page: str
    line: int
    language: str
    text: str
    verb: str
    rest: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(page: Path, root: Path) -> list[Block]:
    """Return the blocks of a page, in order, without YAML that is only shown.

    Raises:
        UnmarkedBlock: a block of bash or Python says nothing about itself.
    """
    lines = page.read_text(encoding="utf-8").splitlines()
    name = str(page.relative_to(root))
    found: list[Block] = []
    index = 0
    while index < len(lines):
        fence = _FENCE.fullmatch(lines[index])
        if fence is None:
            index += 1
            continue
        comment = _COMMENT.fullmatch(lines[index - 1]) if index else None
        end = lines.index("```", index + 1)
        if comment is not None:
            text = "\n".join(lines[index + 1 : end]) + "\n"
            rest = comment["rest"] or ""
            found.append(Block(name, index + 1, fence["language"], text, comment["verb"], rest))
        elif fence["language"] != "yaml":
            raise UnmarkedBlock(f"{name}:{index + 1}: say `run` or `not run: why` above the block")
        index = end + 1
    return found
