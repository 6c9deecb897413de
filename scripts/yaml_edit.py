"""Edits of YAML files that people keep by hand: their comments, order and layout stay.

An edit is made on the file's data (`edited`, `edited_entry`), or of single values where they stand
(`edited_values`), and shown as a diff before anything is written. Lines that the edit does not
touch keep every byte, so that a diff shows what changed and nothing else.
"""

from __future__ import annotations

import difflib
import io
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import zip_longest
from pathlib import Path
from typing import Any

import yaml
from ruamel.yaml import YAML

from budgets.yamlfile import KeyPath

WIDTH = 4096
"""Longer than any line: a round trip must not fold what a person left on one line."""

LAYOUTS = ((4, 2), (2, 0))
"""How far lists are indented, and their dashes within that: the pack's way, and the other usual."""

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Change = Callable[[Any], object]
"""Changes the data of a file in place; mappings and lists there behave like `dict` and `list`."""


class NotEditable(ValueError):
    """A value that does not stand in the file by itself, so that it cannot be changed there."""


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
        """Write the file whole or not at all; its mode stays, and a link to it.

        Raises:
            EditConflict: somebody has changed the file meanwhile.
            OSError: it cannot be written.
        """
        target = self.path.resolve()
        if text_of(target) != self.before:
            raise EditConflict(self.path)
        descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(self.after.encode("utf-8"))
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, target.stat().st_mode & 0o7777)
            os.replace(temporary, target)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


def text_of(path: Path) -> str:
    """Return a file's text with its line ends as they are."""
    return path.read_bytes().decode("utf-8")


def edited(path: Path, change: Change, text: str | None = None) -> Edit:
    """Return the edit that `change` makes of a file, or of `text` in its stead."""
    before = text_of(path) if text is None else text
    return Edit(path, before, _edited(before, change))


def edited_entry(text: str, path: KeyPath, change: Change) -> str:
    """Return the text with a change of one mapping in a mapping, which `change` gets alone.

    Only the lines of that entry are read and written anew: in a large file that takes a hundredth
    of the time.

    Raises:
        KeyError: there is no such entry.
    """
    first, last = span(text, path)
    margin = indent_at(text, path)
    lines = text.splitlines(keepends=True)
    entry = "".join(line.removeprefix(margin) for line in lines[first:last])
    done = _edited(entry, lambda data: change(data[path[-1]]))
    lines[first:last] = [f"{margin}{line}" for line in done.splitlines(keepends=True)]
    return "".join(lines)


def edited_values(text: str, path: KeyPath, values: Mapping[str, str], note: str = "") -> str:
    """Return the text with new scalars for a mapping's keys, and not another byte changed.

    `note` becomes the comment of the first one's line, in place of an earlier note of the same
    first word; a person's own comment stays.

    Raises:
        NotEditable: the mapping or a key is not written out there, or is shared by an anchor.
    """
    found = {key.value: value for key, value in _mapping(text, path).value}
    spans = []
    for name, new in values.items():
        value = found.get(name)
        if not isinstance(value, yaml.ScalarNode):
            raise NotEditable(f"`{name}` is not written out there")
        spans.append((value.start_mark.index, value.end_mark.index, new))
    note_at = found[next(iter(values))].start_mark.line
    # From the end, so that the places before stay where they are.
    for start, end, new in sorted(spans, reverse=True):
        text = text[:start] + new + text[end:]
    return _with_note(text, note_at, note) if note else text


def _mapping(text: str, path: KeyPath) -> yaml.MappingNode:
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    shared = _shared(node)
    shown = ".".join(map(str, path))
    for name in path:
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        node = next((value for key, value in pairs if key.value == str(name)), None)
        if node is None:
            raise NotEditable(f"`{shown}` is not written out in the file")
        if id(node) in shared:
            raise NotEditable(f"`{name}` is shared by an anchor: others would change with it")
    if not isinstance(node, yaml.MappingNode):
        raise NotEditable(f"`{shown}` is no mapping")
    return node


def _shared(root: yaml.Node | None) -> set[int]:
    """Return the nodes that stand in several places: an alias gives the very same node."""
    seen: set[int] = set()
    shared: set[int] = set()
    stack = [root] if root is not None else []
    while stack:
        node = stack.pop()
        if id(node) in seen:
            shared.add(id(node))
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            stack += [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            stack += node.value
    return shared


def _with_note(text: str, line: int, note: str) -> str:
    lines = text.split("\n")
    whole = lines[line].rstrip("\r")
    ending = lines[line][len(whole) :]
    before = whole.split(f"  # {note.split()[0]} ")[0].rstrip()
    lines[line] = f"{before}  # {note}{ending}"
    return "\n".join(lines)


def _edited(before: str, change: Change) -> str:
    layout, plain = _layout(before)
    changed = _dumped(before, change, layout)
    after = _onto(before, plain, changed)
    # A layout of another kind could make other data of the lines that were put together.
    return after if _data(after) == _data(changed) else changed


@lru_cache(maxsize=8)
def _layout(text: str) -> tuple[tuple[int, int], str]:
    """Return the layout that keeps most lines, and what a round trip makes of the text by it."""
    return min(
        ((it, _dumped(text, lambda _: None, it)) for it in LAYOUTS),
        key=lambda it: _differing(text, it[1]),
    )


def _differing(one: str, other: str) -> int:
    return sum(a != b for a, b in zip_longest(one.splitlines(), other.splitlines()))


def _data(text: str) -> object:
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError:
        return None


def indent_at(text: str, path: KeyPath) -> str:
    """Return the blanks that an entry's line begins with."""
    line = text.splitlines()[span(text, path)[0]]
    return line[: len(line) - len(line.lstrip())]


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


def _dumped(text: str, change: Change, layout: tuple[int, int]) -> str:
    roundtrip = YAML()
    roundtrip.preserve_quotes = True
    roundtrip.width = WIDTH
    sequence, offset = layout
    roundtrip.indent(mapping=2, sequence=sequence, offset=offset)
    data = roundtrip.load(text)
    change(data)
    out = io.StringIO()
    roundtrip.dump(data, out)
    return out.getvalue()


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
