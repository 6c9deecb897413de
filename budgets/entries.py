"""What a ledger entry says of its request: the text that the ledger keeps whole in `body`.

An entry is read long after it was written, by newer releases and by finance's own tools. So a
field's meaning never changes, new fields have defaults, and reading tolerates unknown ones. It
never holds text of a prompt or an answer, nor a key: `key_name` is the name that a person gave.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field

Status = Literal["open", "ok", "error", "cancelled", "timeout", "not_sent", "withheld"]
"""How a request ended. `open` is what a hold's facts say: with the kind `unreconciled` it means
that nobody knows, since the process that served the request did not live to tell."""


class _Lenient(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Tokens(_Lenient):
    """Tokens by kind. `input` has no cached reads and no cache writes in it; `output` has the
    reasoning in it, of which `reasoning` says how much."""

    input: int = 0
    output: int = 0
    cached_read: int = 0
    cache_write: int = 0
    reasoning: int = 0


class Attempt(_Lenient):
    """One send to a provider. `estimated`: its cost comes from a local count, not from usage."""

    group: str
    status: str
    cost_nano_usd: int = 0
    estimated: bool = False
    latency_ms: int | None = None


class EntryBody(_Lenient):
    """One request as the ledger remembers it. Unknown is None, never zero.

    `group` was decided, `serving_group` served (another one after a fallback), `serving_model` is
    the provider's own name for the model, `sent_model` the one that its deployment names, and
    `price_pico_usd` what it was charged by (picodollars an input and an output token).
    `task_source` says who named the task type: caller, rule, classifier, keywords, signals,
    default. `marks` are words such as `estimated`, `simulated`, `cache_hit`, `output_capped`,
    `overage`. `estimate_error` is actual less estimate, over the actual cost. `input_counted` is
    Farebox's own count of the input and `input_extra` what the policy's bound had on top of it:
    margins are learned from both and the reported tokens, from entries with status `ok` that have
    the two, no mark `cache_hit`, and a last attempt that is not `estimated`. `input_extra` is None
    where a request teaches nothing (images, a simulated provider, an estimated count), and
    `input_between` are the bounds of an estimated count. `approval` is the approval by which it
    passed a limit.
    """

    v: int = 1
    request_id: str
    decision_id: str
    mode: str = "enforce"
    status: Status = "open"
    category: str | None = None
    task_type: str | None = None
    task_source: str | None = None
    tier: str | None = None
    consequence: str | None = None
    requested_model: str | None = None
    group: str | None = None
    serving_group: str | None = None
    serving_model: str | None = None
    sent_model: str | None = None
    price_pico_usd: tuple[int, ...] = ()
    provider: str | None = None
    call_type: str | None = None
    stream: bool = False
    tokens: Tokens = Field(default_factory=Tokens)
    estimate_nano_usd: int | None = None
    hold_nano_usd: int | None = None
    actual_nano_usd: int | None = None
    input_counted: int | None = None
    input_extra: int | None = None
    input_between: tuple[int, int] | None = None
    estimate_error: float | None = None
    attempts: tuple[Attempt, ...] = ()
    latency_ms: int | None = None
    marks: tuple[str, ...] = ()
    key_name: str | None = None
    team: str | None = None
    user: str | None = None
    session: str | None = None
    tags: tuple[str, ...] = ()
    approval: str | None = None

    def to_json(self) -> str:
        """Return the text for a hold's facts or a settlement's body."""
        return self.model_dump_json(exclude_none=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the body that a text holds.

        Raises:
            pydantic.ValidationError: the text is not an entry's body.
        """
        return cls.model_validate_json(text)


def relative_error(estimate_nano_usd: int, actual_nano_usd: int) -> float | None:
    """Return the estimate's error, (actual - estimate) / actual, or None where nothing was charged.

    Positive: it cost more than was expected.
    """
    if actual_nano_usd == 0:
        return None
    return (actual_nano_usd - estimate_nano_usd) / actual_nano_usd
