"""Sessions in memory: the model that the store in Redis is compared with, for tests."""

from __future__ import annotations

from collections.abc import Callable

from budgets.sessions.types import Bounds, SessionId, SessionState


class MemorySessions:
    """A `SessionBook` in this process; `clock_ms` is Unix ms."""

    def __init__(self, clock_ms: Callable[[], int]) -> None:
        self._clock_ms = clock_ms
        self._kept: dict[str, dict[str, tuple[int, SessionState]]] = {}

    async def read(self, session: SessionId) -> SessionState | None:
        return self._state(session)

    def _state(self, session: SessionId) -> SessionState | None:
        ends_ms, state = self._kept.get(session.owner, {}).get(session.session, (0, None))
        return state if ends_ms > self._clock_ms() else None

    async def note(self, session: SessionId, state: SessionState, bounds: Bounds) -> None:
        known = self._state(session)
        if known is not None and known.rank > state.rank:
            state = known
        kept = self._kept.setdefault(session.owner, {})
        kept[session.session] = (self._clock_ms() + bounds.expires_ms, state)
        for name in [it for it, (ends_ms, _) in kept.items() if ends_ms <= self._clock_ms()]:
            del kept[name]
        while len(kept) > bounds.per_key_max:
            del kept[min(kept, key=lambda it: (kept[it][0], it))]
