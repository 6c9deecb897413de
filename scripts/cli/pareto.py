"""`farebox pareto`: quality against cost, tiers, the frontier, and the quarterly review."""

from __future__ import annotations

from datetime import UTC, date, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from budgets.home import Home
from hooks.choosing import Blend, Choosing
from hooks.policy import Policy
from scripts.choosing import history
from scripts.choosing.field import Field, make_field, within
from scripts.choosing.measured import blend_of, measured_table, with_profile, with_traffic
from scripts.choosing.profiles import Profile, profiles_in
from scripts.choosing.review import Review, diffs, group_name, review
from scripts.choosing.tables import Table, markdown, shown_cost, tables_of, warnings_of
from scripts.choosing.traffic import Traffic
from scripts.cli.choosing import (
    Simulated,
    Since,
    nothing_measured,
    print_diff,
    print_table,
    traffic_of,
    write_file,
)
from scripts.cli.context import home_of, policy_of, price_map
from scripts.cli.errors import command, wrong_usage
from scripts.cli.options import AsJson, Config
from scripts.cli.output import console, lines, notes, text, write_json


class From(StrEnum):
    """Where quality and latency come from."""

    FACTS = "facts"
    LEDGER = "ledger"


class TableName(StrEnum):
    """The tables, by name."""

    PERFORMANCE = "performance"
    SPEED = "speed"
    COST = "cost"
    FRONTIER = "frontier"
    VALUE = "value"
    MEASURED = "measured"


FORMATS = (".svg", ".png", ".html", ".md")


@command
def pareto(
    source: Annotated[
        From,
        typer.Option(
            "--from",
            help="The facts of routing.yaml, or what the ledger and profiles measured.",
        ),
    ] = From.FACTS,
    only: Annotated[
        list[TableName] | None, typer.Option("--table", help="Only this table; repeatable.")
    ] = None,
    input_tokens: Annotated[
        int | None, typer.Option(min=0, help="Input tokens of the blend.")
    ] = None,
    output_tokens: Annotated[
        int | None, typer.Option(min=1, help="Output tokens of the blend.")
    ] = None,
    cached: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="The part of the input that a cache gives, from 0 to 1."),
    ] = None,
    benchmark: Annotated[
        str | None, typer.Option(metavar="NAME", help="The score that stands for quality.")
    ] = None,
    residency: Annotated[
        str | None, typer.Option(metavar="PLACE", help="Only what is processed there, such as eu.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="Write the plot (.svg, .png), the tables (.md), or both (.html).",
        ),
    ] = None,
    changed_since: Annotated[
        str | None,
        typer.Option(metavar="DATE", help="What moved since then, and what the chains should be."),
    ] = None,
    anywhere: Annotated[
        bool,
        typer.Option(
            "--anywhere", help="Let a review propose models that are processed elsewhere too."
        ),
    ] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep today's prices for a later --changed-since.")
    ] = False,
    last: Since = "30d",
    include_simulated: Simulated = False,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Compare models: what is good, fast, cheap, and what no other model beats.

    Five tables for a request of a stated size: performance, speed and cost tiers, the frontier
    with a recommended set, and quality per dollar. Says which configured models are dominated.
    Prices are those of LiteLLM's map, scores and speeds those of routing.yaml with source and date;
    what is not known is left out. With --from ledger the size is that of your own requests, times
    are measured, and pass rates of a profile stand for quality.

    With --changed-since, for the quarterly review: prices against a snapshot, and a diff of the
    chains for you to read. Nothing is changed.

    Example: farebox pareto --input-tokens 8000 --output-tokens 500 --cached 0.6 --out pareto.html
    """
    if out is not None:
        _check_out(out)
    if changed_since is not None and (out is not None or only):
        raise wrong_usage("--changed-since has neither tables nor a plot: ask for them without it.")
    if TableName.MEASURED in (only or []) and source is not From.LEDGER:
        raise wrong_usage("--table measured needs --from ledger.")
    home = home_of(config)
    policy = policy_of(home)
    choosing = policy.routing.choosing
    traffic: Traffic | None = None
    profiles: tuple[Profile, ...] = ()
    blend = _blend(choosing.blend, input_tokens, output_tokens, cached)
    if source is From.LEDGER:
        traffic = traffic_of(home, last, include_simulated)
        if not traffic.total.requests:
            raise nothing_measured(traffic)
        blend = _blend(blend_of(traffic, blend), input_tokens, output_tokens, cached)
        profiles = profiles_in(home.folder)
    field = make_field(policy, price_map(), blend, _known(policy, benchmark or choosing.benchmark))
    if traffic is not None:
        field = with_traffic(field, traffic)
        if profiles and benchmark is None:
            field = with_profile(field, profiles[0])
    if residency is not None:
        field = within(field, residency)
    today = datetime.now(UTC).date().isoformat()
    if changed_since is not None:
        _review(home, policy, field, changed_since, anywhere, as_json)
    else:
        _tables(field, choosing, traffic, profiles, only or [], out, as_json)
    if keep:
        kept = history.keep(home.folder, history.of_field(field, today))
        notes().print(text(f"Kept the prices of {today} in {kept}."), soft_wrap=True)


def _check_out(out: Path) -> None:
    if out.suffix not in FORMATS:
        raise wrong_usage(
            f"--out: {out.name} does not say its form.", f"End it in {', '.join(FORMATS)}."
        )
    if not out.parent.is_dir():
        raise wrong_usage(f"--out: there is no folder {out.parent}.", "Name a folder that exists.")


def _blend(
    given: Blend, input_tokens: int | None, output_tokens: int | None, cached: float | None
) -> Blend:
    changes = {
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "cached_share": cached,
    }
    return given.model_copy(update={k: v for k, v in changes.items() if v is not None})


def _known(policy: Policy, benchmark: str) -> str:
    facts = (*policy.routing.models.values(), *policy.routing.market.values())
    names = sorted({name for it in facts for name in it.benchmarks})
    if benchmark not in names:
        raise wrong_usage(
            f"--benchmark: no model has a score of {benchmark!r}.",
            f"There are {', '.join(names)}." if names else "Add scores under `models`.",
        )
    return benchmark


# ── the tables ───────────────────────────────────────────────────────────────────────────────────


def _tables(
    field: Field,
    choosing: Choosing,
    traffic: Traffic | None,
    profiles: tuple[Profile, ...],
    only: list[TableName],
    out: Path | None,
    as_json: bool,
) -> None:
    made = [*tables_of(field, choosing)]
    if traffic is not None:
        made.append(measured_table(traffic, profiles))
    wanted = {it.value for it in only} or {it.name for it in made}
    shown = [it for it in made if it.name in wanted]
    if out is not None:
        _plot(field, choosing, shown, out)
    if as_json:
        write_json(
            {
                "blend": field.blend.model_dump(),
                "benchmark": field.benchmark,
                "prices_from": field.prices_from,
                "from": None if traffic is None else traffic.as_told(),
                "tables": {it.name: it.as_dict() for it in shown},
                "warnings": list(warnings_of(field)),
                "plot": None if out is None else str(out),
            }
        )
        return
    screen = console()
    screen.print(lines(heading(field, traffic)))
    screen.print()
    for it in shown:
        print_table(screen, it)
    for warning in warnings_of(field):
        screen.print(text(f"! {warning}", "yellow"), soft_wrap=True)
    if out is not None:
        screen.print(text(f"Wrote {out}"), soft_wrap=True)


def heading(field: Field, traffic: Traffic | None = None) -> str:
    """Return what the tables are made for, and from what."""
    blend = field.blend
    return (
        f"For a request of {blend.input_tokens:,} tokens in ({blend.cached_share * 100:.0f} % "
        f"cached) and {blend.output_tokens:,} out. Quality: {field.benchmark}. Prices: "
        f"{field.prices_from}'s map."
        + (f" From the ledger: {traffic.as_told()}." if traffic is not None else "")
    )


def _plot(field: Field, choosing: Choosing, shown: list[Table], out: Path) -> None:
    if out.suffix == ".md":
        parts = [f"## {it.title}\n\n{it.about}\n\n{markdown(it)}" for it in shown]
        write_file(out, "\n".join([heading(field), "", *parts]).encode())
        return
    # Matplotlib takes a second to import: only who wants a plot waits for it.
    from scripts.choosing import plot

    if out.suffix == ".png":
        write_file(out, plot.png(field, choosing))
    elif out.suffix == ".svg":
        write_file(out, (plot.svg(field, choosing) + "\n").encode())
    else:
        tables = [plot.html_table(it) for it in shown]
        write_file(out, plot.page(field, choosing, tables).encode())


# ── the review ───────────────────────────────────────────────────────────────────────────────────


def _review(
    home: Home, policy: Policy, field: Field, since: str, anywhere: bool, as_json: bool
) -> None:
    try:
        asked = date.fromisoformat(since).isoformat()
    except ValueError:
        raise wrong_usage(
            f"--changed-since: {since!r} is not a date.", "Write it like 2026-08-21."
        ) from None
    then = history.at(history.snapshots(home.folder), asked)
    found = review(policy, price_map(), field, asked, then, anywhere=anywhere)
    if as_json:
        write_json(_as_dict(found))
        return
    _show(found)


def _as_dict(found: Review) -> dict[str, Any]:
    return {
        "since": found.asked,
        "snapshot": {
            "date": found.then.snapshot.date,
            "source": found.then.snapshot.source,
            "as_old_as_asked": found.then.exact,
        },
        "prices_from": found.field.prices_from,
        "moved": [
            {
                "name": it.offer.name,
                "before_nano_usd": it.before,
                "after_nano_usd": it.after,
                "change": round(it.change, 4),
            }
            for it in found.moved
        ],
        "not_priced_then": [it.name for it in found.unpriced_then],
        "entered_frontier": [it.name for it in found.entered],
        "left_frontier": [it.name for it in found.left],
        "proposals": [
            {
                "replace": it.old.name,
                "by": group_name(it.new),
                "model": it.new.model,
                "categories": list(it.categories),
                "new_since": it.is_new,
                "loses_capabilities": list(it.loses),
            }
            for it in found.proposals
        ],
        "dominated_elsewhere": [
            {"name": old.name, "by": new.name, "processed_in": list(new.residency)}
            for old, new in found.elsewhere
        ],
        "problem": found.problem or None,
        "diff": list(diffs(found)),
    }


def _show(found: Review) -> None:
    out = console()
    snapshot = found.then.snapshot
    out.print(
        text(
            f"Prices of {snapshot.date} ({snapshot.source}) against {found.field.prices_from}'s map"
            f"{'' if found.then.exact else f': no snapshot is as old as {found.asked}'}."
        ),
        soft_wrap=True,
    )
    for it in found.moved:
        out.print(
            text(
                f"  {it.offer.title}: {shown_cost(it.before)} → {shown_cost(it.after)} a request "
                f"({it.change * 100:+.0f} %)",
                "red" if it.change > 0 else "green",
            )
        )
    if not found.moved:
        out.print(text("  No price has moved."))
    _line("Without a price then", [it.title for it in found.unpriced_then])
    _line("New on the frontier", [it.title for it in found.entered])
    _line("No longer on it", [it.title for it in found.left])
    out.print()
    if not found.proposals:
        out.print(text("No chain should change.", "bold"))
    for proposal in found.proposals:
        out.print(
            text(
                f"{', '.join(proposal.categories)}: {proposal.old.name} → "
                f"{group_name(proposal.new)}{'' if proposal.is_new else ' (so then already)'}"
                + (f". It loses: {', '.join(proposal.loses)}." if proposal.loses else ""),
                "bold",
            ),
            soft_wrap=True,
        )
    for old, new in found.elsewhere:
        out.print(
            text(
                f"{old.name} is dominated only by what is processed elsewhere, such as {new.name} "
                f"({', '.join(new.residency)}): --anywhere proposes that too."
            ),
            soft_wrap=True,
        )
    for diff in diffs(found):
        out.print()
        print_diff(out, diff)
    if found.problem:
        out.print(text(f"The edited files would not be valid: {found.problem}", "red"))
    elif found.proposals:
        out.print()
        out.print(text("The edited files pass `farebox check`. Try 10 to 20 past tasks first."))


def _line(name: str, values: list[str]) -> None:
    if values:
        console().print(text(f"  {name}: {', '.join(values)}"), soft_wrap=True)
