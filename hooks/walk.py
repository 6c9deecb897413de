"""The walk over a body that collects its text and counts its media, within stated bounds.

Every string that is not known to be something else counts as text: counting too much is safe, too
little is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hooks.values import MAPPING, InvalidRequest

CHARS_MAX = 20_000_000
PARTS_MAX = 200_000
DEPTH_MAX = 64

_IMAGE_TYPES = frozenset({"image_url", "image", "input_image"})
_AUDIO_TYPES = frozenset({"input_audio", "audio", "video_url", "video", "input_video"})
_FILE_TYPES = frozenset({"file", "input_file", "document", "container_upload"})
_NOT_TEXT = frozenset({"type", "role", "id", "tool_call_id", "tool_use_id", "call_id", "status"})
"""Keys whose strings are markers; LiteLLM and the providers count a token or none for them."""

_MARKER_CHARS_MAX = 128
"""A longer string under such a key is no marker, and counts as text."""

_OPAQUE = frozenset({"input", "arguments", "parameters", "input_schema", "schema"})
"""Keys whose object is any JSON: the provider sees its text, whatever its keys are called."""

_CACHE_MARKS = frozenset({"cache_control", "cachePoint", "cache_point"})
"""Keys by which a part of a request asks to be written to the provider's cache."""


class Walk:
    """Collects texts and counts media over a body, within the bounds."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.chars = 0
        self.images = 0
        self.files = 0
        self.audios = 0
        self.caches = False
        self._parts = 0

    def add(self, text: str) -> None:
        self.chars += len(text)
        if self.chars > CHARS_MAX:
            raise InvalidRequest(f"The request has more than {CHARS_MAX:,} characters of text.")
        if text:
            self.texts.append(text)

    def content(self, value: object, param: str, depth: int = 0) -> None:
        """Take in any content: a string, a part, a list of parts, whatever is nested in them."""
        self._parts += 1
        if self._parts > PARTS_MAX:
            raise InvalidRequest(f"`{param}` has more than {PARTS_MAX:,} parts.", param)
        if depth > DEPTH_MAX:
            raise InvalidRequest(f"`{param}` is nested more than {DEPTH_MAX} levels deep.", param)
        if isinstance(value, str):
            self.add(value)
        elif isinstance(value, list | tuple):
            for item in value:
                self.content(item, param, depth + 1)
        elif isinstance(value, MAPPING):
            self._part(value, param, depth)
        elif isinstance(value, bool | int | float):
            self.add(_digits(value, param))
        elif value is not None:
            raise InvalidRequest(f"`{param}` holds something that is not JSON.", param)

    def plain(self, message: Mapping[Any, Any], param: str) -> str | None:
        """Take in a message of a role and text alone, as `content` would; return its text.

        None for any other, of which nothing is taken in. Most of a long conversation is such.
        """
        if type(message) is not dict or len(message) != 2:
            return None
        role, text = message.get("role"), message.get("content")
        if type(role) is not str or type(text) is not str or len(role) > _MARKER_CHARS_MAX:
            return None
        self._parts += 2
        if self._parts > PARTS_MAX:
            raise InvalidRequest(f"`{param}` has more than {PARTS_MAX:,} parts.", param)
        self.add(text)
        return text

    def opaque(self, value: object, param: str, depth: int = 0) -> None:
        """Take in JSON that the provider is shown as it is: every key and string is text."""
        if not isinstance(value, Mapping | list | tuple):
            self.content(value, param, depth)
            return
        self._parts += 1
        if self._parts > PARTS_MAX:
            raise InvalidRequest(f"`{param}` has more than {PARTS_MAX:,} parts.", param)
        if depth > DEPTH_MAX:
            raise InvalidRequest(f"`{param}` is nested more than {DEPTH_MAX} levels deep.", param)
        if not isinstance(value, Mapping):
            for item in value:
                self.opaque(item, param, depth + 1)
            return
        if not all(isinstance(key, str) for key in value):
            raise InvalidRequest(f"`{param}` has a key that is not text.", param)
        self.caches = self.caches or not _CACHE_MARKS.isdisjoint(value)
        # Braces, quotes and keys take tokens as well.
        self.add("{}" + " ".join(f'"{key}":' for key in value))
        for inner in value.values():
            self.opaque(inner, param, depth + 1)

    def _part(self, part: Mapping[Any, Any], param: str, depth: int) -> None:
        kind = part.get("type")
        self.caches = self.caches or not _CACHE_MARKS.isdisjoint(part)
        if kind in _IMAGE_TYPES if isinstance(kind, str) else False:
            self.images += 1
            return
        if isinstance(kind, str) and kind in _AUDIO_TYPES:
            self.audios += 1
            return
        if isinstance(kind, str) and kind in _FILE_TYPES:
            source = part.get("source")
            if not (isinstance(source, Mapping) and source.get("type") in ("text", "content")):
                self.files += 1
                return
        for key, value in part.items():
            if not isinstance(key, str):
                raise InvalidRequest(f"`{param}` has a key that is not text.", param)
            if key == "image_url":
                self.images += 1
            elif key in _OPAQUE and isinstance(value, Mapping):
                self.opaque(value, param, depth + 1)
            elif not (
                key in _NOT_TEXT and isinstance(value, str) and len(value) <= _MARKER_CHARS_MAX
            ):
                self.content(value, param, depth + 1)


def _digits(value: float, param: str) -> str:
    try:
        return str(value)
    except ValueError:
        # Python writes no whole number of more than 4,300 digits.
        raise InvalidRequest(f"`{param}` holds a number that is too long.", param) from None
