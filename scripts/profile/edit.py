"""Changing single values of `routing.yaml` and nothing else: every other byte stays as it is.

The file is parsed only to find where a value stands; the text is then edited there. So comments,
order, quotes and line lengths are a person's own, and a diff shows what was changed alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import yaml

NOTE = "# profile "


class NotEditable(ValueError):
    """A value that does not stand in the file by itself, so that it cannot be changed there."""


@dataclass(frozen=True, slots=True)
class Edit:
    """New scalars for a mapping's keys; `note` becomes the comment of the first one's line."""

    place: tuple[str, ...]
    values: Mapping[str, str]
    note: str = ""


def edited(text: str, edit: Edit) -> str:
    """Return the text with one edit made.

    Raises:
        NotEditable: the mapping or a key is not written out there, or is shared by an anchor.
    """
    node = _mapping(text, edit.place)
    found = {key.value: value for key, value in node.value}
    spans = []
    for name, new in edit.values.items():
        value = found.get(name)
        if not isinstance(value, yaml.ScalarNode):
            raise NotEditable(f"`{name}` is not written out there")
        spans.append((value.start_mark.index, value.end_mark.index, new))
    first = next(iter(edit.values))
    note_at = found[first].start_mark.line
    # From the end, so that the places before stay where they are.
    for start, end, new in sorted(spans, reverse=True):
        text = text[:start] + new + text[end:]
    return _with_note(text, note_at, edit.note) if edit.note else text


def _mapping(text: str, place: tuple[str, ...]) -> yaml.MappingNode:
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    shared = _shared(node)
    for name in place:
        if not isinstance(node, yaml.MappingNode):
            raise NotEditable(f"`{'.'.join(place)}` is not written out in the file")
        inside = {key.value: value for key, value in node.value}
        if name not in inside:
            raise NotEditable(f"`{'.'.join(place)}` is not written out in the file")
        node = inside[name]
        if id(node) in shared:
            raise NotEditable(f"`{name}` is shared by an anchor: others would change with it")
    if not isinstance(node, yaml.MappingNode):
        raise NotEditable(f"`{'.'.join(place)}` is no mapping")
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
    """Put a note behind a line, in place of an earlier one; a person's own comment stays."""
    lines = text.split("\n")
    whole = lines[line].rstrip("\r")
    ending = lines[line][len(whole) :]
    before = whole.split(f"  {NOTE}")[0].rstrip()
    lines[line] = f"{before}  {NOTE}{note}{ending}"
    return "\n".join(lines)
