"""A provider that counts more than was held for: charged in full, told, and learned from.

So that it is rare, a hold covers the most that a long prompt can have, where that was estimated.
"""

from __future__ import annotations

import itertools
import json
import random

from hooks.tokens import count_text
from tests.support.proxy import wait_until
from tests.support.stack import Line, Stack

GROUP = "miscounted"
_numbers = itertools.count()


def ask(stack: Stack, ratio: float) -> tuple[Line, int]:
    """Send a long prompt that the provider counts `ratio` times; return the entry and the bill."""
    text = f"Number {next(_numbers)}. " + "One word after the other, and each of them counts. " * 40
    tokens = round(count_text(text) * ratio)
    with stack.accounting() as account:
        stack.openai().chat.completions.create(
            model=GROUP,
            messages=[
                {
                    "role": "user",
                    "content": f"{text}[[sim: prompt_tokens={tokens} output_tokens=1]]",
                }
            ],
            max_tokens=1,
        )
        made = account()
    return made.only, made.billed


def test_input_beyond_the_hold_is_charged_in_full_told_and_learned_from(stack: Stack) -> None:
    line, billed = ask(stack, 1.5)
    excess = line.cost - line.entry.held_nano_usd
    assert line.cost == billed and excess > 0
    assert "overage" in line.marks and line.body["input_counted"] > 0

    told = stack.books.events("overage")[-1]
    body = json.loads(told.body)
    assert (body["hold_id"], body["overage_nano_usd"]) == (line.entry.hold_id, excess)
    metrics = stack.proxy.get("/farebox/metrics").text
    assert f'farebox_overage_requests_total{{group="{GROUP}"}} 1.0' in metrics
    assert f'farebox_overage_nano_usd_total{{group="{GROUP}"}} {float(excess)}' in metrics
    (logged,) = (it for it in stack.proxy.log_text().splitlines() if line.entry.hold_id in it)
    assert "overage" in logged and "warning" in logged and "One word" not in logged

    # The bound climbs by a tenth with each; the proxy reads it every two seconds.
    for _ in range(3):
        ask(stack, 1.5)
    learned = stack.books.learned().inputs[f"group:{GROUP}"]
    assert learned.count == 4 and learned.bound > 1.4

    def enough_is_held() -> bool:
        later, paid = ask(stack, 1.5)
        assert later.cost == paid
        return "overage" not in later.marks

    wait_until(enough_is_held, 10, "a hold that bears what the provider counts")


def test_a_prompt_too_long_to_be_counted_is_held_for_by_its_high_end(stack: Stack) -> None:
    words = ("region", "export", "table", "model", "budget", "request", "nightly", "of", "the")
    text = f"Number {next(_numbers)}. " + " ".join(random.Random(7).choices(words, k=14_000))
    with stack.accounting() as account:
        stack.openai().chat.completions.create(
            model="auto", messages=[{"role": "user", "content": text}], max_tokens=1
        )
        made = account()
    line = made.only
    assert line.cost == made.billed <= line.entry.held_nano_usd
    decision = stack.books.decision(line.body["decision_id"])
    low, high = decision["input_tokens_between"]
    assert low <= count_text(text) <= high and low < decision["input_tokens"] < high
    # Some are counted exactly after they were sent, to learn from; this one may be among them.
    assert line.body.get("input_between") in (None, [low, high])
    assert (line.body["input_extra"] is None) == ("input_between" in line.body)
