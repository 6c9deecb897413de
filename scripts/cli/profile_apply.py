"""`farebox profile apply`: the routing that a profile proposes, as a diff; written if asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from budgets.home import Home
from budgets.yamlfile import ConfigErrors
from hooks.policy import Policy
from scripts.choosing.trial import load_edited
from scripts.cli.choosing import print_diff, write_edit
from scripts.cli.context import home_of, paths_of, policy_of, price_map
from scripts.cli.errors import Problem, command
from scripts.cli.options import AsJson, Config
from scripts.cli.output import console, cost, table, text, write_json
from scripts.cli.profile_report import load_profile, parse_traffic, tiers_now
from scripts.cli.profile_run import profile_path
from scripts.yaml_edit import Edit, text_of

if TYPE_CHECKING:
    from scripts.profile.apply import Applied
    from scripts.profile.traffic import Spend


@command
def apply(
    name: Annotated[str, typer.Argument(help="The profile's name, or its file.")],
    write: Annotated[
        bool, typer.Option("--write", help="Write it. Without this the diff is only shown.")
    ] = False,
    lower_high_consequence: Annotated[
        bool,
        typer.Option(
            "--lower-high-consequence", help="Let task types of high consequence go lower too."
        ),
    ] = False,
    stale_too: Annotated[
        bool,
        typer.Option("--stale-too", help="Apply it although models or prices have changed since."),
    ] = False,
    requests_a_day: Annotated[
        str, typer.Option("--requests-a-day", metavar="N", help="The traffic to price.")
    ] = "10000",
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Put a profile's verdicts into hooks/routing.yaml.

    Shows the change as a diff, and what it does to the bill. Only the tier and floor of task types
    are changed, every other byte of the file stays. What has `pinned: true` is left alone. The
    result is checked like `farebox check` does before it replaces the file; a running proxy takes
    it within two seconds.

    Example: farebox profile apply prompts --write
    """
    from scripts.profile.apply import apply as applied_to
    from scripts.profile.stale import changes
    from scripts.profile.traffic import Way, spends, ways
    from scripts.profile.verdicts import results

    traffic = parse_traffic(requests_a_day)
    home = home_of(config)
    policy = policy_of(home)
    profile = load_profile(profile_path(home, name))
    stale = changes(policy, profile.header)
    if stale and not stale_too:
        raise Problem(
            f"This profile is stale: {' '.join(stale)}",
            "Run it again under another name (--out), or say --stale-too.",
            kind="stale_profile",
        )
    found = results(profile)
    text_now = text_of(home.routing)
    if sha256(text_now.encode("utf-8")).hexdigest() != policy.digests[str(home.routing)]:
        raise Problem(
            f"{home.routing} was changed meanwhile, so nothing was written.",
            "Run it again.",
            kind="changed",
        )
    made = applied_to(
        policy,
        profile.header,
        found,
        Edit(home.routing, text_now, text_now),
        lower_high_consequence=lower_high_consequence,
    )
    checked = _check(home, made.edit) if made.changes else policy
    measured = list(profile.header.tiers)
    now, after = tiers_now(policy), tiers_now(checked)
    before_way = ways(found, now, measured)[0]
    after_way = Way("after", ways(found, after, measured)[0].tiers)
    costs = spends(profile, found, (before_way, after_way), traffic)
    if write and made.changes:
        write_edit(made.edit)
    if as_json:
        _write_json(made, home.routing, costs, stale, write)
        return
    _show(made, home.routing, costs, stale, write)


def _check(home: Home, edit: Edit) -> Policy:
    """Load the policy as it would be; raises `Problem` with what is wrong."""
    try:
        return load_edited(paths_of(home), [edit], price_map())
    except ConfigErrors as errors:
        first = errors.findings[0]
        raise Problem(
            f"The routing would not be valid: {first.key}: {first.message}. Nothing was written.",
            "Change it by hand, or pin the task type.",
            kind="invalid_result",
        ) from None


def _write_json(
    made: Applied, path: Path, costs: Sequence[Spend], stale: Sequence[str], write: bool
) -> None:
    write_json(
        {
            "file": str(path),
            "written": write and bool(made.changes),
            "stale": list(stale),
            "changes": [asdict(it) for it in made.changes],
            "kept": [asdict(it) for it in made.kept],
            "diff": made.edit.diff(),
            "money": [
                {
                    "requests_a_day": requests,
                    **{
                        f"month_{when}_nano_usd": None if it is None else round(it.month)
                        for when, it in pair.items()
                    },
                }
                for requests, pair in _pairs(costs).items()
            ],
        }
    )


def _pairs(costs: Sequence[Spend]) -> dict[int, Mapping[str, Spend | None]]:
    traffic = sorted({it.requests_a_day for it in costs})
    return {
        requests: {
            when: next(
                (it for it in costs if it.requests_a_day == requests and it.way == way), None
            )
            for when, way in (("before", "now"), ("after", "after"))
        }
        for requests in traffic
    }


def _show(
    made: Applied, path: Path, costs: Sequence[Spend], stale: Sequence[str], write: bool
) -> None:
    out = console()
    for sentence in stale:
        out.print(text(f"Stale: {sentence}", "yellow"))
    print_diff(out, made.edit.diff())
    rows = table("Task type", "Tier", "Why")
    for change in made.changes:
        rows.add_row(
            text(change.task_type),
            text(f"{change.tier_before} → {change.tier_after}", "" if change.lowers else "yellow"),
            text("; ".join(filter(None, (change.why, change.doubt)))),
        )
    for kept in made.kept:
        rows.add_row(text(kept.task_type, "dim"), text(kept.tier, "dim"), text(kept.why, "dim"))
    out.print(rows)
    for requests, pair in _pairs(costs).items():
        before, after = pair["before"], pair["after"]
        if before is not None and after is not None:
            out.print(
                text(
                    f"A month at {requests:,} requests a day like these: "
                    f"{cost(round(before.month))} now, {cost(round(after.month))} after.",
                    "bold",
                )
            )
    if not made.changes:
        out.print(text("Nothing to change."))
    elif write:
        out.print(text(f"Written: {path}. `farebox check` agrees with it."))
    else:
        out.print(text("Nothing was written. Look at the diff, then say --write."))
