"""What the watch remembers in Redis, beside its findings (`findings`).

- `series`: a hash, a series' id → its state; never more than `SERIES_MAX`;
- `counts`: a hash, `series` → how many there are;
- `accepted`: a hash, the id of a finding that a person accepted → who and when, until the job has
  begun the series anew;
- `cursor`: the id of the last entry that was taken in.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from budgets.connection import AsyncClient
from budgets.drift.findings import Finding, key
from budgets.drift.state import State
from budgets.redis_scripts import redis_errors, run_script

SERIES_MAX = 2_000
"""How many series are watched. Keys are people's words: there could be any number."""


@dataclass(slots=True)
class Changes:
    """What a look gave. `scores` has None for a series that has no statistic yet."""

    series: dict[str, State] = field(default_factory=dict)
    scores: dict[str, float | None] = field(default_factory=dict)
    findings: dict[str, tuple[Finding, str]] = field(default_factory=dict)
    """With the body of the alert to raise, empty for none."""
    over: list[str] = field(default_factory=list)
    forget: list[str] = field(default_factory=list)
    accepted: dict[str, str] = field(default_factory=dict)


class DriftStore:
    """The state of one ledger's watch."""

    def __init__(self, client: AsyncClient, ledger: str) -> None:
        self._client = client
        self._ledger = ledger
        self._prefix = f"farebox:{{{ledger}}}:"

    async def _ask(self, reply: Any) -> Any:
        with redis_errors():
            return await cast("Awaitable[Any]", reply)

    def _key(self, part: str) -> str:
        return key(self._ledger, part)

    async def cursor(self) -> str:
        """Return the last entry that was taken in; empty for none."""
        return await self._ask(self._client.get(self._key("cursor"))) or ""

    async def accepted(self) -> Mapping[str, str]:
        """Return what people accepted since the last look."""
        found: Mapping[str, str] = await self._ask(self._client.hgetall(self._key("accepted")))
        return found

    async def states(self, ids: Sequence[str]) -> dict[str, State | None]:
        """Return the states of series, None where there is none."""
        if not ids:
            return {}
        rows = await self._ask(self._client.hmget(self._key("series"), list(ids)))
        return {
            name: None if row is None else State.from_json(row)
            for name, row in zip(ids, rows, strict=True)
        }

    async def found(self, ids: Sequence[str]) -> dict[str, Finding | None]:
        """Return the findings that stand, of some ids."""
        if not ids:
            return {}
        rows = await self._ask(self._client.hmget(self._key("findings"), list(ids)))
        return {
            name: None if row is None else Finding.from_json(row)
            for name, row in zip(ids, rows, strict=True)
        }

    async def count(self) -> int:
        """Return how many series there are."""
        return int(await self._ask(self._client.hget(self._key("counts"), "series")) or 0)

    async def stale(self, before_ms: int) -> list[str]:
        """Return the series that no entry was of since a time."""
        rows: Mapping[str, str] = await self._ask(self._client.hgetall(self._key("series")))
        return [name for name, row in rows.items() if State.from_json(row).seen_ms < before_ms]

    async def keep(self, before: str, after: str, changes: Changes) -> bool:
        """Keep what a look gave; False, and nothing kept, where the cursor is not `before`."""
        accepted = [part for row in changes.accepted.items() for part in row]
        args: list[str | int] = [before, after, len(changes.accepted), *accepted]
        args.append(len(changes.series))
        for name, state in changes.series.items():
            score = changes.scores.get(name)
            args += [name, state.to_json(), "" if score is None else f"{score:.6g}"]
        args.append(len(changes.findings))
        for name, (finding, body) in changes.findings.items():
            args += [name, finding.to_json(), finding.signal, body]
        args += [len(changes.over), *changes.over, len(changes.forget), *changes.forget]
        return bool(await run_script(self._client, "drift_keep", self._prefix, 0, *args))

    async def accept(self, finding_id: str, who: str) -> Finding | None:
        """Take a finding for the new normal; None where there is no such finding."""
        text = await run_script(self._client, "drift_accept", self._prefix, 0, finding_id, who)
        return Finding.from_json(text) if text else None
