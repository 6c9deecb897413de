"""The audit trail as a model in memory: the specification that the one in Redis is held to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from budgets.audit.trail import Head, TrailLine, actor_text, detail_text, digest_of


class MemoryTrail:
    """A `Trail` in memory; `clock` returns Unix milliseconds."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._lines: list[TrailLine] = []
        self._marks: dict[str, str] = {}

    def add(self, actor: str, action: str, detail: Mapping[str, Any]) -> Head:
        """Add a line at once, for other models that note what they do."""
        now, text, prev = self._clock(), detail_text(detail), self._head()
        line = (prev.seq + 1, now, actor_text(actor), action, text)
        digest = digest_of(prev.digest, *line)
        self._lines.append(TrailLine(*line, prev.digest, digest))
        return Head(prev.seq + 1, digest)

    async def append(
        self,
        actor: str,
        action: str,
        detail: Mapping[str, Any],
        *,
        mark: tuple[str, str] | None = None,
    ) -> Head | None:
        if mark is not None:
            if self._marks.get(mark[0]) == mark[1]:
                return None
            self._marks[mark[0]] = mark[1]
        return self.add(actor, action, detail)

    def _head(self) -> Head:
        return Head(self._lines[-1].seq, self._lines[-1].digest) if self._lines else Head()

    async def head(self) -> Head:
        return self._head()

    async def mark(self, name: str) -> str | None:
        return self._marks.get(name)

    async def lines(self, after: int = 0) -> AsyncIterator[TrailLine]:
        for line in self._lines[after:]:
            yield line
