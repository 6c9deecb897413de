"""`farebox profile run`: shows what it will cost, asks, sends, and says what came of it."""

from __future__ import annotations

import asyncio
import re
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from budgets.errors import LedgerUnavailable
from budgets.home import Home
from budgets.learned import Learned
from hooks.policy import Policy
from scripts.cli.context import home_of, open_ledger, policy_of
from scripts.cli.errors import ExitCode, Problem, command, wrong_usage
from scripts.cli.http import KeyFileOption, Proxy, ProxyOption, proxy_of
from scripts.cli.options import AsJson, Config
from scripts.cli.output import amount, console, cost, notes, percent, share, table, text, write_json
from scripts.cli.profile_langfuse import langfuse_of, publish_to, show_published

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scripts.profile.experiments import Published
    from scripts.profile.judges import LoadedOracle
    from scripts.profile.plan import Plan
    from scripts.profile.records import Header, Record
    from scripts.profile.run import Outcome

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
TIERS = "execute,generate,reason"
PARALLEL = 4


def profile_path(home: Home, name: str) -> Path:
    """Return where a profile is kept, or the file itself where a path is given."""
    if "/" in name or name.endswith(".jsonl"):
        return Path(name)
    if NAME.fullmatch(name) is None:
        raise wrong_usage(
            f"{name!r} is no name for a profile.", "Use letters, digits, dots and dashes."
        )
    return home.folder / "profiles" / f"{name}.jsonl"


@command
def run(
    prompts: Annotated[
        Path, typer.Argument(help="JSON Lines: prompt or messages, task_type, expected, weight.")
    ],
    oracle: Annotated[
        Path, typer.Option("--oracle", metavar="FILE", help="What is acceptable: .yaml or .py.")
    ],
    tiers: Annotated[
        str,
        typer.Option(metavar="LIST", help="Tiers, each its policy's group or tier=group."),
    ] = TIERS,
    out: Annotated[
        str | None,
        typer.Option("--out", metavar="NAME", help="The profile. Default: the prompts file's."),
    ] = None,
    parallel: Annotated[
        int, typer.Option(min=1, max=64, help="How many requests of each tier at once.")
    ] = PARALLEL,
    retry_errors: Annotated[
        bool, typer.Option("--retry-errors", help="Send again what ended in an error.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before spending.")] = False,
    parquet: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the profile as Parquet too.")
    ] = None,
    langfuse: Annotated[
        bool | None,
        typer.Option(help="Publish it as a dataset and experiments. Default: if the keys are set."),
    ] = None,
    proxy: ProxyOption = None,
    key_file: KeyFileOption = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Send each prompt to each tier and judge the answers.

    Shows the cost first, and asks. Goes through the proxy, tagged farebox-profile, so that a budget
    can hold it. A run that was killed or stopped goes on with the same command: what is recorded is
    not sent again. Exit code 1 if it could not finish, or answers are missing.

    Example: farebox profile run prompts.jsonl --oracle oracle.yaml --tiers execute,generate
    """
    # Late: the tokenizer and what judges take half a second to import.
    from scripts.profile.judged import OracleError
    from scripts.profile.judges import load_oracle
    from scripts.profile.plan import PlanError, plan, tiers_of
    from scripts.profile.records import RecordError, read_profile, read_prompts
    from scripts.profile.run import StaleRun, check_header, left_to_do

    home = home_of(config)
    tracing = langfuse_of(home, langfuse)
    policy = policy_of(home)
    name = out or prompts.stem
    path = profile_path(home, name)
    try:
        lines = read_prompts(prompts)
        loaded = load_oracle(oracle)
        chosen = tiers_of(policy, tiers)
        learned = asyncio.run(_learned(home))
        made = plan(policy, chosen, lines, learned)
        _check_plan(policy, made, loaded, prompts)
        header = _header(path.stem, loaded, made, prompts)
        records: Sequence[Record] = ()
        if path.exists() and path.stat().st_size:
            old = read_profile(path)
            check_header(old.header, header)
            header, records = old.header, old.records
    except (RecordError, OracleError, PlanError) as error:
        raise wrong_usage(f"{error}.") from None
    except StaleRun as error:
        raise wrong_usage(
            f"The profile {path} cannot be gone on with: {error}.", "Name another one with --out."
        ) from None
    todo = left_to_do(made.cells, records, by_person=loaded.by_person, retry_errors=retry_errors)
    target = proxy_of(proxy, key_file, home)
    _show_plan(policy, made, loaded, todo, learned, path, as_json)
    if todo and not yes:
        _ask(as_json)
    outcome = None
    if todo:
        try:
            outcome = asyncio.run(
                _run(policy, target, path, header, loaded, made, todo, parallel, name)
            )
        except RecordError as error:
            raise Problem(f"{error}.", kind="profile_busy") from None
    profile = read_profile(path) if path.exists() else None
    kept = profile.records if profile is not None else ()
    if parquet is not None and profile is not None:
        from scripts.profile.parquet import write_parquet

        write_parquet(profile, parquet)
    published = None
    if tracing is not None and kept and profile is not None:
        published = publish_to(tracing, profile, lines)
    _report(kept, outcome, path, loaded, as_json, published)
    stopped = outcome is not None and outcome.stopped is not None
    waiting = any(not it.judged and it.error is None for it in kept) and not loaded.by_person
    unpublished = langfuse is True and published is not None and bool(published.problem)
    if stopped or waiting or unpublished or any(it.error is not None for it in kept):
        raise typer.Exit(ExitCode.FALLS_SHORT)


def _check_plan(policy: Policy, made: Plan, loaded: LoadedOracle, prompts: Path) -> None:
    """Find what would go wrong for certain, before anything is paid."""
    from scripts.profile.judged import OracleError
    from scripts.profile.plan import PlanError, snapshot

    if made.unknown_types:
        shown = ", ".join(made.unknown_types[:5])
        raise PlanError(f"{prompts}: routing.yaml has no task type {shown}")
    for position, cell in enumerate(made.cells):
        try:
            loaded.judge.check(cell.prompt, cell.task_type)
        except OracleError as error:
            which = cell.prompt.id or f"number {position // len(made.tiers) + 1}"
            raise OracleError(f"{prompts}: the prompt {which}: {error}") from None
    for rubric in loaded.rubrics:
        if rubric.model not in policy.groups.groups:
            raise OracleError(f"the rubric's model {rubric.model!r} is no group")
        snapshot(policy, rubric.model)


def _header(name: str, loaded: LoadedOracle, made: Plan, prompts: Path) -> Header:
    from scripts.profile.records import Header

    return Header(
        name=name,
        made=datetime.now(UTC),
        oracle=loaded.header,
        tiers=dict(made.tiers),
        prompts_file=str(prompts),
        prompts_sha256=sha256(prompts.read_bytes()).hexdigest(),
    )


async def _learned(home: Home) -> Learned:
    """Return the lengths that the ledger has learned; the policy's seeds where it is silent."""
    try:
        async with open_ledger(home) as opened:
            return await opened.ledger.learned()
    except (Problem, LedgerUnavailable, RuntimeError, OSError):
        return Learned()


async def _run(
    policy: Policy,
    proxy: Proxy,
    path: Path,
    header: Header,
    loaded: LoadedOracle,
    made: Plan,
    todo: Sequence[Any],
    parallel: int,
    name: str,
) -> Outcome:
    from scripts.profile.answers import AnswerFile
    from scripts.profile.judges import load_oracle
    from scripts.profile.plan import snapshot
    from scripts.profile.records import ProfileWriter
    from scripts.profile.run import grader, run
    from scripts.profile.sending import Sender

    sender = Sender(proxy, parallel * len(made.tiers))
    tags = (f"farebox-profile-{name}"[:200],)
    grading = {it.model: snapshot(policy, it.model) for it in loaded.rubrics}
    judge = loaded.judge
    if loaded.rubrics:
        judge = load_oracle(Path(loaded.header.path), grader(sender, grading, tags)).judge
    writer = ProfileWriter(path, header)
    answers = AnswerFile(path)
    try:
        with _progress(len(todo)) as tell:
            return await run(
                todo,
                made.tiers,
                sender,
                judge,
                writer,
                answers,
                tags=tags,
                parallel=parallel,
                tell=tell,
            )
    finally:
        answers.close()
        writer.close()
        await sender.close()


@contextmanager
def _progress(total: int) -> Iterator[Callable[[Record], None]]:
    out = notes()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[spent]}"),
    )
    spent = 0
    with Progress(*columns, console=out, transient=True, disable=not out.is_terminal) as progress:
        bar = progress.add_task("Profiling", total=total, spent="")

        def tell(record: Record) -> None:
            nonlocal spent
            spent += record.cost_nano_usd + record.grading_nano_usd
            progress.update(bar, advance=1, spent=cost(spent))

        yield tell


# ── before ───────────────────────────────────────────────────────────────────────────────────────


def _show_plan(
    policy: Policy,
    made: Plan,
    loaded: LoadedOracle,
    todo: Sequence[Any],
    learned: Learned,
    path: Path,
    quiet: bool,
) -> None:
    from scripts.profile.plan import TAG, grading_cost

    if quiet:
        return
    out = console()
    rows = table(
        "Tier", "Group", "To send", "Expected", "At most", right=["To send", "Expected", "At most"]
    )
    for tier, header in made.tiers.items():
        cells = [cell for cell in todo if cell.tier == tier]
        rows.add_row(
            text(tier),
            text(f"{header.group} ({header.model})"),
            f"{len(cells):,}",
            cost(sum(cell.estimate_nano_usd for cell in cells)),
            cost(sum(cell.hold_nano_usd for cell in cells)),
        )
    out.print(rows)
    expected = sum(cell.estimate_nano_usd for cell in todo)
    most = sum(cell.hold_nano_usd for cell in todo)
    done = len(made.cells) - len(todo)
    before = f" {done:,} of {len(made.cells):,} are recorded already." if done else ""
    out.print(text(f"Expected {cost(expected)}, at most {cost(most)}.{before} {path}", "bold"))
    if loaded.rubrics:
        grading = grading_cost(policy, loaded.judge, todo, learned)
        out.print(
            text(
                f"Grading comes on top: expected {cost(grading.estimate_nano_usd)}, at most "
                f"{cost(grading.hold_nano_usd)} if no grade has to be asked for twice.",
                "bold",
            )
        )
    refused = [cell for cell in todo if cell.refused]
    if refused:
        codes = Counter(cell.refused for cell in refused)
        shown = ", ".join(f"{count} × {code}" for code, count in codes.most_common())
        out.print(text(f"The policy will refuse {len(refused)} of them: {shown}.", "yellow"))
    if not any(TAG in (rule.match.tag or ()) for rule in policy.budgets.budgets.values()):
        out.print(
            text(
                f"No budget matches the tag {TAG}: the run counts against the categories' budgets "
                "alone. Give it a limit of its own in budgets.yaml.",
                "yellow",
            )
        )


def _ask(as_json: bool) -> None:
    if as_json or not sys.stdin.isatty():
        raise wrong_usage("Nothing was sent: this costs money.", "Say --yes to agree beforehand.")
    if not typer.confirm("Send them?", default=False):
        raise typer.Exit(ExitCode.GOOD)


# ── after ────────────────────────────────────────────────────────────────────────────────────────


def _report(
    records: Sequence[Record],
    outcome: Outcome | None,
    path: Path,
    loaded: LoadedOracle,
    as_json: bool,
    published: Published | None,
) -> None:
    spent = sum(it.cost_nano_usd for it in outcome.records) if outcome else 0
    grading = sum(it.grading_nano_usd for it in outcome.records) if outcome else 0
    stopped = outcome.stopped if outcome else None
    waiting = sum(not it.judged and it.error is None for it in records)
    if as_json:
        write_json(
            {
                "profile": str(path),
                "records": len(records),
                "sent": outcome.sent if outcome else 0,
                "waited": outcome.waits if outcome else 0,
                **amount("spent", spent),
                **amount("grading", grading),
                "cost_basis": dict(Counter(it.cost_basis for it in records)),
                "tiers": _by_tier(records),
                "errors": dict(Counter(it.error for it in records if it.error)),
                "unjudged": waiting,
                "stopped": None if stopped is None else stopped.message,
                "next": None if stopped is None else stopped.hint,
                "langfuse": None if published is None else asdict(published),
            }
        )
        return
    out = console()
    rows = table(
        "Tier", "Answers", "Passed", "Errors", "Cost", right=["Answers", "Passed", "Errors", "Cost"]
    )
    for it in _by_tier(records):
        rows.add_row(
            text(it["tier"]),
            f"{it['answers']:,}",
            percent(share(it["passed"], it["answers"])),
            f"{it['errors']:,}",
            cost(it["cost_nano_usd"]),
        )
    out.print(rows)
    if outcome is not None:
        graded = f", and {cost(grading)} for grading" if grading else ""
        out.print(text(f"This run sent {outcome.sent:,} and spent {cost(spent)}{graded}."))
    guessed = sum(it.cost_basis == "price" for it in records)
    if guessed:
        out.print(
            text(f"{guessed:,} costs are tokens × price: the proxy gave none of its own.", "yellow")
        )
    errors = Counter(it.error for it in records if it.error)
    if errors:
        shown = ", ".join(f"{count} × {code}" for code, count in errors.most_common(6))
        out.print(text(f"Errors: {shown}. --retry-errors sends them again.", "yellow"))
    if waiting and loaded.by_person:
        out.print(text(f"{waiting:,} answers wait for you: farebox profile grade {path.stem}"))
    elif waiting:
        reasons = Counter(it.reasons[0] for it in records if not it.judged and it.reasons)
        why = reasons.most_common(1)[0][0] if reasons else "no verdict"
        out.print(text(f"{waiting:,} answers could not be judged: {why}. Run it again.", "red"))
    if published is not None:
        show_published(published)
    if stopped is not None:
        raise Problem(stopped.message, stopped.hint, kind="stopped")
    out.print(text(f"Next: farebox profile report {path.stem}"))


def _by_tier(records: Sequence[Record]) -> list[dict[str, Any]]:
    found = []
    for tier in dict.fromkeys(it.tier for it in records):
        of_tier = [it for it in records if it.tier == tier]
        counted = [it for it in of_tier if it.counts]
        found.append(
            {
                "tier": tier,
                "answers": len(counted),
                "passed": sum(it.passed for it in counted),
                "errors": sum(it.error is not None for it in of_tier),
                "cost_nano_usd": sum(it.cost_nano_usd for it in of_tier),
            }
        )
    return found
