"""The boundary of every command: a person's mistake becomes one sentence and an exit code.

0 is good, 1 falls short, 2 is wrong usage. With `--json` the error is a JSON object on standard
output, so that whoever reads it always gets JSON. What is not listed here is a defect of Farebox
and keeps its traceback.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from enum import IntEnum
from typing import ParamSpec

import typer

from budgets.archive import ArchiveFailed
from budgets.archive_files import ArchiveDamaged
from budgets.connection import RedisServerError, RedisUrlError, redacted
from budgets.embedded import EmbeddedRedisError
from budgets.errors import LedgerUnavailable
from budgets.home import HomeError
from budgets.yamlfile import ConfigErrors
from scripts.cli.output import lines, notes, write_json

P = ParamSpec("P")


class ExitCode(IntEnum):
    """What a command ends with."""

    GOOD = 0
    FALLS_SHORT = 1
    WRONG_USAGE = 2


class Problem(Exception):
    """Something that a person can mend. `hint` is the next step, as a sentence."""

    def __init__(
        self, message: str, hint: str = "", code: ExitCode = ExitCode.FALLS_SHORT, kind: str = ""
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code
        self.kind = kind or ("usage" if code is ExitCode.WRONG_USAGE else "failed")


def wrong_usage(message: str, hint: str = "") -> Problem:
    """Return a problem of how the command was typed."""
    return Problem(message, hint, ExitCode.WRONG_USAGE)


def command(function: Callable[P, None]) -> Callable[P, None]:
    """Turn the errors that people can mend into a sentence; the command's option is `as_json`."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            function(*args, **kwargs)
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        except Exception as error:
            problem = as_problem(error)
            if problem is None:
                raise
            show(problem, as_json=bool(kwargs.get("as_json")))
            raise typer.Exit(problem.code) from None

    return run


def as_problem(error: Exception) -> Problem | None:
    """Return what a person can do about an error; None for a defect."""
    match error:
        case Problem():
            return error
        case ConfigErrors():
            found = error.findings
            more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
            return Problem(
                f"The configuration is not valid: {found[0]}{more}.",
                "Run `farebox check` for every finding.",
                kind="invalid_configuration",
            )
        case RedisUrlError():
            return Problem(str(error), code=ExitCode.WRONG_USAGE, kind="redis_url")
        case RedisServerError() | EmbeddedRedisError():
            return Problem(redacted(str(error)), kind="ledger_unavailable")
        case LedgerUnavailable():
            return Problem(
                f"The ledger does not answer: {error}.",
                "Run `farebox doctor` to find out why.",
                kind="ledger_unavailable",
            )
        case ArchiveFailed():
            return Problem(
                f"The archive could not be proved: {error}.",
                "Nothing more was trimmed: Redis still has those entries. Look at the disk, and "
                "run it again.",
                kind="archive_failed",
            )
        case ArchiveDamaged():
            return Problem(
                f"The archive is damaged: {error}.",
                "Put the file back from a copy. `farebox ledger verify` names every such file.",
                kind="archive_damaged",
            )
        case HomeError():
            return Problem(str(error), kind="state_folder")
    return None


def show(problem: Problem, *, as_json: bool) -> None:
    """Print a problem where its reader looks."""
    if as_json:
        write_json(
            {"error": {"kind": problem.kind, "message": problem.message, "hint": problem.hint}}
        )
        return
    where = notes()
    where.print(lines(problem.message, "red"), soft_wrap=True)
    if problem.hint:
        where.print(lines(problem.hint), soft_wrap=True)
