"""The audit trail's lines, their digests, and the Protocol that every store implements.

    line 1 ─► line 2 ─► line 3 ─► … ─► head ─► anchors, hourly, outside the store (`anchor`)

Each line has the digest of the line before it in its own digest, so a line that is changed, removed
or put in between breaks the chain from there on. Who may write to the store could still write the
whole chain anew, or cut its end off: the anchors show that.

What stands in it: grants, transfers, approvals asked for, given and denied, edits of the policy,
switches of the mode, keys made and ended, closed periods, repairs. Never a prompt, a key or a
token.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

ACTOR_LENGTH_MAX = 200
DETAIL_LENGTH_MAX = 20_000


@dataclass(frozen=True, slots=True)
class Head:
    """The end of the chain: the last line's number (0: no line yet) and digest (then empty)."""

    seq: int = 0
    digest: str = ""


@dataclass(frozen=True, slots=True)
class TrailLine:
    """One line. `detail` is JSON text, `time_ms` Unix ms by the ledger's clock."""

    seq: int
    time_ms: int
    actor: str
    action: str
    detail: str
    prev: str
    digest: str

    def expected_digest(self) -> str:
        """Return the digest that this line's content has."""
        return digest_of(self.prev, self.seq, self.time_ms, self.actor, self.action, self.detail)

    def as_dict(self) -> dict[str, Any]:
        """Return the line as JSON shows it."""
        try:
            detail: Any = json.loads(self.detail)
        except ValueError:
            detail = self.detail
        return {
            "seq": self.seq,
            "time_ms": self.time_ms,
            "actor": self.actor,
            "action": self.action,
            "detail": detail,
            "prev": self.prev,
            "digest": self.digest,
        }


class Trail(Protocol):
    """What a store of the trail offers. Every method raises `LedgerUnavailable`."""

    async def append(
        self,
        actor: str,
        action: str,
        detail: Mapping[str, Any],
        *,
        mark: tuple[str, str] | None = None,
    ) -> Head | None:
        """Add a line and return the new end of the chain.

        With `mark`, a name and a value, only where the name does not have that value yet: so of
        several workers that note the same edit one does. None: it was noted already.
        """

    async def head(self) -> Head:
        """Return the end of the chain, as the store remembers it beside the lines."""

    async def mark(self, name: str) -> str | None:
        """Return a mark's value."""

    def lines(self, after: int = 0) -> AsyncIterator[TrailLine]:
        """Iterate over the lines beyond the number `after`, the oldest first."""


def digest_of(prev: str, seq: int, time_ms: int, actor: str, action: str, detail: str) -> str:
    """Return a line's digest: SHA-256 over its parts, each with its length in bytes.

    `lua/trail.lua` computes the same.
    """
    parts = [it.encode() for it in (prev, str(seq), str(time_ms), actor, action, detail)]
    text = b",".join(b"%d:%s" % (len(part), part) for part in parts)
    return hashlib.sha256(text).hexdigest()


def detail_text(detail: Mapping[str, Any]) -> str:
    """Return a detail as JSON text. Raises `ValueError` for one that is too long."""
    text = json.dumps(detail, separators=(",", ":"), sort_keys=True)
    if len(text) > DETAIL_LENGTH_MAX:
        raise ValueError(f"the detail of an audit line has at most {DETAIL_LENGTH_MAX} characters")
    return text


def actor_text(actor: str) -> str:
    """Return a name as it stands in the trail: of bounded length, without half characters."""
    return actor.encode("utf-8", "replace").decode()[:ACTOR_LENGTH_MAX]
