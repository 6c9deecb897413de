"""Keys in Redis: one hash of JSON records, and a version that every change advances.

    farebox:{NAME}:keys          id -> JSON of a KeyRecord
    farebox:{NAME}:keys:version  a counter; workers reload their cache when it moved

A change reads, checks and writes under WATCH, so two people who make the same name at once cannot
both succeed, and the version moves in the same transaction as the record.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from redis.exceptions import WatchError

from budgets.connection import AsyncClient
from budgets.redis_clients import STORE_ERRORS
from hooks.access import Role
from hooks.keys import (
    Clock,
    InvalidKeyInput,
    KeyRecord,
    NewKey,
    from_json,
    new_key,
    to_json,
    unix_ms,
    utc_now,
)

_ATTEMPTS_MAX = 20
"""Bound on retries when other people change keys at the same moment."""

GRACE_S_MAX = 30 * 24 * 3600


class KeysUnavailable(Exception):
    """Redis did not answer; nothing is known to be changed."""


class UnknownKey(Exception):
    """No key has the id or live name that was given."""


class KeyConflict(Exception):
    """The change contradicts what is stored: a name is taken, or a key has already ended."""


class KeyStore:
    """Create, list, rotate and revoke keys."""

    def __init__(self, client: AsyncClient, ledger_name: str, clock: Clock = utc_now) -> None:
        self._client: Any = client  # redis-py types its replies as both sync and async
        self._hash = f"farebox:{{{ledger_name}}}:keys"
        self._version = f"farebox:{{{ledger_name}}}:keys:version"
        self._clock = clock

    async def version(self) -> str:
        """An opaque text that changes with every change of any key. Raises `KeysUnavailable`."""
        try:
            found = await self._client.get(self._version)
        except STORE_ERRORS as error:
            raise KeysUnavailable(_why(error)) from error
        return _text(found) if found is not None else ""

    async def all(self) -> dict[str, KeyRecord]:
        """Every key, ended ones too, by id. A record that cannot be read is left out."""
        try:
            return _records(await self._client.hgetall(self._hash))
        except STORE_ERRORS as error:
            raise KeysUnavailable(_why(error)) from error

    async def create(
        self,
        *,
        name: str,
        created_by: str,
        role: Role = Role.CALLER,
        team: str | None = None,
        user: str | None = None,
        groups: tuple[str, ...] = (),
        expires_ms: int | None = None,
    ) -> NewKey:
        """Raises `InvalidKeyInput`, `KeyConflict` (the name is taken), `KeysUnavailable`."""
        made = new_key(
            name=name,
            created_by=created_by,
            now_ms=self._now_ms(),
            role=role,
            team=team,
            user=user,
            groups=groups,
            expires_ms=expires_ms,
        )

        def change(records: Mapping[str, KeyRecord]) -> list[KeyRecord]:
            now_ms = self._now_ms()
            if any(r.name == name and r.state(now_ms) == "live" for r in records.values()):
                raise KeyConflict(
                    f"name: a live key is already called `{name}`; "
                    "take another name, or rotate or revoke that key"
                )
            if made.record.id in records:
                raise KeyConflict("the new id is taken by chance; try again")
            return [made.record]

        await self._change(change)
        return made

    async def rotate(self, id_or_name: str, *, rotated_by: str, grace_s: int = 0) -> NewKey:
        """A new key with the same rights; the old one works for `grace_s` seconds more.

        Raises `InvalidKeyInput`, `UnknownKey`, `KeyConflict` (it has ended), `KeysUnavailable`.
        """
        if not 0 <= grace_s <= GRACE_S_MAX:
            raise InvalidKeyInput(f"grace: 0 to {GRACE_S_MAX} seconds")
        made: list[NewKey] = []

        def change(records: Mapping[str, KeyRecord]) -> list[KeyRecord]:
            now_ms = self._now_ms()
            old = _live(records, id_or_name, now_ms)
            if old.revoked_ms is not None:
                raise KeyConflict("this key has been rotated already; rotate its successor")
            fresh = new_key(
                name=old.name,
                created_by=rotated_by,
                now_ms=now_ms,
                role=old.role,
                team=old.team,
                user=old.user,
                groups=old.groups,
                expires_ms=old.expires_ms,
                rotated_from=old.id,
            )
            made[:] = [fresh]
            return [replace(old, revoked_ms=now_ms + grace_s * 1000), fresh.record]

        await self._change(change)
        return made[0]

    async def revoke(self, id_or_name: str) -> KeyRecord:
        """End a key now; revoking an ended key again changes nothing and is no error.

        A name ends every live key of that name: the old one of a rotation in grace too.
        Raises `UnknownKey`, `KeysUnavailable`.
        """
        ended: list[KeyRecord] = []

        def change(records: Mapping[str, KeyRecord]) -> list[KeyRecord]:
            now_ms = self._now_ms()
            chosen = [
                r
                for r in records.values()
                if r.id == id_or_name or (r.name == id_or_name and r.state(now_ms) == "live")
            ]
            if not chosen:
                raise UnknownKey("no key has this id, and no live key this name")
            changed = [
                replace(r, revoked_ms=now_ms) for r in chosen if r.state(now_ms) != "revoked"
            ]
            ended[:] = changed or chosen
            return changed

        await self._change(change)
        return max(ended, key=lambda record: record.created_ms)

    async def _change(self, change: Callable[[Mapping[str, KeyRecord]], list[KeyRecord]]) -> None:
        try:
            for _ in range(_ATTEMPTS_MAX):
                async with self._client.pipeline(transaction=True) as pipe:
                    await pipe.watch(self._hash)
                    writes = change(_records(await pipe.hgetall(self._hash)))
                    if not writes:
                        return
                    pipe.multi()
                    for record in writes:
                        pipe.hset(self._hash, record.id, to_json(record))
                    pipe.incr(self._version)
                    try:
                        await pipe.execute()
                    except WatchError:
                        continue
                    return
        except STORE_ERRORS as error:
            raise KeysUnavailable(_why(error)) from error
        raise KeysUnavailable("too many changes of keys at the same moment; try again")

    def _now_ms(self) -> int:
        return unix_ms(self._clock())


def _live(records: Mapping[str, KeyRecord], id_or_name: str, now_ms: int) -> KeyRecord:
    by_id = records.get(id_or_name)
    if by_id is not None:
        if by_id.state(now_ms) != "live":
            raise KeyConflict("this key has ended already; create a new one")
        return by_id
    named = [r for r in records.values() if r.name == id_or_name and r.state(now_ms) == "live"]
    if not named:
        raise UnknownKey("no key has this id, and no live key this name")
    # The newest: in a rotation's grace the old and the new key share the name.
    return max(named, key=lambda record: (record.revoked_ms is None, record.created_ms))


def _records(raw: Mapping[str | bytes, str | bytes]) -> dict[str, KeyRecord]:
    found: dict[str, KeyRecord] = {}
    for key_id, text in raw.items():
        try:
            record = from_json(text)
        except InvalidKeyInput:
            continue  # Unreadable means unusable: its holder is refused, the others are not.
        if record.id == _text(key_id):
            found[record.id] = record
    return found


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _why(error: Exception) -> str:
    # An address in the client's own text may carry Redis's password.
    return f"Redis did not answer the keys' look-up ({type(error).__name__})"
