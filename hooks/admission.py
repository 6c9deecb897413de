"""What comes of a request: it is admitted, with what to send, or refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from budgets.quick import quick
from budgets.traced import Routed
from hooks.levels import Mode
from hooks.refusals import Refusal


@quick
@dataclass(frozen=True, slots=True)
class Admission:
    """What to send: the group, the fallbacks after it, the cap to set (None: leave it alone).

    `advice` is what the answer is to say of model and task type, where the request asked for it.
    """

    request_id: str
    mode: Mode
    group: str
    fallbacks: tuple[str, ...]
    output_tokens_cap: int | None
    headers: dict[str, str]
    gated: bool = False
    """Whether the answer is judged; see `hooks.cascade`."""
    asks: bool = False
    """Whether more may be asked for it than the first answer."""
    buffered: bool = False
    """Whether a stream was asked for that is sent whole, once it is judged."""
    advice: Mapping[str, Any] | None = None


class Refused(Exception):
    """The request is not sent. `facts` and `routed` are what was known of it, for its trace."""

    def __init__(
        self,
        refusal: Refusal,
        request_id: str,
        decision_id: str,
        facts: dict[str, Any],
        routed: Routed | None = None,
    ) -> None:
        super().__init__(refusal.code.value)
        self.refusal = refusal
        self.request_id = request_id
        self.decision_id = decision_id
        self.facts = facts
        self.routed = routed
