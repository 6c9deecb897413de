"""The file of a trained classifier: JSON, read and checked before anything is decided by it.

A file is data and nothing else: reading one runs nothing, whatever is in it, and a file that is too
large, of another version or not a model at all is a finding with what to do about it.
"""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from budgets.yamlfile import Finding, Severity, YamlFile
from hooks import features
from hooks.routing import UNCLASSIFIED, RoutingFile
from hooks.tasks.content import WEIGHT_MAX, ContentModel

SHIPPED = Path(__file__).resolve().parent / "task_model.json"
"""The pack's own model, trained on the prompts in `benchmarks/task_types`."""

BYTES_MAX = 8_000_000
_PLACE = ("task_detection", "content", "file")
_TRAIN = "train one with `python -m scripts.task_types train`"

Weight = Annotated[int, Field(ge=-WEIGHT_MAX, le=WEIGHT_MAX)]
Weights = Annotated[tuple[Weight, ...], Field(min_length=1, max_length=201)]


class ModelFile(BaseModel):
    """What is in the file. Weights are in hundredths, a list for each term, one a task type."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)

    farebox_task_model: Literal[1]
    features: int
    trained_on: dict[str, str | int]
    task_types: tuple[str, ...] = Field(min_length=2, max_length=201)
    bias: Weights
    terms: dict[str, Weights] = Field(max_length=100_000)

    @model_validator(mode="after")
    def _agrees(self) -> ModelFile:
        count = len(self.task_types)
        if len(set(self.task_types)) != count:
            raise ValueError("a task type stands twice in `task_types`")
        if len(self.bias) != count or any(len(it) != count for it in self.terms.values()):
            raise ValueError(f"every list of weights must have {count} numbers")
        return self


def path_of(routing_file: YamlFile, routing: RoutingFile) -> Path | None:
    """Return where the policy's model is; None where the policy uses none."""
    content = routing.task_detection.content
    if not content.enabled:
        return None
    return routing_file.path.parent / content.file if content.file is not None else SHIPPED


def load_content(
    routing_file: YamlFile, routing: RoutingFile
) -> tuple[ContentModel | None, str, list[Finding]]:
    """Return the policy's model, its file's digest, and what is wrong with it.

    A type that the policy does not have is a warning: nothing is ever found to be one. Of the
    pack's own model only what the policy has is used, without a word.
    """
    path = path_of(routing_file, routing)
    if path is None:
        return None, "", []
    try:
        content = path.read_bytes()
    except OSError as error:
        problem = f"the model {path.name} cannot be read: {error.strerror}"
        return None, "", [routing_file.finding(_PLACE, problem, _TRAIN)]
    digest = hashlib.sha256(content).hexdigest()
    try:
        model = _parsed(content)
    except ValueError as error:
        return None, digest, [routing_file.finding(_PLACE, f"{path.name}: {error}", _TRAIN)]
    known = {*routing.task_types, UNCLASSIFIED}
    kept = [index for index, name in enumerate(model.task_types) if name in known]
    is_named = routing.task_detection.content.file is not None
    if len(kept) < 2 and not is_named:
        return None, digest, []
    if len(kept) < 2:
        problem = f"{path.name} knows fewer than two task types of this file"
        return None, digest, [routing_file.finding(_PLACE, problem, _TRAIN)]
    findings = []
    strange = [name for name in model.task_types if name not in known]
    if strange and is_named:
        problem = f"{path.name} knows task types that do not stand here: {', '.join(strange[:5])}"
        hint = f"{_TRAIN} of this file's types, or give them back"
        findings = [routing_file.finding(_PLACE, problem, hint, Severity.WARNING)]
    settings = routing.task_detection.content
    made = _made(
        content,
        tuple(kept),
        tuple(routing.task(model.task_types[index]).tier.rank for index in kept),
        settings.under_routing_cost,
        settings.caution_min,
    )
    return made, digest, findings


@lru_cache(maxsize=2)
def _made(
    content: bytes, kept: tuple[int, ...], tiers: tuple[int, ...], cost: float, caution: float
) -> ContentModel:
    """Make the model of the types that are `kept`, once: most edits are of something else."""
    model = _parsed(content)
    everything = len(kept) == len(model.task_types)
    return ContentModel(
        names=[model.task_types[index] for index in kept],
        bias=[model.bias[index] for index in kept],
        terms=model.terms
        if everything
        else {term: tuple(it[index] for index in kept) for term, it in model.terms.items()},
        tiers=tiers,
        under_routing_cost=cost,
        caution_min=caution,
    )


@lru_cache(maxsize=2)
def _parsed(content: bytes) -> ModelFile:
    return parse(content)


def parse(content: bytes) -> ModelFile:
    """Return the model in a file.

    Raises:
        ValueError: it is none, in words for a person.
    """
    if len(content) > BYTES_MAX:
        raise ValueError(f"it has more than {BYTES_MAX:,} bytes")
    try:
        data = json.loads(content)
    except (ValueError, RecursionError):
        raise ValueError("it is not JSON") from None
    if not isinstance(data, dict) or "farebox_task_model" not in data:
        raise ValueError("it is not a model of task types")
    try:
        model = ModelFile.model_validate(data)
    except ValidationError as errors:
        first = errors.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise ValueError(f"{place[:80]}: {first['msg']}") from None
    if model.features != features.VERSION:
        raise ValueError(
            f"it was trained with version {model.features} of the words, not {features.VERSION}"
        )
    return model
