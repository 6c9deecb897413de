"""What a request will probably cost on a group, and the most that it can. Pure.

The likely cost uses the likely input (Farebox's count times the group's usual factor) and the
learned output length. The most uses a bound of the input (learned margin, tools, images at their
bound), the output cap, and the dearest rate that can apply. So a hold is larger than a cost.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from budgets.learned import Learned
from budgets.prices import PICO_PER_NANO, Price, TokenUsage
from budgets.quick import quick
from hooks.groups import Group
from hooks.margins import input_extra_tokens, input_factors, margin_of
from hooks.request import RequestView
from hooks.routing import RoutingFile
from hooks.tokens import TokenCounts

OUTPUT_TOKENS_LEAST = 16
"""LiteLLM raises a smaller maximum to this where it sends through the Responses API."""

OUTPUT_TOKENS_UNKNOWN = 128_000
"""Bound of an answer where neither the caller, the policy nor the model's facts give one."""


@quick
@dataclass(frozen=True, slots=True)
class CostEstimate:
    """Tokens and nanodollars of one request on one group."""

    input_tokens: int
    input_tokens_max: int
    output_tokens: int
    output_tokens_max: int
    estimate_nano_usd: int
    hold_nano_usd: int


def expected_output(
    routing: RoutingFile,
    view: RequestView,
    task_type: str,
    group: str | None,
    learned: Learned,
) -> int:
    """Return the output tokens to expect for one choice, before any cap.

    The caller's word counts first, then what was learned for the pair, then the policy's seed.
    Without a group only the seed counts, so that a request's category does not drift.
    """
    if view.embeds:
        return 0
    if view.steering.expected_output_tokens is not None:
        return view.steering.expected_output_tokens
    seeds = routing.task(task_type).expected_output_tokens
    if group is None:
        return seeds["default"]
    known = learned.outputs.get(f"{task_type}|{group}")
    if known is not None:
        return max(1, round(known.mean_tokens))
    return seeds.get(group, seeds["default"])


@dataclass(frozen=True, slots=True)
class CostTerms:
    """What the cost of a request on one group depends on beside the count of its input.

    The likely input is the count times `likely`, rounded up, and `likely_more`; the bound likewise.
    `estimates` and `holds` are, for each deployment's price, picodollars for an input token and for
    all the rest. They hold up to `plain_max` input tokens, where the first price changes.
    """

    likely: float
    likely_more: int
    bound: float
    bound_more: int
    output_tokens: int
    output_tokens_max: int
    prices: tuple[Price, ...]
    images: int
    cache_writes: bool
    estimates: tuple[tuple[int, int], ...]
    holds: tuple[tuple[int, int], ...]
    plain_max: float

    def at(self, count: int, count_max: int | None = None) -> CostEstimate:
        """Return the estimate for an input of `count` tokens by Farebox's own count.

        `count_max` is the most that it can be, where the count is an estimate itself.
        """
        tokens = math.ceil(count * self.likely) + self.likely_more
        tokens_max = math.ceil((count_max or count) * self.bound) + self.bound_more
        if tokens > self.plain_max or tokens_max > self.plain_max:
            usage = TokenUsage(tokens, self.output_tokens)
            likely = max([price.cost(usage, self.images) for price in self.prices])
            most = max(
                [
                    price.worst_cost(
                        tokens_max, self.output_tokens_max, self.images,
                        cache_writes=self.cache_writes,
                    )
                    for price in self.prices
                ]
            )  # fmt: skip
        else:
            if len(self.prices) == 1:
                ((rate, rest),), ((rate_max, rest_max),) = self.estimates, self.holds
                pico, pico_max = tokens * rate + rest, tokens_max * rate_max + rest_max
            else:
                pico = max([tokens * rate + rest for rate, rest in self.estimates])
                pico_max = max([tokens_max * rate + rest for rate, rest in self.holds])
            likely = (pico + PICO_PER_NANO // 2) // PICO_PER_NANO
            most = -(-pico_max // PICO_PER_NANO)
        return CostEstimate(
            tokens, tokens_max, self.output_tokens, self.output_tokens_max, likely, most
        )


def cost_terms(
    routing: RoutingFile,
    view: RequestView,
    counts: TokenCounts,
    task_type: str,
    group: Group,
    prices: tuple[Price, ...],
    output_cap: int | None,
    learned: Learned,
) -> CostTerms:
    """Return the terms for a group whose prices are known; the count of the input is not used.

    `output_cap` is the policy's cap, for requests that set no maximum of their own; None where
    nothing caps them but the model.
    """
    name = group.primary or group.name
    facts = routing.models.get(name)
    margin = margin_of(routing, group)
    factors = input_factors(routing, group, learned)
    image_max = margin.image_tokens_max
    if image_max is None:
        image_max = routing.requests.image_tokens_max
    model_max = facts.output_tokens_max if facts and facts.output_tokens_max else None
    model_max = model_max or group.output_tokens_max
    bound_out = output_bound(view, output_cap, model_max)
    likely_out = min(expected_output(routing, view, task_type, name, learned), bound_out)
    likely_out *= view.choices
    bound_out *= view.choices
    writes = margin.cache_writes == "always" or view.caches or group.caches
    by_image = [view.images * price.per_image for price in prices]
    return CostTerms(
        likely=factors.likely,
        likely_more=counts.images * (image_max // 4),
        bound=factors.bound,
        bound_more=input_extra_tokens(margin, counts.tools) + counts.images * image_max,
        output_tokens=likely_out,
        output_tokens_max=bound_out,
        prices=prices,
        images=view.images,
        cache_writes=writes,
        estimates=tuple(
            (price.base.input, likely_out * price.base.output + more)
            for price, more in zip(prices, by_image, strict=True)
        ),
        holds=tuple(
            (price.base.most_input(writes), bound_out * price.base.dearest_output + more)
            for price, more in zip(prices, by_image, strict=True)
        ),
        plain_max=min((above for price in prices for above, _ in price.tiers), default=math.inf),
    )


def output_bound(view: RequestView, output_cap: int | None, model_max: int | None) -> int:
    """Return the most output tokens that one choice can have."""
    if view.embeds:
        return 0
    if view.output_max is not None:
        # The caller's own maximum reaches the provider; one beyond the model's is refused there.
        least = OUTPUT_TOKENS_LEAST if view.call_type in ("anthropic_messages", "aresponses") else 1
        return max(view.output_max, least)
    if output_cap is not None:
        return min(output_cap, model_max) if model_max else output_cap
    return model_max or OUTPUT_TOKENS_UNKNOWN
