"""The environment variables of tracing, each read and checked on its own. Pure.

A value that cannot be used is an error at start: a prompt must not leave, nor a trace go astray, on
a misspelled setting.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from callbacks.trace_content import ContentMode

DEFAULT_BASE_URL = "https://cloud.langfuse.com"

_ENVIRONMENT = re.compile(r"(?!langfuse)[a-z0-9_-]{1,40}")


class TracingSettingsError(ValueError):
    """A variable of tracing's cannot be used; the text says which one, and how to mend it."""


def content_mode(environ: Mapping[str, str] = os.environ) -> ContentMode:
    """Return the setting `FAREBOX_TRACE_CONTENT`: `full` (the default), `digest` or `none`.

    Raises:
        TracingSettingsError: it has another value. Prompts do not leave on a misspelled setting.
    """
    value = environ.get("FAREBOX_TRACE_CONTENT", "").strip().lower() or "full"
    try:
        return ContentMode(value)
    except ValueError:
        raise TracingSettingsError(
            f"FAREBOX_TRACE_CONTENT is {value!r}; set it to full, digest or none"
        ) from None


def base_url(environ: Mapping[str, str]) -> str:
    """Return the address of Langfuse: `LANGFUSE_BASE_URL`, else `LANGFUSE_HOST`, else its cloud.

    Raises:
        TracingSettingsError: it is not the address of a server.
    """
    for name in ("LANGFUSE_BASE_URL", "LANGFUSE_HOST"):
        value = environ.get(name, "").strip().rstrip("/")
        if not value:
            continue
        if not re.fullmatch(r"https?://[^/?#\s@]+(/[^?#\s@]*)?", value):
            raise TracingSettingsError(
                f"{name} is not the address of a server; write it like {DEFAULT_BASE_URL}"
            )
        return value
    return DEFAULT_BASE_URL


def environment_name(environ: Mapping[str, str]) -> str | None:
    """Return `LANGFUSE_TRACING_ENVIRONMENT`, or None where it is not set.

    Raises:
        TracingSettingsError: Langfuse would not take it.
    """
    value = environ.get("LANGFUSE_TRACING_ENVIRONMENT", "").strip()
    if value and not _ENVIRONMENT.fullmatch(value):
        raise TracingSettingsError(
            f"LANGFUSE_TRACING_ENVIRONMENT is {value!r}; Langfuse takes up to 40 lower-case "
            "letters, digits, - and _, not beginning with langfuse"
        )
    return value or None


def number(
    environ: Mapping[str, str], name: str, default: float, least: float, most: float
) -> float:
    """Return a number from `least` to `most`, or the default where it is not set.

    Raises:
        TracingSettingsError: it is no number, or beyond the bounds.
    """
    text = environ.get(name, "").strip()
    try:
        value = float(text) if text else default
    except ValueError:
        value = float("nan")
    if not least <= value <= most:
        raise TracingSettingsError(f"{name} is {text!r}; set a number from {least:g} to {most:g}")
    return value
