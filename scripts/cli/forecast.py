"""`farebox forecast`: what a workload will cost in a month, and what routing is worth to it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from budgets import money
from budgets.home import Home
from hooks.choosing import Blend
from hooks.policy import Policy
from hooks.routing import fold
from scripts.choosing.forecast import (
    Costs,
    Forecast,
    PricedCosts,
    Range,
    TypicalCosts,
    Way,
    forecast,
)
from scripts.choosing.workload import (
    TIERS,
    Workload,
    of_file,
    of_mix,
    of_team,
    of_traffic,
    shares_of,
)
from scripts.cli.choosing import WIDE, Simulated, Since, nothing_measured, traffic_of
from scripts.cli.context import home_of, policy_of
from scripts.cli.errors import command, wrong_usage
from scripts.cli.options import AsJson, Config
from scripts.cli.output import console, lines, table, text, write_json

USUAL_PER_DAY = (1_000, 10_000, 100_000)
MONTHS_PER_YEAR = 12


class From(StrEnum):
    """Where the workload comes from."""

    DESCRIBED = "described"
    LEDGER = "ledger"


@command
def show(
    per_day: Annotated[
        list[int] | None,
        typer.Option("--per-day", min=1, metavar="N", help="Requests a day; repeatable."),
    ] = None,
    team: Annotated[
        list[int] | None,
        typer.Option("--team", min=1, metavar="N", help="Developers instead; repeatable."),
    ] = None,
    mix: Annotated[
        str | None,
        typer.Option(
            "--mix",
            metavar="SHARES",
            help="Shares of tiers or task types, such as execute=0.5,generate=0.4,reason=0.1.",
        ),
    ] = None,
    workload: Annotated[
        Path | None,
        typer.Option("--workload", "-w", metavar="FILE", help="A workload by task type, in YAML."),
    ] = None,
    source: Annotated[
        From, typer.Option("--from", help="Described here, or as the ledger has it.")
    ] = From.DESCRIBED,
    input_tokens: Annotated[
        int | None, typer.Option(min=0, help="Mean input tokens of a request.")
    ] = None,
    output_tokens: Annotated[
        int | None, typer.Option(min=0, help="Mean output tokens of a request.")
    ] = None,
    cached: Annotated[
        float | None, typer.Option(min=0, max=1, help="The part of the input that a cache gives.")
    ] = None,
    typical: Annotated[
        bool,
        typer.Option(
            "--typical", help="Count the policy's typical cost a task of each tier, no tokens."
        ),
    ] = False,
    last: Since = "30d",
    include_simulated: Simulated = False,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Forecast what a workload costs in a month, and when routing pays.

    All at the frontier, all balanced, routed as the policy routes, and what is left of that with
    each strategy: rules, a content classifier, a cascade, a trained router, with its break-even.
    Every cost is a range and a point, and the output says how the range is made. Without options:
    1,000, 10,000 and 100,000 requests a day of the policy's usual mix.

    A workload file has `version: 1` and under `tasks`, for each task type, `requests_per_day`,
    `input_tokens` and `output_tokens` (a number, or `{p50: 300, p90: 1200}`) and `cached_share`.

    Example: farebox forecast --team 10 --team 50 --typical

    Example: farebox forecast --per-day 20000 --mix classification_intent=0.7,rag_answer=0.3
    """
    home = home_of(config)
    policy = policy_of(home)
    workloads = list(
        _workloads(
            home, policy, per_day, team, mix, workload, source,
            _blend(policy, input_tokens, output_tokens, cached), last, include_simulated,
        )
    )  # fmt: skip
    settings = policy.routing.choosing.forecasts
    costs: Costs = TypicalCosts(settings) if typical else PricedCosts(policy)
    made = [forecast(it, costs, settings) for it in workloads]
    if as_json:
        write_json({"basis": basis(costs), "forecasts": [_as_dict(it) for it in made]})
        return
    for it in made:
        _show(it)
    console().print(lines(basis(costs), "dim"), soft_wrap=True)


def _blend(
    policy: Policy, input_tokens: int | None, output_tokens: int | None, cached: float | None
) -> Blend:
    given = {
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "cached_share": cached,
    }
    blend = policy.routing.choosing.blend
    return blend.model_copy(update={k: v for k, v in given.items() if v is not None})


def _workloads(
    home: Home,
    policy: Policy,
    per_day: Sequence[int] | None,
    team: Sequence[int] | None,
    mix: str | None,
    file: Path | None,
    source: From,
    blend: Blend,
    last: str,
    include_simulated: bool,
) -> Sequence[Workload]:
    described = per_day or team or mix
    if sum(bool(it) for it in (described, file, source is From.LEDGER)) > 1:
        raise wrong_usage(
            "Give one workload: a description, --workload, or --from ledger.",
            "A description is --per-day or --team, with --mix.",
        )
    settings = policy.routing.choosing.forecasts
    if source is From.LEDGER:
        traffic = traffic_of(home, last, include_simulated)
        if not traffic.total.requests:
            raise nothing_measured(traffic)
        return [of_traffic(traffic, policy.routing, settings.days_per_month)]
    if file is not None:
        if not file.is_file():
            raise wrong_usage(f"--workload: there is no file {file}.")
        return [of_file(file, policy.routing)]
    shares = shares_of(settings.mix) if mix is None else _shares(policy, mix)
    found = [of_team(it, settings, shares, blend, policy.routing) for it in team or ()]
    for count in per_day or (() if team else USUAL_PER_DAY):
        name = f"{count:,} requests a day"
        found.append(of_mix(name, count, shares, blend, policy.routing, settings.days_per_month))
    return found


def _shares(policy: Policy, given: str) -> dict[str, float]:
    shares: dict[str, float] = {}
    for part in given.split(","):
        match = re.fullmatch(r"\s*([\w -]+?)\s*=\s*(\d*\.?\d+)\s*", part)
        if match is None:
            raise wrong_usage(
                f"--mix: {part.strip()!r} is not a share.",
                "Write it like execute=0.4,generate=0.4,reason=0.2.",
            )
        name = fold(match[1])
        known = name if name in TIERS else policy.routing.task_names.get(name)
        if known is None:
            raise wrong_usage(
                f"--mix: {match[1]!r} is no tier and no task type.",
                f"Tiers are {', '.join(TIERS)}.",
            )
        shares[known] = shares.get(known, 0.0) + float(match[2])
    if abs(sum(shares.values()) - 1) > 1e-6:
        raise wrong_usage(f"--mix: the shares add up to {sum(shares.values()):g} and not to 1.")
    return shares


def basis(costs: Costs) -> str:
    """Return what the costs of a forecast rest on."""
    if isinstance(costs, PricedCosts):
        groups = ", ".join(f"{tier} on {group}" for tier, group in costs.groups.items())
        return (
            f"Costs: prices of the policy's groups, {groups}; routed on what the proxy would "
            "choose. Accuracies, hours and the price of an hour are assumptions under `choosing` "
            "in hooks/routing.yaml. Reasoning tokens are output: a model that thinks writes more."
        )
    return (
        "Costs: the typical cost of a task by tier, under `choosing` in hooks/routing.yaml. So "
        "are the accuracies, the hours and the price of an hour: assumptions, put in your own."
    )


# ── what is shown ────────────────────────────────────────────────────────────────────────────────


def _show(made: Forecast) -> None:
    out = console()
    work = made.workload
    is_wide = out.width >= WIDE
    heads = ["Cost", "Range", "Saved", *(["Saved, range"] if is_wide else []), "Setting up"]
    rows = table(
        "A month", *heads, "Pays after",
        title=f"{work.name}: {work.requests_per_month:,.0f} requests a month",
        right=(*heads, "Pays after"),
    )  # fmt: skip
    for way in made.ways:
        saved = ["–", "–"]
        if way is not made.frontier:
            ends = f"{way.saved.low * 100:.0f} to {way.saved.high * 100:.0f} %"
            saved = [f"{way.saved.point * 100:.0f} %", ends]
        rows.add_row(
            text(way.name),
            _short(way.cost.point),
            f"{_short(way.cost.low)} to {_short(way.cost.high)}",
            *saved[: 2 if is_wide else 1],
            "–" if way.once is None else _short(way.once.point),
            _pays(way),
        )
    out.print(rows)
    won = made.frontier.cost.point - made.routed.cost.point
    out.print(
        text(
            f"  Routed against all frontier: {_usd(won)} a month, "
            f"{_usd(won * MONTHS_PER_YEAR)} a year."
        )
    )
    if made.spent is not None:
        out.print(text(f"  As it was: {_usd(made.spent)} a month at this pace."))
    for way in made.strategies:
        if way.use_when:
            out.print(text(f"  {way.name} (adds {way.latency}): {way.use_when}", "dim"))
    out.print(text(f"  The range: {made.range_from}.", "dim"), soft_wrap=True)
    out.print()


def _usd(nano_usd: float) -> str:
    return money.dollars(round(nano_usd))


def _short(nano_usd: float) -> str:
    """Return an amount without cents from a thousand dollars on."""
    places = 0 if nano_usd >= 1_000 * money.NANO_PER_USD else 2
    return money.dollars(round(nano_usd), places)


def _pays(way: Way) -> str:
    if way.once is None:
        return "–"
    if way.days_to_even is None:
        return "never"
    days = way.days_to_even
    if days > 730:
        return f"{days / 365:,.0f} years"
    return f"{days:,.1f} d" if days < 10 else f"{days:,.0f} d"


def _as_dict(made: Forecast) -> dict[str, Any]:
    work = made.workload
    return {
        "workload": {
            "name": work.name,
            "requests_per_day": work.requests_per_day,
            "requests_per_month": work.requests_per_month,
            "tasks": [
                {
                    "name": it.name,
                    "tier": it.tier,
                    "requests_per_day": it.requests_per_day,
                    "input_tokens": it.input_tokens,
                    "output_tokens": it.output_tokens,
                    "cached_share": it.cached_share,
                }
                for it in work.tasks
            ],
        },
        "ways": {it.name: _way(it) for it in made.ways},
        "spent_usd_per_month": None if made.spent is None else _plain(made.spent),
        "range_from": made.range_from,
    }


def _way(way: Way) -> dict[str, Any]:
    return {
        "usd_per_month": _range(way.cost),
        "saved": {"low": way.saved.low, "point": way.saved.point, "high": way.saved.high},
        "setup_usd": None if way.once is None else _range(way.once),
        "days_to_break_even": way.days_to_even,
        "requests_to_break_even": way.requests_to_even,
        "use_when": way.use_when or None,
        "added_latency": way.latency or None,
    }


def _range(found: Range) -> dict[str, str]:
    return {"low": _plain(found.low), "point": _plain(found.point), "high": _plain(found.high)}


def _plain(nano_usd: float) -> str:
    return money.plain(round(nano_usd))
