"""Which models are dominated, which are the frontier, and which of it are recommended.

One model dominates another if its score is no lower and its cost no higher, and one of the two is
better. What a score of another model stands in for is not dominated by that very model: the two
were not measured apart.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from scripts.choosing.field import Offer, bare


def dominates(one: Offer, other: Offer) -> bool:
    """Tell whether one offer is at least as good and as cheap as another, and better in one."""
    mine, theirs = one.point, other.point
    if mine is None or theirs is None or one.name == other.name or _same_measurement(one, other):
        return False
    return mine[0] >= theirs[0] and mine[1] <= theirs[1] and mine != theirs


def _same_measurement(one: Offer, other: Offer) -> bool:
    return _measured(one) == _measured(other)


def _measured(offer: Offer) -> str:
    """Return the model that an offer's score was measured on."""
    assert offer.quality is not None
    return bare(offer.quality.of or offer.model)


def frontier_of(offers: Iterable[Offer]) -> tuple[Offer, ...]:
    """Return the offers that none dominates, the cheapest first."""
    known = [it for it in offers if it.point is not None]
    kept = [it for it in known if not any(dominates(other, it) for other in known)]
    return tuple(sorted(kept, key=lambda it: (it.cost_nano_usd or 0, it.name)))


def dominators(offers: Iterable[Offer]) -> Mapping[str, tuple[Offer, ...]]:
    """Return who dominates each dominated offer: the cheapest first, the frontier's only."""
    known = [it for it in offers if it.point is not None]
    best = frontier_of(known)
    found = {
        it.name: tuple(other for other in best if dominates(other, it))
        for it in known
        if it not in best
    }
    # Two stand-ins of one measurement can leave an offer without a dominator on the frontier.
    return {
        name: those or tuple(o for o in known if dominates(o, _named(known, name)))
        for name, those in found.items()
    }


def _named(offers: Sequence[Offer], name: str) -> Offer:
    return next(it for it in offers if it.name == name)


def recommended(offers: Iterable[Offer], count: int) -> tuple[Offer, ...]:
    """Return a set that spans the frontier, the cheapest first.

    It begins with the cheapest and the best of the frontier. Then that one of the frontier is added
    which lies farthest from all chosen ones, by score and by the logarithm of its cost, each over
    its range. Where the frontier is smaller than the set, those follow that cost least more than
    the cheapest model that is as good.
    """
    known = [it for it in offers if it.point is not None]
    rest = list(frontier_of(known))
    if not rest:
        return ()
    place = _places(rest)
    chosen = list(dict.fromkeys([rest[0], max(rest, key=lambda it: it.point or (0, 0))]))[:count]
    rest = [it for it in rest if it not in chosen]
    while rest and len(chosen) < count:
        farthest = max(
            rest,
            key=lambda it: (min(math.dist(place[it.name], place[c.name]) for c in chosen), it.name),
        )
        chosen.append(farthest)
        rest.remove(farthest)
    others = sorted(
        (it for it in known if it not in chosen), key=lambda it: (_premium(it, known), it.name)
    )
    chosen += others[: count - len(chosen)]
    return tuple(sorted(chosen, key=lambda it: (it.cost_nano_usd or 0, it.name)))


def _places(offers: Sequence[Offer]) -> dict[str, tuple[float, float]]:
    points = {it.name: it.point for it in offers}
    raw = {name: (p[0], math.log(max(1, p[1]))) for name, p in points.items() if p is not None}
    spans = []
    for axis in (0, 1):
        values = [it[axis] for it in raw.values()]
        spans.append((min(values), (max(values) - min(values)) or 1.0))
    return {
        name: ((p[0] - spans[0][0]) / spans[0][1], (p[1] - spans[1][0]) / spans[1][1])
        for name, p in raw.items()
    }


def _premium(offer: Offer, offers: Sequence[Offer]) -> float:
    """Return how many times what is needed an offer costs for a score like its own."""
    assert offer.point is not None
    score, cost = offer.point
    least = min(p[1] for it in offers if (p := it.point) is not None and p[0] >= score)
    return cost / max(1, least)
