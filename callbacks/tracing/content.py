"""How much of a prompt and an answer reaches a trace: all, masked, a digest, or nothing. Pure.

Whatever the setting, fields that carry secrets, texts that look like a key, and files in base64 are
replaced. What remains is bounded in length, so that one large request cannot fill a queue.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from callbacks.tracing.masking import Mask, MaskFailed

CONTENT_CHARS_MAX = 262_144
"""The most characters of a prompt, and of an answer, that one trace carries."""

DEPTH_MAX = 24
FILE_CHARS_MIN = 1_024
WEIGHED_NODES_MAX = 500
UNKNOWN_CHARS = 4_096
"""What an object of unknown size is taken for when a queue's memory is reckoned."""

SECRET_FIELDS = frozenset(
    {
        "api_key", "apikey", "api-key", "x-api-key", "authorization", "proxy-authorization",
        "password", "secret", "secret_key", "access_token", "refresh_token", "client_secret",
        "aws_secret_access_key", "aws_session_token", "headers", "extra_headers", "cookie",
    }
)  # fmt: skip

FORMAT_WORDS = frozenset({"role", "type"})
WORD_CHARS_MAX = 32
"""Longer than any role or type of the providers' formats: what is longer is content."""

_KEY_LIKE = re.compile(
    r"\b(?:sk|pk|rk)-[A-Za-z0-9_\-]{16,}"
    r"|\bBearer\s+[A-Za-z0-9._~+/\-]{16,}=*"
    r"|\bAKIA[0-9A-Z]{16}\b"
    r"|\bAIza[A-Za-z0-9_\-]{30,}"
)

_KEY_MARKS = ("sk-", "pk-", "rk-", "Bearer", "AKIA", "AIza")
"""Every text that the pattern finds contains one of these, and they are found far faster."""


class ContentMode(StrEnum):
    """The values of `FAREBOX_TRACE_CONTENT`."""

    FULL = "full"
    MASK = "mask"
    DIGEST = "digest"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Redaction:
    """The setting in force; `mask` is the user's function, and only asked in mode `mask`."""

    mode: ContentMode = ContentMode.FULL
    mask: Mask | None = None

    def __post_init__(self) -> None:
        if (self.mode is ContentMode.MASK) != (self.mask is not None):
            raise ValueError("a mask goes with the mode `mask`, and with no other")

    def render(self, value: Any) -> str | None:
        """Return the text that a trace carries for some content; None where it carries nothing."""
        found = self.plain(value)
        if found is None:
            return None
        text = _as_text(found)
        if len(text) > CONTENT_CHARS_MAX:
            text = f"{text[:CONTENT_CHARS_MAX]}… (cut after {CONTENT_CHARS_MAX} characters)"
        return text

    def plain(self, value: Any) -> Any:
        """Return what is left of some content, as plain JSON; None where nothing is.

        A digest is the first 16 hexadecimal digits of the text's SHA-256 and its length in
        characters: enough to find equal prompts. It does not hide a prompt that somebody can guess.
        Where the mask fails, what is left says only that, and how.
        """
        if value is None or self.mode is ContentMode.NONE:
            return None
        if self.mode is ContentMode.DIGEST:
            return digest_of(value)
        try:
            return _Plain(CONTENT_CHARS_MAX, self.mask).of(value)
        except MaskFailed as failed:
            return {"mask_failed": failed.kind}


def digest_of(value: Any) -> dict[str, str | int]:
    """Return what a trace carries of content in the mode `digest`."""
    text = _as_text(_Plain(None).of(value))
    return {"sha256": _digest(text), "chars": len(text)}


def answer_of(response: Any) -> Any:
    """Return the part of a response that a reader wants: the messages, not the envelope.

    Vectors of embeddings are left out. An unknown shape is returned as it is.
    """
    dump = getattr(response, "model_dump", None)
    body = dump() if callable(dump) else response
    if not isinstance(body, Mapping):
        return body
    choices = body.get("choices")
    if isinstance(choices, list):
        said = [
            choice.get("message") or choice.get("text")
            for choice in choices
            if isinstance(choice, Mapping)
        ]
        return said[0] if len(said) == 1 else said
    if body.get("object") == "list" and isinstance(body.get("data"), list):
        return {"embeddings": len(body["data"])}
    if isinstance(body.get("output"), list):
        return body["output"]
    if body.get("type") == "message" and "content" in body:
        return {"role": "assistant", "content": body["content"]}
    return body


def weigh(value: Any) -> int:
    """Return roughly how many characters of memory some content holds, in little time."""
    if value is None:
        return 0
    if isinstance(value, str):
        return len(value)
    chars = 0
    nodes = [value]
    for _ in range(WEIGHED_NODES_MAX):
        if not nodes:
            return chars
        node = nodes.pop()
        if isinstance(node, str):
            chars += len(node)
        elif isinstance(node, dict):
            nodes.extend(node.values())
        elif isinstance(node, list | tuple):
            nodes.extend(node)
        elif not isinstance(node, int | float | None):
            chars += UNKNOWN_CHARS
    return chars + UNKNOWN_CHARS


def clean(text: str) -> str:
    """Return the text without what UTF-8 cannot hold (halves of surrogate pairs)."""
    if text.isascii():
        return text
    return text.encode("utf-8", "replace").decode("utf-8")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]


def _as_text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return clean(text)


def _without_keys(text: str) -> str:
    if any(mark in text for mark in _KEY_MARKS):
        return _KEY_LIKE.sub("(secret)", text)
    return text


class _Plain:
    """Turns content into plain JSON values; `chars_left` is the budget for text, None for all.

    A mask is asked about every text and number, except the words of the format (roles and types).
    """

    def __init__(self, chars_left: int | None, mask: Mask | None = None) -> None:
        self._chars_left = chars_left
        self._mask = mask

    def of(self, value: Any, depth: int = 0) -> Any:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int | float):
            return value if self._mask is None else self._number(value)
        if isinstance(value, str):
            return self._text(value)
        if depth >= DEPTH_MAX:
            return "…"
        if isinstance(value, Mapping):
            return {
                str(key): "(secret)"
                if str(key).lower() in SECRET_FIELDS
                else self._file(item)
                if key == "data" and isinstance(item, str) and len(item) >= FILE_CHARS_MIN
                else item
                if key in FORMAT_WORDS and isinstance(item, str) and len(item) < WORD_CHARS_MAX
                else self.of(item, depth + 1)
                for key, item in value.items()
            }
        if isinstance(value, list | tuple | set | frozenset):
            return [self.of(item, depth + 1) for item in value]
        dump = getattr(value, "model_dump", None)
        if callable(dump):
            return self.of(dump(exclude_none=True), depth + 1)
        return f"({type(value).__name__})"

    def _text(self, text: str) -> str:
        if text.startswith("data:") and ";base64," in text[:128]:
            return self._file(text)
        if self._mask is not None:
            # Before it is cut: half a name is no name to a mask.
            text = self._mask(_without_keys(text))
        if self._chars_left is not None:
            if len(text) > self._chars_left:
                text = f"{text[: self._chars_left]}… (cut; {len(text)} characters)"
            self._chars_left = max(0, self._chars_left - len(text))
        return _without_keys(text)

    def _number(self, value: float) -> Any:
        assert self._mask is not None
        text = str(value)
        masked = self._mask(text)
        return value if masked == text else masked

    @staticmethod
    def _file(text: str) -> str:
        kind = text[5 : text.index(";")] if text.startswith("data:") and ";" in text else "file"
        return f"({kind}, {len(text)} characters of base64, sha256 {_digest(text)})"
