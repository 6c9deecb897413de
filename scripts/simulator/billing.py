"""The bill: what a provider would charge for each call, in integer nanodollars.

By the rule that Farebox's ledger follows for failed attempts: reported usage is billed as
reported; an error status before any output costs nothing; a stream that is cut is billed for its
input and what was generated; a call whose usage was not reported is billed as counted. All but the
first two are marked `estimated`, and a call that its client left before the first byte is marked
`abandoned` too and billed for the whole answer that it would have got.
"""

from collections import deque
from dataclasses import asdict, dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Literal

from scripts.simulator.prices import Price

CALLS_KEPT_MAX = 100_000
FLAGS = ("exact", "estimated", "abandoned", "error", "unpriced")
Ending = Literal["finished", "refused", "died", "client_left"]


@dataclass(frozen=True)
class Usage:
    """Tokens by kind, in one meaning for every dialect: no token is in two of the input kinds."""

    input_tokens: int
    """Input that was neither read from nor written to a cache."""
    output_tokens: int
    """Output, reasoning included."""
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0

    @property
    def prompt_tokens(self) -> int:
        """All input, as OpenAI and Gemini report it. (Anthropic reports `input_tokens`.)"""
        return self.input_tokens + self.cached_tokens + self.cache_write_tokens


NO_USAGE = Usage(0, 0)


def cost_nano_usd(usage: Usage, price: Price) -> int:
    """The cost of one call in nanodollars, rounded half up once, at the end."""
    rates = price.rates(usage.prompt_tokens)
    exact: Decimal = (
        usage.input_tokens * rates.input
        + usage.cached_tokens * rates.cache_read
        + usage.cache_write_tokens * rates.cache_write
        + (usage.output_tokens - usage.reasoning_tokens) * rates.output
        + usage.reasoning_tokens * rates.reasoning
    )
    return int(exact.quantize(Decimal(1), rounding=ROUND_HALF_UP))


@dataclass(frozen=True)
class Call:
    """One call as the provider saw it. Never holds a prompt, an answer or a key."""

    arrival: int
    """The order in which calls arrived; `seq`, by contrast, is the order in which they ended."""
    dialect: str
    path: str
    model: str
    status: int
    stream: bool
    output_tokens_max: int | None
    """For each choice, whatever the dialect calls it."""
    choices: int
    ending: Ending
    usage: Usage
    usage_reported: bool
    cost_nano_usd: int
    flags: tuple[str, ...]
    concurrency: int
    """Calls in flight when this one arrived, itself included."""
    duration_ms: int
    authorized_with: str | None
    """SHA-256 of the API key, in hex."""
    headers: dict[str, str]
    body_keys: tuple[str, ...]
    fields: dict[str, Any]


class Bill:
    """All calls since the last reset: exact totals for ever, details of the last 100,000."""

    def __init__(self, calls_kept_max: int = CALLS_KEPT_MAX) -> None:
        self._calls: deque[tuple[int, Call]] = deque(maxlen=calls_kept_max)
        self.in_flight = 0
        self._arrivals = 0
        # A call that is in flight across a reset belongs to the old bill.
        self._epoch = 0
        self._clear()

    def _clear(self) -> None:
        self._calls.clear()
        self._ended = 0
        self._billed_nano_usd = 0
        self._by_model: dict[str, list[int]] = {}
        self._by_flag: dict[str, list[int]] = {flag: [0, 0] for flag in FLAGS}

    def arrive(self) -> tuple[int, int, int]:
        """Note a call's start: its number, how many are now in flight, and the bill's epoch."""
        self._arrivals += 1
        self.in_flight += 1
        return self._arrivals, self.in_flight, self._epoch

    def settle(self, call: Call, epoch: int) -> None:
        """Note a call's end."""
        self.in_flight -= 1
        if epoch != self._epoch:
            return
        self._ended += 1
        self._calls.append((self._ended, call))
        self._billed_nano_usd += call.cost_nano_usd
        rows = [self._by_model.setdefault(call.model, [0, 0])]
        rows += [self._by_flag.setdefault(flag, [0, 0]) for flag in call.flags]
        for row in rows:
            row[0] += 1
            row[1] += call.cost_nano_usd

    def reset(self) -> None:
        self._epoch += 1
        self._clear()

    def totals(self) -> dict[str, Any]:
        """The bill as JSON. An abandoned call counts under `estimated` too."""

        def table(rows: dict[str, list[int]]) -> dict[str, dict[str, int]]:
            return {
                name: {"calls": calls, "billed_nano_usd": billed}
                for name, (calls, billed) in rows.items()
            }

        return {
            "calls": self._ended,
            "in_flight": self.in_flight,
            "billed_nano_usd": self._billed_nano_usd,
            "by_model": table(self._by_model),
            "by_flag": table(self._by_flag),
        }

    def calls_since(self, seq: int) -> list[dict[str, Any]]:
        """The calls that ended after call `seq`, oldest first."""
        return [
            {"seq": number}
            | asdict(call)
            | {"usage": asdict(call.usage) | {"prompt_tokens": call.usage.prompt_tokens}}
            for number, call in self._calls
            if number > seq
        ]
