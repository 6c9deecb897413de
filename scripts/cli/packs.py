"""`farebox packs`: another vendor's models in the same categories, shown before they are taken."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from budgets.home import Home
from budgets.yamlfile import ConfigErrors
from hooks.policy import Policy
from scripts.cli.context import environment, home_of, open_ledger, paths_of, policy_of, price_map
from scripts.cli.errors import ExitCode, Problem, command, wrong_usage
from scripts.cli.options import AsJson, Config
from scripts.cli.output import amount, console, cost, lines, notes, table, text, write_json
from scripts.packs import apply as applying
from scripts.packs import pack as packs
from scripts.packs import trial
from scripts.packs.pack import Pack
from scripts.yaml_edit import EditConflict

PROMPTS_BYTES_MAX = 5_000_000
LINES_READ_MAX = 2_000

HELP = """Put another vendor's models into the same categories and tiers.

A pack is a small overlay on litellm_config.yaml and routing.yaml. See what it changes, try it on
past tasks, then write it.

Example: farebox packs apply anthropic
"""

app = typer.Typer(name="packs", help=HELP, no_args_is_help=True, rich_markup_mode=None)

PackArgument = Annotated[
    str, typer.Argument(metavar="PACK", help="A name of `farebox packs list`, or a pack's file.")
]


@app.command("list")
@command
def list_packs(config: Config = None, as_json: AsJson = False) -> None:
    """List the packs: what each category begins with, and what has to be set for it.

    Example: farebox packs list
    """
    policy = policy_of(home_of(config))
    found = {name: packs.load(name) for name in packs.names()}
    if as_json:
        write_json({"packs": [_as_dict(name, pack, policy) for name, pack in found.items()]})
        return
    out = console()
    shown = table("pack", *policy.routing.categories)
    for name, pack in found.items():
        bases = [_base(pack, category) for category in policy.routing.categories]
        mark = " (in force)" if _in_force(pack, policy) else ""
        shown.add_row(text(name + mark, "bold"), *map(text, bases))
    out.print(shown)
    for name, pack in found.items():
        needs = f"Needs {', '.join(pack.needs)}. As of {pack.as_of}."
        out.print(text(f"{name}: {pack.about} {needs}"), soft_wrap=True)


@app.command("apply")
@command
def apply(
    pack: PackArgument,
    write: Annotated[
        bool, typer.Option("--write", help="Write the files. Without it the diff is shown.")
    ] = False,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Show what a pack changes in your files, or write it.

    Comments and whatever a pack does not name stay: other groups, their chains, task types,
    floors, budgets. A running proxy takes the written files within two seconds. What a pack needs
    and where its figures come from is said after the diff. Nothing is written that
    `farebox check` would find an error in.

    Example: farebox packs apply local --write
    """
    home = home_of(config)
    paths = paths_of(home)
    applied, found = _applied(pack, home)
    if write:
        _own_files(home)
        try:
            for edit in applied.edits:
                if edit.changes:
                    edit.write()
        except EditConflict as error:
            raise Problem(f"{error}: nothing more was written.", "Run it again.") from None
        except OSError as error:
            raise wrong_usage(f"{error.filename} cannot be written: {error.strerror}.") from None
    changes = any(edit.changes for edit in applied.edits)
    diffs = {str(edit.path): edit.diff() for edit in applied.edits if edit.changes}
    if as_json:
        written = write and changes
        write_json({"pack": pack, "changes": changes, "written": written, "diffs": diffs})
        return
    out = console()
    for path, diff in diffs.items():
        if write:
            out.print(text(f"Wrote {path}"), soft_wrap=True)
        else:
            _show_diff(diff)
    if not changes:
        out.print(text(f"{found.title} is in force already: nothing changes."))
        return
    _advise(found, paths.litellm, write, pack)


@app.command("test")
@command
def test(
    pack: PackArgument,
    prompts: Annotated[
        Path | None,
        typer.Option(
            "--prompts",
            metavar="FILE",
            help="JSON lines with `prompt` or `messages`, and `task_type` if you like. Default: "
            "the newest decisions of the ledger, which has no prompts.",
        ),
    ] = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Decide 10 to 20 past tasks with a pack, and show what changes.

    For each task the group, the expected cost and whether it can be served, by the policy in force
    and by the pack. Nothing is sent: whether the answers are good enough is for `farebox profile`.
    Exit code 1 if a task that is served now would be refused.

    Example: farebox packs test openai --prompts tasks.jsonl
    """  # fmt: skip
    home = home_of(config)
    now = policy_of(home)
    tasks = _tasks(home, prompts)
    applied, found = _applied(pack, home)
    if not tasks:
        raise Problem(
            "There are no past tasks to try.",
            "Send some requests first (`farebox demo`), or give --prompts FILE.",
        )
    with applying.policy_with(applied, paths_of(home), price_map()) as then:
        results = trial.tried(tasks, now, then)
    lost = [it for it in results if it.now.code is None and it.then.code is not None]
    if as_json:
        write_json(_results(pack, results))
    else:
        _show_results(found, results, lost)
        if len(results) < trial.TASKS_MIN:
            notes().print(
                text(f"Note: {len(results)} tasks say little; {trial.TASKS_MIN} to "
                     f"{trial.TASKS_MAX} are usual.", "yellow"), soft_wrap=True,
            )  # fmt: skip
    if lost:
        raise typer.Exit(ExitCode.FALLS_SHORT)


# ── reading ──────────────────────────────────────────────────────────────────────────────────────


def _applied(name: str, home: Home) -> tuple[applying.Applied, Pack]:
    """Return a pack's edits, after making sure that the files with them are valid."""
    policy_of(home)
    try:
        pack = packs.load(name)
        applied = applying.apply(name, paths_of(home))
    except packs.UnknownPack as error:
        raise wrong_usage(f"PACK: {error}") from None
    except applying.CannotApply as error:
        raise Problem(str(error), "Nothing was written.") from None
    try:
        with applying.policy_with(applied, paths_of(home), price_map()):
            pass
    except ConfigErrors as errors:
        first = errors.findings[0]
        raise Problem(
            f"With the pack {name} the files would not be valid: {first.key}: {first.message}.",
            first.hint or "Mend your files, or edit a copy of the pack and name that file.",
        ) from None
    return applied, pack


def _own_files(home: Home) -> None:
    """Keep a pack for one configuration out of the routing.yaml that every other one falls back to.

    Raises:
        Problem: the configuration has no routing.yaml of its own.
    """
    beside = home.config.parent
    if home.routing.is_relative_to(beside) or environment(home).get("FAREBOX_ROUTING"):
        return
    raise Problem(
        f"{home.config} has no routing.yaml of its own: {home.routing} is Farebox's.",
        f"Copy it to {beside / 'hooks' / 'routing.yaml'} first. Nothing was written.",
    )


def _tasks(home: Home, prompts: Path | None) -> list[trial.Task]:
    if prompts is None:
        return asyncio.run(_from_ledger(home))
    try:
        content = prompts.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise wrong_usage(f"--prompts: {prompts} cannot be read: {error}.") from None
    if len(content) > PROMPTS_BYTES_MAX:
        raise wrong_usage(f"--prompts: {prompts} is over {PROMPTS_BYTES_MAX:,} characters.")
    try:
        return trial.from_prompts(prompts, content)
    except trial.NoTasks as error:
        raise wrong_usage(f"--prompts: {error}.") from None


async def _from_ledger(home: Home) -> list[trial.Task]:
    """Return the newest decisions of different kinds: twenty of one kind would say nothing."""
    kinds: dict[tuple[Any, ...], int] = {}
    found: list[trial.Task] = []
    more: list[trial.Task] = []
    looked_at = 0
    async with open_ledger(home) as opened:
        async for entry in opened.ledger.entries(newest_first=True):
            looked_at += 1
            if looked_at > LINES_READ_MAX or len(found) >= trial.TASKS_MAX:
                break
            facts = _mapping(entry.body)
            stored = await opened.ledger.decision(str(facts.get("decision_id")))
            task = trial.from_decision(_mapping(stored or ""), facts)
            if task is None:
                continue
            kind = (facts.get("task_type"), facts.get("category"), facts.get("requested_model"))
            kinds[kind] = kinds.get(kind, 0) + 1
            (found if kinds[kind] <= 2 else more).append(task)
    return (found + more)[: trial.TASKS_MAX]


def _mapping(body: str) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


# ── showing ──────────────────────────────────────────────────────────────────────────────────────


def _base(pack: Pack, category: str) -> str:
    chain = pack.categories.get(category)
    return chain.base if chain else "–"


def _in_force(pack: Pack, policy: Policy) -> bool:
    groups = policy.groups.groups
    return all(
        name in groups
        and groups[name].primary == chain.base
        and [d.model for d in groups[name].deployments] == [pack.groups[chain.base].params["model"]]
        for name, chain in pack.categories.items()
    )


def _as_dict(name: str, pack: Pack, policy: Policy) -> dict[str, Any]:
    return {
        "name": name,
        "title": pack.title,
        "about": pack.about,
        "as_of": pack.as_of,
        "needs": list(pack.needs),
        "notes": list(pack.notes),
        "in_force": _in_force(pack, policy),
        "categories": {
            category: {"base": chain.base, "fallbacks": list(chain.fallbacks)}
            for category, chain in pack.categories.items()
        },
        "models": {group: it.params["model"] for group, it in pack.groups.items()},
    }


def _show_diff(diff: str) -> None:
    styles = {"+": "green", "-": "red", "@": "cyan"}
    shown = Text()
    for line in diff.splitlines():
        shown.append_text(lines(line + "\n", styles.get(line[:1], "")))
    console().print(shown, soft_wrap=True, end="")


def _advise(pack: Pack, config: Path, written: bool, name: str) -> None:
    out = console()
    out.print()
    for note in pack.notes:
        out.print(text(f"• {note}"), soft_wrap=True)
    out.print(text(f"To go live set: {', '.join(pack.needs)}."), soft_wrap=True)
    if written:
        out.print(
            text("Then: `farebox check`, and `farebox agents render` for the agents' texts."),
            soft_wrap=True,
        )
    else:
        out.print(
            text(f"Nothing was written. Try it: farebox packs test {name}. Write it: --write."),
            soft_wrap=True,
        )


def _show_results(pack: Pack, results: tuple[trial.Tried, ...], lost: list[trial.Tried]) -> None:
    out = console()
    shown = table("task", "task type", "now", "cost", "with " + pack.title, "cost with it",
                  right=("cost", "cost with it"))  # fmt: skip
    for it in results:
        style = "red" if it in lost else "yellow" if it.changed else ""
        shown.add_row(
            text(it.label),
            text(it.task_type),
            text(it.now.group or it.now.code or "–"),
            text(cost(it.now.estimate_nano_usd)),
            text(it.then.group or it.then.code or "–", style),
            text(cost(it.then.estimate_nano_usd)),
        )
    out.print(shown)
    changed = sum(it.changed for it in results)
    both = [it for it in results if it.now.code is None and it.then.code is None]
    before = sum(it.now.estimate_nano_usd or 0 for it in both)
    after = sum(it.then.estimate_nano_usd or 0 for it in both)
    out.print(
        text(
            f"{changed} of {len(results)} tasks go to another model. Expected cost of the "
            f"{len(both)} that both serve: {cost(before)} now, {cost(after)} with the pack."
        ),
        soft_wrap=True,
    )
    for it in lost:
        out.print(text(f"Refused with the pack: {it.label}: {it.then.reason}", "red"),
                  soft_wrap=True)  # fmt: skip


def _results(name: str, results: tuple[trial.Tried, ...]) -> dict[str, Any]:
    def outcome(it: trial.Outcome) -> dict[str, Any]:
        return {
            "model": it.group, "code": it.code, "reason": it.reason or None,
            **amount("estimate", it.estimate_nano_usd),
        }  # fmt: skip

    return {
        "pack": name,
        "tasks": [
            {
                "task": it.label, "task_type": it.task_type, "category": it.category,
                "changed": it.changed, "now": outcome(it.now), "with_pack": outcome(it.then),
            }
            for it in results
        ],
    }  # fmt: skip
