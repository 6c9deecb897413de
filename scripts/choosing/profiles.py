"""What profiles say of groups: pass rates by task type, and how much was asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from scripts.cli.errors import Problem
from scripts.profile import records

FOLDER = "profiles"


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

    `passed` is by (group, task type).
    """

    path: Path
    name: str
    made: str
    oracle_path: str
    oracle_sha256: str
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
    try:
        found = records.read_profile(path)
    except records.RecordError as error:
        raise Problem(f"{error}.", "Move it away, or make the profile anew.") from None
    passed: dict[tuple[str, str], Passed] = {}
    for record in found.counted:
        cell = passed.setdefault((record.group, record.task_type), Passed())
        cell.judged += 1
        cell.passed += record.passed
    header = found.header
    return Profile(
        path=path,
        name=header.name,
        made=header.made.isoformat(),
        oracle_path=header.oracle.path,
        oracle_sha256=header.oracle.sha256,
        prompts=len({record.digest for record in found.records}),
        passed=passed,
    )
