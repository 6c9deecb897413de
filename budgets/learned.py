"""What the ledger has learned from settled requests: lengths of output, counts of input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class LearnedOutput:
    """The learned output length of a (task type, group) pair, in tokens, over `count` requests."""

    mean_tokens: float
    quantile95_tokens: float
    count: int


@dataclass(frozen=True, slots=True)
class LearnedInput:
    """How a group or provider counts input, over `count` requests, as factors on Farebox's count.

    `factor` is the likely one, `bound` the one for holds.
    """

    factor: float
    bound: float
    count: int


@dataclass(frozen=True, slots=True)
class Learned:
    """All that the ledger has learned: output lengths and input margins, by key."""

    outputs: Mapping[str, LearnedOutput] = field(default_factory=dict)
    inputs: Mapping[str, LearnedInput] = field(default_factory=dict)
