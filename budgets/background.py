"""Ends background tasks, also those in which a cancellation got lost.

A cancellation is delivered once, at the await where the task happens to be. A library there may
take it for its own: one that arrives while a time limit runs out, or while a connection is being
closed after an error, can come back as that error. A loop that survives every error then goes on,
and whoever cancelled it once would wait for it for ever.
"""

from __future__ import annotations

import asyncio

import structlog

log = structlog.get_logger(__name__)

CANCEL_AGAIN_S = 0.1
"""How long a task has to end before it is cancelled again."""

CANCELS_MAX = 100
"""How often a task is cancelled before it is left alone: it does not end of its own will."""


async def end(*tasks: asyncio.Task[None] | None) -> None:
    """Cancel every task until it has ended, at most 100 times; its result does not matter."""
    running = {task for task in tasks if task is not None}
    for _ in range(CANCELS_MAX):
        for task in running:
            task.cancel()
        if running:
            ended, running = await asyncio.wait(running, timeout=CANCEL_AGAIN_S)
            # A failure that nobody asks for would be reported when the task is collected.
            await asyncio.gather(*ended, return_exceptions=True)
        if not running:
            return
    log.error("background_task_left", tasks=sorted(task.get_name() for task in running))
