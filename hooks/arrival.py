"""A request as it came in, kept at hand while it is served: it may have to be queued.

LiteLLM changes the body that it parses, so what is kept for later are the bytes themselves, which
the gate has anyway. A queued request that runs carries a `Run` in its ASGI scope: nothing that a
client can send gets there, so that it is known for Farebox's own by being there.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

RUN = "farebox.run"
"""Where the ASGI scope has the `Run` of a queued request."""

MASTER_OWNER = "master"
"""The owner of what was asked with the master key; the ids of keys have at least 8 characters."""

_KEPT_HEADERS = frozenset({"anthropic-version", "anthropic-beta"})
_QUEUE_HEADERS = "x-farebox-queue"


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a queued request.

    `hold_id` is its idempotency key, `owner` the id of the key that it acts for. `lost` is how
    often it was sent by a worker that died, and charged: it goes on under the same charge.
    """

    queue_id: str
    hold_id: str
    owner: str
    lost: int = 0


@dataclass(frozen=True, slots=True)
class Arrival:
    """The path, headers and body of a request, as its client sent them."""

    scope: Mapping[str, Any] = field(repr=False)
    parts: tuple[bytes, ...] = field(repr=False)

    @property
    def path(self) -> str:
        """The path below where the application is mounted."""
        return path_of(self.scope)

    @property
    def body(self) -> bytes:
        """The whole body."""
        return b"".join(self.parts)

    @property
    def size(self) -> int:
        """The body's length in bytes."""
        return sum(map(len, self.parts))

    @property
    def run(self) -> Run | None:
        """The run, where this is a queued request."""
        run = self.scope.get(RUN)
        return run if isinstance(run, Run) else None

    def steering_headers(self) -> dict[str, str]:
        """Return the headers that a later run needs: never a key or a cookie."""
        kept = {}
        for raw_name, raw_value in self.scope["headers"]:
            name = raw_name.decode("latin-1").lower()
            steers = name.startswith("x-farebox-") and not name.startswith(_QUEUE_HEADERS)
            if steers or name in _KEPT_HEADERS:
                kept[name] = raw_value.decode("latin-1")
        return kept


def path_of(scope: Mapping[str, Any]) -> str:
    """Return a request's path below where the application is mounted."""
    path, root = str(scope["path"]), str(scope.get("root_path") or "")
    return path[len(root) :] if root and path.startswith(root + "/") else path


arrived: ContextVar[Arrival | None] = ContextVar("farebox_arrived", default=None)
"""The request that this task serves."""
