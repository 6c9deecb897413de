"""What a person said in a message, apart from what a coding agent put around it. Pure.

Agents send more than people type. Claude Code puts `<system-reminder>` blocks into the user's
message, with the whole of CLAUDE.md in the first one, and hands back in a user's message what tools
returned; Codex sends its surroundings as messages of the user. All of it counts as input. None of
it says what kind of work is asked for: a CLAUDE.md with a routing table in it names every task type
there is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_TAGS = (
    "system-reminder", "command-message", "command-name", "environment_context",
    "user_instructions", "INSTRUCTIONS", "farebox-instructions",
)  # fmt: skip
_BLOCKS = (*((f"<{tag}>", f"</{tag}>") for tag in _TAGS), ("<!-- farebox:", "-->"))
"""Blocks that agents add: Claude Code's, then Codex's (surroundings, and the two forms that
AGENTS.md has come in), then those of the commands that `farebox agents render` writes, with their
markers."""

_TEXT_TYPES = frozenset({"text", "input_text"})


def spoken(message: Mapping[Any, Any]) -> list[str] | None:
    """Return the texts that a person typed in a user's message; empty where there are none.

    None where the message has no content of a known form: then all of its text has to do.
    """
    content = message.get("content")
    if isinstance(content, str):
        found = [content]
    elif isinstance(content, list) and content:
        found = []
        for part in content:
            if isinstance(part, str):
                found.append(part)
            elif isinstance(part, Mapping) and part.get("type") in _TEXT_TYPES:
                text = part.get("text")
                if isinstance(text, str):
                    found.append(text)
        if not found and not _only_results(content):
            return None
    else:
        return None
    return [text for text in map(without_blocks, found) if text and not text.isspace()]


def without_blocks(text: str) -> str:
    """Return a text without the blocks that agents add. Takes time linear in its length."""
    if "<" not in text:
        return text  # One sign is looked for in a tenth of the time of eight words.
    for opening, closing in _BLOCKS:
        kept, start = [], 0
        while (begin := text.find(opening, start)) >= 0:
            end = text.find(closing, begin)
            if end < 0:
                break
            kept.append(text[start:begin])
            start = end + len(closing)
        text = "".join(kept) + text[start:] if start else text
    return text


def _only_results(content: list[Any]) -> bool:
    return all(isinstance(part, Mapping) and part.get("type") == "tool_result" for part in content)
