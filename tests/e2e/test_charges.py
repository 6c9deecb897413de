"""What a request is charged, held against what the fake upstream billed for it.

Every test is one or more requests through the real proxy by the official SDKs. Afterwards nothing
may be held, and every counter must be what the entries add up to.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.stack import Account, Stack

_numbers = itertools.count()

CHAT_GROUPS = ("gpt-4o-mini", "claude-haiku", "gemini-flash", "minimax")


def prompt(directive: str = "", words: str = "Say hello") -> str:
    """A prompt that nobody sent before, with a word to the fake upstream."""
    return f"{words} number {next(_numbers)}. [[sim: {directive}]]"


# ── one request each way, by the official SDKs ───────────────────────────────────────────────────


def chat(stack: Stack, model: str, text: str, stream: bool = False, **more: Any) -> None:
    answer = stack.openai().chat.completions.create(
        model=model, messages=[{"role": "user", "content": text}], stream=stream, **more
    )
    if stream:
        for _ in answer:
            pass


def text_completion(stack: Stack, model: str, text: str, stream: bool = False, **more: Any) -> None:
    answer = stack.openai().completions.create(model=model, prompt=text, stream=stream, **more)
    if stream:
        for _ in answer:
            pass


def responses(stack: Stack, model: str, text: str, stream: bool = False, **more: Any) -> None:
    answer = stack.openai().responses.create(model=model, input=text, stream=stream, **more)
    if stream:
        for _ in answer:
            pass


def messages(stack: Stack, model: str, text: str, stream: bool = False, **more: Any) -> None:
    answer = stack.anthropic().messages.create(
        model=model,
        max_tokens=400,
        messages=[{"role": "user", "content": text}],
        stream=stream,
        **more,
    )
    if stream:
        for _ in answer:
            pass


def embeddings(stack: Stack, model: str, text: str, **more: Any) -> None:
    stack.openai().embeddings.create(model=model, input=text, **more)


Ask = Callable[..., None]

KINDS = {
    "plain": "prompt_tokens=211 output_tokens=47",
    "cached": "prompt_tokens=3001 cached_tokens=1111 output_tokens=47",
    "written": "prompt_tokens=3001 cached_tokens=1111 cache_write_tokens=222 output_tokens=47",
    "reasoning": "prompt_tokens=211 output_tokens=147 reasoning_tokens=101",
}


def _ways() -> list[Any]:
    ways: list[Any] = []
    for ask, groups in (
        (chat, CHAT_GROUPS),
        (text_completion, ("writer", "claude-haiku")),
        (responses, CHAT_GROUPS),
        (messages, CHAT_GROUPS),
    ):
        for group in groups:
            for kind, stream in itertools.product(KINDS, (False, True)):
                if kind == "written" and not group.startswith("claude"):
                    continue
                if ask is text_completion and kind != "plain":
                    continue
                name = f"{ask.__name__}-{group}-{kind}-{'stream' if stream else 'whole'}"
                ways.append(pytest.param(ask, group, kind, stream, id=name))
    return ways


@pytest.mark.parametrize(("ask", "group", "kind", "stream"), _ways())
def test_a_reported_usage_is_charged_to_the_nanodollar(
    stack: Stack, ask: Ask, group: str, kind: str, stream: bool
) -> None:
    with stack.accounting() as account:
        ask(stack, group, prompt(KINDS[kind]), stream=stream)
        made = account()
    assert made.charged == made.billed > 0
    assert_served(made, group)


def assert_served(made: Account, group: str) -> None:
    line = made.only
    assert line.body["status"] == "ok"
    assert line.body["serving_group"] == group
    assert line.body["actual_nano_usd"] == line.cost
    assert "estimated" not in line.marks
    assert line.attempts == [(group, "ok")]


def test_embeddings_are_charged_to_the_nanodollar(stack: Stack) -> None:
    with stack.accounting() as account:
        embeddings(stack, "embedder", prompt("prompt_tokens=12345"))
        made = account()
    assert made.charged == made.billed > 0
    assert_served(made, "embedder")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("group", ["gpt-4o-mini", "gemini-flash"])
def test_every_choice_is_charged(stack: Stack, group: str, stream: bool) -> None:
    with stack.accounting() as account:
        chat(stack, group, prompt("output_tokens=80"), stream=stream, n=2)
        made = account()
    assert made.calls[0]["choices"] == 2
    assert made.charged == made.billed > 0
    assert made.only.body["tokens"]["output"] == 80
