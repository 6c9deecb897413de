"""Those of one process that wait for the store, each for a bounded time, and who lets go of them.

What `asyncio.timeout` does, for many short waits that hardly ever end by it: that sets and cancels
a timer for each, which is more than all else around a question to the store. Here somebody who
looks anyway now and then (`Runtime._probe`) ends those that have waited too long.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TypeVar

_T = TypeVar("_T")


@dataclass(slots=True, eq=False)
class _Wait:
    task: asyncio.Task[object]
    deadline_s: float
    let_go: bool = False


class Waits:
    """The waits of one event loop, no longer than `timeout_s` and until the next look."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        # In the order in which they began: simulations must go the same way every time.
        self._open: dict[_Wait, None] = {}

    async def bounded(self, call: Awaitable[_T]) -> _T:
        """Return what the call returns.

        Raises:
            TimeoutError: it was let go of.
        """
        task = asyncio.current_task()
        assert task is not None
        cancelled = task.cancelling()
        wait = _Wait(task, task.get_loop().time() + self._timeout_s)
        self._open[wait] = None
        try:
            return await call
        except asyncio.CancelledError:
            # Whoever cancels the task as well means all of it, not this wait.
            if wait.let_go and task.cancelling() == cancelled + 1:
                raise TimeoutError from None
            raise
        finally:
            del self._open[wait]
            if wait.let_go:
                task.uncancel()

    def look(self) -> None:
        """Let go of those that have waited too long."""
        if self._open:
            now_s = asyncio.get_running_loop().time()
            self._let_go([it for it in self._open if it.deadline_s <= now_s])

    def let_go(self) -> None:
        """Let go of all of them: there is nothing to wait for."""
        self._let_go([*self._open])

    @staticmethod
    def _let_go(waits: list[_Wait]) -> None:
        for wait in waits:
            if not wait.let_go:
                wait.let_go = True
                wait.task.cancel()
