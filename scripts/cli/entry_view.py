"""A ledger entry as people and spreadsheets read it: flat, named fields, never a word of a prompt.

Fields are picked by name, so that whatever else an entry's body may come to hold stays out of a
table or an export until somebody lists it here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from budgets.jsontext import loads
from budgets.prices import TokenUsage
from budgets.records import LedgerEntry, LedgerEvent
from scripts.cli.output import amount, time_iso

TEXT_FIELDS = (
    "status",
    "category",
    "task_type",
    "tier",
    "consequence",
    "call_type",
    "requested_model",
    "group",
    "serving_group",
    "serving_model",
    "provider",
    "key_name",
    "team",
    "user",
    "session",
    "mode",
    "decision_id",
)
TOKEN_FIELDS = {
    "input_tokens": "input",
    "output_tokens": "output",
    "cache_read_tokens": "cached_read",
    "cache_write_tokens": "cache_write",
    "reasoning_tokens": "reasoning",
}
"""An export's names of the token counts, and those of an entry's body. Input is without the tokens
that a cache gave or took; output includes the reasoning ones."""


@dataclass(frozen=True, slots=True)
class EntryView:
    """An entry with its body parsed; a body that is no JSON object counts as empty."""

    entry: LedgerEntry
    body: Mapping[str, Any]

    @property
    def decision_id(self) -> str | None:
        """The id of the decision behind it."""
        found = self.body.get("decision_id")
        return found if isinstance(found, str) else None

    def number(self, name: str) -> int | None:
        """Return a whole number of the body."""
        found = self.body.get(name)
        return found if isinstance(found, int) and not isinstance(found, bool) else None

    def tokens(self, name: str) -> int | None:
        """Return a count of tokens, by its name in an export."""
        counted = self.body.get("tokens")
        found = counted.get(TOKEN_FIELDS[name]) if isinstance(counted, Mapping) else None
        return found if isinstance(found, int) and not isinstance(found, bool) else None

    @property
    def usage(self) -> TokenUsage | None:
        """Return the tokens as a price takes them; None where they are not known."""
        counts = {name: self.tokens(name) for name in TOKEN_FIELDS}
        if counts["input_tokens"] is None or counts["output_tokens"] is None:
            return None
        read, write = counts["cache_read_tokens"] or 0, counts["cache_write_tokens"] or 0
        return TokenUsage(
            input_tokens=counts["input_tokens"] + read + write,
            output_tokens=counts["output_tokens"],
            cache_read_tokens=read,
            cache_write_tokens=write,
            reasoning_tokens=counts["reasoning_tokens"] or 0,
        )

    @property
    def marks(self) -> tuple[str, ...]:
        """What is special about it, such as `estimated` or `simulated`."""
        found = self.body.get("marks")
        return tuple(str(mark) for mark in found) if isinstance(found, list) else ()

    @property
    def charged_nano_usd(self) -> int:
        """What this line added to the books: for a correction the difference, else its cost.

        Budgets can be charged different shares; the largest is the request's.
        """
        if self.entry.kind != "corrected":
            return self.entry.cost_nano_usd
        return max(self.entry.charges.values(), key=abs, default=0)

    def gated(self) -> dict[str, Any]:
        """Return what is known of its gate and its sends; nothing for a request with one answer."""
        found = {
            name: self.body[name] for name in ("gate", "cascade", "shadow_of") if name in self.body
        }
        return found | {"sends": self.body.get("attempts")} if found else {}

    def routed(self) -> dict[str, Any]:
        """Return who named the task type, and which model the serving group sends to."""
        return {it: self.body[it] for it in ("task_source", "sent_model") if self.body.get(it)}

    def as_dict(self) -> dict[str, Any]:
        """Return the fields of an export, in order."""
        entry, attempts = self.entry, self.body.get("attempts")
        tags = self.body.get("tags")
        return {
            "id": entry.id,
            "time": time_iso(entry.time_ms),
            "time_ms": entry.time_ms,
            "kind": entry.kind,
            "hold_id": entry.hold_id,
            **{name: _text(self.body.get(name)) for name in TEXT_FIELDS},
            **{name: self.tokens(name) for name in TOKEN_FIELDS},
            "input_counted": self.number("input_counted"),
            "input_extra": self.number("input_extra"),
            **amount("estimate", self.number("estimate_nano_usd")),
            **amount("hold", entry.held_nano_usd),
            **amount("actual", entry.cost_nano_usd),
            **amount("charged", self.charged_nano_usd),
            "estimate_error": self.body.get("estimate_error"),
            "attempts": len(attempts) if isinstance(attempts, list) else None,
            "latency_ms": self.number("latency_ms"),
            "tags": [str(tag) for tag in tags] if isinstance(tags, list) else [],
            "marks": list(self.marks),
            "approval": _text(self.body.get("approval")),
            "charges": [
                {"budget": budget, "period_id": period_id, **amount("charged", charged)}
                for (budget, period_id), charged in sorted(entry.charges.items())
            ],
        }


def view(entry: LedgerEntry) -> EntryView:
    """Return an entry with its body parsed."""
    return EntryView(entry, _object(entry.body))


def _object(body: str) -> Mapping[str, Any]:
    try:
        found = loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _text(value: object) -> str | None:
    if isinstance(value, str):
        return value
    return None if value is None or isinstance(value, dict | list) else str(value)


REFUSAL_FIELDS = (
    "category", "task_type", "requested_model", "group", "key_name", "team", "user", "session",
    "mode", "decision_id",
)  # fmt: skip


def refusal_as_dict(refusal: LedgerEvent) -> dict[str, Any]:
    """Return a refusal's fields, with the same names as an entry's."""
    body = _object(refusal.body)
    return {
        "id": refusal.id,
        "time": time_iso(refusal.time_ms),
        "time_ms": refusal.time_ms,
        "kind": "refused",
        "code": refusal.kind,
        **{name: _text(body.get(name)) for name in REFUSAL_FIELDS},
    }
