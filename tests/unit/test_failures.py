"""What a failed attempt may have cost, for exception chains as LiteLLM 1.106 raises them."""

from __future__ import annotations

from itertools import pairwise

import aiohttp
import httpx
import litellm
import openai
import pytest

from callbacks.failures import Fate, fate_of

REQUEST = httpx.Request("POST", "http://127.0.0.1/v1/chat/completions")


def chained(*exceptions: BaseException) -> BaseException:
    """Return the first exception, each caused by the next."""
    for outer, inner in pairwise(exceptions):
        outer.__cause__ = inner
    return exceptions[0]


def status_error(code: int) -> list[BaseException]:
    response = httpx.Response(code, request=REQUEST)
    return [
        openai.APIStatusError("refused", response=response, body=None),
        httpx.HTTPStatusError("refused", request=REQUEST, response=response),
    ]


def internal(message: str = "x") -> litellm.InternalServerError:
    return litellm.InternalServerError(message, llm_provider="openai", model="m")


def timeout() -> litellm.Timeout:
    return litellm.Timeout("x", llm_provider="openai", model="m")


@pytest.mark.parametrize("code", [400, 401, 408, 429, 500, 503])
def test_an_error_status_costs_nothing(code: int) -> None:
    outer = timeout() if code == 408 else internal()
    assert fate_of(chained(outer, *status_error(code))) is Fate.REFUSED


def test_a_refused_connection_was_not_sent() -> None:
    chain = chained(
        internal(),
        openai.APIConnectionError(request=REQUEST),
        httpx.ConnectError("refused"),
        ConnectionRefusedError(),
    )
    assert fate_of(chain) is Fate.NOT_SENT


def test_a_time_out_while_waiting_may_have_been_billed() -> None:
    chain = chained(timeout(), openai.APITimeoutError(request=REQUEST), httpx.ReadTimeout("slow"))
    assert fate_of(chain) is Fate.MAYBE_BILLED


def test_a_time_out_while_connecting_was_not_sent() -> None:
    chain = chained(
        timeout(), openai.APITimeoutError(request=REQUEST), httpx.ConnectTimeout("slow")
    )
    assert fate_of(chain) is Fate.NOT_SENT


def test_a_connection_cut_in_the_answer_may_have_been_billed() -> None:
    chain = chained(
        internal(),
        openai.APIConnectionError(request=REQUEST),
        httpx.ReadError("cut"),
        aiohttp.ClientPayloadError(),
    )
    assert fate_of(chain) is Fate.MAYBE_BILLED


def test_an_answer_that_could_not_be_read_was_billed() -> None:
    assert fate_of(chained(internal(), KeyError("usage"))) is Fate.UNREADABLE


def test_an_answer_of_geminis_that_could_not_be_read_was_billed() -> None:
    """LiteLLM gives it a status of its own, 400, which the provider never sent."""
    error = litellm.BadRequestError(
        "GeminiException - Error converting to valid response block=usageMetadata not found",
        model="m",
        llm_provider="gemini",
    )
    assert fate_of(chained(error, ValueError("usageMetadata not found"))) is Fate.UNREADABLE


def test_a_refusal_by_litellm_itself_costs_nothing() -> None:
    error = litellm.BadRequestError("no such parameter", model="m", llm_provider="openai")
    assert fate_of(error) is Fate.REFUSED


def test_an_earlier_attempt_further_in_does_not_decide() -> None:
    """A retry's chain ends in the attempt before it, through `__context__`."""
    now = status_error(429)
    now[-1].__context__ = chained(timeout(), httpx.ReadTimeout("the attempt before"))
    assert fate_of(chained(internal(), *now)) is Fate.REFUSED


def test_no_deployment_to_send_to_was_not_sent() -> None:
    assert fate_of(ValueError("no deployments available")) is Fate.NOT_SENT
