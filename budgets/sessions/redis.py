"""Sessions in Redis: two keys for each API key, a hash of states and a set of when they end."""

from __future__ import annotations

from typing import Any

from budgets.redis_scripts import RedisClient, run_script
from budgets.sessions.types import Bounds, SessionId, SessionState


class RedisSessions:
    """A `SessionBook` in Redis.

    Args:
        client, name: as for `RedisLedger`.
        clock_offset_ms: as for `RedisLedger`; for tests.
    """

    def __init__(
        self, client: RedisClient, name: str = "default", *, clock_offset_ms: int = 0
    ) -> None:
        self.clock_offset_ms = clock_offset_ms
        self._client = client
        self._prefix = f"farebox:{{{name}}}:"

    async def _run(self, script: str, *args: str | int) -> Any:
        return await run_script(self._client, script, self._prefix, self.clock_offset_ms, *args)

    async def read(self, session: SessionId) -> SessionState | None:
        found = await self._run("session_read", session.owner, session.session)
        if not found:
            return None
        rank, category, group = found
        return SessionState(str(category), int(rank), str(group))

    async def note(self, session: SessionId, state: SessionState, bounds: Bounds) -> None:
        await self._run(
            "session_note", session.owner, session.session, state.rank, state.category,
            state.group, bounds.expires_ms, bounds.per_key_max,
        )  # fmt: skip
