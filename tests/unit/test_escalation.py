"""A budget that is used up refuses a request: what is tried then, and that it is all on record."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from budgets.home import Home
from budgets.inflight import InFlight
from budgets.journal import Journal
from budgets.memory import MemoryLedger
from budgets.outage import Outage
from budgets.runtime import Runtime
from budgets.sweeper import Sweeper
from hooks.admission import Refused
from hooks.case import Incoming
from hooks.governor import Governor
from hooks.policy import Policy
from hooks.worker import Worker
from tests.support.policies import chat, decided, default_policy, price_map, variant

NOW_MS = int(datetime(2026, 11, 21, tzinfo=UTC).timestamp() * 1000)
CENT = 10_000_000
FIRST, SECOND = "gemini-flash", "claude-haiku"


def policy_with(folder: Path, escalation: dict[str, Any] | None = None, **limits: float) -> Policy:
    """Return the default policy with a tight budget for each of the groups named."""

    def edit(data: dict[str, Any]) -> None:
        for group, limit_usd in limits.items():
            name = group.replace("_", "-")
            data["budgets"][f"only-{name}"] = {
                "match": {"model": name},
                "limit_usd": limit_usd,
                "period": "month",
            }
        if escalation is not None:
            data["escalation"] = escalation

    return variant(folder, budgets=edit)


async def governor(policy: Policy, ledger: MemoryLedger, folder: Path) -> Governor:
    await ledger.publish(policy.budgets.published())
    paths = policy.paths
    home = Home(folder, paths.litellm, paths.routing, paths.budgets, None, "test")
    outage = Outage(ledger, Journal.open(folder), folder)
    runtime = Runtime(ledger, InFlight(ledger, 60_000), Sweeper(ledger), outage)
    return Governor(
        Worker(home, policy, price_map(), lambda _: True, runtime=runtime), lambda: NOW_MS
    )


def incoming(model: str = "auto") -> Incoming:
    body = {"model": model, "messages": [{"role": "user", "content": "Fix this typo: teh"}]}
    return Incoming(body, "acompletion", frozenset(body), {}, "key", None, None, "caller", ())


async def decision_of(ledger: MemoryLedger, decision_id: str) -> dict[str, Any]:
    stored = await ledger.decision(decision_id)
    assert stored is not None
    found: dict[str, Any] = json.loads(stored)
    return found


def test_the_request_of_these_tests_has_the_chain_that_they_mean() -> None:
    assert default_policy().groups.chain("FAST") == (FIRST, SECOND, "gpt-4o-mini")


async def test_the_next_group_serves_and_the_answer_says_so(tmp_path: Path) -> None:
    ledger = MemoryLedger(lambda: NOW_MS)
    asking = await governor(policy_with(tmp_path, gemini_flash=0.000001), ledger, tmp_path)
    admission = await asking.admit(incoming())
    assert (admission.group, admission.fallbacks) == (SECOND, ("gpt-4o-mini",))
    assert admission.headers["x-farebox-model"] == SECOND
    assert "escalated: only-gemini-flash" in admission.headers["x-farebox-warning"]
    decision = await decision_of(ledger, admission.headers["x-farebox-decision"])
    assert decision["group"] == SECOND
    (step,) = decision["escalation"]
    assert (step["step"], step["outcome"], step["group"]) == ("next_group", "taken", SECOND)


async def test_a_group_asked_for_by_name_is_refused_and_not_replaced(tmp_path: Path) -> None:
    ledger = MemoryLedger(lambda: NOW_MS)
    asking = await governor(policy_with(tmp_path, gemini_flash=0.000001), ledger, tmp_path)
    with pytest.raises(Refused) as refused:
        await asking.admit(incoming(FIRST))
    assert refused.value.refusal.code.value == "budget_exceeded"


async def test_what_was_tried_stands_in_the_refusal_and_in_its_decision(tmp_path: Path) -> None:
    ledger = MemoryLedger(lambda: NOW_MS)
    policy = policy_with(
        tmp_path, gemini_flash=0.000001, claude_haiku=0.000001, gpt_4o_mini=0.000001
    )
    asking = await governor(policy, ledger, tmp_path)
    with pytest.raises(Refused) as refused:
        await asking.admit(incoming())
    refusal = refused.value.refusal
    # The arithmetic is that of the group that policy prefers; the others are named below it.
    assert refusal.detail["budget"] == "only-gemini-flash"
    tried = refusal.detail["escalation"]
    assert len(tried) == 2 and "only-claude-haiku has no room" in tried[0]
    decision = await decision_of(ledger, refused.value.decision_id)
    assert [step["group"] for step in decision["escalation"]] == [SECOND, "gpt-4o-mini"]
    assert decision["group"] == FIRST


async def test_a_cheaper_group_is_found_in_what_is_left(tmp_path: Path) -> None:
    """Nothing is asked of Redis for the groups that cannot fit by the refusal's own figures."""
    asked: list[str] = []

    class Watched(MemoryLedger):
        async def hold(self, request: Any) -> Any:
            asked.append(request.hold_id)
            return await super().hold(request)

    usual = decided(chat("Fix this typo: teh", max_tokens=200))
    holds = {c.group: c.cost.hold_nano_usd for c in usual.candidates if c.cost is not None}
    cheapest = min(holds, key=lambda group: holds[group])
    assert usual.group != cheapest

    def edit(data: dict[str, Any]) -> None:
        data["budgets"]["FAST"]["limit_usd"] = holds[cheapest] / 1e9

    ledger = Watched(lambda: NOW_MS)
    asking = await governor(variant(tmp_path, budgets=edit), ledger, tmp_path)
    body = incoming()
    body.data["max_tokens"] = 200
    admission = await asking.admit(body)
    (state,) = await ledger.states([("FAST", "FAST", "2026-11")])
    assert (admission.group, state.held_nano_usd) == (cheapest, holds[cheapest])
    decision = await decision_of(ledger, admission.headers["x-farebox-decision"])
    steps = {step["group"]: step["outcome"] for step in decision["escalation"]}
    assert steps.pop(cheapest) == "taken" and set(steps.values()) <= {"dropped"}
    assert len(asked) == 2


@pytest.mark.parametrize(
    "escalation",
    [
        {"default": []},
        {"categories": {"FAST": []}},
        {"categories": {"FAST": ["next_group"]}, "budgets": {"only-gemini-flash": []}},
    ],
)
async def test_the_nearest_list_of_steps_counts(tmp_path: Path, escalation: dict[str, Any]) -> None:
    ledger = MemoryLedger(lambda: NOW_MS)
    policy = policy_with(tmp_path, escalation, gemini_flash=0.000001)
    asking = await governor(policy, ledger, tmp_path)
    with pytest.raises(Refused) as refused:
        await asking.admit(incoming())
    assert "escalation" not in refused.value.refusal.detail


# ── loans ────────────────────────────────────────────────────────────────────────────────────────


def lending(folder: Path, up_to_usd: float, lender_usd: float = 200) -> Policy:
    """Return the default policy with nothing in FAST's own budget and a loan from NORMAL's."""

    def edit(data: dict[str, Any]) -> None:
        data["budgets"]["FAST"]["limit_usd"] = 0.000001
        data["budgets"]["NORMAL"]["limit_usd"] = lender_usd
        data["escalation"] = {
            "default": ["loan"],
            "loans": [{"from": "NORMAL", "to": "FAST", "up_to_usd": up_to_usd}],
        }

    return variant(folder, budgets=edit)


async def granted(ledger: MemoryLedger, budget: str) -> int:
    (state,) = await ledger.states([(budget, budget, "2026-11")])
    return state.granted_nano_usd


async def test_a_budget_borrows_what_another_has_not_used(tmp_path: Path) -> None:
    ledger = MemoryLedger(lambda: NOW_MS)
    asking = await governor(lending(tmp_path, up_to_usd=1), ledger, tmp_path)
    admission = await asking.admit(incoming())
    assert admission.group == FIRST
    assert await granted(ledger, "FAST") == CENT * 10 == -await granted(ledger, "NORMAL")
    decision = await decision_of(ledger, admission.headers["x-farebox-decision"])
    (step,) = decision["escalation"]
    assert (step["step"], step["outcome"]) == ("loan", "taken")
    assert step["detail"] == "borrowed $0.1 from NORMAL"
    (grant,) = await ledger.grants("2026-11")
    assert (grant.actor, grant.kind.value) == ("escalation", "transfer")
    # What was borrowed bears the next requests: they need no loan of their own.
    await asking.admit(incoming())
    assert len(await ledger.grants("2026-11")) == 1


async def test_no_more_is_lent_than_the_policy_says_however_many_ask_at_once(
    tmp_path: Path,
) -> None:
    ledger = MemoryLedger(lambda: NOW_MS)
    asking = await governor(lending(tmp_path, up_to_usd=0.03), ledger, tmp_path)
    answers = await asyncio.gather(
        *(asking.admit(incoming()) for _ in range(30)), return_exceptions=True
    )
    admitted = [it for it in answers if not isinstance(it, BaseException)]
    (state,) = await ledger.states([("FAST", "FAST", "2026-11")])
    assert 0 < state.granted_nano_usd <= 3 * CENT
    assert state.held_nano_usd <= state.bearable_nano_usd
    refused = [it for it in answers if isinstance(it, Refused)]
    assert admitted and len(admitted) + len(refused) == 30
    # What others hold of a loan comes back: whoever finds it held is told to try again.
    assert {it.refusal.code.value for it in refused} == {"budget_busy"}


async def test_a_request_that_needs_more_than_may_be_lent_gets_nothing(tmp_path: Path) -> None:
    ledger = MemoryLedger(lambda: NOW_MS)
    asking = await governor(lending(tmp_path, up_to_usd=0.001), ledger, tmp_path)
    with pytest.raises(Refused) as refused:
        await asking.admit(incoming())
    assert "it may lend $0.001 more" in refused.value.refusal.detail["escalation"][0]
    assert await ledger.grants("2026-11") == ()


async def test_a_lender_that_has_nothing_left_lends_nothing(tmp_path: Path) -> None:
    ledger = MemoryLedger(lambda: NOW_MS)
    asking = await governor(lending(tmp_path, 1, lender_usd=0.000001), ledger, tmp_path)
    with pytest.raises(Refused) as refused:
        await asking.admit(incoming())
    assert refused.value.refusal.code.value == "budget_exceeded"
    assert "NORMAL has $0.000001 left" in refused.value.refusal.detail["escalation"][0]
    assert await ledger.grants("2026-11") == ()


# ── approval ─────────────────────────────────────────────────────────────────────────────────────


async def test_the_steps_go_on_after_a_ticket_was_opened(tmp_path: Path) -> None:
    ledger = MemoryLedger(lambda: NOW_MS)

    def edit(data: dict[str, Any]) -> None:
        data["budgets"]["FAST"]["limit_usd"] = 0.000001
        data["escalation"] = {"categories": {"FAST": ["next_group", "approval", "queue"]}}

    def permit(data: dict[str, Any]) -> None:
        data["categories"]["FAST"]["queue"] = {}

    asking = await governor(variant(tmp_path, budgets=edit, routing=permit), ledger, tmp_path)
    body = incoming()
    body.data["metadata"] = {"queue": True}
    with pytest.raises(Refused) as refused:
        await asking.admit(body)
    refusal = refused.value.refusal
    # This governor has no queue to put it in, and says so; the ticket stands all the same.
    assert refusal.code.value == "approval_required"
    assert refusal.detail["approval_id"] and refusal.detail["queue"] == "unavailable"
    decision = await decision_of(ledger, refused.value.decision_id)
    assert [step["step"] for step in decision["escalation"]] == [
        "next_group",
        "next_group",
        "approval",
        "queue",
    ]
