"""The trained classifier of task types: what it finds, how it chooses, what its file must be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budgets.yamlfile import ConfigErrors
from hooks.features import words
from hooks.routing import UNCLASSIFIED
from hooks.tasks.content import ContentModel, terms_of
from hooks.tasks.model_file import SHIPPED, parse
from tests.support.policies import chat, decided, default_policy, variant


def model(terms: dict[str, list[int]], **options: Any) -> ContentModel:
    """Return a model of an `easy` type of the lowest tier and a `hard` one of the highest."""
    chosen = {"under_routing_cost": 3.0, **options}
    return ContentModel(["easy", "hard"], [0, 0], terms, [0, 2], **chosen)


def shipped() -> ContentModel:
    content = default_policy().content
    assert content is not None
    return content


# ── choosing ─────────────────────────────────────────────────────────────────────────────────────


def test_the_words_of_a_text_decide() -> None:
    one = model({"typo": [400, -400], "deadlock": [-400, 400]})
    assert one.guess("a typo").task_type == "easy"
    found = one.guess("a deadlock")
    assert (found.task_type, found.terms) == ("hard", ("deadlock",)) and found.confidence > 0.99


def test_neighbouring_words_count_as_a_pair() -> None:
    one = model({"root cause": [-400, 400]})
    assert one.guess("the root cause").terms == ("root cause",)
    assert one.guess("the cause is a root").terms == ()


def test_a_type_of_a_higher_tier_wins_before_it_is_the_likelier_one() -> None:
    terms = {"fix": [40, -40]}
    careful, even = model(terms), model(terms, under_routing_cost=1.0)
    assert even.guess("fix").task_type == "easy"
    found = careful.guess("fix")
    assert found.task_type == "hard" and found.confidence < 0.5 < found.peak


def test_caution_ends_where_the_higher_type_is_too_unlikely() -> None:
    terms = {"fix": [40, -40]}
    assert model(terms, caution_min=0.45).guess("fix").task_type == "easy"


@given(st.lists(st.sampled_from(["typo", "fix", "deadlock", "x"]), max_size=40))
@settings(max_examples=60)
def test_sums_are_those_of_the_plain_weights(found: list[str]) -> None:
    """The packed integers add up to what adding the weights one by one would."""
    terms = {"typo": [31, -31], "deadlock": [-30_000, 30_000], "fix": [1, -1]}
    one = model(terms, under_routing_cost=1.0)
    there = [term for term in terms if term in found]
    total = sum(terms[term][1] for term in there) / max(1, len(there)) ** 0.25
    wanted = "easy" if total <= 0 else "hard"
    assert one.guess(" ".join(found)).task_type == wanted


@given(st.text(max_size=300))
@settings(max_examples=60)
def test_any_text_is_found_to_be_the_same_every_time(text: str) -> None:
    first = shipped().guess(text)
    assert first == shipped().guess(text, words(text)) and 0 <= first.confidence <= 1


def test_training_and_guessing_see_the_same_terms() -> None:
    text = "Is `x = {1};` right?\nCheck the check."
    assert {"check", "the check", "#question", "#lines"} <= terms_of(text)
    one = model({term: [0, 100] for term in terms_of(text)})
    assert one.guess(text).confidence > 0.9


# ── in a decision ────────────────────────────────────────────────────────────────────────────────


def test_a_review_of_names_is_no_review_of_logic() -> None:
    names = decided(chat("Code review please: naming only, do these follow our convention?"))
    assert names.task_type == "pr_review_conventions"
    logic = decided(chat("Please review this function: does the loop end for an empty list?"))
    assert logic.task_type == "code_review_logic" and logic.task_source == "classifier"


def test_a_decision_tells_the_words_that_spoke_and_how_likely_it_is() -> None:
    made = decided(chat("Find the root cause of the intermittent timeouts"))
    assert made.task_source == "classifier" and "root" in made.task_why
    assert made.task_why.endswith("% likely")


def test_no_word_of_a_prompt_stands_in_a_decision_that_the_model_does_not_have() -> None:
    made = decided(chat("Find the root cause why frobnicatrix hates Zorblatt"))
    assert "frobnicatrix" not in made.to_json() and "zorblatt" not in made.to_json().lower()


def test_without_the_model_the_keywords_decide(tmp_path: Path) -> None:
    off = variant(
        tmp_path, routing=lambda data: data["task_detection"]["content"].update(enabled=False)
    )
    assert off.content is None and off.content_path is None
    made = decided(chat("Fix this typo"), off)
    assert (made.task_source, made.task_type) == ("keywords", "config_edit_formatting")


def test_a_threshold_of_one_leaves_all_to_the_keywords(tmp_path: Path) -> None:
    sure = variant(
        tmp_path, routing=lambda data: data["task_detection"]["content"].update(confidence_min=1)
    )
    assert decided(chat("Audit our reset flow for weak points"), sure).task_type == UNCLASSIFIED


def test_a_keyword_that_settles_comes_before_the_model(tmp_path: Path) -> None:
    def edit(data: dict[str, Any]) -> None:
        keyword = {"phrase": "quarterly letter", "settles": True}
        data["task_types"]["summarization"]["keywords"].append(keyword)

    text = "Find the bug in the quarterly letter"
    made = decided(chat(text), variant(tmp_path, routing=edit))
    assert (made.task_source, made.task_type) == ("keywords", "summarization")
    assert decided(chat(text)).task_type == "code_review_logic"


def test_a_task_type_that_the_model_has_never_seen_is_found_by_its_keywords(
    tmp_path: Path,
) -> None:
    def edit(data: dict[str, Any]) -> None:
        data["task_types"]["incident_report"] = {
            "tier": "generate", "floor": "COMPLEX", "expected_output_tokens": 700,
            "keywords": ["incident report"],
        }  # fmt: skip

    made = decided(chat("Write the incident report"), variant(tmp_path, routing=edit))
    assert made.task_type == "incident_report"


# ── the file ─────────────────────────────────────────────────────────────────────────────────────


def file_of(**changes: Any) -> bytes:
    data = {
        "farebox_task_model": 1, "features": 1, "trained_on": {"prompts": 1},
        "task_types": ["refactoring", "documentation"], "bias": [0, 0], "terms": {"x": [1, -1]},
    }  # fmt: skip
    return json.dumps(data | changes).encode()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"\x80\x04K\x01.", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"{}", "not a model"),
        (file_of(farebox_task_model=2), "farebox_task_model"),
        (file_of(features=99), "version 99"),
        (file_of(terms={"x": [1]}), "must have 2 numbers"),
        (file_of(terms={"x": [1, 10**9]}), "terms.x.1"),
        (file_of(terms={"x": [1, float("nan")]}), "terms.x.1"),
        (file_of(task_types=["refactoring", "refactoring"]), "stands twice"),
        (file_of(code="import os"), "code"),
        (b" " * 9_000_000, "bytes"),
    ],
)
def test_what_is_no_model_is_refused_in_words(content: bytes, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse(content)


def test_the_packs_own_model_knows_every_task_type_of_the_pack() -> None:
    assert {*default_policy().routing.task_types, UNCLASSIFIED} == set(shipped().names)
    assert parse(SHIPPED.read_bytes()).trained_on["prompts"]


def test_a_model_of_ones_own_stands_beside_the_file_and_is_part_of_the_revision(
    tmp_path: Path,
) -> None:
    def edit(data: dict[str, Any]) -> None:
        data["task_detection"]["content"]["file"] = "mine.json"

    (tmp_path / "mine.json").write_bytes(file_of())
    policy = variant(tmp_path, routing=edit)
    assert policy.content is not None and policy.content.names == ("refactoring", "documentation")
    assert policy.files[-1] == tmp_path / "mine.json"
    (tmp_path / "mine.json").write_bytes(file_of(terms={"x": [2, -2]}))
    assert variant(tmp_path, routing=edit).revision != policy.revision
    with pytest.raises(ConfigErrors, match=r"task_detection.*cannot be read"):
        variant(
            tmp_path,
            routing=lambda data: data["task_detection"]["content"].update(file="gone.json"),
        )


def test_types_of_a_model_that_the_policy_does_not_have_are_a_warning(tmp_path: Path) -> None:
    named = file_of(
        task_types=["refactoring", "documentation", "gardening"],
        bias=[0, 0, 0],
        terms={"rose": [0, 0, 500]},
    )

    def edit(data: dict[str, Any]) -> None:
        data["task_detection"]["content"]["file"] = "mine.json"

    (tmp_path / "mine.json").write_bytes(named)
    policy = variant(tmp_path, routing=edit)
    assert any("gardening" in str(finding) for finding in policy.warnings)
    assert policy.content is not None and "gardening" not in policy.content.names
