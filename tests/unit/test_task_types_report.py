"""The labelled prompts, and that the committed report is of the committed model."""

from __future__ import annotations

import json
from collections import Counter

from benchmarks.task_types.__main__ import LABELLED, NEAR, REPORT, accuracy
from hooks.routing import UNCLASSIFIED
from scripts.task_types.labelled import Labelled, near_duplicates, read_labelled
from tests.support.policies import default_policy

NAMES = [*default_policy().routing.task_types, UNCLASSIFIED]
PROMPTS = read_labelled(LABELLED, NAMES)


def half(split: str) -> list[Labelled]:
    return [it for it in PROMPTS if it.split == split]


def test_there_are_400_prompts_over_all_task_types_and_half_of_each_is_held_out() -> None:
    assert len(PROMPTS) >= 400
    train, held_out = (Counter(it.task_type for it in half(it)) for it in ("train", "held_out"))
    assert set(train) == set(held_out) == set(NAMES)
    assert all(abs(train[name] - held_out[name]) <= 1 for name in NAMES)


def test_every_task_type_has_hard_negatives_and_adversarial_prompts_in_both_halves() -> None:
    for split in ("train", "held_out"):
        kinds = {(it.task_type, it.kind) for it in half(split)}
        assert len(kinds) == 3 * len(NAMES)


def test_no_held_out_prompt_is_nearly_one_to_train_with() -> None:
    assert list(near_duplicates(half("train"), half("held_out"), NEAR)) == []


def test_the_report_is_what_the_committed_model_comes_to() -> None:
    """Made with `python -m benchmarks.task_types --write`, after `scripts.task_types train`."""
    told = json.loads(REPORT.read_text(encoding="utf-8"))["held_out"]
    found = {name: it.as_dict() for name, it in accuracy(default_policy(), PROMPTS).items()}
    assert found == told
    assert found["both"]["mistakes_cost"] < found["keywords"]["mistakes_cost"] / 2
