"""A whole answer as the stream that its client asked for, in each dialect.

A gated stream is kept back until it is judged; then it is sent in a few events that hold all of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from starlette.responses import StreamingResponse


def streamed(
    response: Any, call_type: str, headers: Mapping[str, str], model: str, usage_wanted: bool
) -> StreamingResponse:
    """Return a whole answer as a stream of server-sent events. `model` is what the client named."""
    match call_type:
        case "anthropic_messages":
            events: Iterator[bytes] = _messages(response, model)
        case "aresponses":
            events = _responses(response, model)
        case "atext_completion":
            events = _texts(_fields(response), model, usage_wanted)
        case _:
            events = _chat(_fields(response), model, usage_wanted)
    return StreamingResponse(events, media_type="text/event-stream", headers=dict(headers))


def _fields(response: Any) -> dict[str, Any]:
    fields: dict[str, Any] = response if isinstance(response, dict) else response.model_dump()
    return fields


def _chat(answer: dict[str, Any], model: str, usage_wanted: bool) -> Iterator[bytes]:
    head = {
        "id": answer.get("id"),
        "object": "chat.completion.chunk",
        "created": answer.get("created"),
        "model": model,
    }
    for choice in answer["choices"]:
        delta = {k: v for k, v in choice["message"].items() if v is not None}
        if calls := delta.get("tool_calls"):
            delta["tool_calls"] = [{"index": i, **call} for i, call in enumerate(calls)]
        yield _data(
            {**head, "choices": [{"index": choice["index"], "delta": delta, "finish_reason": None}]}
        )
    for choice in answer["choices"]:
        ended = {"index": choice["index"], "delta": {}, "finish_reason": choice["finish_reason"]}
        yield _data({**head, "choices": [ended]})
    if usage_wanted:
        yield _data({**head, "choices": [], "usage": answer.get("usage")})
    yield b"data: [DONE]\n\n"


def _texts(answer: dict[str, Any], model: str, usage_wanted: bool) -> Iterator[bytes]:
    head = {
        "id": answer.get("id"),
        "object": "text_completion",
        "created": answer.get("created"),
        "model": model,
    }
    yield _data({**head, "choices": answer["choices"]})
    if usage_wanted:
        yield _data({**head, "choices": [], "usage": answer.get("usage")})
    yield b"data: [DONE]\n\n"


def _messages(answer: Any, model: str) -> Iterator[bytes]:
    from litellm.llms.anthropic.pass_through.messages.fake_stream_iterator import (
        FakeAnthropicMessagesStreamIterator,
    )

    yield from FakeAnthropicMessagesStreamIterator({**_fields(answer), "model": model}).chunks  # type: ignore[typeddict-item]  # LiteLLM's answer, by LiteLLM's own reading of it


def _responses(answer: Any, model: str) -> Iterator[bytes]:
    from litellm.responses.streaming_iterator import build_synthetic_response_events

    answer.model = model
    for event in build_synthetic_response_events(
        transformed=answer, logging_obj=None, chunk_size=2_000
    ):
        fields = event.model_dump(mode="json", exclude_none=True)
        yield f"event: {fields['type']}\n".encode() + _data(fields)


def _data(fields: Mapping[str, Any]) -> bytes:
    text = json.dumps(fields, separators=(",", ":"), ensure_ascii=False, default=str)
    return f"data: {text}\n\n".encode()
