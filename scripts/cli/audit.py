"""`farebox audit`: which work models do, who answers for it, and whether it is routed so."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from budgets.connection import RedisServerError, RedisUrlError
from budgets.embedded import EmbeddedRedisError
from budgets.errors import LedgerUnavailable
from budgets.home import Home
from budgets.yamlfile import ConfigErrors, Severity
from hooks.routing import fold
from scripts.choosing.audit import FILE_NAME, AuditFile, load_audit, template
from scripts.choosing.audit_apply import apply as applied
from scripts.choosing.audit_check import findings
from scripts.choosing.traffic import Traffic
from scripts.choosing.trial import load_edited
from scripts.cli.check import as_dict as finding_as_dict
from scripts.cli.check import show_findings
from scripts.cli.choosing import (
    Since,
    print_diff,
    shown_path,
    traffic_of,
    write_edit,
    write_file,
)
from scripts.cli.context import home_of, paths_of, policy_of, price_map
from scripts.cli.errors import ExitCode, Problem, command, wrong_usage
from scripts.cli.options import AsJson, Config
from scripts.cli.output import console, notes, text, write_json

NO_LEDGER = (LedgerUnavailable, RedisServerError, RedisUrlError, EmbeddedRedisError)

AuditPath = Annotated[
    Path | None,
    typer.Option(
        "--audit", "-a", metavar="FILE", help=f"Default: {FILE_NAME} beside litellm_config.yaml."
    ),
]
WithoutLedger = Annotated[
    bool, typer.Option("--without-ledger", help="Do not compare with what the ledger has seen.")
]

app = typer.Typer(help="Audit which work is done by models.", no_args_is_help=True)


@app.callback()
def audit() -> None:
    """Audit which work is done by models, and who answers for it. Example: farebox audit new"""


def audit_path(home: Home, given: Path | None) -> Path:
    """Return the place of the audit."""
    return given if given is not None else home.config.parent / FILE_NAME


@app.command()
@command
def new(
    operations: Annotated[
        list[str] | None,
        typer.Argument(metavar="[OPERATION]...", help="Default: the task types of the ledger."),
    ] = None,
    file: AuditPath = None,
    last: Since = "30d",
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Make a template for the audit: an operation each, with what is to be said of it.

    Without names, one for each task type that the ledger has seen. A name that is a task type or an
    alias of one has it filled in. A file that is there already is left alone.

    Example: farebox audit new invoice_fields refund_letters
    """
    home = home_of(config)
    policy = policy_of(home)
    path = audit_path(home, file)
    if path.exists():
        raise wrong_usage(
            f"{path} is there already.", "Name another file with --audit, or edit that one."
        )
    names = list(dict.fromkeys(operations or _seen(home, last)))
    for name in names:
        if not name.replace("_", "").replace("-", "").replace(" ", "").isalnum():
            raise wrong_usage(
                f"{name!r} is no name of an operation.", "Use letters, digits and underscores."
            )
    pairs = [(fold(it), policy.routing.task_names.get(fold(it))) for it in names]
    made = datetime.now(UTC).date().isoformat()
    write_file(path, template(pairs, made).encode(), "--audit")
    if as_json:
        write_json({"file": str(path), "operations": [name for name, _ in pairs]})
        return
    out = console()
    out.print(text(f"Wrote {path} with {', '.join(name for name, _ in pairs)}."), soft_wrap=True)
    out.print(text("Fill it in with those who own the work, then: farebox audit check"))


def _seen(home: Home, last: str) -> Sequence[str]:
    try:
        seen = list(traffic_of(home, last, include_simulated=True).task_types)
    except NO_LEDGER:
        seen = []
    if not seen:
        raise wrong_usage(
            "The ledger has seen no task type to begin with.",
            "Name the operations, such as: farebox audit new invoice_fields refund_letters",
        )
    return seen


@app.command()
@command
def check(
    file: AuditPath = None,
    last: Since = "30d",
    without_ledger: WithoutLedger = False,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Find gaps in the audit, and what in it contradicts the routing or the ledger.

    Gaps: no owner, no consequence, nothing said of input, output or blast radius. Contradictions:
    costly mistakes without a gate, a consequence or tier other than the routing's, an operation
    that the ledger has seen and the audit has not, a length that is far off. Exit code 1 if there
    is an error; warnings alone are good.

    Example: farebox audit check --last 90d
    """
    home = home_of(config)
    policy = policy_of(home)
    yaml_file, found = load_audit(_there(audit_path(home, file)))
    traffic, note = (None, "") if without_ledger else traffic_or_note(home, last)
    told = sorted(
        findings(yaml_file, found, policy, traffic),
        key=lambda it: (it.severity is not Severity.ERROR, it.line),
    )
    wrong = sum(it.severity is Severity.ERROR for it in told)
    if as_json:
        write_json(
            {
                "complete": wrong == 0,
                "errors": wrong,
                "warnings": len(told) - wrong,
                "operations": len(found.operations),
                "ledger": note or (traffic.as_told() if traffic is not None else None),
                "findings": [finding_as_dict(it) for it in told],
            }
        )
    else:
        out = console()
        show_findings(out, told)
        if note:
            notes().print(text(note, "yellow"), soft_wrap=True)
        doubts = len(told) - wrong
        if wrong:
            out.print(text(f"{_count(wrong, 'error')}, {_count(doubts, 'warning')}.", "bold red"))
        else:
            out.print(
                text(
                    f"The audit is complete: {_count(len(found.operations), 'operation')}"
                    + (f", {_count(doubts, 'warning')}." if doubts else "."),
                    "bold green",
                )
            )
    if wrong:
        raise typer.Exit(ExitCode.FALLS_SHORT)


def traffic_or_note(home: Home, last: str) -> tuple[Traffic | None, str]:
    """Return the traffic, or why there is none. What a simulator answered names task types too."""
    try:
        return traffic_of(home, last, include_simulated=True), ""
    except NO_LEDGER as error:
        return None, f"The ledger was not looked at: {error}"


def _there(path: Path) -> Path:
    if not path.is_file():
        raise Problem(
            f"There is no audit: {path} does not exist.", "Make one with `farebox audit new`."
        )
    return path


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


@app.command()
@command
def apply(
    file: AuditPath = None,
    write: Annotated[
        bool, typer.Option("--write", help="Write the file. Without it, only show the diff.")
    ] = False,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Write the audit's task types into routing.yaml, as a diff to be read first.

    New task types are added; of those that are there the consequence is raised, never lowered, and
    the expected length is set. Comments stay. The edit is checked like any other, and a running
    proxy takes it within two seconds once it is written.

    Example: farebox audit apply --write
    """
    home = home_of(config)
    policy = policy_of(home)
    _, found = load_audit(_there(audit_path(home, file)))
    edit, done = applied(found, policy)
    problem = ""
    try:
        load_edited(paths_of(home), [edit], price_map())
    except ConfigErrors as errors:
        first = errors.findings[0]
        problem = f"{first.key}: {first.message}"
    if problem and write:
        raise Problem(f"The edited {edit.path.name} would not be valid: {problem}.")
    if write and edit.changes:
        write_edit(edit)
    if as_json:
        write_json(
            {
                "changes": done,
                "diff": edit.diff(shown_path(home, edit.path)),
                "problem": problem or None,
                "written": write and edit.changes,
            }
        )
        return
    for line in _told(found, done, problem, write, edit.changes):
        console().print(text(line), soft_wrap=True)
    if edit.changes and not write:
        print_diff(console(), edit.diff(shown_path(home, edit.path)))
        console().print(text("Nothing is written yet: farebox audit apply --write"))


def _told(
    found: AuditFile, done: Sequence[str], problem: str, write: bool, changes: bool
) -> Iterator[str]:
    if not changes:
        yield f"The routing has everything that {_count(len(found.operations), 'operation')} say."
    yield from done
    if problem:
        yield f"The edited file would not be valid: {problem}."
    elif changes:
        yield "Written, and it passes `farebox check`." if write else "It passes `farebox check`."
