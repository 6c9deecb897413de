"""Prompts from production for a profile: sampled files in, redacted prompt lines out.

The proxy writes `.farebox/samples/*.jsonl` in the form of the prompts file, readable for its owner
only, if `samples` in `routing.yaml` asks for it (`hooks.samples`). Before a sample becomes a prompt
of a profile it goes through a person's own function `redact(text)`, which returns the text without
what must not be kept, or None to leave the sample out.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.profile.records import PromptLine, RecordError, read_prompts

Redact = Callable[[str], str | None]


class RedactError(ValueError):
    """A redaction that cannot be used, or that failed: nothing is added then."""


@dataclass(frozen=True, slots=True)
class Added:
    """What became of samples."""

    added: int
    left_out: int
    known: int


def load_redact(path: Path) -> Redact:
    """Load `redact(text)` from a Python file; raises `RedactError`."""
    spec = importlib.util.spec_from_file_location("_farebox_redact", path)
    if spec is None or spec.loader is None:
        raise RedactError(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except FileNotFoundError:
        raise RedactError(f"{path}: no such file") from None
    except Exception as error:
        raise RedactError(f"{path}: {type(error).__name__}: {error}") from None
    found = getattr(module, "redact", None)
    if not callable(found):
        raise RedactError(f"{path}: it needs a function `redact(text)`")
    redact: Redact = found
    return redact


def read_samples(paths: Iterable[Path]) -> list[PromptLine]:
    """Read sample files; the same prompt in several files counts once.

    Raises:
        RecordError: a file cannot be read.
    """
    found: dict[str, PromptLine] = {}
    for path in paths:
        for prompt in read_prompts(path, repeated=True):
            found.setdefault(prompt.digest, prompt)
    return list(found.values())


def redacted(prompt: PromptLine, redact: Redact) -> PromptLine | None:
    """Return the prompt with every text redacted; None where one of them is to be left out.

    Raises:
        RedactError: the function failed or gave something else; its own words are not repeated,
            since they may quote the prompt.
    """
    document = prompt.model_dump(exclude_none=True, exclude={"source", "id"})
    for key in ("prompt", "messages", "expected"):
        if key in document:
            try:
                document[key] = _through(document[key], redact)
            except _LeftOut:
                return None
    return PromptLine(**document, source="shadow")


def add(prompts: Sequence[PromptLine], redact: Redact, path: Path, most: int) -> Added:
    """Append samples to a prompts file, which is made readable for its owner only.

    Raises:
        RedactError, RecordError: nothing was added.
    """
    known = {it.digest for it in read_prompts(path)} if path.exists() else set()
    lines: list[str] = []
    left_out = repeated = 0
    for prompt in prompts:
        if len(lines) >= most:
            break
        clean = redacted(prompt, redact)
        if clean is None:
            left_out += 1
        elif clean.digest in known:
            repeated += 1
        else:
            known.add(clean.digest)
            lines.append(clean.model_dump_json(exclude_none=True))
    _append(path, lines)
    return Added(len(lines), left_out, repeated)


def _append(path: Path, lines: Sequence[str]) -> None:
    if not lines:
        return
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "r+b") as file:
            size = file.seek(0, os.SEEK_END)
            torn = False
            if size:
                file.seek(size - 1)
                torn = file.read(1) != b"\n"
            file.write(("\n" * torn + "\n".join(lines) + "\n").encode())
    except OSError as error:
        raise RecordError(f"{path}: {(error.strerror or 'cannot be written').lower()}") from None


class _LeftOut(Exception):
    pass


def _through(value: Any, redact: Redact) -> Any:
    """Return a value with each of its texts redacted, keys, roles and types excepted."""
    if isinstance(value, str):
        try:
            found = redact(value)
        except Exception as error:
            raise RedactError(f"the redaction raised {type(error).__name__}") from None
        if found is None:
            raise _LeftOut
        if not isinstance(found, str):
            raise RedactError(f"the redaction gave {type(found).__name__}, not a text or None")
        return found
    if isinstance(value, dict):
        kept = ("role", "type")
        return {key: it if key in kept else _through(it, redact) for key, it in value.items()}
    if isinstance(value, list | tuple):
        return [_through(it, redact) for it in value]
    return value
