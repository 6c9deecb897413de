"""What the commands of `farebox router` are given: a profile, its prompts, an artefact."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hooks.router import artefact as files
from hooks.router.artefact import Artefact, ArtefactError
from scripts.cli.errors import Problem, wrong_usage

if TYPE_CHECKING:
    from scripts.router.labels import Labels

PROFILE = Annotated[
    Path, typer.Option("--profile", "-p", metavar="FILE", help="What `farebox profile run` made.")
]
PROMPTS = Annotated[
    Path | None,
    typer.Option(
        "--prompts",
        metavar="FILE",
        help="The prompts that were profiled. [default: the file that the profile names]",
    ),
]


def labels_of(
    profile: Path, prompts: Path | None, cheap: str | None = None, strong: str | None = None
) -> Labels:
    """Return the labels of a profile, or say what is wrong with it."""
    from scripts.profile.records import RecordError, read_profile
    from scripts.router.labels import LabelError, read_labels

    try:
        named = prompts or _beside(profile, read_profile(profile).header.prompts_file)
        return read_labels(profile, named, cheap, strong)
    except (RecordError, LabelError) as error:
        raise Problem(str(error), "Profile prompts with `farebox profile run`.") from None


def _beside(profile: Path, name: str) -> Path:
    for path in (Path(name), profile.parent / name):
        if path.is_file():
            return path
    raise wrong_usage(
        f"The profile names the prompts {name}, which is not there.", "Name the file: --prompts."
    )


def read_artefact(path: Path) -> Artefact:
    """Read a router's file, or say what is wrong with it."""
    try:
        return files.read(path)
    except ArtefactError as error:
        raise Problem(
            f"{path} cannot be used: {error}.", "Make one with `farebox router train`."
        ) from None
