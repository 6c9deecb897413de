"""A session's state and where it is kept. It is no money: it may be lost, and is learned again."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Protocol

OWNER_LENGTH = 24
SESSION_LENGTH = 32


@dataclass(frozen=True, slots=True)
class SessionId:
    """A session, named by hashes: what callers choose reaches Redis neither as text nor in size."""

    owner: str
    session: str


@dataclass(frozen=True, slots=True)
class SessionState:
    """The largest category that a session has reached, with its rank, and its group."""

    category: str
    rank: int
    group: str


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long a session is remembered after its last request, and how many of one key."""

    expires_ms: int
    per_key_max: int


def session_id(owner: str, session: str) -> SessionId:
    """Return the name of a key's session. `owner` names the key, `session` is the caller's word."""
    return SessionId(_hash(owner)[:OWNER_LENGTH], _hash(f"{owner}\0{session}")[:SESSION_LENGTH])


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class SessionBook(Protocol):
    """Where sessions are kept. Operations raise `LedgerUnavailable` where the store is away."""

    async def read(self, session: SessionId) -> SessionState | None:
        """Return what is known of a session; None where nothing is, or it has expired."""
        ...

    async def note(self, session: SessionId, state: SessionState, bounds: Bounds) -> None:
        """Remember what a session has reached, unless it has reached more already.

        Of a key with too many sessions the one that is nearest to its end is forgotten.
        """
        ...
