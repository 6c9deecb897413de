"""What was done with tools in a conversation so far, read from its messages, in three dialects.

Only the last messages are looked at, and of a tool's answer only how it begins: enough to see
whether an agent gets anywhere. Whether such a beginning means a failure is the policy's to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from budgets.quick import quick
from hooks.values import MAPPING

MESSAGES_MAX = 200
"""How many of the last messages are looked at."""

ANSWER_CHARS_MAX = 80
"""How much of a tool's answer is kept to judge it by."""

_TOOL_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,64}")


@dataclass(frozen=True, slots=True)
class ToolAnswer:
    """How a tool's answer begins. `failed` is what the format itself says, None if nothing."""

    failed: bool | None
    begins: str = field(repr=False)


@quick
@dataclass(frozen=True, slots=True)
class Trajectory:
    """The tools that were called, by name in order, and their answers."""

    calls: tuple[str, ...] = ()
    answers: tuple[ToolAnswer, ...] = ()


NONE = Trajectory()


def read_trajectory(data: Mapping[str, Any]) -> Trajectory:
    """Return what was done with tools in the messages or items of a body."""
    listed = data.get("messages") or data.get("input")
    if not isinstance(listed, list):
        return NONE
    calls: list[str] = []
    answers: list[ToolAnswer] = []
    for item in listed[-MESSAGES_MAX:]:
        if not isinstance(item, MAPPING):
            continue
        content = item.get("content")
        parts = content if isinstance(content, list) else ()
        for part in (item, *parts[:MESSAGES_MAX]):
            if isinstance(part, MAPPING):
                calls.extend(_calls(part))
                if (answer := _answer(part)) is not None:
                    answers.append(answer)
    return Trajectory(tuple(calls), tuple(answers)) if calls or answers else NONE


def _calls(part: Mapping[str, Any]) -> Iterator[str]:
    kind = part.get("type")
    if kind in ("function_call", "custom_tool_call", "tool_use"):
        yield _name(part.get("name"))
    listed = part.get("tool_calls")
    for call in listed[:MESSAGES_MAX] if isinstance(listed, list) else ():
        inner = call.get("function") if isinstance(call, MAPPING) else None
        yield _name(inner.get("name") if isinstance(inner, MAPPING) else None)


def _name(value: object) -> str:
    """Return a tool's name. What no provider takes for one might be text, and is not kept."""
    return value if isinstance(value, str) and _TOOL_NAME.fullmatch(value) else "?"


def _answer(part: Mapping[str, Any]) -> ToolAnswer | None:
    kind = part.get("type")
    if part.get("role") in ("tool", "function"):
        return ToolAnswer(None, _begins(part.get("content")))
    if kind == "tool_result":
        said = part.get("is_error")
        return ToolAnswer(said if isinstance(said, bool) else None, _begins(part.get("content")))
    if kind in ("function_call_output", "custom_tool_call_output"):
        failed = True if part.get("status") == "incomplete" else None
        return ToolAnswer(failed, _begins(part.get("output")))
    return None


def _begins(content: object) -> str:
    """Return how a content begins: a text, or the first part of a list that has one."""
    if isinstance(content, list):
        texts = (part.get("text") for part in content[:3] if isinstance(part, MAPPING))
        content = next((text for text in texts if isinstance(text, str)), "")
    return content[:ANSWER_CHARS_MAX] if isinstance(content, str) else ""
