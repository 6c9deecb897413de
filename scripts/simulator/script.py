"""Behaviours: how a test steers the simulator.

A behaviour is a set of `key=value` pairs, given in a prompt as `[[sim: key=value key=value]]` or
queued for a model's next calls. A queued behaviour overrides the prompt's, key by key.
"""

import re
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

QUEUED_MAX = 100_000
_DIRECTIVE = re.compile(r"\[\[sim:([^\[\]]*)\]\]")
_FINISHES = ("stop", "length", "content_filter")


class BehaviourError(ValueError):
    """A behaviour that the simulator does not know; the text says which part and what is known."""


@dataclass(frozen=True)
class Behaviour:
    """What to do with one call. None means: as a well-behaved provider would."""

    output_tokens: int | None = None
    """Output to generate and report, over all choices, reasoning included."""
    prompt_tokens: int | None = None
    """The input figure to report: OpenAI and Gemini count cached tokens in it, Anthropic not."""
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    usage: str | None = None
    """`none`: report no usage."""
    status: int | None = None
    """An HTTP error status, sent before any output."""
    retry_after: int | None = None
    """Seconds; the header of an error status."""
    delay_ms: int | None = None
    """Time before the first byte, in place of the default."""
    token_delay_ms: int | None = None
    die_after_tokens: int | None = None
    """Cut the connection after so many tokens; not streamed, after the headers."""
    hang: int | None = None
    """1: never send a byte."""
    model: str | None = None
    """The model name to report."""
    say: str | None = None
    """The answer's text: one word, dashes for spaces."""
    finish: str | None = None
    """`stop`, `length` or `content_filter`."""


_TEXT_KEYS = frozenset({"usage", "model", "finish", "say"})
KEYS = tuple(field.name for field in fields(Behaviour))


def behaviour_from_pairs(pairs: Mapping[str, Any]) -> Behaviour:
    """Check and convert key/value pairs. Raises BehaviourError."""
    values: dict[str, Any] = {}
    for key, value in pairs.items():
        if key not in KEYS:
            raise BehaviourError(f"unknown key {key!r} in a [[sim: ]] behaviour; known: {KEYS}")
        if key in _TEXT_KEYS:
            values[key] = str(value)
            continue
        try:
            values[key] = int(value)
        except (TypeError, ValueError):
            raise BehaviourError(f"{key} needs a whole number, not {value!r}") from None
        if values[key] < 0:
            raise BehaviourError(f"{key} must not be negative, but is {values[key]}")
    if not 400 <= values.get("status", 400) <= 599:
        raise BehaviourError(f"status must be an error, 400 to 599, not {values['status']}")
    if values.get("usage", "none") != "none":
        raise BehaviourError(f"usage knows only the value none, not {values['usage']!r}")
    if values.get("finish", "stop") not in _FINISHES:
        raise BehaviourError(f"finish must be one of {_FINISHES}, not {values['finish']!r}")
    return Behaviour(**values)


def behaviour_from_text(text: str) -> Behaviour:
    """The behaviour of the last `[[sim: …]]` in a prompt, where it has one."""
    found = _DIRECTIVE.findall(text) if "[[sim:" in text else []
    if not found:
        return Behaviour()
    pairs: dict[str, str] = {}
    for word in found[-1].split():
        key, equals, value = word.partition("=")
        if not equals:
            raise BehaviourError(f"{word!r} in a [[sim: ]] behaviour is not of the form key=value")
        pairs[key] = value
    return behaviour_from_pairs(pairs)


def combine(base: Behaviour, over: Behaviour | None) -> Behaviour:
    """`base`, with the keys that `over` sets."""
    if over is None:
        return base
    return replace(base, **{key: v for key in KEYS if (v := getattr(over, key)) is not None})


class Script:
    """Queued behaviours: one list a model, one list for any; each call takes one."""

    def __init__(self) -> None:
        self._queues: dict[str, deque[Behaviour]] = {}

    def add(self, model: str, behaviours: Sequence[Any]) -> int:
        """Queue behaviours (text `key=value …` or objects); how many now wait for this model."""
        queue = self._queues.get(model, deque())
        if len(queue) + len(behaviours) > QUEUED_MAX:
            raise BehaviourError(f"no more than {QUEUED_MAX} behaviours can wait for a model")
        queue.extend([_behaviour(item) for item in behaviours])
        self._queues[model] = queue
        return len(queue)

    def take(self, model: str) -> Behaviour | None:
        """The next behaviour for a call of `model`: by full name, then bare name, then any."""
        for name in (model, model.rsplit("/", 1)[-1], "*"):
            if queue := self._queues.get(name):
                return queue.popleft()
        return None

    def reset(self) -> None:
        self._queues.clear()


def _behaviour(item: Any) -> Behaviour:
    if isinstance(item, str):
        return behaviour_from_text(f"[[sim: {item}]]")
    if isinstance(item, Mapping):
        return behaviour_from_pairs(item)
    raise BehaviourError(f"a behaviour is an object or a text like 'status=500', not {item!r}")
