"""The words that grade a request: the mode that it is treated in, its tier, its consequence."""

from __future__ import annotations

from enum import StrEnum


class Mode(StrEnum):
    """`shadow` records and changes nothing; `enforce` acts."""

    SHADOW = "shadow"
    ENFORCE = "enforce"


class Tier(StrEnum):
    """The cognitive level that a task type needs, in rising order."""

    EXECUTE = "execute"
    GENERATE = "generate"
    REASON = "reason"

    rank: int
    """The tier's place, from 0."""

    def __init__(self, _: str) -> None:
        self.rank = len(type(self).__members__)


class Consequence(StrEnum):
    """What a wrong answer costs downstream, in rising order."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"

    rank: int
    """The consequence's place, from 0."""

    def __init__(self, _: str) -> None:
        self.rank = len(type(self).__members__)
