"""`farebox router`: train, calibrate, evaluate, and how the router in use is doing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from hooks.router import artefact as files
from hooks.router.artefact import Artefact, ArtefactError
from scripts.cli import router_evaluate, router_status
from scripts.cli.context import home_of
from scripts.cli.errors import ExitCode, Problem, command, wrong_usage
from scripts.cli.options import AsJson, Config
from scripts.cli.output import console, facts, notes, percent, table, write_json
from scripts.cli.router_files import PROFILE, PROMPTS, labels_of, read_artefact

HELP = """Train a router on your own profile, and learn what it can promise.

A profile (`farebox profile run`) says which prompts the cheaper tier answers as well as the strong
one. From that, `train` makes a small file, `calibrate` adds what can be promised, and `evaluate`
compares it with other ways to route. `router:` in routing.yaml names the file to use.

Example: farebox router train --profile .farebox/profiles/first.jsonl --prompts prompts.jsonl
"""

app = typer.Typer(help=HELP, no_args_is_help=True)
app.command("evaluate")(router_evaluate.evaluate)
app.command("status")(router_status.status)

Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        metavar="FILE",
        help="Where the router is written. [default: router.json in the state folder]",
    ),
]


@app.callback()
def router() -> None:
    pass


router.__doc__ = HELP


@contextmanager
def _working(what: str) -> Iterator[None]:
    """Show on a terminal that something goes on."""
    with notes().status(what):
        yield


# ── train ────────────────────────────────────────────────────────────────────────────────────────


@app.command("train")
@command
def train(
    profile: PROFILE,
    prompts: PROMPTS = None,
    out: Out = None,
    cheap: Annotated[
        str | None, typer.Option(metavar="TIER", help="The cheaper tier. [default: the lowest]")
    ] = None,
    strong: Annotated[
        str | None, typer.Option(metavar="TIER", help="The strong tier. [default: the highest]")
    ] = None,
    target: Annotated[
        str,
        typer.Option(help="What to predict: gain, or weak_fails, which measures worse."),
    ] = "gain",
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Train a router from a profile.

    It learns from each prompt that was judged on both tiers by how much the strong tier does
    better, given the task type and the words. The file has no text in it. Nothing is promised yet:
    that is what `calibrate` is for.

    Example: farebox router train --profile .farebox/profiles/first.jsonl --prompts prompts.jsonl
    """
    from scripts.router import evaluating, making

    if target not in ("gain", "weak_fails"):
        raise wrong_usage(f"--target: {target!r} is unknown.", "Write gain or weak_fails.")
    path = out or home_of(config).folder / "router.json"
    labels = labels_of(profile, prompts, cheap, strong)
    goal: Any = target
    with _working(f"Training on {labels.count:,} labels"):
        try:
            made = making.train(labels, datetime.now(UTC), goal)
        except ValueError as error:
            raise Problem(str(error)) from None
        scores = making.crossed_scores(labels, goal, ranked=True)
    written = files.write(path, made)
    seen = evaluating.figures("router", scores, labels.cheap, labels.strong, labels.costs)
    if as_json:
        write_json(_as_dict(path, written) | {"apgr": seen.apgr})
        return
    show = console()
    show.print(
        facts(
            {
                "Router": f"{written.id} in {path}",
                "Labels": f"{labels.count:,} prompts of {len(labels.names)} task types",
                "Cheap": f"{made.cheap.group}, passes {percent(made.source.cheap_pass_rate)}",
                "Strong": f"{made.strong.group}, passes {percent(made.source.strong_pass_rate)}",
                "APGR": f"{seen.apgr:.3f} on prompts it was not trained on (0.5 is chance)",
            }
        )
    )
    show.print(f"Next: farebox router calibrate --profile {profile} --artefact {path}")


# ── calibrate ────────────────────────────────────────────────────────────────────────────────────


@app.command("calibrate")
@command
def calibrate(
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
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="Where to write it. [default: in place]"),
    ] = None,
    floor: Annotated[
        float,
        typer.Option(help="The least share of the strong tier's pass rate."),
    ] = 0.95,
    confidence: Annotated[float, typer.Option(help="How sure that has to be.")] = 0.95,
    own_labels: Annotated[
        int,
        typer.Option(
            min=1, help="A task type with so many labels gets its own promise, others share one."
        ),
    ] = 500,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Find what the router can promise, and write it into its file.

    The promise: sent where the router says, requests pass at least `--floor` times as often as on
    the strong tier. Given the profile that it was trained on, every label counts twice, by
    cross-fitting, and the confidence is measured; given another profile of the same groups, it is
    proven. Where nothing can be promised, the strong tier serves, and the exit code is 1 if that
    holds for every task type.

    Example: farebox router calibrate --profile .farebox/profiles/first.jsonl --floor 0.95
    """
    from scripts.router import making

    for name, value in (("--floor", floor), ("--confidence", confidence)):
        if not 0.5 <= value < 1:
            raise wrong_usage(f"{name}: {value} is not from 0.5 to below 1.", "Write it like 0.95.")
    path = artefact or home_of(config).folder / "router.json"
    known = read_artefact(path)
    labels = labels_of(profile, prompts, known.cheap.tier, known.strong.tier)
    with _working(f"Calibrating with {labels.count:,} labels"):
        try:
            found = making.calibrated(
                known, labels, datetime.now(UTC), floor, confidence, own_labels
            )
        except ValueError as error:
            raise Problem(str(error)) from None
    written = files.write(out or path, found.artefact)
    calibration = written.calibration
    assert calibration is not None
    if as_json:
        write_json(_as_dict(out or path, written) | {"labels_left_out": found.dropped})
    else:
        _show(console(), written, out or path, found.dropped)
    if all(promise.threshold is None for promise in calibration.promises):
        raise typer.Exit(ExitCode.FALLS_SHORT)


def _show(out: Console, artefact: Artefact, path: Path, dropped: int) -> None:
    calibration = artefact.calibration
    assert calibration is not None
    rows = table(
        "Task types", "Labels", "To the cheap tier", "Quality seen", "Promise",
        right=["Labels", "To the cheap tier", "Quality seen"],
    )  # fmt: skip
    for promise in calibration.promises:
        names = promise.task_types
        shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        promised = promise.threshold is not None
        rows.add_row(
            shown,
            f"{promise.labels:,}",
            percent(promise.cheap_share) if promised else "none",
            percent(promise.quality) if promised else "–",
            ("measured" if calibration.method == "cross" else "proven") if promised else "none",
        )
    out.print(rows)
    if any(promise.threshold is not None for promise in calibration.promises):
        out.print(
            f"The promise: at least {calibration.floor:.0%} of the strong tier's pass rate with "
            f"{calibration.confidence:.0%} confidence."
        )
    for promise in calibration.promises:
        if promise.threshold is None:
            out.print(f"The strong tier serves {', '.join(promise.task_types)}: {promise.why}.")
    if dropped:
        out.print(f"{dropped:,} labels were left out: the router was trained on them.")
    if calibration.method == "cross":
        out.print(
            "Each label was used for training and for calibration (cross-fitting): the confidence "
            "is measured, see docs/explanation/the-guarantee.md. A second profile proves it."
        )
    out.print(
        f"Written to {path}. To use it, in routing.yaml: router: {{artefact: …, mode: shadow}}"
    )


def _as_dict(path: Path, artefact: Artefact) -> dict[str, Any]:
    calibration = artefact.calibration
    return {
        "file": str(path),
        "artefact": artefact.id,
        "sha256": artefact.digest,
        "labels": artefact.source.labels,
        "task_types": sorted(artefact.model.offsets),
        "cheap": artefact.cheap.model_dump(),
        "strong": artefact.strong.model_dump(),
        "cheap_pass_rate": artefact.source.cheap_pass_rate,
        "strong_pass_rate": artefact.source.strong_pass_rate,
        "calibration": calibration.model_dump() if calibration is not None else None,
    }


__all__ = ["ArtefactError", "app"]
