"""Token counts of an answer, read from the shapes in which LiteLLM hands them over. Pure.

Shapes: OpenAI chat (`prompt_tokens`, `completion_tokens` and their details), the Responses API and
Anthropic (`input_tokens`, `output_tokens`). Whatever is missing is 0 in the count and makes it a
count that was not reported, if nothing at all was.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from budgets.prices import TokenUsage


def as_mapping(value: object) -> Mapping[str, Any]:
    """Return a mapping view of a dict, a Pydantic model or an object; empty for anything else."""
    if isinstance(value, Mapping):
        return value
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        dumped = dump()
        return dumped if isinstance(dumped, Mapping) else {}
    return getattr(value, "__dict__", {}) if value is not None else {}


def read_usage(usage: object) -> TokenUsage | None:
    """Return the counts of a usage object; None where it reports no tokens at all.

    OpenAI's input counts include cached tokens, Anthropic's native ones do not; LiteLLM's own
    `Usage` follows OpenAI's and adds Anthropic's names beside it. The result always includes them.
    """
    fields = as_mapping(usage)
    if not fields:
        return None
    anthropic = "prompt_tokens" not in fields and "input_tokens" in fields
    given_in = _count(fields.get("prompt_tokens")) or _count(fields.get("input_tokens"))
    given_out = _count(fields.get("completion_tokens")) or _count(fields.get("output_tokens"))
    details_in = as_mapping(
        fields.get("prompt_tokens_details") or fields.get("input_tokens_details")
    )
    details_out = as_mapping(
        fields.get("completion_tokens_details") or fields.get("output_tokens_details")
    )
    read = _count(fields.get("cache_read_input_tokens")) or _count(details_in.get("cached_tokens"))
    write = _count(fields.get("cache_creation_input_tokens")) or _count(
        details_in.get("cache_creation_tokens")
    )
    write_1h = _write_1h(fields, details_in)
    if anthropic and "input_tokens_details" not in fields:
        given_in += read + write
    if given_in == 0 and given_out == 0:
        return None
    read = min(read, given_in)
    write = min(write, given_in - read)  # A report that adds up to more than the input is wrong.
    write_1h = min(write_1h, write)
    return TokenUsage(
        input_tokens=given_in,
        output_tokens=given_out,
        cache_read_tokens=read,
        cache_write_tokens=write - write_1h,
        cache_write_1h_tokens=write_1h,
        reasoning_tokens=min(_count(details_out.get("reasoning_tokens")), given_out),
    )


def _write_1h(fields: Mapping[str, Any], details: Mapping[str, Any]) -> int:
    by_life = as_mapping(
        details.get("cache_creation_token_details") or fields.get("cache_creation")
    )
    return _count(by_life.get("ephemeral_1h_input_tokens"))


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def response_text(response: object) -> str:
    """Return the text of an answer in any of the governed shapes, for counting where none counts.

    Tool calls count with their names and arguments.
    """
    parts: list[str] = []
    _collect(as_mapping(response), parts, depth=0)
    return "\n".join(parts)


_TEXT_KEYS = ("content", "text", "arguments", "name", "reasoning_content", "thinking", "refusal")
_NESTED_KEYS = (
    "choices", "message", "delta", "content", "output", "tool_calls", "function", "input",
    "function_call", "summary", "candidates", "parts",
)  # fmt: skip
_DEPTH_MAX = 8


def _collect(value: object, parts: list[str], depth: int) -> None:
    if depth > _DEPTH_MAX:
        return
    if isinstance(value, list | tuple):
        for item in value:
            _collect(item if isinstance(item, Mapping) else as_mapping(item), parts, depth + 1)
        return
    fields = as_mapping(value)
    for key in _TEXT_KEYS:
        text = fields.get(key)
        if isinstance(text, str) and text:
            parts.append(text)
    for key in _NESTED_KEYS:
        nested = fields.get(key)
        if nested is not None and not isinstance(nested, str | int | float | bool):
            _collect(nested, parts, depth + 1)
