"""One normalised view of a request, whichever of the five governed call types it came as.

`read_request` takes the body as LiteLLM's pre-call hook has it and trusts nothing in it: whatever
is wrong ends in `InvalidRequest`, whose message is safe to show (it never repeats the prompt).
Reading is a single walk with stated bounds on depth, parts and characters (`walk`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from budgets.quick import quick
from hooks import shapes
from hooks.spoken import spoken
from hooks.steering import Steering, read_steering
from hooks.tasks.trajectory import NONE, Trajectory, read_trajectory
from hooks.values import MAPPING, InvalidRequest, whole
from hooks.walk import PARTS_MAX, Walk

MODEL_CHARS_MAX = 256
CHOICES_MAX = 128
OUTPUT_TOKENS_MAX = 10_000_000

GOVERNED = ("acompletion", "atext_completion", "aembedding", "aresponses", "anthropic_messages")
"""LiteLLM's call types that this view can be made of."""

_CACHE_SWITCHES = (
    "cache_control", "cache_control_injection_points", "enable_prompt_caching", "extra_body",
)  # fmt: skip
"""Fields of a body that can ask for it as a whole; what `extra_body` holds is not looked into."""

_CLIENT_TOOLS = frozenset({"function", "custom", "local_shell", "shell", "apply_patch"})
_SERVER_TOOL_KEYS = frozenset(
    {
        "googlesearch", "googlesearchretrieval", "enterprisewebsearch", "urlcontext",
        "codeexecution", "googlemaps", "filesearch",
    }
)  # fmt: skip
"""Gemini's own tools are keys: LiteLLM drops a `type` beside them. Folded, without underscores."""
_CLIENT_TOOL_PREFIXES = ("bash_", "text_editor_", "computer_", "memory_", "computer")


@quick
@dataclass(frozen=True, slots=True)
class RequestView:
    """What deciding needs of a request.

    `texts` is all text, system text and tools included; `prompt_token_ids` counts input that came
    as token numbers. `prompts` is above 1 where one request brings several inputs that have nothing
    to do with each other (text completion, embeddings). `output_max` is the caller's own maximum
    for one choice. `choices` is how many answers are asked for: `n` times the number of prompts.
    `unbounded` names kinds of content whose cost has no upper bound beforehand. `caches` is true
    where the request may ask the provider to write to its cache. `structured_output` is true where
    the answer must be JSON, by a schema or without one. `trajectory` is what was done with tools.
    """

    call_type: str
    model: str
    texts: tuple[str, ...] = field(repr=False)
    system_text: str = field(repr=False)
    last_user_text: str = field(repr=False)
    chars: int
    prompt_token_ids: int
    messages: int
    turns: int
    prompts: int
    tools: int
    images: int
    files: int
    audios: int
    output_max: int | None
    choices: int
    stream: bool
    needs: frozenset[str]
    unbounded: tuple[str, ...]
    steering: Steering
    caches: bool = False
    structured_output: bool = False
    trajectory: Trajectory = NONE

    @property
    def embeds(self) -> bool:
        """Whether vectors are asked for; they have no output tokens."""
        return self.call_type == "aembedding"


def read_request(
    data: Mapping[str, Any],
    call_type: str,
    headers: Mapping[str, str] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> RequestView:
    """Return the view of a request.

    `data` is the pre-call hook's body, `headers` the request's headers with lower-case names (only
    `x-farebox-*` are looked at), `metadata` the client's own metadata where the caller of this
    function knows it apart from LiteLLM's.

    Raises:
        InvalidRequest: something in it has the wrong type, size or value.
    """
    if call_type not in GOVERNED:
        raise InvalidRequest(f"Requests of the kind `{call_type}` cannot be read.")
    model = data.get("model")
    if not isinstance(model, str) or not model.strip():
        raise InvalidRequest("`model` is missing; ask for `auto`.", "model")
    model = model.strip()
    if len(model) > MODEL_CHARS_MAX:
        raise InvalidRequest(f"`model` is longer than {MODEL_CHARS_MAX} characters.", "model")
    if not model.isprintable():
        raise InvalidRequest("`model` has characters that no name has.", "model")

    walk = Walk()
    unbounded: list[str] = []
    prompts, token_ids, messages, turns = 1, 0, 0, 0
    system: list[str] = []
    user: list[str] = []
    match call_type:
        case "acompletion" | "anthropic_messages":
            listed = _list(data, "messages")
            if not listed:
                raise InvalidRequest("`messages` is empty.", "messages")
            messages = len(listed)
            _field(walk, data, "system", system)
            turns = _messages(walk, listed, "messages", system, user)
        case "aresponses":
            _field(walk, data, "instructions", system)
            given = data.get("input")
            if isinstance(given, str):
                walk.add(given)
                user, messages, turns = [given], 1, 1
            elif given is not None:
                listed = _list(data, "input")
                messages = len(listed)
                turns = _messages(walk, listed, "input", system, user)
                if any(_is_reference(item) for item in listed):
                    unbounded.append("stored_context")
        case "atext_completion":
            prompts, token_ids = _prompts(walk, data.get("prompt"), "prompt")
            user, messages, turns = list(walk.texts[-1:]), 1, 1
            _field(walk, data, "suffix", [])
        case _:
            if data.get("input") is None:
                raise InvalidRequest("`input` is missing.", "input")
            prompts, token_ids = _prompts(walk, data.get("input"), "input")
            user, messages, turns = list(walk.texts[-1:]), 1, 1

    tools = _tools(walk, data, unbounded)
    needs = set()
    if tools:
        needs.add("tools")
    if walk.images:
        needs.add("vision")
    if _wants_schema(walk, data):
        needs.add("json_schema")
    if walk.files:
        needs.add("files")
        unbounded.append("files")
    if walk.audios or data.get("audio"):
        needs.add("audio")
        unbounded.append("audio")
    if any(data.get(k) for k in ("previous_response_id", "conversation")) or (
        call_type == "aresponses" and data.get("prompt")
    ):
        unbounded.append("stored_context")
    if data.get("background"):
        unbounded.append("background")
    if "," in model:
        unbounded.append("several_models")
    if any(data.get(k) for k in ("web_search_options", "mcp_servers", "container")):
        unbounded.append("server_tools")
    shapes.check(data, call_type, tools="server_tools" not in unbounded)

    return RequestView(
        call_type=call_type,
        model=model,
        texts=tuple(walk.texts),
        system_text="\n".join(system),
        last_user_text="\n".join(user),
        chars=walk.chars,
        prompt_token_ids=token_ids,
        messages=messages,
        turns=turns,
        prompts=prompts,
        tools=tools,
        images=walk.images,
        files=walk.files,
        audios=walk.audios,
        output_max=None if call_type == "aembedding" else _output_max(data),
        choices=_choices(data, call_type, prompts),
        stream=data.get("stream") is True,
        needs=frozenset(needs),
        unbounded=tuple(dict.fromkeys(unbounded)),
        steering=read_steering(data, headers or {}, metadata),
        caches=walk.caches or any(data.get(key) for key in _CACHE_SWITCHES),
        structured_output="json_schema" in needs or _wants_json(data),
        trajectory=read_trajectory(data) if tools or messages > 1 else NONE,
    )


def _list(data: Mapping[str, Any], param: str) -> list[Any]:
    value = data.get(param)
    if not isinstance(value, list):
        raise InvalidRequest(f"`{param}` must be a list.", param)
    return value


def _field(walk: Walk, data: Mapping[str, Any], param: str, into: list[str]) -> None:
    """Take in a top-level field of text or parts, and its texts into `into` as well."""
    value = data.get(param)
    if value is None:
        return
    if not isinstance(value, str | list | Mapping):
        raise InvalidRequest(f"`{param}` must be text or a list of parts.", param)
    before = len(walk.texts)
    walk.content(value, param)
    into.extend(walk.texts[before:])


def _messages(walk: Walk, listed: list[Any], param: str, system: list[str], user: list[str]) -> int:
    """Take in a list of messages or items; return how many of them the user spoke.

    Afterwards `user` holds the texts of the last one of those, `system` those of system messages.
    """
    turns = 0
    for item in listed:
        if not isinstance(item, MAPPING):
            if isinstance(item, str) and param == "input":
                walk.add(item)
                continue
            raise InvalidRequest(f"Each entry of `{param}` must be an object.", param)
        role = item.get("role")
        if role is not None and not isinstance(role, str):
            raise InvalidRequest(f"`role` in `{param}` must be text.", param)
        text = walk.plain(item, param)
        if text is not None:
            texts = [text] if text else []
        else:
            before = len(walk.texts)
            walk.content(item, param)
            texts = walk.texts[before:]
        if role in ("system", "developer"):
            system.extend(texts)
        elif role == "user":
            said = spoken(item)
            if said or said is None:
                turns += 1
                user[:] = texts if said is None else said
    return turns


def _prompts(walk: Walk, value: object, param: str) -> tuple[int, int]:
    """Take in a prompt (text, texts, token numbers or lists of those); count prompts, tokens."""
    if isinstance(value, str):
        walk.add(value)
        return 1, 0
    if not isinstance(value, list) or not value:
        raise InvalidRequest(f"`{param}` must be text, or a list that is not empty.", param)
    if len(value) > PARTS_MAX * 10:
        raise InvalidRequest(f"`{param}` is too long.", param)
    if all(type(item) is int for item in value):
        return 1, len(value)
    tokens = 0
    for item in value:
        if isinstance(item, str):
            walk.add(item)
        elif isinstance(item, list) and all(type(token) is int for token in item):
            tokens += len(item)
        else:
            raise InvalidRequest(f"Each entry of `{param}` must be text or token numbers.", param)
    return len(value), tokens


def _tools(walk: Walk, data: Mapping[str, Any], unbounded: list[str]) -> int:
    """Take in the tools as text; note those that the provider would run itself."""
    count = 0
    for param in ("tools", "functions"):
        value = data.get(param)
        if value is None:
            continue
        for tool in _list(data, param):
            if not isinstance(tool, MAPPING):
                raise InvalidRequest(f"Each entry of `{param}` must be an object.", param)
            count += 1
            walk.opaque(tool, param)
            if param == "tools" and not _runs_at_client(tool):
                unbounded.append("server_tools")
    return count


def _is_reference(item: object) -> bool:
    """Whether an item of the Responses API only names one that the provider has stored."""
    if not isinstance(item, MAPPING) or "id" not in item:
        return False
    kind = item.get("type")
    return kind == "item_reference" or (kind is None and "content" not in item)


def _runs_at_client(tool: Mapping[str, Any]) -> bool:
    if any(str(key).replace("_", "").lower() in _SERVER_TOOL_KEYS for key in tool):
        return False
    kind = tool.get("type")
    place = tool.get("environment")
    if kind == "shell" and isinstance(place, MAPPING) and place.get("type") != "local":
        return False  # A container of the provider's, which costs by itself.
    if kind == "namespace":
        # Codex's word for a group of its own tools.
        inner = tool.get("tools")
        return isinstance(inner, list) and all(
            isinstance(one, MAPPING) and one.get("type") != kind and _runs_at_client(one)
            for one in inner
        )
    if kind is None:
        # Anthropic's own shape has a name and no type; Gemini's server tools have neither.
        return isinstance(tool.get("name"), str) or "function" in tool
    if not isinstance(kind, str):
        return False
    return kind in _CLIENT_TOOLS or kind.startswith(_CLIENT_TOOL_PREFIXES)


def _wants_json(data: Mapping[str, Any]) -> bool:
    """Whether the answer must be JSON of any shape: the older way, without a schema."""
    asked = [data.get("response_format")]
    text = data.get("text")
    if text is not None and isinstance(text, MAPPING):
        asked.append(text.get("format"))
    return any(isinstance(it, MAPPING) and it.get("type") == "json_object" for it in asked if it)


def _wants_schema(walk: Walk, data: Mapping[str, Any]) -> bool:
    """Whether the answer must follow a JSON schema, which counts as input text too."""
    places = [data.get("response_format"), data.get("output_format")]
    for name in ("text", "output_config"):
        holder = data.get(name)
        if holder is not None and isinstance(holder, MAPPING):
            places.append(holder.get("format"))
    wanted = False
    for place in places:
        if place is not None and isinstance(place, MAPPING):
            walk.opaque(place, "response_format")
            # Gemini's own spelling stands beside `type: json_object`.
            wanted = wanted or place.get("type") == "json_schema" or "response_schema" in place
    return wanted


def _output_max(data: Mapping[str, Any]) -> int | None:
    """Return the caller's maximum: of several, the largest, since any of them may be honoured."""
    given = (
        whole(data, param, 1, OUTPUT_TOKENS_MAX)
        for param in ("max_tokens", "max_completion_tokens", "max_output_tokens")
    )
    return max((value for value in given if value is not None), default=None)


def _choices(data: Mapping[str, Any], call_type: str, prompts: int) -> int:
    if call_type == "aembedding":
        return 1
    n = whole(data, "n", 1, CHOICES_MAX) or 1
    best = whole(data, "best_of", 1, CHOICES_MAX) if call_type == "atext_completion" else None
    return max(n, best or 1) * prompts
