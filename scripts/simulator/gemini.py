"""Gemini's dialect: POST …/models/{model}:generateContent and :streamGenerateContent?alt=sse."""

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
    sse,
    whole_number,
)
from scripts.simulator.openai import TOKENS_PER_ANSWER, TOKENS_PER_MESSAGE, count_tools

_STATUS_NAMES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_FINISH = {"stop": "STOP", "length": "MAX_TOKENS", "content_filter": "SAFETY", "tool": "STOP"}


def field_of(body: Body, name: str) -> Any:
    """A field under its JSON name or its snake_case name: Gemini takes both."""
    snake = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
    return body.get(name, body.get(snake))


class GenerateContent:
    """The two generating methods; which one is in the path."""

    name = "gemini"
    provider = "gemini"
    reports_input_early = True

    def read(self, body: Body, path: str) -> Ask:
        model, _, method = path.rsplit("models/", 1)[-1].rpartition(":")
        config = field_of(body, "generationConfig") or {}
        names = {"maxOutputTokens": field_of(config, "maxOutputTokens")}
        names |= {"candidateCount": field_of(config, "candidateCount")}
        prompt = self.prompt(body)
        return Ask(
            model=model,
            text=prompt.text,
            prompt_tokens=prompt.tokens,
            output_tokens_max=whole_number(names, "maxOutputTokens"),
            choices=min(whole_number(names, "candidateCount") or 1, 8),
            stream=method == "streamGenerateContent",
            tool=_forced_tool(body),
            json_schema=_schema(config),
        )

    @staticmethod
    def prompt(body: Body) -> Prompt:
        prompt = Prompt(overhead_tokens=TOKENS_PER_ANSWER)
        system = field_of(body, "systemInstruction")
        contents = list_of(body, "contents")
        for content in [*([system] if system else []), *contents]:
            if not isinstance(content, Mapping):
                raise BadRequest("every item of 'contents' must be an object")
            prompt.overhead_tokens += TOKENS_PER_MESSAGE
            prompt.add(content.get("parts"))
        count_tools(body, prompt)
        return prompt

    def error(self, status: int, message: str) -> dict[str, Any]:
        name = _STATUS_NAMES.get(status, "INTERNAL" if status >= 500 else "INVALID_ARGUMENT")
        return {"error": {"code": status, "message": message, "status": name}}

    def answer(self, ask: Ask, plan: Plan, body: Body) -> dict[str, Any]:
        answer = self._head(plan) | {
            "candidates": [
                _candidate(index, _part(choice, choice.text), _FINISH[choice.finish])
                for index, choice in enumerate(plan.choices)
            ],
        }
        visible = plan.usage.output_tokens - plan.usage.reasoning_tokens
        return answer | _usage(plan, visible)

    def events(self, ask: Ask, plan: Plan, body: Body) -> Iterator[Event]:
        head = self._head(plan)
        sent_tokens = 0
        for index, choice in enumerate(plan.choices):
            last_choice = index == len(plan.choices) - 1
            # A function call is never split, as in the real stream.
            size = max(len(choice.pieces), 1) if choice.tool else plan.pieces_per_event
            groups = list(grouped(choice.pieces, size)) or [("", 0)]
            for number, (text, tokens) in enumerate(groups):
                sent_tokens += tokens
                last = number == len(groups) - 1
                visible = plan.usage.output_tokens - plan.usage.reasoning_tokens
                # Every chunk reports the usage so far; the last one, the figure that is billed.
                usage = _usage(plan, visible if last and last_choice else sent_tokens)
                finish = _FINISH[choice.finish] if last else None
                candidate = _candidate(index, _part(choice, text), finish)
                yield Event(sse(head | {"candidates": [candidate]} | usage), tokens)

    @staticmethod
    def _head(plan: Plan) -> dict[str, Any]:
        return {"modelVersion": plan.model, "responseId": plan.id}


def _usage(plan: Plan, visible_tokens: int) -> dict[str, Any]:
    """Gemini's usage: cached tokens are part of the prompt's, thoughts apart from candidates'."""
    if not plan.usage_reported:
        return {}
    usage = plan.usage
    prompt_tokens = usage.prompt_tokens
    body: dict[str, Any] = {
        "promptTokenCount": prompt_tokens,
        "candidatesTokenCount": visible_tokens,
        "totalTokenCount": prompt_tokens + visible_tokens + usage.reasoning_tokens,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": prompt_tokens}],
    }
    if usage.cached_tokens:
        body["cachedContentTokenCount"] = usage.cached_tokens
        body["cacheTokensDetails"] = [{"modality": "TEXT", "tokenCount": usage.cached_tokens}]
    if usage.reasoning_tokens:
        body["thoughtsTokenCount"] = usage.reasoning_tokens
    return {"usageMetadata": body}


def _candidate(index: int, part: Mapping[str, Any], finish: str | None) -> dict[str, Any]:
    candidate: dict[str, Any] = {
        "content": {"parts": [part], "role": "model"},
        "index": index,
    }
    return candidate | ({"finishReason": finish} if finish else {})


def _part(choice: Choice, text: str) -> dict[str, Any]:
    if not choice.tool:
        return {"text": text}
    try:
        arguments = json.loads(text)
    except ValueError:  # cut by maxOutputTokens
        arguments = {}
    return {"functionCall": {"name": choice.tool, "args": arguments}}


def _forced_tool(body: Body) -> Tool | None:
    config = field_of(field_of(body, "toolConfig") or {}, "functionCallingConfig") or {}
    if str(config.get("mode", "")).upper() != "ANY":
        return None
    allowed = field_of(config, "allowedFunctionNames")
    for tool in body.get("tools") or []:
        for function in field_of(tool, "functionDeclarations") or []:
            if not allowed or function.get("name") in allowed:
                schema = function.get("parameters") or field_of(function, "parametersJsonSchema")
                return Tool(str(function.get("name")), schema or {})
    raise BadRequest("functionCallingConfig demands a function that is not in 'tools'")


def _schema(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    if field_of(config, "responseMimeType") != "application/json":
        return None
    return field_of(config, "responseSchema") or field_of(config, "responseJsonSchema") or {}
