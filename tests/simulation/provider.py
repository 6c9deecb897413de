"""The provider: what it was asked, what it billed for it. The ground truth of every run.

It bills in exact decimals at the policy's rates, with no arithmetic of Farebox's. A bill is final
when the attempt ends on the provider's side, whether or not anybody is left to hear of it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from enum import StrEnum

from tests.simulation.faults import Plan

NANO_PER_USD = 10**9


class Fate(StrEnum):
    """How an attempt goes."""

    REPORTED = "reported"
    """A whole answer that says what was used."""
    UNREPORTED = "unreported"
    """A whole answer without usage: the caller's own count is the rule."""
    CUT_OFF = "cut_off"
    """It dies half-way: what had arrived is the rule."""
    SILENT = "silent"
    """The caller's patience ends: it was billed, and the usual length is the rule."""
    ERROR = "error"
    """An error status before any output: free."""
    NOT_SENT = "not_sent"
    """The connection was never made: free."""


@dataclass(frozen=True)
class Rates:
    """US dollars a token."""

    input: Decimal
    output: Decimal

    def nano_usd(self, input_tokens: int, output_tokens: int) -> int:
        """Return a bill in nanodollars, rounded half up once."""
        usd = self.input * input_tokens + self.output * output_tokens
        return int((usd * NANO_PER_USD).quantize(Decimal(1), ROUND_HALF_UP))


@dataclass
class Attempt:
    """One send as the provider sees it. `due_nano_usd` is its bill by the rule of the books."""

    request_id: str
    group: str
    fate: Fate
    input_tokens: int
    output_tokens: int
    due_nano_usd: int
    ended: bool = False


class Provider:
    """Serves every group, at the rates of its model."""

    def __init__(self, plan: Plan, rates: Mapping[str, Rates], chance: random.Random) -> None:
        self.attempts: list[Attempt] = []
        self._plan = plan
        self._rates = rates
        self._chance = chance

    def of(self, request_id: str) -> list[Attempt]:
        """Return the attempts of one request that reached the provider."""
        return [it for it in self.attempts if it.request_id == request_id]

    async def serve(
        self, request_id: str, group: str, counted_tokens: int, expected_tokens: int, cap: int
    ) -> Attempt:
        """Take one send, and return once it has ended for the caller.

        `counted_tokens` is the caller's count of the input and `expected_tokens` the output that
        it assumes of an answer that never came: where the provider reports nothing, the rule
        charges by those.
        """
        chance = self._chance
        fate = self._draw_fate()
        output = chance.randint(1, cap)
        match fate:
            case Fate.REPORTED:
                # Providers count otherwise than we do, now and then far above our margin.
                factor = chance.choice((0.8, 1.0, 1.0, 1.1, 40.0))
                tokens = (max(1, int(counted_tokens * factor)), output)
            case Fate.SILENT:
                tokens = (counted_tokens, expected_tokens)
            case _:
                tokens = (counted_tokens, output)
        free = fate in (Fate.ERROR, Fate.NOT_SENT)
        due = 0 if free else self._rates[group].nano_usd(*tokens)
        attempt = Attempt(request_id, group, fate, *tokens, due)
        if fate is not Fate.NOT_SENT:
            self.attempts.append(attempt)
        await asyncio.sleep(chance.uniform(0, self._plan.slow_s))
        attempt.ended = True
        return attempt

    def _draw_fate(self) -> Fate:
        if self._chance.random() < self._plan.fallback_rate:
            return self._chance.choice((Fate.ERROR, Fate.NOT_SENT, Fate.SILENT))
        weights = (12, 2, 2, 1, 1, 1)
        return self._chance.choices(list(Fate), weights)[0]
