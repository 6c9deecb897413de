"""OpenAI's Responses dialect: POST /v1/responses, with the event names of the real stream."""

from collections.abc import Iterator, Mapping
from typing import Any

from scripts.simulator.ask import (
    Ask,
    Body,
    Choice,
    Event,
    Plan,
    Prompt,
    grouped,
    mapping_of,
    sse,
    text_of,
    whole_number,
)
from scripts.simulator.openai import (
    TOKENS_PER_ANSWER,
    TOKENS_PER_MESSAGE,
    count_tools,
    error_body,
    forced_tool,
    schema_of,
)

_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}


class Responses:
    """POST /v1/responses"""

    name = "openai_responses"
    provider = "openai"
    reports_input_early = False

    def read(self, body: Body, path: str) -> Ask:
        prompt = Prompt(overhead_tokens=TOKENS_PER_ANSWER)
        if body.get("instructions"):
            prompt.add(body["instructions"])
            prompt.overhead_tokens += TOKENS_PER_MESSAGE
        given = body.get("input", "")
        prompt.overhead_tokens += TOKENS_PER_MESSAGE * (len(given) if type(given) is list else 1)
        prompt.add(given)
        count_tools(body, prompt)
        return Ask(
            model=text_of(body, "model"),
            text=prompt.text,
            prompt_tokens=prompt.tokens,
            output_tokens_max=whole_number(body, "max_output_tokens"),
            stream=body.get("stream") is True,
            tool=forced_tool(body),
            json_schema=schema_of(mapping_of(mapping_of(body, "text"), "format")),
        )

    def error(self, status: int, message: str) -> dict[str, Any]:
        return error_body(status, message)

    def answer(self, ask: Ask, plan: Plan, body: Body) -> dict[str, Any]:
        choice = plan.choices[0]
        reason = _INCOMPLETE.get(choice.finish)
        status = "incomplete" if reason else "completed"
        return self._head(plan, body) | {
            "status": status,
            "incomplete_details": {"reason": reason} if reason else None,
            "output": [_item(plan, choice, status, choice.text)],
            "usage": _usage(plan),
        }

    def events(self, ask: Ask, plan: Plan, body: Body) -> Iterator[Event]:
        number = 0

        def event(kind: str, data: Mapping[str, Any]) -> bytes:
            nonlocal number
            number += 1
            return sse({"type": kind, "sequence_number": number - 1, **data}, kind)

        choice = plan.choices[0]
        final = self.answer(ask, plan, body)
        item = final["output"][0]
        begun = self._head(plan, body) | {"status": "in_progress", "output": [], "usage": None}
        at: dict[str, Any] = {"item_id": item["id"], "output_index": 0}
        yield Event(event("response.created", {"response": begun}))
        yield Event(event("response.in_progress", {"response": begun}))
        empty = _item(plan, choice, "in_progress", "") | ({} if choice.tool else {"content": []})
        yield Event(event("response.output_item.added", {"output_index": 0, "item": empty}))
        if choice.tool:
            prefix = "response.function_call_arguments"
            done: dict[str, Any] = {"arguments": choice.text, "name": choice.tool}
        else:
            prefix = "response.output_text"
            at["content_index"] = 0
            done = {"text": choice.text, "logprobs": []}
            yield Event(event("response.content_part.added", at | {"part": _part("")}))
        extra: dict[str, Any] = {} if choice.tool else {"logprobs": []}
        for text, tokens in grouped(choice.pieces, plan.pieces_per_event):
            yield Event(event(f"{prefix}.delta", at | {"delta": text} | extra), tokens)
        yield Event(event(f"{prefix}.done", at | done))
        if not choice.tool:
            part = at | {"part": _part(choice.text)}
            yield Event(event("response.content_part.done", part))
        yield Event(event("response.output_item.done", {"output_index": 0, "item": item}))
        yield Event(event(f"response.{final['status']}", {"response": final}))

    @staticmethod
    def _head(plan: Plan, body: Body) -> dict[str, Any]:
        return {
            "id": f"resp_{plan.id}",
            "object": "response",
            "created_at": plan.created,
            "model": plan.model,
            "status": "completed",
            "error": None,
            "incomplete_details": None,
            "instructions": None,  # the real one echoes them; the simulator repeats no prompt
            "max_output_tokens": body.get("max_output_tokens"),
            "metadata": body.get("metadata") or {},
            "parallel_tool_calls": True,
            "temperature": 1.0,
            "tool_choice": body.get("tool_choice") or "auto",
            "tools": body.get("tools") or [],
            "top_p": 1.0,
        }


def _usage(plan: Plan) -> dict[str, Any] | None:
    usage = plan.usage
    if not plan.usage_reported:
        return None
    details = {"cached_tokens": usage.cached_tokens}
    if usage.cache_write_tokens:
        details["cache_write_tokens"] = usage.cache_write_tokens
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": details,
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.prompt_tokens + usage.output_tokens,
    }


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _item(plan: Plan, choice: Choice, status: str, text: str) -> dict[str, Any]:
    if choice.tool:
        return {
            "type": "function_call",
            "id": f"fc_{plan.id}",
            "call_id": f"call_{plan.id}",
            "name": choice.tool,
            "arguments": text,
            "status": status,
        }
    return {
        "type": "message",
        "id": f"msg_{plan.id}",
        "role": "assistant",
        "status": status,
        "content": [_part(text)],
    }
