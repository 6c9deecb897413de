"""The field of models to choose from: the configured ones and the market, priced for one blend.

A price comes from LiteLLM's map as the policy has it, a score and a speed from the facts in
`routing.yaml`, each with its source. What is not known is None and never a guess.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version

from budgets.prices import Price, TokenUsage, UnknownPrice, read_price
from hooks.choosing import Blend
from hooks.facts import ModelFacts, Speed
from hooks.groups import PriceMap
from hooks.policy import Policy

_BARE_AFFIXES = ("-preview", "-latest")


@dataclass(frozen=True, slots=True)
class Quality:
    """A score and where it comes from. `of` names the model that was measured, if another."""

    score: float
    benchmark: str
    source: str
    date: str
    of: str | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Latency:
    """The likely time to the whole answer. `basis` is assumed, published or measured."""

    ms: int
    basis: str


@dataclass(frozen=True, slots=True)
class Offer:
    """A model that could be chosen. `name` is its group's, or its name in LiteLLM's map.

    `cost_nano_usd` is what one request of the blend costs; None where no price is known.
    `chains` are the categories whose chain it stands in.
    """

    name: str
    model: str
    title: str
    vendor: str
    tier: str
    configured: bool
    cost_nano_usd: int | None
    quality: Quality | None
    latency: Latency | None
    residency: tuple[str, ...]
    chains: tuple[str, ...] = ()
    price: Price | None = None

    @property
    def point(self) -> tuple[float, int] | None:
        """Return quality and cost; None where one of them is not known."""
        if self.quality is None or self.cost_nano_usd is None:
            return None
        return self.quality.score, self.cost_nano_usd


@dataclass(frozen=True, slots=True)
class Field:
    """All offers, with what they are compared by. `prices_from` names the price map."""

    offers: tuple[Offer, ...]
    blend: Blend
    benchmark: str
    prices_from: str

    @property
    def comparable(self) -> tuple[Offer, ...]:
        """The offers with a price and a score, the cheapest first."""
        found = [it for it in self.offers if it.point is not None]
        return tuple(sorted(found, key=lambda it: (it.cost_nano_usd or 0, it.name)))

    def offer(self, name: str) -> Offer | None:
        """Return the offer of that name."""
        return next((it for it in self.offers if it.name == name), None)


def usage_of(blend: Blend) -> TokenUsage:
    """Return the blend as a price takes it."""
    return TokenUsage(
        input_tokens=blend.input_tokens,
        output_tokens=blend.output_tokens,
        cache_read_tokens=round(blend.input_tokens * blend.cached_share),
    )


def make_field(policy: Policy, price_map: PriceMap, blend: Blend, benchmark: str) -> Field:
    """Return the field of a policy: its groups with facts, then the market's models."""
    offers = [*_configured(policy, blend, benchmark), *_market(policy, price_map, blend, benchmark)]
    return Field(tuple(offers), blend, benchmark, prices_from())


def prices_from() -> str:
    """Return the name of the price map that is installed."""
    try:
        return f"LiteLLM {version('litellm')}"
    except PackageNotFoundError:
        return "LiteLLM"


def within(field: Field, residency: str) -> Field:
    """Return the field without what is processed anywhere but in one place."""
    kept = tuple(it for it in field.offers if set(it.residency) <= {residency})
    return replace(field, offers=kept)


def _configured(policy: Policy, blend: Blend, benchmark: str) -> Iterator[Offer]:
    for name, facts in policy.routing.models.items():
        group = policy.groups.groups.get(name)
        if group is None or group.embeds:
            continue
        prices = group.prices
        # Of several deployments the dearest counts: a request may go to any of them.
        cost = (
            None
            if isinstance(prices, UnknownPrice)
            else max(price.cost(usage_of(blend)) for price in prices)
        )
        offer = _offer(name, group.deployments[0].model, facts, cost, blend, benchmark)
        chains = tuple(it for it in policy.routing.categories if name in _chain(policy, it))
        price = prices[0] if isinstance(prices, tuple) else None
        yield replace(offer, configured=True, chains=chains, price=price)


def _chain(policy: Policy, category: str) -> tuple[str, ...]:
    return policy.groups.chain(category) if category in policy.groups.groups else ()


def _market(policy: Policy, price_map: PriceMap, blend: Blend, benchmark: str) -> Iterator[Offer]:
    taken = {bare(it.deployments[0].model) for it in policy.groups.groups.values()}
    for name, facts in policy.routing.market.items():
        if bare(name) in taken:
            continue  # It has become a group since, and stands among those.
        found = read_price(price_map.get(name), free=facts.free)
        price = None if isinstance(found, UnknownPrice) else found
        cost = None if price is None else price.cost(usage_of(blend))
        yield replace(_offer(name, name, facts, cost, blend, benchmark), price=price)


def _offer(
    name: str, model: str, facts: ModelFacts, cost: int | None, blend: Blend, benchmark: str
) -> Offer:
    score = facts.benchmarks.get(benchmark)
    quality = None
    if score is not None:
        quality = Quality(score.score, benchmark, score.source, score.date, score.of, score.note)
    return Offer(
        name=name,
        model=model,
        title=facts.title,
        vendor=facts.vendor,
        tier=facts.tier.value,
        configured=False,
        cost_nano_usd=cost,
        quality=quality,
        latency=None if facts.speed is None else latency_of(facts.speed, blend),
        residency=facts.residency,
    )


def latency_of(speed: Speed, blend: Blend) -> Latency:
    """Return the likely time to the whole answer of the blend."""
    writing_ms = blend.output_tokens / speed.output_tokens_per_second * 1000
    return Latency(round(speed.first_token_p50_ms + writing_ms), speed.basis)


def bare(model: str) -> str:
    """Return a model's name without provider and without what marks a version as moving."""
    name = model.rsplit("/", 1)[-1].lower()
    for affix in _BARE_AFFIXES:
        name = name.removesuffix(affix)
    return name


def costs_by_name(field: Field) -> Mapping[str, int]:
    """Return what the blend costs by the offer's name, for those with a price."""
    return {it.name: it.cost_nano_usd for it in field.offers if it.cost_nano_usd is not None}
