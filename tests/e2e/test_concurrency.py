"""Ninety requests at once, through three proxies on one Redis, against a budget for twenty.

The groups `round` and `busy` cost $10 per million tokens either way and their input is counted
without a margin, so that a prompt of 100 tokens with 1,000 tokens of output holds exactly $0.011.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import openai

from tests.support.exact import INPUT_TOKENS, OUTPUT_TOKENS, body
from tests.support.proxy import MASTER_KEY
from tests.support.stack import Line, Stack

REQUESTS = 90
HOLD_NANO = 11_000_000
LIMIT_NANO = 220_000_000


@dataclass(frozen=True)
class Outcome:
    """What a client got: None for an answer, else the refusal's code and its arithmetic."""

    code: str | None = None
    detail: dict[str, Any] | None = None
    retry_after: str | None = None


async def send_all(stack: Stack, data: dict[str, Any], max_retries: int) -> list[Outcome]:
    """Send `REQUESTS` at once, evenly over the proxies."""
    clients = [
        openai.AsyncOpenAI(
            base_url=f"{proxy.base_url}/v1",
            api_key=MASTER_KEY,
            max_retries=max_retries,
            timeout=60,
        )
        for proxy in stack.proxies
    ]

    async def send(number: int) -> Outcome:
        try:
            await clients[number % len(clients)].chat.completions.create(**data)
        except openai.APIStatusError as refusal:
            error = refusal.response.json()["error"]
            return Outcome(
                error["code"], error["farebox"], refusal.response.headers.get("retry-after")
            )
        return Outcome()

    try:
        return await asyncio.gather(*(send(number) for number in range(REQUESTS)))
    finally:
        for client in clients:
            await client.close()


def spent(stack: Stack, budget: str, line: Line) -> int:
    period = next(p for b, p in line.entry.charges if b == budget)
    state = stack.books.state(budget, period)
    assert state.limit_nano_usd == LIMIT_NANO
    assert state.held_nano_usd == 0
    return state.spent_nano_usd


def test_twenty_of_ninety_fit_exactly(fleet: Stack) -> None:
    """Hold and cost are equal, so that the budget is full to the nanodollar."""
    data = body("round", f"prompt_tokens={INPUT_TOKENS} output_tokens={OUTPUT_TOKENS}")
    assert len(fleet.proxies) == 3
    with fleet.accounting(entries=20, wait_s=20) as account:
        outcomes = asyncio.run(send_all(fleet, data, max_retries=0))
        made = account()
    codes = Counter(outcome.code for outcome in outcomes)
    assert codes[None] == 20
    assert codes["budget_busy"] + codes["budget_exceeded"] == REQUESTS - 20
    assert {line.cost for line in made.lines} == {HOLD_NANO}
    assert {line.entry.held_nano_usd for line in made.lines} == {HOLD_NANO}
    assert len(made.calls) == 20
    assert made.charged == made.billed == LIMIT_NANO
    assert spent(fleet, "round", made.lines[0]) == LIMIT_NANO
    assert len(made.refusals) == REQUESTS - 20


def test_a_full_budget_that_will_have_room_says_busy_and_is_then_filled(fleet: Stack) -> None:
    """Requests cost half of what they hold: with retries as many get through as really fit."""
    directive = f"prompt_tokens={INPUT_TOKENS} output_tokens=450 delay_ms=1000"
    data = body("busy", directive)
    cost = 5_500_000
    with fleet.accounting(entries=20, wait_s=20) as account:
        outcomes = asyncio.run(send_all(fleet, data, max_retries=0))
        first = account()
    busy = [outcome for outcome in outcomes if outcome.code == "budget_busy"]
    assert len(busy) == REQUESTS - 20
    assert all(outcome.retry_after for outcome in busy)
    assert first.charged == first.billed == 20 * cost

    # What is left bears a hold as long as spent + hold stays within the limit.
    more = (LIMIT_NANO - 20 * cost - HOLD_NANO) // cost + 1
    with fleet.accounting(entries=more, wait_s=40) as account:
        outcomes = asyncio.run(send_all(fleet, data, max_retries=30))
        then = account()
    assert Counter(outcome.code for outcome in outcomes)[None] == more
    assert then.charged == then.billed == more * cost
    assert spent(fleet, "busy", then.lines[0]) == (20 + more) * cost > LIMIT_NANO - HOLD_NANO
    told = [o.detail for o in outcomes if o.code == "budget_exceeded" and o.detail is not None]
    false = [d for d in told if nano_usd(d, "spent") + nano_usd(d, "requested") <= LIMIT_NANO]
    assert len(told) == REQUESTS - more
    assert len(false) <= REQUESTS * 0.02


def nano_usd(detail: dict[str, Any], name: str) -> int:
    """A figure of a refusal's arithmetic, in nanodollars."""
    return int(Decimal(detail[name]) * 10**9)
