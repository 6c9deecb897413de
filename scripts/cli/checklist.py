"""`farebox checklist`: what is met before a launch, what is not, and how to mend it."""

from __future__ import annotations

import asyncio
import hashlib
import subprocess
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path

import typer

from budgets.config import BudgetsFile
from budgets.home import Home
from budgets.queue.items import State
from budgets.queue.redis_queue import RedisQueue
from budgets.yamlfile import Finding
from scripts.choosing.audit import AuditFile, load_audit
from scripts.choosing.audit_check import findings
from scripts.choosing.checklist import Item, Known, Seen, checklist
from scripts.choosing.profiles import Profile, profiles_in
from scripts.choosing.traffic import read_traffic
from scripts.cli.audit import NO_LEDGER, AuditPath, audit_path
from scripts.cli.choosing import Since
from scripts.cli.context import archive_of, budgets_of, home_of, open_ledger, policy_of
from scripts.cli.errors import ExitCode, command
from scripts.cli.options import AsJson, Config, duration_s
from scripts.cli.output import console, text, write_json
from scripts.cli.time_bar import time_bar
from scripts.profile.judged import OracleError
from scripts.profile.judges import load_oracle

EVENTS_MAX = 100_000
GIT_TIMEOUT_S = 5.0


@command
def show(
    file: AuditPath = None,
    last: Since = "92d",
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Go through the pre-launch checklist.

    Each item is met by the configuration, by what the ledger and the audit trail show, or by a
    dated note under `evidence` in the audit; without evidence it is not met, and the command that
    mends it stands beside it. What a simulator answered is no evidence of a provider. Exit code 1
    if anything is not met.

    Example: farebox checklist --audit audit.yaml
    """
    home = home_of(config)
    policy = policy_of(home)
    length_ms = duration_s(last, "--last") * 1000
    seen, why_not = _seen_or_not(home, length_ms)
    path = audit_path(home, file)
    audit: AuditFile | None = None
    gaps: Sequence[Finding] = ()
    if path.is_file():
        yaml_file, audit = load_audit(path)
        gaps = list(findings(yaml_file, audit, policy, seen.traffic if seen else None))
    items = checklist(
        Known(
            policy=policy,
            today=_today(),
            audit=audit,
            gaps=gaps,
            profiles=profiles_in(home.folder),
            oracle_state=lambda it: oracle_state(it, home.config.parent),
            seen=seen,
            why_not=why_not,
        )
    )
    open_items = [it for it in items if not it.met]
    if as_json:
        write_json({"ready": not open_items, "items": [it.as_dict() for it in items]})
    else:
        _show(items, len(open_items))
    if open_items:
        raise typer.Exit(ExitCode.FALLS_SHORT)


def _today() -> date:
    return datetime.now(UTC).date()


def _seen_or_not(home: Home, length_ms: int) -> tuple[Seen | None, str]:
    try:
        return asyncio.run(_seen(home, length_ms)), ""
    except NO_LEDGER as error:
        return None, str(error)


async def _seen(home: Home, length_ms: int) -> Seen:
    budgets = budgets_of(home)
    archive = archive_of(home, budgets) if isinstance(budgets, BudgetsFile) else None
    async with open_ledger(home) as opened:
        ledger = opened.ledger
        end_ms = opened.now_ms + 1
        with time_bar("Reading", end_ms) as watch:
            traffic = await read_traffic(ledger, archive, end_ms - length_ms, end_ms, watch=watch)
        actions = {line.action: line.time_ms async for line in ledger.trail.lines()}
        events: Counter[str] = Counter()
        async for event in ledger.events(newest_first=True):
            events[event.kind] += 1
            if event.time_ms < end_ms - length_ms or events.total() >= EVENTS_MAX:
                break
        queue = RedisQueue(opened.client, home.ledger)
        return Seen(
            traffic=traffic,
            actions=actions,
            events=events,
            queue_done=bool(await queue.listed(State.DONE, 1)),
            differences=len(await ledger.verify()),
        )


def oracle_state(profile: Profile, folder: Path) -> str | None:
    """Return what is wrong with a profile's oracle; None if its file is what it was.

    A relative path is looked for from here and from the configuration. Python is not run for this.
    """
    given = Path(profile.oracle_path)
    path = next((it for it in (given, folder / given) if it.is_file()), None)
    if path is None:
        return f"its oracle {given} is not there"
    try:
        if path.suffix == ".py":
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            digest = load_oracle(path).header.sha256
    except (OSError, OracleError) as error:
        return f"its oracle cannot be read: {error}"
    if digest != profile.oracle_sha256:
        return f"its oracle {path} has changed since"
    return None if _is_tracked(path) else f"its oracle {path} is not under version control"


def _is_tracked(path: Path) -> bool:
    """Return whether git knows a file; True where there is no git or no repository to ask."""
    command = ["git", "-C", str(path.resolve().parent), "ls-files", "--error-unmatch", path.name]
    try:
        done = subprocess.run(command, capture_output=True, timeout=GIT_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return True
    # 1: a repository that does not know the file. 128: no repository.
    return done.returncode != 1


def _show(items: Sequence[Item], wrong: int) -> None:
    out = console()
    for item in items:
        mark, colour = ("met", "green") if item.met else ("open", "red")
        line = text(f"{mark:>4}  ", colour)
        line.append_text(text(item.title, "bold"))
        out.print(line, soft_wrap=True)
        out.print(text(f"      {item.detail}"), soft_wrap=True)
        if item.mend:
            out.print(text(f"      → {item.mend}", "green"), soft_wrap=True)
    out.print()
    if wrong:
        out.print(text(f"{wrong} of {len(items)} are not met.", "bold red"))
    else:
        out.print(text("Everything is met.", "bold green"))
