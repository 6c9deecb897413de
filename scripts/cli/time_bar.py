"""A progress bar over time, for reading a ledger whose length nobody knows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TaskID, TextColumn

from scripts.cli.output import notes

UPDATE_EVERY = 200


class TimeBar:
    """Goes from the first entry that it is told of to `end_ms` (Unix ms)."""

    def __init__(self, progress: Progress, task: TaskID, end_ms: int) -> None:
        self._progress = progress
        self._task = task
        self._end_ms = end_ms
        self._start_ms: int | None = None
        self._seen = 0

    def __call__(self, time_ms: int) -> None:
        """Note that the reading has come to this time."""
        if self._start_ms is None:
            self._start_ms = time_ms
            self._progress.update(self._task, total=max(1, self._end_ms - time_ms))
        self._seen += 1
        if self._seen % UPDATE_EVERY == 0:
            self._progress.update(self._task, completed=time_ms - self._start_ms)


@contextmanager
def time_bar(name: str, end_ms: int) -> Iterator[TimeBar]:
    """Show a bar on standard error, if that is a terminal, until the end of the block."""
    out = notes()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
    )
    with Progress(*columns, console=out, disable=not out.is_terminal, transient=True) as progress:
        yield TimeBar(progress, progress.add_task(name, total=None), end_ms)
