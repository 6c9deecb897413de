"""What became of a request: its decision, and the entry or the refusal that it ended with."""

from __future__ import annotations

import json

from budgets.home import Home
from budgets.records import LedgerEvent
from scripts.cli import entry_view
from scripts.cli.context import OpenLedger, open_ledger
from scripts.cli.entry_view import EntryView
from scripts.cli.errors import Problem
from scripts.cli.explain_view import Explained

LINES_SEARCHED_MAX = 20_000


async def stored(home: Home, decision_id: str) -> Explained:
    """Return a decision of the ledger with its end; raises `Problem` for one that is not there."""
    async with open_ledger(home) as opened:
        text_found = await opened.ledger.decision(decision_id)
        if text_found is None:
            raise Problem(
                f"The ledger has no decision {decision_id!r}.",
                "The id is in the header x-farebox-decision; decisions are kept for 35 days.",
                kind="unknown_decision",
            )
        try:
            decision = json.loads(text_found)
        except ValueError:
            decision = None
        if not isinstance(decision, dict):
            raise Problem(f"The decision {decision_id!r} cannot be read.", kind="unreadable")
        decision.setdefault("id", decision_id)
        decision.setdefault("requested", decision.get("requested_model"))
        entry = await _entry(opened, decision_id)
        refusal = None if entry is not None else await _refusal(opened, decision_id)
    if entry is not None:
        return Explained(decision, ending=entry.as_dict())
    if refusal is not None:
        return Explained(decision, refusal=refusal.kind, ending=entry_view.refusal_as_dict(refusal))
    return Explained(decision, refusal=decision.get("code"))


async def _entry(opened: OpenLedger, decision_id: str) -> EntryView | None:
    """Return the newest entry of a decision, looking at a bounded number of lines."""
    looked_at = 0
    async for entry in opened.ledger.entries(newest_first=True):
        if decision_id in entry.body and entry_view.view(entry).decision_id == decision_id:
            return entry_view.view(entry)
        looked_at += 1
        if looked_at >= LINES_SEARCHED_MAX:
            break
    return None


async def _refusal(opened: OpenLedger, decision_id: str) -> LedgerEvent | None:
    looked_at = 0
    async for event in opened.ledger.refusals(newest_first=True):
        if decision_id in event.body:
            return event
        looked_at += 1
        if looked_at >= LINES_SEARCHED_MAX:
            break
    return None
