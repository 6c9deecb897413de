"""Trains the classifier of task types, and measures one. For engineers; see docs/how-to.

python -m scripts.task_types train --labelled prompts.jsonl --out hooks/task_model.json
python -m scripts.task_types check --labelled prompts.jsonl
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from budgets.home import resolve
from budgets.yamlfile import ConfigErrors, read_yaml
from hooks.routing import UNCLASSIFIED, RoutingFile, load_routing
from hooks.tasks.model_file import SHIPPED, load_content
from scripts.task_types.labelled import (
    Labelled,
    LabelledError,
    near_duplicates,
    read_labelled,
    read_phrases,
)
from scripts.task_types.measure import measure
from scripts.task_types.train import train as trained

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "benchmarks" / "task_types"

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)

LabelledFile = Annotated[
    list[Path] | None,
    typer.Option("--labelled", help="JSONL of prompts; repeatable. [default: the pack's own]"),
]
Routing = Annotated[
    Path | None, typer.Option(help="The routing.yaml whose task types count. [default: yours]")
]


@app.command()
def train(
    labelled: LabelledFile = None,
    phrases: Annotated[
        Path | None, typer.Option(help="YAML of short phrases. [default: the pack's own]")
    ] = None,
    routing: Routing = None,
    every: Annotated[
        bool, typer.Option("--every", help="Train with the held-out prompts too.")
    ] = False,
    out: Annotated[Path, typer.Option(help="The model's file.")] = SHIPPED,
) -> None:
    """Train a model from the prompts whose split is `train`, and from the phrases.

    Name the file in routing.yaml under task_detection.content.file; a running proxy takes it within
    two seconds.

    Example: python -m scripts.task_types train --labelled mine.jsonl --out hooks/mine.json
    """
    policy = _routing(routing)
    names = [*policy.task_types, UNCLASSIFIED]
    prompts = [it for it in _labelled(labelled, names) if every or it.split == "train"]
    prompts += _read_phrases(phrases or DATA / "phrases.yaml", names)
    present = {it.task_type for it in prompts}
    if missing := [name for name in names if name not in present]:
        typer.echo(f"No prompt for {', '.join(missing)}: these are found by keywords.", err=True)
    model = trained(prompts, [name for name in names if name in present])
    write(model, out)
    typer.echo(f"{out}: {len(prompts)} prompts, {len(model['terms']):,} terms.")


@app.command()
def check(labelled: LabelledFile = None, routing: Routing = None) -> None:
    """Say how often the model of routing.yaml is right on held-out prompts, and which are wrong.

    Exit code 1 if a held-out prompt is nearly one of the training prompts.

    Example: python -m scripts.task_types check --labelled mine.jsonl
    """
    path = _routing_path(routing)
    policy = _routing(routing)
    model, _, findings = load_content(read_yaml(path), policy)
    for finding in findings:
        typer.echo(str(finding), err=True)
    if model is None:
        raise typer.Exit(1)
    prompts = _labelled(labelled, [*policy.task_types, UNCLASSIFIED])
    held_out = [it for it in prompts if it.split == "held_out"]
    if not held_out:
        typer.echo("No prompt has the split held_out.", err=True)
        raise typer.Exit(2)
    guesses = [model.guess(it.prompt) for it in held_out]
    for it, guess in zip(held_out, guesses, strict=True):
        if guess.task_type != it.task_type:
            told = ", ".join(guess.terms)
            typer.echo(f"{it.id}: found {guess.task_type} ({guess.confidence:.0%}; {told})")
    tiers = {name: policy.task(name).tier.rank for name in [*policy.task_types, UNCLASSIFIED]}
    figures = measure(held_out, [it.task_type for it in guesses], tiers)
    typer.echo(
        f"{figures.prompts} prompts: accuracy {figures.accuracy:.3f}, macro-F1 "
        f"{figures.macro_f1:.3f}, cost of mistakes {figures.mistakes_cost:.3f}, tier too low "
        f"{figures.under:.1%}, too high {figures.over:.1%}"
    )
    training = [it for it in prompts if it.split == "train"]
    near = list(near_duplicates(training, held_out, 0.5))
    for pair in near:
        typer.echo(f"nearly the same: {pair.one} and {pair.other} ({pair.likeness})", err=True)
    raise typer.Exit(1 if near else 0)


def write(model: dict[str, object], path: Path) -> None:
    """Write a model's file, a term a line, so that a review can see what changed."""
    terms = model["terms"]
    assert isinstance(terms, dict)
    head = json.dumps({**model, "terms": {}}, ensure_ascii=False)[:-2]
    lines = (
        f"{json.dumps(term, ensure_ascii=False)}:{json.dumps(row, separators=(',', ':'))}"
        for term, row in terms.items()
    )
    path.write_text(head + "\n" + ",\n".join(lines) + "\n}}\n", encoding="utf-8")


def _routing_path(given: Path | None) -> Path:
    return (given or resolve().routing).resolve()


def _routing(given: Path | None) -> RoutingFile:
    try:
        return load_routing(_routing_path(given))[1]
    except ConfigErrors as errors:
        typer.echo("\n".join(map(str, errors.findings)), err=True)
        raise typer.Exit(2) from None


def _labelled(given: list[Path] | None, names: list[str]) -> list[Labelled]:
    try:
        paths = given or [DATA / "labelled.jsonl"]
        return [one for path in paths for one in read_labelled(path, names)]
    except (LabelledError, OSError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None


def _read_phrases(path: Path, names: list[str]) -> list[Labelled]:
    try:
        return read_phrases(path, names)
    except (LabelledError, OSError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None


if __name__ == "__main__":
    app()
