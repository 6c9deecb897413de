"""The text of an answer in every dialect, and how it ended. Pure.

Shapes are LiteLLM's objects or plain mappings of chat, text, Responses and Anthropic messages.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Part:
    """One answer of those that a response holds.

    `cut_off` is true where it ended at its limit of output, `filtered` where the provider kept it
    back, `calls_tool` where it asks for a tool: it is then no answer yet.
    """

    text: str
    cut_off: bool = False
    filtered: bool = False
    calls_tool: bool = False


def parts_of(response: object) -> tuple[Part, ...]:
    """Return the answers of a response: one for each choice, one for the other dialects."""
    choices = _get(response, "choices")
    if isinstance(choices, list):
        return tuple(_choice(choice) for choice in choices)
    output = _get(response, "output")
    if isinstance(output, list):
        return (_responses(response, output),)
    content = _get(response, "content")
    if isinstance(content, list):
        return (_message(response, content),)
    return ()


def _choice(choice: object) -> Part:
    message = _get(choice, "message")
    reason = _get(choice, "finish_reason")
    text = _get(choice, "text") if message is None else _text_of(_get(message, "content"))
    calls = _get(message, "tool_calls") or _get(message, "function_call")
    return Part(
        text=text if isinstance(text, str) else "",
        cut_off=reason == "length",
        filtered=reason == "content_filter",
        calls_tool=bool(calls),
    )


def _responses(response: object, output: list[Any]) -> Part:
    texts = [_text_of(_get(item, "content")) for item in output if _is(item, "message")]
    details = _get(response, "incomplete_details")
    reason = _get(details, "reason")
    return Part(
        text="\n".join(texts),
        cut_off=reason == "max_output_tokens",
        filtered=reason == "content_filter",
        calls_tool=any(str(_get(item, "type")).endswith("_call") for item in output),
    )


def _message(response: object, content: list[Any]) -> Part:
    reason = _get(response, "stop_reason")
    return Part(
        text=_text_of(content),
        cut_off=reason in ("max_tokens", "model_context_window_exceeded"),
        filtered=reason == "refusal",
        calls_tool=any(_is(block, "tool_use") for block in content),
    )


def _text_of(content: object) -> str:
    """Return the text of a content, which is text or a list of parts with texts."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    return "\n".join(_texts(content))


def _texts(content: list[Any]) -> Iterator[str]:
    for part in content:
        text = _get(part, "text")
        if isinstance(text, str) and str(_get(part, "type")) in ("text", "output_text"):
            yield text


def _is(item: object, kind: str) -> bool:
    return bool(_get(item, "type") == kind)


def _get(value: object, name: str) -> Any:
    return value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)
