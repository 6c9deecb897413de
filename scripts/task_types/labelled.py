"""Labelled prompts: a JSONL file with one prompt a line, and a YAML file with short phrases."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hooks.features import words

Split = Literal["train", "held_out"]
Kind = Literal["plain", "hard_negative", "adversarial"]


class LabelledError(ValueError):
    """A file of labelled prompts that cannot be used; the text names the line."""


class Labelled(BaseModel):
    """One prompt with what it is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(min_length=1)
    task_type: str = Field(min_length=1)
    kind: Kind = "plain"
    split: Split = "train"
    prompt: str = Field(min_length=1)


def read_labelled(path: Path, known: Iterable[str]) -> list[Labelled]:
    """Return the prompts of a file.

    Raises:
        LabelledError: a line is no prompt, names a task type that is none of `known`, or an id
            stands twice.
    """
    types, found, ids = set(known), [], set()
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            one = Labelled.model_validate(json.loads(line))
        except ValidationError as errors:
            first = errors.errors(include_url=False, include_input=False)[0]
            place = ".".join(map(str, first["loc"])) or "the line"
            raise LabelledError(f"{path}:{number}: {place}: {first['msg']}") from None
        except ValueError:
            raise LabelledError(f"{path}:{number}: it is not JSON") from None
        if one.task_type not in types:
            raise LabelledError(f"{path}:{number}: no task type is called {one.task_type!r}")
        if one.id in ids:
            raise LabelledError(f"{path}:{number}: the id {one.id!r} stands twice")
        ids.add(one.id)
        found.append(one)
    return found


def read_phrases(path: Path, known: Iterable[str]) -> list[Labelled]:
    """Return the phrases of a file, as prompts to train with.

    Raises:
        LabelledError: it is not a mapping of task types to lists of texts.
    """
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    types = set(known)
    if not isinstance(data, dict):
        raise LabelledError(f"{path}: it must map task types to lists of phrases")
    found = []
    for name, phrases in data.items():
        if name not in types:
            raise LabelledError(f"{path}: no task type is called {name!r}")
        for number, phrase in enumerate(phrases, start=1):
            if not isinstance(phrase, str):
                raise LabelledError(f"{path}: {name}: put quotes around {phrase!r}")
            found.append(Labelled(id=f"{name}/{number}", task_type=name, prompt=phrase))
    return found


@dataclass(frozen=True, slots=True)
class Near:
    """Two prompts that have most of their neighbouring words in common."""

    one: str
    other: str
    likeness: float


def near_duplicates(
    some: Sequence[Labelled], others: Sequence[Labelled], least: float
) -> Iterator[Near]:
    """Yield the pairs whose words and pairs of words have `least` of their union in common."""
    marked = [(it.id, _shingles(it.prompt)) for it in some]
    for (one, mine), (other, theirs) in product(
        marked, [(it.id, _shingles(it.prompt)) for it in others]
    ):
        if min(len(mine), len(theirs)) < least * max(len(mine), len(theirs)):
            continue  # Sets of so different sizes cannot have that much in common.
        likeness = len(mine & theirs) / max(1, len(mine | theirs))
        if likeness >= least:
            yield Near(one, other, round(likeness, 3))


def _shingles(text: str) -> frozenset[object]:
    found = words(text)
    return frozenset([*found, *pairwise(found)])
