"""Requests that nobody would send: valid ones by a JSON schema, then spoilt in a few places.

`spoilt(schema)` is a Hypothesis strategy. It draws a body that follows the schema and puts junk at
random places of it: values of other types, absurd numbers, strange texts, fields that steer LiteLLM
or imitate Farebox's own, or nothing where something must be.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

from hypothesis import strategies as st

Schema = Mapping[str, Any]

STRANGE_TEXTS = (
    "", " ", "\x00", "a\x00b", "\x1b[31mred\x1b]0;title\x07", "\r\nx-farebox-code: forged",
    "\u202e\u2066rtl\u2069", "e\u0301\u0301\u0301", "\ufeff\ufffe\uffff", "𝓐😀\u200d👩‍👧",
    "'; DROP TABLE x; --", "*3\r\n$3\r\nDEL\r\n$1\r\n*\r\n", "!!python/object/apply:os.system [ls]",
    "a: &a [*a]", "<script>alert(1)</script>", "{{7*7}}${7*7}", "../../etc/passwd", "farebox:{x}:y",
    "%s%s%n", "NaN", "null", "x" * 5_000, "auto,auto", "openai/*", "os.environ/LITELLM_MASTER_KEY",
)  # fmt: skip

JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, -1, 1, 2**31, 2**63, 2**64 - 1, -(2**63), 10**9, 0.5, -0.0, 1e308, -1e308]),
    st.sampled_from(STRANGE_TEXTS),
    st.text(max_size=20).filter(lambda text: text.isprintable() or text.isascii()),
    st.recursive(
        st.one_of(st.none(), st.integers(-9, 9), st.sampled_from(STRANGE_TEXTS)),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.dictionaries(
                st.sampled_from(["role", "content", "type", "text", "name", "", "a.b"]),
                inner,
                max_size=3,
            ),
        ),
        max_leaves=6,
    ),
)

EXTRA_NAMES = (
    "fallbacks", "num_retries", "api_key", "api_base", "no-log", "mock_response", "metadata",
    "litellm_metadata", "litellm_call_id", "litellm_logging_obj", "litellm_params", "model_info",
    "proxy_server_request", "standard_logging_object", "hidden_params", "_hidden_params",
    "response_cost", "user_api_key_dict", "farebox", "cache", "timeout", "tags", "guardrails",
    "prompt_id", "prompt_variables", "messages", "input", "prompt", "stream_options", "n", "user",
    "extra_body", "extra_headers", "custom_llm_provider", "input_cost_per_token",
    "specific_deployment", "logger_fn", "acompletion", "aembedding", "client", "async_call",
    "tools", "mcp_tools", "kwargs", "call_type", "self", "data", "request", "args",
    "litellm_session_id", "vector_store_ids", "text", "original_function",
    "provider_specific_header", "secret_fields",
)  # fmt: skip


def following(schema: Schema) -> st.SearchStrategy[Any]:
    """Return what follows a schema (the part of JSON Schema that `tests/e2e/test_fuzz.py` uses)."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "anyOf" in schema:
        return st.one_of([following(option) for option in schema["anyOf"]])
    match schema["type"]:
        case "object":
            required = schema.get("required", ())
            properties = {n: following(s) for n, s in schema.get("properties", {}).items()}
            return st.fixed_dictionaries(
                {n: s for n, s in properties.items() if n in required},
                optional={n: s for n, s in properties.items() if n not in required},
            )
        case "array":
            return st.lists(
                following(schema["items"]),
                min_size=schema.get("minItems", 0),
                max_size=schema.get("maxItems", 3),
            )
        case "string":
            return st.one_of(st.just("Say hello."), st.text("abc äß\n", max_size=30))
        case "integer":
            return st.integers(schema.get("minimum", 0), schema.get("maximum", 100))
        case "number":
            return st.floats(schema.get("minimum", 0), schema.get("maximum", 2))
        case "boolean":
            return st.booleans()
    raise ValueError(f"a schema of the type {schema['type']} is not known here")


@st.composite
def spoilt(draw: Callable[[st.SearchStrategy[Any]], Any], schema: Schema) -> dict[str, Any]:
    """Return a body by the schema with one to three faults in it."""
    body: dict[str, Any] = copy.deepcopy(draw(following(schema)))
    for _ in range(draw(st.integers(1, 3))):
        where = draw(st.sampled_from(_places(body)))
        what = draw(st.sampled_from(["replace", "replace", "remove", "add", "wrap"]))
        _spoil(body, where, what, draw)
    return body


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Return every container with each of its keys or indexes, the outermost ones first."""
    found: list[tuple[Any, Any]] = [(value, None)]
    members = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in members:
        found.append((value, key))
        if isinstance(inner, dict | list) and inner:
            found += _places(inner)
    return found


def _spoil(body: Any, where: tuple[Any, Any], what: str, draw: Callable[..., Any]) -> None:
    container, key = where
    if what == "add" or key is None:
        if isinstance(container, dict):
            name = draw(st.sampled_from(EXTRA_NAMES + STRANGE_TEXTS[:8]))
            container[name] = draw(JUNK)
        else:
            container.append(draw(JUNK))
    elif what == "remove":
        del container[key]
    elif what == "wrap":
        container[key] = draw(st.sampled_from([[container[key]], {"content": container[key]}]))
    else:
        container[key] = draw(JUNK)
