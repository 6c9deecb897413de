"""Reads profiles for what they say of groups: pass rates, by task type, and what was asked.

A profile is JSONL: a header, then one line for each prompt and tier. Only the fields that are
needed here are looked at.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.cli.errors import Problem

FOLDER = "profiles"
KEY = "farebox_profile"


@dataclass(slots=True)
class Passed:
    """How many of the answers passed the oracle."""

    passed: int = 0
    judged: int = 0

    @property
    def rate(self) -> float | None:
        """The part that passed; None of nothing."""
        return self.passed / self.judged if self.judged else None


@dataclass(frozen=True, slots=True)
class Profile:
    """A profile: when it was made, by which oracle, of how many prompts, and what passed.

    `oracle_path` and `oracle_sha256` are None where the header does not say them. `passed` is by
    (group, task type).
    """

    path: Path
    name: str
    made: str
    oracle_path: str | None
    oracle_sha256: str | None
    prompts: int
    passed: Mapping[tuple[str, str], Passed] = field(default_factory=dict)

    def of_group(self, group: str) -> Passed:
        """Return the pass rate of a group over all task types."""
        total = Passed()
        for (name, _), it in self.passed.items():
            if name == group:
                total.passed += it.passed
                total.judged += it.judged
        return total


def profiles_in(state_folder: Path) -> tuple[Profile, ...]:
    """Return the profiles of a state folder, the newest first; raises `Problem`."""
    found = [read_profile(path) for path in sorted((state_folder / FOLDER).glob("*.jsonl"))]
    return tuple(sorted(found, key=lambda it: it.made, reverse=True))


def read_profile(path: Path) -> Profile:
    """Read a profile.

    Raises:
        Problem: it is not a profile, or a line of it cannot be read.
    """
    lines = _lines(path)
    header = next(lines, {})
    if header.get(KEY) != 1:
        raise Problem(
            f"{path} is not a profile: its first line has no `{KEY}: 1`.",
            "Make one with `farebox profile run`.",
        )
    passed: dict[tuple[str, str], Passed] = {}
    digests: set[str] = set()
    for row in lines:
        digests.add(str(row.get("digest")))
        if row.get("error") is not None or not isinstance(row.get("passed"), bool):
            continue
        key = (str(row.get("group")), str(row.get("task_type") or "unclassified"))
        cell = passed.setdefault(key, Passed())
        cell.judged += 1
        cell.passed += row["passed"]
    oracle = header.get("oracle")
    oracle = oracle if isinstance(oracle, Mapping) else {}
    return Profile(
        path=path,
        name=str(header.get("name") or path.stem),
        made=str(header.get("made") or ""),
        oracle_path=oracle.get("path"),
        oracle_sha256=oracle.get("sha256"),
        prompts=len(digests),
        passed=passed,
    )


def _lines(path: Path) -> Iterator[Mapping[str, Any]]:
    number = 0
    try:
        with path.open(encoding="utf-8") as file:
            for line in file:
                number += 1
                if not line.strip():
                    continue
                row = json.loads(line)
                if not isinstance(row, Mapping):
                    raise ValueError("it is no JSON object")
                yield row
    except ValueError as error:
        raise Problem(f"{path}, line {number}: {error}.", "Make the profile anew.") from None
    except OSError as error:
        raise Problem(f"{path} cannot be read: {error.strerror}.") from None
