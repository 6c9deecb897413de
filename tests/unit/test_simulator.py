"""The fake provider: it answers as the real ones do, and its bill is right to the nanodollar."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest

from scripts.simulator.process import SimulatorProcess
from scripts.simulator.tokens import tokeniser

ROOT = Path(__file__).resolve().parents[2]
INPUT_NANO, OUTPUT_NANO, CACHED_NANO, WRITTEN_NANO = 1_000, 5_000, 100, 1_250
PRICES: dict[str, dict[str, object]] = {
    name: {
        "input_cost_per_token": 1e-06,
        "output_cost_per_token": 5e-06,
        "cache_read_input_token_cost": 1e-07,
        "cache_creation_input_token_cost": 1.25e-06,
    }
    for name in ("gpt-4o", "claude-haiku-4-5", "gemini/gemini-3.8-flash", "text-embedding-3-small")
}


@pytest.fixture(scope="module")
def process() -> Iterator[SimulatorProcess]:
    with SimulatorProcess(PRICES, first_token_ms=1) as simulator:
        yield simulator


@pytest.fixture
def simulator(process: SimulatorProcess) -> SimulatorProcess:
    process.reset()
    return process


@pytest.fixture(scope="module")
def openai_client(process: SimulatorProcess) -> Iterator[openai.OpenAI]:
    base_url = process.base_url + "/v1"
    with openai.OpenAI(base_url=base_url, api_key="sk-test", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def anthropic_client(process: SimulatorProcess) -> Iterator[anthropic.Anthropic]:
    base_url = process.base_url
    with anthropic.Anthropic(base_url=base_url, api_key="sk-test", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def http(process: SimulatorProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=process.base_url) as client:
        yield client


def chat(client: openai.OpenAI, text: str, **fields: Any) -> Any:
    """An answer, or a stream of its chunks."""
    messages: Any = [{"role": "user", "content": text}]
    return client.chat.completions.create(model="gpt-4o", messages=messages, **fields)


def only_call(simulator: SimulatorProcess) -> dict[str, Any]:
    simulator.wait_until_idle(calls_min=1)
    (call,) = simulator.calls()
    return call


# --- the bill ---------------------------------------------------------------------------------


def test_reported_usage_is_billed_exactly(
    simulator: SimulatorProcess, openai_client: openai.OpenAI
) -> None:
    """OpenAI's prompt tokens include the cached ones."""
    chat(openai_client, "[[sim: prompt_tokens=1000 cached_tokens=400 output_tokens=30]]")
    bill = simulator.bill()
    assert bill["billed_nano_usd"] == 600 * INPUT_NANO + 400 * CACHED_NANO + 30 * OUTPUT_NANO
    assert bill["by_flag"]["exact"]["calls"] == 1
    assert bill["by_model"]["gpt-4o"]["calls"] == 1


def test_anthropic_input_tokens_exclude_what_a_cache_holds(
    simulator: SimulatorProcess, anthropic_client: anthropic.Anthropic
) -> None:
    text = "[[sim: prompt_tokens=10 cached_tokens=400 cache_write_tokens=50 output_tokens=3]]"
    answer = anthropic_client.messages.create(
        model="claude-haiku-4-5", max_tokens=9, messages=[{"role": "user", "content": text}]
    )
    usage = answer.usage
    assert (usage.input_tokens, usage.cache_read_input_tokens) == (10, 400)
    assert (usage.cache_creation_input_tokens, usage.output_tokens) == (50, 3)
    expected = 10 * INPUT_NANO + 400 * CACHED_NANO + 50 * WRITTEN_NANO + 3 * OUTPUT_NANO
    assert simulator.bill()["billed_nano_usd"] == expected


def test_an_error_before_any_output_costs_nothing(
    simulator: SimulatorProcess, openai_client: openai.OpenAI
) -> None:
    with pytest.raises(openai.RateLimitError) as caught:
        chat(openai_client, "[[sim: status=429 retry_after=7]]")
    assert caught.value.response.headers["retry-after"] == "7"
    call = only_call(simulator)
    assert (call["status"], call["cost_nano_usd"], call["flags"]) == (429, 0, ["error"])


def test_a_stream_that_dies_is_billed_for_what_was_sent(
    simulator: SimulatorProcess, openai_client: openai.OpenAI
) -> None:
    text = ""
    with pytest.raises(httpx.RemoteProtocolError):
        for chunk in chat(openai_client, "[[sim: die_after_tokens=7]]", stream=True):
            text += chunk.choices[0].delta.content or ""
    assert tokeniser().count(text) == 7
    call = only_call(simulator)
    assert call["flags"] == ["estimated"]
    assert call["usage"]["output_tokens"] == 7
    prompt_tokens = call["usage"]["prompt_tokens"]
    assert call["cost_nano_usd"] == prompt_tokens * INPUT_NANO + 7 * OUTPUT_NANO


def test_a_whole_answer_that_dies_leaves_the_client_without_a_body(
    simulator: SimulatorProcess, openai_client: openai.OpenAI
) -> None:
    with pytest.raises(openai.APIConnectionError):
        chat(openai_client, "[[sim: die_after_tokens=4]]")
    call = only_call(simulator)
    assert (call["ending"], call["usage"]["output_tokens"]) == ("died", 4)


def test_a_client_that_leaves_mid_stream_pays_for_what_was_sent(
    simulator: SimulatorProcess, openai_client: openai.OpenAI
) -> None:
    stream = chat(openai_client, "[[sim: token_delay_ms=20 output_tokens=500]]", stream=True)
    for number, _ in enumerate(stream):
        if number == 5:
            break
    stream.close()
    call = only_call(simulator)
    assert (call["ending"], call["flags"]) == ("client_left", ["estimated"])
    assert 5 <= call["usage"]["output_tokens"] < 100


@pytest.mark.parametrize("directive", ["hang=1", "delay_ms=20000"])
def test_a_client_that_leaves_before_the_first_byte_pays_for_the_whole_answer(
    simulator: SimulatorProcess, openai_client: openai.OpenAI, directive: str
) -> None:
    with pytest.raises(openai.APITimeoutError):
        chat(openai_client, f"[[sim: {directive} output_tokens=50]]", timeout=0.2)
    call = only_call(simulator)
    assert (call["status"], call["flags"]) == (499, ["estimated", "abandoned"])
    assert call["usage"]["output_tokens"] == 50


def test_usage_that_is_not_reported_is_billed_as_counted(
    simulator: SimulatorProcess, openai_client: openai.OpenAI
) -> None:
    answer = chat(openai_client, "[[sim: usage=none prompt_tokens=99999 output_tokens=20]]")
    assert answer.usage is None
    call = only_call(simulator)
    assert call["flags"] == ["estimated"]
    assert call["usage"]["output_tokens"] == 20
    assert call["usage"]["prompt_tokens"] < 50


def test_a_model_without_a_price_is_billed_nothing_and_flagged(
    simulator: SimulatorProcess, openai_client: openai.OpenAI
) -> None:
    openai_client.embeddings.create(model="no-such-model", input="hello")
    assert simulator.bill()["billed_nano_usd"] == 0
    assert simulator.bill()["by_flag"]["unpriced"]["calls"] == 1


def test_a_route_that_no_provider_has_is_refused_and_seen(
    simulator: SimulatorProcess, http: httpx.Client
) -> None:
    response = http.post("/v1/images/generations", json={})
    assert response.status_code == 404
    assert only_call(simulator)["path"] == "/v1/images/generations"


def test_a_bill_after_the_last_byte_holds_the_call(
    simulator: SimulatorProcess, http: httpx.Client
) -> None:
    """Without waiting: a client that has its answer finds it billed."""
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}
    for number in range(1, 31):
        http.post("/v1/chat/completions", json=body | {"stream": number % 2 == 0})
        assert http.get("/_sim/bill").json()["calls"] == number


# --- answers -----------------------------------------------------------------------------------


def test_a_forced_tool_is_called(openai_client: openai.OpenAI) -> None:
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}}
    tool = {"type": "function", "function": {"name": "weather", "parameters": parameters}}
    answer = chat(openai_client, "Rain?", tools=[tool], tool_choice="required")
    choice = answer.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert json.loads(choice.message.tool_calls[0].function.arguments) == {"city": "simulated"}


def test_max_tokens_cuts_the_answer(openai_client: openai.OpenAI) -> None:
    answer = chat(openai_client, "Review it [[sim: output_tokens=500]]", max_tokens=5, n=3)
    assert answer.usage.completion_tokens == 15
    finishes = {choice.finish_reason for choice in answer.choices}
    assert finishes == {"length"}


# --- streams -----------------------------------------------------------------------------------


def test_a_chat_stream_reports_usage_only_when_asked(
    simulator: SimulatorProcess, openai_client: openai.OpenAI
) -> None:
    plain = list(chat(openai_client, "hello", stream=True))
    assert all(chunk.usage is None for chunk in plain)
    options = {"include_usage": True}
    asked = list(chat(openai_client, "hello", stream=True, stream_options=options))
    assert asked[-1].usage.completion_tokens > 0
    assert [call["flags"] for call in simulator.calls()] == [["estimated"], ["exact"]]


def test_an_anthropic_stream_has_the_real_sequence(http: httpx.Client) -> None:
    body = {
        "model": "claude-haiku-4-5",
        "max_tokens": 3,
        "stream": True,
        "messages": [{"role": "user", "content": "hi"}],
    }
    text = http.post("/v1/messages", json=body).text
    events = [line.removeprefix("event: ") for line in text.splitlines() if line[:6] == "event:"]
    assert events == (
        ["message_start", "content_block_start", "ping"]
        + ["content_block_delta"] * 3
        + ["content_block_stop", "message_delta", "message_stop"]
    )


def test_a_responses_stream_ends_with_its_usage(openai_client: openai.OpenAI) -> None:
    with openai_client.responses.stream(model="gpt-4o", input="hello") as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")
    assert final.usage is not None and final.usage.output_tokens > 0


def test_gemini_answers_whole_and_streamed_alike(
    simulator: SimulatorProcess, http: httpx.Client
) -> None:
    url = "/v1beta/models/gemini-3.8-flash"
    body = {"contents": [{"parts": [{"text": "hi [[sim: reasoning_tokens=7]]"}]}]}
    whole = http.post(f"{url}:generateContent", json=body).json()
    text = http.post(f"{url}:streamGenerateContent?alt=sse", json=body).text
    chunks = [json.loads(line[6:]) for line in text.splitlines() if line]
    assert chunks[-1]["usageMetadata"] == whole["usageMetadata"]
    assert whole["usageMetadata"]["thoughtsTokenCount"] == 7
    costs = {call["cost_nano_usd"] for call in simulator.calls()}
    assert len(costs) == 1


async def test_async_clients_get_the_same_answers(simulator: SimulatorProcess) -> None:
    async with anthropic.AsyncAnthropic(base_url=simulator.base_url, api_key="k") as client:
        count = await client.messages.count_tokens(
            model="claude-haiku-4-5", messages=[{"role": "user", "content": "hi"}]
        )
        async with client.messages.stream(
            model="claude-haiku-4-5", max_tokens=9, messages=[{"role": "user", "content": "hi"}]
        ) as stream:
            final = await stream.get_final_message()
    assert final.usage.input_tokens == count.input_tokens
    assert (final.stop_reason, final.usage.output_tokens) == ("max_tokens", 9)


# --- steering and records ------------------------------------------------------------------------


def test_queued_behaviours_are_taken_one_a_call(
    simulator: SimulatorProcess, openai_client: openai.OpenAI
) -> None:
    simulator.script("gpt-4o", {"status": 503}, "output_tokens=5")
    with pytest.raises(openai.InternalServerError):
        chat(openai_client, "hello")
    answers = [chat(openai_client, "hello") for _ in range(2)]
    assert answers[0].usage.completion_tokens == 5
    assert answers[1].usage.completion_tokens > 5


def test_a_call_records_what_was_passed_on_but_no_prompt_and_no_key(
    simulator: SimulatorProcess, openai_client: openai.OpenAI
) -> None:
    headers = {"x-litellm-call-id": "call-1"}
    chat(openai_client, "a secret prompt", user="ann", max_tokens=5, extra_headers=headers)
    call = only_call(simulator)
    assert call["headers"]["x-litellm-call-id"] == "call-1"
    assert call["fields"] == {"model": "gpt-4o", "user": "ann", "max_tokens": 5}
    assert call["body_keys"] == ["max_tokens", "messages", "model", "user"]
    assert "secret" not in json.dumps(call) and "sk-test" not in json.dumps(call)


# --- the process ---------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_does_not_wait_for_open_calls(number: signal.Signals) -> None:
    with SimulatorProcess(PRICES) as simulator:
        body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "[[sim: hang=1]]"}]}
        url = simulator.base_url + "/v1/chat/completions"

        def ask() -> None:
            with suppress(httpx.HTTPError):  # cut, or answered by the server's last 500
                httpx.post(url, json=body, timeout=20)

        asking = threading.Thread(target=ask)
        asking.start()
        wait_for(lambda: simulator.bill()["in_flight"] == 1)
        os.kill(simulator.pid, number)
        assert simulator._process is not None
        assert simulator._process.wait(timeout=3) == 0
        asking.join(timeout=5)
        assert not asking.is_alive()


def test_it_ends_when_its_parent_is_gone(tmp_path: Path) -> None:
    port_file = tmp_path / "port.json"
    arguments = [sys.executable, "-m", "scripts.simulator", "--port-file", str(port_file)]
    code = (
        "import os, subprocess, time\n"
        f"subprocess.Popen({arguments!r} + ['--parent-pid', str(os.getpid())])\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        wait_for(port_file.exists)
        ready = json.loads(port_file.read_text())
        assert httpx.get(ready["base_url"] + "/_sim/health").status_code == 200
    finally:
        parent.kill()
        parent.wait()
    wait_for(lambda: not is_up(ready["base_url"]))


def is_up(base_url: str) -> bool:
    try:
        return httpx.get(base_url + "/_sim/health", timeout=1).status_code == 200
    except httpx.HTTPError:
        return False


def wait_for(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    """Poll until the condition holds; fail after the bound."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.02)
