"""Gates and cascades on every route, with the books held against the fake upstream's bill."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anthropic
import httpx
import openai
import pytest

from scripts.simulator.process import SimulatorProcess
from tests.e2e.test_charges import prompt
from tests.support.stack import Account, Stack

MINI, HAIKU, FLASH, SONNET = (
    "gpt-4o-mini",
    "claude-haiku-4-5",
    "gemini-3.8-flash",
    "claude-sonnet-5-5",
)
Ask = Callable[..., Any]


@pytest.fixture(autouse=True)
def _no_script(simulator: SimulatorProcess) -> None:
    simulator.reset()


def chat(stack: Stack, task: str, **more: Any) -> Any:
    return stack.openai().chat.completions.with_raw_response.create(
        model=more.pop("model", "auto"),
        messages=[{"role": "user", "content": prompt()}],
        extra_headers={"x-farebox-task-type": task, **more.pop("extra_headers", {})},
        **more,
    )


def text(stack: Stack, task: str, **more: Any) -> Any:
    return stack.openai().completions.with_raw_response.create(
        model="auto", prompt=prompt(), extra_headers={"x-farebox-task-type": task}, **more
    )


def responses(stack: Stack, task: str, **more: Any) -> Any:
    return stack.openai().responses.with_raw_response.create(
        model="auto", input=prompt(), extra_headers={"x-farebox-task-type": task}, **more
    )


def messages(stack: Stack, task: str, **more: Any) -> Any:
    return stack.anthropic().messages.with_raw_response.create(
        model="auto",
        max_tokens=400,
        messages=[{"role": "user", "content": prompt()}],
        extra_headers={"x-farebox-task-type": task, **more.pop("extra_headers", {})},
        **more,
    )


ROUTES = [chat, text, responses, messages]


def said(answer: Any) -> str:
    """Return the text of a parsed answer of any route."""
    parsed = answer.parse()
    if hasattr(parsed, "output_text"):
        return str(parsed.output_text)
    if hasattr(parsed, "content"):
        return str(parsed.content[0].text)
    choice = parsed.choices[0]
    return str(choice.text if hasattr(choice, "text") else choice.message.content)


def models(made: Account) -> list[str]:
    return [call["model"].rpartition("/")[2] for call in made.calls]


def assert_books_agree(made: Account) -> None:
    """One entry, whose attempts are the upstream's calls, each at its price."""
    attempts = made.only.body["attempts"]
    assert [a["cost_nano_usd"] for a in attempts] == [c["cost_nano_usd"] for c in made.calls]
    assert made.charged == made.billed
    assert made.only.body["hold_nano_usd"] >= made.charged


# ── gates ────────────────────────────────────────────────────────────────────────────────────────


def test_an_answer_that_passes_is_served(stack: Stack) -> None:
    stack.simulator.script(FLASH, "answer=good")
    with stack.accounting() as account:
        answer = chat(stack, "withholding")
        made = account()
    assert said(answer) == "good"
    assert_books_agree(made)
    assert made.only.body["gate"]["verdict"] == "passed"
    assert made.only.body["status"] == "ok"


@pytest.mark.parametrize("ask", ROUTES)
def test_an_answer_that_fails_is_withheld_and_charged(stack: Stack, ask: Ask) -> None:
    stack.simulator.script(FLASH, "answer=secret%20words")
    with stack.accounting() as account:
        with pytest.raises((openai.APIStatusError, anthropic.APIStatusError)) as failure:
            ask(stack, "withholding")
        made = account()
    answer = failure.value.response
    assert answer.status_code == 422
    assert answer.headers["x-farebox-code"] == "quality_gate_failed"
    assert answer.headers["x-should-retry"] == "false"
    assert answer.headers["x-farebox-model"] == "gemini-flash"
    error = answer.json()["error"]
    if ask is messages:
        assert answer.json()["type"] == "error"
        detail = error["provider_specific_fields"]["farebox"]
    else:
        assert error["code"] == "quality_gate_failed"
        detail = error["farebox"]
    assert detail["reasons"] == ["a required text is missing"]
    assert detail["decision_id"] == answer.headers["x-farebox-decision"]
    assert "secret" not in answer.text
    assert "secret" not in made.only.entry.body
    assert_books_agree(made)
    assert made.charged > 0
    assert made.only.body["status"] == "withheld"
    assert "withheld" in made.only.marks


@pytest.mark.parametrize("ask", ROUTES)
def test_an_answer_that_fails_can_go_up_the_chain(stack: Stack, ask: Ask) -> None:
    stack.simulator.script(FLASH, "answer=bad")
    stack.simulator.script(HAIKU, "answer=good")
    with stack.accounting() as account:
        answer = ask(stack, "escalating")
        made = account()
    assert said(answer) == "good"
    assert answer.headers["x-farebox-model"] == "claude-haiku"
    assert "gate_escalated: gemini-flash -> claude-haiku" in answer.headers["x-farebox-warning"]
    assert models(made) == [FLASH, HAIKU]
    assert_books_agree(made)
    assert made.only.body["serving_group"] == "claude-haiku"
    assert [a["verdict"] for a in made.only.body["attempts"]] == ["failed", "passed"]


def test_a_verifier_is_asked_and_charged(stack: Stack) -> None:
    stack.simulator.script(MINI, "answer=PASS", "answer=FAIL")
    with stack.accounting() as account:
        chat(stack, "verified")
        made = account()
    assert models(made) == [FLASH, MINI]
    assert_books_agree(made)
    assert made.only.body["serving_group"] == "gemini-flash"
    assert [a["role"] for a in made.only.body["attempts"]] == ["answer", "verifier"]
    with stack.accounting() as account:
        with pytest.raises(openai.UnprocessableEntityError) as failure:
            chat(stack, "verified")
        made = account()
    assert failure.value.body["farebox"]["reasons"] == ["the verifier rejects the answer"]  # type: ignore[index]  # the SDK says object
    assert_books_agree(made)


def test_a_verifier_that_cannot_be_asked_withholds(stack: Stack) -> None:
    stack.simulator.script(MINI, *["status=500"] * 6)
    with stack.accounting() as account:
        with pytest.raises(anthropic.UnprocessableEntityError) as failure:
            messages(stack, "verified")
        made = account()
    assert "the verifier could not be asked" in failure.value.response.text
    assert made.charged == made.billed > 0
    assert made.only.body["status"] == "withheld"


# ── cascades ─────────────────────────────────────────────────────────────────────────────────────


def test_a_good_cheap_answer_is_served(stack: Stack) -> None:
    stack.simulator.script(MINI, "answer=good")
    with stack.accounting() as account:
        answer = chat(stack, "cascading")
        made = account()
    assert answer.headers["x-farebox-model"] == "gpt-4o-mini"
    assert models(made) == [MINI]
    assert_books_agree(made)


@pytest.mark.parametrize("ask", ROUTES)
def test_every_step_of_a_cascade_is_charged_once(stack: Stack, ask: Ask) -> None:
    stack.simulator.script(MINI, "answer=bad output_tokens=9 prompt_tokens=211")
    stack.simulator.script(HAIKU, "answer=bad prompt_tokens=311")
    stack.simulator.script(SONNET, "prompt_tokens=411 output_tokens=77")
    with stack.accounting() as account:
        answer = ask(stack, "cascading")
        made = account()
    assert answer.headers["x-farebox-model"] == "claude-sonnet"
    assert models(made) == [MINI, HAIKU, SONNET]
    assert_books_agree(made)
    assert made.only.body["cascade"]["steps"] == ["gpt-4o-mini", "claude-haiku", "claude-sonnet"]
    assert "overage" not in made.only.marks


@pytest.mark.parametrize(
    ("ask", "agrees"), [(chat, True), (responses, False), (messages, False), (messages, True)]
)
def test_two_cheap_models_that_agree_are_believed(stack: Stack, ask: Ask, agrees: bool) -> None:
    stack.simulator.script(MINI, "answer=Yes.")
    stack.simulator.script(HAIKU, "answer=yes" if agrees else "answer=no")
    with stack.accounting() as account:
        answer = ask(stack, "agreeing")
        made = account()
    assert models(made) == [MINI, HAIKU] + ([] if agrees else [SONNET])
    wanted = "gpt-4o-mini" if agrees else "claude-sonnet"
    assert answer.headers["x-farebox-model"] == wanted
    assert_books_agree(made)


@pytest.mark.parametrize("ask", [chat, messages])
def test_a_step_whose_provider_fails_is_followed_by_the_next(stack: Stack, ask: Ask) -> None:
    stack.simulator.script(MINI, *["status=500"] * 2)
    stack.simulator.script(HAIKU, "answer=bad")
    with stack.accounting() as account:
        answer = ask(stack, "cascading")
        made = account()
    assert answer.headers["x-farebox-model"] == "claude-sonnet"
    assert models(made)[-2:] == [HAIKU, SONNET]
    assert made.charged == made.billed > 0


def test_a_last_step_that_fails_gives_the_providers_error(stack: Stack) -> None:
    stack.simulator.script(MINI, "answer=bad")
    stack.simulator.script(HAIKU, "answer=bad")
    for model in (SONNET, FLASH, "claude-opus-5-5"):
        stack.simulator.script(model, *["status=500"] * 4)
    with stack.accounting() as account:
        with pytest.raises(openai.InternalServerError):
            chat(stack, "cascading")
        made = account()
    assert made.charged == made.billed > 0
    assert made.only.body["status"] == "error"


def test_a_named_group_is_not_cascaded_and_it_is_said(stack: Stack) -> None:
    with stack.accounting() as account:
        answer = chat(stack, "cascading", model="claude-sonnet")
        made = account()
    assert models(made) == [SONNET]
    assert "cascade_skipped: the group was named" in answer.headers["x-farebox-warning"]


# ── streams ──────────────────────────────────────────────────────────────────────────────────────


def test_a_stream_passes_ungated_and_says_so(stack: Stack) -> None:
    with stack.accounting() as account:
        answer = chat(stack, "withholding", stream=True)
        list(answer.parse())
        account()
    assert "not_gated" in answer.headers["x-farebox-warning"]


def streamed_text(answer: Any) -> str:
    """Return the text of a stream, by the SDK's own reading of it."""
    found = ""
    for event in answer.parse():
        if getattr(event, "choices", None):
            choice = event.choices[0]
            found += (choice.text if hasattr(choice, "text") else choice.delta.content) or ""
        elif event.type == "response.output_text.delta":
            found += event.delta
        elif event.type == "content_block_delta":
            found += event.delta.text
    return found


@pytest.mark.parametrize("ask", ROUTES)
def test_a_buffered_stream_is_judged(stack: Stack, ask: Ask) -> None:
    steer: dict[str, Any] = {"extra_headers": {"x-farebox-buffer": "true"}}
    if ask in (text, responses):
        steer = {"extra_body": {"metadata": {"buffer": True}}}
    stack.simulator.script(FLASH, "answer=good", "answer=bad")
    with stack.accounting(entries=2) as account:
        answer = ask(stack, "withholding", stream=True, **steer)
        assert streamed_text(answer) == "good"
        with pytest.raises((openai.APIStatusError, anthropic.APIStatusError)) as failure:
            ask(stack, "withholding", stream=True, **steer)
        made = account()
    assert failure.value.response.headers["x-farebox-code"] == "quality_gate_failed"
    assert answer.headers["x-farebox-model"] == "gemini-flash"
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert made.charged == made.billed


def test_an_answer_that_calls_a_tool_is_not_judged(stack: Stack) -> None:
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    with stack.accounting() as account:
        answer = chat(stack, "withholding", tools=[tool], tool_choice="required")
        made = account()
    assert answer.parse().choices[0].message.tool_calls
    assert "not_gated" in answer.headers["x-farebox-warning"]
    assert made.charged == made.billed


def test_a_client_that_leaves_in_the_middle_pays_for_every_step(stack: Stack) -> None:
    stack.simulator.script(MINI, "answer=bad")
    stack.simulator.script(HAIKU, "answer=bad delay_ms=600")
    with stack.accounting(wait_s=15) as account:
        with pytest.raises((openai.APITimeoutError, httpx.TimeoutException)):
            chat(stack, "cascading", timeout=0.3)
        made = account()
    assert models(made) == [MINI, HAIKU, SONNET]
    assert_books_agree(made)
