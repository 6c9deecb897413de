"""`routing.yaml`: the default pack says what the policy document's tables say."""

from __future__ import annotations

import pytest

from hooks.facts import InputMargin
from hooks.levels import Consequence, Mode, Tier
from hooks.routing import UNCLASSIFIED, fold, json_schema
from tests.support.policies import default_policy

# The two tables of task types: name, aliases, tier, floor, and the consequence where it says one.
TASK_TYPES = """
lookup_retrieval             | file_lookup, retrieval, quick_summary| execute  | FAST         |
config_edit_formatting       | config_edit, formatting, naming_fix  | execute  | FAST         |
simple_test_lint_boilerplate | simple_test, lint_fix, boilerplate   | execute  | FAST         |
pr_review_conventions        | naming_check, style_compliance       | execute  | FAST         |
code_generation              | connector, sql_transform, feature    | generate | COMPLEX      |
refactoring                  |                                      | generate | COMPLEX      |
documentation                | changelog, release_notes             | generate | COMPLEX      |
code_review_logic            | edge_case_analysis                   | reason   | HIGH_COMPLEX |
architecture_decision        | trade_off_analysis                   | reason   | HIGH_COMPLEX |
adr_writing                  | formal_decision_record               | reason   | HIGH_COMPLEX |
security_review              | pii_scan, credential_check           | reason   | HIGH_COMPLEX | high
debugging_complex            | root_cause_analysis                  | reason   | HIGH_COMPLEX |
classification_intent        |                                      | execute  | FAST         |
entity_extraction_structured |                                      | execute  | FAST         |
summarization                |                                      | generate | COMPLEX      |
rag_answer                   |                                      | generate | COMPLEX      |
multi_step_reasoning         |                                      | reason   | HIGH_COMPLEX |
novel_code_generation        |                                      | reason   | HIGH_COMPLEX | high
"""
ROWS = [[cell.strip() for cell in row.split("|")] for row in TASK_TYPES.strip().splitlines()]
ROUTING = default_policy().routing


def test_the_task_types_are_the_eighteen_of_the_document() -> None:
    assert len(ROWS) == 18
    assert set(ROUTING.task_types) == {row[0] for row in ROWS}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_task_type_is_as_the_document_says(row: list[str]) -> None:
    name, aliases, tier, floor, consequence = row
    task = ROUTING.task_types[name]
    assert (task.tier, task.floor) == (Tier(tier), floor)
    assert {alias.strip() for alias in aliases.split(",") if alias.strip()} <= set(task.aliases)
    if consequence:
        assert task.consequence is Consequence(consequence)
    for alias in (name, *task.aliases):
        assert ROUTING.task_names[alias] == name
    assert task.why and task.signal and task.expected_output_tokens["default"] > 0


def test_a_tier_has_one_floor() -> None:
    floors = {Tier.EXECUTE: "FAST", Tier.GENERATE: "COMPLEX", Tier.REASON: "HIGH_COMPLEX"}
    assert all(task.floor == floors[task.tier] for task in ROUTING.task_types.values())


def test_escalation_triggers_of_the_profile_are_the_documents() -> None:
    wanted = {
        "classification_intent": "label outside the set",
        "entity_extraction_structured": "5 %",
        "summarization": "quality score below",
        "rag_answer": "multi-hop or open-domain question",
    }
    for name, words in wanted.items():
        assert words in ROUTING.task_types[name].escalation.lower()


@pytest.mark.parametrize(
    ("tokens", "category"),
    [
        (0, "FAST"), (500, "FAST"), (501, "NORMAL"), (3_000, "NORMAL"), (3_001, "COMPLEX"),
        (10_000, "COMPLEX"), (10_001, "HIGH_COMPLEX"), (10**9, "HIGH_COMPLEX"),
    ],
)  # fmt: skip
def test_categories_have_the_documents_ranges(tokens: int, category: str) -> None:
    assert ROUTING.category_of(tokens) == category


def test_every_category_guards_80_percent_of_the_window_and_caps_output_and_cost() -> None:
    for category in ROUTING.categories.values():
        assert category.constraints.context_guard == 0.8
        assert category.output_tokens_max > 0 and category.escalation
        assert category.constraints.cost_nano_usd_max
        assert category.constraints.latency_p50_ms_max
        assert category.monitoring.escalation_rate_max


def test_quality_floors_keep_and_drop_what_the_document_says() -> None:
    def above(category: str) -> set[str]:
        floor = ROUTING.categories[category].constraints.quality
        assert floor is not None
        return {
            name
            for name, facts in ROUTING.models.items()
            if (known := facts.benchmarks.get(floor.benchmark)) and known.score >= floor.min
        }

    assert above("COMPLEX") >= {"claude-sonnet", "claude-opus", "gemini-flash"}
    assert "gpt-4o-mini" not in above("COMPLEX") | above("HIGH_COMPLEX")
    assert {"claude-opus", "minimax"} <= above("HIGH_COMPLEX")


def test_the_one_liners_for_choosing_are_the_documents() -> None:
    picks = {facts.pick: name for name, facts in ROUTING.models.items()}
    assert picks == {
        "quick fix": "gemini-flash", "standard coding": "claude-haiku",
        "complex debugging": "claude-sonnet", "architecture decision": "claude-opus",
        "very high volume": "minimax", "emergency": "gpt-4o-mini",
    }  # fmt: skip


def test_every_score_names_its_source_and_date() -> None:
    for facts in ROUTING.models.values():
        assert facts.speed is not None
        for benchmark in facts.benchmarks.values():
            assert benchmark.source.startswith("https://") and benchmark.date[:2] == "20"


def test_the_pack_enforces_and_shadow_has_a_default() -> None:
    assert ROUTING.mode is Mode.ENFORCE
    assert ROUTING.shadow_default in default_policy().groups.groups


def test_names_of_task_types_are_compared_without_case_dashes_and_spaces() -> None:
    assert fold("  Security-Review ") == fold("security review") == "security_review"
    assert ROUTING.task_names[UNCLASSIFIED] == UNCLASSIFIED


def test_tiers_consequences_and_categories_rise() -> None:
    assert [tier.rank for tier in Tier] == [0, 1, 2]
    assert Consequence.LOW.rank < Consequence.MEDIUM.rank < Consequence.HIGH.rank
    assert ROUTING.larger("FAST", "COMPLEX") == ROUTING.larger("COMPLEX", "FAST") == "COMPLEX"


def test_a_groups_input_margin_comes_before_its_providers_and_the_default() -> None:
    own = ROUTING.models["claude-opus"].input
    assert own is not None and ROUTING.margin("claude-opus", "anthropic") == own
    assert ROUTING.margin("claude-haiku", "anthropic") == ROUTING.providers["anthropic"]
    assert ROUTING.margin("other", "nobody") == ROUTING.providers["default"]
    bare = ROUTING.model_copy(update={"providers": {}, "models": {}})
    assert isinstance(bare.margin("other", "nobody"), InputMargin)


def test_the_schema_for_editors_names_the_keys_of_the_file() -> None:
    constraints = json_schema()["$defs"]["Constraints"]["properties"]
    assert "cost_usd_max" in constraints and "cost_nano_usd_max" not in constraints
