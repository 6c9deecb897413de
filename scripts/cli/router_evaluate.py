"""`farebox router evaluate`: a router beside other ways to route, in RouteLLM's metrics."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scripts.cli.context import home_of
from scripts.cli.errors import Problem, command, wrong_usage
from scripts.cli.options import AsJson, Config
from scripts.cli.output import console, notes, percent, table, write_json
from scripts.cli.router_files import PROFILE, PROMPTS, labels_of, read_artefact

if TYPE_CHECKING:
    from scripts.router.evaluating import Figures

PLOTS = (".png", ".html")


@command
def evaluate(
    profile: PROFILE,
    prompts: PROMPTS = None,
    artefact: Annotated[
        Path | None,
        typer.Option(
            "--artefact",
            "-a",
            metavar="FILE",
            help="The router. [default: router.json in the state folder]",
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw quality against strong calls: .png or .html."),
    ] = None,
    litellm: Annotated[
        bool,
        typer.Option(help="Compare with LiteLLM's rule router too (some seconds to import)."),
    ] = True,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Compare the router with chance, length, LiteLLM's rules and hindsight.

    APGR is the average share of the gap between the tiers that is recovered, CPT50 and CPT80 the
    shares of strong calls that recover 50 % and 80 % of it, all as RouteLLM computes them. Cost is
    what 95 % of the strong tier's quality costs, as a share of sending everything there, in
    hindsight. The error is the mean distance between predicted and seen gain. Prompts that the
    router was trained on are scored by cross-fitting, or left out.

    Example: farebox router evaluate --profile .farebox/profiles/first.jsonl --plot router.png
    """
    from scripts.router import evaluating, making

    if plot is not None and plot.suffix not in PLOTS:
        raise wrong_usage(f"--plot: {plot} is neither .png nor .html.")
    path = artefact or home_of(config).folder / "router.json"
    known = read_artefact(path)
    labels = labels_of(profile, prompts, known.cheap.tier, known.strong.tier)
    with notes().status(f"Evaluating on {labels.count:,} labels"):
        try:
            scores, kept, method = making.fair_scores(known, labels, ranked=True)
        except ValueError as error:
            raise Problem(str(error)) from None
        cheap, strong, costs = kept.cheap, kept.strong, kept.costs
        predicts = known.target == "gain"
        found = [
            evaluating.figures(known.name, scores, cheap, strong, costs, predicts=predicts),
            evaluating.oracle_figures(cheap, strong, costs),
            evaluating.figures(
                "length", evaluating.length_scores(kept.prompts), cheap, strong, costs
            ),
        ]
        if litellm:
            rules = evaluating.litellm_scores(kept.prompts)
            found.append(evaluating.figures("LiteLLM's rules", rules, cheap, strong, costs))
        found.append(evaluating.random_figures(cheap, strong, costs))
    if plot is not None:
        from scripts.router.plotting import draw

        draw(plot, found, float(cheap.mean()), float(strong.mean()))
    if as_json:
        write_json(
            {
                "artefact": known.id,
                "labels": kept.count,
                "method": method,
                "cheap_pass_rate": float(cheap.mean()),
                "strong_pass_rate": float(strong.mean()),
                "routers": [asdict(one) for one in found],
            }
        )
        return
    _show(found, kept.count, method)
    if plot is not None:
        console().print(f"Drawn in {plot}.")


def _show(found: list[Figures], count: int, method: str) -> None:
    out = console()
    columns = ("APGR", "CPT50", "CPT80", "Cost", "Error")
    rows = table("Router", *columns, right=list(columns))
    for one in found:
        rows.add_row(
            one.name,
            _figure(one.apgr),
            percent(one.cpt50),
            percent(one.cpt80),
            percent(one.cost),
            _figure(one.error),
        )
    out.print(rows)
    how = "by cross-fitting" if method == "cross" else "none of them trained on"
    out.print(f"{count:,} prompts, {how}.")


def _figure(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else "–"
