"""What real clients send is served: their own requests, as they were recorded, on the real proxy.

`tests/clients` has a file a request, which says from which client and version it is. The answer
must be one that the client's own SDK reads, and the books must agree with the upstream's bill.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
from anthropic.types import Message, RawMessageStreamEvent
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response
from pydantic import TypeAdapter

from tests.support.commands import run
from tests.support.proxy import MASTER_KEY, free_port
from tests.support.stack import Stack

FOLDER = Path(__file__).resolve().parents[1] / "clients"
FORMAT, DOCS = "config_edit_formatting", "documentation"

EXPECTED: dict[str, tuple[str | None, str | None]] = {
    "claude-code-first-turn": (FORMAT, "claude-sonnet"),
    # Neither what a tool returned nor a reminder of the agent's is what was asked for.
    "claude-code-tool-result": (FORMAT, "claude-sonnet"),
    "codex-first-turn": (FORMAT, "claude-sonnet"),
    "codex-tool-result": (FORMAT, "claude-sonnet"),
    "curl": (DOCS, "claude-sonnet"),
    "langchain-anthropic-tools": (None, "claude-haiku"),
    "langchain-invoke": (FORMAT, "gemini-flash"),
    "langchain-responses": (FORMAT, "gemini-flash"),
    "langchain-stream": (None, None),
    "langchain-structured": (None, None),
    "langchain-tools": (None, None),
    "litellm-sdk-metadata": (FORMAT, "gemini-flash"),
    "litellm-sdk-stream": (None, None),
}
"""The task type and the group of each recorded request, where it leaves no doubt of them."""


def recorded(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return found


def send(stack: Stack, request: dict[str, Any]) -> httpx.Response:
    """Send a recorded request as its client does, with a key in the place where it puts it."""
    headers = dict(request["headers"])
    by_anthropic = "anthropic" in headers.get("user-agent", "")
    headers |= {"x-api-key": MASTER_KEY} if by_anthropic else {}
    headers |= {} if by_anthropic else {"authorization": f"Bearer {MASTER_KEY}"}
    return httpx.post(
        stack.proxy.base_url + request["path"], json=request["body"], headers=headers, timeout=60
    )


def events(answer: httpx.Response) -> Iterator[dict[str, Any]]:
    """Yield the data of a stream's events, without the end mark of OpenAI's."""
    for line in answer.text.splitlines():
        if line.startswith("data: ") and line != "data: [DONE]":
            yield json.loads(line.removeprefix("data: "))


def assert_readable(answer: httpx.Response, path: str, streamed: bool) -> None:
    """Hold the answer against the types of the SDK that its client is built on."""
    assert answer.headers["content-type"].startswith(
        "text/event-stream" if streamed else "application/json"
    )
    if "/messages" in path:
        if not streamed:
            assert Message.model_validate(answer.json()).content
            return
        message: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
        # Pings come between; the SDK drops them.
        seen = [it for it in events(answer) if it["type"] != "ping"]
        kinds = [message.validate_python(it).type for it in seen]
        assert kinds[0] == "message_start" and kinds[-1] == "message_stop"
        assert "content_block_delta" in kinds and "message_delta" in kinds
    elif "/responses" in path:
        if not streamed:
            assert Response.construct(**answer.json()).output_text  # As the SDK reads it.
            return
        # LiteLLM's first event of a bridged stream has no number, which the SDK bears and its types
        # do not: so only what a client goes by is looked at.
        read = list(events(answer))
        assert read[0]["type"] == "response.created" and read[-1]["type"] == "response.completed"
        words = [it["delta"] for it in read if it["type"] == "response.output_text.delta"]
        whole = read[-1]["response"]
        assert "".join(words) == whole["output"][-1]["content"][0]["text"] != ""
        assert whole["usage"]["output_tokens"] > 0
    elif streamed:
        chunks = [ChatCompletionChunk.model_validate(it) for it in events(answer)]
        assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        assert answer.text.rstrip().endswith("data: [DONE]")
    else:
        assert ChatCompletion.model_validate(answer.json()).choices[0].message.content


def test_every_recorded_request_is_expected_to_go_somewhere() -> None:
    assert sorted(EXPECTED) == sorted(path.stem for path in FOLDER.glob("*.json"))


def test_every_client_is_served_and_charged_what_the_upstream_bills(stack: Stack) -> None:
    with stack.accounting(entries=len(EXPECTED)) as account:
        for name, (task_type, group) in EXPECTED.items():
            request = recorded(name)
            answer = send(stack, request)
            assert answer.status_code == 200, (name, answer.text)
            assert_readable(answer, request["path"], bool(request["body"].get("stream")))
            said = answer.headers
            assert task_type in (None, said["x-farebox-task-type"]), name
            assert group in (None, said["x-farebox-model"]), name
            # LiteLLM makes fields of an agent's headers; nobody is told of what he did not send.
            assert "litellm_" not in said.get("x-farebox-warning", ""), name
        made = account()
    assert made.charged == made.billed > 0
    assert not made.refusals
    for line in made.lines:
        assert line.body["status"] == "ok" and "estimated" not in line.marks


def test_claude_code_may_count_tokens_and_look_whether_anybody_is_there(stack: Stack) -> None:
    request = recorded("claude-code-first-turn")
    body = {k: v for k, v in request["body"].items() if k in ("model", "messages", "tools")}
    with stack.accounting(entries=0) as account:
        answer = send(
            stack, {**request, "path": "/v1/messages/count_tokens?beta=true", "body": body}
        )
        assert answer.json()["input_tokens"] > 0
        assert httpx.head(stack.proxy.base_url + "/").status_code == 200
        made = account()
    assert made.billed == 0


def test_codex_with_its_providers_search_is_told_what_to_switch_off(stack: Stack) -> None:
    request = recorded("codex-first-turn")
    request["body"]["tools"].append({"type": "web_search", "external_web_access": False})
    answer = send(stack, request)
    assert answer.status_code == 422
    assert 'web_search = "disabled"' in answer.json()["error"]["message"]


# ── advice ───────────────────────────────────────────────────────────────────────────────────────

# Of the tier reason, and without a gate of its own.
CAUSE = "Find the root cause of this deadlock"


def assert_advised(found: Any, headers: httpx.Headers) -> None:
    advice = found["advice"]
    assert (advice["mismatch"], advice["recommended_model"]) == ("below", "claude-opus")
    assert "(1) Start a new session with claude-opus." in advice["announcement"]
    assert headers["x-farebox-advice"].startswith("mismatch=below; task_type=debugging_complex")
    assert "model_below_task" in headers["x-farebox-warning"]


def test_who_asks_is_given_the_advice_by_every_sdk(stack: Stack) -> None:
    with stack.accounting(entries=3) as account:
        asked = {"metadata": {"farebox_advice": True}}
        chat = stack.openai().chat.completions.with_raw_response.create(
            model="claude-haiku", messages=[{"role": "user", "content": CAUSE}], extra_body=asked
        )
        assert_advised((chat.parse().model_extra or {})["farebox"], chat.headers)
        answer = stack.openai().responses.with_raw_response.create(
            model="claude-haiku", input=CAUSE, extra_headers={"x-farebox-advice": "true"}
        )
        assert_advised((answer.parse().model_extra or {})["farebox"], answer.headers)
        message = stack.anthropic().messages.with_raw_response.create(
            model="claude-haiku",
            max_tokens=200,
            messages=[{"role": "user", "content": CAUSE}],
            extra_body={"metadata": {"user_id": "u-1", "farebox_advice": True}},
        )
        assert_advised((message.parse().model_extra or {})["farebox"], message.headers)
        made = account()
    assert made.charged == made.billed > 0


def test_a_stream_gives_the_advice_in_its_header(stack: Stack) -> None:
    with stack.accounting(entries=2):
        for path in ("/v1/chat/completions", "/v1/messages"):
            body = {"model": "claude-haiku", "max_tokens": 50, "stream": True,
                    "messages": [{"role": "user", "content": CAUSE}]}  # fmt: skip
            answer = stack.proxy.post(path, body, headers={"x-farebox-advice": "yes"})
            assert "recommended_model=claude-opus" in answer.headers["x-farebox-advice"]
            assert "farebox" not in answer.text


def test_who_does_not_ask_or_leaves_the_choice_to_the_proxy_is_told_nothing(stack: Stack) -> None:
    plain = stack.proxy.chat(CAUSE, model="claude-haiku")
    assert "farebox" not in plain.json() and "x-farebox-advice" not in plain.headers
    chosen = stack.proxy.chat(CAUSE, metadata={"farebox_advice": True})
    assert chosen.json()["farebox"]["advice"] == {
        "mismatch": None, "task_type": "debugging_complex", "needs_tier": "reason", "model": "auto",
    }  # fmt: skip
    wrong = stack.proxy.chat(CAUSE, metadata={"farebox_advice": 7})
    assert wrong.status_code == 422


# ── farebox orchestrate ──────────────────────────────────────────────────────────────────────────


def test_orchestrate_shows_the_decision_beside_the_answer(stack: Stack, tmp_path: Path) -> None:
    environ = {"FAREBOX_PROXY": stack.proxy.base_url, "FAREBOX_KEY": MASTER_KEY}
    secret = tmp_path / "notes.md"
    secret.write_text("# Security review\nThe root cause is a race condition.\n")
    with stack.accounting(entries=2) as account:
        told = run("orchestrate", "Fix the typo", "--file", str(secret), environ=environ)
        assert told.stdout.strip()
        assert "config_edit_formatting, FAST → gemini-flash (about $" in told.stderr
        assert "why: farebox explain --decision " in told.stderr
        arguments = (
            "orchestrate",
            "-",
            "-m",
            "claude-haiku",
            "--task-type",
            "formal-decision-record",
            "--json",
        )
        found = json.loads(run(*arguments, given="Why two queues?\n", environ=environ).stdout)
        assert found["answer"] and found["usage"]["completion_tokens"] > 0
        decision = found["decision"]
        assert (decision["task_type"], decision["model"]) == ("adr_writing", "claude-haiku")
        assert found["advice"]["recommended_model"] == "claude-opus"
        made = account()
    assert made.charged == made.billed > 0


def test_orchestrate_says_why_nothing_is_answered(stack: Stack) -> None:
    environ = {"FAREBOX_PROXY": stack.proxy.base_url, "FAREBOX_KEY": MASTER_KEY}
    refused = run("orchestrate", "Hi", "--model", "no-such-model", environ=environ, code=1)
    assert "There is no model of that name here" in refused.stderr and not refused.stdout
    wrong = {**environ, "FAREBOX_KEY": "sk-nobody"}
    told = run("orchestrate", "Hi", "--json", environ=wrong, code=2)
    assert json.loads(told.stdout)["error"]["hint"] == "Check FAREBOX_KEY or --key-file."
    nobody = {**environ, "FAREBOX_PROXY": f"http://127.0.0.1:{free_port()}"}
    assert "No proxy answers" in run("orchestrate", "Hi", environ=nobody, code=1).stderr
    assert "the task is empty" in run("orchestrate", "-", environ=environ, code=2, given="").stderr
