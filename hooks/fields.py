"""The allow-list of body fields: what a client may say, for each kind of call.

LiteLLM honours many fields of a body that steer its router, switch logging off, or change what is
billed (`fallbacks`, `num_retries`, `api_key`, `mock_response`, `service_tier`, …), and passes any
unknown field on to the provider. So only the fields below pass. The others are taken out, and the
answer says which in `x-farebox-warning`. A policy can add fields under `requests.allow_fields`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, MutableMapping
from typing import Any

_SAMPLING = frozenset(
    {"temperature", "top_p", "top_k", "seed", "stop", "presence_penalty", "frequency_penalty"}
)
_COMMON = frozenset({"model", "stream", "user", "metadata"})
_TOOLS = frozenset({"tools", "tool_choice", "parallel_tool_calls"})

ALLOWED: dict[str, frozenset[str]] = {
    "acompletion": _COMMON
    | _SAMPLING
    | _TOOLS
    | {
        "messages", "max_tokens", "max_completion_tokens", "n", "stream_options", "logprobs",
        "top_logprobs", "logit_bias", "response_format", "reasoning_effort", "thinking",
        "functions", "function_call", "verbosity", "safety_identifier", "prompt_cache_key",
        "cache_control",
    },
    "atext_completion": _COMMON
    | _SAMPLING
    | {
        "prompt", "max_tokens", "n", "best_of", "echo", "suffix", "logprobs", "logit_bias",
        "stream_options",
    },
    "aresponses": _COMMON
    | _SAMPLING
    | _TOOLS
    | {
        "input", "instructions", "max_output_tokens", "text", "reasoning", "truncation", "include",
        "store", "top_logprobs", "stream_options", "safety_identifier", "prompt_cache_key",
        "max_tool_calls",
    },
    "anthropic_messages": _COMMON
    | _SAMPLING
    | _TOOLS
    | {
        "messages", "system", "max_tokens", "stop_sequences", "thinking", "output_config",
        "output_format", "cache_control",
    },
    "aembedding": _COMMON | {"input", "dimensions", "encoding_format"},
}  # fmt: skip
"""Body fields that pass, by LiteLLM's call type."""

_CONTROLS = frozenset(
    {
        "fallbacks", "context_window_fallbacks", "content_policy_fallbacks", "default_fallbacks",
        "disable_fallbacks", "max_fallbacks", "num_retries", "max_retries", "retry_policy",
        "model_group_retry_policy", "router_settings_override", "fastest_response",
        "allowed_model_region", "timeout", "stream_timeout", "request_timeout", "api_key",
        "api_base", "base_url", "api_version", "no-log", "no_log", "mock_response",
        "mock_tool_calls", "mock_timeout", "mock_delay", "mock_testing_fallbacks",
        "mock_testing_context_fallbacks", "mock_testing_content_policy_fallbacks", "cache",
        "caching", "ttl", "custom_llm_provider", "input_cost_per_token", "output_cost_per_token",
        "input_cost_per_second", "output_cost_per_second", "litellm_call_id_override",
        "extra_headers", "extra_body", "service_tier", "drop_params", "tags", "guardrails",
        "policies", "litellm_trace_id", "litellm_session_id", "specific_deployment",
        "preset_cache_key",
    }
)  # fmt: skip
"""Fields that LiteLLM may also set from request headers: taken out wherever they came from."""

STEERING = frozenset(
    {
        "task_type", "consequence", "session_id", "expected_output_tokens", "queue",
        "queue_priority", "queue_webhook", "buffer", "tags", "farebox_advice",
    }
)  # fmt: skip
"""Names in `metadata` that callers steer Farebox with."""


_JUDGED_LATER = frozenset(
    {
        "litellm_metadata", "audio", "modalities", "web_search_options", "mcp_servers", "container",
        "previous_response_id", "conversation", "prompt", "background", "system", "instructions",
        "max_tokens", "max_completion_tokens", "max_output_tokens", "n", "best_of", "tools",
        "functions", "messages", "input", "suffix", "text", "response_format", "output_format",
        "output_config",
    }
)  # fmt: skip
"""What reading a request looks at, whatever its kind: it refuses what has no bound, which must not
be taken out before. `strip` looks after the rest of it."""

CALL_TYPES: Mapping[str, str] = {
    f"{version}{path}": call_type
    for version in ("", "/v1")
    for path, call_type in (
        ("/chat/completions", "acompletion"),
        ("/completions", "atext_completion"),
        ("/responses", "aresponses"),
        ("/messages", "anthropic_messages"),
        ("/embeddings", "aembedding"),
    )
}
"""LiteLLM's call type of each governed path."""


def strip_body(
    body: MutableMapping[str, Any], path: str, allowed_more: Iterable[str] | None
) -> tuple[str, ...]:
    """Take out of a body that was just read what must not reach LiteLLM; return the names.

    Between reading a body and the pre-call hook LiteLLM passes it on as keyword arguments and reads
    fields of its own from it: a client that sends such a name, or metadata of another type, would
    get a bare 500. With `allowed_more` None (shadow mode) only such metadata is taken out.
    Tools and search options of another type are put into what LiteLLM can go through, for the
    pre-call hook to refuse.
    """
    call_type = CALL_TYPES.get(path)
    if call_type is None:
        return ()
    wrong = {
        name
        for name in ("metadata", "litellm_metadata")
        if body.get(name) is not None and not isinstance(body[name], dict)
    }
    if allowed_more is not None:
        allowed = ALLOWED[call_type].union(allowed_more, _JUDGED_LATER)
        wrong |= body.keys() - allowed
    for name in wrong:
        del body[name]
    # LiteLLM goes through these two before the pre-call hook can say what is wrong with them.
    if isinstance(body.get("tools"), int | float):
        body["tools"] = [body["tools"]]
    searches = body.get("web_search_options")
    if searches and not isinstance(searches, dict):
        body["web_search_options"] = {"given": searches}
    return tuple(sorted(wrong))


def strip(
    data: MutableMapping[str, Any],
    sent: Collection[str],
    call_type: str,
    allowed_more: Iterable[str] = (),
) -> tuple[str, ...]:
    """Take out of `data` what is not allow-listed; return the names that the client had sent.

    `sent` are the field names of the client's own body: whatever else is in `data` was put there
    by LiteLLM and stays, except control fields that LiteLLM reads from headers.
    """
    allowed = ALLOWED.get(call_type, _COMMON).union(allowed_more)
    stripped = sorted(name for name in sent if name not in allowed and name in data)
    for name in stripped:
        del data[name]
    for name in _CONTROLS - allowed:
        data.pop(name, None)
    return tuple(stripped)
