"""The answers' texts, kept beside a profile: for a person to grade, and so that none is paid twice.

`NAME.answers.jsonl`, readable for its owner only. An answer is written here before it is judged: a
run that is killed in between judges it when it goes on, and does not ask for it again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from scripts.profile.sending import Answer


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """An answer, with the prompt and tier that it is of."""

    digest: str
    tier: str
    answer: Answer

    @property
    def key(self) -> tuple[str, str]:
        """The same as a record's."""
        return self.digest, self.tier


_FIELDS = {field.name for field in fields(Answer)}


def path_of(profile: Path) -> Path:
    """Return where a profile's answers are."""
    return profile.with_name(profile.name.removesuffix(".jsonl") + ".answers.jsonl")


class AnswerFile:
    """Appends answers, and reads those of earlier runs. A torn last line is cut off."""

    def __init__(self, profile: Path) -> None:
        path = path_of(profile)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        self._file = os.fdopen(descriptor, "r+b")
        self.kept: dict[tuple[str, str], KeptAnswer] = {}
        whole = 0
        for line in self._file:
            found = _read(line)
            if found is None:
                break
            whole += len(line)
            self.kept[found.key] = found
        self._file.truncate(whole)
        self._file.seek(whole)

    def write(self, kept: KeptAnswer) -> None:
        """Append one, on the disk before this returns."""
        document = {"digest": kept.digest, "tier": kept.tier, **asdict(kept.answer)}
        self._file.write(json.dumps(document).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self.kept[kept.key] = kept

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


def read_answers(profile: Path) -> Mapping[tuple[str, str], KeptAnswer]:
    """Return the kept answers of a profile; none where there is no such file."""
    try:
        with path_of(profile).open("rb") as file:
            found = [_read(line) for line in file]
    except OSError:
        return {}
    return {it.key: it for it in found if it is not None}


def _read(line: bytes) -> KeptAnswer | None:
    if not line.endswith(b"\n"):
        return None
    try:
        document: dict[str, Any] = json.loads(line)
        answer = Answer(**{name: document[name] for name in _FIELDS})
        return KeptAnswer(str(document["digest"]), str(document["tier"]), answer)
    except (ValueError, KeyError, TypeError):
        return None
