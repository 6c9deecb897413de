"""The audit trail in Redis: a stream whose line ids are the lines' own numbers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Mapping
from typing import Any, cast

from budgets.audit.trail import Head, TrailLine, actor_text, detail_text
from budgets.redis_scripts import RedisClient, redis_errors, run_script

PAGE_LINES = 500


class RedisTrail:
    """A `Trail` in Redis; `prefix` is the ledger's. The offset moves the clock, for tests."""

    def __init__(self, client: RedisClient, prefix: str, clock_offset_ms: int = 0) -> None:
        self._client = client
        self._prefix = prefix
        self.clock_offset_ms = clock_offset_ms

    async def append(
        self,
        actor: str,
        action: str,
        detail: Mapping[str, Any],
        *,
        mark: tuple[str, str] | None = None,
    ) -> Head | None:
        name, value = mark or ("", "")
        reply = await run_script(
            self._client,
            "trail_append",
            self._prefix,
            self.clock_offset_ms,
            actor_text(actor),
            action,
            detail_text(detail),
            name,
            value,
        )
        return Head(int(reply[0]), reply[1]) if reply else None

    async def head(self) -> Head:
        with redis_errors():
            reply = self._client.hmget(f"{self._prefix}trail_head", ["seq", "digest"])
            seq, digest = await cast("Awaitable[list[str | None]]", reply)
        return Head(int(seq or 0), digest or "")

    async def mark(self, name: str) -> str | None:
        with redis_errors():
            reply = self._client.hget(f"{self._prefix}trail_marks", name)
            return await cast("Awaitable[str | None]", reply)

    async def lines(self, after: int = 0) -> AsyncIterator[TrailLine]:
        while True:
            with redis_errors():
                reply = self._client.xrange(
                    f"{self._prefix}trail", f"{after + 1}-0", "+", count=PAGE_LINES
                )
                page = await cast("Awaitable[list[tuple[str, dict[str, str]]]]", reply)
            for line_id, fields in page:
                yield _line(line_id, fields)
            if len(page) < PAGE_LINES:
                return
            after = int(page[-1][0].partition("-")[0])


def _line(line_id: str, fields: Mapping[str, str]) -> TrailLine:
    """Return a stored line. Whatever was done to it must show in the proof and not fail here."""
    time = fields.get("time", "")
    return TrailLine(
        seq=int(line_id.partition("-")[0]),
        time_ms=int(time) if time.isdecimal() else -1,
        actor=fields.get("actor", ""),
        action=fields.get("action", ""),
        detail=fields.get("detail", ""),
        prev=fields.get("prev", ""),
        digest=fields.get("digest", ""),
    )
