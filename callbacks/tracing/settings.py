"""The environment variables of tracing, each read and checked on its own. Pure.

A value that cannot be used is an error at start: a prompt must not leave, nor a trace go astray, on
a misspelled setting.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from callbacks.tracing import masking
from callbacks.tracing.content import ContentMode, Redaction

DEFAULT_BASE_URL = "https://cloud.langfuse.com"

_ENVIRONMENT = re.compile(r"(?!langfuse)[a-z0-9_-]{1,40}")


class TracingSettingsError(ValueError):
    """A variable of tracing's cannot be used; the text says which one, and how to mend it."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Where traces go and what they carry. `timeout_s` is for one attempt to connect or to read."""

    public_key: str
    secret_key: str = field(repr=False)
    base_url: str
    environment: str | None = None
    release: str | None = None
    redaction: Redaction = field(default_factory=Redaction)
    sample_rate: float = 1.0
    timeout_s: float = 5.0


def read(environ: Mapping[str, str], folder: Path | None = None) -> Settings | str:
    """Return the settings, or why there is no tracing; empty where nobody asked for it.

    Raises:
        TracingSettingsError: a variable has a value that cannot be used.
    """
    public_key = environ.get("LANGFUSE_PUBLIC_KEY", "").strip()
    secret_key = environ.get("LANGFUSE_SECRET_KEY", "").strip()
    if not public_key and not secret_key:
        return ""
    if not public_key or not secret_key:
        missing = "LANGFUSE_SECRET_KEY" if public_key else "LANGFUSE_PUBLIC_KEY"
        return f"{missing} is not set"
    for switch, off in (("LANGFUSE_TRACING_ENABLED", "false"), ("OTEL_SDK_DISABLED", "true")):
        if environ.get(switch, "").strip().lower() == off:
            return f"{switch} is {off}"
    return Settings(
        public_key=public_key,
        secret_key=secret_key,
        base_url=base_url(environ),
        environment=environment_name(environ),
        release=environ.get("LANGFUSE_RELEASE", "").strip() or None,
        redaction=redaction(environ, folder),
        sample_rate=number(environ, "LANGFUSE_SAMPLE_RATE", 1.0, 0.0, 1.0),
        timeout_s=number(environ, "LANGFUSE_TIMEOUT", 5.0, 0.1, 60.0),
    )


def redaction(environ: Mapping[str, str], folder: Path | None = None) -> Redaction:
    """Return what `FAREBOX_TRACE_CONTENT` and `FAREBOX_TRACE_MASK` say together.

    A mask alone means `mask`. Its module is looked for where Python looks, and in `folder`.

    Raises:
        TracingSettingsError: they cannot be used, or contradict each other.
    """
    path = environ.get("FAREBOX_TRACE_MASK", "").strip()
    given = environ.get("FAREBOX_TRACE_CONTENT", "").strip()
    mode = ContentMode.MASK if path and not given else content_mode(environ)
    if mode is not ContentMode.MASK:
        if path and mode is ContentMode.FULL:
            raise TracingSettingsError(
                "FAREBOX_TRACE_MASK is set and FAREBOX_TRACE_CONTENT is full; set it to mask, or "
                "unset one of them"
            )
        return Redaction(mode)
    if not path:
        raise TracingSettingsError(
            "FAREBOX_TRACE_CONTENT is mask; name the function in FAREBOX_TRACE_MASK, such as "
            "our_masks.without_names"
        )
    try:
        return Redaction(mode, masking.load(path, folder))
    except masking.MaskError as error:
        raise TracingSettingsError(
            f"FAREBOX_TRACE_MASK is {path!r}: {error}; name a function that takes a text and "
            "returns one"
        ) from None


def content_mode(environ: Mapping[str, str]) -> ContentMode:
    """Return the setting `FAREBOX_TRACE_CONTENT`: `full` (default), `mask`, `digest` or `none`.

    Raises:
        TracingSettingsError: it has another value. Prompts do not leave on a misspelled setting.
    """
    value = environ.get("FAREBOX_TRACE_CONTENT", "").strip().lower() or "full"
    try:
        return ContentMode(value)
    except ValueError:
        raise TracingSettingsError(
            f"FAREBOX_TRACE_CONTENT is {value!r}; set it to full, mask, digest or none"
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
