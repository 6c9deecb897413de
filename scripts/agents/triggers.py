"""When a change needs a review: the triggers as data, and which of them a diff fires."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib.resources import files
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from budgets.yamlfile import Strict, read_yaml, validate
from scripts.agents.diff import Changed

PLACES_MAX = 5
"""How many files a trigger names before it counts the rest."""


class Trigger(Strict):
    """One reason for a review. It fires where any of its conditions holds."""

    title: str
    new_files_max: int | None = Field(default=None, ge=0)
    paths: tuple[str, ...] = ()
    lines: str | None = None
    new_only: bool = False
    ignore_paths: tuple[str, ...] = ()
    why: str = ""
    concerns: tuple[str, ...] = ()

    @field_validator("lines")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                re.compile(value)
            except re.error as error:
                raise ValueError(f"is no regular expression: {error}") from None
        return value

    @model_validator(mode="after")
    def _can_fire(self) -> Trigger:
        if self.new_files_max is None and not self.paths and self.lines is None:
            raise ValueError("give `new_files_max`, `paths` or `lines`, or it never fires")
        return self


class TriggersFile(Strict):
    """The whole of a triggers file."""

    version: Literal[1]
    ignore_paths: tuple[str, ...] = ()
    context_files: tuple[str, ...] = ()
    triggers: dict[str, Trigger] = Field(min_length=1, max_length=50)


@dataclass(frozen=True, slots=True)
class Fired:
    """A trigger that a change fires, and by what."""

    name: str
    trigger: Trigger
    because: str


def load(path: Path | None = None) -> TriggersFile:
    """Return the triggers of a file, or those that come with Farebox.

    Raises:
        ConfigErrors: the file has mistakes; each with its line.
    """
    found = path or Path(str(files("scripts.agents") / "triggers.yaml"))
    return validate(TriggersFile, read_yaml(found))


def fired(rules: TriggersFile, changes: Iterable[Changed]) -> tuple[Fired, ...]:
    """Return the triggers that the changed files fire, in the file's order."""
    counted = [it for it in changes if not _fits(it.path, rules.ignore_paths)]
    found = []
    for name, trigger in rules.triggers.items():
        seen = [it for it in counted if not _fits(it.path, trigger.ignore_paths)]
        reasons = list(_reasons(trigger, seen))
        if reasons:
            found.append(Fired(name, trigger, "; ".join(reasons)))
    return tuple(found)


def _reasons(trigger: Trigger, changes: list[Changed]) -> Iterator[str]:
    new = [it for it in changes if it.is_new]
    if trigger.new_files_max is not None and len(new) > trigger.new_files_max:
        yield f"{len(new)} new files"
    by_path = [
        it.path
        for it in changes
        if (it.is_new or not trigger.new_only)
        and (_fits(it.path, trigger.paths) or (it.was and _fits(it.was, trigger.paths)))
    ]
    if by_path:
        yield _named(by_path)
    if trigger.lines is not None:
        pattern = re.compile(trigger.lines, re.I)
        hits: dict[str, str] = {}
        for change in changes:
            match = next((m for line in change.touched if (m := pattern.search(line))), None)
            if match is not None and change.path not in by_path:
                hits[change.path] = match[0].lower()
        if hits:
            words = ", ".join(dict.fromkeys(f"“{word}”" for word in list(hits.values())[:3]))
            yield f"{words} in {_named(list(hits))}"


def _fits(path: str, patterns: tuple[str, ...]) -> bool:
    rooted = "/" + path.lower()
    return any(fnmatchcase(rooted, pattern.lower()) for pattern in patterns)


def _named(paths: list[str]) -> str:
    more = f" and {len(paths) - PLACES_MAX} more" if len(paths) > PLACES_MAX else ""
    return ", ".join(paths[:PLACES_MAX]) + more
