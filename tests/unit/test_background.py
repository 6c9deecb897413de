"""Ending background tasks: also one that takes a cancellation for something else."""

from __future__ import annotations

import asyncio

import pytest

from budgets import background
from budgets.background import end


async def wait_for_ever(ready: asyncio.Event, deaf_to: int = 0) -> None:
    """Survive that many cancellations, as a loop does whose library turns them into errors."""
    for _ in range(deaf_to):
        try:
            ready.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            continue
    ready.set()
    await asyncio.Event().wait()


def test_a_task_that_lost_its_cancellations_is_ended_all_the_same() -> None:
    async def run() -> None:
        ready = asyncio.Event()
        task = asyncio.create_task(wait_for_ever(ready, deaf_to=3))
        await ready.wait()
        await asyncio.wait_for(end(task), 10)
        assert task.cancelled()

    asyncio.run(run())


def test_nothing_a_task_that_has_ended_and_one_that_failed_are_no_error() -> None:
    async def fail() -> None:
        raise ValueError

    async def run() -> None:
        failed = asyncio.create_task(fail())
        await asyncio.wait({failed})
        await end(None, failed)
        await end()

    asyncio.run(run())


def test_a_task_that_never_ends_is_left_alone_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        ready = asyncio.Event()
        task = asyncio.create_task(wait_for_ever(ready, deaf_to=10_000))
        await ready.wait()
        await end(task)
        assert not task.done()
        while not task.done():
            task.cancel()
            await asyncio.sleep(0)

    monkeypatch.setattr(background, "CANCEL_AGAIN_S", 0.001)
    asyncio.run(run())


def test_who_ends_tasks_can_be_cancelled() -> None:
    async def run() -> None:
        ready = asyncio.Event()
        task = asyncio.create_task(wait_for_ever(ready, deaf_to=5))
        await ready.wait()
        ending = asyncio.create_task(end(task))
        await asyncio.sleep(0)
        ending.cancel()
        await asyncio.wait({ending})
        assert ending.cancelled()
        await end(task)

    asyncio.run(run())
