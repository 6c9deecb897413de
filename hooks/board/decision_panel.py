"""The panel of decisions: the newest requests, why each went where it went, and what it cost."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from budgets import packed
from budgets.records import LedgerEntry, LedgerEvent
from budgets.redis_codec import stream_entry, stream_event
from budgets.redis_scripts import redis_errors
from hooks import explained
from hooks.board.sources import Sources

SHOWN = 30
"""How many requests are shown, and how many lines of each stream are read."""
DECISION_ID_LENGTH_MAX = 80


@dataclass(frozen=True, slots=True)
class Row:
    """One request: an entry of the ledger, or a refusal.

    `outcome` is a word: `sent`, `refused`, `failed`, `withheld`, `unreconciled`, … `why` says why
    it got its category, and is empty where the decision is not kept any more.
    """

    id: str
    time_ms: int
    outcome: str
    is_good: bool
    code: str
    body: Mapping[str, Any]
    cost_nano_usd: int | None
    decision: Mapping[str, Any]
    why: str

    @property
    def decision_id(self) -> str:
        """The decision's id; empty where it has none."""
        return str(self.body.get("decision_id") or "")

    @property
    def served(self) -> str:
        """The group that served, or the one that was decided on."""
        return str(self.body.get("serving_group") or self.body.get("group") or "")

    @property
    def fell_back(self) -> bool:
        """Whether another group served than the one that was decided on."""
        serving = self.body.get("serving_group")
        return bool(serving) and serving != self.body.get("group")

    @property
    def marks(self) -> list[str]:
        """What is special about it."""
        return explained.names(self.body.get("marks"))

    @property
    def error(self) -> float | None:
        """The estimate's error, as a part of the actual cost."""
        found = self.body.get("estimate_error")
        return found if isinstance(found, int | float) else None

    def field(self, name: str) -> str:
        """Return a field of the body as text."""
        found = self.body.get(name)
        return "" if found is None else str(found)


@dataclass(frozen=True, slots=True)
class DecisionsFacts:
    """The newest requests, the newest first."""

    rows: tuple[Row, ...]


class DecisionReader:
    """Reads the ends of two streams, and the decisions of what it has not seen before."""

    def __init__(self, sources: Sources) -> None:
        self._client: Any = cast(Any, sources.client)
        self._prefix = f"farebox:{{{sources.home.ledger}}}:"
        self._known: dict[str, Row] = {}

    async def read(self) -> DecisionsFacts:
        """Return the newest requests."""
        pipe = self._client.pipeline(transaction=False)
        pipe.xrevrange(f"{self._prefix}entries", count=SHOWN)
        pipe.xrevrange(f"{self._prefix}refusals", count=SHOWN)
        with redis_errors():
            entries, refusals = await pipe.execute()
        found: list[tuple[str, LedgerEntry | LedgerEvent]] = [
            *((f"e{it[0]}", stream_entry(*it)) for it in entries),
            *((f"r{it[0]}", stream_event(*it)) for it in refusals),
        ]
        found = sorted(found, key=lambda it: (it[1].time_ms, it[0]), reverse=True)[:SHOWN]
        new = [(name, line, _object(line.body)) for name, line in found if name not in self._known]
        decisions = await self._decisions([body.get("decision_id") for _, _, body in new])
        known = {
            name: _row(name, line, body, decision)
            for (name, line, body), decision in zip(new, decisions, strict=True)
        }
        self._known = {name: known.get(name) or self._known[name] for name, _ in found}
        return DecisionsFacts(tuple(self._known.values()))

    async def _decisions(self, ids: Sequence[object]) -> list[Mapping[str, Any]]:
        texts = await packed.decisions(self._client, self._prefix, [str(it) for it in ids])
        return [_object(text or "") for text in texts]


def _row(
    name: str, line: LedgerEntry | LedgerEvent, body: Mapping[str, Any], decision: Mapping[str, Any]
) -> Row:
    if isinstance(line, LedgerEvent):
        outcome, is_good, cost, code = "refused", False, None, line.kind
    else:
        status, cost, code = str(body.get("status") or ""), line.cost_nano_usd, ""
        if line.kind in ("unreconciled", "corrected", "recovered"):
            outcome, is_good = line.kind, line.kind != "unreconciled"
        elif status == "ok":
            outcome, is_good = "sent", True
        else:
            outcome, is_good = status or line.kind, False
            code = str(body.get("error") or "")
    return Row(
        name, line.time_ms, outcome, is_good, code, body, cost, decision, explained.why(decision)
    )


def _object(text: str) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


# ── one decision ─────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Option:
    """A candidate: what became of it, what it would cost, and why it was dropped."""

    group: str
    verdict: str
    estimate_nano_usd: int | None
    hold_nano_usd: int | None
    reasons: Sequence[str]


@dataclass(frozen=True, slots=True)
class Explanation:
    """A decision in words: a sentence, the steps to it, the candidates, the warnings."""

    id: str
    sentence: str
    steps: Sequence[tuple[str, str]]
    options: Sequence[Option]
    warnings: Sequence[str]


async def explanation(sources: Sources, decision_id: str) -> Explanation | None:
    """Return one decision in words; None where it is not kept, or never was."""
    if len(decision_id) > DECISION_ID_LENGTH_MAX:
        return None
    text = await sources.ledger.decision(decision_id)
    decision = _object(text or "")
    if not decision:
        return None
    return Explanation(
        decision_id,
        explained.sentence(decision),
        tuple(explained.steps(decision)),
        tuple(_option(it, decision.get("group")) for it in explained.candidates(decision)),
        explained.names(decision.get("warnings")),
    )


def _option(candidate: Mapping[str, Any], winner: object) -> Option:
    costs = candidate.get("cost")
    costs = costs if isinstance(costs, Mapping) else {}
    is_kept = bool(candidate.get("kept"))
    verdict = "wins" if candidate.get("group") == winner else "kept" if is_kept else "dropped"
    return Option(
        str(candidate.get("group")),
        verdict,
        _whole(costs.get("estimate_nano_usd")),
        _whole(costs.get("hold_nano_usd")),
        explained.reasons(candidate),
    )


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) else None
