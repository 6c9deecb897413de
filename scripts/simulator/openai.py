"""OpenAI's dialect: chat completions, text completions and embeddings. (Responses stand apart.)"""

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
    compact_json,
    embedding,
    embedding_base64,
    grouped,
    list_of,
    mapping_of,
    sse,
    text_of,
    whole_number,
)
from scripts.simulator.billing import Usage
from scripts.simulator.tokens import tokeniser

TOKENS_PER_MESSAGE = 4  # framing and role, as OpenAI's cookbook counts them
TOKENS_PER_ANSWER = 3  # every answer is primed with <|start|>assistant<|message|>
CHOICES_MAX = 128
EMBEDDING_DIMENSIONS = 1536
_ERROR_TYPES = {400: "invalid_request_error", 401: "authentication_error", 429: "rate_limit_error"}
_FINISH = {
    "stop": "stop",
    "length": "length",
    "content_filter": "content_filter",
    "tool": "tool_calls",
}


def error_body(status: int, message: str) -> dict[str, Any]:
    """OpenAI's error shape."""
    kind = _ERROR_TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    code = {401: "invalid_api_key", 404: "not_found", 429: "rate_limit_exceeded"}.get(status)
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def usage_body(usage: Usage) -> dict[str, Any]:
    """OpenAI's usage: cached and written tokens are part of `prompt_tokens`."""
    details = {"cached_tokens": usage.cached_tokens, "audio_tokens": 0}
    if usage.cache_write_tokens:
        details["cache_write_tokens"] = usage.cache_write_tokens
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.prompt_tokens + usage.output_tokens,
        "prompt_tokens_details": details,
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def count_tools(body: Body, prompt: Prompt) -> None:
    """Tools are read by the model: their JSON counts as input, but is no text of the prompt."""
    if body.get("tools"):
        prompt.overhead_tokens += tokeniser().count(compact_json(body["tools"]))


def choices_wanted(body: Body) -> int:
    """The field `n`."""
    wanted = whole_number(body, "n") or 1
    if wanted > CHOICES_MAX:
        raise BadRequest(f"'n' must not be above {CHOICES_MAX}")
    return wanted


def forced_tool(body: Body) -> Tool | None:
    """The tool that `tool_choice` demands, in the form of chat or of responses."""
    choice = body.get("tool_choice")
    tools = [tool for tool in body.get("tools") or [] if isinstance(tool, Mapping)]
    flat = [{**tool, **mapping_of(tool, "function")} for tool in tools]
    if choice == "required":
        named = flat[:1]
    elif isinstance(choice, Mapping):
        name = choice.get("name") or mapping_of(choice, "function").get("name")
        named = [tool for tool in flat if tool.get("name") == name]
    else:
        return None
    if not named:
        raise BadRequest("'tool_choice' demands a tool that is not in 'tools'")
    return Tool(str(named[0].get("name")), mapping_of(named[0], "parameters"))


def schema_of(form: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The schema of a `response_format` (chat) or a `text.format` (responses)."""
    match form.get("type"):
        case "json_object":
            return {}
        case "json_schema":
            return mapping_of(form, "schema") or mapping_of(
                mapping_of(form, "json_schema"), "schema"
            )
        case _:
            return None


class _Base:
    name = "openai"
    provider = "openai"
    reports_input_early = False

    def error(self, status: int, message: str) -> dict[str, Any]:
        return error_body(status, message)


class ChatCompletions(_Base):
    """POST /v1/chat/completions"""

    def read(self, body: Body, path: str) -> Ask:
        prompt = Prompt(overhead_tokens=TOKENS_PER_ANSWER)
        for message in list_of(body, "messages"):
            if not isinstance(message, Mapping):
                raise BadRequest("every item of 'messages' must be an object")
            prompt.overhead_tokens += TOKENS_PER_MESSAGE
            prompt.add(message.get("content"))
            prompt.add(message.get("tool_calls"))
        count_tools(body, prompt)
        stream = body.get("stream") is True
        return Ask(
            model=text_of(body, "model"),
            text=prompt.text,
            prompt_tokens=prompt.tokens,
            output_tokens_max=whole_number(body, "max_completion_tokens", "max_tokens"),
            choices=choices_wanted(body),
            stream=stream,
            usage_wanted=not stream
            or mapping_of(body, "stream_options").get("include_usage") is True,
            tool=forced_tool(body),
            json_schema=schema_of(mapping_of(body, "response_format")),
        )

    def answer(self, ask: Ask, plan: Plan, body: Body) -> dict[str, Any]:
        answer = self._head(plan, "chat.completion") | {
            "choices": [
                {
                    "index": index,
                    "message": _message(plan, index, choice),
                    "logprobs": None,
                    "finish_reason": _FINISH[choice.finish],
                }
                for index, choice in enumerate(plan.choices)
            ],
        }
        return answer | ({"usage": usage_body(plan.usage)} if plan.usage_reported else {})

    def events(self, ask: Ask, plan: Plan, body: Body) -> Iterator[Event]:
        head = self._head(plan, "chat.completion.chunk")
        if plan.usage_reported:
            head["usage"] = None

        def chunk(index: int, delta: dict[str, Any], finish: str | None = None) -> bytes:
            choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
            return sse(head | {"choices": [choice]})

        for index, choice in enumerate(plan.choices):
            first: dict[str, Any] = {
                "role": "assistant",
                "content": "" if not choice.tool else None,
            }
            if choice.tool:
                first["tool_calls"] = [_tool_call(plan, index, choice.tool, "") | {"index": 0}]
            yield Event(chunk(index, first))
            for text, tokens in grouped(choice.pieces, plan.pieces_per_event):
                delta: dict[str, Any] = {"content": text}
                if choice.tool:
                    delta = {"tool_calls": [{"index": 0, "function": {"arguments": text}}]}
                yield Event(chunk(index, delta), tokens)
            yield Event(chunk(index, {}, _FINISH[choice.finish]))
        if plan.usage_reported:
            yield Event(sse(head | {"choices": [], "usage": usage_body(plan.usage)}))
        yield Event(sse("[DONE]"))

    @staticmethod
    def _head(plan: Plan, kind: str) -> dict[str, Any]:
        return {
            "id": f"chatcmpl-{plan.id}",
            "object": kind,
            "created": plan.created,
            "model": plan.model,
            "service_tier": "default",
            "system_fingerprint": "fp_simulated",
        }


def _tool_call(plan: Plan, index: int, name: str, arguments: str) -> dict[str, Any]:
    return {
        "id": f"call_{plan.id[:20]}{index}",
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }


def _message(plan: Plan, index: int, choice: Choice) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": None, "refusal": None}
    if choice.tool:
        return message | {"tool_calls": [_tool_call(plan, index, choice.tool, choice.text)]}
    return message | {"content": choice.text}


class TextCompletions(_Base):
    """POST /v1/completions"""

    def read(self, body: Body, path: str) -> Ask:
        prompt = Prompt()
        given = body.get("prompt", "")
        if isinstance(given, list) and given and isinstance(given[0], int):
            prompt.overhead_tokens = len(given)  # a prompt that is tokens already
        else:
            prompt.add(given)
        stream = body.get("stream") is True
        return Ask(
            model=text_of(body, "model"),
            text=prompt.text,
            prompt_tokens=prompt.tokens,
            output_tokens_max=whole_number(body, "max_tokens"),
            choices=choices_wanted(body),
            stream=stream,
            usage_wanted=not stream
            or mapping_of(body, "stream_options").get("include_usage") is True,
        )

    def answer(self, ask: Ask, plan: Plan, body: Body) -> dict[str, Any]:
        answer = self._head(plan) | {
            "choices": [
                self._choice(index, choice.text, _FINISH[choice.finish])
                for index, choice in enumerate(plan.choices)
            ],
        }
        return answer | ({"usage": usage_body(plan.usage)} if plan.usage_reported else {})

    def events(self, ask: Ask, plan: Plan, body: Body) -> Iterator[Event]:
        head = self._head(plan) | ({"usage": None} if plan.usage_reported else {})
        for index, choice in enumerate(plan.choices):
            for text, tokens in grouped(choice.pieces, plan.pieces_per_event):
                yield Event(sse(head | {"choices": [self._choice(index, text, None)]}), tokens)
            last = self._choice(index, "", _FINISH[choice.finish])
            yield Event(sse(head | {"choices": [last]}))
        if plan.usage_reported:
            yield Event(sse(head | {"choices": [], "usage": usage_body(plan.usage)}))
        yield Event(sse("[DONE]"))

    @staticmethod
    def _head(plan: Plan) -> dict[str, Any]:
        return {
            "id": f"cmpl-{plan.id}",
            "object": "text_completion",
            "created": plan.created,
            "model": plan.model,
        }

    @staticmethod
    def _choice(index: int, text: str, finish: str | None) -> dict[str, Any]:
        return {"text": text, "index": index, "logprobs": None, "finish_reason": finish}


class Embeddings(_Base):
    """POST /v1/embeddings"""

    def read(self, body: Body, path: str) -> Ask:
        inputs = self._inputs(body)
        texts = [text for text in inputs if isinstance(text, str)]
        counted = sum(tokeniser().count(text) for text in texts)
        counted += sum(len(tokens) for tokens in inputs if isinstance(tokens, list))
        return Ask(
            model=text_of(body, "model"),
            text="\n".join(texts),
            prompt_tokens=counted,
            embeds=len(inputs),
        )

    def answer(self, ask: Ask, plan: Plan, body: Body) -> dict[str, Any]:
        dimensions = whole_number(body, "dimensions") or EMBEDDING_DIMENSIONS
        data = []
        for index, text in enumerate(self._inputs(body)):
            vector = embedding(str(text), dimensions)
            as_text = body.get("encoding_format") == "base64"
            value = embedding_base64(vector) if as_text else vector
            data.append({"object": "embedding", "index": index, "embedding": value})
        answer: dict[str, Any] = {"object": "list", "data": data, "model": plan.model}
        if plan.usage_reported:
            prompt_tokens = plan.usage.prompt_tokens
            answer["usage"] = {"prompt_tokens": prompt_tokens, "total_tokens": prompt_tokens}
        return answer

    def events(self, ask: Ask, plan: Plan, body: Body) -> Iterator[Event]:
        raise AssertionError("embeddings do not stream, and no body asks for it")

    @staticmethod
    def _inputs(body: Body) -> list[str | list[int]]:
        given = body.get("input")
        one_text = isinstance(given, str)
        one_token_list = isinstance(given, list) and bool(given) and isinstance(given[0], int)
        if one_text or one_token_list:
            given = [given]
        if not isinstance(given, list) or not given:
            raise BadRequest("'input' is required and must be a text, tokens, or a list of them")
        return given
