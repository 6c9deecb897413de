"""`farebox profile report`: pass rates with intervals, verdicts, and what traffic would cost."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from hooks.policy import Policy
from scripts.cli.context import home_of, policy_of
from scripts.cli.errors import Problem, command, wrong_usage
from scripts.cli.options import AsJson, Config
from scripts.cli.output import console, facts, table, text, write_json
from scripts.cli.profile_run import profile_path

if TYPE_CHECKING:
    from scripts.profile.records import Profile, TierName
    from scripts.report.shape import Document

TRAFFIC = "1000,10000,100000"
TRAFFIC_MAX = 1_000_000_000


@command
def report(
    name: Annotated[str, typer.Argument(help="The profile's name, or its file.")],
    requests_a_day: Annotated[
        str, typer.Option("--requests-a-day", metavar="LIST", help="The traffic to price.")
    ] = TRAFFIC,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write one HTML page with charts.")
    ] = None,
    parquet: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the answers' lines as Parquet.")
    ] = None,
    live: Annotated[
        bool, typer.Option("--live", help="Add what shadow comparisons of live requests brought.")
    ] = False,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Say which tier is good enough for which task type.

    Pass rates with exact intervals, and verdicts on their lower ends: 95 % and above can be routed
    there, 85 % and above with monitoring. Then what the stated traffic costs, as routed now, all on
    one tier, and as proposed. Sends nothing.

    Example: farebox profile report prompts --requests-a-day 5000 --html profile.html
    """
    from scripts.profile.document import as_dict, document
    from scripts.profile.stale import changes
    from scripts.profile.traffic import spends, ways
    from scripts.profile.verdicts import results

    traffic = parse_traffic(requests_a_day)
    home = home_of(config)
    policy = policy_of(home)
    profile = load_profile(profile_path(home, name))
    if live:
        from scripts.profile.live import read_rows, with_live

        profile = with_live(profile, asyncio.run(read_rows(home))).profile
    found = results(profile)
    stale = changes(policy, profile.header)
    chosen = ways(found, tiers_now(policy), list(profile.header.tiers))
    costs = spends(profile, found, chosen, traffic)
    made = document(policy, profile, found, costs, stale)
    if html is not None:
        from scripts.profile.charts import charts
        from scripts.report.render import html as page

        html.write_text(page(made, charts(found, costs)), encoding="utf-8")
    if parquet is not None:
        from scripts.profile.parquet import write_parquet

        write_parquet(profile, parquet)
    if as_json:
        write_json(as_dict(profile, found, costs, stale))
        return
    show(made)
    for path in filter(None, (html, parquet)):
        console().print(text(f"Written: {path}"))


def load_profile(path: Path) -> Profile:
    """Read a profile that has records; raises `Problem`."""
    from scripts.profile.records import RecordError, read_profile

    if not path.exists():
        raise wrong_usage(f"There is no profile {path}.", "Make one with `farebox profile run`.")
    try:
        found = read_profile(path)
    except RecordError as error:
        raise Problem(f"{error}.", kind="unreadable_profile") from None
    if not found.records:
        raise Problem(f"{path} has no answers yet.", "Run `farebox profile run`.", kind="empty")
    return found


def tiers_now(policy: Policy) -> dict[str, TierName]:
    """Return the tier of each task type as the policy has it."""
    found: dict[str, TierName] = {
        name: cast("TierName", task.tier.value) for name, task in policy.routing.task_types.items()
    }
    found["unclassified"] = cast("TierName", policy.routing.unclassified.tier.value)
    return found


def show(made: Document) -> None:
    """Print a document on the terminal."""
    out = console()
    out.print(text(made.title, "bold"))
    out.print(facts(dict(made.facts)))
    for warning in made.warnings:
        out.print(text(warning, "yellow"))
    for section in made.sections:
        out.print()
        out.print(text(section.title, "bold"))
        for sentence in section.sentences:
            out.print(text(sentence))
        for it in section.tables:
            rows = table(*it.head, right=[it.head[place] for place in it.right])
            for row in it.rows:
                rows.add_row(*(text(cell) for cell in row))
            out.print(rows)
        for note in section.notes:
            out.print(text(note, "dim"))


def parse_traffic(given: str) -> list[int]:
    """Read a list of requests a day; raises `Problem`."""
    try:
        found = sorted({int(word.replace("_", "")) for word in given.split(",") if word.strip()})
    except ValueError:
        found = []
    if not found or not all(0 < it <= TRAFFIC_MAX for it in found) or len(found) > 10:
        raise wrong_usage(
            f"--requests-a-day: {given!r} is no list of numbers.", f"Write it like {TRAFFIC}."
        )
    return found
