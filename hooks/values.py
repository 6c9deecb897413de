"""Single values of a request's body, and the error of one that makes no sense."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MAPPING = (dict, Mapping)
"""For `isinstance`: nearly every mapping is a dict, which is seen at once. Mapping alone asks."""


class InvalidRequest(ValueError):
    """A request that cannot be read; the message is for the client and holds none of its text.

    `param` is the field at fault.
    """

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


def whole(data: Mapping[str, Any], param: str, least: int, most: int) -> int | None:
    """Return a field's whole number; None where it is not given."""
    value = data.get(param)
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidRequest(f"`{param}` must be a whole number from {least} to {most:,}.", param)
    return value
