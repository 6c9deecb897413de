"""What is read once for everybody who looks, and again when it is too old."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

_T = TypeVar("_T")


class Cached(Generic[_T]):
    """The last reading of something, at most `every_s` seconds old; readings never overlap.

    A reading that fails is not kept: whoever asks next tries again.
    """

    def __init__(
        self,
        read: Callable[[], Awaitable[_T]],
        every_s: float,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = read
        self._every_s = every_s
        self._clock_s = clock_s
        self._lock = asyncio.Lock()
        self._kept: tuple[float, _T] | None = None

    async def get(self) -> _T:
        """Return the reading; raises what the reading raises."""
        async with self._lock:
            kept = self._kept
            if kept is None or self._clock_s() - kept[0] >= self._every_s:
                kept = (self._clock_s(), await self._read())
                self._kept = kept
            return kept[1]

    def forget(self) -> None:
        """Read anew at the next asking: something was just changed."""
        self._kept = None
