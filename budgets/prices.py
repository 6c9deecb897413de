"""Prices per token, from a price map's entry in LiteLLM's shape; whole picodollars a token.

One US dollar is 10**12 picodollars: fine enough for every price in the map, and whole. Sums are
made in picodollars and rounded to nanodollars once, at the end: `cost` to the nearest (half up),
`worst_cost` up.

Unknown is not zero. An entry without an input or output price gives `UnknownPrice`. An entry whose
prices are an explicit 0 does too, unless the policy says `free: true` for it: maps carry zeros for
models whose price nobody entered. The rules by which kinds of tokens are priced are LiteLLM's
(`litellm_core_utils/llm_cost_calc/utils.py`, 1.106.2), so that both agree on a bill:

- a missing cache-read or cache-write price is the input price; a missing one-hour write price is
  the write price; a missing reasoning price is the output price;
- `…_above_200k_tokens` applies to all tokens of a request whose input is above 200,000.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from typing import Any

from budgets.quick import quick

PICO_PER_USD = 10**12
PICO_PER_NANO = 1000

_ABOVE = re.compile(
    r"(?P<kind>.+?)(?P<hour>_above_1hr)?_above_(?P<count>\d+)(?P<thousands>k?)_tokens"
)


@dataclass(frozen=True, slots=True)
class Rates:
    """Picodollars a token, by kind."""

    input: int
    output: int
    cache_read: int
    cache_write: int
    cache_write_1h: int
    reasoning: int

    @property
    def dearest_input(self) -> int:
        """The most that one input token can cost, written to a cache or not."""
        return max(self.input, self.cache_read, self.cache_write, self.cache_write_1h)

    def most_input(self, cache_writes: bool) -> int:
        """The most that one input token can cost where a request may write to a cache, or not."""
        return self.dearest_input if cache_writes else max(self.input, self.cache_read)

    @property
    def dearest_output(self) -> int:
        """The most that one output token can cost, reasoning or not."""
        return max(self.output, self.reasoning)


@quick
@dataclass(frozen=True, slots=True)
class TokenUsage:
    """Tokens of one answer. Input counts the cached ones too, output the reasoning ones too."""

    input_tokens: int
    output_tokens: int
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    reasoning_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Price:
    """What a model costs. `tiers` are (input tokens above which they apply, rates), rising.

    `per_image` is picodollars for each input image, on top of its tokens (few models have it).
    """

    base: Rates
    tiers: tuple[tuple[int, Rates], ...] = ()
    per_image: int = 0

    def rates(self, input_tokens: int) -> Rates:
        """Return the rates for a request of that input size."""
        chosen = self.base
        for above, rates in self.tiers:
            if input_tokens > above:
                chosen = rates
        return chosen

    def cost(self, usage: TokenUsage, images: int = 0) -> int:
        """Return the nanodollars of an answer, rounded half up."""
        rates = self.rates(usage.input_tokens)
        cached = usage.cache_read_tokens + usage.cache_write_tokens + usage.cache_write_1h_tokens
        reasoning = min(usage.reasoning_tokens, usage.output_tokens)
        pico = (
            max(0, usage.input_tokens - cached) * rates.input
            + usage.cache_read_tokens * rates.cache_read
            + usage.cache_write_tokens * rates.cache_write
            + usage.cache_write_1h_tokens * rates.cache_write_1h
            + (usage.output_tokens - reasoning) * rates.output
            + reasoning * rates.reasoning
            + images * self.per_image
        )
        return (pico + PICO_PER_NANO // 2) // PICO_PER_NANO

    def worst_cost(
        self,
        input_tokens_max: int,
        output_tokens_max: int,
        images: int = 0,
        cache_writes: bool = True,
    ) -> int:
        """Return the most nanodollars that so many tokens can cost, rounded up.

        Every token counts at the dearest kind's rate and tier that the input can reach.
        `cache_writes` is false where the request cannot write to a cache: input tokens then count
        at the dearer of the plain and the cache-read rate.
        """
        reachable = [self.base, *(r for above, r in self.tiers if input_tokens_max > above)]
        rate_in = max(r.most_input(cache_writes) for r in reachable)
        rate_out = max(r.dearest_output for r in reachable)
        pico = input_tokens_max * rate_in + output_tokens_max * rate_out + images * self.per_image
        return -(-pico // PICO_PER_NANO)


@dataclass(frozen=True, slots=True)
class UnknownPrice:
    """No price is known; `reason` says why, in words for the person who can add one."""

    reason: str


def read_price(entry: Mapping[str, Any] | None, *, free: bool = False) -> Price | UnknownPrice:
    """Return the price in a map's entry. `free` accepts an entry whose prices are all zero."""
    if entry is None:
        if free:
            return Price(Rates(0, 0, 0, 0, 0, 0))
        return UnknownPrice("the price map does not have the model")
    tiered = entry.get("tiered_pricing")
    if isinstance(tiered, list) and tiered:
        return _ranges(tiered, free)
    try:
        base = _rates(entry)
        if isinstance(base, UnknownPrice):
            return base
        per_image = _pico(entry.get("input_cost_per_image")) or 0
        tiers = _tiers(entry, base)
    except ValueError as error:
        return UnknownPrice(str(error))
    price = Price(base, tiers, per_image)
    if base.dearest_input == 0 and base.dearest_output == 0 and not free:
        return UnknownPrice("the price is given as zero and `free: true` is not set for the model")
    return price


def _rates(entry: Mapping[str, Any]) -> Rates | UnknownPrice:
    given_in = _pico(entry.get("input_cost_per_token"))
    given_out = _pico(entry.get("output_cost_per_token"))
    if given_in is None:
        return UnknownPrice("no `input_cost_per_token` is known")
    if given_out is None:
        if entry.get("mode") != "embedding":
            return UnknownPrice("no `output_cost_per_token` is known")
        given_out = 0
    reads = _pico(entry.get("cache_read_input_token_cost"))
    writes = _pico(entry.get("cache_creation_input_token_cost"))
    writes_1h = _pico(entry.get("cache_creation_input_token_cost_above_1hr"))
    thinks = _pico(entry.get("output_cost_per_reasoning_token"))
    cache_write = given_in if writes is None else writes
    return Rates(
        input=given_in,
        output=given_out,
        cache_read=given_in if reads is None else reads,
        cache_write=cache_write,
        cache_write_1h=cache_write if writes_1h is None else writes_1h,
        reasoning=given_out if thinks is None else thinks,
    )


_TIER_FIELDS = {
    "input_cost_per_token": "input",
    "output_cost_per_token": "output",
    "cache_read_input_token_cost": "cache_read",
    "cache_creation_input_token_cost": "cache_write",
    "output_cost_per_reasoning_token": "reasoning",
}


def _tiers(entry: Mapping[str, Any], base: Rates) -> tuple[tuple[int, Rates], ...]:
    """Return the long-context tiers; what a tier does not name keeps the rate of the one below."""
    named: dict[int, dict[str, int]] = {}
    for key, value in entry.items():
        match = _ABOVE.fullmatch(key)
        if match is None or match["kind"] not in _TIER_FIELDS:
            continue  # Also the keys of service tiers, which end in `_priority` and the like.
        rate = _pico(value)
        if rate is None:
            continue
        field = "cache_write_1h" if match["hour"] else _TIER_FIELDS[match["kind"]]
        above = int(match["count"]) * (1000 if match["thousands"] else 1)
        named.setdefault(above, {})[field] = rate
    tiers: list[tuple[int, Rates]] = []
    below = base
    for above in sorted(named):
        fields = named[above]
        below = replace(below, **fields)
        # Cache and reasoning prices that nobody gave follow the input and output price.
        if "cache_read" not in fields and base.cache_read == base.input:
            below = replace(below, cache_read=below.input)
        if "cache_write" not in fields and base.cache_write == base.input:
            below = replace(below, cache_write=below.input)
        if "cache_write_1h" not in fields and base.cache_write_1h == base.cache_write:
            below = replace(below, cache_write_1h=below.cache_write)
        if "reasoning" not in fields and base.reasoning == base.output:
            below = replace(below, reasoning=below.output)
        tiers.append((above, below))
    return tuple(tiers)


def _ranges(tiered: list[Any], free: bool) -> Price | UnknownPrice:
    """Return a price from `tiered_pricing`, a list of `{range: [from, to], …}`."""
    steps: list[tuple[int, Rates]] = []
    for step in tiered:
        if not isinstance(step, Mapping) or not isinstance(step.get("range"), list):
            return UnknownPrice("`tiered_pricing` has an entry without a range")
        try:
            rates = _rates(step)
            above = int(step["range"][0])
        except (ValueError, TypeError, IndexError) as error:
            return UnknownPrice(f"`tiered_pricing`: {error}")
        if isinstance(rates, UnknownPrice):
            return rates
        steps.append((above, rates))
    steps.sort(key=lambda step: step[0])
    if all(r.dearest_input == 0 and r.dearest_output == 0 for _, r in steps) and not free:
        return UnknownPrice("the price is given as zero and `free: true` is not set for the model")
    return Price(steps[0][1], tuple(steps[1:]))


def _pico(value: object) -> int | None:
    """Return picodollars of a price in US dollars, rounded up; None where there is no price.

    Raises:
        ValueError: the value is not a price.
    """
    if value is None:
        return None
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        raise ValueError(f"{value!r} is not a price in US dollars a token") from None
    if isinstance(value, bool) or not amount.is_finite() or amount < 0 or amount > 1_000:
        raise ValueError(f"{value!r} is not a price in US dollars a token")
    return int((amount * PICO_PER_USD).to_integral_value(rounding=ROUND_CEILING))
