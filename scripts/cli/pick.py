"""`farebox pick`: from a few answers to a model, in a minute."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated

import typer

from budgets.yamlfile import did_you_mean
from hooks.levels import Consequence
from hooks.policy import Policy
from hooks.routing import UNCLASSIFIED, fold
from scripts.choosing.pick import Answers, Choice, cheat_sheet, choose, situations
from scripts.cli.choosing import print_table
from scripts.cli.context import home_of, policy_of
from scripts.cli.errors import ExitCode, command, wrong_usage
from scripts.cli.options import AsJson, Config
from scripts.cli.output import console, cost, notes, text, write_json

Ask = Callable[[str], str]
"""Asks a person one question and returns what was typed, without its line's end."""


@command
def pick(
    prompt: Annotated[str | None, typer.Argument(help="What you would ask the model.")] = None,
    situation: Annotated[
        str | None,
        typer.Option("--for", metavar="WORDS", help='One of the cheat sheet, such as "quick fix".'),
    ] = None,
    task_type: Annotated[
        str | None, typer.Option(metavar="NAME", help="The kind of work, by name or alias.")
    ] = None,
    consequence: Annotated[
        Consequence | None, typer.Option(help="What a wrong answer would cost.")
    ] = None,
    input_tokens: Annotated[
        int | None, typer.Option(min=0, help="How much is sent along, in tokens.")
    ] = None,
    residency: Annotated[
        str | None, typer.Option(metavar="PLACE", help="Where alone it may be processed.")
    ] = None,
    sheet: Annotated[bool, typer.Option("--sheet", help="Only show the cheat sheet.")] = False,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Pick a model for a piece of work, and say why.

    In a terminal and without options it asks four questions; any of them can be answered by an
    option instead. A prompt or a task type leads to what the proxy would choose for it, a situation
    of the cheat sheet to the model that stands there. Nothing is sent. Exit code 1 if no model
    fits.

    Example: farebox pick --task-type security_review --input-tokens 4000

    Example: farebox pick --for "quick fix"
    """
    policy = policy_of(home_of(config))
    if sheet:
        _sheet(policy, as_json)
        return
    answers = Answers(situation, prompt, task_type, consequence, input_tokens, residency)
    if answers == Answers():
        if not sys.stdin.isatty() or as_json:
            raise wrong_usage(
                "Say what it is for: a prompt, --task-type or --for.",
                f"--for knows {', '.join(situations(policy))}.",
            )
        answers = ask(policy, _typed)
    choice = choose(policy, checked(policy, answers))
    if as_json:
        write_json(asdict(choice))
    else:
        _show(policy, choice)
    if choice.group is None:
        raise typer.Exit(ExitCode.FALLS_SHORT)


def _typed(question: str) -> str:
    notes().print(text(question, "bold"), end=" ")
    return sys.stdin.readline().strip()


def ask(policy: Policy, typed: Ask) -> Answers:
    """Ask the four questions and return the answers; an empty one is left open."""
    known = list(situations(policy))
    out = notes()
    for number, name in enumerate(known, 1):
        out.print(text(f"  {number}  {name}"))
    first = typed("What is it? A number, a task type, or the prompt itself:")
    if not first:
        raise wrong_usage("Nothing was said.", "Type a number, a task type, or a prompt.")
    answers = Answers(prompt=first)
    if first.isdecimal() and 1 <= int(first) <= len(known):
        answers = Answers(situation=known[int(first) - 1])
    elif fold(first) in policy.routing.task_names:
        answers = Answers(task_type=first)
    risk = typed("What would a wrong answer cost? low, medium or high (Enter: as usual):").lower()
    if risk and risk not in list(Consequence):
        raise wrong_usage(f"{risk!r} is none of low, medium and high.")
    size = typed("How much is sent along, in tokens? (Enter: little):").replace(",", "")
    if size and not size.isdecimal():
        raise wrong_usage(f"{size!r} is not a number of tokens.", "Write it like 4000.")
    place = typed("Where alone may it be processed? (Enter: anywhere):")
    return Answers(
        answers.situation,
        answers.prompt,
        answers.task_type,
        Consequence(risk) if risk else None,
        int(size) if size else None,
        place or None,
    )


def checked(policy: Policy, answers: Answers) -> Answers:
    """Return the answers with names that the policy knows; raises `Problem` for others."""
    if answers.situation is not None:
        if answers.prompt is not None or answers.task_type is not None:
            raise wrong_usage("--for names a model by itself: leave prompt and task type out.")
        if answers.situation not in situations(policy):
            known = list(situations(policy))
            raise wrong_usage(
                f"--for: the cheat sheet has no {answers.situation!r}.",
                did_you_mean(answers.situation, known) or f"It has {', '.join(known)}.",
            )
    if answers.task_type is not None:
        name = policy.routing.task_names.get(fold(answers.task_type))
        if name is None:
            raise wrong_usage(
                f"--task-type: there is no task type {answers.task_type!r}.",
                did_you_mean(answers.task_type, [*policy.routing.task_types, UNCLASSIFIED]),
            )
    return answers


def _sheet(policy: Policy, as_json: bool) -> None:
    sheet = cheat_sheet(policy)
    if as_json:
        write_json(sheet.as_dict())
    else:
        print_table(console(), sheet)


def _show(policy: Policy, choice: Choice) -> None:
    out = console()
    if choice.group is None:
        out.print(text("No model fits.", "bold red"))
    else:
        category = f", as {choice.category}" if choice.category else ""
        paid = "" if choice.cost_nano_usd is None else f", some {cost(choice.cost_nano_usd)}"
        out.print(text(f"{choice.title} ({choice.group}){category}{paid}", "bold green"))
    for sentence in choice.why:
        out.print(text(f"  {sentence}"), soft_wrap=True)
    for sentence in choice.dropped:
        out.print(text(f"  Not {sentence}", "dim"), soft_wrap=True)
    if choice.group is not None:
        sent = {"model": choice.ask_for} | (
            {"metadata": choice.metadata} if choice.metadata else {}
        )
        out.print(text(f"  Send: {json.dumps(sent)}", "cyan"), soft_wrap=True)
    if choice.group is None or choice.category is None:
        return
    out.print()
    print_table(out, cheat_sheet(policy))
