"""Each hard condition drops a group with its own reason, and only then."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest

from budgets.matching import Cap
from budgets.prices import UnknownPrice
from hooks.categories import Constraints, DataPolicy, QualityFloor
from hooks.constraints import Drop, Judged, drops, expected_latency_ms
from hooks.estimate import CostEstimate
from hooks.groups import Group
from hooks.request import RequestView, read_request
from tests.support.policies import chat, default_policy

POLICY = default_policy()
COST = CostEstimate(
    input_tokens=1_000, input_tokens_max=2_000, output_tokens=500, output_tokens_max=4_000,
    estimate_nano_usd=5_000_000, hold_nano_usd=50_000_000,
)  # fmt: skip
PLAIN = chat("x")
EMBED = read_request({"model": "e", "input": "x"}, "aembedding")


@dataclass(frozen=True)
class Situation:
    """A group that meets everything; each test takes one thing away."""

    group: str = "claude-sonnet"
    view: RequestView = PLAIN
    cost: CostEstimate | None = COST
    cap: Cap | None = None
    allowed: tuple[str, ...] = ()
    named: bool = False

    def drops(self, group: Group | None = None, facts: Any = "known", **limits: Any) -> list[Drop]:
        category = POLICY.routing.categories["NORMAL"]
        judged = Judged(
            group=group or POLICY.groups.groups[self.group],
            facts=POLICY.facts(self.group) if facts == "known" else facts,
            category=category.model_copy(update={"constraints": Constraints(**limits)}),
            embeds=self.view.embeds,
            needs=self.view.needs,
            choices=self.view.choices,
            several_prompts=self.view.prompts > 1,
            cap=self.cap,
            allowed_groups=self.allowed,
            respect_name=self.named,
        )
        return list(drops(judged, self.cost))

    def reason(self, **given: Any) -> str:
        (drop,) = self.drops(**given)
        return str(drop)


def deployed(group: str, **changes: Any) -> Group:
    found = POLICY.groups.groups[group]
    return replace(found, deployments=tuple(replace(d, **changes) for d in found.deployments))


def test_a_group_that_meets_everything_is_kept() -> None:
    assert Situation().drops() == []


def test_price() -> None:
    unknown = deployed("claude-sonnet", price=UnknownPrice("the price map does not have the model"))
    reason = replace(Situation(), cost=None).reason(group=unknown)
    assert reason.startswith("price: needs a known price, has anthropic/claude-sonnet-5-5")


def test_the_keys_groups() -> None:
    assert Situation(allowed=("claude-sonnet",)).drops() == []
    reason = Situation(allowed=("minimax", "claude-haiku")).reason()
    assert reason == "key: needs one of minimax, claude-haiku, has claude-sonnet"


def test_kind() -> None:
    embeds = deployed("claude-sonnet", embeds=True)
    assert Situation().reason(group=embeds) == ("kind: needs a text model, has an embedding model")
    assert Situation(view=EMBED).reason() == "kind: needs an embedding model, has a text model"


def test_capabilities_of_the_request_and_of_the_category() -> None:
    blind = deployed("claude-sonnet", capabilities=frozenset({"tools"}))
    image = {"type": "image_url", "image_url": {"url": "data:,"}}
    asking = Situation(view=chat([image]))
    assert asking.drops() == []
    assert asking.reason(group=blind) == "capabilities: needs vision, has tools"
    assert Situation().reason(group=blind, capabilities=("reasoning", "tools")) == (
        "capabilities: needs reasoning, has tools"
    )


def test_the_policys_facts_about_capabilities_come_before_the_maps() -> None:
    facts = POLICY.facts("claude-sonnet")
    assert facts is not None
    told = facts.model_copy(update={"capabilities": ("vision",)})
    assert "needs tools" in Situation().reason(facts=told, capabilities=("tools",))


def test_what_a_model_that_nobody_knows_can_do_is_left_to_its_provider() -> None:
    stranger = deployed("claude-sonnet", known=False, capabilities=frozenset())
    assert Situation().drops(group=stranger, capabilities=("tools",)) == []


def test_data_policy() -> None:
    allowed = DataPolicy(residency=("global", "eu"))
    assert Situation().drops(data_policy=allowed) == []
    # MiniMax may process in China: all of its places must be allowed.
    assert Situation(group="minimax").reason(data_policy=allowed) == (
        "data_policy: needs processing in global, eu, has global, cn"
    )
    assert "has unknown" in Situation().reason(facts=None, data_policy=allowed)


def test_quality_and_a_score_that_is_not_known() -> None:
    floor = QualityFloor(benchmark="swe_bench_verified", min=80)
    assert Situation(group="claude-opus").drops(quality=floor) == []
    assert Situation().reason(quality=floor) == ("quality: needs swe_bench_verified 80, has 79.6")
    unknown = QualityFloor(benchmark="nobody_ran_it", min=1)
    assert "has quality unknown" in Situation().reason(quality=unknown)
    assert "has quality unknown" in Situation().reason(facts=None, quality=floor)


def test_latency_and_a_speed_that_is_not_known() -> None:
    # 1,200 ms to the first token and 500 tokens at 80 a second.
    assert expected_latency_ms(POLICY.facts("claude-sonnet"), COST) == 7_450
    assert Situation().drops(latency_p50_ms_max=7_450) == []
    assert Situation().reason(latency_p50_ms_max=7_449) == (
        "latency: needs 7449 ms, has 7450 ms expected"
    )
    assert Situation().drops(facts=None, latency_p50_ms_max=1) == []


def test_providers() -> None:
    assert Situation().drops(providers=("anthropic", "openai")) == []
    assert Situation().reason(providers=("openai",)) == "providers: needs openai, has anthropic"


@pytest.mark.parametrize(
    ("window", "kept"), [(5_000, True), (4_999, False), (1_875, False), (100_000, True)]
)
def test_the_largest_answer_must_fit_the_window(window: int, kept: bool) -> None:
    """1,000 in and at most 4,000 out."""
    small = deployed("claude-sonnet", context_tokens=window)
    assert (Situation().drops(group=small) == []) is kept


@pytest.mark.parametrize(("window", "kept"), [(12_500, True), (12_490, False)])
def test_the_likely_size_must_leave_a_fifth_of_the_window_free(window: int, kept: bool) -> None:
    small = deployed("claude-sonnet", context_tokens=window)
    cost = replace(COST, input_tokens=9_500, output_tokens=500, output_tokens_max=500)
    found = Situation(cost=cost).drops(group=small)
    assert (found == []) is kept
    if found:
        assert str(found[0]) == (
            "context: needs 9500 tokens in, 500 to 500 out, has 9992 of 12490 (guard 80%)"
        )


def test_each_of_several_answers_has_the_window_to_itself() -> None:
    small = deployed("claude-sonnet", context_tokens=5_000)
    eight = replace(COST, output_tokens=8 * 500, output_tokens_max=8 * 4_000)
    assert Situation(view=chat("x", n=8), cost=eight).drops(group=small) == []


def test_several_prompts_are_not_summed_up_against_one_window() -> None:
    """A batch of texts to embed: each has the window to itself."""
    group = deployed("claude-sonnet", embeds=True, context_tokens=8_191)
    many = read_request({"model": "e", "input": ["a", "b"]}, "aembedding")
    cost = replace(COST, input_tokens=50_000, output_tokens=0, output_tokens_max=0)
    assert Situation(view=many, cost=cost).drops(group=group) == []
    assert "context" in Situation(view=EMBED, cost=cost).reason(group=group)


def test_an_unknown_window_is_left_to_the_provider() -> None:
    assert Situation().drops(group=deployed("claude-sonnet", context_tokens=None)) == []


def test_cost_a_call() -> None:
    assert Situation().drops(cost_usd_max=0.05) == []
    assert Situation().reason(cost_usd_max=0.0499) == (
        "cost: needs at most $0.0499 a call, has $0.05 at most"
    )


def test_the_cap_of_a_request_names_its_budget() -> None:
    assert Situation(cap=Cap(50_000_000, None)).drops() == []
    assert Situation(cap=Cap(10_000_000, "team-a")).reason() == (
        "per_request_cap: needs at most $0.01 a request of budget team-a, has $0.05 at most"
    )


def test_a_named_group_is_held_only_to_what_would_make_the_call_impossible_or_too_dear() -> None:
    named = Situation(group="gpt-4o-mini", named=True, allowed=("minimax",))
    found = named.drops(
        quality=QualityFloor(benchmark="swe_bench_verified", min=99), latency_p50_ms_max=1,
        providers=("anthropic",), cost_usd_max=0.01, data_policy=DataPolicy(residency=("eu",)),
    )  # fmt: skip
    assert [drop.constraint for drop in found] == ["key", "data_policy", "cost"]


def test_every_failed_constraint_is_told() -> None:
    found = Situation(allowed=("minimax",)).drops(providers=("openai",), cost_usd_max=0.01)
    assert [drop.constraint for drop in found] == ["key", "providers", "cost"]
