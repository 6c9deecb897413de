"""Waits for the store: bounded, let go of together, and never mistaken for a cancellation."""

from __future__ import annotations

import asyncio

import pytest

from budgets.waits import Waits


async def begun(task: asyncio.Task[object]) -> asyncio.Task[object]:
    await asyncio.sleep(0)
    assert not task.done()
    return task


async def test_an_answer_or_an_error_goes_to_whoever_asked() -> None:
    waits = Waits(10)
    assert await waits.bounded(asyncio.sleep(0, "answer")) == "answer"

    async def fail() -> None:
        raise KeyError("no")

    with pytest.raises(KeyError):
        await waits.bounded(fail())
    waits.let_go()


async def test_a_look_ends_only_what_has_waited_too_long() -> None:
    never = asyncio.Event()
    short, long = Waits(0), Waits(3600)
    first = await begun(asyncio.create_task(short.bounded(never.wait())))
    second = await begun(asyncio.create_task(long.bounded(never.wait())))
    short.look()
    long.look()
    with pytest.raises(TimeoutError):
        await first
    assert not second.done()
    long.let_go()
    with pytest.raises(TimeoutError):
        await second
    assert not first.cancelled() and not second.cancelled()


async def test_a_task_that_was_let_go_of_goes_on() -> None:
    waits = Waits(0)

    async def twice() -> str:
        for _ in range(2):
            with pytest.raises(TimeoutError):
                await waits.bounded(asyncio.Event().wait())
        task = asyncio.current_task()
        assert task is not None and not task.cancelling()
        # Nothing of it is left over for what the task waits for next.
        return await asyncio.sleep(0.01, "on")

    task = await begun(asyncio.create_task(twice()))
    for _ in range(2):
        waits.look()
        await asyncio.sleep(0.001)
    assert await task == "on"


async def test_a_cancelled_task_is_cancelled() -> None:
    waits = Waits(3600)
    task = await begun(asyncio.create_task(waits.bounded(asyncio.Event().wait())))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    # Also where it is let go of at the same moment.
    task = await begun(asyncio.create_task(waits.bounded(asyncio.Event().wait())))
    waits.let_go()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    waits.let_go()


async def test_one_that_is_let_go_of_when_its_answer_is_there_is_let_go_of() -> None:
    """Python can no longer take the cancellation back: it is not left for whatever comes next."""
    waits, answer = Waits(3600), asyncio.Event()

    async def ask() -> str:
        with pytest.raises(TimeoutError):
            await waits.bounded(answer.wait())
        return await asyncio.sleep(0.01, "on")

    task = await begun(asyncio.create_task(ask()))
    answer.set()
    waits.let_go()
    assert await task == "on"
