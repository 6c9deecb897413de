"""`farebox agents`: what coding agents are told of the policy, and what they ask of it."""

from __future__ import annotations

import difflib
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from budgets.yamlfile import did_you_mean
from hooks import advice
from hooks.levels import Tier
from hooks.policy import Policy
from hooks.routing import AUTO, UNCLASSIFIED, fold
from scripts.agents import diff as diffs
from scripts.agents import plan as plans
from scripts.agents import triggers as rules
from scripts.agents.guide import Target, find_group, guide_of, task_type_of, tier_of
from scripts.cli.context import home_of, policy_of
from scripts.cli.errors import ExitCode, command, wrong_usage
from scripts.cli.options import AsJson, Config
from scripts.cli.output import console, lines, notes, text, write_json

TEXT_BYTES_MAX = 50_000_000
GIT_TIMEOUT_S = 60

HELP = """Tell coding agents which model is for which task, and ask it for them.

Everything is made from the routing policy, so that it says what the proxy does.

Example: farebox agents render --target claude-code --out .
"""

app = typer.Typer(name="agents", help=HELP, no_args_is_help=True, rich_markup_mode=None)

TargetOption = Annotated[
    Target, typer.Option("--target", "-t", help="The agent that the files are for.")
]
ModelOption = Annotated[
    str,
    typer.Option(
        "--model", "-m", metavar="NAME",
        help="The session's model: a group, or the provider's name such as claude-sonnet-5-5.",
    ),
]  # fmt: skip
TriggersOption = Annotated[
    Path | None,
    typer.Option("--triggers", metavar="FILE", help="Your own triggers. Default: Farebox's."),
]


@app.command("render")
@command
def render(
    target: TargetOption,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="The repository to write into.")
    ],
    check: Annotated[
        bool,
        typer.Option("--check", help="Write nothing; exit code 1 if anything would change."),
    ] = False,
    triggers: TriggersOption = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Write an agent's instructions and commands, made from the routing policy.

    claude-code gets CLAUDE.md and .claude/commands, codex and generic get AGENTS.md and
    .agents/skills, cursor gets .cursor/rules and .cursor/commands. Only the parts between Farebox's
    markers are written; what else stands in a file stays. Run it again after an edit of the policy.

    Example: farebox agents render --target claude-code --out . --check
    """
    from scripts.agents import render as rendering  # Jinja2 takes its time to import.

    policy = policy_of(home_of(config))
    if out.exists() and not out.is_dir():
        raise wrong_usage(f"--out: {out} is no folder.", "Name the repository's folder.")
    try:
        changes = rendering.plan(out, rendering.pages(policy, target, rules.load(triggers)))
        if not check:
            rendering.write(changes)
    except rendering.CannotRender as error:
        raise wrong_usage(str(error)) from None
    stale = [change for change in changes if change.outcome != "unchanged"]
    if as_json:
        write_json(
            {
                "target": target.value,
                "written": not check,
                "changes": [{"path": str(it.path), "outcome": it.outcome} for it in changes],
            }
        )
    else:
        out_console = console()
        for it in changes:
            mark = {"created": "green", "updated": "yellow"}.get(it.outcome, "")
            would = f"would be {it.outcome}" if check and it in stale else it.outcome
            out_console.print(text(f"{would:<18} {it.path}", mark), soft_wrap=True)
            if check and it in stale and it.before is not None:
                shown = difflib.unified_diff(
                    it.before.splitlines(), it.content.splitlines(), "is", "should be", lineterm=""
                )
                out_console.print(lines("\n".join(shown)), soft_wrap=True)
    if check and stale:
        raise typer.Exit(ExitCode.FALLS_SHORT)


@app.command("mismatch")
@command
def mismatch(
    model: ModelOption,
    task_type: Annotated[
        str | None, typer.Option("--task-type", metavar="NAME", help="The task's type.")
    ] = None,
    task: Annotated[
        str | None, typer.Argument(help="The task in words, where its type is not named.")
    ] = None,
    target: TargetOption = Target.GENERIC,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Say whether a model fits a task, and if not, what to announce.

    The announcement names the task type, the current and the recommended model and why, three
    options, and which of them fits. Exit code 1 if the model is too weak for the task.

    Example: farebox agents mismatch --model claude-sonnet --task-type security_review

    Example: farebox agents mismatch --model claude-haiku "Find the root cause of the deadlock"
    """
    policy = policy_of(home_of(config))
    if (task_type is None) == (task is None):
        raise wrong_usage(
            "Give one of: --task-type, or the task in words.",
            "Try: farebox agents mismatch --model claude-sonnet --task-type security_review",
        )
    name = _task_type(policy, task_type) if task_type else task_type_of(policy, task or "")[0]
    if model == AUTO or model in policy.routing.categories:
        # Who asks for these is given the model that the task needs.
        found, group = None, model
    else:
        group = _group(policy, model)
        session = guide_of(policy, target).session(policy.routing.task(name).tier)
        found = advice.advise(policy, name, group, session.group)
    if as_json:
        fits = {"mismatch": None, "task_type": name, "model": group}
        write_json(found.as_dict() if found else fits)
    elif found is not None:
        console().print(lines(found.text), soft_wrap=True)
    elif name == UNCLASSIFIED:
        console().print(
            text("Nothing speaks for a task type, so nothing can be said. Name it: --task-type."),
            soft_wrap=True,
        )
    else:
        console().print(text(f"{group} fits {name}."), soft_wrap=True)
    if found is not None and found.mismatch.side == advice.BELOW:
        raise typer.Exit(ExitCode.FALLS_SHORT)


@app.command("next")
@command
def next_session(
    plan: Annotated[Path, typer.Argument(metavar="PLAN.md", help="The plan; - reads a pipe.")],
    target: TargetOption = Target.GENERIC,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Recommend the model for the next session, from the open tasks of a plan.

    The plan is a Markdown file with a task list (`- [ ] …`). Each open task is classified as a
    request would be; `#adr_writing` in a task names its type. The highest tier present wins.

    Example: farebox agents next PLAN.md
    """
    policy = policy_of(home_of(config))
    tasks = plans.items(_read(plan, "PLAN.md"))
    found = plans.recommend(policy, guide_of(policy, target), tasks)
    if as_json:
        write_json(
            {
                "tasks": [
                    {
                        "task": it.item.text, "line": it.item.line, "task_type": it.task_type,
                        "tier": it.tier.value, "model": it.group, "reason": it.reason,
                    }
                    for it in (found.steps if found else ())
                ],
                "recommended_model": found.group if found else None,
                "tier": found.tier.value if found else None,
                "reason": found.reason if found else None,
                "unclassified": found.unsure if found else 0,
            }
        )  # fmt: skip
        return
    out = console()
    if found is None:
        done = f"All {len(tasks)} tasks are done" if tasks else "There is no task list (`- [ ] …`)"
        out.print(text(f"{done} in {plan}: nothing to recommend."), soft_wrap=True)
        return
    for step in found.steps:
        out.print(text(step.line), soft_wrap=True)
    out.print(text(f"Recommended model for next session: {found.group}"), soft_wrap=True)
    out.print(text(f"Reason: {found.reason}"), soft_wrap=True)
    if found.unsure:
        notes().print(
            text(
                f"Note: nothing was found for {found.unsure} of them. Name their types "
                "(`#task_type` in the task), since too weak a model is the graver mistake.",
                "yellow",
            ),
            soft_wrap=True,
        )


@app.command("review")
@command
def review(
    diff: Annotated[
        str | None,
        typer.Option("--diff", metavar="FILE", help="A git diff in a file; - reads a pipe."),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(
            "--base",
            metavar="REF",
            help="Compare the working tree with this commit. Default: HEAD, what is not committed.",
        ),
    ] = None,
    model: ModelOption = "",
    concern: Annotated[
        list[str] | None, typer.Option(help="A concern of your own; repeatable.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write the prompt there.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only say what fired; exit code 1 if anything did.")
    ] = False,
    triggers: TriggersOption = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Write the review prompt that a significant change needs.

    Looks in a git diff for the triggers: more than five new files, a new boundary, governance
    files, security-sensitive code, documents and decision records, financial, health or personal
    data. The prompt has the session's model, the date, what fired, the files with a line each,
    concerns, context files, and how to answer: PASS, WARN or FAIL. Of the change itself only
    headings of new files and names of touched places are in it.

    Example: farebox agents review --model claude-sonnet --base main --out review.md
    """  # fmt: skip
    policy = policy_of(home_of(config))
    if diff is not None and base is not None:
        raise wrong_usage("Give one of: --diff, --base.")
    given = rules.load(triggers)
    content = _read(Path(diff), "--diff") if diff is not None else _git_diff(base or "HEAD")
    try:
        changes = diffs.read_diff(content)
    except diffs.NotADiff as error:
        raise wrong_usage(
            f"This is no git diff: {error}.", "Try: git diff main | farebox agents review --diff -"
        ) from None
    fired = rules.fired(given, changes)
    group = find_group(policy, model) if model else None
    tier = tier_of(policy, group) if group else None
    # A session of the highest tier has nobody above it to ask.
    needed = bool(fired) and tier is not Tier.REASON
    prompt = ""
    if fired and not check:
        from scripts.agents import review as reviewing  # Jinja2 takes its time to import.

        prompt = reviewing.prompt(
            model=model or "not named",
            tier=tier,
            day=datetime.now(UTC).date(),
            fired=fired,
            changes=changes,
            context=reviewing.context_files(given, changes, Path.cwd()),
            concerns=concern or [],
            show=f"git diff {base or 'HEAD'}" if diff is None else f"the diff in {diff}",
        )
    if out is not None and prompt:
        try:
            out.write_text(prompt, encoding="utf-8")
        except OSError as error:
            raise wrong_usage(f"--out: {out} cannot be written: {error.strerror}.") from None
    if as_json:
        write_json(
            {
                "needed": needed,
                "files": len(changes),
                "triggers": [
                    {"name": it.name, "title": it.trigger.title, "because": it.because}
                    for it in fired
                ],
                "model": model or None,
                "tier": tier.value if tier else None,
                "prompt": prompt or None,
            }
        )
    elif prompt and out is None:
        sys.stdout.write("\n".join(lines(prompt).plain.split("\n")))
    else:
        where = console()
        for it in fired:
            where.print(text(f"{it.trigger.title}: {it.because}"), soft_wrap=True)
        if not fired:
            where.print(text(f"Nothing significant in {len(changes)} changed files."))
        if prompt:
            where.print(text(f"Wrote {out}"), soft_wrap=True)
    if fired and not needed and not as_json:
        notes().print(
            text(f"{model} is of the tier reason: a second opinion is optional."), soft_wrap=True
        )
    if check and needed:
        raise typer.Exit(ExitCode.FALLS_SHORT)


# ── what was given ───────────────────────────────────────────────────────────────────────────────


def _group(policy: Policy, model: str) -> str:
    group = find_group(policy, model)
    if group is None or tier_of(policy, group) is None:
        known = [n for n in policy.requestable() if n not in (AUTO, *policy.routing.categories)]
        raise wrong_usage(f"--model: no group or model is called {model!r} here.",
                          did_you_mean(model, known))  # fmt: skip
    return group


def _task_type(policy: Policy, name: str) -> str:
    known = policy.routing.task_names.get(fold(name))
    if known is None:
        raise wrong_usage(
            f"--task-type: no task type is called {name!r}.",
            did_you_mean(name, list(policy.routing.task_types)),
        )
    return known


def _read(path: Path, option: str) -> str:
    try:
        if str(path) == "-":
            content = sys.stdin.buffer.read(TEXT_BYTES_MAX + 1)
        else:
            with path.open("rb") as stream:
                content = stream.read(TEXT_BYTES_MAX + 1)
    except OSError as error:
        raise wrong_usage(f"{option}: {path} cannot be read: {error.strerror}.") from None
    if len(content) > TEXT_BYTES_MAX:
        raise wrong_usage(f"{option}: {path} is over {TEXT_BYTES_MAX:,} bytes.")
    # A diff may have bytes of any encoding in it; what is no UTF-8 is not looked at.
    return content.decode("utf-8", "replace")


def _git_diff(base: str) -> str:
    """Return the working tree's difference from a commit, new files that git does not know too."""
    if base.startswith("-"):
        raise wrong_usage(f"--base: {base!r} is no commit.")
    # Whatever a person's configuration says: plain text, a/ and b/ in front, no other program.
    plain = ("-c", "core.quotePath=false", "diff", "--no-ext-diff", "--no-color", "--no-textconv",
             "--src-prefix=a/", "--dst-prefix=b/", "-M")  # fmt: skip
    tracked = _git(*plain, base, "--")
    untracked = _git("ls-files", "--others", "--exclude-standard", "-z", "--full-name", ":/")
    root = Path(_git("rev-parse", "--show-toplevel").strip())
    more = []
    for name in untracked.split("\0"):
        if name:
            more.append(
                _git(*plain, "--no-index", "--", "/dev/null", name, cwd=root, may_differ=True)
            )
    return tracked + "".join(more)


def _git(*arguments: str, cwd: Path | None = None, may_differ: bool = False) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments], capture_output=True, timeout=GIT_TIMEOUT_S, cwd=cwd, check=False
        )
    except FileNotFoundError:
        raise wrong_usage(
            "There is no git on the PATH.", "Give the diff in a file: --diff FILE."
        ) from None
    except subprocess.TimeoutExpired:
        raise wrong_usage(f"git did not answer within {GIT_TIMEOUT_S} s.") from None
    if done.returncode != 0 and not (may_differ and done.returncode == 1):
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise wrong_usage(
            f"git says: {said[0] if said else f'exit code {done.returncode}'}",
            "Run it in the repository, and name a commit that is there: --base main.",
        )
    return done.stdout.decode("utf-8", "replace")
