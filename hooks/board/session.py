"""Sessions of the dashboard: a key is exchanged for a token that only the browser knows.

    farebox:{NAME}:board:session:HASH   the key, sealed, with what it was at the log-in; a TTL
    farebox:{NAME}:board:said:HASH      a sentence for the next page; a TTL
    farebox:{NAME}:board:tries:ADDRESS  log-ins that failed in this minute; a TTL

HASH is the SHA-256 of the token, and the key is sealed with another digest of it: who reads Redis
can neither take over a session nor learn a key. The key is looked up anew at each request, so that
a session ends with its key, and with a change of the key's role.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from budgets.packed import texts_of
from budgets.redis_scripts import RedisClient, redis_errors
from hooks.access import Role
from hooks.guard import Person

LASTS_S = 8 * 3600
"""How long a session lasts, however it is used: a working day."""
TRIES_MAX = 10
TRIES_S = 60
"""How many log-ins of one address may fail in how many seconds."""
SAID_S = 60
TOKEN_LENGTH_MAX = 100
_NONCE_BYTES = 12


@dataclass(frozen=True, slots=True)
class Kept:
    """What a session holds: the key, and who it was at the log-in."""

    key: str
    name: str
    role: Role


@dataclass(frozen=True, slots=True)
class Session:
    """A session that is good right now, and who is behind it."""

    token: str
    person: Person

    @property
    def csrf(self) -> str:
        """The token that every form of this session carries."""
        return csrf_of(self.token)


def csrf_of(token: str) -> str:
    """Return the form token that belongs to a secret of the browser."""
    return hashlib.sha256(b"farebox board form " + token.encode()).hexdigest()


def is_csrf(token: str, given: str) -> bool:
    """Whether a form's token belongs to a secret of the browser, compared in constant time."""
    return hmac.compare_digest(csrf_of(token).encode(), given.encode("utf-8", "replace"))


def new_token() -> str:
    """Return a secret of 256 bits."""
    return secrets.token_urlsafe(32)


class Sessions:
    """The sessions of one ledger. Every method raises `LedgerUnavailable` without Redis."""

    def __init__(self, client: RedisClient, ledger: str) -> None:
        self._client: Any = client  # redis-py types its replies as both sync and async
        self._prefix = f"farebox:{{{ledger}}}:board:"

    async def open(self, key: str, person: Person) -> str:
        """Keep a session for a key that was just accepted; return its token, which is new."""
        token = new_token()
        kept = {"key": key, "name": person.name, "role": person.role.value}
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = AESGCM(_sealing(token)).encrypt(nonce, json.dumps(kept).encode(), None)
        with redis_errors():
            name = self._name("session", token)
            await self._client.set(name, (nonce + sealed).hex(), ex=LASTS_S)
        return token

    async def read(self, tokens: Sequence[str]) -> list[Kept | None]:
        """Return what the sessions of some tokens hold; None for one that there is not."""
        found = await texts_of(self._client, [self._name("session", it) for it in tokens])
        return [_opened(token, text) for token, text in zip(tokens, found, strict=True)]

    async def end(self, token: str) -> None:
        """Forget a session."""
        with redis_errors():
            await self._client.delete(self._name("session", token))

    # ── a sentence for the next page ─────────────────────────────────────────────────────────────

    async def say(self, token: str, kind: str, text: str) -> None:
        """Keep a sentence for the next page of a session; `kind` is `done` or `failed`."""
        with redis_errors():
            await self._client.set(self._name("said", token), f"{kind} {text}", ex=SAID_S)

    async def said(self, token: str) -> tuple[str, str] | None:
        """Return and forget the sentence for this page."""
        with redis_errors():
            found = await self._client.getdel(self._name("said", token))
        if not found:
            return None
        kind, _, text = str(found).partition(" ")
        return kind, text

    # ── log-ins that fail ────────────────────────────────────────────────────────────────────────

    async def try_from(self, address: str) -> int:
        """Count an attempt to log in; return after how many seconds it may be made, 0 for now."""
        name = f"{self._prefix}tries:{address}"
        with redis_errors():
            count = int(await self._client.incr(name))
            if count == 1:
                await self._client.expire(name, TRIES_S)
            if count <= TRIES_MAX:
                return 0
            left = int(await self._client.ttl(name))
            if left < 0:
                # Whoever counted first died before it set the time.
                await self._client.expire(name, TRIES_S)
        return left if left > 0 else TRIES_S

    async def succeeded(self, address: str) -> None:
        """Take back the count of an attempt that was right."""
        name = f"{self._prefix}tries:{address}"
        with redis_errors():
            await self._client.decr(name)
            # It may have been forgotten just before.
            await self._client.expire(name, TRIES_S)

    def _name(self, what: str, token: str) -> str:
        return f"{self._prefix}{what}:{hashlib.sha256(token.encode()).hexdigest()}"


def _sealing(token: str) -> bytes:
    return hashlib.sha256(b"farebox board seal " + token.encode()).digest()


def _opened(token: str, text: str | None) -> Kept | None:
    if not text:
        return None
    try:
        raw = bytes.fromhex(text)
        plain = AESGCM(_sealing(token)).decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], None)
        kept = json.loads(plain)
        return Kept(kept["key"], kept["name"], Role(kept["role"]))
    except (ValueError, KeyError, TypeError, InvalidTag):
        return None
