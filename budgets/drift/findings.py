"""What the watch over the ledger has found: what every reader of it goes by, and where it stands.

A finding is a series of the ledger that is out of control: it stays until the series is back in
control or a person has accepted the change. Keys of one ledger (`farebox:{name}:drift:…`):

- `findings`: a hash, a finding's id → its JSON;
- `scores`: a hash, `SIGNAL|TASK_TYPE` → the largest statistic over limit of its series, from 1 on
  out of control. The task type is empty for what is not watched by task type.

Both are rewritten by the one job that watches (`budgets.drift.job`) and are no money.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, cast
from urllib.parse import quote

from budgets.connection import AsyncClient
from budgets.redis_scripts import redis_errors

SIGNALS: tuple[str, ...] = (
    "served_model_differs",
    "escalation_rate",
    "fallback_rate",
    "input_length",
    "score_distribution",
    "output_length",
    "model_changed",
    "latency_missed",
    "estimate_error",
    "tier_mismatch",
    "frontier_by_name",
    "untagged_share",
)
"""Every signal that is watched."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A series that is out of control since `since_ms`, as seen last at `seen_ms` (Unix ms).

    `task_type`, `model` and `key_name` say what the series is about, None where it is about all.
    `statistic` reached `limit`; `expected` and `observed` are in the signal's own unit (a rate, a
    mean in tokens, a stability index), None where that says nothing; `count` are the entries
    since the series was last in control, by which it was judged. `text` is one sentence for people.
    """

    signal: str
    task_type: str | None
    model: str | None
    key_name: str | None
    since_ms: int
    seen_ms: int
    statistic: float
    limit: float
    expected: float | None
    observed: float | None
    count: int
    text: str

    @property
    def id(self) -> str:
        """Its name for commands and keys, such as `escalation_rate/rag_answer`."""
        return series_id(self.signal, self.task_type, self.model, self.key_name)

    def to_json(self) -> str:
        """Return it as it is stored."""
        return json.dumps(asdict(self), separators=(",", ":"), ensure_ascii=False)

    @staticmethod
    def from_json(text: str) -> Finding | None:
        """Read what `to_json` wrote; None for what a later release wrote otherwise."""
        try:
            given: dict[str, Any] = json.loads(text)
            return Finding(**{it.name: given[it.name] for it in fields(Finding)})
        except (ValueError, TypeError, KeyError):
            return None


def series_id(
    signal: str, task_type: str | None = None, model: str | None = None, key_name: str | None = None
) -> str:
    """Return the name of a series: its parts with `/` between, `-` for one that is not given."""
    parts = [signal, *("-" if it is None else quote(it, safe="") for it in (task_type, model))]
    parts.append("-" if key_name is None else quote(key_name, safe=""))
    while parts[-1] == "-":
        parts.pop()
    return "/".join(parts)


def key(ledger: str, part: str) -> str:
    """Return the key of a part of what is known of a ledger's drift."""
    return f"farebox:{{{ledger}}}:drift:{part}"


async def read(client: AsyncClient, ledger: str) -> tuple[Finding, ...]:
    """Return what is out of control now, the newest first; `ledger` is the ledger's name.

    Raises:
        LedgerUnavailable: the store did not answer.
    """
    with redis_errors():
        rows = await cast(Awaitable[dict[str, str]], client.hgetall(key(ledger, "findings")))
    found = [it for it in map(Finding.from_json, rows.values()) if it is not None]
    return tuple(sorted(found, key=lambda it: (-it.since_ms, it.id)))


async def scores(client: AsyncClient, ledger: str) -> Mapping[tuple[str, str], float]:
    """Return statistic over limit of what is watched, by signal and task type (empty: all).

    It is below 1 in control and absent while a baseline is gathered.

    Raises:
        LedgerUnavailable: the store did not answer.
    """
    with redis_errors():
        rows = await cast(Awaitable[dict[str, str]], client.hgetall(key(ledger, "scores")))
    found: dict[tuple[str, str], float] = {}
    for name, value in rows.items():
        signal, _, task_type = name.partition("|")
        found[signal, task_type] = float(value)
    return found
