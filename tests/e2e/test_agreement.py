"""Two thousand requests of every kind: the books agree with the bill, to the nanodollar."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import anthropic
import httpx
import openai
import pytest

from tests.support.proxy import MASTER_KEY
from tests.support.stack import Account, Stack

REQUESTS = 2_000
CONCURRENCY = 16
GROUPS = ("gpt-4o-mini", "claude-haiku", "claude-sonnet", "gemini-flash", "minimax", "auto", "FAST")
TASKS = ("lookup_retrieval", "config_edit_formatting", "simple_test", "naming_check", None)


class Mixer:
    """Draws requests and sends them; the seed makes a failing run repeatable."""

    def __init__(self, base_url: str, seed: int) -> None:
        self._draw = random.Random(seed)
        # The server closes a connection after five idle seconds: let go of it sooner, or a request
        # is now and then lost on the way.
        limits = httpx.Limits(keepalive_expiry=2)
        self._openai = openai.AsyncOpenAI(
            base_url=f"{base_url}/v1",
            api_key=MASTER_KEY,
            max_retries=0,
            http_client=openai.DefaultAsyncHttpxClient(limits=limits, timeout=60),
        )
        self._anthropic = anthropic.AsyncAnthropic(
            base_url=base_url,
            api_key=MASTER_KEY,
            max_retries=0,
            http_client=anthropic.DefaultAsyncHttpxClient(limits=limits, timeout=60),
        )
        self.sent: Counter[str] = Counter()

    async def close(self) -> None:
        await self._openai.close()
        await self._anthropic.close()

    def _prompt(self, number: int, stream: bool) -> str:
        draw = self._draw
        usage = [
            f"prompt_tokens={draw.randint(1, 4000)}",
            # Every word of a stream costs the proxy a millisecond or two.
            f"output_tokens={draw.randint(1, 15 if stream else 120)}",
        ]
        if draw.random() < 0.2:
            usage.append(f"cached_tokens={draw.randint(1, 500)}")
        if draw.random() < 0.1:
            usage.append("reasoning_tokens=7")
        if draw.random() < 0.05:
            usage = [f"status={draw.choice((400, 401, 429, 500, 503))}"]
        return f"Request {number}: name the capital. [[sim: {' '.join(usage)}]]"

    async def send(self, number: int) -> None:
        """Send one request to its end; an error of the upstream's is an answer too."""
        draw = self._draw
        ways = (self._chat, self._messages, self._responses, self._embedding, self._text)
        way = draw.choices(ways, (50, 20, 15, 10, 5))[0]
        stream = draw.random() < 0.4
        call = way(draw.choice(GROUPS), self._prompt(number, stream), stream)
        self.sent[way.__name__] += 1
        with suppress(openai.APIStatusError, anthropic.APIStatusError):
            await call

    def _steering(self) -> dict[str, str]:
        task = self._draw.choice(TASKS)
        return {"x-farebox-task-type": task} if task else {}

    async def _chat(self, model: str, text: str, stream: bool) -> None:
        options: dict[str, Any] = {"stream_options": {"include_usage": True}} if stream else {}
        answer: Any = await self._openai.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": text}],
            stream=stream,
            extra_headers=self._steering(),
            **options,
        )
        await _drain(answer, stream)

    async def _messages(self, model: str, text: str, stream: bool) -> None:
        answer: Any = await self._anthropic.messages.create(
            model=model,
            max_tokens=200,
            messages=[{"role": "user", "content": text}],
            stream=stream,
            extra_headers=self._steering(),
        )
        await _drain(answer, stream)

    async def _responses(self, model: str, text: str, stream: bool) -> None:
        answer: Any = await self._openai.responses.create(
            model=model, input=text, stream=stream, extra_headers=self._steering()
        )
        await _drain(answer, stream)

    async def _embedding(self, model: str, text: str, stream: bool) -> None:
        await self._openai.embeddings.create(model="embedder", input=text)

    async def _text(self, model: str, text: str, stream: bool) -> None:
        options: dict[str, Any] = {"stream_options": {"include_usage": True}} if stream else {}
        answer: Any = await self._openai.completions.create(
            model="writer", prompt=text, stream=stream, **options
        )
        await _drain(answer, stream)


async def _drain(answer: Any, stream: bool) -> None:
    if stream:
        async for _ in answer:
            pass


async def _send_all(stack: Stack, seed: int) -> Counter[str]:
    mixer = Mixer(stack.proxy.base_url, seed)
    numbers = iter(range(REQUESTS))

    async def client() -> None:
        for number in numbers:
            await mixer.send(number)

    try:
        await asyncio.gather(*(client() for _ in range(CONCURRENCY)))
    finally:
        await mixer.close()
    return mixer.sent


@pytest.mark.timeout(240)
def test_the_books_agree_with_the_bill(stack: Stack) -> None:
    with stack.accounting(entries=REQUESTS, wait_s=60) as account:
        sent = asyncio.run(_send_all(stack, seed=20))
        made = account()
    assert sum(sent.values()) == REQUESTS
    charged = Counter(_costs(a for line in made.lines for a in line.body["attempts"]))
    billed = Counter(_costs(made.calls))
    assert charged == billed, _odd(made, charged - billed, billed - charged)
    assert made.charged == made.billed > 0
    assert {line.body["actual_nano_usd"] - line.cost for line in made.lines} == {0}
    assert not [line.body for line in made.lines if "estimated" in line.marks]
    # LiteLLM asks the providers for nothing but what the clients asked for.
    assert not [call for call in stack.simulator.calls() if call["path"].endswith("/models")]


def _costs(sent: Iterable[dict[str, Any]]) -> list[int]:
    """What was charged or billed for each attempt; errors cost nothing and are left out."""
    return [int(it["cost_nano_usd"]) for it in sent if it["cost_nano_usd"]]


def _odd(made: Account, charged: Counter[int], billed: Counter[int]) -> str:
    """What a difference can be understood by: entries, calls, and every unusual attempt."""
    odd: list[Any] = [
        line.body
        for line in made.lines
        if any(cost in charged for cost in _costs(line.body["attempts"]))
        or any(it["status"] != "ok" and "error" not in it for it in line.body["attempts"])
        or len(line.body["attempts"]) > 1
        or not line.cost
    ]
    odd += [call for call in made.calls if call["cost_nano_usd"] in billed]
    return "\n".join(json.dumps(it) for it in odd)
