"""The store: one in-memory ledger behind a server that can be away, stand still and fail over.

The ledger in it is the model that Redis is held to. Each operation that changes it is kept, with
its time, so that a failover can be what it is: the same history without its last lines.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from budgets.memory import MemoryLedger
from tests.simulation.books import Broken
from tests.simulation.checks import Checker

MakeLedger = Callable[[Callable[[], int]], MemoryLedger]

VERIFY_EVERY = 25
"""After so many operations the ledger verifies itself; the checker's own sums follow each one."""

READ_ONLY = frozenset({"states", "counters", "learned", "decision", "verify", "now_ms"})


@dataclass(frozen=True)
class Operation:
    """One call as it reached the store."""

    time_ms: int
    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """What a call brought: a value, or one of the ledger's own exceptions."""

    value: Any = None
    error: Exception | None = None

    def get(self) -> Any:
        """Return the value, or raise the error."""
        if self.error is not None:
            raise self.error
        return self.value


class Store:
    """Executes operations one at a time and has each of them checked.

    `clock` is the server's, in Unix ms. `told` hears of every operation and its answer.
    """

    def __init__(
        self,
        clock: Callable[[], int],
        make_ledger: MakeLedger,
        told: Callable[[Operation, Answer], None] = lambda operation, answer: None,
    ) -> None:
        self._clock = clock
        self._make_ledger = make_ledger
        self._told = told
        self._time_ms = 0
        self._history: list[Operation] = []
        self._begin()
        self.operations = 0
        self.down = False
        self.paused = False
        self.queue: list[Callable[[], None]] = []

    def _begin(self) -> None:
        self.ledger = self._make_ledger(lambda: self._time_ms)
        self.checker = Checker()

    def execute(self, name: str, *args: Any, **kwargs: Any) -> Answer:
        """Do one operation now; raise `checks.Broken` where a promise breaks by it."""
        operation = Operation(self._clock(), name, args, kwargs)
        self.operations += 1
        if name not in READ_ONLY:
            self._history.append(operation)
        answer = self._do(operation)
        self._told(operation, answer)
        if self.operations % VERIFY_EVERY == 0:
            differences = at_once(self.ledger.verify())
            if differences:
                raise Broken(9, f"verify finds {differences}")
        return answer

    def _do(self, operation: Operation) -> Answer:
        self._time_ms = operation.time_ms
        work = getattr(self.ledger, operation.name)(*operation.args, **operation.kwargs)
        try:
            answer = Answer(value=at_once(work))
        except Exception as error:
            answer = Answer(error=error)
        if operation.name not in READ_ONLY:
            self.checker.after(operation, answer, self.ledger)
        return answer

    def resume(self) -> None:
        """End a pause: everything that has arrived meanwhile is done, in its order."""
        self.paused = False
        queue, self.queue = self.queue, []
        for work in queue:
            work()

    def fail_over(self, writes_lost: int) -> list[Operation]:
        """Go on with all but the last writes; return those that are lost."""
        kept = len(self._history) - writes_lost
        history, lost = self._history[:kept], self._history[kept:]
        self._history = history
        self._begin()
        for operation in history:
            self._do(operation)
        return lost


def at_once(work: Any) -> Any:
    """Return the result of a coroutine that never waits: the model's operations do not."""
    assert inspect.iscoroutine(work)
    try:
        work.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("an operation of the model waited for something")
