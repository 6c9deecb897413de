"""`farebox ledger audit`: read the audit trail; and its proof, for `farebox ledger verify`."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from budgets.audit import anchor
from budgets.audit.anchor import Anchor
from budgets.audit.proof import TrailProof, prove
from budgets.audit.trail import TrailLine
from budgets.config import BudgetsFile
from budgets.home import Home
from scripts.cli.context import OpenLedger, budgets_of, home_of, open_ledger, zone_of
from scripts.cli.errors import command
from scripts.cli.options import AsJson, Config
from scripts.cli.output import (
    console,
    cost,
    dollars,
    notes,
    table,
    text,
    time_iso,
    time_text,
    write_json,
)

DETAIL_SHOWN = 120


@dataclass(frozen=True, slots=True)
class AuditProof:
    """The proof of the trail, and what kept an anchor's file from being read."""

    proof: TrailProof
    unread: tuple[str, ...]

    @property
    def agrees(self) -> bool:
        """Whether the chain holds."""
        return not self.proof.problems

    def as_dict(self) -> dict[str, Any]:
        """Return what JSON shows of it."""
        return {
            "lines": self.proof.lines,
            "head": {"seq": self.proof.head.seq, "digest": self.proof.head.digest or None},
            "anchors": self.proof.anchors,
            "anchors_not_read": list(self.unread),
            "problems": [
                {"kind": it.kind, "line": it.seq, "message": it.message}
                for it in self.proof.problems
            ],
        }


async def prove_trail(opened: OpenLedger) -> AuditProof:
    """Prove the trail against itself and every anchor that is known here."""
    home, unread = opened.home, list[str]()
    budgets = budgets_of(home)
    folders = [home.audit]
    if isinstance(budgets, BudgetsFile):
        folders += budgets.audit.folders(home.budgets)
    anchors: list[Anchor] = []
    for folder in folders:
        path = anchor.file_in(folder, home.ledger)
        try:
            found, broken = await asyncio.to_thread(anchor.read, path)
        except OSError as error:
            unread.append(f"{path}: {error.strerror}")
            continue
        anchors += found
        if broken:
            unread.append(f"{path}: {broken} lines are no anchors")
    return AuditProof(await prove(opened.ledger.trail, anchors), tuple(unread))


def show_proof(found: AuditProof) -> None:
    """Print what the proof of the trail found."""
    for it in found.unread:
        notes().print(text(f"Anchors not read: {it}.", "yellow"), soft_wrap=True)
    for problem in found.proof.problems:
        said = f"The audit trail is broken: {problem.message}."
        console().print(text(said, "bold red"), soft_wrap=True)
    if found.agrees and found.proof.lines:
        proof = found.proof
        anchors = f"{proof.anchors:,} anchors" if proof.anchors else "no anchor yet"
        console().print(text(f"The audit trail's {proof.lines:,} lines are one chain ({anchors})."))


@command
def audit(
    count: Annotated[
        int, typer.Option("--lines", "-n", min=1, max=100_000, help="How many of the newest.")
    ] = 20,
    action: Annotated[
        str | None, typer.Option(help="Only this action, such as grant or policy_edit.")
    ] = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Show the audit trail: grants, approvals, edits of the policy, keys, closed periods, repairs.

    Each line has the digest of the one before it; `farebox ledger verify` proves the chain.

    Example: farebox ledger audit -n 50 --action grant
    """
    home = home_of(config)
    lines = asyncio.run(_read(home, count, action))
    if as_json:
        shown = [{**it.as_dict(), "time": time_iso(it.time_ms)} for it in lines]
        write_json({"lines": shown})
        return
    if not lines:
        console().print(text("The audit trail has no such line yet."))
        return
    zone = zone_of(home)
    made = table("Line", "Time", "Who", "What", "Detail", right=["Line"])
    for it in lines:
        made.add_row(
            f"{it.seq:,}",
            text(time_text(it.time_ms, zone)),
            text(it.actor),
            text(it.action),
            text(_detail(it)[:DETAIL_SHOWN]),
        )
    console().print(made)


async def _read(home: Home, count: int, action: str | None) -> list[TrailLine]:
    newest: deque[TrailLine] = deque(maxlen=count)
    async with open_ledger(home) as opened:
        trail = opened.ledger.trail
        # The numbers have no gaps: without a filter only the end is read.
        after = max(0, (await trail.head()).seq - count) if action is None else 0
        async for line in trail.lines(after):
            if action is None or line.action == action:
                newest.append(line)
    return list(newest)


def _detail(line: TrailLine) -> str:
    """Return a line's detail in words."""
    detail = line.as_dict()["detail"]
    if not isinstance(detail, dict):
        return str(detail)
    match line.action:
        case "grant" | "transfer":
            names = " to ".join(str(part["budget"]) for part in detail["parts"])
            amount = dollars(int(detail["parts"][-1]["amount_nano_usd"]))
            return f"{names}: {amount} ({detail['reason']})"
        case "policy_edit":
            return f"{detail['to']}: {', '.join(detail['changed'])}"
        case "approval_asked":
            names = ", ".join(str(budget) for budget, _ in detail["budgets"])
            return f"{detail['approval_id']}: {cost(detail['requested_nano_usd'])} of {names}"
        case "approval_first" | "approval_approved" | "approval_denied":
            terms = detail.get("terms")
            allowed = f"{cost(terms['amount_nano_usd'])}, " if terms else ""
            return f"{detail['approval_id']}: {allowed}{detail['reason']}"
    return ", ".join(f"{name} {_value(value)}" for name, value in detail.items() if value)


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{name}={one}" for name, one in value.items() if one is not None)
    if isinstance(value, list):
        return " ".join(_value(one) for one in value)
    return str(value)
