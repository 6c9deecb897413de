"""What an answer says of itself, read from the shapes in which LiteLLM 1.106 hands it over.

Usage, cost, who served it, whether its client stayed; and for answers that LiteLLM could not read
or lost on the way, what can still be known of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import litellm

from budgets import money
from budgets.open_requests import Attempt, OpenRequest, Terms
from budgets.prices import TokenUsage
from callbacks.closing import Answer, terms_of
from callbacks.usage import as_mapping, read_usage, response_text


def nano(cost: object) -> int | None:
    """Return LiteLLM's cost in nanodollars; None where it gives none."""
    if isinstance(cost, bool) or not isinstance(cost, int | float):
        return None
    return money.from_usd(cost)


def read_answer(
    request: OpenRequest,
    kwargs: Mapping[str, Any],
    response: Any,
    payload: Mapping[str, Any],
    attempt: Attempt | None = None,
) -> Answer:
    """Return what LiteLLM's success event says of an answer, of the open attempt or another."""
    cache_hit = kwargs.get("cache_hit") is True or "api_call_start_time" not in kwargs
    given = as_mapping(payload.get("metadata")).get("usage_object")
    usage = read_usage(given)
    if usage is None:
        given = as_mapping(response).get("usage")
        usage = read_usage(given)
    reported = usage is not None and not _counted_by_litellm(request, as_mapping(given))
    if not cache_hit:
        terms = terms_of(request, attempt or request.open_attempt())
        usage, whole = completed(usage, terms, response)
        reported = reported and whole
    return Answer(
        cost_nano_usd=nano(kwargs.get("response_cost")),
        usage=usage,
        usage_reported=reported,
        cache_hit=cache_hit,
        serving_model=_serving_model(kwargs, response, payload),
        provider=_text(kwargs.get("custom_llm_provider")),
        sent_model=_text(payload.get("model")),
    )


def answer_of_response(
    request: OpenRequest, response: Any, attempt: Attempt | None = None
) -> Answer:
    """Return what an answer itself says, for one that LiteLLM sent on and could not log."""
    fields = as_mapping(response)
    hidden = as_mapping(getattr(response, "_hidden_params", None))
    terms = terms_of(request, attempt or request.open_attempt())
    usage, whole = completed(read_usage(fields.get("usage")), terms, response)
    return Answer(
        cost_nano_usd=None,
        usage=usage,
        usage_reported=whole,
        cache_hit=hidden.get("cache_hit") is True,
        serving_model=_text(fields.get("model")),
        provider=_text(hidden.get("custom_llm_provider")),
    )


def completed(usage: TokenUsage | None, terms: Terms, response: object) -> tuple[TokenUsage, bool]:
    """Return the usage with a local count in place of what nobody reported, and whether none was.

    Nothing is answered without input, and no words without output: where LiteLLM says 0, that part
    of the usage was lost on the way (of a stream that a fallback goes on with, its last report).
    """
    if usage is None or usage.input_tokens <= 0:
        output = usage.output_tokens if usage is not None else 0
        return TokenUsage(
            terms.input_tokens, output or count_tokens(response_text(response))
        ), False
    if usage.output_tokens <= 0 and (text := response_text(response)):
        return replace(usage, output_tokens=count_tokens(text)), False
    return usage, True


def count_tokens(text: str) -> int:
    """Return a text's tokens by the count that serves for every provider."""
    return int(litellm.token_counter(model="gpt-4o", text=text)) if text else 0


def unread_output_tokens(request_data: Mapping[str, Any]) -> int | None:
    """Return the output of an answer that LiteLLM got and could not read; None if it is unknown."""
    details = getattr(request_data.get("litellm_logging_obj"), "model_call_details", None)
    raw = as_mapping(details).get("original_response")
    if not isinstance(raw, str):
        return None
    try:
        answer = json.loads(raw)
    except ValueError:
        return None
    usage = read_usage(as_mapping(answer).get("usage"))
    if usage is not None and usage.output_tokens:
        return usage.output_tokens
    return count_tokens(response_text(answer)) or None


def relayed_output_tokens(request: OpenRequest) -> int | None:
    """Return the tokens of a stream's words that arrived; None where LiteLLM does not say.

    Its streams of Responses can count what they relayed, for clients that leave; the others keep
    the provider's chunks.
    """
    stream: Any = request.stream_object
    partial = getattr(stream, "partial_response_on_disconnect", None)
    event = partial() if callable(partial) else None
    if event is not None:
        usage = read_usage(as_mapping(getattr(event, "response", None)).get("usage"))
        return usage.output_tokens if usage is not None else None
    chunks = _provider_chunks(stream)
    if chunks:
        return count_tokens("".join(response_text(chunk) for chunk in chunks))
    # A stream of Responses that keeps what was generated, and has nothing.
    counts = hasattr(getattr(stream, "_billing_source", stream), "_generated_content")
    return 0 if counts else None


def generated_tokens(exception: BaseException | None) -> int:
    """Return the tokens that a stream had brought before the failure that LiteLLM falls back from.

    It stands on the `MidStreamFallbackError` in the chain, where there is one.
    """
    for _ in range(_CHAIN_MAX):
        text = getattr(exception, "generated_content", None)
        if isinstance(text, str) and text:
            return count_tokens(text)
        if exception is None:
            break
        exception = exception.__cause__ or exception.__context__
    return 0


_CHAIN_MAX = 8


def is_litellms(exception: BaseException | None) -> bool:
    """Say whether an error is LiteLLM's own, which speaks for the provider, and not a hook's."""
    return type(exception).__module__.startswith(("litellm.", "httpx"))


def client_left(kwargs: Mapping[str, Any], payload: Mapping[str, Any]) -> bool:
    """Say whether the client went away before the end of its stream."""
    params = as_mapping(kwargs.get("litellm_params"))
    if as_mapping(params.get("metadata")).get("client_disconnected") is True:
        return True
    return as_mapping(payload.get("error_information")).get("error_class") == "ClientDisconnected"


_WRAPPED_IN = ("_billing_source", "_source_iterator", "litellm_custom_stream_wrapper")
_WRAPPERS_MAX = 4


def _provider_chunks(stream: object) -> list[Any]:
    """Return the chunks that the innermost of LiteLLM's stream wrappers has kept, if any."""
    for _ in range(_WRAPPERS_MAX):
        chunks = getattr(stream, "chunks", None)
        if isinstance(chunks, list) and chunks:
            return chunks
        stream = next((s for n in _WRAPPED_IN if (s := getattr(stream, n, None)) is not None), None)
    return []


def _counted_by_litellm(request: OpenRequest, usage: Mapping[str, Any]) -> bool:
    """Say whether a stream ended without a usage report, so that LiteLLM counted its words.

    The wrapper keeps the provider's chunks; one of them carries the usage where it was reported.
    Streams that are not made of such chunks (Responses, Anthropic) report usage in their events:
    LiteLLM's own count in place of it has no details, which providers always give.
    """
    chunks = _provider_chunks(request.stream_object)
    if chunks:
        return not any(getattr(chunk, "usage", None) is not None for chunk in chunks)
    if not request.stream or request.facts["call_type"] not in ("aresponses", "anthropic_messages"):
        return False
    details = [
        name for name, value in usage.items() if "details" in name or "cache" in name if value
    ]
    return not details


def _serving_model(
    kwargs: Mapping[str, Any], response: object, payload: Mapping[str, Any]
) -> str | None:
    """Return the provider's own name of the model, where anything still knows it.

    The answer's `model` has been overwritten with the group's name by now, except after a fallback;
    the raw text of an answer that was not streamed keeps it. For streams only the name that was
    asked for is known. Google calls it otherwise, and an answer of its that calls a tool can have a
    `model` among the tool's arguments, as plain JSON.
    """
    raw = kwargs.get("original_response")
    if isinstance(raw, str):
        google = str(kwargs.get("custom_llm_provider")).startswith(("gemini", "vertex_ai"))
        mark = '"modelVersion":' if google and '"candidates":' in raw else '"model":'
        start = raw.find(mark)
        if start >= 0:
            rest = raw[start + len(mark) : start + 240].lstrip()
            if rest.startswith('"'):
                return rest[1:].split('"', 1)[0][:120] or None
    named = _text(payload.get("model"))
    return named.rpartition("/")[2][:120] if named else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
