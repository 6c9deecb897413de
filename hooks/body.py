"""Whether a body that was just parsed may be handed on to LiteLLM.

LiteLLM copies a body several times and walks it recursively, so hundreds of thousands of small
values block the event loop for seconds, and a deep nesting ends in a bare 500. Python's parser also
takes what is not JSON (NaN, Infinity) and numbers that no provider takes, which fail when they are
written again. All of it is found in one walk without recursion, which ends at the first fault.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

DEPTH_MAX = 100
VALUES_MAX = 50_000
"""How many names, texts, lists and objects: LiteLLM takes 5 µs of the event loop for each."""

NUMBERS_MAX = 400_000
"""Numbers count apart: embeddings may bring token numbers, and a number is copied faster."""


def fault_of(body: dict[str, object]) -> str | None:
    """Return what is wrong with a body, in words that repeat nothing of it; None if nothing is."""
    values = numbers = depth = 0
    level: list[object] = [body]
    while level:
        depth += 1
        if depth > DEPTH_MAX:
            return f"The body is nested more than {DEPTH_MAX} levels deep."
        deeper: list[object] = []
        for container in level:
            members: Iterable[object]
            if isinstance(container, dict):
                values += len(container)  # Its names.
                members = container.values()
            else:
                assert isinstance(container, list)
                if len(container) > NUMBERS_MAX:
                    return _TOO_MANY
                members = container
            if values > VALUES_MAX:
                return _TOO_MANY
            for member in members:
                kind = type(member)  # A parser makes no subclasses.
                if kind is str:
                    values += 1
                elif kind is dict or kind is list:
                    deeper.append(member)
                elif isinstance(member, float):
                    numbers += 1
                    if not math.isfinite(member):
                        return "The body has a number that JSON does not have (NaN or Infinity)."
                else:
                    numbers += 1
                    if isinstance(member, int) and member.bit_length() > 64:
                        return "The body has a whole number of more than 64 bits."
            if values + len(deeper) > VALUES_MAX or numbers > NUMBERS_MAX:
                return _TOO_MANY
        values += len(deeper)
        level = deeper
    return None


_TOO_MANY = f"The body has more than {VALUES_MAX:,} names, texts and lists, or too many numbers."
