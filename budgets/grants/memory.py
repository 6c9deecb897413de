"""Grants in the in-memory ledger: see `memory`."""

from __future__ import annotations

from budgets.errors import ClockSkew
from budgets.grants.codec import record_of
from budgets.grants.types import (
    GRANTS_PER_COUNTER_MAX,
    Grant,
    Granted,
    GrantRefused,
    NewGrant,
    check_grant,
    lasting,
)
from budgets.memory_books import Books
from budgets.memory_records import Counter


class GrantBooks(Books):
    """What can be granted."""

    async def grant(self, new: NewGrant) -> Granted | GrantRefused:
        check_grant(new)
        now, period = self._clock(), new.period
        states = [self._state(it.budget, it.rule, period.id) for it in new.parts]
        records = self._grants.setdefault(period.id, {})
        if new.stored_id in records:
            return Granted(new.stored_id, now, tuple(states))
        if not period.contains(now):
            raise ClockSkew(now)
        if new.until_ms <= now:
            return GrantRefused("over", new.parts[0].budget)
        for part, state in zip(new.parts, states, strict=True):
            counter = self._counters.get((part.budget, period.id)) or Counter(part.rule)
            if len(counter.grants) >= GRANTS_PER_COUNTER_MAX:
                return GrantRefused("too_many", part.budget)
            least = state.limit_nano_usd + state.carry_nano_usd - state.spent_nano_usd
            least += lasting(counter.grants, now, new.until_ms) - state.held_nano_usd
            if part.amount_nano_usd < 0 and least + part.amount_nano_usd < 0:
                return GrantRefused("insufficient", part.budget, max(0, least))
        for part, state in zip(new.parts, states, strict=True):
            entry = (new.stored_id, part.amount_nano_usd, new.until_ms)
            self._counter(state).grants.append(entry)
        records[new.stored_id] = Grant(
            id=new.stored_id,
            kind=new.kind,
            period_id=period.id,
            parts=new.parts,
            until_ms=new.until_ms,
            actor=new.actor,
            reason=new.reason,
            approver=new.approver,
            time_ms=now,
        )
        record = {"time_ms": now, **record_of(new)}
        self.trail.add(new.actor, new.kind.value, record)
        self._event("granted", now, **record)
        after = tuple(self._state(it.budget, it.rule, period.id) for it in new.parts)
        return Granted(new.stored_id, now, after)

    async def grants(self, period_id: str) -> tuple[Grant, ...]:
        found = self._grants.get(period_id, {}).values()
        return tuple(sorted(found, key=lambda it: (it.time_ms, it.id)))
