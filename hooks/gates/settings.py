"""Gates, cascades and shadow comparisons as `routing.yaml` has them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field, PrivateAttr, model_validator

from budgets.config import NanoUsd
from budgets.yamlfile import Strict, did_you_mean
from hooks import oracles
from hooks.oracles import Oracle

COMPLETE, AGREEMENT, VERIFIER = "complete", "agreement", "verifier"
KINDS = (COMPLETE, AGREEMENT, VERIFIER, *oracles.KINDS)

Streams = Literal["buffer", "refuse", "pass"]


class Gate(Strict):
    """What an answer must pass, and what becomes of one that does not.

    `kind` is `complete`, `agreement`, `verifier` or that of an oracle, whose other keys stand
    beside it. `group` is whom the last two ask; `compare` says how two answers are compared;
    `rubric` is what the verifier judges by. `streams` says what becomes of a streamed request: None
    buffers it where the consequence is known to be high, and otherwise lets it pass unjudged.
    """

    model_config = ConfigDict(extra="allow", frozen=True, populate_by_name=True)

    kind: str
    on_fail: Literal["withhold", "escalate"] = "withhold"
    escalations_max: int = Field(default=1, ge=1, le=5)
    streams: Streams | None = None
    mode: Literal["shadow", "enforce"] = "enforce"
    group: str | None = None
    compare: Literal["label", "number", "text"] = "label"
    rubric: str = Field(default="", max_length=4_000)
    _oracle: Oracle | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _fits(self) -> Gate:
        own = self.model_extra or {}
        if self.kind not in KINDS:
            raise ValueError(f"`{self.kind}` is no kind of gate; {did_you_mean(self.kind, KINDS)}")
        if self.kind in (COMPLETE, AGREEMENT, VERIFIER) and own:
            raise ValueError(f"a gate of kind `{self.kind}` knows no `{next(iter(own))}`")
        if self.asks and self.group is None:
            raise ValueError(f"a gate of kind `{self.kind}` needs `group`: whom to ask")
        if self.kind in oracles.KINDS:
            try:
                self._oracle = oracles.load({"kind": self.kind, **own})
            except oracles.SpecError as error:
                raise ValueError(str(error)) from None
            if self._oracle.needs_expected:
                raise ValueError(
                    f"this `{self.kind}` needs an expected answer, which no live request has"
                )
        return self

    @property
    def oracle(self) -> Oracle | None:
        """The oracle that judges; None for the kinds that are none."""
        return self._oracle

    @property
    def asks(self) -> bool:
        """Whether judging takes a call of its own."""
        return self.kind in (AGREEMENT, VERIFIER)


class Cascade(Strict):
    """Cheap first: `steps` are asked before the category's chain, each answer judged by `gate`.

    A step is a group, or a tier for the cheapest feasible group of that tier. The task type's own
    gate judges where the cascade has none.
    """

    steps: tuple[str, ...] = Field(min_length=1, max_length=4)
    gate: Gate | None = None


class Grader(Strict):
    """A model that says which of two answers is better, without knowing whose they are."""

    group: str
    rubric: str = Field(default="", max_length=4_000)


class ShadowCompare(Strict):
    """Sends a share of live requests to another group as well, after they were answered."""

    sample: float = Field(gt=0, le=1)
    group: str
    cap_nano_usd: NanoUsd = Field(alias="cap_usd", gt=0)
    judge: Literal["oracle"] | Grader = "oracle"


class Gates(Strict):
    """The gates of no single task type."""

    high_consequence: Gate | None = None


def spec_of(gate: Gate) -> dict[str, Any]:
    """Return the oracle's spec of a gate."""
    return {"kind": gate.kind, **(gate.model_extra or {})}
