"""Deciding: who says the task type, which category, which group serves, and why not another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from budgets.learned import LearnedOutput
from hooks.decision import Caller, Decision
from hooks.levels import Mode
from hooks.policy import Policy
from hooks.request import RequestView, read_request
from tests.support.policies import category_edit, chat, decided, default_policy, variant

REVIEW = (
    "Please do a security review of this login handler. It reads the name and the password from "
    "the form, compares them with the users table and sets a cookie. Tell me what an attacker "
    "could do with it, and whether the cookie can be forged."
)
FILLER = "The orders of the last quarter are listed below. "
IMAGE = {"type": "image_url", "image_url": {"url": "data:,"}}


def dropped(decision: Decision) -> dict[str, set[str]]:
    return {c.group: {drop.constraint for drop in c.drops} for c in decision.dropped}


# ── the category ─────────────────────────────────────────────────────────────────────────────────


def test_a_security_review_of_60_tokens_goes_to_the_strongest_model() -> None:
    decision = decided(chat(REVIEW))
    assert 45 <= decision.input_tokens <= 75
    assert (decision.task_type, decision.category) == ("security_review", "HIGH_COMPLEX")
    assert decision.group == "claude-opus" and decision.consequence == "high"


def test_fix_this_typo_of_400_tokens_goes_to_the_fastest() -> None:
    decision = decided(chat("Fix this typo in the text: " + FILLER * 37))
    assert 380 <= decision.input_tokens <= 420
    assert decision.task_type == "config_edit_formatting"
    assert (decision.category, decision.group) == ("FAST", "gemini-flash")


def test_the_floor_of_the_task_type_raises_a_small_request() -> None:
    decision = decided(chat("Refactor this: x = 1", max_tokens=50))
    assert (decision.category_by_tokens, decision.floor) == ("FAST", "COMPLEX")
    assert decision.category == "COMPLEX"


def test_size_raises_a_light_task() -> None:
    decision = decided(chat("Fix this typo: " + FILLER * 200))
    assert (decision.floor, decision.category_by_tokens) == ("FAST", "NORMAL")
    assert decision.category == "NORMAL"


def test_the_size_is_input_plus_the_smaller_of_expected_output_and_max_tokens() -> None:
    said: dict[str, Any] = {"metadata": {"expected_output_tokens": 2_000}}
    assert decided(chat("Hello!", **said)).category == "NORMAL"
    small = decided(chat("Hello!", max_tokens=100, **said))
    assert (small.category, small.expected_output_tokens) == ("FAST", 100)
    assert decided(chat("Hello!", max_tokens=9_000)).category == "FAST"
    assert decided(chat("Hello!", max_tokens=400, n=8, **said)).expected_output_tokens == 3_200


def test_images_count_toward_the_size() -> None:
    assert decided(chat([{"type": "text", "text": "Hello!"}])).category == "FAST"
    assert decided(chat([{"type": "text", "text": "Hello!"}, IMAGE])).category == "NORMAL"


def test_a_category_that_is_asked_for_is_raised_to_the_floor_and_announced() -> None:
    light = decided(chat("Hello!", "COMPLEX"))
    assert (light.category, light.group, light.warnings) == ("COMPLEX", "claude-sonnet", ())
    raised = decided(chat(REVIEW, "FAST"))
    assert (raised.category, raised.group) == ("HIGH_COMPLEX", "claude-opus")
    assert any(warning.startswith("category_raised:") for warning in raised.warnings)


# ── the task type ────────────────────────────────────────────────────────────────────────────────


def with_rule(folder: Path) -> Policy:
    rule = {"match": {"team": "docs", "call_type": "acompletion"}, "task_type": "documentation"}
    return variant(folder, routing=lambda data: data.update(task_rules=[rule]))


def test_the_callers_word_comes_before_a_rule_the_classifier_and_the_default(
    tmp_path: Path,
) -> None:
    policy, docs = with_rule(tmp_path), Caller(team="docs")
    said = chat("Fix this typo", metadata={"task_type": "ADR-writing"})
    decision = decided(said, policy, docs)
    assert (decision.task_source, decision.task_type) == ("caller", "adr_writing")
    decision = decided(chat("Fix this typo"), policy, docs)
    assert (decision.task_source, decision.task_type) == ("rule", "documentation")
    decision = decided(chat("Fix this typo"), policy)
    assert (decision.task_source, decision.task_type) == ("classifier", "config_edit_formatting")
    assert "“typo”" in decision.task_why
    decision = decided(chat("Hello!"), policy)
    assert (decision.task_source, decision.task_type) == ("default", "unclassified")


def test_an_alias_names_its_task_type_and_an_unknown_word_is_told_and_ignored() -> None:
    alias = decided(chat("x", metadata={"task_type": "pii_scan"}))
    assert alias.task_type == "security_review"
    unknown = decided(chat("Fix this typo", metadata={"task_type": "SECRET"}))
    assert unknown.task_type == "config_edit_formatting"
    assert "SECRET" not in unknown.to_json()
    assert any(warning.startswith("unknown_task_type") for warning in unknown.warnings)


def test_a_caller_may_raise_the_consequence_and_not_lower_it() -> None:
    assert decided(chat("Fix this typo", metadata={"consequence": "high"})).consequence == "high"
    assert decided(chat(REVIEW, metadata={"consequence": "low"})).consequence == "high"


# ── what is asked for ────────────────────────────────────────────────────────────────────────────


def test_auto_a_category_a_group_and_an_alias_can_be_asked_for(tmp_path: Path) -> None:
    def edit(data: dict[str, Any]) -> None:
        data["router_settings"]["model_group_alias"] |= {"cheap": "minimax", "big": "COMPLEX"}

    policy = variant(tmp_path, litellm=edit)
    wanted = {"auto": "gemini-flash", "NORMAL": "claude-haiku", "minimax": "minimax",
              "cheap": "minimax", "big": "claude-sonnet"}  # fmt: skip
    for model, group in wanted.items():
        assert decided(chat("Hello!", model), policy).group == group, model


@pytest.mark.parametrize("model", ["gpt-9", "fast", "AUTO", "category-fast", "x" * 200])
def test_an_unknown_name_is_an_invalid_request_that_lists_the_known_ones(model: str) -> None:
    decision = decided(chat("Hello!", model))
    assert (decision.code, decision.group, decision.param) == ("invalid_request", None, "model")
    assert decision.message is not None and "auto, FAST" in decision.message
    assert model not in decision.message


def test_a_named_group_is_respected_and_a_mismatch_announced() -> None:
    below = decided(chat(REVIEW, "gemini-flash"))
    assert (below.group, below.fallbacks) == ("gemini-flash", ())
    assert any(warning.startswith("model_below_task:") for warning in below.warnings)
    above = decided(chat("Fix this typo", "claude-opus"))
    assert above.group == "claude-opus"
    assert any(warning.startswith("model_above_task:") for warning in above.warnings)
    assert decided(chat(REVIEW, "claude-opus")).warnings == ()
    assert decided(chat("Hello!", "claude-opus")).warnings == ()


def test_a_named_group_that_cannot_serve_is_refused_and_not_replaced() -> None:
    decision = decided(chat("Hello!", "claude-opus"), caller=Caller(allowed_groups=("minimax",)))
    assert (decision.code, decision.group) == ("no_feasible_model", None)


# ── the chain ────────────────────────────────────────────────────────────────────────────────────


def test_the_complex_chain_drops_gpt_4o_mini_on_quality() -> None:
    decision = decided(chat("Refactor this function"))
    assert decision.group == "claude-sonnet"
    assert decision.fallbacks == ("gemini-flash", "claude-opus")
    assert dropped(decision) == {"gpt-4o-mini": {"quality"}}


def test_the_fallbacks_are_the_feasible_rest_in_the_chains_order(tmp_path: Path) -> None:
    decision = decided(chat("Hello!", "NORMAL"))
    assert (decision.group, decision.fallbacks) == (
        "claude-haiku",
        ("gemini-flash", "claude-sonnet", "gpt-4o-mini"),
    )
    policy = variant(tmp_path, routing=category_edit("NORMAL", providers=["anthropic", "openai"]))
    decision = decided(chat("Hello!", "NORMAL"), policy)
    assert decision.fallbacks == ("claude-sonnet", "gpt-4o-mini")
    assert dropped(decision) == {"gemini-flash": {"providers"}}


def test_the_first_of_the_chain_that_is_feasible_wins(tmp_path: Path) -> None:
    policy = variant(tmp_path, routing=category_edit("NORMAL", providers=["gemini"]))
    assert decided(chat("Hello!", "NORMAL"), policy).group == "gemini-flash"


def test_priorities_reorder_only_where_the_policy_says_so(tmp_path: Path) -> None:
    weights = {"order": "priorities", "quality": 0, "cost": 1, "speed": 0}
    cheap = variant(
        tmp_path, routing=lambda data: data["categories"]["NORMAL"].update(priorities=weights)
    )
    decision = decided(chat("Hello!", "NORMAL"), cheap)
    costs = [c.cost.estimate_nano_usd for c in decision.candidates if c.cost is not None]
    assert costs == sorted(costs) and decision.group == "gpt-4o-mini"
    best = {**weights, "quality": 1, "cost": 0}
    strong = variant(
        tmp_path, routing=lambda data: data["categories"]["NORMAL"].update(priorities=best)
    )
    assert decided(chat("Hello!", "NORMAL"), strong).group == "claude-sonnet"


def test_a_key_for_a_category_may_use_its_chain_and_no_other() -> None:
    caller = Caller(allowed_groups=("FAST",))
    assert decided(chat("Hello!"), caller=caller).group == "gemini-flash"
    assert decided(chat(REVIEW), caller=caller).code == "no_feasible_model"
    assert decided(chat("Hello!", "claude-opus"), caller=caller).code == "no_feasible_model"


# ── refusals ─────────────────────────────────────────────────────────────────────────────────────


def test_no_feasible_model_tells_every_candidate_with_its_reason(tmp_path: Path) -> None:
    policy = variant(tmp_path, routing=category_edit("FAST", data_policy={"residency": ["eu"]}))
    decision = decided(chat("Hello!"), policy)
    assert (decision.code, decision.group) == ("no_feasible_model", None)
    for group in policy.groups.chain("FAST"):
        assert f"{group}: data_policy: needs processing in eu" in (decision.message or "")


def test_a_request_that_may_cost_too_much_is_refused_as_that(tmp_path: Path) -> None:
    policy = variant(tmp_path, budgets=lambda data: data.update(per_request_cap_usd=0.0001))
    assert decided(chat("Hello!"), policy).code == "per_call_cap_exceeded"
    policy = variant(tmp_path, routing=category_edit("FAST", cost_usd_max=0.0001))
    assert decided(chat("Hello!"), policy).code == "per_call_cap_exceeded"


def test_a_budget_of_a_model_caps_that_model_alone(tmp_path: Path) -> None:
    def edit(data: dict[str, Any]) -> None:
        data["budgets"]["flash"] = {"match": {"model": "gemini-flash"}, "limit_usd": 5,
                                    "per_request_cap_usd": 0.000001}  # fmt: skip

    decision = decided(chat("Hello!"), variant(tmp_path, budgets=edit))
    assert decision.group == "claude-haiku"
    assert dropped(decision) == {"gemini-flash": {"per_request_cap"}}


def test_embeddings_of_a_chain_of_text_models_find_no_model() -> None:
    view = read_request({"model": "auto", "input": "x"}, "aembedding")
    decision = decided(view)
    assert decision.code == "no_feasible_model"
    assert all(reasons == {"kind"} for reasons in dropped(decision).values())


# ── caps, shadow, the record ─────────────────────────────────────────────────────────────────────


def test_output_is_capped_by_the_category_where_the_caller_set_no_maximum(tmp_path: Path) -> None:
    assert decided(chat("Hello!")).output_tokens_cap == 1024
    assert decided(chat("Hello!", max_tokens=5_000)).output_tokens_cap is None
    capped = decided(chat("Hello!")).candidate("gemini-flash")
    assert capped is not None and capped.cost is not None
    assert capped.cost.output_tokens_max == 1024
    # No group of the chain may be asked for more than it can say.
    huge = variant(
        tmp_path, routing=lambda data: data["categories"]["FAST"].update(output_tokens_max=10**6)
    )
    limits = [huge.groups.groups[name].output_tokens_max for name in huge.groups.chain("FAST")]
    known = [limit for limit in limits if limit is not None]
    assert decided(chat("Hello!"), huge).output_tokens_cap == min(known)


def test_shadow_mode_changes_nothing_and_says_what_enforcement_would_do(tmp_path: Path) -> None:
    policy = variant(tmp_path, routing=lambda data: data.update(mode="shadow"))
    decision = decided(chat(REVIEW), policy)
    assert decision.mode is Mode.SHADOW
    assert (decision.group, decision.fallbacks) == ("claude-sonnet", ())
    assert decision.output_tokens_cap is None and decision.code is None
    assert decision.would is not None and decision.would.group == "claude-opus"
    assert decision.would.estimate_nano_usd > 0
    assert decided(chat(REVIEW, "FAST"), policy).group == "FAST"
    assert decided(chat(REVIEW, "minimax"), policy).group == "minimax"


def test_what_enforcement_would_refuse_is_sent_in_shadow_mode(tmp_path: Path) -> None:
    policy = variant(
        tmp_path,
        routing=lambda data: data.update(mode="shadow"),
        budgets=lambda data: data.update(per_request_cap_usd=0.0001),
    )
    decision = decided(chat("Hello!"), policy)
    assert decision.group == "claude-sonnet" and decision.would is not None
    assert (decision.would.group, decision.would.code) == (None, "per_call_cap_exceeded")


def test_one_category_can_be_in_shadow_alone(tmp_path: Path) -> None:
    policy = variant(
        tmp_path, routing=lambda data: data["categories"]["HIGH_COMPLEX"].update(mode="shadow")
    )
    assert decided(chat(REVIEW), policy).mode is Mode.SHADOW
    assert decided(chat("Hello!"), policy).mode is Mode.ENFORCE


def test_the_record_has_the_reasons_and_none_of_the_prompt() -> None:
    text = decided(chat("Refactor this: PROMPT", metadata={"tags": ["TAG"]}, user="USER")).to_json()
    data = json.loads(text)
    assert data["group"] == "claude-sonnet" and data["task_type"] == "refactoring"
    assert next(c for c in data["candidates"] if c["drops"])["reason"].startswith("quality")
    assert not any(secret in text for secret in ("PROMPT", "TAG", "USER"))


# ── for any input ────────────────────────────────────────────────────────────────────────────────

_TEXTS = st.sampled_from(
    ["Hello!", REVIEW, "Fix this typo", "Refactor it", FILLER * 300, FILLER * 2_000]
)
_CALLERS = st.builds(
    Caller,
    team=st.none() | st.just("docs"),
    user=st.none() | st.text(max_size=4),
    allowed_groups=st.lists(
        st.sampled_from(sorted(default_policy().groups.groups)), max_size=3
    ).map(tuple),
)
_FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "max_tokens": st.integers(1, 10**6),
        "n": st.integers(1, 128),
        "tools": st.just([{"type": "function", "function": {"name": "f"}}]),
        "metadata": st.fixed_dictionaries(
            {},
            optional={
                "task_type": st.sampled_from([*default_policy().routing.task_types, "?"]),
                "expected_output_tokens": st.integers(1, 10**6),
                "consequence": st.sampled_from(["low", "high"]),
            },
        ),
    },
)
_MODELS = st.sampled_from([*default_policy().requestable(), "nobody"])


def holds_together(view: RequestView, decision: Decision) -> None:
    kept = [c.group for c in decision.candidates if c.kept]
    for candidate in decision.candidates:
        assert candidate.kept is (candidate.reason == "")
        if candidate.cost is not None:
            assert candidate.cost.hold_nano_usd >= candidate.cost.estimate_nano_usd
    if decision.code is None:
        assert [decision.group, *decision.fallbacks] == kept
    else:
        assert decision.group is None and decision.fallbacks == () and decision.message
    ranks = default_policy().routing.category_ranks
    assert ranks[decision.category] >= ranks[decision.floor]
    if view.model == "auto":
        assert ranks[decision.category] >= ranks[decision.category_by_tokens]


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(text=_TEXTS, model=_MODELS, fields=_FIELDS, caller=_CALLERS, mean=st.floats(0, 1e5))
def test_any_request_gets_a_kept_winner_or_a_code_and_always_the_same(
    text: str, model: str, fields: dict[str, Any], caller: Caller, mean: float
) -> None:
    view = chat(text, model, **fields)
    learned = {"security_review|claude-opus": LearnedOutput(mean, mean, 9)}
    decision = decided(view, None, caller, learned)
    holds_together(view, decision)
    assert decided(view, None, caller, learned) == decision
    assert json.loads(decision.to_json())["category"] == decision.category
