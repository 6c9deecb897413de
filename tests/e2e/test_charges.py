"""What a request is charged, held against what the fake upstream billed for it.

Every test is one or more requests through the real proxy by the official SDKs. Afterwards nothing
may be held, and every counter must be what the entries add up to.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import anthropic
import httpx
import openai
import pytest

from scripts.simulator.process import SimulatorProcess
from tests.e2e.conftest import UPSTREAM_KEY
from tests.support.stack import Line, Stack

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


WAYS = [
    pytest.param(ask, group, stream, id=f"{ask.__name__}-{group}-{'stream' if stream else 'whole'}")
    for ask, groups in (
        (chat, (*CHAT_GROUPS, "thinker")),
        (text_completion, ("writer", "claude-haiku")),
        (responses, CHAT_GROUPS),
        (messages, CHAT_GROUPS),
    )
    for group in groups
    for stream in (False, True)
]


@pytest.fixture(autouse=True)
def _no_script(simulator: SimulatorProcess) -> None:
    """Nothing that an earlier test told the upstream is left over."""
    simulator.reset()


@pytest.mark.parametrize(("ask", "group", "stream"), WAYS)
def test_a_reported_usage_is_charged_to_the_nanodollar(
    stack: Stack, ask: Ask, group: str, stream: bool
) -> None:
    kinds = [name for name in KINDS if name != "written" or group.startswith("claude")]
    asked_for_usage: dict[str, Any] = {}
    if ask is text_completion:
        kinds = ["plain"]
        if stream:
            # Without it OpenAI's text completions report no usage in a stream.
            asked_for_usage = {"stream_options": {"include_usage": True}}
    with stack.accounting(entries=len(kinds)) as account:
        for kind in kinds:
            ask(stack, group, prompt(KINDS[kind]), stream=stream, **asked_for_usage)
        made = account()
    assert [line.cost for line in made.lines] == [call["cost_nano_usd"] for call in made.calls]
    for line in made.lines:
        assert line.cost > 0
        assert_served(line, group)


def assert_served(line: Line, group: str) -> None:
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
    assert_served(made.only, "embedder")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("group", ["gpt-4o-mini", "gemini-flash"])
def test_every_choice_is_charged(stack: Stack, group: str, stream: bool) -> None:
    with stack.accounting() as account:
        chat(stack, group, prompt("output_tokens=80"), stream=stream, n=2)
        made = account()
    assert made.calls[0]["choices"] == 2
    assert made.charged == made.billed > 0
    assert made.only.body["tokens"]["output"] == 80


# ── usage that nobody reported ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("ask", "group", "stream"),
    [
        *((chat, group, stream) for group in CHAT_GROUPS for stream in (False, True)),
        (messages, "claude-haiku", False),
        (messages, "claude-haiku", True),
        (messages, "gpt-4o-mini", True),
        (responses, "gpt-4o-mini", False),
        (responses, "gpt-4o-mini", True),
        (responses, "claude-haiku", False),
        (responses, "claude-haiku", True),
    ],
)
def test_an_answer_without_usage_is_charged_by_a_local_count(
    stack: Stack, ask: Ask, group: str, stream: bool
) -> None:
    text = prompt("usage=none output_tokens=120", words="Tell me a long story " * 20)
    with stack.accounting(wait_s=20) as account:
        # LiteLLM can't read some answers without usage: the client then gets an error. Billed is
        # billed all the same.
        with suppress(openai.APIError, anthropic.APIError):
            ask(stack, group, text, stream=stream)
        made = account()
    assert made.billed > 0
    assert "estimated" in made.only.marks
    assert_about(made.charged, made.billed)


def assert_about(charged: int, billed: int) -> None:
    """The local count's error: within a third, over several sends within the same."""
    assert billed * 0.66 <= charged <= billed * 1.5, (charged, billed)


def test_a_text_completion_streamed_without_usage_is_charged_by_a_local_count(
    stack: Stack,
) -> None:
    with stack.accounting() as account:
        text_completion(stack, "writer", prompt("output_tokens=90"), stream=True)
        made = account()
    assert "estimated" in made.only.marks
    assert_about(made.charged, made.billed)


# ── clients that leave ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("group", CHAT_GROUPS)
def test_a_client_that_leaves_a_stream_is_charged_for_what_the_upstream_bills(
    stack: Stack, group: str
) -> None:
    text = prompt("output_tokens=300 token_delay_ms=10", words="Count up slowly " * 30)
    with stack.accounting() as account:
        stream = stack.openai().chat.completions.create(
            model=group, messages=[{"role": "user", "content": text}], stream=True
        )
        for number, _ in enumerate(stream):
            if number == 60:
                break
        stream.close()
        made = account()
    assert made.calls[0]["ending"] == "client_left"
    assert made.only.body["status"] == "cancelled"
    assert "estimated" in made.only.marks
    assert_about(made.charged, made.billed)


@pytest.mark.parametrize("group", ["gpt-4o-mini", "claude-haiku"])
@pytest.mark.parametrize("ask", [messages, responses])
def test_a_client_that_leaves_another_endpoints_stream_is_charged_too(
    stack: Stack, ask: Ask, group: str
) -> None:
    text = prompt("output_tokens=300 token_delay_ms=10", words="Count up slowly " * 30)
    with stack.accounting() as account:
        if ask is messages:
            stream: Any = stack.anthropic().messages.create(
                model=group,
                max_tokens=400,
                messages=[{"role": "user", "content": text}],
                stream=True,
            )
        else:
            stream = stack.openai().responses.create(model=group, input=text, stream=True)
        for number, _ in enumerate(stream):
            if number == 60:
                break
        stream.close()
        made = account()
    assert made.calls[0]["ending"] == "client_left"
    assert made.only.body["status"] == "cancelled"
    assert "estimated" in made.only.marks
    assert_about(made.charged, made.billed)


def test_a_client_that_leaves_before_the_answer_is_charged_in_full(stack: Stack) -> None:
    with stack.accounting() as account:
        with pytest.raises(openai.APITimeoutError):
            chat_with(stack.openai(timeout=0.5), "gpt-4o-mini", prompt("delay_ms=1500"))
        made = account()
    assert made.charged == made.billed > 0
    assert made.only.body["status"] in ("ok", "cancelled")


def chat_with(client: openai.OpenAI, model: str, text: str, **more: Any) -> Any:
    return client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": text}], **more
    )


FALLBACKS = {
    "first": ("gpt-4o-mini", "second"),
    "first-anthropic": ("claude-haiku-4-5", "gpt-4o-mini"),
}
"""Groups with a fallback: the model that fails, the group that serves instead."""

# ── retries and fallbacks ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("ask", [chat, messages, responses])
def test_a_retry_is_charged_once(stack: Stack, ask: Ask, stream: bool) -> None:
    stack.simulator.script("gpt-4o-mini", "status=429", "output_tokens=33")
    with stack.accounting() as account:
        ask(stack, "gpt-4o-mini", prompt(), stream=stream)
        made = account()
    assert [call["status"] for call in made.calls] == [429, 200]
    assert made.charged == made.billed > 0
    assert made.only.attempts == [("gpt-4o-mini", "refused"), ("gpt-4o-mini", "ok")]
    assert made.only.body["status"] == "ok"


@pytest.mark.parametrize(
    ("ask", "asked", "stream"),
    [
        (chat, "first", False),
        (chat, "first", True),
        (chat, "first-anthropic", True),
        (messages, "first", True),
        (messages, "first-anthropic", False),
        (responses, "first-anthropic", True),
    ],
)
def test_a_fallback_is_charged_at_the_price_of_the_group_that_served(
    stack: Stack, ask: Ask, asked: str, stream: bool
) -> None:
    model, served = FALLBACKS[asked]
    stack.simulator.script(model, "status=500", "status=500")
    asked_for_usage: dict[str, Any] = {}
    if ask is chat and stream:
        # LiteLLM asks for a stream's usage by itself only where the first group's provider knows
        # that option; where it does not, the fallback's usage is not reported.
        asked_for_usage = {"stream_options": {"include_usage": True}}
    with stack.accounting() as account:
        ask(stack, asked, prompt("output_tokens=33"), stream=stream, **asked_for_usage)
        made = account()
    assert [call["status"] for call in made.calls] == [500, 500, 200]
    assert made.charged == made.billed > 0
    assert "estimated" not in made.only.marks
    line = made.only
    assert line.attempts == [(asked, "refused"), (asked, "refused"), (served, "ok")]
    assert (line.body["group"], line.body["serving_group"]) == (asked, served)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_the_answer_names_the_group_that_served(stack: Stack, stream: bool) -> None:
    stack.simulator.script("gpt-4o-mini", "status=500", "status=500")
    with stack.accounting() as account:
        raw = stack.openai().chat.completions.with_raw_response.create(
            model="first", messages=[{"role": "user", "content": prompt()}], stream=stream
        )
        if stream:
            for _ in raw.parse():
                pass
        account()
    assert raw.headers["x-farebox-model"] == "second"


@pytest.mark.parametrize("ask", [chat, messages])
def test_a_request_whose_every_attempt_fails_costs_nothing(stack: Stack, ask: Ask) -> None:
    stack.simulator.script("*", *["status=500"] * 8)
    with stack.accounting() as account:
        with pytest.raises((openai.InternalServerError, anthropic.InternalServerError)) as failure:
            ask(stack, "first", prompt())
        made = account()
    stack.simulator.reset()
    assert "simulated error" in str(failure.value)
    assert made.only.entry.kind == "voided"
    assert made.charged == made.billed == 0
    assert made.only.body["status"] == "error"
    assert {status for _, status in made.only.attempts} == {"refused"}
    assert {group for group, _ in made.only.attempts} == {"first", "second"}


@pytest.mark.parametrize("status", [400, 429, 500])
@pytest.mark.parametrize("ask", [chat, messages, responses])
def test_an_error_status_in_place_of_a_stream_costs_nothing(
    stack: Stack, ask: Ask, status: int
) -> None:
    """Gemini's streams are sent when their first word is asked for: the status comes out of it."""
    stack.simulator.script("gemini-3.8-flash", *[f"status={status}"] * 2)
    with stack.accounting() as account:
        with suppress(openai.APIError, anthropic.APIError):
            ask(stack, "FAST", prompt("output_tokens=20"), stream=True)
        made = account()
    stack.simulator.reset()
    assert made.calls[0]["status"] == status
    assert made.charged == made.billed
    assert "estimated" not in made.only.marks
    assert {s for group, s in made.only.attempts if group == "gemini-flash"} == {"refused"}


def test_a_failing_embedding_costs_nothing(stack: Stack) -> None:
    stack.simulator.script("*", *["status=500"] * 8)
    with stack.accounting() as account:
        with pytest.raises(openai.InternalServerError):
            embeddings(stack, "embedder", prompt())
        made = account()
    stack.simulator.reset()
    assert made.only.entry.kind == "voided"
    assert made.charged == 0


# ── upstreams that die, hang or are not there ────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("ask", "group"),
    [
        (chat, "gpt-4o-mini"),
        (chat, "gemini-flash"),
        (messages, "claude-haiku"),
        (messages, "gpt-4o-mini"),
        (responses, "gpt-4o-mini"),
        (responses, "claude-haiku"),
    ],
)
def test_a_stream_that_dies_on_the_way_is_charged(stack: Stack, ask: Ask, group: str) -> None:
    text = prompt(
        "output_tokens=200 token_delay_ms=5 die_after_tokens=100", words="Count up slowly " * 30
    )
    with stack.accounting(wait_s=20) as account:
        with suppress(openai.APIError, anthropic.APIError, httpx.HTTPError):
            ask(stack, group, text, stream=True)
        made = account()
    assert made.calls[0]["ending"] == "died"
    assert "estimated" in made.only.marks
    assert_about(made.charged, made.billed)


@pytest.mark.parametrize("ask", [chat, messages, responses])
def test_a_stream_that_dies_before_its_first_word_falls_back(stack: Stack, ask: Ask) -> None:
    stack.simulator.script(
        "gpt-4o-mini", "die_after_tokens=0 output_tokens=200", "die_after_tokens=0"
    )
    with stack.accounting() as account:
        with suppress(openai.APIError, anthropic.APIError, httpx.HTTPError):
            ask(stack, "first", prompt("output_tokens=100", words="Say it " * 50), stream=True)
        made = account()
    stack.simulator.reset()
    assert "estimated" in made.only.marks
    assert_about(made.charged, made.billed)


def test_a_stream_that_dies_on_the_way_and_goes_on_elsewhere_is_charged_for_both(
    stack: Stack,
) -> None:
    """LiteLLM goes on with no stream but one of Responses that it makes of a chat's."""
    dies = "token_delay_ms=5 die_after_tokens=100 output_tokens=200"
    stack.simulator.script("claude-haiku-4-5", *[dies] * 3)
    text = prompt("output_tokens=100", words="Say it " * 50)
    with stack.accounting(wait_s=20) as account:
        with suppress(openai.APIError, httpx.HTTPError):
            responses(stack, "first-anthropic", text, stream=True)
        made = account()
    attempts = made.only.body["attempts"]
    assert [call["ending"] for call in made.calls] == ["died", "finished"]
    assert [attempt["status"] for attempt in attempts] == ["cut_off", "ok"]
    assert_about(attempts[0]["cost_nano_usd"], made.calls[0]["cost_nano_usd"])
    assert attempts[1]["cost_nano_usd"] == made.calls[1]["cost_nano_usd"]


@pytest.mark.parametrize(
    ("ask", "group"), [(chat, "hasty"), (messages, "hasty-anthropic"), (responses, "hasty")]
)
def test_a_time_out_is_charged_as_estimated(stack: Stack, ask: Ask, group: str) -> None:
    with stack.accounting() as account:
        with pytest.raises((openai.APIStatusError, anthropic.APIStatusError)):
            ask(stack, group, prompt("hang=1 output_tokens=200"))
        made = account()
    assert {call["ending"] for call in made.calls} == {"client_left"}
    assert made.only.attempts == [(group, "cut_off")] * len(made.calls)
    assert "estimated" in made.only.marks
    assert made.charged > 0


@pytest.mark.parametrize("ask", [chat, messages, responses])
def test_a_refused_connection_costs_nothing(stack: Stack, ask: Ask) -> None:
    with stack.accounting() as account:
        with pytest.raises((openai.APIStatusError, anthropic.APIStatusError)):
            ask(stack, "nowhere", prompt())
        made = account()
    assert made.only.entry.kind == "voided"
    assert made.charged == 0
    assert {status for _, status in made.only.attempts} == {"not_sent"}


# ── what a client may try ────────────────────────────────────────────────────────────────────────


def test_two_requests_with_one_call_id_are_charged_once_each(stack: Stack) -> None:
    client = stack.openai()

    def send(_: int) -> None:
        headers = {"x-litellm-call-id": "the-same-for-both"}
        chat_with(client, "gpt-4o-mini", prompt("delay_ms=300"), extra_headers=headers)

    with stack.accounting(entries=2) as account:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(send, range(2)))
        made = account()
    assert len(made.calls) == 2
    assert sorted(line.cost for line in made.lines) == sorted(
        call["cost_nano_usd"] for call in made.calls
    )


@pytest.mark.parametrize(
    "trick",
    [
        {"no-log": True},
        {"metadata": {"farebox": {"id": "another", "refused": {}}}},
        {"litellm_metadata": {"farebox": {"id": "another"}}},
        {"mock_response": "free of charge"},
        {"fallbacks": ["claude-opus"]},
        {"num_retries": 5},
        {"api_key": "sk-of-the-client"},
    ],
    ids=lambda trick: next(iter(trick)),
)
def test_no_field_of_the_body_escapes_the_ledger(stack: Stack, trick: dict[str, Any]) -> None:
    headers = {"x-litellm-num-retries": "5", "x-litellm-timeout": "0.001"}
    with stack.accounting() as account:
        chat_with(stack.openai(), "gpt-4o-mini", prompt(), extra_body=trick, extra_headers=headers)
        made = account()
    assert made.charged == made.billed > 0
    assert_served(made.only, "gpt-4o-mini")
    own_key = hashlib.sha256(UPSTREAM_KEY.encode()).hexdigest()
    assert [call["authorized_with"] for call in made.calls] == [own_key]


def test_a_client_cannot_add_retries_or_fallbacks(stack: Stack) -> None:
    stack.simulator.script("gpt-4o-mini", *["status=500"] * 6)
    body = {"fallbacks": ["claude-opus"], "num_retries": 5}
    with stack.accounting() as account:
        with pytest.raises(openai.InternalServerError):
            chat_with(
                stack.openai(),
                "gpt-4o-mini",
                prompt(),
                extra_body=body,
                extra_headers={"x-litellm-num-retries": "5"},
            )
        made = account()
    stack.simulator.reset()
    assert [call["model"] for call in made.calls] == ["gpt-4o-mini"] * 2
    assert made.charged == 0


# ── answers from LiteLLM's cache ─────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("group", ["gpt-4o-mini", "claude-haiku"])
def test_an_answer_from_the_cache_costs_nothing(
    caching_stack: Stack, group: str, stream: bool
) -> None:
    text = prompt("output_tokens=40")
    with caching_stack.accounting() as account:
        chat(caching_stack, group, text, stream=stream)
        first = account()
    with caching_stack.accounting() as account:
        chat(caching_stack, group, text, stream=stream)
        second = account()
    assert first.charged == first.billed > 0
    assert second.calls == []
    assert second.charged == 0
    assert "cache_hit" in second.only.marks
    assert second.only.body["status"] == "ok"
