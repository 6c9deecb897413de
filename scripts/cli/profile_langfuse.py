"""`farebox profile run`, its part for Langfuse: whether to publish there, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from budgets.home import Home
from callbacks.tracing.settings import Settings, TracingSettingsError, read
from scripts.cli.context import environment
from scripts.cli.errors import wrong_usage
from scripts.cli.output import console, notes, text

if TYPE_CHECKING:
    from scripts.profile.experiments import Published
    from scripts.profile.records import Profile, PromptLine


def langfuse_of(home: Home, wanted: bool | None) -> Settings | None:
    """Return where to publish, None for nowhere; found out before anything is paid.

    Without a word (`wanted` None) it is wherever the environment's keys lead.
    """
    if wanted is False:
        return None
    try:
        found = read(environment(home), home.config.parent)
    except TracingSettingsError as error:
        raise wrong_usage(f"{error}.", "Or say --no-langfuse.") from None
    if not isinstance(found, str):
        return found
    if wanted:
        raise wrong_usage(
            f"--langfuse: {found or 'LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY are not set'}.",
            "Set them in the environment or in .env beside the configuration.",
        )
    return None


def publish_to(settings: Settings, profile: Profile, prompts: Sequence[PromptLine]) -> Published:
    """Send a profile to Langfuse, with a progress bar."""
    # Late: the SDK takes a second to import.
    from scripts.profile.answers import read_answers
    from scripts.profile.experiments import publish

    out = notes()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=out, transient=True, disable=not out.is_terminal) as progress:
        bar = progress.add_task("To Langfuse", total=len(profile.records))
        answers = read_answers(profile.path)
        return publish(profile, prompts, answers, settings, lambda: progress.update(bar, advance=1))


def show_published(published: Published) -> None:
    """Say what Langfuse has of a profile."""
    out = console()
    if published.problem:
        out.print(
            text(f"Not all of it is in Langfuse: {published.problem}. Run it again.", "yellow")
        )
        return
    runs = ", ".join(published.runs)
    out.print(
        text(
            f"Langfuse: dataset {published.dataset} ({published.items:,} items), experiments "
            f"{runs}; {published.scores:,} scores."
        )
    )
