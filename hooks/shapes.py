"""The shapes that a request's fields must have: types, and what a message or a tool must bring.

Checked because LiteLLM translates requests between providers' dialects without looking: a tool
without a name or a part without its text fails there as a KeyError, after retries and fallbacks,
with a bare 500. Only what the translation needs is asked for; what is new or unknown passes, for
the provider to judge.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hooks.values import MAPPING, InvalidRequest


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _whole(value: object) -> bool:
    return (isinstance(value, float) and value.is_integer()) or type(value) is int


def _text(value: object) -> bool:
    return isinstance(value, str)


def _flag(value: object) -> bool:
    return isinstance(value, bool)


def _object(value: object) -> bool:
    return isinstance(value, MAPPING)


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _text_or_object(value: object) -> bool:
    return isinstance(value, str | Mapping)


def _text_or_texts(value: object) -> bool:
    return _text(value) or _texts(value)


_FIELDS: Mapping[str, tuple[Callable[[object], bool], str]] = {
    **dict.fromkeys(
        ("temperature", "top_p", "presence_penalty", "frequency_penalty"), (_number, "a number")
    ),
    **dict.fromkeys(
        ("top_k", "seed", "top_logprobs", "dimensions", "max_tool_calls"),
        (_whole, "a whole number"),
    ),
    **dict.fromkeys(
        ("stream", "echo", "parallel_tool_calls", "store"), (_flag, "true or false")
    ),
    **dict.fromkeys(
        (
            "user", "suffix", "reasoning_effort", "encoding_format", "verbosity", "truncation",
            "safety_identifier", "prompt_cache_key",
        ),
        (_text, "text"),
    ),
    **dict.fromkeys(
        (
            "stream_options", "logit_bias", "response_format", "thinking", "reasoning", "text",
            "output_config", "output_format",
        ),
        (_object, "an object"),
    ),
    **dict.fromkeys(("include", "stop_sequences"), (_texts, "a list of texts")),
    **dict.fromkeys(("tool_choice", "function_call"), (_text_or_object, "text or an object")),
    "stop": (_text_or_texts, "text or a list of texts"),
}  # fmt: skip

_ROLES = {
    "acompletion": frozenset({"system", "developer", "user", "assistant", "tool", "function"}),
    "anthropic_messages": frozenset({"system", "user", "assistant"}),
}

_NEEDS_TEXT = frozenset({"text", "input_text", "output_text"})


def check(data: Mapping[str, Any], call_type: str, tools: bool = True) -> None:
    """Pass a body whose fields have shapes that can be translated; `tools` says whether to look at
    those: what a provider's own tools look like is the provider's business.

    Raises:
        InvalidRequest: a field has another type, or lacks what it needs.
    """
    for name, value in data.items():
        rule = _FIELDS.get(name)
        if rule is not None and value is not None and not rule[0](value):
            raise InvalidRequest(f"`{name}` must be {rule[1]}.", name)
    roles = _ROLES.get(call_type)
    if roles is not None and isinstance(data.get("messages"), list):
        for message in data["messages"]:
            _check_message(message, roles)
    if call_type == "aresponses" and isinstance(data.get("input"), list):
        for item in data["input"]:
            if isinstance(item, MAPPING):
                _check_content(item.get("content"), "input")
    if tools:
        _check_tools(data)
    choice = data.get("tool_choice")
    if choice is not None and isinstance(choice, MAPPING) and not _text(choice.get("type")):
        raise InvalidRequest("`tool_choice` must have a `type`.", "tool_choice")
    wanted = data.get("response_format")
    if wanted is not None and isinstance(wanted, MAPPING) and not _text(wanted.get("type")):
        raise InvalidRequest("`response_format` must have a `type`.", "response_format")


def _check_message(message: object, roles: frozenset[str]) -> None:
    if not isinstance(message, MAPPING):
        return  # Reading says so.
    role = message.get("role")
    if not isinstance(role, str) or role not in roles:
        raise InvalidRequest(f"`role` must be one of {', '.join(sorted(roles))}.", "messages")
    if role != "assistant" and message.get("content") is None:
        raise InvalidRequest(f"A message of the role {role} needs `content`.", "messages")
    _check_content(message.get("content"), "messages")
    calls = message.get("tool_calls")
    if calls is None:
        return
    for call in calls if isinstance(calls, list) else [None]:
        function = call.get("function") if isinstance(call, MAPPING) else None
        if not isinstance(function, MAPPING) or not _text(function.get("name")):
            raise InvalidRequest("Each of `tool_calls` needs a function with a name.", "messages")


def _check_content(content: object, param: str) -> None:
    if content is None or isinstance(content, str):
        return
    if not isinstance(content, list):
        raise InvalidRequest("`content` must be text or a list of parts.", param)
    for part in content:
        kind = part.get("type") if isinstance(part, MAPPING) else None
        if not isinstance(part, MAPPING) or not isinstance(kind, str):
            raise InvalidRequest("Each part of `content` must be an object with a `type`.", param)
        if kind in _NEEDS_TEXT and not _text(part.get("text")):
            raise InvalidRequest(f"A part of the type {kind} needs `text`.", param)
        if kind == "image_url":
            image = part.get("image_url")
            address = image.get("url") if isinstance(image, MAPPING) else image
            if not _text(address):
                raise InvalidRequest("A part of the type image_url needs its `url`.", param)
        if kind == "image" and not _object(part.get("source")):
            raise InvalidRequest("A part of the type image needs its `source`.", param)


def _check_tools(data: Mapping[str, Any]) -> None:
    for param in ("tools", "functions"):
        listed = data.get(param)
        for tool in listed if isinstance(listed, list) else ():
            if not isinstance(tool, MAPPING):
                return  # Reading says so.
            inner = tool.get("function")
            if inner is not None and not isinstance(inner, MAPPING):
                raise InvalidRequest("`function` of a tool must be an object.", param)
            if inner is None and tool.get("type") not in (None, "function", "custom"):
                continue  # A tool of the provider's own.
            named = tool if inner is None else inner
            if not _text(named.get("name")):
                raise InvalidRequest(f"Each of `{param}` needs a `name`.", param)
            for schema in ("parameters", "input_schema"):
                if not isinstance(named.get(schema), Mapping | None):
                    raise InvalidRequest(f"`{schema}` of a tool must be an object.", param)
