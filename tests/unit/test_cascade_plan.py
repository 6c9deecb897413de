"""What a gated request may send, in which order, and why a cascade is left out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from budgets import money
from budgets.learned import Learned
from hooks.cascade.plan import Plan, Planned, plan, wanted
from hooks.policy import Policy
from hooks.shadow_compare.caps import KEY_NAME
from hooks.tokens import count_request
from tests.support.policies import NOBODY, chat, decided, default_policy, variant

CASCADE = {"steps": ["gpt-4o-mini"], "gate": {"kind": "agreement", "group": "claude-haiku"}}
GATE = {"kind": "label", "labels": ["yes", "no"]}


def policy_with(folder: Path, task: Mapping[str, Any], **top: Any) -> Policy:
    def edit(data: dict[str, Any]) -> None:
        data["task_types"]["code_generation"].update(task)
        data.update(top)

    return variant(folder, routing=edit)


def planned(policy: Policy, task_type: str = "code_generation", **fields: Any) -> Planned:
    metadata = {"task_type": task_type, **fields.pop("metadata", {})}
    view = chat("Write it.", metadata=metadata, **fields)
    decision = decided(view, policy)
    return plan(policy, view, count_request(view), NOBODY, Learned(), decision)


def groups(made: Plan | None) -> list[str]:
    assert made is not None
    return [rung.group for rung in made.rungs]


def test_a_task_type_without_gate_is_not_planned() -> None:
    policy = default_policy()
    decision = decided(chat("Hello"), policy)
    assert not wanted(policy, decision)


def test_a_high_consequence_always_has_a_gate() -> None:
    made = planned(default_policy(), "lookup_retrieval", metadata={"consequence": "high"}).plan
    assert made is not None
    assert made.least[0].gate is not None and made.least[0].gate.kind == "complete"


def test_the_steps_come_before_the_decided_group(tmp_path: Path) -> None:
    found = planned(policy_with(tmp_path, {"cascade": CASCADE}))
    assert groups(found.plan) == ["gpt-4o-mini", "claude-sonnet"]
    assert found.decision.group == "claude-sonnet"
    assert found.plan is not None and set(found.plan.calls) == {"claude-haiku"}


def test_a_tier_is_its_cheapest_group(tmp_path: Path) -> None:
    cascade = {**CASCADE, "steps": ["execute"]}
    assert groups(planned(policy_with(tmp_path, {"cascade": cascade})).plan)[0] == "gpt-4o-mini"


def test_escalating_goes_up_the_chain_so_far(tmp_path: Path) -> None:
    gate = {**GATE, "on_fail": "escalate", "escalations_max": 2}
    made = planned(policy_with(tmp_path, {"gate": gate})).plan
    decision = planned(policy_with(tmp_path, {"gate": gate})).decision
    assert groups(made) == [decision.group, *decision.fallbacks[:2]]
    only = planned(policy_with(tmp_path, {"gate": GATE})).plan
    assert groups(only) == [decision.group]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"metadata": {"consequence": "high"}}, "the consequence is high"),
        ({"model": "claude-sonnet"}, "the group was named"),
        ({"n": 2}, "several answers were asked for"),
    ],
)
def test_a_cascade_is_left_out_with_the_reason(
    tmp_path: Path, fields: dict[str, Any], reason: str
) -> None:
    found = planned(policy_with(tmp_path, {"cascade": CASCADE}), **fields)
    assert f"cascade_skipped: {reason}" in found.decision.warnings
    assert found.plan is None or groups(found.plan) == [found.decision.group]


def test_a_cascade_beyond_what_one_request_may_cost_is_left_out(tmp_path: Path) -> None:
    alone = planned(default_policy()).decision.candidate("claude-sonnet")
    assert alone is not None and alone.cost is not None
    limit = money.plain(alone.cost.hold_nano_usd + 1_000)

    def category(data: dict[str, Any]) -> None:
        data["task_types"]["code_generation"]["cascade"] = CASCADE
        data["categories"]["COMPLEX"]["constraints"]["cost_usd_max"] = limit

    found = planned(variant(tmp_path, routing=category))
    assert found.decision.group == "claude-sonnet"
    assert any("more than one request may" in it for it in found.decision.warnings)


@pytest.mark.parametrize(
    ("streams", "buffer", "outcome"),
    [
        (None, False, "not_gated"),
        (None, True, "buffered"),
        ("buffer", False, "buffered"),
        ("refuse", False, "refused"),
    ],
)
def test_a_stream_is_passed_buffered_or_refused(
    tmp_path: Path, streams: str | None, buffer: bool, outcome: str
) -> None:
    gate = GATE if streams is None else {**GATE, "streams": streams}
    policy = policy_with(tmp_path, {"gate": gate})
    found = planned(policy, stream=True, metadata={"buffer": buffer})
    match outcome:
        case "not_gated":
            assert found.plan is None and "not_gated" in found.decision.warnings[-1]
        case "buffered":
            assert found.plan is not None and found.plan.buffered
        case _:
            assert found.decision.code == "unsupported_request"
            assert found.decision.group is None


def test_a_stream_of_high_consequence_is_buffered(tmp_path: Path) -> None:
    policy = policy_with(tmp_path, {}, gates={"high_consequence": GATE})
    found = planned(policy, "security_review", stream=True)
    assert found.plan is not None and found.plan.buffered
    assert planned(default_policy(), "security_review", stream=True).plan is None


def test_a_guessed_task_type_takes_nobodys_stream_away(tmp_path: Path) -> None:
    policy = policy_with(tmp_path, {}, gates={"high_consequence": GATE})
    view = chat("Do a security review of this login form.", stream=True)
    decision = decided(view, policy)
    assert (decision.consequence, decision.task_source) == ("high", "classifier")
    found = plan(policy, view, count_request(view), NOBODY, Learned(), decision)
    assert found.plan is None
    assert "not_gated" in found.decision.warnings[-1]


def test_a_gate_that_one_request_may_not_pay_refuses(tmp_path: Path) -> None:
    def edit(data: dict[str, Any]) -> None:
        data["task_types"]["code_generation"]["gate"] = {"kind": "verifier", "group": "claude-opus"}
        data["categories"]["COMPLEX"]["constraints"]["cost_usd_max"] = 0.13

    found = planned(variant(tmp_path, routing=edit))
    assert found.decision.code in ("per_call_cap_exceeded", "no_feasible_model")
    assert found.decision.group is None


def test_shadow_mode_judges_without_consequences(tmp_path: Path) -> None:
    policy = policy_with(tmp_path, {"gate": GATE, "cascade": CASCADE}, mode="shadow")
    made = planned(policy).plan
    assert made is not None and not made.enforced and len(made.rungs) == 1


def test_a_comparisons_cap_is_a_budget_of_its_own_key(tmp_path: Path) -> None:
    shadow = {"sample": 0.5, "group": "gpt-4o-mini", "cap_usd": 3}
    policy = policy_with(tmp_path, {"gate": GATE, "shadow_compare": shadow})
    cap = policy.budgets.budgets["shadow_compare.code_generation"]
    assert cap.limit_nano_usd == 3_000_000_000
    assert cap.match.key == (KEY_NAME,)
    assert "shadow_compare.code_generation" in {it.rule for it in policy.budgets.published().rules}
