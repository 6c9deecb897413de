"""Anthropic's dialect: POST /v1/messages, and the free token count beside it."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from scripts.simulator.ask import (
    Ask,
    BadRequest,
    Body,
    Choice,
    Event,
    Plan,
    Prompt,
    Tool,
    grouped,
    list_of,
    mapping_of,
    sse,
    text_of,
    whole_number,
)
from scripts.simulator.openai import TOKENS_PER_ANSWER, TOKENS_PER_MESSAGE, count_tools

_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}
_STOP = {
    "stop": "end_turn",
    "length": "max_tokens",
    "content_filter": "refusal",
    "tool": "tool_use",
}


class Messages:
    """POST /v1/messages"""

    name = "anthropic"
    provider = "anthropic"
    reports_input_early = True

    def read(self, body: Body, path: str) -> Ask:
        prompt = self.prompt(body)
        if body.get("max_tokens") is None:
            raise BadRequest("max_tokens: Field required")
        return Ask(
            model=text_of(body, "model"),
            text=prompt.text,
            prompt_tokens=prompt.tokens,
            output_tokens_max=whole_number(body, "max_tokens"),
            stream=body.get("stream") is True,
            tool=_forced_tool(body),
            json_schema=_schema(body),
        )

    @staticmethod
    def prompt(body: Body) -> Prompt:
        prompt = Prompt(overhead_tokens=TOKENS_PER_ANSWER)
        prompt.add(body.get("system"))
        for message in list_of(body, "messages"):
            if not isinstance(message, Mapping):
                raise BadRequest("messages: every item must be an object")
            prompt.overhead_tokens += TOKENS_PER_MESSAGE
            prompt.add(message.get("content"))
        count_tools(body, prompt)
        return prompt

    def error(self, status: int, message: str) -> dict[str, Any]:
        kind = _ERROR_TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
        return {"type": "error", "error": {"type": kind, "message": message}}

    def answer(self, ask: Ask, plan: Plan, body: Body) -> dict[str, Any]:
        choice = plan.choices[0]
        answer = self._head(plan) | {
            "content": [_block(plan, choice)],
            "stop_reason": _STOP[choice.finish],
        }
        return answer | ({"usage": _usage(plan)} if plan.usage_reported else {})

    def events(self, ask: Ask, plan: Plan, body: Body) -> Iterator[Event]:
        choice = plan.choices[0]

        def event(kind: str, data: Mapping[str, Any]) -> bytes:
            return sse({"type": kind, **data}, kind)

        message = self._head(plan) | {"content": [], "stop_reason": None}
        if plan.usage_reported:
            # The real stream opens with the input's usage and a first few output tokens.
            message["usage"] = _usage(plan) | {"output_tokens": 1}
        yield Event(event("message_start", {"message": message}))
        block: dict[str, Any] = {"type": "text", "text": ""}
        if choice.tool:
            block = _block(plan, choice) | {"input": {}}
        yield Event(event("content_block_start", {"index": 0, "content_block": block}))
        yield Event(event("ping", {}))
        for text, tokens in grouped(choice.pieces, plan.pieces_per_event):
            delta = {"type": "text_delta", "text": text}
            if choice.tool:
                delta = {"type": "input_json_delta", "partial_json": text}
            yield Event(event("content_block_delta", {"index": 0, "delta": delta}), tokens)
        yield Event(event("content_block_stop", {"index": 0}))
        last: dict[str, Any] = {
            "delta": {"stop_reason": _STOP[choice.finish], "stop_sequence": None}
        }
        if plan.usage_reported:
            last["usage"] = _usage(plan)
        yield Event(event("message_delta", last))
        yield Event(event("message_stop", {}))

    @staticmethod
    def _head(plan: Plan) -> dict[str, Any]:
        return {
            "id": f"msg_{plan.id}",
            "type": "message",
            "role": "assistant",
            "model": plan.model,
            "stop_sequence": None,
        }


def _usage(plan: Plan) -> dict[str, Any]:
    """Anthropic's usage: `input_tokens` excludes what was read from or written to a cache."""
    usage = plan.usage
    return {
        "input_tokens": usage.input_tokens,
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "cache_read_input_tokens": usage.cached_tokens,
        "cache_creation": {
            "ephemeral_5m_input_tokens": usage.cache_write_tokens,
            "ephemeral_1h_input_tokens": 0,
        },
        "output_tokens": usage.output_tokens,
        "service_tier": "standard",
    }


def _block(plan: Plan, choice: Choice) -> dict[str, Any]:
    if not choice.tool:
        return {"type": "text", "text": choice.text}
    try:
        value = json.loads(choice.text)
    except ValueError:  # cut by max_tokens
        value = {}
    return {"type": "tool_use", "id": f"toolu_{plan.id}", "name": choice.tool, "input": value}


def _forced_tool(body: Body) -> Tool | None:
    choice = mapping_of(body, "tool_choice")
    tools = [tool for tool in body.get("tools") or [] if isinstance(tool, Mapping)]
    match choice.get("type"):
        case "any":
            named = tools[:1]
        case "tool":
            named = [tool for tool in tools if tool.get("name") == choice.get("name")]
        case _:
            return None
    if not named:
        raise BadRequest("tool_choice: demands a tool that is not in tools")
    return Tool(str(named[0].get("name")), mapping_of(named[0], "input_schema"))


def _schema(body: Body) -> Mapping[str, Any] | None:
    form = mapping_of(mapping_of(body, "output_config"), "format")
    form = form or mapping_of(body, "output_format")
    return mapping_of(form, "schema") if form.get("type") == "json_schema" else None
