"""The quarterly review: what moved since a date, and which chains should change, as YAML diffs.

Two fields are compared: today's, and that of the snapshot, in which a score counts only if it was
published by then. A model of a chain is to be replaced where another one dominates it, meets the
category's quality floor, and is processed nowhere else. What the edit would make of the files is
loaded like any policy before it is shown.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from budgets.yamlfile import ConfigErrors, KeyPath
from hooks.groups import PriceMap
from hooks.policy import Policy, PolicyPaths
from scripts.choosing.field import Field, Offer, bare, usage_of
from scripts.choosing.frontier import dominates, frontier_of
from scripts.choosing.history import Then
from scripts.choosing.trial import load_edited
from scripts.yaml_edit import Edit, edited, indent_at, span


@dataclass(frozen=True, slots=True)
class Moved:
    """A model whose request of the blend costs something else than it did, in nanodollars."""

    offer: Offer
    before: int
    after: int

    @property
    def change(self) -> float:
        """The change as a part of what it was."""
        return (self.after - self.before) / max(1, self.before)


@dataclass(frozen=True, slots=True)
class Proposal:
    """Replace a model of some chains by one that dominates it. `since` tells that it is new."""

    old: Offer
    new: Offer
    categories: tuple[str, ...]
    is_new: bool
    loses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Review:
    """What moved between a snapshot and today.

    `elsewhere` are models of chains that only models processed elsewhere dominate, with which.
    `edits` has the files as the proposals would make them; `problem` is set where they would not be
    valid. `folder` is what their paths are shown from.
    """

    asked: str
    then: Then
    field: Field
    moved: tuple[Moved, ...]
    unpriced_then: tuple[Offer, ...]
    entered: tuple[Offer, ...]
    left: tuple[Offer, ...]
    proposals: tuple[Proposal, ...]
    elsewhere: tuple[tuple[Offer, Offer], ...]
    edits: tuple[Edit, ...] = ()
    problem: str = ""
    folder: str = ""


@dataclass(slots=True)
class _Files:
    """The texts of the files under edit."""

    paths: PolicyPaths
    litellm: str
    routing: str
    added: set[str] = field(default_factory=set)


def review(
    policy: Policy, price_map: PriceMap, now: Field, asked: str, then: Then, *, anywhere: bool
) -> Review:
    """Return what moved, and what the chains should become.

    `anywhere` admits models that are processed where the replaced one is not.
    """
    past = _field_then(now, then)
    before = {it.name: it for it in past.offers}
    moved = [
        Moved(it, was, it.cost_nano_usd)
        for it in now.offers
        if it.cost_nano_usd is not None
        and (was := before[it.name].cost_nano_usd) is not None
        and was != it.cost_nano_usd
    ]
    best, were = frontier_of(now.offers), {it.name for it in frontier_of(past.offers)}
    proposals, elsewhere = _proposals(policy, now, past, anywhere)
    proposals, edits, problem = _edits(policy, price_map, proposals)
    return Review(
        asked=asked,
        then=then,
        field=now,
        moved=tuple(sorted(moved, key=lambda it: it.change)),
        unpriced_then=tuple(
            it
            for it in now.offers
            if it.cost_nano_usd is not None and before[it.name].cost_nano_usd is None
        ),
        entered=tuple(it for it in best if it.name not in were),
        left=tuple(it for it in now.offers if it.name in were and it not in best),
        proposals=tuple(proposals),
        elsewhere=tuple(elsewhere),
        edits=edits,
        problem=problem,
        folder=str(policy.paths.litellm.parent),
    )


def _field_then(now: Field, then: Then) -> Field:
    """Return the field as it was: prices of the snapshot, and scores published by its date."""
    date = then.snapshot.date

    def as_it_was(offer: Offer) -> Offer:
        price = then.snapshot.price(offer.model)
        quality = offer.quality
        # A date can be a month only: it counts once that month has begun.
        if quality is not None and quality.date > date[: len(quality.date)]:
            quality = None
        cost = None if price is None else price.cost(usage_of(now.blend))
        return replace(offer, price=price, cost_nano_usd=cost, quality=quality)

    return replace(now, offers=tuple(as_it_was(it) for it in now.offers))


# ── proposals ────────────────────────────────────────────────────────────────────────────────────


def _proposals(
    policy: Policy, now: Field, past: Field, anywhere: bool
) -> tuple[list[Proposal], list[tuple[Offer, Offer]]]:
    proposals: list[Proposal] = []
    elsewhere: list[tuple[Offer, Offer]] = []
    for old in (it for it in now.comparable if it.configured and it.chains):
        better = [it for it in now.comparable if dominates(it, old)]
        if not better:
            continue
        near = [it for it in better if anywhere or set(it.residency) <= set(old.residency)]
        by_category: dict[str, list[str]] = {}
        for category in old.chains:
            fit = [it for it in near if _meets(policy, category, it)]
            if fit:
                by_category.setdefault(_pick(fit, old).name, []).append(category)
        if not by_category:
            elsewhere.append((old, _pick(better, old)))
        then = {it.name: it for it in past.offers}
        for name, categories in by_category.items():
            new = next(it for it in near if it.name == name)
            is_new = not dominates(then[new.name], then[old.name])
            proposals.append(Proposal(old, new, tuple(categories), is_new))
    return proposals, elsewhere


def _pick(offers: Sequence[Offer], old: Offer) -> Offer:
    """Return the one to propose: a group that is there, then the same vendor, then the cheapest.

    The same vendor, because a chain's last resort is there for being another vendor's.
    """
    return min(
        offers,
        key=lambda it: (
            not it.configured, it.vendor != old.vendor, it.cost_nano_usd or 0, it.name,
        ),
    )  # fmt: skip


def _meets(policy: Policy, category: str, offer: Offer) -> bool:
    constraints = policy.routing.categories[category].constraints
    allowed = set(constraints.data_policy.residency)
    if allowed and not set(offer.residency) <= allowed:
        return False
    if constraints.quality is None:
        return True
    facts = policy.routing.models.get(offer.name) or policy.routing.market.get(offer.name)
    known = facts.benchmarks.get(constraints.quality.benchmark) if facts is not None else None
    return known is not None and known.score >= constraints.quality.min


# ── the edits ────────────────────────────────────────────────────────────────────────────────────


def _edits(
    policy: Policy, price_map: PriceMap, proposals: Sequence[Proposal]
) -> tuple[list[Proposal], tuple[Edit, ...], str]:
    if not proposals:
        return [], (), ""
    paths = policy.paths
    before = (paths.litellm.read_text("utf-8"), paths.routing.read_text("utf-8"))
    files = _Files(paths, *before)
    for proposal in proposals:
        _replace(files, policy, proposal)
    edits = (
        Edit(paths.litellm, before[0], files.litellm),
        Edit(paths.routing, before[1], files.routing),
    )
    try:
        after = load_edited(paths, edits, price_map)
    except ConfigErrors as errors:
        return list(proposals), edits, str(errors.findings[0])
    told = [replace(it, loses=_lost(policy, after, it)) for it in proposals]
    return told, edits, ""


def _lost(before: Policy, after: Policy, proposal: Proposal) -> tuple[str, ...]:
    old = before.groups.groups.get(proposal.old.name)
    new = after.groups.groups.get(group_name(proposal.new))
    if old is None or new is None:
        return ()
    return tuple(sorted(old.capabilities - new.capabilities))


def group_name(offer: Offer) -> str:
    """Return the group that an offer is or would be."""
    return offer.name if offer.configured else bare(offer.model)


def _replace(files: _Files, policy: Policy, proposal: Proposal) -> None:
    old, new = proposal.old.name, group_name(proposal.new)
    if not proposal.new.configured and new not in files.added:
        files.added.add(new)
        _add_group(files, policy, proposal)

    def change(data: Any) -> None:
        for category, chain in _chains(data):
            if category in proposal.categories and old in chain:
                place = chain.index(old)
                chain.remove(old)
                if new not in chain:
                    chain.insert(place, new)
        for entry in data["model_list"]:
            info = entry.get("model_info") or {}
            if entry["model_name"] in proposal.categories and info.get("farebox_primary") == old:
                info["farebox_primary"] = new
                entry["litellm_params"].update(_params(proposal.new))
        _tidy(data)

    files.litellm = edited(files.paths.litellm, change, files.litellm).after


def _tidy(data: Any) -> None:
    """Take out of each chain what is its category's base group already."""
    primaries = {
        entry["model_name"]: (entry.get("model_info") or {}).get("farebox_primary")
        for entry in data["model_list"]
    }
    for category, chain in _chains(data):
        if primaries.get(category) in chain:
            chain.remove(primaries[category])


def _chains(data: Any) -> Iterator[tuple[str, Any]]:
    """Yield each category's fallbacks, which LiteLLM reads from either section."""
    for section in ("router_settings", "litellm_settings"):
        for chains in (data.get(section) or {}).get("fallbacks") or []:
            yield from chains.items()


def _add_group(files: _Files, policy: Policy, proposal: Proposal) -> None:
    """Add a group for a model of the market, behind the one it replaces, and move its facts."""
    offer, name = proposal.new, group_name(proposal.new)
    lines = files.litellm.splitlines(keepends=True)
    index = policy.groups.groups[proposal.old.name].deployments[0].place[1]
    place: KeyPath = ("model_list", index)
    _, end = span(files.litellm, place)
    price = offer.price.base if offer.price is not None else None
    about = f"${price.input / 10**6:g} / ${price.output / 10**6:g}." if price else ""
    entry = [
        f"# In the place of {proposal.old.name}. {about}".rstrip(),
        f"- model_name: {name}",
        "  litellm_params:",
        *(f"    {key}: {value}" for key, value in _params(offer).items()),
        "  model_info:",
        f"    id: {name}",
        "    disable_background_health_check: true",
    ]
    margin = indent_at(files.litellm, place)
    lines.insert(end, "\n" + "".join(f"{margin}{line}\n" for line in entry))
    files.litellm = "".join(lines)
    facts = files.routing.splitlines(keepends=True)
    first, last = span(files.routing, ("market", offer.name))
    block = [f"{indent_at(files.routing, ('market', offer.name))}{name}:\n"]
    block += facts[first + 1 : last]
    del facts[first:last]
    _, behind = span(files.routing, ("models", proposal.old.name))
    facts[behind:behind] = block
    files.routing = "".join(facts)


def _params(offer: Offer) -> Mapping[str, str]:
    provider = offer.model.split("/", 1)[0] if "/" in offer.model else offer.vendor.lower()
    model = offer.model if "/" in offer.model else f"{provider}/{offer.model}"
    return {"model": model, "api_key": f"os.environ/{provider.upper()}_API_KEY"}


def diffs(found: Review) -> Iterator[str]:
    """Yield the diff of each file that the proposals change."""
    for edit in found.edits:
        if edit.changes:
            yield edit.diff(os.path.relpath(edit.path, found.folder))
