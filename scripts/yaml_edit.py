"""Edits of YAML files that people keep by hand: their comments, order and layout stay.

An edit is made on the file's data and shown as a diff before anything is written. Lines that the
edit does not touch keep every byte, so that a diff shows what changed and nothing else.
"""

from __future__ import annotations

import difflib
import io
import os
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from ruamel.yaml import YAML

from budgets.yamlfile import KeyPath

WIDTH = 4096
"""Longer than any line: a round trip must not fold what a person left on one line."""

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_FLUSH_LIST = re.compile(r"^( *)[^\s#-][^\n]*:[ ]*\n\1- ", re.M)
"""A list that is not indented below its key: new lists are then written so too."""

Change = Callable[[Any], object]
"""Changes the data of a file in place; mappings and lists there behave like `dict` and `list`."""


class EditConflict(Exception):
    """The file has changed since it was read: nothing was written."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} has changed since it was read")
        self.path = path


@dataclass(frozen=True, slots=True)
class Edit:
    """A file's text before and after."""

    path: Path
    before: str
    after: str

    @property
    def changes(self) -> bool:
        """Whether there is anything to write."""
        return self.before != self.after

    def diff(self, name: str | None = None) -> str:
        """Return the unified diff, as `git apply` and `patch` take it; `name` is shown as path."""
        shown = name or self.path.name
        lines = difflib.unified_diff(
            self.before.splitlines(keepends=True),
            self.after.splitlines(keepends=True),
            f"a/{shown}",
            f"b/{shown}",
        )
        return "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)

    def write(self) -> None:
        """Write the file whole or not at all.

        Raises:
            EditConflict: somebody has changed the file meanwhile.
            OSError: it cannot be written.
        """
        if self.path.read_text(encoding="utf-8") != self.before:
            raise EditConflict(self.path)
        descriptor, temporary = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(self.after)
            os.chmod(temporary, self.path.stat().st_mode & 0o777)
            os.replace(temporary, self.path)
        except OSError:
            Path(temporary).unlink(missing_ok=True)
            raise


def edited(path: Path, change: Change, text: str | None = None) -> Edit:
    """Return the edit that `change` makes of a file, or of `text` in its stead."""
    before = path.read_text(encoding="utf-8") if text is None else text
    plain = _plain(before)
    changed = _dumped(before, change)
    after = _onto(before, plain, changed)
    if _data(after) != _data(changed):
        # Lines of two layouts do not always go together: what the edit says comes first.
        after = changed
    return Edit(path, before, after)


def span(text: str, path: KeyPath) -> tuple[int, int]:
    """Return the lines of an entry, from 0 and half open, its key or its dash included.

    Comments and blank lines behind it belong to what follows, and are left out.

    Raises:
        KeyError: there is no such entry.
    """
    node: Any = yaml.compose(text)
    start = 0
    for part in path:
        if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            start = node.start_mark.line
            continue
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        found = next((pair for pair in pairs if pair[0].value == str(part)), None)
        if found is None:
            raise KeyError(path)
        start, node = found[0].start_mark.line, found[1]
    lines = text.splitlines()
    # A collection in block style ends where the next token begins, all else right behind itself.
    in_block = isinstance(node, yaml.CollectionNode) and not node.flow_style
    end = min(node.end_mark.line + (not in_block), len(lines))
    while end > start + 1 and (not lines[end - 1].strip() or lines[end - 1].lstrip()[0] == "#"):
        end -= 1
    return start, end


@lru_cache(maxsize=8)
def _plain(text: str) -> str:
    return _dumped(text, lambda _: None)


def _dumped(text: str, change: Change) -> str:
    roundtrip = YAML()
    roundtrip.preserve_quotes = True
    roundtrip.width = WIDTH
    offset = 0 if _FLUSH_LIST.search(text) else 2
    roundtrip.indent(mapping=2, sequence=offset + 2, offset=offset)
    data = roundtrip.load(text)
    change(data)
    out = io.StringIO()
    roundtrip.dump(data, out)
    return out.getvalue()


def _data(text: str) -> object:
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError:
        return None


def _onto(before: str, plain: str, changed: str) -> str:
    """Return `changed`, with the lines of `before` wherever the round trip alone differs.

    The round trip writes some things its own way, such as an empty value for `null`.
    """
    old, same, new = (it.splitlines(keepends=True) for it in (before, plain, changed))
    if len(old) != len(same):
        # The layout is one that the round trip does not keep line by line: its own must do.
        return changed
    parts: list[str] = []
    for kind, start, end, new_start, new_end in difflib.SequenceMatcher(
        None, same, new, autojunk=False
    ).get_opcodes():
        parts += old[start:end] if kind == "equal" else new[new_start:new_end]
    return "".join(parts)
