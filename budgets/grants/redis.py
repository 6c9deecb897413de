"""Grants in Redis: a part of `RedisLedger`."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from budgets import redis_codec as codec
from budgets.errors import ClockSkew
from budgets.grants.codec import grant_from, record_text
from budgets.grants.types import Grant, Granted, GrantRefused, NewGrant, check_grant


class RedisGrants:
    """The operations on grants, over the scripts of the ledger that they are a part of."""

    @abstractmethod
    async def _run_with_policy(self, script: str, *args: str | int) -> Any:
        """Run a script that needs the published limits."""

    @abstractmethod
    async def _read_hash(self, key: str) -> dict[str, str]:
        """Read a hash of the ledger."""

    async def grant(self, new: NewGrant) -> Granted | GrantRefused:
        check_grant(new)
        parts = [
            value for it in new.parts for value in (it.budget, it.rule, str(it.amount_nano_usd))
        ]
        period = new.period
        reply = await self._run_with_policy(
            "grant",
            new.stored_id,
            new.kind.value,
            new.actor,
            new.until_ms,
            record_text(new),
            period.id,
            period.start_ms,
            period.end_ms,
            *parts,
        )
        match reply[0]:
            case "clock":
                raise ClockSkew(int(reply[1]))
            case "refused":
                _, code, budget, available = reply
                return GrantRefused(code, budget, int(available))
        return Granted(new.stored_id, int(reply[1]), codec.budget_states(reply[2]))

    async def grants(self, period_id: str) -> tuple[Grant, ...]:
        records = await self._read_hash(f"grants:{period_id}")
        found = [grant_from(text) for text in records.values()]
        return tuple(sorted(found, key=lambda it: (it.time_ms, it.id)))
