"""Shadow comparisons: beside the live answer, within their cap, each with an entry of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from budgets.connection import connect
from hooks.shadow_compare import rows
from scripts.simulator.process import SimulatorProcess
from tests.e2e.test_gates import FLASH, HAIKU, MINI, chat, messages, models, responses, said
from tests.support.proxy import wait_until
from tests.support.stack import Stack


@pytest.fixture(autouse=True)
def _no_script(simulator: SimulatorProcess) -> None:
    simulator.reset()


def all_rows(stack: Stack) -> list[dict[str, Any]]:
    async def read() -> list[dict[str, Any]]:
        client = connect(stack.books._url)
        try:
            return [row async for row in rows.read(client, stack.ledger)]
        finally:
            await client.aclose()

    return asyncio.run(read())


@pytest.mark.parametrize(
    ("ask", "stream"), [(chat, False), (chat, True), (responses, False), (messages, True)]
)
def test_a_request_is_sent_elsewhere_after_its_answer(
    stack: Stack, ask: Callable[..., Any], stream: bool
) -> None:
    before = len(all_rows(stack))
    seen = max((call["seq"] for call in stack.simulator.calls()), default=0)
    stack.simulator.script(FLASH, "answer=bad")
    stack.simulator.script(HAIKU, "answer=good delay_ms=1000")
    with stack.accounting(entries=2, wait_s=15) as account:
        answer = ask(stack, "compared", stream=stream)
        if stream:
            list(answer.parse())
        else:
            assert said(answer) == "bad"
        assert HAIKU not in {call["model"] for call in stack.simulator.calls(seen)}
        made = account()
    assert models(made) == [FLASH, HAIKU]
    assert made.charged == made.billed
    live, other = made.lines
    assert "shadow_compare" in other.marks
    assert other.body["shadow_of"] == live.body["decision_id"]
    assert other.body["serving_group"] == "claude-haiku"
    assert any(b == "shadow_compare.compared" for b, _ in other.entry.charges)
    assert all(b != "shadow_compare.compared" for b, _ in live.entry.charges)
    found = wait_until(lambda: all_rows(stack)[before:], what="two rows")
    assert [(row["group"], row["passed"]) for row in found] == [
        ("gemini-flash", False),
        ("claude-haiku", True),
    ]
    assert found[0]["digest"] == found[1]["digest"]
    assert [row["cost_nano_usd"] for row in found] == [live.cost, other.cost]
    assert {row["source"] for row in found} == {"shadow"}


def test_a_grader_does_not_know_whose_answer_is_whose(stack: Stack) -> None:
    before = len(all_rows(stack))
    for model, word in ((FLASH, "live-answer"), (HAIKU, "other-answer"), (MINI, "A")):
        stack.simulator.script(model, f"answer={word}")
    with stack.accounting(entries=3, wait_s=15) as account:
        chat(stack, "graded")
        made = account()
    assert models(made) == [FLASH, HAIKU, MINI]
    assert made.charged == made.billed
    found = wait_until(lambda: all_rows(stack)[before:], what="two rows")
    assert sorted(row["score"] for row in found) == [0.0, 1.0]


def test_nothing_is_sent_past_the_cap(stack: Stack) -> None:
    refused_before = len(stack.books.refusals())
    with stack.accounting() as account:
        chat(stack, "capped")
        wait_until(lambda: len(stack.books.refusals()) > refused_before, what="the refusal")
        made = account()
    assert models(made) == [FLASH]
    (refusal,) = stack.books.refusals()[refused_before:]
    assert refusal.kind in ("budget_exceeded", "budget_busy")
