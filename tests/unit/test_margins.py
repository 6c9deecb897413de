"""Which margins a request is held with: the policy's at first, then what was learned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from budgets.learned import Learned, LearnedInput
from hooks.margins import GROUP_REQUESTS_MIN, input_factors, input_terms, is_fair, learning_keys
from hooks.policy import Policy
from hooks.request import read_request
from tests.support.policies import chat, decided, default_policy, variant

HAIKU = "claude-haiku"
MANY = GROUP_REQUESTS_MIN


def factors(
    name: str = HAIKU, policy: Policy | None = None, **inputs: LearnedInput
) -> tuple[float, float]:
    """The factors of a group; `group` and `provider` are what is known of either."""
    policy = policy or default_policy()
    group = policy.groups.groups[name]
    keys = {"group": f"group:{group.primary or name}", "provider": f"provider:{group.provider}"}
    known = Learned(inputs={keys[what]: it for what, it in inputs.items()})
    found = input_factors(policy.routing, group, known)
    return found.likely, found.bound


def test_without_any_observation_the_policys_figures_hold() -> None:
    assert factors() == (1.2, 1.9)


def test_a_groups_own_bound_counts_once_enough_was_seen() -> None:
    provider = LearnedInput(1.3, 2.2, 10_000)
    assert factors(group=LearnedInput(1.25, 1.7, MANY), provider=provider) == (1.25, 1.7)
    assert factors(group=LearnedInput(1.25, 1.7, MANY - 1), provider=provider) == (1.25, 2.2)


def test_a_new_group_has_at_least_the_policys_bound_whatever_its_provider_has_shown() -> None:
    assert factors(provider=LearnedInput(1.1, 1.6, 10_000)) == (1.1, 1.9)
    assert factors(provider=LearnedInput(1.4, 2.4, 10_000)) == (1.4, 2.4)


def test_what_was_learned_stays_within_the_policys_ends_when_the_policy_is_edited() -> None:
    assert factors(group=LearnedInput(9.0, 90.0, MANY)) == (1.9 + 1.5, 1.9 + 1.5)
    assert factors(group=LearnedInput(0.01, 0.02, MANY)) == pytest.approx((0.6, 1.55))


def test_a_category_is_held_like_its_base_group() -> None:
    policy = default_policy()
    base = policy.groups.groups["FAST"].primary
    assert base is not None
    known = LearnedInput(1.3, 1.5, MANY)
    assert factors("FAST", group=known) == factors(base, group=known)


def test_learning_can_be_switched_off(tmp_path: Path) -> None:
    def edit(data: dict[str, Any]) -> None:
        data["providers"]["anthropic"]["learn"] = False

    policy = variant(tmp_path, routing=edit)
    assert factors(policy=policy, group=LearnedInput(1.3, 3.0, MANY)) == (1.2, 1.9)
    group = policy.groups.groups[HAIKU]
    assert input_terms(policy.routing, group, 10, 0, fair=True).keys == ()


def test_a_group_with_figures_of_its_own_says_nothing_about_its_provider() -> None:
    policy = default_policy()
    groups = policy.groups.groups
    assert learning_keys(policy.routing, groups[HAIKU]) == (
        "group:claude-haiku", "provider:anthropic",
    )  # fmt: skip
    assert learning_keys(policy.routing, groups["claude-sonnet"]) == ("group:claude-sonnet",)


@pytest.mark.parametrize(
    ("content", "counted", "teaches"),
    [
        ("plain text", 100, True),
        ("plain text", 0, False),
        ([{"type": "image_url", "image_url": {"url": "https://x/y.png"}}], 100, False),
        ([{"type": "file", "file": {"file_id": "f"}}], 100, False),
    ],
)
def test_only_plain_requests_teach(content: object, counted: int, teaches: bool) -> None:
    policy = default_policy()
    group = policy.groups.groups[HAIKU]
    terms = input_terms(policy.routing, group, counted, 0, fair=is_fair(chat(content)))
    assert bool(terms.keys) is teaches and terms.counted_tokens == counted


def test_a_learned_margin_reaches_the_decision() -> None:
    view = chat("x " * 500, "claude-haiku", max_tokens=10)
    usual = decided(view).candidate(HAIKU)
    known = {"group:claude-haiku": LearnedInput(1.6, 2.6, MANY)}
    learned = decided(view, inputs=known).candidate(HAIKU)
    assert usual is not None and usual.cost is not None
    assert learned is not None and learned.cost is not None
    counted = decided(view).input_tokens
    assert learned.cost.input_tokens == pytest.approx(counted * 1.6, abs=1)
    assert learned.cost.input_tokens_max - usual.cost.input_tokens_max == pytest.approx(
        counted * 0.7, abs=1
    )
    assert learned.cost.hold_nano_usd > usual.cost.hold_nano_usd


MARK = {"type": "ephemeral"}


@pytest.mark.parametrize(
    "body",
    [
        {"cache_control": MARK},
        {"messages": [{"role": "user", "content": "x", "cache_control": MARK}]},
        {"messages": [{"role": "user", "content": [
            {"type": "text", "text": "x", "cache_control": MARK}]}]},
        {"messages": [{"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": "u"}, "cache_control": MARK}]}]},
        {"messages": [{"role": "user", "content": [
            {"type": "tool_result", "content": [{"type": "text", "text": "x",
                                                 "cache_control": MARK}]}]}]},
        {"tools": [{"type": "function", "function": {"name": "f"}, "cache_control": MARK}]},
        {"tools": [{"type": "function", "function": {"name": "f", "cache_control": MARK}}]},
        {"enable_prompt_caching": True},
        {"cache_control_injection_points": [{"location": "message", "role": "system"}]},
        {"extra_body": {"x": 1}},
    ],
)  # fmt: skip
def test_a_request_that_may_write_to_a_cache_is_seen(body: dict[str, Any]) -> None:
    plain = {"model": "auto", "messages": [{"role": "user", "content": "x"}]}
    assert read_request(plain | body, "acompletion").caches
    assert not read_request(plain, "acompletion").caches


def test_a_system_text_of_anthropics_shape_can_ask_for_the_cache() -> None:
    body = {
        "model": "auto", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}],
        "system": [{"type": "text", "text": "s", "cache_control": MARK}],
    }  # fmt: skip
    assert read_request(body, "anthropic_messages").caches


@pytest.mark.parametrize("everywhere", [True, False])
def test_a_group_for_which_litellm_asks_is_held_with_the_price_of_writes(
    tmp_path: Path, everywhere: bool
) -> None:
    def edit(data: dict[str, Any]) -> None:
        if everywhere:
            data["litellm_settings"]["enable_anthropic_prompt_caching"] = True
            return
        for entry in data["model_list"]:
            if entry["model_name"] == HAIKU:
                entry["litellm_params"]["enable_prompt_caching"] = True

    view = chat("x", HAIKU, max_tokens=5)
    usual, asked = decided(view), decided(view, variant(tmp_path, litellm=edit))
    holds = [
        found.cost.hold_nano_usd
        for decision in (usual, asked)
        if (found := decision.candidate(HAIKU)) and found.cost
    ]
    assert holds[1] > holds[0]
