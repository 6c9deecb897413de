"""The snapshot of a closed month: what the books said at the closing, with a digest. Pure.

It has the statement, the running totals and the settings that a report needs, so that a later edit
of `budgets.yaml` changes nothing about a past month. What happens to the month afterwards stands in
addenda. The digest is the SHA-256 of the snapshot's JSON without it, keys sorted, no spaces, ASCII:

    jq -cSa 'del(.digest)' 2026-10.json | tr -d '\\n' | sha256sum

Amounts are whole nanodollars, times Unix milliseconds.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from budgets.statements import Statement, StatementRow


class SnapshotDamaged(Exception):
    """A snapshot is not what was written: `where` it stands and the `problem`."""

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(f"{where}: {problem}")
        self.where = where
        self.problem = problem


class _Model(BaseModel):
    # Fields that a newer release added belong to the digest, so they are kept.
    model_config = ConfigDict(frozen=True, extra="allow")


class SnapshotRow(_Model):
    """One budget, as in `StatementRow`."""

    budget: str
    rule: str
    limit_nano_usd: int
    carry_nano_usd: int
    spent_nano_usd: int
    held_nano_usd: int
    holds: int
    unreconciled_nano_usd: int
    carried_nano_usd: int | None
    granted_nano_usd: int = 0


class Snapshot(_Model):
    """A closed month. `totals` are the running totals by name (`budgets.totals`), `closed_by` the
    person or the worker that closed it, `policy` the revision of the three files."""

    format: Literal[1] = 1
    ledger: str
    period_id: str
    start_ms: int
    end_ms: int
    following_id: str
    closed_ms: int
    closed_by: str
    time_zone: str
    policy: str
    baseline_nano_usd: int | None
    budgets: tuple[SnapshotRow, ...]
    totals: dict[str, int]
    digest: str = ""

    def statement(self) -> Statement:
        """Return the statement in it."""
        rows = tuple(
            StatementRow(**{name: getattr(row, name) for name in SnapshotRow.model_fields})
            for row in self.budgets
        )
        span = (self.period_id, self.start_ms, self.end_ms, self.following_id)
        return Statement(*span, self.closed_ms, rows)

    def to_json(self) -> str:
        """Return the text that is kept, with the digest."""
        content = self.model_dump(mode="json", exclude={"digest"})
        return json.dumps({**content, "digest": digest_of(content)}, indent=1, sort_keys=True)


def snapshot_of(
    statement: Statement,
    totals: dict[str, int],
    *,
    ledger: str,
    zone: str,
    policy: str,
    baseline_nano_usd: int | None,
    closed_by: str,
) -> Snapshot:
    """Return the snapshot of a closed month."""
    return Snapshot(
        ledger=ledger,
        period_id=statement.period_id,
        start_ms=statement.start_ms,
        end_ms=statement.end_ms,
        following_id=statement.following_id,
        closed_ms=statement.time_ms,
        closed_by=closed_by,
        time_zone=zone,
        policy=policy,
        baseline_nano_usd=baseline_nano_usd,
        budgets=tuple(SnapshotRow(**asdict(row)) for row in statement.rows),
        totals=totals,
    )


def digest_of(content: dict[str, Any]) -> str:
    """Return the SHA-256 (hex) of a snapshot's content, which has no digest in it."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def read_snapshot(text: str | bytes, where: str) -> Snapshot:
    """Return the snapshot that a text holds; raises `SnapshotDamaged` where its digest says no."""
    try:
        content = json.loads(text)
        said = content.pop("digest")
    except (ValueError, KeyError, AttributeError, TypeError):
        raise SnapshotDamaged(where, "it is no snapshot of a month") from None
    if digest_of(content) != said:
        raise SnapshotDamaged(where, "its digest is not that of what it says: it was changed")
    try:
        return Snapshot.model_validate({**content, "digest": said})
    except ValidationError:
        raise SnapshotDamaged(where, "it is no snapshot that this release can read") from None
