"""A request as every dialect's reader leaves it, and the answer that its writer gets.

These are the types between the dialects and the rest; nothing here knows a wire format.
"""

import base64
import hashlib
import json
import sys
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from scripts.simulator.billing import Usage
from scripts.simulator.tokens import IMAGE_TOKENS, tokeniser

Finish = Literal["stop", "length", "content_filter", "tool"]
Body = Mapping[str, Any]


class BadRequest(ValueError):
    """A body that a provider would refuse with 400; the text says what is wrong."""


@dataclass(frozen=True)
class Tool:
    """A tool that must be called."""

    name: str
    schema: Mapping[str, Any]


@dataclass(frozen=True)
class Ask:
    """What a request asks for."""

    model: str
    text: str
    """All text of the prompt, joined."""
    prompt_tokens: int
    """As counted here."""
    output_tokens_max: int | None = None
    """For each choice."""
    choices: int = 1
    stream: bool = False
    usage_wanted: bool = True
    """Whether this answer reports usage at all (OpenAI's streams do so only when asked)."""
    tool: Tool | None = None
    json_schema: Mapping[str, Any] | None = None
    """An empty schema asks for any JSON object."""
    embeds: int = 0
    """Inputs to embed; above 0, no text is generated."""


@dataclass(frozen=True)
class Choice:
    """One answer: text, or a tool's arguments, as pieces of one token each."""

    pieces: Sequence[str]
    finish: Finish
    tool: str | None = None

    @property
    def text(self) -> str:
        return "".join(self.pieces)


@dataclass(frozen=True)
class Plan:
    """The whole answer, decided before the first byte is sent."""

    id: str
    """Hexadecimal; a dialect puts its own prefix before it."""
    created: int
    """Unix seconds."""
    model: str
    choices: Sequence[Choice]
    usage: Usage
    """What is reported, if it is."""
    usage_reported: bool
    usage_counted: Usage
    """What was really counted: this prompt, these pieces and any reasoning."""
    pieces_per_event: int = 1


@dataclass(frozen=True)
class Event:
    """A part of a stream and the tokens of output in it."""

    data: bytes
    tokens: int = 0


class Dialect(Protocol):
    """One wire format: reads its bodies, writes its answers."""

    name: str
    provider: str
    """Whose price is meant when a model name has no prefix."""
    reports_input_early: bool
    """Whether a stream tells the input's usage before its first token."""

    def read(self, body: Body, path: str) -> Ask: ...
    def answer(self, ask: Ask, plan: Plan, body: Body) -> dict[str, Any]: ...
    def events(self, ask: Ask, plan: Plan, body: Body) -> Iterator[Event]: ...
    def error(self, status: int, message: str) -> dict[str, Any]: ...


@dataclass
class Prompt:
    """Collects a prompt's text and its count while a reader walks the body."""

    texts: list[str] = field(default_factory=list)
    images: int = 0
    overhead_tokens: int = 0

    def add(self, content: Any) -> None:
        """Add a content value of any dialect: text, a list of parts, or one part."""
        if isinstance(content, str):
            self.texts.append(content)
        elif isinstance(content, list | tuple):
            for part in content:
                self.add(part)
        elif isinstance(content, Mapping):
            self._add_part(content)

    def _add_part(self, part: Mapping[str, Any]) -> None:
        kind = str(part.get("type", ""))
        if "image" in kind or "inlineData" in part or "fileData" in part or "inline_data" in part:
            self.images += 1
            return
        # Text, tool calls and tool results, thinking: whatever a provider would read as tokens.
        for key in ("text", "content", "thinking", "arguments", "name", "output", "refusal"):
            if key in part:
                self.add(part[key])
        for key in ("function", "functionCall", "functionResponse"):
            if key in part:
                self.add(part[key])
        for key in ("input", "args", "response"):
            if key in part:
                self.texts.append(compact_json(part[key]))

    @property
    def text(self) -> str:
        return "\n".join(self.texts)

    @property
    def tokens(self) -> int:
        count = sum(tokeniser().count(text) for text in self.texts)
        return count + self.images * IMAGE_TOKENS + self.overhead_tokens


def compact_json(value: Any) -> str:
    """JSON in the compact form in which every dialect sends it."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def sse(data: Any, event: str | None = None) -> bytes:
    """One server-sent event."""
    head = f"event: {event}\n" if event else ""
    text = data if isinstance(data, str) else compact_json(data)
    return f"{head}data: {text}\n\n".encode()


def text_of(body: Body, key: str) -> str:
    """A required text field."""
    value = body.get(key)
    if not isinstance(value, str) or not value:
        raise BadRequest(f"'{key}' is required and must be a non-empty text")
    return value


def list_of(body: Body, key: str) -> list[Any]:
    """A required, non-empty list field."""
    value = body.get(key)
    if not isinstance(value, list) or not value:
        raise BadRequest(f"'{key}' is required and must be a non-empty list")
    return value


def whole_number(body: Body, *keys: str, least: int = 1) -> int | None:
    """The first of these fields that is set, which must be a whole number."""
    for key in keys:
        value = body.get(key)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise BadRequest(f"'{key}' must be a whole number of at least {least}")
        return value
    return None


def mapping_of(body: Body, key: str) -> Mapping[str, Any]:
    """An optional object field; empty where absent."""
    value = body.get(key)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise BadRequest(f"'{key}' must be an object")
    return value


def grouped(pieces: Sequence[str], size: int) -> Iterator[tuple[str, int]]:
    """Pieces joined by `size`, with how many went into each."""
    for start in range(0, len(pieces), size):
        group = pieces[start : start + size]
        yield "".join(group), len(group)


def embedding(text: str, dimensions: int) -> list[float]:
    """A vector of that length, each value in [-1, 1), the same for the same text."""
    raw = array("h", hashlib.shake_256(text.encode()).digest(2 * dimensions))
    return [value / 32768 for value in raw]


def embedding_base64(vector: list[float]) -> str:
    """The vector as little-endian 32-bit floats in base64, the form that OpenAI's SDK asks for."""
    floats = array("f", vector)
    if sys.byteorder == "big":
        floats.byteswap()
    return base64.b64encode(floats.tobytes()).decode()
