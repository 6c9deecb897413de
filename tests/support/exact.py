"""Requests of groups without an input margin, whose hold is exactly what they cost."""

from __future__ import annotations

from typing import Any

from hooks.request import read_request
from hooks.tokens import count_request

INPUT_TOKENS, OUTPUT_TOKENS = 100, 1_000


def body(model: str, directive: str) -> dict[str, Any]:
    """A request that Farebox counts as exactly `INPUT_TOKENS`."""
    words = ""
    while True:
        text = f"[[sim: {directive}]]{words}"
        data: dict[str, Any] = {
            "model": model,
            "messages": [{"role": "user", "content": text}],
            "max_tokens": OUTPUT_TOKENS,
        }
        counted = count_request(read_request(data, "acompletion")).input
        if counted == INPUT_TOKENS:
            return data
        assert counted < INPUT_TOKENS, "the directive alone is too long"
        words += " go"
