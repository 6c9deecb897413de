"""Puts what was measured in the place of what was published: latency, pass rates, the blend.

The blend becomes the one that the ledger has, so that every model is priced for the team's own
requests. A group that has answered is judged by its own median time, a group with a profile by its
pass rate. Scores of a benchmark and pass rates are not compared: with a profile only models that it
has judged keep a quality.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hooks.choosing import Blend
from scripts.choosing.field import Field, Latency, Offer, Quality
from scripts.choosing.profiles import Profile
from scripts.choosing.tables import Column, Table, shown_cost
from scripts.choosing.traffic import Traffic

PASS_RATE = "pass_rate"


def blend_of(traffic: Traffic, otherwise: Blend) -> Blend:
    """Return the mean request of the traffic."""
    total = traffic.total
    if not total.requests or total.input_tokens + total.output_tokens == 0:
        return otherwise
    return Blend(
        input_tokens=round(total.input_tokens / total.requests),
        output_tokens=max(1, round(total.output_tokens / total.requests)),
        cached_share=min(1.0, total.cached_tokens / max(1, total.input_tokens)),
    )


def with_traffic(field: Field, traffic: Traffic) -> Field:
    """Return the field with measured times where there are any."""

    def measured(offer: Offer) -> Offer:
        times = traffic.times.get(offer.name)
        median = times.median_ms if times is not None else None
        return offer if median is None else replace(offer, latency=Latency(median, "measured"))

    return replace(field, offers=tuple(measured(it) for it in field.offers))


def with_profile(field: Field, profile: Profile) -> Field:
    """Return the field with pass rates in the place of published scores."""

    def measured(offer: Offer) -> Offer:
        rate = profile.of_group(offer.name).rate
        if rate is None:
            return replace(offer, quality=None)
        source, date = f"profile {profile.name}", profile.made[:10]
        return replace(offer, quality=Quality(rate * 100, PASS_RATE, source, date))

    offers = tuple(measured(it) for it in field.offers)
    return replace(field, offers=offers, benchmark=PASS_RATE)


def measured_table(traffic: Traffic, profiles: Sequence[Profile]) -> Table:
    """Return what each group cost for each task type, and how much of it passed."""
    rows = []
    for (task, group), load in sorted(traffic.cells.items()):
        times = traffic.times.get(group)
        rate = next(
            (it.passed[group, task].rate for it in profiles if (group, task) in it.passed), None
        )
        rows.append(
            {
                "task_type": task,
                "group": group,
                "requests": load.requests,
                "cost_nano_usd": load.cost_nano_usd // load.requests,
                "input_tokens": round(load.input_tokens / load.requests),
                "output_tokens": round(load.output_tokens / load.requests),
                "latency_ms": times.median_ms if times is not None else None,
                "pass_rate": rate,
            }
        )
    return Table(
        "measured",
        "Measured",
        f"From the ledger: {traffic.as_told()}. The time is the group's median over all task "
        "types, the pass rate that of the newest profile.",
        (
            Column("Task type", "task_type"),
            Column("Group", "group"),
            Column("Requests", "requests", lambda it: f"{it:,}", right=True),
            Column("A request", "cost_nano_usd", shown_cost, right=True),
            Column("Tokens in", "input_tokens", lambda it: f"{it:,}", right=True),
            Column("Tokens out", "output_tokens", lambda it: f"{it:,}", right=True),
            Column("Time", "latency_ms", _seconds, right=True),
            Column("Passed", "pass_rate", _rate, right=True),
        ),
        tuple(rows),
    )


def _seconds(ms: int | None) -> str:
    return "–" if ms is None else f"{ms / 1000:.2f} s"


def _rate(rate: float | None) -> str:
    return "–" if rate is None else f"{rate * 100:.1f} %"
