"""`farebox profile grade` (a person judges answers) and `add-samples` (prompts from production)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.rule import Rule

from scripts.cli.context import home_of
from scripts.cli.errors import Problem, command, wrong_usage
from scripts.cli.options import AsJson, Config
from scripts.cli.output import console, lines, text, write_json
from scripts.cli.profile_report import load_profile
from scripts.cli.profile_run import profile_path

if TYPE_CHECKING:
    from scripts.profile.grading import Task
    from scripts.profile.records import ProfileWriter, Record

SHOWN_CHARS_MAX = 20_000
KEYS = "y acceptable, n not, s later, u back, q stop"


@command
def grade(
    name: Annotated[str, typer.Argument(help="The profile's name, or its file.")],
    prompts: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The prompts file. Default: the one that it was run on."),
    ] = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Judge the answers of a profile yourself.

    For a profile whose oracle is `kind: human`. Shows one answer at a time, in an order of chance
    and without saying which model gave it, and asks: acceptable or not? Stop with q and come back:
    it goes on where you stopped. With --json it only says how many wait.

    Example: farebox profile grade support
    """
    from scripts.profile.answers import read_answers
    from scripts.profile.grading import tasks
    from scripts.profile.records import ProfileWriter, RecordError, read_prompts

    path = profile_path(home_of(config), name)
    profile = load_profile(path)
    try:
        found = tasks(
            profile, read_prompts(prompts or Path(profile.header.prompts_file)), read_answers(path)
        )
        waiting = sum(not it.judged and it.error is None for it in profile.records)
        if as_json:
            write_json({"profile": str(path), "waiting": waiting, "shown_here": len(found)})
            return
        if waiting > len(found):
            missing = waiting - len(found)
            console().print(
                text(f"{missing:,} have no prompt in that file, or no kept answer.", "yellow")
            )
        if not found:
            console().print(text("No answer waits to be judged."))
            return
        writer = ProfileWriter(path, profile.header)
    except RecordError as error:
        raise Problem(f"{error}.", kind="unreadable") from None
    try:
        done = _ask_all(console(), found, writer)
    finally:
        writer.close()
    left = len(found) - done
    more = f"{left:,} left: farebox profile grade {name}" if left else "That was the last."
    console().print(text(f"{done:,} judged. {more}"))


def _ask_all(out: Console, found: list[Task], writer: ProfileWriter) -> int:
    """Go through the answers; return how many are judged now."""
    from scripts.profile.grading import judged

    given: dict[int, Record] = {}
    place = 0
    while place < len(found):
        _show(out, found[place], place, len(found))
        key = _key()
        if key == "q":
            break
        if key == "u":
            place = max(0, place - 1)
            continue
        if key in ("y", "n"):
            given[place] = judged(found[place].record, key == "y")
            writer.write(given[place])
        elif key != "s":
            out.print(text(f"Keys: {KEYS}.", "yellow"))
            continue
        place += 1
    return len(given)


def _show(out: Console, task: Task, place: int, count: int) -> None:
    out.print(Rule(f"{place + 1} of {count}"))
    out.print(text("Task", "bold"))
    out.print(lines(task.prompt.text()[:SHOWN_CHARS_MAX]))
    if task.prompt.expected is not None:
        out.print(text("Expected", "bold"))
        out.print(lines(str(task.prompt.expected)[:SHOWN_CHARS_MAX]))
    out.print(text("Answer", "bold"))
    out.print(lines(task.answer[:SHOWN_CHARS_MAX] or "(empty)"))
    if len(task.answer) > SHOWN_CHARS_MAX:
        out.print(text(f"… {len(task.answer) - SHOWN_CHARS_MAX:,} characters more", "yellow"))
    out.print(text(f"Acceptable? {KEYS}", "bold"))


def _key() -> str:
    """Return one key; a whole line where standard input is no terminal, and `q` at its end."""
    if sys.stdin.isatty():
        return typer.getchar().lower()
    line = sys.stdin.readline()
    return line.strip().lower()[:1] if line else "q"


@command
def add_samples(
    prompts: Annotated[Path, typer.Argument(help="The prompts file to add to.")],
    redact: Annotated[
        Path,
        typer.Option(
            "--redact",
            metavar="FILE",
            help="A Python file with redact(text): the text to keep, or None for none of it.",
        ),
    ],
    samples: Annotated[
        list[Path] | None,
        typer.Option(
            "--samples", metavar="FILE", help="Sample files. Default: samples/*.jsonl of the state."
        ),
    ] = None,
    most: Annotated[int, typer.Option("--max", min=1, help="How many to add at most.")] = 500,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Add sampled production prompts to a prompts file, redacted.

    Every text goes through your own function first. The same prompt is added once. They have no
    expected answer: add one by hand, or use an oracle that needs none.

    Example: farebox profile add-samples prompts.jsonl --redact redact.py
    """
    from scripts.profile.records import RecordError
    from scripts.profile.samples import RedactError, add, load_redact, read_samples

    home = home_of(config)
    files = samples or sorted((home.folder / "samples").glob("*.jsonl"))
    if not files:
        raise wrong_usage(
            f"There are no samples in {home.folder / 'samples'}.",
            "Name files with --samples: JSON Lines of prompts.",
        )
    try:
        done = add(read_samples(files), load_redact(redact), prompts, most)
    except (RecordError, RedactError) as error:
        raise wrong_usage(f"{error}.", "Nothing was added.") from None
    if as_json:
        write_json({"added": done.added, "left_out": done.left_out, "known": done.known})
        return
    console().print(
        text(
            f"{done.added:,} added to {prompts}, {done.known:,} were there, "
            f"{done.left_out:,} left out by {redact}."
        )
    )
