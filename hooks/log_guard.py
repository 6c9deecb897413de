"""Keeps what providers say out of the log: their error texts repeat prompts, and even keys.

LiteLLM writes the text of every exception into its log lines, with tracebacks that have it again.
Here each such record loses the texts as it is made, before any handler sees it: the line ends at
the exception's class, and a traceback keeps its places and classes. Records below WARNING are left
alone: LiteLLM's debug mode writes prompts, and says so. Farebox's own log has none to lose.
"""

from __future__ import annotations

import logging
import re
import sys
import traceback
from typing import Any

GUARDED = frozenset(
    {
        "LiteLLM", "LiteLLM Router", "LiteLLM Proxy", "litellm", "uvicorn", "asyncio", "openai",
        "anthropic", "httpx",
    }
)  # fmt: skip
"""Loggers, with all below them, whose records carry exceptions that are not ours."""

CHAIN_MAX = 8
FRAMES_MAX = 20
MESSAGE_CHARS_MAX = 2_000
BEGINNING_CHARS = 24
"""So much of a text's beginning says that it is that text, where its end is missing."""

_EXCEPTION_TEXT = re.compile(
    r"((?:[A-Za-z_]\w*\.)*[A-Za-z_]*(?:Error|Exception|Timeout|Interrupt)\w*)\s*(?:[:(]|- ).*",
    re.DOTALL,
)
"""From an exception's class on to the end: what follows it is a text that somebody else made."""

_TRACEBACK = re.compile(r"Traceback \(most recent call last\).*", re.DOTALL)


def install() -> None:
    """Guard every log record that this process makes from now on; once is enough."""
    make = logging.getLogRecordFactory()
    if hasattr(make, "farebox"):
        return

    def make_guarded(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(*args, **kwargs)
        if record.levelno >= logging.WARNING and record.name.split(".")[0] in GUARDED:
            guard(record)
        return record

    vars(make_guarded)["farebox"] = True  # How it is known the second time.
    logging.setLogRecordFactory(make_guarded)


def guard(record: logging.LogRecord) -> None:
    """Take the texts of exceptions out of a record."""
    try:
        message = record.getMessage()
    except (TypeError, ValueError):
        message = str(record.msg)
    info = record.exc_info
    # Many lines have an exception's text in them that was glued in while it was handled.
    texts = _texts(info[1] if info else sys.exc_info()[1])
    texts += [str(arg) for arg in _arguments(record) if isinstance(arg, BaseException)]
    for text in sorted(texts, key=len, reverse=True):
        if len(text) > 3:  # A shorter one is part of other words.
            message = message.replace(text, "[text left out]")
        at = message.find(text[:BEGINNING_CHARS]) if len(text) >= BEGINNING_CHARS else -1
        if at >= 0:  # LiteLLM has shortened it, or taken a key out of it.
            message = f"{message[:at]}[text left out]"
    message = _TRACEBACK.sub("[traceback left out]", message)
    message = _EXCEPTION_TEXT.sub(r"\1: [text left out]", message)
    record.msg, record.args = message[:MESSAGE_CHARS_MAX], None
    if info:
        record.exc_text = outline(info[1])
        record.exc_info = None


def outline(exception: BaseException | None) -> str:
    """Return where an exception and those behind it were raised, without a word of their texts."""
    lines: list[str] = []
    for current in _chain(exception):
        name = f"{type(current).__module__}.{type(current).__qualname__}"
        lines.append(f"{name}, raised at (its text is left out):")
        frames = traceback.extract_tb(current.__traceback__)[-FRAMES_MAX:]
        lines += [f"  {frame.filename}:{frame.lineno} in {frame.name}" for frame in frames]
    return "\n".join(lines)


def _chain(exception: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while exception is not None and len(found) < CHAIN_MAX and exception not in found:
        found.append(exception)
        exception = exception.__cause__ or exception.__context__
    return found


def _texts(exception: BaseException | None) -> list[str]:
    return [str(current) for current in _chain(exception)]


def _arguments(record: logging.LogRecord) -> tuple[object, ...]:
    if isinstance(record.args, tuple):
        return record.args
    return tuple(record.args.values()) if record.args else ()
