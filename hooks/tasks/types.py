"""What `routing.yaml` says about task types, and rules by where a request comes from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from budgets.config import Values
from budgets.yamlfile import Strict
from hooks.categories import Names
from hooks.gates.settings import Cascade, Gate, ShadowCompare
from hooks.levels import Consequence, Tier


def _as_keyword(value: object) -> object:
    return {"phrase": value} if isinstance(value, str) else value


class Keyword(Strict):
    """A phrase that speaks for a task type: `*` ends a word openly, `..` skips up to six words.

    The weight is the number of words unless it is given. Where a phrase that `settles` stands in a
    text, the trained classifier is not asked.
    """

    phrase: str = Field(min_length=2, max_length=100)
    weight: float | None = Field(default=None, gt=0)
    settles: bool = False


Keywords = tuple[Annotated[Keyword, BeforeValidator(_as_keyword)], ...]


def _as_expected(value: object) -> object:
    return {"default": value} if isinstance(value, int) else value


class TaskType(Strict):
    """What kind of work a request is.

    `expected_output_tokens` seeds the estimate, for all groups (`default`) or for one by name.
    With `pinned` no command changes its tier and floor.
    """

    aliases: Names = ()
    tier: Tier
    floor: str
    consequence: Consequence = Consequence.MEDIUM
    signal: str = ""
    escalation: str = ""
    why: str = ""
    pinned: bool = False
    expected_output_tokens: Annotated[
        dict[str, Annotated[int, Field(gt=0)]], BeforeValidator(_as_expected)
    ]
    keywords: Keywords = ()
    gate: Gate | None = None
    cascade: Cascade | None = None
    shadow_compare: ShadowCompare | None = None

    @model_validator(mode="after")
    def _has_default(self) -> TaskType:
        if "default" not in self.expected_output_tokens:
            raise ValueError("`expected_output_tokens` needs a `default`")
        return self


Endpoint = Literal["chat", "completions", "responses", "messages", "embeddings"]


class RuleMatch(Strict):
    """What a task rule looks at: all that is given must hold. `*` stands for any letters."""

    endpoint: tuple[Endpoint, ...] | None = None
    call_type: Values | None = None
    model: Values | None = None
    key: Values | None = None
    team: Values | None = None
    user: Values | None = None
    tag: Values | None = None

    @field_validator("endpoint", mode="before")
    @classmethod
    def _one_or_more(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value


class TaskRule(Strict):
    """Fixes the task type of requests by where they come from, ahead of the classifier."""

    match: RuleMatch
    task_type: str


class DataRule(Strict):
    """Requires where matching requests are processed, on top of what their category requires.

    What a caller claims (tags) can only add a requirement: rules never take one away.
    """

    match: RuleMatch
    residency: Annotated[Names, Field(min_length=1)]
    why: str = ""
