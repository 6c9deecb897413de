"""An event loop whose time is made up: it jumps to the next timer as soon as nothing is ready.

Everything runs in one thread and in one order, so that a run is a function of its seed. There is no
I/O and no thread: whoever asks for one gets an error, not a surprise.

A `Process` is what can die. Whatever is scheduled from inside one carries its mark (a context
variable, which tasks hand on to the tasks that they start), and once it is killed the loop passes
over all of it. No `finally` runs and no exception is thrown in, as with SIGKILL.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from typing import Any, TypeVar

T = TypeVar("T")

_process: ContextVar[Process | None] = ContextVar("simulated_process", default=None)

STEPS_MAX = 60_000
"""Far more than any run takes; beyond it two tasks wake each other for ever."""


class Stuck(AssertionError):
    """Nothing is scheduled any more, or no time passes any more."""


class Process:
    """Something that runs tasks and can be killed between two steps of theirs."""

    def __init__(self, name: str, loop: VirtualLoop) -> None:
        self.name = name
        self.alive = True
        self._loop = loop

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run `work` as a task of this process."""
        context = copy_context()
        context.run(_process.set, self)
        task = self._loop.create_task(work, context=context)
        task.add_done_callback(self._loop.take)
        return task

    def kill(self) -> None:
        """Let nothing of this process run ever again."""
        self.alive = False


class VirtualLoop(asyncio.AbstractEventLoop):
    """The loop. `time()` is in seconds from 0. An exception that nobody takes ends the run."""

    def __init__(self) -> None:
        self._untaken: BaseException | None = None
        self._now_s = 0.0
        self._numbers = itertools.count()
        self._ready: deque[tuple[Process | None, asyncio.Handle]] = deque()
        self._timers: list[tuple[float, int, Process | None, asyncio.TimerHandle]] = []
        self._tasks: list[asyncio.Task[Any]] = []
        self._running = False

    # ── running ──────────────────────────────────────────────────────────────────────────────────

    def run(self, work: Awaitable[T]) -> T:
        """Run `work` to its end, as a task of no process."""
        asyncio.events._set_running_loop(self)
        self._running = True
        try:
            main = asyncio.ensure_future(work, loop=self)
            for _ in range(STEPS_MAX):
                if main.done():
                    return main.result()
                self._step()
                if self._untaken is not None:
                    raise self._untaken
            raise Stuck(f"{STEPS_MAX} steps and no end, at {self._now_s:.3f} s")
        finally:
            self._running = False
            asyncio.events._set_running_loop(None)
            # What was killed stays suspended for ever, on purpose: that is nothing to warn of.
            for task in self._tasks:
                task._log_destroy_pending = False  # type: ignore[attr-defined] # asyncio's own name

    def _step(self) -> None:
        if not self._ready:
            self._jump()
        process, handle = self._ready.popleft()
        if not handle.cancelled() and (process is None or process.alive):
            handle._run()

    def _jump(self) -> None:
        """Let time pass up to the next timer, and make what is due then ready, in order."""
        while self._timers:
            when, _, process, handle = heapq.heappop(self._timers)
            if handle.cancelled() or not (process is None or process.alive):
                continue
            self._now_s = max(self._now_s, when)
            self._ready.append((process, handle))
            return
        raise Stuck(f"nothing is scheduled any more, at {self._now_s:.3f} s")

    # ── what asyncio asks of a loop ──────────────────────────────────────────────────────────────

    def time(self) -> float:
        return self._now_s

    def call_soon(
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append((_process_of(context), handle))
        return handle

    def call_later(
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now_s + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        entry = (when, next(self._numbers), _process_of(context), handle)
        heapq.heappush(self._timers, entry)
        return handle

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Any,
        *,
        name: str | None = None,
        context: Context | None = None,
        **_: Any,
    ) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, name=name, context=context)
        # Kept, so that the garbage collector ends no killed task in the middle of a run.
        self._tasks.append(task)
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self._untaken = context.get("exception") or AssertionError(context.get("message"))

    def fail(self, error: BaseException) -> None:
        """End the run with this error."""
        self._untaken = error

    def take(self, task: asyncio.Task[Any]) -> None:
        """End the run with the exception of a task that nobody waits for."""
        if not task.cancelled() and task.exception() is not None:
            self._untaken = task.exception()

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return self._running

    def is_closed(self) -> bool:
        return False

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Nothing to do: cancelled timers are passed over when their time comes."""


def outside() -> Context:
    """Return a context that belongs to no process: for what goes on after its cause has died."""
    found = copy_context()
    found.run(_process.set, None)
    return found


def _process_of(context: Context | None) -> Process | None:
    return _process.get() if context is None else context.get(_process)
