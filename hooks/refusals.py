"""The refusals of the contract: one code, one status, one body, whether retrying can help.

Pure: the LiteLLM side turns a `Refusal` into an exception. A refusal is a request that was not
sent, or a withheld answer, which was sent and charged; its body carries what a person needs to see
why, and what to do next.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from hooks.headers import QUEUE_ID


class Code(StrEnum):
    """The machine-readable codes; stable, and the same in body, header, ledger and metrics."""

    BUDGET_EXCEEDED = "budget_exceeded"
    PER_CALL_CAP_EXCEEDED = "per_call_cap_exceeded"
    BUDGET_BUSY = "budget_busy"
    APPROVAL_REQUIRED = "approval_required"
    NO_FEASIBLE_MODEL = "no_feasible_model"
    UNKNOWN_PRICE = "unknown_price"
    UNSUPPORTED_REQUEST = "unsupported_request"
    INVALID_REQUEST = "invalid_request"
    LEDGER_UNAVAILABLE = "ledger_unavailable"
    QUEUED = "queued"
    QUALITY_GATE_FAILED = "quality_gate_failed"


@dataclass(frozen=True, slots=True)
class _Rule:
    status: int
    type: str
    retry: bool


_RULES: Mapping[Code, _Rule] = {
    Code.BUDGET_EXCEEDED: _Rule(402, "insufficient_quota", False),
    Code.PER_CALL_CAP_EXCEEDED: _Rule(402, "insufficient_quota", False),
    Code.BUDGET_BUSY: _Rule(429, "rate_limit_error", True),
    Code.APPROVAL_REQUIRED: _Rule(402, "insufficient_quota", False),
    Code.NO_FEASIBLE_MODEL: _Rule(422, "invalid_request_error", False),
    Code.UNKNOWN_PRICE: _Rule(422, "invalid_request_error", False),
    Code.UNSUPPORTED_REQUEST: _Rule(422, "invalid_request_error", False),
    Code.INVALID_REQUEST: _Rule(422, "invalid_request_error", False),
    Code.LEDGER_UNAVAILABLE: _Rule(503, "service_unavailable", True),
    # Not sent now, and kept: no error, and no SDK repeats it.
    Code.QUEUED: _Rule(202, "queued", False),
    # Sent and charged, and its answer kept back.
    Code.QUALITY_GATE_FAILED: _Rule(422, "quality_gate_error", False),
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that is not sent: why, with the arithmetic, and what to do next.

    `detail` becomes the `farebox` object of the error body. `param` names the request's field at
    fault, where there is one. `headers` are the `x-farebox-*` headers as far as they are known.
    """

    code: Code
    message: str
    detail: Mapping[str, Any] = field(default_factory=dict)
    retry_after_ms: int | None = None
    param: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def status(self) -> int:
        """The HTTP status of this code."""
        return _RULES[self.code].status

    @property
    def type(self) -> str:
        """The error type, in OpenAI's words."""
        return _RULES[self.code].type

    def farebox(self) -> dict[str, Any]:
        """Return the object that clients find under `error.farebox`."""
        return {"code": self.code.value, **self.detail}

    def all_headers(self) -> dict[str, str]:
        """Return the response headers: the code, whether to retry and when, and what is known.

        `x-should-retry: false` keeps the OpenAI and Anthropic SDKs from trying twice more.
        """
        headers = {**self.headers, "x-farebox-code": self.code.value}
        if queue_id := self.detail.get("queue_id"):
            headers[QUEUE_ID] = str(queue_id)
        if not _RULES[self.code].retry:
            headers["x-should-retry"] = "false"
        elif self.retry_after_ms is not None:
            headers["retry-after"] = str(max(1, math.ceil(self.retry_after_ms / 1000)))
            headers["retry-after-ms"] = str(max(1, self.retry_after_ms))
        return headers
