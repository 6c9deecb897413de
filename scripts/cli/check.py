"""`farebox check`: everything that is wrong with the three files, at once, and where."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from budgets.config import json_schema as budgets_schema
from budgets.config import load_budgets
from budgets.home import Home
from budgets.yamlfile import ConfigErrors, Finding, Severity
from callbacks.tracing import settings
from callbacks.tracing.settings import TracingSettingsError
from hooks.policy import Policy
from hooks.queue_checks import key_findings
from hooks.routing import json_schema as routing_schema
from hooks.routing import load_routing
from scripts.cli.context import environment, home_of, paths_of, policy_of
from scripts.cli.errors import ExitCode, command, wrong_usage
from scripts.cli.options import AsJson, Config
from scripts.cli.output import clean, console, text, write_json


@command
def check(
    config: Config = None,
    schema: Annotated[
        Path | None,
        typer.Option(
            "--schema",
            metavar="DIR",
            help="Write the JSON Schemas of routing.yaml and budgets.yaml there, for editors.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Find what is wrong in the configuration.

    Reads litellm_config.yaml, routing.yaml and budgets.yaml, each and together. Every finding has
    its file and line, the key, what is wrong, and how to mend it. Exit code 1 if there is an
    error; warnings alone are good.

    Example: farebox check --config ~/team/litellm_config.yaml
    """
    if schema is not None:
        _write_schemas(schema, as_json)
        return
    home = home_of(config)
    policy: Policy | None = None
    try:
        policy = policy_of(home)
        findings: Sequence[Finding] = (
            *policy.warnings,
            *archive_findings(home.budgets),
            *key_findings(*load_routing(home.routing), home, environment(home)),
            *tracing_findings(home, environment(home)),
        )
    except ConfigErrors as errors:
        findings = errors.findings
    ordered = sorted(findings, key=lambda it: it.severity is not Severity.ERROR)
    wrong = sum(it.severity is Severity.ERROR for it in ordered)
    paths = paths_of(home)
    files = {
        "litellm_config": str(paths.litellm),
        "routing": str(paths.routing),
        "budgets": str(paths.budgets),
    }
    if as_json:
        write_json(
            {
                "valid": wrong == 0,
                "errors": wrong,
                "warnings": len(ordered) - wrong,
                "files": files,
                "revision": policy.revision if policy else None,
                "findings": [as_dict(finding) for finding in ordered],
            }
        )
    else:
        _show(ordered, wrong, files, policy)
    if wrong:
        raise typer.Exit(ExitCode.FALLS_SHORT)


def archive_findings(budgets_file: Path) -> Iterator[Finding]:
    """Yield a warning where the archive's folder cannot be written to from here.

    Only a warning, and only in this command: a proxy that is told so must still take the policy,
    and another machine may be the one that archives.
    """
    file, budgets = load_budgets(budgets_file)
    sink = budgets.archive.sink(budgets_file)
    if sink is None:
        return
    # What is missing is made, so that the nearest folder that there is must allow it.
    nearest = next(it for it in (sink, *sink.parents) if it.exists())
    if nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK):
        return
    what = "is no folder" if not nearest.is_dir() else "cannot be written to"
    yield file.finding(
        ("archive", "folder"),
        f"{nearest} {what}, so nothing is archived from here",
        "name a folder that the proxy may write to, or leave `folder` out",
        Severity.WARNING,
    )


def tracing_findings(home: Home, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Yield an error for each variable of tracing that cannot be used: the proxy would not trace.

    A mask is loaded to see whether it can be, where the keys are set; nothing is sent.
    """
    try:
        settings.read(environ, home.config.parent)
    except TracingSettingsError as error:
        what, _, hint = str(error).partition("; ")
        yield Finding("environment", 0, what.partition(" ")[0], what, hint)


def as_dict(finding: Finding) -> dict[str, Any]:
    """Return a finding as data for JSON."""
    return {
        "severity": finding.severity.value,
        "file": finding.file,
        "line": finding.line or None,
        "key": finding.key,
        "message": finding.message,
        "hint": finding.hint,
    }


def _show(
    findings: Sequence[Finding], wrong: int, files: dict[str, str], policy: Policy | None
) -> None:
    out = console()
    show_findings(out, findings)
    doubts = len(findings) - wrong
    if wrong:
        out.print(
            text(f"{_count(wrong, 'error')}, {_count(doubts, 'warning')}.", "bold red"),
            text("A running proxy keeps its last good policy until they are mended."),
        )
        return
    assert policy is not None
    out.print(
        text("The configuration is valid.", "bold green"),
        text(f"{_count(doubts, 'warning')}." if doubts else ""),
    )
    for path in files.values():
        out.print(text(f"  {_short(path)}"), soft_wrap=True)
    categories = len(policy.routing.categories)
    out.print(
        text(
            f"  {len(policy.groups.groups)} groups, {categories} categories, "
            f"{len(policy.routing.task_types)} task types, "
            f"{_count(len(policy.budgets.budgets), 'budget')}, mode {policy.routing.mode.value}, "
            f"revision {policy.revision}"
        )
    )


def show_findings(out: Console, findings: Sequence[Finding]) -> None:
    """Print findings, each with its place and its remedy, and a blank line at the end."""
    for finding in findings:
        is_error = finding.severity is Severity.ERROR
        line = Text()
        line.append(f"{finding.severity.value}: ", style="bold red" if is_error else "bold yellow")
        place = f"{_short(finding.file)}:{finding.line}" if finding.line else _short(finding.file)
        line.append(clean(place), style="bold")
        if finding.key:
            line.append(f" {clean(finding.key)}", style="cyan")
        out.print(line, soft_wrap=True)
        out.print(text(f"    {finding.message}"), soft_wrap=True)
        if finding.hint:
            out.print(text(f"    → {finding.hint}", "green"), soft_wrap=True)
    if findings:
        out.print()


def _short(path: str) -> str:
    """Return a path as seen from here, where that is shorter."""
    try:
        relative = os.path.relpath(path)
    except ValueError:
        return path
    return relative if len(relative) < len(path) else path


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _write_schemas(folder: Path, as_json: bool) -> None:
    written: dict[str, str] = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, document in (("routing", routing_schema()), ("budgets", budgets_schema())):
            path = folder / f"{name}.schema.json"
            whole = {"$schema": "https://json-schema.org/draft/2020-12/schema", **document}
            path.write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
            written[name] = str(path)
    except OSError as error:
        raise wrong_usage(
            f"--schema: {folder} cannot be written to: {error.strerror}.",
            "Name a folder that you can write to.",
        ) from None
    if as_json:
        write_json({"schemas": written})
        return
    out = console()
    for path_text in written.values():
        out.print(text(f"Wrote {path_text}"), soft_wrap=True)
    out.print(text("For the YAML language server, put this at the top of a file:"))
    out.print(text(f"  # yaml-language-server: $schema={written['budgets']}"), soft_wrap=True)
