"""What callers steer Farebox with: in `metadata`, or as headers `x-farebox-…`. All only claimed.

Whatever comes is cleaned (no control characters, within a bound) or refused by `InvalidRequest`:
these texts reach headers, entries and terminals.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from budgets.queue.items import PRIORITY_MAX
from budgets.quick import quick
from hooks.levels import Consequence
from hooks.values import MAPPING, InvalidRequest, whole

STEERING_CHARS_MAX = 200
TAGS_MAX = 32
ADDRESS_CHARS_MAX = 2_000

NAMES = (
    "task_type",
    "consequence",
    "session_id",
    "expected_output_tokens",
    "queue",
    "queue_priority",
    "queue_webhook",
    "approval",
    "buffer",
    "tags",
)
"""Their names in `metadata`; as headers with dashes."""

ADVICE = "farebox_advice"
"""Asks for the announcement in the answer (`hooks.advice`); as a header `x-farebox-advice`."""


@quick
@dataclass(frozen=True, slots=True)
class Steering:
    """What callers steer Farebox with, cleaned. All of it is only claimed."""

    task_type: str | None = None
    consequence: Consequence | None = None
    session_id: str | None = None
    expected_output_tokens: int | None = None
    queue: bool = False
    queue_priority: int | None = None
    queue_webhook: str | None = None
    approval: str | None = None
    buffer: bool = False
    tags: tuple[str, ...] = ()
    user: str | None = None
    advice: bool = False


_NAMED = frozenset(NAMES)
_HEADERS = tuple((name, f"x-farebox-{name.replace('_', '-')}") for name in NAMES)


def read_steering(
    data: Mapping[str, Any], headers: Mapping[str, str], metadata: Mapping[str, Any] | None
) -> Steering:
    """Return what the caller steers with: headers first, then metadata wherever LiteLLM put it."""
    places: list[Mapping[str, Any]] = []
    for place in (metadata, data.get("metadata"), data.get("litellm_metadata")):
        if place is not None and isinstance(place, MAPPING):
            places.append(place)
            inner = place.get("requester_metadata")
            if inner is not None and isinstance(inner, MAPPING):
                places.append(inner)
    values: dict[str, object] = dict.fromkeys(NAMES)
    for place in places:
        for name in _NAMED & place.keys():
            if values[name] is None and place[name] not in (None, ""):
                values[name] = place[name]
    if headers:
        for name, header in _HEADERS:
            values[name] = headers.get(header) or values[name]
    # In a body the name says whose it is: nobody else's `advice` shall be taken for ours.
    advice = [headers.get("x-farebox-advice"), *(place.get(ADVICE) for place in places)]
    user = data.get("user")
    if user is None:
        user = next((p["user_id"] for p in places if isinstance(p.get("user_id"), str)), None)
    return Steering(
        task_type=_word(values["task_type"], "task_type"),
        consequence=_consequence(values["consequence"]),
        session_id=_word(values["session_id"], "session_id"),
        expected_output_tokens=_expected(values["expected_output_tokens"]),
        queue=_flag(values["queue"], "queue"),
        queue_priority=_priority(values["queue_priority"]),
        queue_webhook=_address(values["queue_webhook"]),
        approval=_word(values["approval"], "approval"),
        buffer=_flag(values["buffer"], "buffer"),
        tags=_tags(values["tags"]),
        user=clean(user) if isinstance(user, str) else None,
        advice=_flag(next((it for it in advice if it not in (None, "")), None), ADVICE),
    )


def clean(text: str) -> str | None:
    """Return a steering value without control characters and within its bound; None if empty."""
    kept = "".join(c for c in text[: STEERING_CHARS_MAX * 4] if c.isprintable()).strip()
    return kept[:STEERING_CHARS_MAX] or None


def _word(value: object, name: str) -> str | None:
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**18:
        value = str(value)
    if not isinstance(value, str):
        raise InvalidRequest(f"`{name}` must be text.", f"metadata.{name}")
    return clean(value)


def _consequence(value: object) -> Consequence | None:
    word = _word(value, "consequence")
    if word is None:
        return None
    try:
        return Consequence(word.lower())
    except ValueError:
        raise InvalidRequest(
            "`consequence` must be low, medium or high.", "metadata.consequence"
        ) from None


def _expected(value: object) -> int | None:
    if value is None:
        return None
    param = "metadata.expected_output_tokens"
    if isinstance(value, str):
        text = value.strip()
        if not (text.isascii() and text.isdigit() and len(text) <= 9):
            raise InvalidRequest("`expected_output_tokens` must be a whole number.", param)
        value = int(text)
    try:
        return whole({"expected_output_tokens": value}, "expected_output_tokens", 1, 1_000_000)
    except InvalidRequest as error:
        raise InvalidRequest(str(error), param) from None


def _flag(value: object, name: str) -> bool:
    if value is None or isinstance(value, bool):
        return bool(value)
    if isinstance(value, str):
        return value.strip().lower() in ("true", "1", "yes")
    raise InvalidRequest(f"`{name}` must be true or false.", f"metadata.{name}")


def _priority(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, str) and len(value) == 1 and value.isascii() and value.isdigit():
        value = int(value)
    try:
        return whole({"queue_priority": value}, "queue_priority", 0, PRIORITY_MAX)
    except InvalidRequest as error:
        raise InvalidRequest(str(error), "metadata.queue_priority") from None


def _address(value: object) -> str | None:
    """Return a webhook's address as it came: whether it may be called is decided elsewhere."""
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > ADDRESS_CHARS_MAX:
        raise InvalidRequest(
            f"`queue_webhook` must be an address of at most {ADDRESS_CHARS_MAX} characters.",
            "metadata.queue_webhook",
        )
    return value


def _tags(value: object) -> tuple[str, ...]:
    """Return the tags of a list or a comma-separated text; what is no text is left out."""
    if value is None:
        return ()
    if isinstance(value, str):
        value = value[: STEERING_CHARS_MAX * TAGS_MAX].split(",")
    if not isinstance(value, list | tuple):
        raise InvalidRequest("`tags` must be a list of texts.", "metadata.tags")
    cleaned = (clean(item) for item in value[: TAGS_MAX * 4] if isinstance(item, str))
    return tuple(dict.fromkeys(tag for tag in cleaned if tag))[:TAGS_MAX]
