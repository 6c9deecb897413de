"""What `routing.yaml` says about finding task types, about signals and sessions, as models."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from budgets.config import Values
from budgets.yamlfile import Strict


class Content(Strict):
    """The trained classifier. `file` is beside `routing.yaml`; none given is the pack's own.

    Where no task type is as likely as `confidence_min`, the text says too little and the keywords
    are asked. `under_routing_cost` is what a type of too low a tier costs, against 1 for any other
    mistake; a type that is less likely than `caution_min` is not chosen for that reason.
    """

    enabled: bool = True
    file: str | None = Field(default=None, min_length=1)
    confidence_min: float = Field(default=0.4, ge=0, le=1)
    under_routing_cost: float = Field(default=3.0, ge=1, le=100)
    caution_min: float = Field(default=0.15, ge=0, le=1)


class TaskDetection(Strict):
    """How a task type is found where neither the caller nor a task rule says it.

    With `system_text` the system text is looked at where the last user message says nothing.
    """

    content: Content = Content()
    keywords: bool = True
    system_text: bool = True


def _as_words(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


Words = Annotated[tuple[str, ...], BeforeValidator(_as_words)]


class SignalMatch(Strict):
    """Signals of a request that must all hold. What ends in `_min` is the least number."""

    structured_output: bool | None = None
    tools: bool | None = None
    code: bool | None = None
    language: Values | None = None
    tool: Values | None = None
    turns_min: int | None = Field(default=None, ge=1)
    chars_min: int | None = Field(default=None, ge=1)
    constraints_min: int | None = Field(default=None, ge=1)
    tool_calls_min: int | None = Field(default=None, ge=1)
    tool_failures_min: int | None = Field(default=None, ge=1)
    tool_failures_in_a_row_min: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _looks_at_something(self) -> SignalMatch:
        if not self.model_dump(exclude_none=True):
            raise ValueError("it needs at least one signal, or it would hold for every request")
        return self


class SignalTask(Strict):
    """A task type for requests that nothing else says one for."""

    when: SignalMatch
    task_type: str


class SignalFloor(Strict):
    """The smallest category of requests with these signals."""

    when: SignalMatch
    floor: str


class SignalSettings(Strict):
    """What follows from a request's signals, and how a failed tool is told from its answer.

    An answer of a tool failed where the provider's format says so, or where it begins with one of
    `failure_words`, whatever signs stand before that.
    """

    task_types: tuple[SignalTask, ...] = ()
    floors: tuple[SignalFloor, ...] = ()
    failure_words: Words = (
        "error", "traceback", "exception", "fatal", "failed", "failure", "panic", "exit code 1",
        "exit status 1", "command not found", "no such file", "permission denied", "timed out",
    )  # fmt: skip
    constraint_words: Words = (
        "must", "mustn", "only", "exactly", "never", "without", "unless", "maximum", "minimum",
        "always", "cannot", "shall", "required", "strictly",
    )  # fmt: skip


class SessionSettings(Strict):
    """Whether sessions only rise, and for how long one is remembered after its last request.

    `per_key_max` bounds the sessions of one key: beyond it the one that was asked for longest ago
    is forgotten. A worker asks Redis about a session again after `refresh_seconds`.
    """

    only_rise: bool = True
    same_group: bool = True
    expires_minutes: float = Field(default=60, gt=0, le=10_080)
    per_key_max: int = Field(default=1_000, ge=1, le=100_000)
    refresh_seconds: float = Field(default=1.0, ge=0, le=60)
