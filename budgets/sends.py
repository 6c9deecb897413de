"""A request that asks for more than one answer: the steps of a cascade, and what its gate asks.

    first answer ─► judged ─► served
                       └────► the next group's answer ─► judged ─► …

All of it is one request with one hold and one entry. `hooks.cascade` decides what is sent next,
`callbacks.sends` takes the cost of each send as LiteLLM tells it, and they meet here: the request
is settled once it was decided what its client gets and every send has told its cost.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from budgets.open_requests import Attempt, Terms


class Role(StrEnum):
    """What a send is for: an answer for the client, a second one to compare it with, a verdict."""

    ANSWER = "answer"
    SECOND = "second"
    VERIFIER = "verifier"


class Outcome(StrEnum):
    """What the client of such a request got."""

    SERVED = "served"
    WITHHELD = "withheld"
    FAILED = "failed"
    """The provider's error, of a step that was to serve it."""


@dataclass(slots=True)
class Send:
    """One answer that was asked for, by however many attempts.

    `call_type` is LiteLLM's, `group` the one that was asked. `terms` are its own, where they differ
    from the request's for that group. `response` is what came back. `answer` is what accounting
    read of it, once it was told. `verdict` is the gate's.
    """

    number: int
    role: Role
    call_type: str
    group: str
    terms: Terms | None = None
    response: object = None
    answer: object = None
    told: bool = False
    verdict: dict[str, Any] | None = None


@dataclass(slots=True)
class Sends:
    """The sends of one request. `plan` is what `hooks.cascade` goes by, and nobody else's affair.

    `buffered` is true where the client gets the judged answer as the stream that it asked for.
    `prompt` is what was asked, for a trace. `begun` is true once the gate has the first answer.
    `served` is the number of the send whose answer the client got, `facts` what the entry says
    about gate and cascade.
    """

    plan: object
    sends: list[Send]
    buffered: bool = False
    prompt: object = None
    begun: bool = False
    watched: bool = False
    outcome: Outcome | None = None
    error: str | None = None
    served: int | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    decided: asyncio.Event = field(default_factory=asyncio.Event)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def current(self) -> Send:
        """The send that is under way, or was last."""
        return self.sends[-1]

    def get(self, number: object) -> Send | None:
        """Return a send by its number, None for anything that is none."""
        if not isinstance(number, int) or not 0 <= number < len(self.sends):
            return None
        return self.sends[number]

    def begin(self, role: Role, call_type: str, group: str, terms: Terms | None = None) -> Send:
        """Note that another send begins."""
        send = Send(len(self.sends), role, call_type, group, terms)
        self.sends.append(send)
        return send

    def decide(self, outcome: Outcome, served: int | None = None, error: str | None = None) -> None:
        """Say what the client gets; the first word counts."""
        if self.outcome is None:
            self.outcome, self.served, self.error = outcome, served, error
        self.decided.set()

    def end(self) -> None:
        """Let go of what is large: ended requests are remembered for a while."""
        self.plan = self.prompt = None
        for send in self.sends:
            send.response = None
        self.decided.set()

    def tell(self, send: Send, answer: object) -> None:
        """Note what accounting read of a send's answer."""
        send.answer, send.told = answer, True
        self.news.set()

    def waits_for(self, attempts: list[Attempt]) -> bool:
        """Say whether an answer came whose cost nobody has told yet."""
        return any(a.status == "answered" for a in attempts)
