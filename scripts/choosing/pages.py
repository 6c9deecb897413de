"""The parts of the documentation that are made from the policy: `scripts.docs_reference` asks here.

What stands in them is the repository's own policy at the prices of the installed LiteLLM.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path

from budgets import money
from hooks.groups import PriceMap
from hooks.policy import Policy, PolicyPaths, load_policy
from scripts.choosing.field import Field, make_field
from scripts.choosing.forecast import Forecast, TypicalCosts, forecast
from scripts.choosing.pick import cheat_sheet
from scripts.choosing.tables import Column, Table, markdown, tables_of, warnings_of
from scripts.choosing.workload import of_mix, of_team, shares_of
from scripts.simulator.prices import bundled_prices

ROOT = Path(__file__).resolve().parents[2]
PLOT = ROOT / "docs" / "reference" / "pareto.svg"
DEVELOPERS = (10, 50)


@cache
def default_policy() -> Policy:
    """Return the repository's own policy."""
    paths = PolicyPaths(
        ROOT / "litellm_config.yaml",
        ROOT / "hooks" / "routing.yaml",
        ROOT / "budgets" / "budgets.yaml",
    )
    return load_policy(paths, _prices())


@cache
def _prices() -> PriceMap:
    return bundled_prices()


@cache
def _field() -> Field:
    choosing = default_policy().routing.choosing
    return make_field(default_policy(), _prices(), choosing.blend, choosing.benchmark)


def plot() -> str:
    """Return the plot as SVG."""
    # Matplotlib takes a second to import: only who writes the pages waits for it.
    from scripts.choosing.plot import svg

    return svg(_field(), default_policy().routing.choosing) + "\n"


def tables() -> str:
    """Return the five tables, and which configured models are dominated."""
    from scripts.cli.pareto import heading

    parts = [heading(_field()) + "\n"]
    for table in tables_of(_field(), default_policy().routing.choosing):
        parts.append(f"## {table.title}\n\n{table.about}\n\n{markdown(table)}")
    said = "\n".join(f"- {it}" for it in warnings_of(_field()))
    parts.append(f"## Configured and dominated\n\n{said}\n")
    return "\n".join(parts)


def benchmarks() -> str:
    """Return every score that the policy has, with its source and date."""
    routing = default_policy().routing
    rows = [
        (facts.title, name, f"{it.score:g}", it.of or "–", it.date, it.source, it.note or "–")
        for facts in (*routing.models.values(), *routing.market.values())
        for name, it in facts.benchmarks.items()
    ]
    heads = ("Model", "Benchmark", "Score", "Measured on", "Date", "Source", "Note")
    return _table(heads, sorted(rows, key=lambda it: (it[1], -float(it[2]), it[0])))


def cheats() -> str:
    """Return the cheat sheet."""
    return markdown(cheat_sheet(default_policy()))


def categories() -> str:
    """Return the categories with their sizes, budgets and chains."""
    policy = default_policy()
    budgets = policy.budgets.budgets
    rows = []
    for name, category in policy.routing.categories.items():
        rule = budgets.get(name)
        floor = category.constraints.quality
        rows.append(
            (
                name,
                "above" if category.tokens_max is None else f"up to {category.tokens_max:,}",
                "–" if rule is None else money.dollars(rule.limit_nano_usd),
                " → ".join(policy.groups.chain(name)),
                "–" if floor is None else f"{floor.benchmark} {floor.min:g}",
                category.typical_use,
            )
        )
    heads = ("Category", "Tokens", "A month", "Chain", "Quality floor", "Typical use")
    total = budgets.get("total")
    baseline = policy.budgets.baseline_nano_usd_per_month
    told = []
    if total is not None:
        told.append(f"Together at most {money.dollars(total.limit_nano_usd)} a month")
    if baseline is not None:
        told.append(f"against a stated baseline of {money.dollars(baseline)}")
    return _table(heads, rows) + (f"\n{', '.join(told)}.\n" if told else "")


def task_types() -> str:
    """Return the task types with their tiers, floors and reasons."""
    rows = [
        (
            name,
            ", ".join(task.aliases) or "–",
            task.tier.value,
            task.floor,
            task.consequence.value,
            task.why,
            task.signal,
            task.escalation or "–",
        )
        for name, task in default_policy().routing.task_types.items()
    ]
    heads = (
        "Task type", "Aliases", "Tier", "Floor", "Consequence", "Why", "Signal", "Escalates when",
    )  # fmt: skip
    return _table(heads, rows)


def vendors() -> str:
    """Return each vendor's models by tier."""
    rows = [
        (name, it.execute or "none", it.generate or "none", it.reason or "none")
        for name, it in default_policy().routing.vendor_tiers.items()
    ]
    return _table(("Vendor", "Execute", "Generate", "Reason"), rows)


def strategies() -> str:
    """Return the ways to route, with what is assumed of them."""
    rows = [
        (
            name,
            it.latency,
            "0" if not it.query_usd[1] else f"${it.query_usd[0]:g} to ${it.query_usd[1]:g}",
            f"{it.accuracy[0] * 100:.0f} % to {it.accuracy[1] * 100:.0f} %",
            f"{it.setup_hours[0]:g} to {it.setup_hours[1]:g} h",
            it.use_when,
        )
        for name, it in default_policy().routing.choosing.forecasts.strategies.items()
    ]
    heads = ("Strategy", "Added latency", "A query", "Accuracy", "Setting up", "Use when")
    return _table(heads, rows)


def examples() -> str:
    """Return the worked examples: teams, at the typical cost of a task."""
    policy = default_policy()
    settings = policy.routing.choosing.forecasts
    mix, blend = shares_of(settings.mix), policy.routing.choosing.blend
    made = [
        forecast(
            of_team(it, settings, mix, blend, policy.routing), TypicalCosts(settings), settings
        )
        for it in DEVELOPERS
    ]
    return "\n".join(_example(it) for it in made)


def volumes() -> str:
    """Return the forecasts for 1,000, 10,000 and 100,000 requests a day, at the groups' prices."""
    from scripts.choosing.forecast import PricedCosts
    from scripts.cli.forecast import USUAL_PER_DAY, basis

    policy = default_policy()
    choosing = policy.routing.choosing
    settings, costs = choosing.forecasts, PricedCosts(policy)
    mix = shares_of(settings.mix)
    made = [
        forecast(
            of_mix(
                f"{count:,} requests a day", count, mix, choosing.blend, policy.routing,
                settings.days_per_month,
            ),
            costs,
            settings,
        )
        for count in USUAL_PER_DAY
    ]  # fmt: skip
    return "\n".join([*(_example(it) for it in made), basis(costs) + "\n"])


def _example(made: Forecast) -> str:
    rows = [
        (
            way.name,
            _usd(way.cost.point),
            f"{_usd(way.cost.low)} to {_usd(way.cost.high)}",
            f"{way.saved.point * 100:.0f} %",
            "–" if way.once is None else _usd(way.once.point),
            "–" if way.requests_to_even is None else f"{way.requests_to_even:,.0f}",
        )
        for way in made.ways
    ]
    saved = made.frontier.cost.point - made.routed.cost.point
    heads = ("A month", "Cost", "Range", "Saved", "Setting up", "Pays after requests")
    return (
        f"### {made.workload.name[0].upper()}{made.workload.name[1:]}: "
        f"{made.workload.requests_per_month:,.0f} requests a month\n\n{_table(heads, rows)}\n"
        f"Routed against all frontier: {_usd(saved)} a month, {_usd(saved * 12)} a year. "
        f"The range: {made.range_from}.\n"
    )


def _usd(nano_usd: float) -> str:
    return money.dollars(round(nano_usd))


def _table(heads: Iterable[str], rows: Iterable[tuple[str, ...]]) -> str:
    columns = tuple(Column(head, head) for head in heads)
    keyed = tuple(dict(zip((it.key for it in columns), row, strict=True)) for row in rows)
    return markdown(Table("", "", "", columns, keyed))


PARTS: Mapping[str, Callable[[], str]] = {
    "choosing-tables": tables,
    "choosing-benchmarks": benchmarks,
    "choosing-cheat-sheet": cheats,
    "choosing-categories": categories,
    "choosing-task-types": task_types,
    "choosing-vendors": vendors,
    "choosing-strategies": strategies,
    "choosing-examples": examples,
    "choosing-volumes": volumes,
}
